"""What a search has found: the trials, the choice of each seed, its command line and what it cost."""

import shlex
import statistics
from pathlib import Path

from tabulate import tabulate

from basics import UserError, write_json
from reproduce import recipes
from reproduce.progress import duration

SHOWN = 10  # trials of a seed in the table; the JSON file has all
ABOUT = (
    "Accuracy in % on validation images, mean over the draws of held-out classes. The best of several trials is better on the "
    "images that it was chosen on than on others: its H says nothing about test images."
)


def report(search, trials, recipe_first):
    """Plain data of a search. trials: {seed: what `Trials.ended` gives}; recipe_first: whether the first is the recipe."""
    seeds = {}
    for seed, ended in trials.items():
        finished = [trial for trial in ended if trial["folds"]]
        best = max(finished, key=lambda trial: (trial["H"], -trial["number"]), default=None)
        seconds = sum(fold["seconds"] for trial in finished for fold in trial["folds"])
        seeds[str(seed)] = {
            "choice": best and {"trial": best["number"] + 1, "settings": list(best["settings"]), "H": best["H"]},
            "commands": commands(search, seed, best["settings"]) if best else [],
            "cost": {"trials": len(ended), "failed": len(ended) - len(finished), "seconds": seconds},
            "trials": [
                {**means(trial), "trial": trial["number"] + 1, "settings": list(trial["settings"]), "folds": trial["folds"]}
                for trial in ended
            ],
        }
    return {
        "method": search.trainer, "dataset": search.dataset, "configuration": search.cfg, "shots": search.shots,
        "held_out": search.held_out, "folds": search.folds, "sampler": search.sampler, "set": list(search.opts),
        "recipe_is_trial_1": recipe_first,
        "space": {d.key: d.plain() for d in search.dimensions}, "seeds": seeds,
    }  # fmt: skip


def means(trial):
    """{base, new, H} of a trial over its folds; None each where it failed."""
    columns = ("base", "new", "H")
    return {c: statistics.mean(fold[c] for fold in trial["folds"]) if trial["folds"] else None for c in columns}


def commands(search, seed, settings):
    """The command lines that train on all base classes with a choice, and test on the new ones."""
    environment = {"TRAINER": search.trainer} if search.trainer != "MoCoOp" else {}
    if search.cfg != recipes.default_cfg(search.trainer, search.dataset, "base2new", search.shots):
        environment["CFG"] = search.cfg
    environment.update({"SHOTS": str(search.shots)} if search.shots != 16 else {})
    before = [f"{name}={shlex.quote(value)}" for name, value in {"OUT": "output/tuned", **environment}.items()]
    words = shlex.join([search.dataset, str(seed), *search.opts, *settings])
    return [" ".join([*before, "bash", f"scripts/base2new_{part}.sh", words]) for part in ("train", "test")]


def show(found, file):
    """Print the trials and the choices, and write the JSON file; returns the exit status."""
    write_json(found, str(file))
    for seed, part in found["seeds"].items():
        chosen = part["choice"]
        rows = sorted(part["trials"], key=lambda t: (-(t["H"] if t["H"] is not None else -1.0), t["trial"]))
        kept = rows[:SHOWN] + [row for row in rows[SHOWN:] if row["trial"] == 1]
        lines = [
            [f"{row['trial']}{' *' if chosen and row['trial'] == chosen['trial'] else ''}"]
            + [row[c] for c in ("base", "new", "H")]
            + [" ".join(row["settings"]) or "the recipe's own"]
            for row in kept
        ]
        cost = part["cost"]
        head = f"{found['method']} on {found['dataset']}, seed {seed}: {cost['trials']} trials, {cost['failed']} failed"
        first = "trial 1 is the recipe, " if found["recipe_is_trial_1"] else ""
        print(f"\n{head}, {duration(cost['seconds'])} of runs; {first}* is chosen\n")
        print(tabulate(lines, ["trial", "base", "new", "H", "settings"], floatfmt=".2f", missingval="-"))
        print("\n" + "\n".join(part["commands"]))
    print(f"\n{ABOUT}\nwritten: {Path(file)}")
    if not all(part["choice"] for part in found["seeds"].values()):
        raise UserError("every trial of a seed has failed; the lines above say why")
    return 0
