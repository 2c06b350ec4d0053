"""Few-shot samples: drawn once, cached, checked when read; published caches; the global generator."""

import json
import multiprocessing
import os
import pathlib
import pickle
import random
import shutil

import pytest
from miniatures import eurosat, imagenet, write_image, write_split

from dassl.data.datasets import Datum
from dassl.utils import UserError
from datasets.fewshot import sample_digest

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


@pytest.fixture
def mini(tmp_path):
    mini = eurosat(tmp_path)
    write_split(mini)
    return mini


def sample(dataset):
    return [(item.impath, item.label, item.classname) for item in dataset.train_x + (dataset.val or [])]


def cache_of(mini, shots=2, seed=1, suffix="json"):
    return mini.folder / "split_fewshot" / f"shot_{shots}-seed_{seed}.{suffix}"


def test_cache_holds_relative_paths_and_is_used(mini, build, capsys):
    first = build("EuroSAT", NUM_SHOTS=2)
    out = capsys.readouterr().out
    assert "Creating a 2-shot dataset" in out and f"Saving preprocessed few-shot data to {cache_of(mini)}" in out
    cache = json.loads(cache_of(mini).read_text())
    assert cache["shots"] == 2 and cache["seed"] == 1
    assert [os.path.join(mini.images, entry[0]) for entry in cache["train"]] == [i.impath for i in first.train_x]
    cache["train"].reverse()  # shows that the file, not a fresh draw, is what the second run uses
    cache_of(mini).write_text(json.dumps(cache))
    with pytest.raises(UserError, match="isn't as it was written"):
        build("EuroSAT", NUM_SHOTS=2)
    cache["sample_sha256"] = sample_digest(cache)
    cache_of(mini).write_text(json.dumps(cache))
    second = build("EuroSAT", NUM_SHOTS=2)
    assert f"Loading preprocessed few-shot data from {cache_of(mini)}" in capsys.readouterr().out
    assert [i.impath for i in second.train_x] == [i.impath for i in first.train_x][::-1]
    assert not [name for name in os.listdir(cache_of(mini).parent) if name.startswith(".")]


def test_data_folder_can_move(mini, build, tmp_path):
    first = build("EuroSAT", NUM_SHOTS=2)
    shutil.move(mini.folder, tmp_path / "elsewhere" / "eurosat")
    moved = build("EuroSAT", NUM_SHOTS=2, ROOT=str(tmp_path / "elsewhere"))
    assert [i.impath for i in moved.train_x] == [
        i.impath.replace(str(tmp_path), str(tmp_path / "elsewhere")) for i in first.train_x
    ]


def test_seeds_differ_and_repeat(mini, build):
    samples = {seed: sample(build("EuroSAT", NUM_SHOTS=2, seed=seed)) for seed in (1, 2, 3)}
    assert len({str(value) for value in samples.values()}) == 3
    shutil.rmtree(mini.folder / "split_fewshot")
    assert {seed: sample(build("EuroSAT", NUM_SHOTS=2, seed=seed)) for seed in (3, 2, 1)} == samples


def test_global_generator_is_neither_used_nor_changed(mini, build):
    random.seed(99)
    state = random.getstate()
    first = sample(build("EuroSAT", NUM_SHOTS=2))
    assert random.getstate() == state
    shutil.rmtree(mini.folder / "split_fewshot")
    random.seed(7)
    assert sample(build("EuroSAT", NUM_SHOTS=2)) == first


def test_sample_does_not_depend_on_directory_order(tmp_path, build, monkeypatch):
    eurosat(tmp_path)
    first = sample(build("EuroSAT", NUM_SHOTS=2))
    shutil.rmtree(tmp_path / "eurosat")
    eurosat(tmp_path)
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listdir(path), reverse=True))
    assert sample(build("EuroSAT", NUM_SHOTS=2)) == first


def test_class_with_fewer_images_is_taken_whole(mini, build):
    dataset = build("EuroSAT", NUM_SHOTS=16)
    assert len(dataset.train_x) == 4 * 5 and len(dataset.val) == 1 * 5


