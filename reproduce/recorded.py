"""What a finished run was made with, from its results.json, against what the program would make it with now."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

from basics import UserError
from basics.identity import FILES, deciding, describe, differences, flatten
from basics.scores import main_score
from reproduce import defaults
from reproduce.runs import Run, read_result


def check_same_settings(run, result, directory):
    """UserError if the finished run in `directory` was made with other settings than `run` has now."""
    found = differences_from(run, result)
    if found:
        raise UserError(
            f"{run.label}: the finished run in {directory} differs in {describe(found)}: set OUT to another folder, or --fresh "
            "(which moves its files aside and starts anew), or the old values"
        )


def check_training(run, out):
    """UserError if the finished training run that `run` evaluates was made with other settings."""
    directory = run.training.directory(out) if run.training else None
    result = read_result(directory) if directory else None
    if result is not None:
        check_same_settings(run.training, result, directory)


def make_room(run, out):
    """Move the files of a run of other settings in the folder of `run`, finished or not, into a folder in it."""
    from dassl.engine.run_folder import earlier_run, set_aside

    directory = str(run.directory(out))
    earlier = earlier_run(directory)
    if earlier and differences(earlier.identity, wanted(run)):
        set_aside(directory)


def differences_from(run, result):
    """[(name, value in results.json, value now)] of the settings that decide the numbers of `run`."""
    config, model = result.get("config"), result.get("model")
    if not isinstance(config, dict):
        return [("config", "not recorded", "known")]
    found = differences(_with_files(config), wanted(run))
    if run.training and isinstance(model, dict) and isinstance(model.get("trained_with"), dict):
        own = {name for name, *_ in found}
        trained = differences(model["trained_with"], wanted(run.training))
        found += [(f"{name} of the training", *values) for name, *values in trained if name not in own]
    return found


def departures(run, recipe):
    """[(name, the recipe's value, value of `run`)]: where `run` is another than the same run of the `recipe`."""
    return differences(wanted(recipe), wanted(run)) if recipe != run else []


def wanted(run):
    """{dotted key: value} of the settings that decide the numbers of `run`."""
    return {**_settings(replace(run, seed=0)), "SEED": run.seed}


@functools.cache
def _settings(run):
    import train  # which reads the files as the run itself does

    known = run.trainer in defaults.read()["methods"]  # another one's keys are known to its own module alone
    return _with_files(train.setup_cfg(train.build_parser().parse_args(run.words()), defaults.extend_cfg if known else None))


def _with_files(config):
    """The deciding settings, and the names of files whose contents decide: a recipe names files."""
    flat = flatten(config)
    return {**deciding(config), **{key: Path(flat[key]).name for key in FILES if flat.get(key) is not None}}


@dataclass(frozen=True)
class Source:
    """One run behind a number: its folder, accuracy in per cent, results.json, and how it departs from the recipe.

    departures: what `departures` gives; counted: whether the accuracy is in the number.
    """

    run: Run
    folder: str
    result: dict
    departures: tuple = ()
    counted: bool = True

    @property
    def accuracy(self):
        """Where images have several labels, mAP."""
        return main_score(self.result["metrics"])[1]

    @property
    def notes(self):
        """What a table says of it: how it departs from the recipe, and that its settings were chosen in a published way."""
        return tuple(filter(None, (self.departed, selection_note(self.result))))

    @property
    def departed(self):
        """How it departs from the recipe; "" where it is as that says."""
        if not self.departures:
            return ""
        text = describe(self.departures).replace("(now ", "(the recipe: ")
        if self.counted:
            return f"{self.run.row}: {text}"
        return f"{self.run.label}: {text}; its {self.accuracy:.2f} doesn't count"


def selection_note(result):
    """What a table says of a run whose settings were chosen as the method's published code does it; "" for other runs."""
    selection = result.get("selection")
    if not isinstance(selection, dict) or selection.get("protocol") != "published":
        return ""
    by = [selection.get("by"), selection.get("epoch_by") and f"the epoch by {selection['epoch_by']}"]
    return f"{result.get('trainer')}: chosen in the published way, by {'; '.join(map(str, filter(None, by)))}"


def source(run, recipe, out):
    """Source of a finished run; None where it isn't finished. `recipe`: the same run without the user's own settings.

    A run that was made with other settings than asked for doesn't count, one of other settings that were asked for does.
    """
    result = run.result(out)
    if result is None:
        return None
    folder = run.directory(out)
    other = differences_from(run, result)
    if other:
        return Source(run, str(folder), result, tuple(other), counted=False)
    asked = [(name, now, value) for name, value, now in departures(run, recipe)]
    return Source(run, str(folder), result, tuple(asked))


def provenance(source):
    """{name: text} of where the numbers of a run come from, as far as its results.json tells."""
    result = source.result
    code, weights, made = (result.get(key) or {} for key in ("code", "weights", "made_from"))
    versions = result.get("versions") or {}
    commit = code.get("commit") or versions.get("commit") or ""
    libraries = {name: version for name, version in versions.items() if name != "commit" and version}
    return {
        "run": source.run.label,
        main_score(source.result["metrics"])[0]: f"{source.accuracy:.4f}" + ("" if source.counted else " (not counted)"),
        "date": result.get("finished_at", ""),
        "commit": commit + (" with changes" if code.get("modified") else ""),
        "source code": code.get("source_sha256", ""),
        "libraries": ", ".join(f"{name} {version}" for name, version in libraries.items()),
        "device": result.get("device", ""),
        "weights": weights.get("state_sha256") or weights.get("frozen_sha256") or "",
        "data split": result.get("data_hash", ""),
        "training images": made.get("training images", ""),
        "test images": made.get("test images", ""),
        "settings": selection_note(result),
        "fingerprint": result.get("fingerprint", ""),
    }


def disagreements(sources):
    """Texts on runs of one table that should have the same weights or test images, and don't; and on rows on other models."""
    found, models = [], {}
    for s in filter(lambda s: s.counted, sources):
        models.setdefault(s.run.dataset, {}).setdefault(s.result.get("backbone", ""), {})[s.run.row] = None
    for on in {str(on): on for on in models.values() if len(on) > 1}.values():  # once, however many datasets have it
        found.append("rows on different models: " + "; ".join(f"{name}: {', '.join(rows)}" for name, rows in on.items()))
    for name, group in (("weights", "backbone"), ("test images", "dataset")):
        seen = {}
        for s in filter(lambda s: s.counted, sources):
            value = provenance(s)[name]
            key = s.result.get(group, "") if name == "weights" else (s.run.dataset, s.run.classes)
            if value:
                seen.setdefault(key, {}).setdefault(value, s.folder)
        for key, values in seen.items():
            if len(values) > 1:
                what = key if isinstance(key, str) else " ".join(key)
                found.append(f"runs on {what} have different {name}: {', '.join(values.values())}")
    return found
