"""Checkpoints and archives of any contents: read or refused with a message, nothing run or written elsewhere."""

import io
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import nn

from dassl.engine import TrainerBase
from dassl.utils import load_checkpoint
from datasets.unpack import extract
from prompting.weights import read_weights
from tests.prompting.torchscript import make
from tests.stress.fuzzing import PUBLISHED, SCALARS, VALUES, WORDS, changed, refused_or_read

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
            data = change(data) if info.filename.endswith("data.pkl") else data
            out.writestr(info.filename, data, compress_type=info.compress_type)
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


def test_changed_torchscript(examine, place):
    whole = next(Path(make.__file__).parent.glob("*traced.pt")).read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        pickled = archive.read("traced/data.pkl")
    forged = changed(pickled).map(lambda data: repacked(whole, lambda _: data))
    path = place / "archive.pt"

    def check(content):
        path.write_bytes(content)
        with refused_or_read("changed and forged TorchScript archives"):
            assert all(isinstance(value, torch.Tensor) for value in read_weights(path).values())

    examine(st.one_of(changed(whole), forged, st.binary(max_size=60)), check)


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
