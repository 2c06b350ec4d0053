"""The project as a user installs it: a wheel built from this checkout, beside a package of other people's called ``datasets``."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from basics import home

ANOTHERS = "def load_dataset(name):\n    return f'the Hub has {name}'\n"


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """``run(*words, cwd)`` starts Python there, with the wheel installed and none of the checkout on its path."""
    root = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", str(root / "wheel")]
    source = checkout_copy(root / "source")
    done = subprocess.run([*build, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = (root / "wheel").glob("*.whl")
    site = root / "site"
    (site / "datasets").mkdir(parents=True)
    (site / "datasets" / "__init__.py").write_text(ANOTHERS)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(site), str(wheel)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    libraries = [path for path in sys.path if path and Path(path).is_dir() and not Path(path).samefile(home.PROJECT)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *libraries]), "OMP_NUM_THREADS": "1"}

    def run(*words, cwd, **variables):
        """A Python process without ``site``: no editable installation of the checkout has a say in it."""
        environment_of_this = {**environment, **variables}
        return subprocess.run(
            [sys.executable, "-S", *words], cwd=cwd, env=environment_of_this, capture_output=True, text=True, timeout=280
        )

    return SimpleNamespace(run=run, site=site, wheel=wheel, source=source)


def checkout_copy(folder):
    """What the wheel is built from, so that the build leaves nothing in the checkout."""
    at_the_top = {"build", "data", "output", "tests", "docs"}

    def ignored(directory, names):
        top, inside = Path(directory) == home.PROJECT, Path(directory) == home.PROJECT / "foreign"
        hidden = {name for name in names if name.startswith(".") or name == "__pycache__" or name.endswith(".egg-info")}
        return hidden | (at_the_top if top else set()) | {name for name in names if inside and not name.endswith(".py")}

    return shutil.copytree(home.PROJECT, folder, ignore=ignored)
