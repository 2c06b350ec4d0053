"""UCF101: 101 human actions, one frame from the middle of each video (13,320 images)."""

import os
import re

from basics import UserError
from dassl.data.datasets import DATASET_REGISTRY

from .annotations import fields, number, read_lines
from .common import SplitDataset
from .sources import Source, drive_file
from .splits import Item, split_trainval


@DATASET_REGISTRY.register()
class UCF101(SplitDataset):
    """`ucf101/UCF-101-midframes/<Class_Name>/*.jpg` with `split_zhou_UCF101.json` or `ucfTrainTestlist/`."""

    dataset_dir = "ucf101"
    image_folder = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"
    counts = (101, 7639, 1898, 3783)
    attributes = ("precision",)
    printed_name = "UCF101"
    template = "a photo of a person doing {}."
    templates = {"TCP, after the context": "person doing {}."}
    sources = (
        Source(
            "UCF-101-midframes",
            ("gdrive:10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O",),
            anchor="UCF-101-midframes",
            archive_name="UCF-101-midframes.zip",
        ),
        drive_file("split_zhou_UCF101.json", "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y"),
    )

    def make_split(self):
        """The first official split; 20 % of its training videos become val."""
        labels = {}
        for place, line in read_lines(self.official_file("ucfTrainTestlist/classInd.txt")):
            label, action = fields(place, line, 2, "1 ApplyEyeMakeup")[:2]
            labels[action] = number(place, label) - 1
        train, val = split_trainval(self._read_list("trainlist01.txt", labels))
        return train, val, self._read_list("testlist01.txt", labels)

    def _read_list(self, name, labels):
        """Lines "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1" (the number may be absent) as Item."""
        data = []
        for place, line in read_lines(self.official_file(f"ucfTrainTestlist/{name}")):
            action, _, video = line.split()[0].partition("/")
            if action not in labels or not video:
                raise UserError(f'{place}: {line!r} has no known class; expected "Class/video.avi" with a class of classInd.txt')
            classname = words_of(action)
            image = os.path.splitext(video)[0] + ".jpg"
            data.append(Item(impath=os.path.join(self.image_dir, classname, image), label=labels[action], classname=classname))
        return data


def words_of(action):
    """ "ApplyEyeMakeup" -> "Apply_Eye_Makeup"."""
    return "_".join(re.findall("[A-Z][^A-Z]*", action))
