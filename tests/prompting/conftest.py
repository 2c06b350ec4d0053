"""A small text tower and small CLIPs in every file format that users have."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))
import tiny_clip as _tiny_clip  # noqa: E402


@pytest.fixture(scope="session")
def tiny_state():
    """State dict of the tiny ViT CLIP, in OpenAI's layout."""
    return _tiny_clip.state_dict("tiny_clip_vit")


@pytest.fixture(scope="session")
def tiny_rn_state():
    """State dict of the tiny ResNet CLIP, in OpenAI's layout."""
    return _tiny_clip.state_dict("tiny_clip_rn")


@pytest.fixture(scope="session")
def tiny_file(tiny_state, tmp_path_factory):
    """The tiny ViT CLIP as a state dict file."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save(tiny_state, path)
    return str(path)
