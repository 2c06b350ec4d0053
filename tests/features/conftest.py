"""The trainers' fixtures."""

from tests.trainers.conftest import image_root, make_trainer, tiny_weights  # noqa: F401
