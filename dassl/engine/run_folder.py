"""A run folder is one run: a command continues the run in it or is refused; no other run takes the folder over.

``run.json`` says from the start which run a folder belongs to: its configuration and what it is made from. Folders of
earlier versions, or of other programs, have none: there ``results.json`` or ``log.txt`` say what they can.
"""

import contextlib
import datetime
import glob
import json
import os
import os.path as osp
import re
from dataclasses import dataclass

from basics import UserError, read_json, write_json
from basics.hashes import digest
from basics.identity import EPOCHS, deciding, describe, differences, settings_in_log
from basics.scores import main_score

from ..optim import learning_rates
from .provenance import code_version, computed_by, data_hash, made_from, versions

RECORD, RESULTS = "run.json", "results.json"
RECORD_VERSION = 1
OLD_SPLIT = "data split"  # of results.json of earlier versions
TRAINING, EVALUATION = "training run", "evaluation"
# what the program writes into a run folder, RECORD last: until it is moved, the folder still says whose it is
OWN_FILES = (
    RESULTS, "results-*-epochs.json", "predictions.safetensors", "log.txt", "cmat.pt", "tensorboard/events.out.tfevents.*",
    "resume/epoch-*.pt", "*/model.pth.tar-*", "*/model-best.pth.tar", "*/checkpoint", RECORD,
)  # fmt: skip


@dataclass
class Earlier:
    """What an earlier command has left in a run folder.

    folder; kind: TRAINING or EVALUATION; identity: what is known of it, {} if nothing is; record: run.json, or {};
    results: results.json, or None while it isn't finished; epochs: those of its newest checkpoint.
    """

    folder: str
    kind: str
    identity: dict
    record: dict
    results: dict | None
    epochs: int


def earlier_run(folder):
    """Earlier of a folder; None where there is nothing to continue or to overwrite. UserError: damaged record."""
    record, results = _json(osp.join(folder, RECORD)) or {}, _json(osp.join(folder, RESULTS), strict=False)
    if results is not None and not _has_scores(results):
        print(f"WARNING: {osp.join(folder, RESULTS)} is damaged (its metrics are no numbers): the run counts as unfinished")
        results = None
    points = _epochs(folder, "resume/epoch-*.pt") | _epochs(folder, "*/model.pth.tar-*")
    best = glob.glob(osp.join(glob.escape(folder), "*/model-best.pth.tar"))
    if results is None and not points and not best:
        return None
    if record:
        identity, kind = {**deciding(record["config"]), **record["made_from"]}, record["kind"]
    else:
        identity = _old_identity(folder, results)
        kind = EVALUATION if results and results.get("eval_only") and not points else TRAINING
    return Earlier(folder, kind, identity, record, results, max(points, default=0))


def _old_identity(folder, results):
    """What results.json or, failing that, log.txt of another version or program says about a run."""
    if results and isinstance(results.get("config"), dict):
        known = deciding(results["config"])
        return {**known, OLD_SPLIT: results["data_hash"]} if "data_hash" in results else known
    with contextlib.suppress(OSError), open(osp.join(folder, "log.txt"), encoding="utf-8", errors="replace") as log:
        return settings_in_log(log.read())
    return {}


def _json(path, strict=True):
    """The dictionary in a JSON file; None if there is no such file or, unless ``strict``, if it is damaged."""
    if not osp.isfile(path):
        return None
    try:
        content = read_json(path)
        if isinstance(content, dict) and (not strict or {"config", "made_from", "kind"} <= content.keys()):
            return content
    except UserError:
        content = None
    if strict:
        raise UserError(
            f"{path} is damaged: it doesn't say which run the folder belongs to; choose another --output-dir, or --fresh"
        )
    return None


def _has_scores(results):
    """Whether a results.json has metrics, and those of them that are read are numbers; other evaluators have others."""
    metrics = results.get("metrics")
    if not isinstance(metrics, dict):
        return False
    names = ("accuracy", "mAP", "error_rate", "macro_f1", "ece", "perclass_accuracy")
    return all(type(metrics.get(name, 0)) in (int, float) for name in names)


def _epochs(folder, pattern):
    names = glob.glob(osp.join(glob.escape(folder), pattern))
    return {int(match[1]) for name in names if (match := re.search(r"-(\d+)(?:\.pt)?$", name))}


# ---- before anything is loaded ----


