"""Data order and augmentation are functions of (seed, epoch, sample); bad images and sizes are clear errors."""

import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from dassl.data import DataManager, DatasetWrapper, SampleIndex, build_data_loader, data_manager, set_loader_epoch
from dassl.data.datasets import DatasetBase, Datum
from dassl.data.samplers import build_sampler
from dassl.data.transforms import AVAI_CHOICES, build_transform
from dassl.data.transforms.batches import split
from dassl.utils import UserError, kept_rng, read_image, seed_rng


def epoch_batches(loader, epoch):
    set_loader_epoch(loader, epoch)
    return [(batch["index"].tolist(), batch["img"]) for batch in loader]


def same(a, b):
    return [i for i, _ in a] == [i for i, _ in b] and all(torch.equal(x, y) for (_, x), (_, y) in zip(a, b))


def test_data_do_not_depend_on_workers_or_on_what_came_before(make_cfg):
    alone = DataManager(make_cfg()).train_loader_x
    epochs = [epoch_batches(alone, epoch) for epoch in range(3)]
    assert not same(epochs[0], epochs[1])
    random.seed(123), np.random.seed(5), torch.manual_seed(9)
    for workers in (0, 3, 8):
        loader = DataManager(make_cfg("DATALOADER.NUM_WORKERS", workers)).train_loader_x
        for epoch in (2, 0, 1):
            assert same(epoch_batches(loader, epoch), epochs[epoch])
    other = DataManager(make_cfg("SEED", 2)).train_loader_x
    assert not same(epoch_batches(other, 0), epochs[0])


