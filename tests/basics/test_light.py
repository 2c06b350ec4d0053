"""torchvision with its transforms alone, and what happens when more of it is asked for."""

import subprocess
import sys

import pytest
import torchvision

from basics import light

BEGIN = """
import sys
from basics.light import install_torchvision
install_torchvision()
import torchvision
from torchvision import transforms
from torchvision.transforms import InterpolationMode, functional
assert not {"torchvision.models", "torchvision.ops", "torch._dynamo"} & set(sys.modules)
resize = transforms.Resize
"""
END = """
assert {"torchvision.models", "torchvision.ops"} <= set(sys.modules)
assert torchvision.transforms is transforms and transforms.Resize is resize and torchvision.transforms.Resize is resize
assert type(torchvision).__name__ == "module" and torchvision.__version__ and torchvision.get_image_backend() == "PIL"
assert torchvision.ops.misc is sys.modules["torchvision.ops.misc"] and torchvision.ops is sys.modules["torchvision.ops"]
assert torchvision.models.resnet.ResNet is torchvision.models.ResNet and torchvision.ops.__spec__.origin
assert not any(type(finder).__module__ == "basics.light" for finder in sys.meta_path)
"""


@pytest.mark.parametrize(
    "more",
    ["torchvision.models", "from torchvision import ops", "import torchvision.models.resnet", "torchvision.__version__",
     "import torchvision.transforms.v2", "from torchvision.datasets import ImageFolder"],
)  # fmt: skip
def test_the_rest_comes_when_it_is_asked_for(more):
    subprocess.run([sys.executable, "-c", BEGIN + more + END], check=True, timeout=200)


def test_what_is_not_there_is_not_there():
    code = BEGIN + "try:\n    torchvision.nothing\nexcept AttributeError:\n    pass\nelse:\n    raise SystemExit(1)"
    subprocess.run([sys.executable, "-c", code + END], check=True, timeout=200)


def test_versions():
    import open_clip

    assert light.version_in("torchvision") == torchvision.__version__
    assert light.version_in("open_clip") == open_clip.__version__