def check_folders(cfg, kind, fresh=False):
    """Check what the configuration alone shows, before anything is loaded, computed or written.

    kind: TRAINING or EVALUATION. fresh: the files of an earlier run in OUTPUT_DIR are moved aside first.
    UserError: RESUME doesn't exist or has nothing to resume from; a folder is of another run.
    """
    output, source = cfg.OUTPUT_DIR, resumed_folder(cfg)
    if source:
        if not osp.isdir(source):
            raise UserError(f"--resume: no such folder: {source}")
        if earlier_run(source) is None and earlier_run(output) is None:
            raise UserError(f"--resume: {source} has no checkpoint to resume from; give the folder of an interrupted run")
    elif fresh and cfg.RESUME:
        raise UserError(f"--fresh starts anew in {output}, --resume goes on there: give one of the two")
    if fresh:
        set_aside(output, kind)
    for folder in filter(None, (output, source)):
        earlier = earlier_run(folder)
        if earlier:
            _check_kind(earlier, kind, output)
            found = differences(earlier.identity, deciding(cfg))
            if [name for name, *_ in found] != [EPOCHS]:  # the trainer's claim compares it
                _refuse(earlier, found, output)


def resumed_folder(cfg):
    """The other folder that RESUME names, or "": a run in OUTPUT_DIR continues without it."""
    same = cfg.RESUME and osp.realpath(cfg.RESUME) == osp.realpath(cfg.OUTPUT_DIR)
    return "" if same else cfg.RESUME


def _check_kind(earlier, kind, output):
    if earlier.kind == kind:
        return
    if earlier.kind == TRAINING:
        raise UserError(
            f"{earlier.folder} holds a training run, whose record an evaluation must not overwrite: choose another --output-dir "
            f"(its model is evaluated with --eval-only --model-dir {earlier.folder})"
        )
    hint = f", or --fresh (which moves its files into {_place(output)})" if earlier.folder == output else ""
    raise UserError(f"{earlier.folder} holds an evaluation, no training run: choose another folder{hint}")


def _refuse(earlier, found, output, reason=""):
    """UserError for the differences from an earlier run, where there are some."""
    if not found:
        return
    state = "a finished" if earlier.results else "an interrupted"
    if earlier.folder != output:
        way_out = "resume from it with its own values, or train anew without --resume"
    else:
        way_out = (
            f"choose another --output-dir, or --fresh (which moves the earlier run's files into {_place(output)} and starts "
            "anew), or the old values"
        )
    raise UserError(f"{earlier.folder} holds {state} {earlier.kind} that differs in {describe(found)}{reason}: {way_out}")


def _place(folder):
    number = 1
    while osp.exists(osp.join(folder, f"replaced-{number}")):
        number += 1
    return osp.join(folder, f"replaced-{number}")


def set_aside(folder, kind=TRAINING):
    """Move what the program has written into a run folder to a folder ``replaced-<n>`` in it; other files stay.

    An evaluation (``kind``) doesn't replace a training run: UserError.
    """
    earlier = earlier_run(folder) if kind == EVALUATION else None
    if earlier:
        _check_kind(earlier, kind, folder)
    paths = [path for pattern in OWN_FILES for path in sorted(glob.glob(osp.join(glob.escape(folder), pattern)))]
    models = {osp.dirname(path) for path in paths if osp.basename(path).startswith("model")}
    paths = [path for path in paths if osp.basename(path) != "checkpoint" or osp.dirname(path) in models]
    if not paths:
        return
    place = _place(folder)
    for path in paths:
        target = osp.join(place, osp.relpath(path, folder))
        os.makedirs(osp.dirname(target), exist_ok=True)
        os.replace(path, target)
    print(f"The files of the earlier run in {folder} are now in {place}")


# ---- once the trainer is built ----


