"""The kinds of tables and figures: which runs one needs, what is computed from them, and how it is shown.

A table or figure of a new kind is a subclass here; `reproduce.experiments` lists the paper's.
"""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

from basics import UserError
from reproduce import facts, figures, recipes, routing_job, scores, timing
from reproduce.document import Document, Missing
from reproduce.routing_job import Routing
from reproduce.timing import Timing


@dataclass(frozen=True)
class Picture:
    """A drawing of the report: its bytes, `svg` or `png`, what it shows in words, and a line for each image in it."""

    content: bytes
    kind: str
    about: str
    lines: tuple = ()


@dataclass(frozen=True)
class Experiment:
    """A table or figure. datasets: those of the paper; source: where models of a transfer are trained."""

    name: str
    caption: str
    datasets: tuple
    rows: tuple
    source: str = ""
    backbone: str = "ViT-B/16"
    setting = ""  # as `recipes.default_cfg` names it
    columns = ()
    pictures = ()  # suffixes of the files as which it can be drawn
    seeds = (1, 2, 3)  # where the command line names none

    # -- runs ----------------------------------------------------------------------------------------------------------

    def cells(self, selection, row, dataset):
        """{column: [Run of each seed]} that a row needs on a dataset."""
        raise NotImplementedError

    def jobs(self, selection, gpus):
        """All jobs, trainings before what needs them. gpus: what a job may use."""
        return list(selection.runs())

    def choose(self, datasets, source):
        """(experiment, datasets) for the datasets and the source that a command line names, () and "" where it names none."""
        return self, datasets or self.datasets

    def options(self):
        """The command line's words for this experiment."""
        return [self.name]

    # -- what is shown -------------------------------------------------------------------------------------------------

    def blocks(self, selection, out):
        """The Blocks of the document."""
        raise NotImplementedError

    def document(self, selection, out, command):
        """Document of what lies below `out`. command: (row, runs) -> the command that makes them."""
        return scores.document(selection, out, command)

    def draw(self, selection, document, out, file):
        """Draw it into `file` or, without one, below `out`; returns the files."""
        panels = self.panels(document)
        return figures.draw(selection, document, panels, out, file) if panels else []

    def panels(self, document):
        """What `figures.picture` draws of a document; [] for a table."""
        return []

    def illustrations(self, selection, document, out):
        """The Pictures of the report."""
        panels = self.panels(document)
        return [Picture(figures.picture(panels, "svg"), "svg", self.caption)] if panels else []

    # -- the report ----------------------------------------------------------------------------------------------------

    def candidates(self):
        """(experiment, datasets): the paper's datasets, then the built-in ones, which mean nothing together."""
        yield self, self.datasets
        yield self, tuple(d for d in builtin_datasets() if facts.family(d) == d)

    def own_rows(self, selection, dataset):
        """The rows whose runs are this experiment's own: not those of another table."""
        return selection.rows

    def has_result(self, selection, dataset, out):
        """Whether a run is finished that this experiment has for itself."""
        try:
            runs = [selection.cells(row, dataset).values() for row in self.own_rows(selection, dataset)]
        except UserError:  # no template files of these numbers of experts for this dataset
            return False
        return any((run.directory(out) / "results.json").is_file() for columns in runs for column in columns for run in column)


def builtin_datasets():
    return [d for d in facts.dataset_stems() if facts.is_builtin(d)]


class BaseToNew(Experiment):
    """Trained on the base classes, tested on base and new ones: a block a dataset."""

    setting = "base2new"
    columns = scores.BASE_NEW

    def cells(self, selection, row, dataset):
        kinds = {"base": "base2new_train", "new": "base2new_test"}
        return {
            part: [selection.run(kind, row, dataset, seed) for seed in selection.seeds_of(row)] for part, kind in kinds.items()
        }

    def blocks(self, selection, out):
        return scores.base_new_blocks(selection, out)


class Ablation(BaseToNew):
    """Rows that differ from the plain recipe, beside a row that is the plain recipe and thus another table's."""

    def own_rows(self, selection, dataset):
        return [row for row in selection.rows if row.changes(dataset, selection.recipe)]


class Sweep(BaseToNew):
    """Curves over weights of loss terms, one panel a weight and dataset; a weight of 0 is another table's run."""

    pictures = figures.PICTURES

    def own_rows(self, selection, dataset):
        return [row for row in selection.rows if any("LAMBDA" in key for key in row.changes(dataset, selection.recipe))]

    def panels(self, document):
        symbols = dict.fromkeys(row.name.split(" = ")[0] for row in self.rows)
        return [
            (block, symbol)
            for block in document.blocks
            for symbol in symbols
            if any(name.startswith(symbol) for name, _ in block.rows)
        ]


class Timed(BaseToNew):
    """Accuracy, and seconds for a batch of images."""

    columns = (*scores.BASE_NEW, scores.TIME_COLUMN)

    def jobs(self, selection, gpus):
        return super().jobs(selection, gpus) + [Timing(d, "cuda" if gpus else "cpu") for d in selection.datasets]

    def has_result(self, selection, dataset, out):
        return timing.seconds_a_batch(out, dataset, "MoCoOp") is not None


