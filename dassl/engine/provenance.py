"""Where the numbers of a run come from: its data, its weights, the code and the libraries."""

import hashlib
import importlib.metadata
import json
import os
import os.path as osp
import platform
import subprocess

import torch
from torch import nn

from basics import UserError, home, own_files, read_json
from basics.files import relative_to
from basics.hashes import digest, file_hash, source_hash, state_hash
from basics.identity import deciding

from ..utils import parallel

SPLITS = {"train_x": "training images", "train_u": "unlabelled images", "val": "validation images", "test": "test images"}
CONTENTS_UP_TO = 256 * 2**20  # bytes of a split's image files; of a larger split only the sizes of the files are compared
BUILT_FROM = "built_from.json"  # in the installed package: what git said of the checkout that it was built in
LIBRARIES = ("torch", "torchvision", "open_clip_torch", "numpy", "pillow", "scikit-learn")


def identity_of(trainer):
    """The identity of what ``trainer`` is about to do: see ``basics.identity``."""
    return {**deciding(trainer.cfg), **made_from(trainer)}


def made_from(trainer):
    """The part of an identity that isn't in the configuration: {name: text}."""
    found = {**data_identity(trainer.dm.dataset, trainer.cfg.DATASET.ROOT), **trainer.made_from()}
    if trainer.cfg.MODEL.INIT_WEIGHTS:
        found["initial weights"] = file_hash(trainer.cfg.MODEL.INIT_WEIGHTS)
    return found


# ---- data ----


def data_identity(dataset, root):
    """{name: text} of each split's images, labels and class names, and of the names of all classes."""
    root = osp.abspath(osp.expanduser(root))
    found = {}
    for attribute, name in SPLITS.items():
        data = getattr(dataset, attribute, None) or []
        rows = [[relative_to(d.impath, root), d.label, d.domain, d.classname] for d in data]
        found[name] = f"{len(data)} with sha256 {digest(rows + [_image_files([d.impath for d in data])])}"
    names = list(getattr(dataset, "all_classnames", dataset.classnames))
    found["names of all classes"] = f"{len(names)} with sha256 {digest(names)}"
    return found


def _image_files(paths):
    """Hash of the contents of files, or of their sizes where there is too much to read."""
    try:
        sizes = [os.stat(path).st_size for path in paths]
        if sum(sizes) > CONTENTS_UP_TO:
            return digest(sizes)
        whole = hashlib.sha256()
        for path in paths:
            whole.update(bytes.fromhex(file_hash(path)))
        return whole.hexdigest()
    except OSError as e:
        raise UserError(f"cannot read the image {e.filename}: {e.strerror}") from e


def data_hash(splits, root):
    """Return the sha256 of the splits' (path relative to ``root``, label, class name), in their order."""
    root = osp.abspath(osp.expanduser(root))
    whole = hashlib.sha256()
    for name, data in splits.items():
        rows = [[relative_to(item.impath, root), item.label, item.classname] for item in data]
        whole.update(json.dumps([name, rows]).encode())
    return whole.hexdigest()


# ---- weights ----


def frozen_hash(trainer):
    """Hash of the frozen parameters of all modules that are attributes of ``trainer``: what it starts from."""
    modules = {name: value for name, value in vars(trainer).items() if isinstance(value, nn.Module)}
    frozen = {
        f"{owner}.{name}": p for owner, module in modules.items() for name, p in module.named_parameters() if not p.requires_grad
    }
    return state_hash(frozen) if frozen else ""


# ---- code ----


def code_version():
    """What git says of the code (commit: None outside a checkout; modified: files differ from it), and a hash of its source.

    Of an installed package, what git said when it was built, and the hash that the source had then, as long as nothing in the
    package has changed; the user's own files that were imported are in the hash.
    """
    folder = home.PROJECT
    source = source_hash(folder, home.file_of("train"))
    if not home.INSTALLED:
        commit, modified = _git(folder)
        return {"commit": commit, "modified": modified, "source_sha256": source}
    said = read_json(folder / BUILT_FROM) if (folder / BUILT_FROM).is_file() else {}
    unchanged = source == said.get("installed_sha256")
    source = said["source_sha256"] if unchanged else source
    own = [[name, file_hash(file)] for name, file in own_files.imported()]
    return {
        "commit": said.get("commit"),
        "modified": bool(said.get("modified")) or not unchanged,
        "source_sha256": digest([source, own]) if own else source,
    }


def _git(folder):
    """(commit or None, whether files differ from it)"""
    status = ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        lines = subprocess.run(status, capture_output=True, text=True, timeout=10).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return None, False
    heads = [line.split()[-1] for line in lines if line.startswith("# branch.oid ") and not line.endswith("(initial)")]
    return (heads[0], any(not line.startswith("#") for line in lines)) if heads else (None, False)


def versions():
    """{library: version} of what computes the numbers."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name.removesuffix("_torch")] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name.removesuffix("_torch")] = None
    return {**found, "torch": torch.__version__}


def computed_by(device):
    """{device, threads, processes} of what computes the numbers: others add in another order, so last bits differ."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name, "threads": torch.get_num_threads(), "processes": parallel.world_size()}
