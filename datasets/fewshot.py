"""Few-shot samples: drawn as the published code draws them, and kept in `split_fewshot/` beside the images.

The draw: seed Python's random with the run's seed; group the training images by label in order of first appearance;
`random.sample(images, shots)` per class, a class with fewer images being taken whole without a draw; then the same for
the validation images with min(shots, 4). It happens before the base/new selection.

Three kinds of cache are read. `shot_16-seed_1.pkl` is the published code's pickle; where there is one it is used, and no
code in it is run. `shot_16-seed_1.json` is ours; it holds paths relative to the image folder, the hash of the split
that it was drawn from, so that a changed split is noticed, and a hash of the sample, so that damage is. A file of the
same name without these hashes is taken for a sample chosen by hand: it must fit the split, and is never overwritten.

`shot_16-seed_1_train.jsonl` and `…_val.jsonl` are lists that the authors of 2SFS publish; where they are, they are used.

A trainer from foreign/ may open the published cache itself: for it, the sample is written as such a pickle, too, with the
hash of the split beside the two lists.
"""

import hashlib
import json
import os
import pickle
import random

from basics import UserError, atomic_write, read_json
from basics.safe_pickle import safe_pickle_load
from dassl.data.datasets import Datum

from .annotations import read_lines
from .splits import Item, check_entries, group_by_label, keep, relative_path, to_data, to_entries

MAX_VAL_SHOTS = 4  # per class, as published
also_pickled = False  # set for trainers from foreign/
# The names under which published code pickles a Datum.
PICKLED_DATUM = {
    (module, "Datum"): Item for module in ("dassl.data.datasets.base_dataset", "dassl.data.datasets", "dassl.data.datasets.build")
}


def sample_per_class(data, shots, rng, what="training"):
    """Draw `shots` items of every class.

    Args:
        data: list of Item.
        shots: items per class; a class with fewer is taken whole, without a draw.
        rng: a random.Random.
        what: the split, for the log.

    Returns:
        List of Item, class by class in order of first appearance.
    """
    print(f"Creating a {shots}-shot dataset")
    chosen, groups = [], group_by_label(data)
    fewer = [items for items in groups.values() if len(items) < shots]
    if fewer:
        print(f"WARNING: {len(fewer)} of {len(groups)} classes have fewer than {shots} {what} images; all of theirs are taken")
    for items in groups.values():
        chosen.extend(rng.sample(items, shots) if len(items) >= shots else items)
    return chosen


def fewshot(train, val, test, num_shots, seed, cache_dir, image_dir):
    """The few-shot sample of a split: from a cache in `cache_dir`, else drawn and cached.

    Args:
        train, val, test: lists of Item, the whole split. `val` may be None: then only train is sampled.
        num_shots: images per class; below 1 there is no sampling.
        seed: the run's seed; below 0: none. Python's global generator is neither used nor changed.
        cache_dir: the dataset's `split_fewshot` folder.
        image_dir: folder that cached paths are relative to.

    Returns:
        Two lists of Item: train and val (None if `val` is).

    Raises:
        UserError: a cache is unreadable or doesn't fit the split.
    """
    if num_shots < 1:
        return train, val
    if seed < 0:
        print("Note: without a seed the few-shot sample is drawn at random, and not kept")
        rng = random.SystemRandom()
        train = sample_per_class(train, num_shots, rng)
        return train, None if val is None else sample_per_class(val, min(num_shots, MAX_VAL_SHOTS), rng, "validation")
    stem = os.path.join(cache_dir, f"shot_{num_shots}-seed_{seed}")
    digest = split_digest(train, val, test, image_dir)
    listed = _read_lists(stem, train, val, test, image_dir) if os.path.exists(stem + "_train.jsonl") else None
    if os.path.exists(stem + ".pkl"):
        cached = _read_published(stem + ".pkl", digest, train, val, test, image_dir)
        if cached and listed and _plain_entries(cached, image_dir) != _plain_entries(listed, image_dir):
            raise UserError(f"{stem}.pkl and {stem}_train.jsonl hold different samples; take one of them away")
        if cached:
            return cached
    sample = listed or _from_json(stem + ".json", digest, train, val, num_shots, seed, image_dir)
    if also_pickled:
        _keep_pickled(stem + ".pkl", digest, *sample)
    return sample


