"""Figure 5 as a job of the grid: `python -m reproduce.route` on a finished MoCoOp run, and its values as a document."""

import json
from dataclasses import dataclass
from pathlib import Path

from reproduce import processes
from reproduce.document import Block, Cell
from reproduce.facts import printed_name
from reproduce.runs import Run, read_result

IMAGES = 6


@dataclass(frozen=True)
class Routing:
    """Test images of a dataset through the router of one training run."""

    training: Run
    alone = False

    @property
    def dataset(self):
        return self.training.dataset

    @property
    def label(self):
        return f"routing of {self.training.label}"

    def directory(self, out):
        return Path(out) / "routing" / self.training.directory(out).relative_to(out)

    def result(self, out):
        """Contents of routing.json; None if it isn't there or is of an earlier training."""
        try:
            found = json.loads((self.directory(out) / "routing.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        trained = read_result(self.training.directory(out))
        return found if trained and found.get("trained_at") == trained.get("finished_at") else None

    def command(self, data, out):
        directory = self.directory(out)
        return [
            *processes.python("reproduce.route"),
            str(self.training.directory(out)),
            "--root",
            str(data),
            "--images",
            str(IMAGES),
            "--seed",
            str(self.training.seed),
            "--out",
            str(directory),
        ]


def blocks(routings, out):
    """A block a dataset: a row an image (what it is -> what it is taken for), the weight of each expert in per cent."""
    found = []
    for routing in routings:
        result = routing.result(out)
        if result is None:
            continue
        rows = []
        for image in result["images"]:
            name = f"{image['truth']} → {image['classes'][0]['name']}"
            rows.append((name, [Cell(100 * expert["weight"]) for expert in image["experts"]]))
        columns = tuple(expert["name"] for expert in result["images"][0]["experts"])
        found.append(Block(printed_name(routing.dataset), columns, rows, ranked=False))
    return found
