"""Whatever stands in a file, it is read or refused with a message: no traceback, no hang, nothing run from it."""

import io
import json
import pickle
import random
import resource
import signal
import sys
import tarfile
import zipfile
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

import trainers
from dassl.config import get_cfg_default
from dassl.data.datasets import Datum
from dassl.engine import TrainerBase
from dassl.utils import UserError, load_checkpoint, printable, safe_pickle_load
from datasets.fewshot import PICKLED_DATUM, fewshot
from datasets.splits import read_split, save_split
from datasets.unpack import extract
from prompting import UserError as PromptingError
from prompting import read_groups
from reproduce.errors import CommandError
from reproduce.results import read_log, summarise
from reproduce.runs import Run, check_same_settings, read_result

ERRORS = (UserError, PromptingError, CommandError)
LONGEST = 20  # seconds for one input
PUBLISHED = Path(__file__).parents[1] / "golden" / "published"
COUNTS = {}


@contextmanager
def refused_or_read(what):
    """Nothing but an error for users may come of an input, with a message that a terminal can show, and soon."""

    def hangs(number, frame):
        raise AssertionError("hangs")

    COUNTS[what] = [n + 1 for n in COUNTS[what][:1]] + COUNTS[what][1:] if what in COUNTS else [1, 0]
    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(LONGEST)
    try:
        with redirect_stdout(io.StringIO()) as printed:
            yield
        assert printable(printed.getvalue()) == printed.getvalue(), "control characters on the terminal"
    except ERRORS as error:
        COUNTS[what][1] += 1
        assert str(error).strip() and printable(str(error)) == str(error)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """An input that fills the memory must not take the machine with it."""
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 4 * 2**30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(scope="module", autouse=True)
def report():
    """With --stress, the counts are shown at the end."""
    from tests.stress.conftest import MESSAGES

    yield
    for what, (n, refused) in COUNTS.items():
        MESSAGES.append((f"fuzz, {what}", f"{n} inputs, {refused} refused with a message, no other error"))
    MESSAGES.append(("fuzz", f"{sum(n for n, _ in COUNTS.values())} inputs in all"))


@pytest.fixture
def examine(stress):
    """Function (strategy, check): check 1,600 inputs, or 40 in a small run."""

    def run(strategy, check):
        kind = settings(max_examples=1600 if stress else 40, deadline=None, database=None, derandomize=True,
                        suppress_health_check=list(HealthCheck))  # fmt: skip
        kind(given(strategy)(check))()

    return run


def changed(whole):
    """Bytes of a file with some changed, cut out or doubled."""

    def change(seed):
        rng, data = random.Random(seed), bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            at, length = rng.randrange(len(data) or 1), rng.randint(1, 40)
            data[at:at + length] = rng.choice([bytes([rng.randrange(256)]), b"", data[at:at + length] * 2,
                                               rng.randbytes(length)])  # fmt: skip
        return bytes(data)

    return st.integers(0, 2**32).map(change)


NASTY = st.sampled_from([
    "\x1b[31m", "\x1b]0;x\x07", "\u202e", "\ud800", "<script>", "{}", "{", "#", "..", "/", "\0", "é", "9" * 5000,
    "[" * 3000, "(" * 3000, "-" * 3000, "1e999", "nan", "!!python/name:os.system",
])  # fmt: skip
WORDS = st.lists(st.one_of(st.text(max_size=8), NASTY), max_size=4).map("".join)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.integers(0, 3), st.floats(), WORDS)


def nested(values):
    """Lists and dictionaries of values."""
    return st.lists(values, max_size=4) | st.dictionaries(WORDS, values, max_size=4)


VALUES = st.recursive(SCALARS, nested, max_leaves=12)


def as_json(value):
    """Bytes of a value as JSON; a surrogate stays the escape that it was."""
    return json.dumps(value).encode()


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
    with redirect_stdout(io.StringIO()):
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
    with redirect_stdout(io.StringIO()):
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
    from predict import configuration, read_run

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


# -- checkpoints and archives ------------------------------------------------------------------------------------------


class Settings:
    """As much of a configuration as loading looks at."""

    class TRAINER:
        NAME = "CoOp"


