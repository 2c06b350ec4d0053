"""TorchScript archives are read as data: equal to what PyTorch makes of them, and nothing in them is run."""

import argparse
import io
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from basics import UserError
from basics.safe_pickle import safe_torch_load
from dassl.utils import load_checkpoint
from prompting import load_clip
from prompting.torchscript import read_torchscript
from prompting.weights import read_weights
from tests.prompting.torchscript import make

OLD = Path(make.__file__).parent
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")


def read_by_pytorch(path):
    """For archives of these tests; it runs their code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(str(path), map_location="cpu").state_dict()


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Paths of archives that this PyTorch has written, and that 1.7.1 has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [*make.write(tmp_path_factory.mktemp("now")), *sorted(map(str, OLD.glob("*.pt")))]


def repacked(path, target, change):
    """Copy an archive with new parts: change(name without root, data) -> data, or None to leave it out; checksums are right."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as out:
        for info in source.infolist():
            data = change(info.filename.partition("/")[2], source.read(info))
            if data is not None:
                out.writestr(info.filename, data, compress_type=info.compress_type)
    return str(target)


def refusal(path):
    with pytest.raises(UserError) as error:
        read_weights(str(path))
    message = str(error.value)
    assert Path(path).name in message and "\n" not in message and "OpenAI's TorchScript archive" in message
    return message


@pytest.mark.parametrize("which", range(4), ids=["traced", "scripted half", "1.7.1 scripted half", "1.7.1 traced"])
def test_every_tensor_is_as_pytorch_reads_it(which, archives):
    expected, found = read_by_pytorch(archives[which]), read_weights(archives[which])
    assert found.keys() == expected.keys() and {"visual.bn1.running_mean", "input_resolution", "tied"} <= found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
        assert (found[name].dtype, found[name].stride()) == (value.dtype, value.stride()), name
    half = {v.dtype for v in found.values() if v.is_floating_point()}
    assert half == {torch.float16 if "half" in archives[which] else torch.float32}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int8, torch.int16, torch.int32, torch.uint8, torch.bool])
def test_types_of_values(dtype, tmp_path):
    module = nn.Module()
    module.register_buffer("values", torch.arange(6).view(2, 3).to(dtype))
    module.register_buffer("empty", torch.zeros(0, 3, dtype=dtype))
    module.register_buffer("rows", module.values[1].expand(1, 3))
    torch.jit.script(module).save(str(tmp_path / "types.pt"))
    expected, found = read_by_pytorch(tmp_path / "types.pt"), read_torchscript(tmp_path / "types.pt")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == dtype for name, value in expected.items())


class Writes(nn.Module):
    """Writes a file when PyTorch loads it."""

    def __init__(self, path):
        super().__init__()
        self.weight, self.path = nn.Parameter(torch.ones(2)), path

    def forward(self, x: torch.Tensor):
        return x

    @torch.jit.export
    def __getstate__(self):
        return (self.weight, self.path, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, str, bool]):
        torch.save(state[0], state[1])
        self.weight = state[0]
        self.path = state[1]
        self.training = state[2]


@pytest.fixture
def writes(tmp_path):
    """(path of an archive, path of the file that it writes when PyTorch loads it)."""
    target, holder = tmp_path / "written", nn.Module()
    holder.visual = Writes(str(target))
    torch.jit.script(holder).save(str(tmp_path / "ViT-B-16-mine.pt"))
    assert not target.exists()
    read_by_pytorch(tmp_path / "ViT-B-16-mine.pt")
    assert target.exists()  # the danger is real
    target.unlink()
    return tmp_path / "ViT-B-16-mine.pt", target


@pytest.mark.parametrize("read", [
    read_weights, safe_torch_load, load_checkpoint,
    lambda path: load_clip("ViT-B/16", str(path)), lambda path: load_clip("ViT-B-16/laion2b_s34b_b88k", str(path)),
], ids=["weights", "torch", "checkpoint", "OpenAI's", "open_clip's"])  # fmt: skip
def test_code_of_an_archive_is_not_run(read, writes, monkeypatch):
    path, target = writes
    monkeypatch.setattr(torch.jit, "load", None)
    with pytest.raises(UserError, match="mine.pt"):
        read(path)
    assert not target.exists()


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickle_in_an_archive_is_not_run(archives, tmp_path):
    target = tmp_path / "written"
    evil = pickle.dumps(Hostile(target), protocol=2)
    path = repacked(archives[0], tmp_path / "evil.pt", lambda name, data: evil if name == "data.pkl" else data)
    assert "open" in refusal(path) and not target.exists()
    constants = repacked(archives[0], tmp_path / "b.pt", lambda name, data: evil if name.endswith("constants.pkl") else data)
    assert read_weights(constants).keys() == read_weights(archives[0]).keys() and not target.exists()  # never looked at


def test_compressed_and_absurd_archives(archives, tmp_path):
    with zipfile.ZipFile(archives[0]) as source, zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as out:
        for name in source.namelist():
            out.writestr(name, source.read(name))
    assert "compressed" in refusal(tmp_path / "packed.pt")
    repacked(archives[0], tmp_path / "code.pt", lambda name, data: data)
    with zipfile.ZipFile(tmp_path / "code.pt", "a", zipfile.ZIP_DEFLATED) as out:
        out.writestr("traced/code/long.py", bytes(65 * 2**20))
    assert "unpack to more" in refusal(tmp_path / "code.pt")
    twice = tmp_path / "twice.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        repacked(archives[0], twice, lambda name, data: data)
        with zipfile.ZipFile(twice, "a") as out:
            out.writestr(out.namelist()[0], b"other values")
    assert "same name" in refusal(twice)