def test_changed_split_is_noticed(mini, build, capsys):
    build("EuroSAT", NUM_SHOTS=2)
    path = mini.folder / mini.split_file
    split = json.loads(path.read_text())
    moved = split["train"].pop(0)
    split["test"].append(moved)
    path.write_text(json.dumps(split))
    dataset = build("EuroSAT", NUM_SHOTS=2)
    out = capsys.readouterr().out
    assert f"{cache_of(mini)} was drawn from another split" in out and "drawing the sample again" in out
    assert os.path.join(mini.images, moved[0]) not in [item.impath for item in dataset.train_x]
    build("EuroSAT", NUM_SHOTS=2)
    assert "another split" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content, words",
    [
        ('{"train": [', "not valid JSON"),
        ("[]", "is not a few-shot file"),
        ('{"train": [], "val": []}', '"train" is empty'),
        ('{"train": [["Forest/forest_0000.jpg", "1", "Forest"]]}', "the label must be an integer"),
        ('{"train": [["Forest/forest_0000.jpg", 2, "Forest"]]}', 'is not in the split\'s "train"'),
        ('{"train": [["Forest/forest_0009.jpg", 1, "Forest"]]}', 'is not in the split\'s "train"'),
        ('{"train": [["../../x.jpg", 1, "Forest"]]}', "stay inside it"),
    ],
)
def test_bad_cache(mini, build, content, words):
    cache_of(mini).parent.mkdir()
    cache_of(mini).write_text(content)
    with pytest.raises(UserError) as error:
        build("EuroSAT", NUM_SHOTS=2)
    assert str(cache_of(mini)) in str(error.value) and words in str(error.value)
    assert cache_of(mini).read_text() == content


def test_sample_chosen_by_hand(tmp_path, build, capsys):
    """A file without the split's hash: used if it fits, for ImageNet too, and never overwritten."""
    mini = imagenet(tmp_path)
    entries = [
        [f"train/{item}/{item}_4.JPEG", label, name]
        for label, (item, name) in enumerate(
            [
                ("n01440764", "tench"),
                ("n01443537", "goldfish"),
                ("n01484850", "great white shark"),
                ("n02000001", "black grouse"),
                ("n04000001", "projectile"),
            ]
        )
    ]
    path = mini.folder / "split_fewshot" / "shot_1-seed_1.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"train": entries}))
    dataset = build("ImageNet", NUM_SHOTS=1)
    assert [os.path.relpath(i.impath, mini.images) for i in dataset.train_x] == [entry[0] for entry in entries]
    assert len(dataset.val) == len(dataset.test) == 10
    assert json.loads(path.read_text()) == {"train": entries}


def write_pickle(mini, items, shots=2, **parts):
    """A published cache: ``items`` of Forest, and an image of every other class."""
    path = cache_of(mini, shots, suffix="pkl")
    path.parent.mkdir(exist_ok=True)
    split = json.loads((mini.folder / mini.split_file).read_text())["train"]
    others = {label: datum(*entry) for entry in split if (label := entry[1]) != 1}
    path.write_bytes(pickle.dumps({"train": [*items, *others.values()], "val": items[:1], **parts}))
    return path


def datum(impath, label=1, classname="Forest"):
    """A Datum as published code pickles it; ours would look for the file."""
    item = Datum.__new__(Datum)
    item._impath, item._label, item._domain, item._classname = impath, label, 0, classname
    return item