def validation_sample(train, val, test, own, num_shots, shots, seed):
    """`shots` validation images of every class, for protocols that take more than `fewshot` draws.

    As there, the draw follows that of the training images. Where the validation images are the test images (ImageNet), they are
    drawn from the training images that the run doesn't train on.

    Args:
        train, val, test: lists of Item, the whole split.
        own: the training images of the run.
        num_shots, seed: those of its sample.
        shots: validation images per class.

    Returns:
        List of Item.
    """
    rng = random.Random(seed) if seed >= 0 else random.SystemRandom()
    if {item.impath for item in val} & {item.impath for item in test}:
        own = {item.impath for item in own}
        val = [item for item in train if item.impath not in own]
    elif num_shots > 0:
        sample_per_class(train, num_shots, rng)
    return sample_per_class(val, shots, rng, "validation")


def _keep_pickled(path, digest, train, val):
    """Write a sample as the published code does, for programs that open the file themselves."""
    content = {"train": _plain(train), **({} if val is None else {"val": _plain(val)}), "split_sha256": digest}
    try:
        with atomic_write(path) as file:
            pickle.dump(content, file)
    except (OSError, UserError) as error:
        print(f"Note: {path} can't be written ({error}); going on without it")


def _plain(data):
    """Items as Dassl's own class, which published code can unpickle."""
    found = []
    for item in data:
        found.append(Datum.__new__(Datum))
        vars(found[-1]).update(_impath=item.impath, _label=item.label, _domain=item.domain, _classname=item.classname)
    return found


def _from_json(path, digest, train, val, num_shots, seed, image_dir):
    """A sample from our cache, else drawn and cached."""
    if os.path.exists(path):
        cached = _read_cache(path, digest, train, val, image_dir)
        if cached:
            return cached
    rng = random.Random(seed)
    train = sample_per_class(train, num_shots, rng)
    cache = {"version": 1, "shots": num_shots, "seed": seed, "split_sha256": digest, "train": to_entries(train, image_dir)}
    if val is not None:
        val = sample_per_class(val, min(num_shots, MAX_VAL_SHOTS), rng, "validation")
        cache["val"] = to_entries(val, image_dir)
    cache["sample_sha256"] = sample_digest(cache)
    if keep(cache, path):
        print(f"Saving preprocessed few-shot data to {path}")
    return train, val