def trainer_for(place):
    """A trainer that has learned nothing yet, of one model with one parameter."""
    trainer = TrainerBase()
    model = nn.Module()
    model.ctx = nn.Parameter(torch.zeros(2, 3))
    optim = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trainer.cfg, trainer.output_dir = Settings, str(place)
    trainer.register_model("prompt_learner", model, optim, torch.optim.lr_scheduler.CosineAnnealingLR(optim, 5))
    return trainer


TENSORS = st.sampled_from([torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.int64), torch.zeros(3), torch.zeros(0),
                           torch.zeros(2, 3).to_sparse(), torch.zeros(2, 3, dtype=torch.complex64)])  # fmt: skip
CONTENT_KEYS = st.one_of(
    st.sampled_from(["ctx", "state", "param_groups", "lr", "dict", "list", "tensor", "tuple"]), WORDS, st.integers(0, 2)
)
CONTENTS = st.recursive(
    SCALARS | TENSORS,
    lambda values: st.one_of(st.lists(values, max_size=3), st.dictionaries(CONTENT_KEYS, values, max_size=3)),
    max_leaves=8,
)
OPTIONAL = ("optimizer", "scheduler", "extras", "attributes", "rng", "best_result", "train_seconds")
CHECKPOINTS = st.one_of(
    CONTENTS,
    st.fixed_dictionaries(
        {"state_dict": st.fixed_dictionaries({"ctx": TENSORS}) | CONTENTS, "epoch": st.just(3) | CONTENTS},
        optional={**dict.fromkeys(OPTIONAL, CONTENTS), "trainer": st.just("CoOp") | SCALARS},
    ),
)


def load_both_ways(place, content, what):
    """Evaluate with the checkpoint, and resume from it."""
    folder = place / "checkpoints" / "prompt_learner"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.pth.tar-3").write_bytes(content)
    with refused_or_read(what):
        trainer_for(place).load_model(str(folder.parent), 3)
    with refused_or_read(what):
        trainer_for(place).resume_model_if_exist(str(folder.parent))


def saved(value):
    """Bytes of torch.save."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_checkpoints(examine, place):
    def check(value):
        try:
            content = saved(value)
        except UnicodeEncodeError:
            assume(False)  # half of a surrogate pair as a key
        load_both_ways(place, content, "checkpoints of other contents")

    examine(CHECKPOINTS, check)


def repacked(content, change):
    """A checkpoint whose pickle was changed, and whose checksums are right: made on purpose, that is."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w") as out:
        for info in source.infolist():
            data = source.read(info)
            out.writestr(info.filename, change(data) if info.filename.endswith("data.pkl") else data)
    return target.getvalue()


def test_changed_checkpoints(examine, place):
    whole = (PUBLISHED / "coop_base_seed1_model.pth.tar-10").read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("data.pkl")]
        pickled = archive.read(name)
    forged = changed(pickled).map(lambda data: repacked(whole, lambda _: data))

    def check(content):
        load_both_ways(place, content, "changed and forged checkpoints")

    examine(st.one_of(changed(whole), forged, st.binary(max_size=60), VALUES.map(pickle.dumps)), check)
    assert load_checkpoint(str(PUBLISHED / "coop_base_seed1_model.pth.tar-10"))["epoch"] == 10


def archives():
    """Bytes of a small tar.gz, a tar and a zip."""
    found = []
    for mode in ("w:gz", "w"):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=mode) as tar:
            for name in ("images/a.jpg", "images/b/c.jpg"):
                info = tarfile.TarInfo(name)
                info.size = 30
                tar.addfile(info, io.BytesIO(b"x" * 30))
        found.append(stream.getvalue())
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/a.jpg", b"x" * 300)
        archive.writestr("images/b/c.jpg", b"y" * 30)
    return [*found, stream.getvalue()]


def test_archives(examine, place, monkeypatch):
    import shutil

    monkeypatch.setattr("datasets.unpack.tqdm", lambda members, **kwargs: members)
    box = place / "box"

    def check(content):
        shutil.rmtree(box, ignore_errors=True)
        box.mkdir()
        (box / "archive").write_bytes(content)
        with refused_or_read("archives"):
            extract(str(box / "archive"), str(box / "inside"))
        assert {p.name for p in box.iterdir()} <= {"archive", "inside"}
        assert not any(p.is_symlink() for p in box.rglob("*"))

    examine(st.one_of(*map(changed, archives()), st.binary(max_size=60)), check)