def test_published_pickle(tmp_path, build, capsys):
    """The published cache, whose paths lie below /data/eurosat/2750, wins over ours; images are found here."""
    published = GOLDEN / "published" / "shot_4-seed_1.pkl"
    split = json.loads((GOLDEN / "split_zhou_EuroSAT_seed1_sorted.json").read_text())
    folder = tmp_path / "eurosat"
    for entries in split.values():
        for impath, _, _ in entries:
            write_image(folder / "2750" / impath)
    (folder / "split_zhou_EuroSAT.json").write_text(json.dumps(split))
    drawn = build("EuroSAT", NUM_SHOTS=4)
    shutil.copy(published, folder / "split_fewshot")
    capsys.readouterr()
    dataset = build("EuroSAT", NUM_SHOTS=4)
    out = capsys.readouterr().out
    assert f"Loading preprocessed few-shot data from {folder / 'split_fewshot' / 'shot_4-seed_1.pkl'}" in out
    assert f"such as '/data/eurosat/2750/AnnualCrop/AnnualCrop_27.jpg', are read below {folder / '2750'}" in out
    assert "are test images of the present split" in out
    assert dataset.train_x[0].impath == str(folder / "2750" / "AnnualCrop" / "AnnualCrop_27.jpg")
    assert len(dataset.train_x) == len(dataset.val) == 40 and sample(dataset) != sample(drawn)
    assert {len([i for i in dataset.train_x if i.label == label]) for label in range(10)} == {4}


@pytest.mark.parametrize("prefix", ["/data/eurosat/2750/", "C:\\data\\eurosat\\2750\\", "data/", ""])
def test_published_pickle_is_rerooted(mini, build, prefix):
    """Whatever lies before the path that the split knows."""
    separator = "\\" if "\\" in prefix else "/"
    write_pickle(mini, [datum(prefix + f"Forest{separator}forest_000{i}.jpg") for i in (1, 3)])
    dataset = build("EuroSAT", NUM_SHOTS=2)
    paths = [item.impath for item in dataset.train_x if item.classname == "Forest"]
    assert paths == [str(mini.images / "Forest" / f"forest_000{i}.jpg") for i in (1, 3)]


def test_published_pickle_with_an_image_outside_the_split(mini, build):
    write_image(mini.images / "Forest" / "new.jpg")
    write_pickle(mini, [datum("/old/2750/Forest/new.jpg")])
    assert build("EuroSAT", NUM_SHOTS=2).train_x[0].impath == str(mini.images / "Forest" / "new.jpg")


@pytest.mark.parametrize(
    "item, words",
    [
        (datum("/old/Forest/nowhere.jpg"), "neither in the split nor below"),
        (datum("/old/Forest/forest_0001.jpg", label=3), "but the split says 1"),
        (datum("/old/Forest/forest_0001.jpg", label="1"), "not a string and an integer"),
        (datum(7), "not a string and an integer"),
        (datum("/old/../../Forest/x.jpg"), "neither in the split nor below"),
        ("Forest/forest_0001.jpg", "is no Datum but str"),
    ],
)
def test_bad_published_pickle(mini, build, item, words):
    path = write_pickle(mini, [item])
    with pytest.raises(UserError) as error:
        build("EuroSAT", NUM_SHOTS=2)
    assert str(path) in str(error.value) and words in str(error.value)


def test_pickle_of_another_shape(mini, build):
    path = cache_of(mini, suffix="pkl")
    path.parent.mkdir()
    for content in (pickle.dumps(["train"]), pickle.dumps({"train": []}), b"\x80\x05nonsense", b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match="shot_2-seed_1.pkl"):
            build("EuroSAT", NUM_SHOTS=2)


class Hostile:
    def __reduce__(self):
        return os.mkdir, (os.environ["HOSTILE_TARGET"],)


def write_lists(mini, dataset, prefix="", seed=1):
    """The sample of a dataset as the authors of 2SFS publish theirs."""
    for part in ("train", "val"):
        items = getattr(dataset, "train_x" if part == "train" else part)
        path = cache_of(mini, seed=seed, suffix="json").with_name(f"shot_2-seed_{seed}_{part}.jsonl")
        with open(path, "w") as file:
            for item in items:
                impath = prefix + os.path.relpath(item.impath, mini.folder.parent)
                file.write(
                    json.dumps({"_impath": impath, "_label": item.label, "_domain": 0, "_classname": item.classname}) + "\n"
                )


