"""What CLAP's INIT and CONSTRAINT may say, and what their words mean: kinds of adapters, their settings, grids of a search."""

import itertools
import re

from basics import UserError

KINDS = ("RANDOM", "ZS", "TRenh", "TR", "ClipA", "TipA-f-", "TipA", "CrossModal")
# the same for all data sets, as published: TR's α, ClipA's ratio, TipA's α and β
SETTINGS = {
    "TR": {"alpha": 0.5},
    "ClipA": {"ratio": 0.2},
    "TipA": {"alpha": 1.0, "beta": 1.0},
    "TipA-f-": {"alpha": 1.0, "beta": 1.0},
}
SEARCH = "_grid_search"
RATES = (0.1, 0.01, 0.001)
GRIDS = {  # of the repository's search on test images, in its order
    "TR": {"alpha": [0.2 * k for k in range(1, 6)], "lr": RATES},
    "ClipA": {"lr": RATES, "ratio": [0.2 * k for k in range(1, 5)]},
    "TipA": {"alpha": [1 + 2.5 * k for k in range(20)], "beta": [1 + 1.4 * k for k in range(20)]},
    "TipA-f-": {"alpha": [1.0 + 5 * k for k in range(10)], "beta": [1 + 2.8 * k for k in range(10)], "lr": RATES[:2]},
}
METRICS, OPTIONS = ("l2", "cosine"), ("balanced", "corrected", "constant", "adaptative")

MEANING_OF_INIT = f"what is learned: {', '.join(KINDS)}; {SEARCH} behind it: the best of a grid on the test images"
MEANING_OF_CONSTRAINT = f"what holds it near the text features: none, or l2 or cosine, with {', '.join(OPTIONS)} behind it"


def init_error(text):
    """What is wrong with an INIT, for its key; "" where nothing is."""
    if text in KINDS or (text.endswith(SEARCH) and text.removesuffix(SEARCH) in (*GRIDS, "TRenh")):
        return ""
    return f"must be one of {', '.join(KINDS)}, or one of {', '.join(GRIDS)} with {SEARCH} behind it"


def grid_of(init):
    """Settings of an INIT's search, a dictionary each; [] where there is none."""
    if not init.endswith(SEARCH):
        return []
    grid = GRIDS[init.removesuffix(SEARCH).removesuffix("enh")]
    return [dict(zip(grid, values)) for values in itertools.product(*grid.values())]


def words_of(constraint):
    """The words of a CONSTRAINT such as "l2_adaptative", which may stand in any order; none of "none"."""
    return [word for word in (*METRICS, *OPTIONS) if word in constraint]


def constraint_error(text):
    """What is wrong with a CONSTRAINT, for its key; "" where nothing is."""
    words = words_of(text)
    rest = re.sub("|".join(words), "", text) if words else text
    if text == "none" or (len(set(words) & set(METRICS)) == 1 and not rest.strip("-_+ ")):
        return ""
    return f"must be none, or l2 or cosine with any of {', '.join(OPTIONS)} behind it, such as l2_balanced"


def check_constraint(init, constraint):
    """UserError, or a line, for a constraint where there are no prototypes."""
    if constraint != "none" and init == "CrossModal":
        raise UserError(
            f"TRAINER.ADAPTER.CONSTRAINT {constraint}: CrossModal has rows of text, for which there is none; set it to none"
        )
    if constraint != "none" and init.startswith(("ClipA", "TipA")):
        print(f"TRAINER.ADAPTER.CONSTRAINT {constraint} has no effect: INIT {init} learns no prototypes")