def split_digest(train, val, test, image_dir):
    """Sha256 (hex) of a split's relative paths, labels and class names in order."""
    digest = hashlib.sha256()
    for data in (train, val or [], test):
        lines = (f"{relative_path(item.impath, image_dir)}\t{item.label}\t{item.classname}\n" for item in data)
        digest.update("".join(lines).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def sample_digest(cache):
    """Sha256 (hex) of what a JSON cache holds beside this very hash."""
    content = {key: value for key, value in cache.items() if key != "sample_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_cache(path, digest, train, val, image_dir):
    """Train and val of a JSON cache, or None where it was drawn from another split."""
    cache = read_json(path)
    if not isinstance(cache, dict) or "train" not in cache:
        raise UserError(
            f'{path} is not a few-shot file: it must be an object with the keys "train" and "val"; '
            f"delete it to have the sample drawn again"
        )
    own = [key for key in ("version", "split_sha256", "sample_sha256") if key in cache]
    if "sample_sha256" in cache and cache["sample_sha256"] != sample_digest(cache):
        raise UserError(
            f"{path} isn't as it was written: damaged, or edited; delete it to have the sample drawn again "
            f"(for a sample chosen by hand, take out {', '.join(own)})"
        )
    if cache.get("split_sha256", digest) != digest:
        print(f"{path} was drawn from another split (the split file has changed); drawing the sample again")
        return None
    print(f"Loading preprocessed few-shot data from {path}")
    sampled = [_known_entries(cache["train"], "train", path, train, image_dir), val]
    if val is not None and cache.get("val"):
        sampled[1] = _known_entries(cache["val"], "val", path, val, image_dir)
    return tuple(sampled)


def _known_entries(entries, part, path, data, image_dir):
    """Entries of a JSON cache as Item, after checking that each of them is in that part of the split."""
    check_entries(entries, part, path)
    wanted = {os.path.join(image_dir, impath) for impath, _, _ in entries}
    known = {relative_path(item.impath, image_dir): item for item in data if item.impath in wanted}
    for i, (impath, label, classname) in enumerate(entries):
        item = known.get(impath)
        if item is None or (item.label, item.classname) != (label, classname):
            raise UserError(
                f'{path}: entry {i} of "{part}", {[impath, label, classname]!r}, is not in the '
                f'split\'s "{part}"; correct the entry, or delete the file to have the sample drawn again'
            )
    if not entries:
        raise UserError(f'{path}: "{part}" is empty; delete the file to have the sample drawn again')
    return to_data(entries, image_dir)


def _read_published(path, digest, train, val, test, image_dir):
    """Train and val of a cache pickled by the published code, re-rooted at `image_dir`; None for one of ours of another split."""
    print(f"Loading preprocessed few-shot data from {path}")
    remedy = "delete it to have the sample drawn again"
    cache = safe_pickle_load(path, allow=PICKLED_DATUM)
    parts = ["train"]
    if val or (val is not None and isinstance(cache, dict) and cache.get("val")):
        parts.append("val")
    if not isinstance(cache, dict) or not all(isinstance(cache.get(part), list) for part in parts):
        raise UserError(f'{path} is not a few-shot cache: it must hold the lists "train" and "val"; {remedy}')
    if cache.get("split_sha256", digest) != digest:
        print("It was drawn from another split (the split file has changed); drawing the sample again")
        return None
    known = {relative_path(item.impath, image_dir): item for item in (*train, *(val or []), *test)}
    names = {item.label: item.classname for item in train}
    sampled = {part: [] for part in parts}
    for part in parts:
        for i, item in enumerate(cache[part]):
            place = f'{path}: item {i} of "{part}"'
            if not isinstance(item, Item):
                raise UserError(f"{place} is no Datum but {type(item).__name__}; {remedy}")
            sampled[part].append(_reroot(vars(item), place, known, names, image_dir))
    _warn_of_overlap(path, sampled["train"], test)
    moved = cache["train"] and cache["train"][0].impath != sampled["train"][0].impath
    if moved:
        print(f"Its paths, such as {cache['train'][0].impath!r}, are read below {image_dir}")
    return sampled["train"], sampled.get("val", val)


def _plain_entries(sample, image_dir):
    return [None if part is None else to_entries(part, image_dir) for part in sample]


def _read_lists(stem, train, val, test, image_dir):
    """Train and val of lists in the format of 2SFS: a file a part, in each line the private fields of a Datum as JSON.

    The paths may be absolute, or relative to any folder. A part that the split doesn't have needs no list.
    """
    known = {relative_path(item.impath, image_dir): item for item in (*train, *(val or []), *test)}
    names = {item.label: item.classname for item in train}
    sampled = {}
    for part in ("train", "val") if val else ("train",):
        path = f"{stem}_{part}.jsonl"
        print(f"Loading preprocessed few-shot data from {path}")
        sampled[part] = []
        for place, line in read_lines(path):
            try:
                item = json.loads(line)
            except (ValueError, RecursionError):
                raise UserError(f"{place}: not JSON; take the file away to have the sample drawn") from None
            if not isinstance(item, dict):
                raise UserError(f"{place}: not an object with _impath, _label and _classname")
            sampled[part].append(_reroot(item, place, known, names, image_dir))
    _warn_of_overlap(f"{stem}_train.jsonl", sampled["train"], test)
    return sampled["train"], sampled.get("val", val)


def _reroot(item, place, known, names, image_dir):
    """A published Datum's private fields as an Item below `image_dir`: the longest tail of its path that split or disk knows."""
    impath, label, classname = (item.get(key) for key in ("_impath", "_label", "_classname"))
    if not isinstance(impath, str) or isinstance(label, bool) or not isinstance(label, int):
        raise UserError(
            f"{place} has the path {impath!r} and the label {label!r}, not a string and an integer; "
            f"delete the file to have the sample drawn again"
        )
    parts = impath.replace("\\", "/").split("/")
    tails = ["/".join(parts[i:]) for i in range(len(parts))]
    tail = next((t for t in tails if t in known), None)
    if tail is None and ".." not in parts:
        tail = next((t for t in tails if t and os.path.isfile(os.path.join(image_dir, t.lstrip("/")))), None)
    if tail is None:
        raise UserError(
            f"{place}: the image {impath} is neither in the split nor below {image_dir}; "
            f"add the image, or delete the file to have the sample drawn again"
        )
    expected = (known[tail].label, known[tail].classname) if tail in known else (label, names.get(label))
    if expected != (label, classname):
        raise UserError(
            f"{place}: {impath} has label {label} ({classname!r}) but the split says {expected[0]} "
            f"({expected[1]!r}); delete the file to have the sample drawn again"
        )
    return Item(impath=os.path.join(image_dir, tail.lstrip("/")), label=label, classname=classname)


def _warn_of_overlap(path, train, test):
    """Say so where a published cache was drawn from another split and trains on images that this split tests on."""
    test_images = {item.impath for item in test}
    overlap = sum(item.impath in test_images for item in train)
    if overlap:
        print(
            f"WARNING: {overlap} of the {len(train)} training images in {path} are test images of the present "
            f"split, so it was drawn from another split; delete it to have the sample drawn from this one"
        )