class RunFolder:
    """The claim of a trainer on its output folder, and on the folder that it resumes from.

    Attributes:
        identity: of what the trainer is about to do.
        record: the contents of run.json.
        finished: results.json of the very same run, where it had come to its end before; else None.
    """

    def __init__(self, trainer, kind):
        self.folder, cfg = trainer.output_dir, trainer.cfg
        parts = made_from(trainer)
        if kind == EVALUATION and trainer._loaded:
            parts["evaluated model"] = "sha256 " + digest(trainer._loaded["sha256"])
        self.identity = {**deciding(cfg), **parts}
        self._rates = lambda epochs, total: learning_rates(cfg.OPTIM, epochs, total)
        self._any_length = trainer.epochs_only_in_schedule
        splits = {name: getattr(trainer.dm.dataset, name, None) or [] for name in ("train_x", "val", "test")}
        compared = {**self.identity, OLD_SPLIT: data_hash(splits, cfg.DATASET.ROOT)}
        source, longer = resumed_folder(cfg), None
        for folder in filter(None, (source, self.folder)):
            earlier = earlier_run(folder)
            if earlier:
                _check_kind(earlier, kind, self.folder)
                longer = self._check(earlier, compared)
        earlier = earlier_run(self.folder)
        there = earlier is not None and (kind == EVALUATION or earlier.epochs >= cfg.OPTIM.MAX_EPOCH)
        self.finished = earlier.results if there and longer is None else None
        self.record = self._record(trainer, kind, parts, earlier, source, longer)
        if self.finished is None:
            if longer is not None and earlier and earlier.results:  # nobody may take the shorter run's for this one's
                os.replace(osp.join(self.folder, RESULTS), osp.join(self.folder, f"results-{longer}-epochs.json"))
            write_json(self.record, osp.join(self.folder, RECORD))
        elif main_score(self.finished["metrics"]):
            name, value = main_score(self.finished["metrics"])
            print(f"This {kind} is finished, {name} {value:.2f}% ({osp.join(self.folder, RESULTS)}): evaluating it again")

    def _record(self, trainer, kind, parts, earlier, source, longer):
        """run.json: the earlier one of the same run, with what is new; or a new one."""
        now = {
            "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "code": code_version(), "libraries": versions(), "computed_by": computed_by(trainer.device),
            **({"resumed_from": osp.abspath(source)} if source else {}),
            **({"epochs_before": longer} if longer is not None else {}),
        }  # fmt: skip
        starts = earlier.record.get("starts", []) if earlier else []
        if starts:
            _say_what_changed(starts[-1], now)
        return {
            "version": RECORD_VERSION, "kind": kind, "config": json.loads(json.dumps(trainer.cfg)), "made_from": parts,
            "starts": [*starts, now],
        }  # fmt: skip

    def _check(self, earlier, identity):
        """UserError unless the earlier run is this one; its number of epochs, if it is this one but for a shorter end."""
        if not earlier.identity:
            print(
                f"WARNING: nothing in {earlier.folder} says with which settings and data its checkpoints were made (they are of "
                "another program or an earlier version): that they are this run's can't be checked"
            )
        found = differences(earlier.identity, identity)
        if [name for name, *_ in found] != [EPOCHS]:
            _refuse(earlier, found, self.folder)
            return None
        _, old, new = found[0]
        obstacle = self._other_length(old, new, earlier.epochs)
        if obstacle:
            _refuse(earlier, found, self.folder, obstacle)
        return old

    def check_checkpoint(self, checkpoint, path):
        """UserError where a checkpoint carries the identity of another run; ``checkpoint``: its dictionary."""
        saved = checkpoint.get("identity")
        try:
            found = differences(json.loads(saved), self.identity) if saved else []
        except (TypeError, ValueError, AttributeError):
            raise UserError(f"{path}: its identity isn't as this program writes it") from None
        if [name for name, *_ in found] == [EPOCHS] and not self._other_length(*found[0][1:], checkpoint["epoch"]):
            return
        if found:
            raise UserError(f"{path} is a checkpoint of a run that differs in {describe(found)}: it can't be continued here")

    def _other_length(self, old, new, done):
        """Why a run of ``old`` epochs, ``done`` of which are trained, isn't the beginning of one of ``new``; "" if it is."""
        if new < done:
            return f" (it has trained {done} epochs already)"
        if self._rates(done, old) != self._rates(done, new):
            return f" (the learning rate of every epoch depends on {EPOCHS}, so those trained are not this run's)"
        return "" if self._any_length else f" (this method may use {EPOCHS} in other ways than for its learning rate)"


def _say_what_changed(before, now):
    """A line for each of code, libraries and arithmetic that differ from what the run began with; no reason to refuse."""
    old, new = before.get("code") or {}, now["code"]
    if old.get("source_sha256") != new["source_sha256"]:
        names = [f"{c.get('commit') or 'unknown commit'}{' with changes' if c.get('modified') else ''}" for c in (old, new)]
        print(f"Note: this run was begun with other code ({names[0]}; now {names[1]})")
    changed = differences(before.get("libraries") or {}, now["libraries"])
    if changed:
        print(f"Note: this run was begun with other libraries: {describe(changed)}")
    changed = differences(before.get("computed_by") or {}, now["computed_by"])
    if changed:
        print(f"Note: this run was begun with {describe(changed)}: last bits may differ from an uninterrupted run's")