@pytest.mark.parametrize("prefix", ["", "/somewhere/data/"])
def test_published_lists(mini, build, prefix, capsys):
    other = build("EuroSAT", NUM_SHOTS=2, seed=7)
    own = build("EuroSAT", NUM_SHOTS=2)
    write_lists(mini, other, prefix)
    capsys.readouterr()
    listed = build("EuroSAT", NUM_SHOTS=2)
    assert sample(listed) == sample(other) != sample(own)
    assert "seed_1_train.jsonl" in capsys.readouterr().out
    assert sample(build("EuroSAT", NUM_SHOTS=2, SUBSAMPLE_CLASSES="base")) != sample(own)


def test_published_lists_beside_another_published_sample(mini, build):
    """A trainer from foreign/ finds the listed sample as a pickle; a pickle of other images is refused."""
    other = build("EuroSAT", NUM_SHOTS=2, seed=7)
    write_lists(mini, other)
    pickled = {"train": [Datum(i.impath, i.label, 0, i.classname) for i in other.train_x], "val": []}
    pickled["val"] = [Datum(i.impath, i.label, 0, i.classname) for i in other.val]
    cache_of(mini, suffix="pkl").write_bytes(pickle.dumps(pickled))
    assert sample(build("EuroSAT", NUM_SHOTS=2)) == sample(other)
    pickled["train"].reverse()
    cache_of(mini, suffix="pkl").write_bytes(pickle.dumps(pickled))
    with pytest.raises(UserError, match="hold different samples"):
        build("EuroSAT", NUM_SHOTS=2)


@pytest.mark.parametrize(
    "line, words",
    [
        ("not JSON", "line 1: not JSON"),
        ("[1]", "line 1: not an object"),
        ("{}", "has the path None"),
        ('{"_impath": "2750/Forest/none.jpg", "_label": 0, "_classname": "x"}', "neither in the split nor below"),
        ("", "is empty"),
    ],
)
def test_bad_published_lists(mini, build, line, words):
    write_lists(mini, build("EuroSAT", NUM_SHOTS=2))
    path = cache_of(mini).with_name("shot_2-seed_1_val.jsonl")
    path.write_text(line + "\n")
    with pytest.raises(UserError, match=words):
        build("EuroSAT", NUM_SHOTS=2)
    path.unlink()
    with pytest.raises(UserError, match="val.jsonl"):
        build("EuroSAT", NUM_SHOTS=2)


def test_code_in_a_pickle_is_not_run(mini, build, tmp_path, monkeypatch):
    target = tmp_path / "was_run"
    monkeypatch.setenv("HOSTILE_TARGET", str(target))
    path = cache_of(mini, suffix="pkl")
    path.parent.mkdir()
    path.write_bytes(pickle.dumps({"train": [Hostile()], "val": []}))
    with pytest.raises(UserError, match="shot_2-seed_1.pkl"):
        build("EuroSAT", NUM_SHOTS=2)
    assert not target.exists()


def test_read_only_data_folder(mini, build, capsys, monkeypatch):
    """What can't be kept is made anew each time, with a note; the run goes on."""
    expected = sample(build("EuroSAT", NUM_SHOTS=2))
    shutil.rmtree(mini.folder / "split_fewshot")

    def refuse(obj, path):
        raise UserError(f"cannot write {path}: Read-only file system")

    monkeypatch.setattr("datasets.splits.write_json", refuse)
    assert sample(build("EuroSAT", NUM_SHOTS=2)) == expected
    assert "Read-only file system; going on without it" in capsys.readouterr().out


def build_in_child(build, queue):
    queue.put(sample(build("EuroSAT", NUM_SHOTS=2)))


def test_processes_at_once(mini, build):
    """Several runs that draw the same sample at once all get it, and leave one good cache."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=build_in_child, args=(build, queue)) for _ in range(4)]
    for child in children:
        child.start()
    samples = [queue.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    assert all(one == samples[0] for one in samples) and [child.exitcode for child in children] == [0] * 4
    assert json.loads(cache_of(mini).read_text())["shots"] == 2
    assert os.listdir(cache_of(mini).parent) == [cache_of(mini).name]