class FewShot(Experiment):
    """All classes, some images of each: a block a dataset, a column a number of images; curves."""

    setting = "fewshot"
    shots = (1, 2, 4, 8, 16)
    columns = tuple(map(str, shots))
    pictures = figures.PICTURES

    def cells(self, selection, row, dataset):
        seeds = selection.seeds_of(row)
        return {str(n): [selection.run("fewshot", row, dataset, seed, n) for seed in seeds] for n in self.shots}

    def blocks(self, selection, out):
        return scores.few_shot_blocks(selection, out)

    def panels(self, document):
        return [(block, "") for block in document.blocks]


class ZeroShot(Experiment):
    """Without training: a block for base, new and all classes, a column a dataset."""

    setting = "zeroshot"
    columns = ("base", "new", "all")

    def cells(self, selection, row, dataset):
        return {part: [selection.run("zeroshot", row, dataset, 1, subsample=part)] for part in self.columns}

    def blocks(self, selection, out):
        return scores.accuracy_blocks(selection, out)


class Transfer(Experiment):
    """Trained on all classes of the source, tested on other datasets: a column a dataset, the source first."""

    setting = "crossdataset"
    columns = ("accuracy",)

    def cells(self, selection, row, dataset):
        if row.trainer in recipes.ZEROSHOT_TRAINERS:
            return {"accuracy": [selection.run("zeroshot", row, dataset, 1)]}
        kind, source = ("xd_train", "") if dataset == self.source else ("xd_test", self.source)
        return {"accuracy": [selection.run(kind, row, dataset, seed, source=source) for seed in selection.seeds]}

    def blocks(self, selection, out):
        return scores.accuracy_blocks(selection, out)

    def choose(self, datasets, source):
        datasets = datasets or self.datasets
        if not source:
            builtin = [d for d in datasets if facts.is_builtin(d)]
            source = self.builtin_source(builtin[0]) if builtin else self.source
        return dataclasses.replace(self, source=source), (source, *(d for d in datasets if d != source))

    def builtin_source(self, target):
        """The built-in dataset to train on where a built-in one is tested."""
        return "letters"

    def options(self):
        return [self.name, "--source", self.source]

    def candidates(self):
        yield self.choose((), "")
        yield self.choose(tuple(d for d in builtin_datasets() if facts.family(d) == d), "")


class Generalisation(Transfer):
    """Tested on variants of the source, which have its classes."""

    def builtin_source(self, target):
        return facts.family(target)

    def candidates(self):
        yield self.choose((), "")
        shifted = [d for d in builtin_datasets() if facts.family(d) != d]
        for source in dict.fromkeys(map(facts.family, shifted)):
            yield self.choose(tuple(d for d in shifted if facts.family(d) == source), source)


class Routes(BaseToNew):
    """Where the router of the first seed's run sends some test images; drawn by `reproduce.route`."""

    pictures = figures.PICTURES

    def routings(self, selection):
        """[(row, Routing)]"""
        return [
            (row, Routing(selection.run("base2new_train", row, dataset, selection.seeds[0])))
            for row in selection.rows
            for dataset in selection.datasets
        ]

    def jobs(self, selection, gpus):
        return [job for _, routing in self.routings(selection) for job in (routing.training, routing)]

    def document(self, selection, out, command):
        routings = self.routings(selection)
        absent = [(row, routing) for row, routing in routings if routing.result(out) is None]
        missing = [Missing(row.name, (routing,), command(row, [routing])) for row, routing in absent]
        notes = ("weights of all experts in per cent; left the true class, right the likeliest",)
        blocks = routing_job.blocks([routing for _, routing in routings], out)
        return Document(self.name, scores.caption(selection), blocks, notes, missing)

    def draw(self, selection, document, out, file):
        """The pictures that are there already; with `file`, a copy of one."""
        finished = [routing for _, routing in self.routings(selection) if routing.result(out) is not None]
        found = [picture for routing in finished for picture in sorted(routing.directory(out).glob("routing.p*"))]
        if file is None or not found:
            return found
        if len(selection.datasets) > 1 or file.suffix not in (".png", ".pdf"):
            raise UserError(f"--out {file}: Figure 5 is one .png or .pdf for each dataset; name one dataset")
        shutil.copyfile(next(f for f in found if f.suffix == file.suffix), file)
        return [file]

    def illustrations(self, selection, document, out):
        pictures = []
        for _, routing in self.routings(selection):
            file, result = Path(routing.directory(out)) / "routing.png", routing.result(out)
            if result is not None and file.is_file():
                lines = tuple(map(in_words, result["images"]))
                pictures.append(Picture(file.read_bytes(), "png", routing.label, lines))
        return pictures

    def has_result(self, selection, dataset, out):
        chosen = dataclasses.replace(selection, datasets=(dataset,))
        return any(routing.result(out) for _, routing in self.routings(chosen))


def in_words(image):
    """Which experts were mixed for an image of routing.json."""
    chosen = "; ".join(f"{e['name']} (“{e['template']}”) {e['mixing']:.2f}" for e in image["experts"] if e["chosen"])
    return f"{image['truth']}, taken for {image['classes'][0]['name']}: {chosen}"
