"""Text files of any contents are read or refused with a message: no traceback, no hang, nothing run from them."""

import pickle
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import strategies as st

import trainers
from dassl.config import get_cfg_default
from dassl.data.datasets import Datum
from dassl.utils import UserError, safe_pickle_load
from datasets.fewshot import PICKLED_DATUM, fewshot
from datasets.splits import read_split, save_split
from prompting import read_groups
from reproduce.recorded import check_same_settings
from reproduce.results import read_log, summarise
from reproduce.runs import Run, read_result
from tests.stress.fuzzing import PUBLISHED, SCALARS, VALUES, WORDS, as_json, changed, refused_or_read

# -- texts -------------------------------------------------------------------------------------------------------------


def test_template_files(examine, place):
    path = place / "templates.txt"
    line = st.one_of(st.sampled_from(["a photo of a {}.", "# a group", "", "{} texture."]), WORDS)
    texts = st.lists(line, max_size=8).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass"))

    def check(content):
        path.write_bytes(content)
        with refused_or_read("template files"):
            for group in read_groups(path):
                assert group.name.isprintable() and all(t.isprintable() and t.count("{}") == 1 for t in group.templates)

    examine(st.one_of(texts, st.binary(max_size=60)), check)


KEYS = st.one_of(st.sampled_from([
    "OPTIM", "OPTIM.LR", "LR", "INPUT.SIZE", "DATASET.NAME", "TRAINER.COOP.CTX_INIT", "SEED", "TRAIN", "<<", "*a", "&a",
    "? [a]", "!!set", "TRAINER",
]), WORDS)  # fmt: skip
YAML_VALUES = st.one_of(st.sampled_from([
    "!!python/object/apply:os.system ['touch PWNED']", "!!python/name:os.system", "!!int x", "!!timestamp 2001-99-99",
    "2001-13-45", "&a [*a]", "*a", "!!binary x", "!!set {a, b}", "{", "[1, 2", "0b", "0o9", "1:99:99", "'", "|", "\t",
    "- - -", "&a {OPTIM: *a}", "%", "@",
]), WORDS, st.floats().map(str), st.integers().map(str))  # fmt: skip


def fresh():
    """A new configuration with every method's section."""
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    return cfg


def test_yaml_files(examine, place):
    path, cfg = place / "settings.yaml", fresh()
    indent = st.sampled_from(["", "  ", "    "])
    line = st.tuples(indent, KEYS, st.just(": "), YAML_VALUES).map("".join)
    texts = st.lists(st.one_of(line, YAML_VALUES), max_size=6).map("\n".join)

    def check(content):
        path.write_bytes(content)
        with refused_or_read("YAML files"):
            cfg.clone().merge_from_file(str(path))
        assert not Path("PWNED").exists()

    encoded = texts.map(lambda text: text.encode("utf-8", "surrogatepass"))
    good = b"OPTIM:\n  LR: 0.1\nINPUT:\n  SIZE: (32, 32)\n"
    examine(st.one_of(encoded, changed(good), st.binary(max_size=60)), check)


def test_references_in_yaml_do_not_multiply(place):
    """Ten lines that stand for 10^9 values, and a section that holds itself."""
    path = place / "laughs.yaml"
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(10))}}}" for i in range(1, 10)]
    for text in ("\n".join(lines), "OPTIM: &o\n  LR: 0.1\n  INPUT: *o\n"):
        path.write_text(text)
        with pytest.raises(UserError, match="line 2.*|line 3.*references"):
            fresh().merge_from_file(str(path))


def test_key_value_pairs(examine):
    cfg = fresh()

    def check(words):
        with refused_or_read("KEY VALUE pairs"):
            cfg.clone().merge_from_list(words)

    examine(st.lists(st.one_of(KEYS, WORDS, YAML_VALUES), max_size=4), check)


ENTRY = st.tuples(st.sampled_from(["a.png", "b/c.png", "../x", "/etc/passwd"]) | WORDS, st.integers(-1, 3) | SCALARS,
                  st.sampled_from(["cat", "dog", "\x1b[2J"]) | WORDS).map(list)  # fmt: skip
PART = st.one_of(st.lists(ENTRY, max_size=4), VALUES)
SPLITS = st.one_of(VALUES, st.fixed_dictionaries({"train": PART, "val": PART, "test": PART}))