def test_members_that_share_their_bytes(archives, tmp_path):
    """A few bytes that stand for a thousand members."""
    whole = bytearray(Path(archives[0]).read_bytes())
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        largest = max(archive.infolist(), key=lambda info: info.compress_size * (info.compress_type == zipfile.ZIP_STORED))
    target = tmp_path / "shared.pt"
    target.write_bytes(whole)
    with zipfile.ZipFile(target, "a") as out:
        for i in range(2000):
            info = zipfile.ZipInfo(f"traced/data/more{i}")
            info.header_offset, info.CRC = largest.header_offset, largest.CRC
            info.file_size, info.compress_size = largest.file_size, largest.compress_size
            out.filelist.append(info)
        out._didModify = True
    assert "overlap" in refusal(target)


FORGED = {  # an edit of data.pkl, and what is said
    "key": (lambda data: data.replace(b"X\x01\x00\x00\x000q", b"X\x01\x00\x00\x00zq", 1), "it has no data/z"),
    "key outside": (lambda data: data.replace(b"X\x01\x00\x00\x000q", b"X\x07\x00\x00\x00../../xq", 1), "it has no data/../../x"),
    "class": (lambda data: data.replace(b"c__torch__.", b"c__torch__.x.", 1), "has no code/__torch__/x/"),
    "other module": (lambda data: data.replace(b"ctorch._utils\n_rebuild_tensor_v2", b"cos\nsystem", 1), "posix|os.system"),
    "cut": (lambda data: data[: len(data) // 2], "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
def test_forged_objects(what, archives, tmp_path):
    change, words = FORGED[what]
    seen = []

    def changed(name, data):
        if name != "data.pkl":
            return data
        seen.append(change(data) != data)
        return change(data)

    message = refusal(repacked(archives[0], tmp_path / "forged.pt", changed))
    assert seen == [True] and re.search(words, message), message


def module_of(tensor_arguments, count=4):
    """data.pkl of a module with one tensor, whose arguments (offset, shape, strides) and number of values are given."""

    class Storage:
        pass

    class Pickler(pickle._Pickler):  # the one in C doesn't ask for a class's name
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, "0", "cpu", count) if isinstance(value, Storage) else None

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Storage(), *tensor_arguments, False, {})

    stream = io.BytesIO()
    Pickler(stream, 2).dump(Tensor())
    tensor = stream.getvalue()[2:-1]
    return b"\x80\x02c__torch__\nM\n)\x81}X\x01\x00\x00\x00w" + tensor + b"sb."


def written(path, data_pkl, source=b'class M(Module):\n  __parameters__ = ["w", ]\n  __buffers__ = []\n'):
    with zipfile.ZipFile(path, "w") as out:
        for name, data in {"data.pkl": data_pkl, "data/0": bytes(16), "constants.pkl": b"", "code/__torch__.py": source,
                           "version": b"3\n"}.items():  # fmt: skip
            out.writestr(f"m/{name}", data)
    return path


@pytest.mark.parametrize("arguments, count", [
    ((0, (5,), (1,)), 4), ((0, (5,), (1,)), 5), ((1, (4,), (1,)), 4), ((0, (2, 2), (3, 1)), 4), ((0, (10**6, 10**6), (0, 0)), 4),
    ((0, (-2,), (1,)), 4), ((0, (2,), (-1,)), 4), ((-1, (2,), (1,)), 4), ((0, (2, 2), (1,)), 4), ((0, (2**70,), (1,)), 4),
    ((0, (2.0,), (1,)), 4), ((0, (4,), (1,)), 2**70), ((0, (4,), (1,)), -4), ((0, "22", (1, 1)), 4),
])  # fmt: skip
def test_tensors_larger_than_their_values(arguments, count, tmp_path):
    assert torch.equal(read_weights(written(tmp_path / "whole.pt", module_of((0, (2, 2), (2, 1)))))["w"], torch.zeros(2, 2))
    refusal(written(tmp_path / "forged.pt", module_of(arguments, count)))


def test_modules_that_hold_one_another(tmp_path):
    itself = b"\x80\x02c__torch__\nM\n)\x81q\x00}X\x01\x00\x00\x00wh\x00sb."
    assert "hold one another" in refusal(written(tmp_path / "itself.pt", itself))
    deep = b"\x80\x02" + b"c__torch__\nM\n)\x81}X\x01\x00\x00\x00w" * 50_000 + b"N" + b"sb" * 50_000 + b"."
    assert read_weights(written(tmp_path / "deep.pt", deep)) == {}


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints_larger_than_their_values(legacy, tmp_path):
    path = tmp_path / "large.pt"
    torch.save({"w": torch.zeros(1).expand(10**6, 10**6)}, path, _use_new_zipfile_serialization=not legacy)
    for read in (safe_torch_load, read_weights):
        with pytest.raises(UserError, match="larger than its values"):
            read(path)


def test_options_of_training_scripts_are_inert(tmp_path):
    path = tmp_path / "trained.pt"
    torch.save({"state_dict": {"w": torch.ones(2)}, "args": argparse.Namespace(out=Path("x"), lr=0.1)}, path)
    assert torch.equal(read_weights(path)["state_dict"]["w"], torch.ones(2))
    assert safe_torch_load(path)["args"].state["lr"] == 0.1
