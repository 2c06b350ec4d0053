"""Whether a dataset is where it should be; if not, what is missing, what lies there instead, and what to do."""

import os

from basics import UserError
from basics.home import command


def require(path, what, dataset, root):
    """Raise UserError unless `path` exists and, if it is a folder, has something in it.

    Args:
        path: file or folder that the dataset needs.
        what: what it holds, in words for the message.
        dataset: the dataset's class.
        root: the data folder (DATASET.ROOT).
    """
    if os.path.isfile(path) or (os.path.isdir(path) and os.listdir(path)):
        return
    state = "is empty" if os.path.isdir(path) else "doesn't exist"
    found = find_misplaced(path, dataset, root)
    remedy = found or (
        f"run `{download_command(dataset, root)}`, which fetches it or says where it can be had"
        if dataset.sources
        else "put it there, or give another data folder with --root"
    )
    raise UserError(f"{dataset.__name__}: {path} ({what}) {state}; {remedy}")


def download_command(dataset, root):
    """The command line that downloads `dataset`, or says where it can be had."""
    return f"{command('download')} {dataset.__name__} --root {root}"


def find_misplaced(path, dataset, root):
    """Advice where the data seem to lie under another name or one folder too deep, else None."""
    if not os.path.isdir(root):
        fetch = f", or run `{download_command(dataset, root)}`" if dataset.sources else ""
        return f"the data folder {root} itself doesn't exist: give the one that holds {dataset.dataset_dir}/ with --root{fetch}"
    folder = os.path.join(root, dataset.dataset_dir)
    if not os.path.isdir(folder):
        names = {_plain(name) for name in (dataset.dataset_dir, dataset.__name__, *dataset.aliases)}
        for name in sorted(os.listdir(root)):
            if _plain(name) in names and os.path.isdir(os.path.join(root, name)):
                return f"{os.path.join(root, name)} looks like it: rename that folder to {dataset.dataset_dir}"
        return None
    if os.path.exists(path):
        return None
    tail = os.path.relpath(path, folder)
    for name in sorted(os.listdir(folder)):
        if os.path.exists(os.path.join(folder, name, tail)):
            return f"{os.path.join(folder, name, tail)} looks like it: move what is in {name}/ up into {folder}"
    for place in dataset.other_places:
        found = os.path.join(folder, place)
        if os.path.isdir(found):
            wanted = os.path.join(folder, dataset.image_folder)
            return f"{os.path.dirname(found)} looks like it: link it, `ln -s {os.path.abspath(os.path.dirname(found))} {wanted}`"
    return None


def _plain(name):
    """A folder name without case and punctuation."""
    return "".join(char for char in name.lower() if char.isalnum())