KILLED_WHEN_A_WORKER_STARTS = """
import os, signal, sys, time, torch
from dassl.config import get_cfg_default
from dassl.data.data_manager import _Loader
loader = _Loader(torch.arange(4), num_workers=int(sys.argv[1]))
loader.worker_init_fn = lambda worker: os.write(1, b"worker %d\\n" % worker)
if len(sys.argv) == 2:
    print(sum(map(int, loader)), flush=True)
    os.register_at_fork(after_in_child=lambda: time.sleep(1), after_in_parent=lambda: os.kill(os.getpid(), signal.SIGKILL))
next(iter(loader))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("late", [(), ("late",)])
def test_workers_end_with_a_killed_run_also_where_they_have_just_started(late):
    command = [sys.executable, "-c", KILLED_WHEN_A_WORKER_STARTS, "2", *late]
    ended = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, timeout=100
    )  # until the last worker has let go of the pipe
    assert ended.returncode == -signal.SIGKILL
    assert sorted(ended.stdout.split("\n"))[-2:] == ["worker 0", "worker 1"] and ("6" in ended.stdout.split("\n")) == (not late)


def test_second_turn_of_an_epoch_differs_and_nested_iteration_works(make_cfg):
    loader = DataManager(make_cfg("DATALOADER.NUM_WORKERS", 2)).train_loader_x
    set_loader_epoch(loader, 0)
    outer = []
    for batch in loader:
        outer += batch["index"].tolist()
        inner = [i for inner_batch in loader for i in inner_batch["index"].tolist()]
        assert len(inner) == 10
    assert len(outer) == len(set(outer)) == 10
    assert outer != inner


def test_loading_leaves_the_random_states_alone(make_cfg):
    loader = DataManager(make_cfg()).train_loader_x
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    epoch_batches(loader, 0)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


class Plain(DatasetWrapper):
    def __getitem__(self, idx):
        return {**super().__getitem__(idx), "mine": True}


@pytest.mark.parametrize(
    "opts, wrapper",
    [
        ((), DatasetWrapper),
        ((), Plain),
        (("INPUT.TRANSFORMS", "('random_crop', 'random_flip')", "INPUT.SIZE", "(10, 8)"), DatasetWrapper),
        (("INPUT.TRANSFORMS", "('random_resized_crop', 'normalize', 'gaussian_noise')"), DatasetWrapper),
        (("DATALOADER.K_TRANSFORMS", 2, "DATALOADER.RETURN_IMG0", True), DatasetWrapper),
    ],
)
@pytest.mark.parametrize("seeded", [True, False])
def test_a_batch_has_the_items_that_there_are_one_by_one(make_cfg, opts, wrapper, seeded):
    cfg = make_cfg(*opts)
    data = wrapper(cfg, DataManager(cfg).dataset.train_x, build_transform(cfg), is_train=True)
    indices = [SampleIndex(i, seed=1, epoch=3) for i in (7, 0, 7, 2)] if seeded else [7, 0, 7, 2]
    torch.manual_seed(0)
    alone, state = [data[i] for i in indices], torch.get_rng_state()
    torch.manual_seed(0)
    together = data.__getitems__(indices)
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(alone, together, strict=True):
        assert one.keys() == other.keys() and one["index"] == other["index"] and one["label"] == other["label"]
        for name in {"img", "img0"} & one.keys():
            for a, b in zip(*([x] if torch.is_tensor(x) else x for x in (one[name], other[name])), strict=True):
                assert a.dtype == b.dtype and a.is_contiguous() == b.is_contiguous() and torch.equal(a, b)


def test_a_batch_of_unlike_images(make_cfg):
    cfg, images = make_cfg(), [Image.new("RGB", (8, 8), "red"), Image.new("L", (8, 8), 3), np.zeros((8, 8, 3), np.uint8)]
    normalize = transforms.Normalize(mean=[0.5], std=[0.1])
    chain = transforms.Compose([transforms.ToTensor(), normalize])
    _, finish = split(chain)
    for group in (images, images[:2], images[:1] + [Image.new("RGB", (4, 8))]):
        assert all(torch.equal(a, chain(b)) for a, b in zip(finish(group), group, strict=True))
    assert split(build_transform(cfg, choices=["cutout"]))[1] is None and split(None) == (None, None)


def test_item_of_the_wrapper(make_cfg):
    cfg = make_cfg("DATALOADER.K_TRANSFORMS", 2, "DATALOADER.RETURN_IMG0", True)
    dm = DataManager(cfg)
    item = dm.train_loader_x.dataset[SampleIndex(7, seed=1, epoch=3)]
    assert set(item) == {"label", "domain", "impath", "index", "img", "img0"}
    assert (item["label"], item["domain"], item["index"]) == (1, 1, 7)
    assert len(item["img"]) == 2 and item["img"][0].shape == (3, 8, 8)
    assert not torch.equal(*item["img"])
    test_item = dm.test_loader.dataset[0]
    assert test_item["img"].shape == (3, 8, 8)
    several = DatasetWrapper(make_cfg(), dm.dataset.test, transform=[dm.test_loader.dataset.transform] * 3)[0]
    assert torch.equal(several["img"], several["img3"]) and "img2" in several


@pytest.mark.parametrize("workers, damage", [(0, "missing"), (0, "truncated"), (0, "text"), (1, "truncated")])
def test_bad_image_is_named_also_from_a_worker(make_cfg, tmp_path, workers, damage):
    path = tmp_path / "bad.png"
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(path)
    item = Datum(str(path))
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:60] if damage == "truncated" else b"not an image")
    cfg = make_cfg("DATALOADER.NUM_WORKERS", workers)
    tfm = build_transform(cfg, is_train=False)
    loader = build_data_loader(cfg, data_source=[item] * 4, batch_size=2, tfm=tfm, is_train=False)
    with pytest.raises(UserError) as e:
        list(loader)
    assert str(path) in str(e.value)
    assert "Traceback" not in str(e.value) and "\n" not in str(e.value)


def test_batches_larger_than_the_data(make_cfg, capsys):
    loader = DataManager(make_cfg("DATALOADER.TRAIN_X.BATCH_SIZE", 100)).train_loader_x
    assert [len(batch["label"]) for batch in loader] == [12]
    assert "exceeds the 12 training images" in capsys.readouterr().out
    with pytest.raises(UserError, match="BATCH_SIZE|classes"):
        DataManager(make_cfg("DATALOADER.TRAIN_X.SAMPLER", "RandomClassSampler", "DATALOADER.TRAIN_X.BATCH_SIZE", 64))
    with pytest.raises(UserError, match="no images"):
        build_data_loader(make_cfg(), data_source=[], is_train=False)


def test_table_and_transform_lines(make_cfg, capsys):
    DataManager(make_cfg())
    out = capsys.readouterr().out
    assert "---------  -------\nDataset    TinyPNG\n# classes  3\n# train_x  12\n# val      6\n# test     15\n" in out
    assert "Building transform_train\n+ random resized crop (size=(8, 8), scale=(0.08, 1.0))\n+ random flip\n" in out
    assert "+ to torch tensor of range [0, 1]\n+ normalization (mean=[0.485, 0.456, 0.406], std=" in out
    assert "Building transform_test\n+ resize the smaller edge to 8\n+ 8x8 center crop\n" in out


def test_every_transform_runs_and_is_seeded(make_cfg, image_root):
    cfg = make_cfg("INPUT.SIZE", "(16, 12)")
    image = read_image(str(image_root / "train_0_0.png"))
    for choice in AVAI_CHOICES:
        transform = build_transform(cfg, choices=[choice])
        views = []
        for _ in range(2):
            with kept_rng():
                seed_rng(5)
                views.append(transform(image))
        if choice == "random_resized_crop":
            assert views[0].shape == (3, 16, 12)
        assert torch.equal(*views), choice
    with pytest.raises(UserError, match="did you mean random_flip"):
        build_transform(cfg, choices=["random_flipp"])


def test_domain_and_class_samplers(make_cfg):
    data = DataManager(make_cfg()).dataset.train_x
    for name in ("RandomDomainSampler", "SeqDomainSampler"):
        order = list(build_sampler(name, make_cfg(), data, batch_size=4))
        assert len(order) == 12 == len(set(order))
        for start in range(0, 12, 4):
            assert [data[i].domain for i in order[start : start + 4]] in ([0, 0, 1, 1], [1, 1, 0, 0])
    sampler = build_sampler("RandomClassSampler", make_cfg(), data, batch_size=4, n_ins=2)
    order = list(sampler)
    assert len(order) == len(sampler) > 0
    for start in range(0, len(order), 4):
        labels = [data[i].label for i in order[start : start + 4]]
        assert labels[0] == labels[1] != labels[2] == labels[3]
    with pytest.raises(UserError, match="multiple"):
        build_sampler("RandomDomainSampler", make_cfg(), data, batch_size=5)
    with pytest.raises(UserError, match="did you mean RandomSampler"):
        build_sampler("RandomSample", make_cfg(), data)


def test_fewshot_draw_is_pythons(image_root):
    items = [Datum(str(image_root / f"test_{label}_{i}.png"), label, 0, "c") for label in (1, 0) for i in range(5)]
    base = DatasetBase(train_x=items)
    random.seed(3)
    drawn = base.generate_fewshot_dataset(items, num_shots=2)
    random.seed(3)
    assert drawn == random.sample(items[:5], 2) + random.sample(items[5:], 2)
    assert base.generate_fewshot_dataset(items, num_shots=0) is items
    assert len(base.generate_fewshot_dataset(items, num_shots=7)) == 10
    assert len(base.generate_fewshot_dataset(items, num_shots=7, repeat=True)) == 14
    assert (base.num_classes, base.classnames, base.lab2cname) == (2, ["c", "c"], {1: "c", 0: "c"})


def test_missing_image_of_a_dataset_is_an_error():
    with pytest.raises(UserError, match="/nowhere/a.png"):
        Datum("/nowhere/a.png")


def test_decoded_training_images_stay_in_memory_up_to_a_limit(make_cfg, monkeypatch):
    read = []
    monkeypatch.setattr(data_manager, "read_image", lambda path, upright: (read.append(path), read_image(path))[1])
    epochs, paths = [], []
    for megabytes in (0.0, 256.0, 3.5 * 12 * 14 * 3 / 2**20):  # the last: three images
        loader = DataManager(make_cfg("DATALOADER.DECODED_MB", megabytes)).train_loader_x
        epochs.append([epoch_batches(loader, epoch) for epoch in (0, 1)])
        paths.append(read.copy())
        read.clear()
    uncached, all_kept, three_kept = paths
    assert len(uncached) == 20 and sorted(all_kept) == sorted(set(uncached))
    again = [path for path in uncached[10:] if path not in uncached[:3]]
    assert three_kept == uncached[:10] + again and len(again) < 10
    assert all(same([a], [b]) for other in epochs[1:] for x, y in zip(epochs[0], other) for a, b in zip(x, y))
