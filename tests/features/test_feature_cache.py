"""The cache itself: entries are verified, remade when stale or damaged, bounded, computed by one process of several."""

import multiprocessing
import os
import stat
import time
import weakref

import pytest
import torch
from safetensors.torch import load_file
from torchvision import transforms as T

from basics import UserError
from basics.files import PART_SUFFIX
from prompting.feature_cache import FeatureCache, describe, files_stamp, module_hash
from prompting.feature_file import Rows, as_bytes


class Counter:
    """A computation that counts how often it is made."""

    def __init__(self, rows=10):
        self.calls, self.rows = 0, rows

    def __call__(self):
        self.calls += 1
        yield from self.values().split(3)

    def values(self):
        return torch.arange(self.rows * 4, dtype=torch.float32).view(self.rows, 4) / 3


@pytest.fixture
def log():
    return []


@pytest.fixture
def cache(tmp_path, log):
    return FeatureCache(tmp_path / "cache", 1.0, log.append)


def entries(cache):
    return sorted(p for p in cache.folder.iterdir() if p.suffix == ".safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_read_back_bit_for_bit(cache, dtype):
    values = torch.randn(7, 5).to(dtype)
    kept, read = cache.fetch("x", {"a": 1}, "s", 7, lambda: values.split(2))
    again, read_again = cache.fetch("x", {"a": 1}, "s", 7, Counter())
    assert (read, read_again) == (False, True)
    assert again.dtype == dtype and torch.equal(again, values) and torch.equal(kept, values)
    (path,) = entries(cache)
    assert torch.equal(load_file(path)["features"], values)  # the library's own reading


def test_another_identity_is_another_entry(cache):
    compute = Counter()
    for identity in ({"a": 1}, {"a": 2}, {"a": 1, "b": 0}):
        cache.fetch("x", identity, "s", 10, compute)
    assert compute.calls == 3 == len(entries(cache))


def test_stale_entry_is_remade_and_said(cache, log):
    compute = Counter()
    cache.fetch("test images", {"a": 1}, "before", 10, compute)
    assert not log
    _, read = cache.fetch("test images", {"a": 1}, "after", 10, compute)
    assert not read and compute.calls == 2 and len(entries(cache)) == 1
    assert len(log) == 1 and "changed" in log[0] and "test images" in log[0]
    assert cache.fetch("test images", {"a": 1}, "after", 10, compute)[1]


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("harm", [
    lambda data: b"", lambda data: data[:-1], lambda data: data[:20], lambda data: flip(data, len(data) - 3),
    lambda data: data.replace(b"F32", b"I32"), lambda data: data.replace(b"[10,4]", b"[4,10]"),
    lambda data: b"\xff" * len(data),
])  # fmt: skip
def test_damaged_entry_is_remade_and_said(cache, log, harm):
    compute = Counter()
    cache.fetch("x", {"a": 1}, "s", 10, compute)
    (path,) = entries(cache)
    whole = path.read_bytes()
    assert harm(whole) != whole
    path.write_bytes(harm(whole))
    features, read = cache.fetch("x", {"a": 1}, "s", 10, compute)
    assert not read and compute.calls == 2 and torch.equal(features, Counter().values())
    assert len(log) == 1 and "damaged" in log[0] and str(path) in log[0]
    assert cache.fetch("x", {"a": 1}, "s", 10, compute)[1]


def test_an_entry_under_anothers_name_is_not_believed(cache, log):
    cache.fetch("x", {"a": 1}, "s", 10, Counter())
    (first,) = entries(cache)
    cache.fetch("x", {"a": 2}, "s", 3, Counter(3))
    (second,) = set(entries(cache)) - {first}
    os.replace(second, first)
    features, read = cache.fetch("x", {"a": 1}, "s", 10, Counter())
    assert not read and len(features) == 10 and "damaged" in log[0]


def test_least_recently_used_entries_go(tmp_path, log):
    cache = FeatureCache(tmp_path, 50e-6, log.append)  # 50 kB
    for number in range(3):
        cache.fetch("x", {"n": number}, "s", 1000, Counter(1000))  # 16 kB each
        os.utime(max(entries(cache), key=lambda p: p.stat().st_mtime), (number, number))
    assert cache.fetch("x", {"n": 0}, "s", 10, Counter())[1]  # used just now
    other = tmp_path / "notes.safetensors"
    other.write_text("not ours")
    cache.fetch("x", {"n": 3}, "s", 1000, Counter(1000))
    assert cache.size() <= 50e3 and other.exists() and "is full" in log[-1]
    kept = [cache.fetch("x", {"n": n}, "s", 1, Counter(1))[1] for n in (0, 2, 3)]
    assert kept == [True] * 3 and not cache.fetch("x", {"n": 1}, "s", 1, Counter(1))[1]


def test_too_large_an_entry_is_not_kept(tmp_path, log):
    cache = FeatureCache(tmp_path, 1e-6, log.append)
    features, read = cache.fetch("x", {}, "s", 1000, Counter(1000))
    assert not read and len(features) == 1000 and not entries(cache) and "not kept" in log[0]


def test_large_features_stay_in_their_file(tmp_path, log, monkeypatch):
    monkeypatch.setattr("prompting.feature_cache._HELD", 100)
    cache, compute = FeatureCache(tmp_path / "cache", 1.0, log.append), Counter(100)
    for expected in (False, True):
        features, read = cache.fetch("x", {}, "s", 100, compute)
        assert read == expected and isinstance(features, Rows) and features.nbytes == 1600
        assert torch.equal(torch.cat(list(features.split([30, 50, 0, 20]))), compute.values())
    (path,) = entries(cache)
    path.unlink()  # the folder may be deleted while runs read from it
    assert torch.equal(torch.cat(list(features.split([100]))), compute.values())
    os.truncate(f"/proc/self/fd/{features._file}", 500)
    with pytest.raises(UserError, match="can't be read any more"):
        list(features.split([100]))
    assert compute.calls == 1 and not log


def test_large_features_are_not_all_in_memory(tmp_path, monkeypatch):
    alive, most = weakref.WeakSet(), 0

    def compute():
        nonlocal most
        for _ in range(50):
            part = torch.ones(1000, 64)
            alive.add(part)
            most = max(most, len(alive))
            yield part

    monkeypatch.setattr("prompting.feature_cache._HELD", 100)
    FeatureCache(tmp_path / "cache", 1.0).fetch("x", {}, "s", 50_000, compute)
    assert most <= 3


@pytest.mark.parametrize("when", ["at the third part", "at the end"])
def test_a_disk_that_fills_up_while_large_features_are_written(tmp_path, log, monkeypatch, when):
    monkeypatch.setattr("prompting.feature_cache._HELD", 100)
    cache, compute, written = FeatureCache(tmp_path / "cache", 1.0, log.append), Counter(100), []

    def full(file):
        raise OSError(28, "No space left on device")

    def bytes_or_full(part):
        written.append(part)
        return full(None) if len(written) == 5 else as_bytes(part)

    if when == "at the end":
        monkeypatch.setattr("os.fsync", full)
    else:
        monkeypatch.setattr("prompting.feature_file.as_bytes", bytes_or_full)
    features, read = cache.fetch("x", {}, "s", 100, compute)
    assert torch.equal(features, compute.values()) and not read and compute.calls == 2
    assert len(log) == 1 and "no space left" in log[0] and not list(cache.folder.glob("*.safetensors"))
    assert not list(cache.folder.glob(f".*{PART_SUFFIX}"))


@pytest.mark.parametrize("error", [UserError("a.png is damaged"), OSError("a.png can't be read")])
def test_an_error_of_encoding_is_not_one_of_the_cache(tmp_path, log, monkeypatch, error):
    monkeypatch.setattr("prompting.feature_cache._HELD", 100)

    def compute():
        yield torch.ones(50, 4)
        raise error

    with pytest.raises(type(error)) as caught:
        FeatureCache(tmp_path / "cache", 1.0, log.append).fetch("x", {}, "s", 100, compute)
    assert caught.value is error and not log and not list((tmp_path / "cache").glob("*.safetensors"))


def test_what_a_killed_run_left_goes(cache):
    cache.folder.mkdir()
    old, new, users = (cache.folder / name for name in (f".old{PART_SUFFIX}", f".new{PART_SUFFIX}", ".notes.tmp"))
    for file in (old, new, users):
        file.touch()
    for file in (old, users):
        os.utime(file, (time.time() - 2 * 24 * 3600,) * 2)
    cache.fetch("x", {}, "s", 10, Counter())
    assert not old.exists() and new.exists() and users.exists()


def test_no_place_to_keep_is_no_failure(tmp_path, log):
    (tmp_path / "file").write_text("in the way")
    cache = FeatureCache(tmp_path / "file" / "cache", 1.0, log.append)
    for _ in range(2):
        features, read = cache.fetch("x", {}, "s", 10, Counter())
        assert not read and len(features) == 10
    assert len(log) == 1 and "can't be kept" in log[0]


def test_entries_are_for_all_who_may_read_the_data(cache):
    cache.fetch("x", {}, "s", 10, Counter())
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(entries(cache)[0].stat().st_mode) == 0o666 & ~mask


def test_size_must_be_positive(tmp_path):
    with pytest.raises(UserError, match="0"):
        FeatureCache(tmp_path, 0)


def fetch_in_process(folder, calls, barrier):
    def compute():
        with calls.get_lock():
            calls.value += 1
        time.sleep(0.3)
        return Counter()()

    barrier.wait()
    features, _ = FeatureCache(folder, 1.0).fetch("x", {"a": 1}, "s", 10, compute)
    assert torch.equal(features, Counter().values())


def test_of_several_processes_one_computes(tmp_path):
    context = multiprocessing.get_context("fork")
    calls, barrier = context.Value("i", 0), context.Barrier(3)
    processes = [context.Process(target=fetch_in_process, args=(tmp_path, calls, barrier)) for _ in range(3)]
    for p in processes:
        p.start()
    for p in processes:
        p.join(100)
    assert [p.exitcode for p in processes] == [0, 0, 0] and calls.value == 1


def test_stamp_sees_replaced_files_of_equal_size_and_time(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    before, times = files_stamp([file]), file.stat()
    assert files_stamp([file]) == before
    time.sleep(0.02)
    file.write_bytes(b"two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert files_stamp([file]) != before
    with pytest.raises(UserError, match="gone"):
        files_stamp([tmp_path / "gone.png"])


def test_hash_of_an_encoder_sees_weights_and_architecture():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.GELU())
    same = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.GELU())
    same.load_state_dict(net.state_dict())
    assert module_hash(net) == module_hash(same)
    with torch.no_grad():
        same[0].bias[1] += 1e-7
    assert module_hash(net) != module_hash(same)
    same.load_state_dict(net.state_dict())
    assert module_hash(net) != module_hash(torch.nn.Sequential(same[0], torch.nn.ReLU()))
    attention = [torch.nn.MultiheadAttention(8, heads) for heads in (1, 2)]
    attention[1].load_state_dict(attention[0].state_dict())
    assert module_hash(attention[0]) != module_hash(attention[1])


class Shift:
    def __init__(self, by, then=None):
        self.by, self.then = by, then

    def __call__(self, x):
        return x + self.by


def test_transforms_are_described_or_refused():
    chain = lambda size: T.Compose([T.Resize(size), T.CenterCrop(32), T.ToTensor()])  # noqa: E731
    assert describe(chain(32)) == describe(chain(32)) != describe(chain(33))
    assert describe(Shift(1)) == describe(Shift(1)) != describe(Shift(2))
    assert describe(Shift(1, Shift(2))) != describe(Shift(1, Shift(3)))
    for opaque in (abs, lambda x: x, T.Lambda(abs), T.Compose([T.Lambda(abs)]), Shift(lambda x: x), Shift(1, describe)):
        assert describe(opaque) is None


def test_loading_workers_of_a_killed_run_do_not_hold_its_lock(tmp_path, log):
    """A run dies while it computes an entry, and leaves a fork that lives on: the next run doesn't wait for it."""
    reading, writing = os.pipe()

    def dies_with_the_lock():
        worker = os.fork()
        if worker == 0:
            time.sleep(60)
            os._exit(0)
        os.write(writing, str(worker).encode())
        os._exit(0)

    holder = os.fork()
    if holder == 0:
        FeatureCache(tmp_path / "cache", 1.0, lambda line: None).fetch("x", {}, "", 10, dies_with_the_lock)
        os._exit(1)
    assert os.waitpid(holder, 0)[1] == 0
    worker = int(os.read(reading, 20))
    try:
        os.kill(worker, 0)  # it lives on
        FeatureCache(tmp_path / "cache", 1.0, log.append).fetch("x", {}, "", 10, Counter())
    finally:
        os.kill(worker, 9)
        os.close(reading)
        os.close(writing)
    assert not any("waiting" in line for line in log)
