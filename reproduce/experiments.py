"""The paper's tables and figures as data: which rows, which datasets, and the runs that each number needs.

Runs are shared: a row that is a method's plain recipe uses the plain folder in every table; a row with other switches
has a folder of its own, named by them (`vit_b16-top_k3`).
"""

import re
from dataclasses import dataclass, replace

from basics import UserError, home
from basics.identity import FILES, NOT_DECIDING
from reproduce import facts, recipes, recorded
from reproduce.kinds import Ablation, BaseToNew, Experiment, FewShot, Generalisation, Routes, Sweep, Timed, Transfer, ZeroShot
from reproduce.paper import ELEVEN, FOUR
from reproduce.runs import Run
from reproduce.study import Study

BUILTIN = {"builtin": "built-in model", "builtin_vit": "built-in ViT"}  # folders of models, and what captions call them
VARIANTS_OF_IMAGENET = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
RECIPES = ("paper", "released")
SWITCHES = {  # what MoCoOp's recipes say themselves: a row with these values is the plain recipe
    "paper": {"ROUTER_LOSS": "kl", "TEXT_LOSS": "templates", "TOP_K": "2", "GROUPING": "semantic",
              "LAMBDA_ROUTER": "1.0", "LAMBDA_TEXT": "5.0"},
    "released": {"ROUTER_LOSS": "ce", "TEXT_LOSS": "prototype", "TOP_K": "2", "GROUPING": "semantic",
                 "LAMBDA_ROUTER": "1.0", "LAMBDA_TEXT": "5.0"},
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row of a table or a curve: a method, its switches, and the number of experts.

    name: as printed. switches: flat KEY, VALUE; keys without a section are TRAINER.MOCOOP's. experts: 0 for the dataset's
    own template groups. regrouped: every seed has a random grouping of its own. recipe: the only one that has this row.
    """

    name: str
    trainer: str = "MoCoOp"
    switches: tuple = ()
    experts: int = 0
    regrouped: bool = False
    recipe: str = ""

    def changes(self, dataset, recipe):
        """Flat KEY, VALUE pairs in which this row differs from its recipe on a dataset."""
        opts = []
        for key, value in zip(self.switches[::2], self.switches[1::2]):
            if SWITCHES[recipe].get(key) != value:
                opts += [key if "." in key else f"TRAINER.MOCOOP.{key}", value]
        if self.experts and self.experts != own_experts(dataset):
            file = f"templates/experts/{dataset}_{self.experts}.txt"
            if not home.find(file).is_file():
                raise UserError(f"{dataset} has no template file for {self.experts} experts: {home.find(file)} doesn't exist")
            opts += ["TRAINER.MOCOOP.TEMPLATES", file]
        return tuple(opts)


def methods(*names):
    return tuple(Row({"ZeroshotCLIP": "CLIP"}.get(name, name), name) for name in names)


def sweep(symbol, key, values, without):
    """Rows for a weight of a loss term; weight 0 is the run without that term, which Table 2 has too."""
    return tuple(Row(f"{symbol} = {value}", switches=(key, f"{value:.1f}") if value else (without, "none")) for value in values)


LADDER = (
    Row("CoOp", "CoOp"),
    Row("CoOp at τ 0.07", "CoOp", ("TRAINER.COOP.TAU", "0.07"), recipe="paper"),  # the temperature that the next rows have
    Row("+ MoE", switches=("ROUTER_LOSS", "none", "TEXT_LOSS", "none")),
    Row("+ L_router", switches=("TEXT_LOSS", "none")),
    Row("+ L_text"),
)
ROUTER = ("TEXT_LOSS", "none")  # MoCoOp without its text loss: what the study's rows of routing start from
ROUTES = (*ROUTER, "ROUTER_TAU", "0.02", "ROUTER_CENTRE", "True")  # 0.02: chosen by the target's entropy, before any accuracy
VARIANTS = (
    Row("CLIP", "ZeroshotCLIP"),
    Row("CoOp", "CoOp"),
    Row("CoOp at τ 0.07", "CoOp", ("TRAINER.COOP.TAU", "0.07")),
    Row("MoCoOp, paper"),
    Row("CLIP's τ", switches=("TAU", "0.0")),
    Row("λ2 = 0.6", switches=("LAMBDA_TEXT", "0.6")),
    Row("L_text on 2 experts in turn", switches=("TEXT_EXPERTS", "2")),
    Row("no L_text", switches=ROUTER),
    Row("no L_text, target τ", switches=(*ROUTER, "ROUTER_TAU", "0.02")),
    Row("routed", switches=ROUTES),
    Row("routed, hidden layer", switches=(*ROUTES, "ROUTER_HIDDEN", "64")),
    Row("routed, switch loss", switches=(*ROUTES, "BALANCE_LOSS", "switch")),
    Row("routed, importance loss", switches=(*ROUTES, "BALANCE_LOSS", "importance", "LAMBDA_BALANCE", "0.1")),
    Row("routed, CLIP's τ", switches=(*ROUTES, "TAU", "0.0")),
)
EXPERIMENTS = {e.name: e for e in (
    BaseToNew("table1", "Base-to-new generalisation, 16 shots", ELEVEN,
              methods("ZeroshotCLIP", "CoOp", "CoCoOp", "ProGrad", "KgCoOp", "MoCoOp")),
    BaseToNew("table2", "Components added one by one: mixture, router loss, text loss", FOUR, LADDER),
    Ablation("table3", "Number of experts that the router selects", FOUR,
             tuple(Row(str(k), switches=("TOP_K", str(k))) for k in (2, 3, 4))),
    Ablation("table4", "Grouping of the hard templates", FOUR,
             (Row("random", switches=("GROUPING", "random"), regrouped=True), Row("semantic"))),
    Ablation("table5", "Router loss", FOUR, tuple(Row(loss, switches=("ROUTER_LOSS", loss)) for loss in ("mse", "kl"))),
    Timed("table6", "Accuracy and time of inference", ("caltech101",), methods("CoOp", "CoCoOp", "MoCoOp")),
    Ablation("table7", "Number of experts", FOUR, tuple(Row(str(n), experts=n) for n in (3, 5, 6, 8))),
    FewShot("fig3", "Few-shot learning", ELEVEN, methods("LinearProbe", "CoOp", "ProGrad", "MoCoOp"), backbone="RN50"),
    Sweep("fig4", "Weights of the router loss (λ1) and of the text loss (λ2)", FOUR,
          sweep("λ1", "LAMBDA_ROUTER", (0, 0.5, 1, 1.5, 2, 5), "ROUTER_LOSS")
          + sweep("λ2", "LAMBDA_TEXT", (0, 1, 3, 4, 5, 6, 10), "TEXT_LOSS")),
    Routes("fig5", "Where the router sends images", FOUR, (Row("MoCoOp"),)),
    ZeroShot("zeroshot", "Zero-shot CLIP", ELEVEN, methods("ZeroshotCLIP", "ZeroshotCLIP2")),
    Transfer("crossdataset", "Trained on all classes of one dataset, tested on others", ELEVEN[1:],
             methods("ZeroshotCLIP", "CoOp", "CoCoOp", "KgCoOp", "ProGrad", "MoCoOp"), source="imagenet"),
    Generalisation("generalisation", "Domain generalisation: tested on variants of the training set", VARIANTS_OF_IMAGENET,
                   methods("ZeroshotCLIP", "CoOp", "CoCoOp", "KgCoOp", "ProGrad", "MoCoOp"), source="imagenet"),
    Study("study", "MoCoOp and variants that its paper doesn't have", ("letters", "digits", "textures", "shapes"), VARIANTS),
)}  # fmt: skip


def own_experts(dataset):
    """Number of template groups in a dataset's own file: runs of template lines between blank lines."""
    file = home.find(f"templates/{dataset}.txt")
    text = (file if file.is_file() else home.find("templates/default.txt")).read_text(encoding="utf-8")
    paragraphs = re.split(r"\n[ \t]*\n", text)
    return sum(any(line.partition("#")[0].strip() for line in p.split("\n")) for p in paragraphs)


def variant_name(opts):
    """Folder part for KEY, VALUE pairs that differ from the recipe: `top_k3`, `router_loss_none-text_loss_none`."""
    parts = []
    for key, value in zip(opts[::2], opts[1::2]):
        if key in NOT_DECIDING and key not in FILES:
            continue
        if key == "TRAINER.MOCOOP.TEMPLATES" and (match := re.search(r"_(\d+)\.txt$", value)):
            parts.append(f"experts{match[1]}")
            continue
        value = re.sub(r"[^\w.+-]+", "_", value).strip("_")
        parts.append(key.split(".")[-1].lower() + ("" if value[:1].isdigit() else "_") + value)
    return "-".join(parts)


def changing(run, first):
    """The run without those of its KEY, VALUE pairs, from word ``first`` on, that change nothing: the recipe says the same.

    Settings of the machine stay: they change no number, and a run needs them.
    """
    at = first
    while at < len(run.opts):
        without = replace(run, opts=run.opts[:at] + run.opts[at + 2 :])
        deciding = run.opts[at] not in NOT_DECIDING or run.opts[at] in FILES
        if deciding and not _departs(run, without):
            run = without
        else:
            at += 2
    return run


def _departs(run, without):
    """Whether two runs have other settings, or one of them can't be: settings may need each other."""
    try:
        return bool(recorded.departures(run, without))
    except UserError:
        return True


def concerning(trainer, opts):
    """The user's KEY, VALUE pairs without other methods' own keys and, for zero-shot, those of the optimiser."""
    others = {name.upper() for name in recipes.method_names()} - {trainer.upper()}
    kept = []
    for key, value in zip(opts[::2], opts[1::2]):
        section, *rest = key.split(".")
        foreign = section == "TRAINER" and len(rest) > 1 and rest[0] in others
        if not foreign and not (section == "OPTIM" and trainer in recipes.ZEROSHOT_TRAINERS):
            kept += [key, value]
    return tuple(kept)


@dataclass(frozen=True)
class Selection:
    """What of an experiment is wanted.

    opts: the user's own KEY, VALUE pairs, flat. cfgs: (method, stem of its YAML file) where it isn't the recipe's; "" is
    every method.
    """

    experiment: Experiment
    datasets: tuple
    rows: tuple
    seeds: tuple = (1, 2, 3)
    recipe: str = "paper"
    opts: tuple = ()
    cfgs: tuple = ()

    @property
    def plain(self):
        """The same without the user's own settings and files: what tables compare runs with."""
        return replace(self, opts=(), cfgs=())

    def run(self, kind, row, dataset, seed, shots=16, subsample="all", source=""):
        """One Run of this selection."""
        setting = self.experiment.setting
        recipe = recipes.recipe_cfg(self.recipe, row.trainer, source or dataset, setting, shots)
        cfg = next((file for method, file in self.cfgs if method in ("", row.trainer)), recipe)
        own = ("TRAINER.MOCOOP.GROUPING_SEED", str(seed)) if row.regrouped else ()
        changes = row.changes(source or dataset, self.recipe) + own
        run = Run(kind, dataset, row.trainer, cfg, seed, shots, subsample, source, changes + concerning(row.trainer, self.opts))
        run = changing(run, len(changes)) if self.opts else run
        return replace(run, variant=variant_name(run.opts))

    def seeds_of(self, row):
        """The seeds that a row has: one for zero-shot, where they change nothing."""
        return self.seeds[:1] if row.trainer in recipes.ZEROSHOT_TRAINERS else self.seeds

    def cells(self, row, dataset):
        """{column: [Run of each seed]} that a row needs on a dataset."""
        return self.experiment.cells(self, row, dataset)

    def backbones(self):
        """Names of the backbones of the runs in their order; without own settings the experiment's, and the built-in ones."""
        own = self.opts or self.cfgs
        read = [run for run in self.runs() if own or facts.is_builtin(run.dataset)]
        names = dict.fromkeys(recorded.wanted(run)["MODEL.BACKBONE.NAME"] for run in read)
        others = not own and not all(map(facts.is_builtin, self.datasets))
        return [self.experiment.backbone] * others + [BUILTIN.get(name, name) for name in names]

    def document(self, out, command):
        """Document of what lies below `out`. command: (row, runs) -> the command that makes them."""
        return self.experiment.document(self, out, command)

    def runs(self):
        """All runs, each once, trainings before what evaluates them; those of a row stand together."""
        found = {}
        for row in self.rows:
            for dataset in self.datasets:
                for runs in self.cells(row, dataset).values():
                    for run in runs:
                        found.update({r: row for r in (run.training, run) if r is not None and r not in found})
        return found


def rows_of(experiment, recipe):
    """The rows that an experiment has in a recipe."""
    return tuple(row for row in experiment.rows if row.recipe in ("", recipe))


def chosen_rows(experiment, names):
    """Rows by their names or trainers; any other method of configs/trainers becomes a row of its own."""
    rows = []
    for name in names:
        match = [r for r in experiment.rows if name.lower() in (r.name.lower(), r.trainer.lower())]
        exact = [r for r in match if r.name.lower() == name.lower()] or match
        if not exact:
            recipes.check_method(name, "--methods ")
            exact = [Row(name, name)]
        rows += [row for row in exact if row not in rows]
    return tuple(rows)