@pytest.fixture(scope="module")
def split(place):
    """A good split file: (its bytes, its three lists)."""
    items = [[Datum.__new__(Datum) for _ in range(6)] for _ in range(3)]
    for part, name in zip(items, ("train", "val", "test")):
        for i, item in enumerate(part):
            item._impath, item._label, item._domain = str(place / f"{name}{i}.png"), i % 2, 0
            item._classname = ("cat", "dog")[i % 2]
    with redirect_stdout(StringIO()):
        save_split(*items, str(place / "good.json"), str(place))
    return (place / "good.json").read_bytes(), items


def test_split_files(examine, place, split):
    path = place / "split.json"

    def check(content):
        path.write_bytes(content)
        with refused_or_read("split files"):
            for part in read_split(str(path), str(place)):
                assert all(isinstance(i.label, int) and ".." not in i.impath.split("/") for i in part)

    examine(st.one_of(SPLITS.map(as_json), changed(split[0]), st.binary(max_size=60)), check)


def test_few_shot_files(examine, place, split):
    folder = place / "split_fewshot"
    good = place / "good_fewshot"
    with redirect_stdout(StringIO()):
        fewshot(*split[1], 2, 1, str(good), str(place))
    whole = (good / "shot_2-seed_1.json").read_bytes()
    known = {item.impath for item in split[1][0]}

    def check(content):
        folder.mkdir(exist_ok=True)
        (folder / "shot_2-seed_1.json").write_bytes(content)
        with refused_or_read("few-shot files"):
            train, _ = fewshot(*split[1], 2, 1, str(folder), str(place))
            assert train and all(item.impath in known for item in train)

    examine(st.one_of(SPLITS.map(as_json), changed(whole), st.binary(max_size=60)), check)


def test_few_shot_pickles(examine, place, split):
    path = place / "shot_2-seed_1.pkl"
    whole = pickle.dumps({"train": split[1][0], "val": split[1][1]}, protocol=2)
    published = (PUBLISHED / "shot_4-seed_1.pkl").read_bytes()

    def check(content):
        path.write_bytes(content)
        with refused_or_read("few-shot pickles"):
            safe_pickle_load(str(path), PICKLED_DATUM)

    examine(st.one_of(changed(whole), changed(published), st.binary(max_size=60), VALUES.map(pickle.dumps)), check)


# -- results and logs --------------------------------------------------------------------------------------------------

RESULT = {"status": "finished", "metrics": {"accuracy": 71.0, "error_rate": 29.0, "macro_f1": 70.0}, "epochs": 2,
          "finished_at": "2025-01-01", "config": {"OPTIM": {"LR": 0.1}}, "classnames": ["a"]}  # fmt: skip
RESULTS = st.one_of(
    VALUES,
    st.dictionaries(st.sampled_from(sorted(RESULT)), VALUES, max_size=3).map(lambda other: {**RESULT, **other}),
    st.dictionaries(st.sampled_from(sorted(RESULT["metrics"])), SCALARS).map(lambda m: {**RESULT, "metrics": m}),
)


def test_results_json(examine, place):
    from inference import configuration, read_run

    folder = place / "run" / "seed1"
    folder.mkdir(parents=True)
    run = Run("fewshot", "eurosat", "CoOp", "rn50", opts=("OPTIM.LR", "0.1"))

    def check(content):
        (folder / "results.json").write_bytes(content)
        with refused_or_read("results.json"):
            result = read_result(folder)
            if result is not None:
                assert 0 <= result["metrics"]["accuracy"] <= 100
                summarise(folder.parent)
                check_same_settings(run, result, folder)
            configuration(read_run(folder))

    examine(st.one_of(RESULTS.map(as_json), changed(as_json(RESULT)), st.binary(max_size=60)), check)


def test_logs(examine, place):
    path = place / "log.txt"
    line = st.one_of(st.sampled_from(["=> result", "Finish training", "* accuracy: 71.0%", "* accuracy: 1.2.3%",
                                      "* macro_f1: nan%", "* error: -1e999%", "epoch [1/2] batch"]), WORDS)  # fmt: skip

    def check(lines):
        path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        with refused_or_read("logs"):
            read_log(path)

    examine(st.lists(line, max_size=8), check)
