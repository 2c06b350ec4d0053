"""What an evaluation evaluates: which files, and what they were trained with."""

import os.path as osp

from basics import UserError
from basics.hashes import file_hash
from basics.identity import completed, deciding, describe, differences

from ..config import binding_keys
from .checkpoint import saved_epochs
from .run_folder import earlier_run

# settings that belong to a model: evaluated with others than it was trained with, it is another model
_OF_THE_MODEL = ("MODEL.", "INPUT.SIZE", "INPUT.PIXEL_", "INPUT.INTERPOLATION", "INPUT.RESIZE_MODE", "TRAINER.")


def trained_with(trainer, directory, epoch):
    """{folder, epoch, sha256, trained_with} of the model that ``trainer`` has loaded from the run in ``directory``.

    sha256: {model name: hash of its file}; trained_with: the identity of its training, {} where nothing tells it.
    UserError when the weights that the training started from are others than these.
    """
    loaded = dict(trainer._loaded or _files(trainer, directory, epoch))
    identity = loaded.pop("identity", None)
    if identity is None:
        earlier = earlier_run(directory)
        identity = earlier.identity if earlier else {}
    if not identity:
        print(f"WARNING: nothing in {directory} says with which settings, data and weights its model was trained")
    here = {**deciding(trainer.cfg), **trainer.made_from()}
    found = differences(completed(identity), here)
    without = {*trainer.weights_of_a_model, *binding_keys(trainer.cfg, getattr(trainer, "section", ""))}
    wrong = [entry for entry in found if entry[0] in without]
    if wrong:
        raise UserError(f"the model in {directory} was trained with {describe(wrong)}: what it has learned belongs to that")
    own = [entry for entry in found if entry[0].startswith(_OF_THE_MODEL)]
    if own:
        print(f"WARNING: evaluated with other settings than the model in {directory} was trained with: {describe(own)}")
    return {**loaded, "trained_with": identity}


def _files(trainer, directory, epoch):
    """What a ``load_model`` of another program's trainer must have read: the named epoch, the best or the last."""
    names = trainer.get_model_names()
    best = [osp.join(directory, name, "model-best.pth.tar") for name in names]
    if epoch is None and not all(map(osp.isfile, best)):
        epoch = max(saved_epochs(directory, names), default=None)
    paths = best if epoch is None else [osp.join(directory, name, f"model.pth.tar-{epoch}") for name in names]
    hashes = {name: file_hash(path) for name, path in zip(names, paths) if osp.isfile(path)}
    return {"folder": osp.abspath(directory), "epoch": epoch, "sha256": hashes}
