"""Options and fixtures for all tests."""

import pathlib

import pytest

DEFAULT_GOLDEN = pathlib.Path(__file__).parent / "golden"


def pytest_addoption(parser):
    parser.addoption("--golden-dir", default=str(DEFAULT_GOLDEN), help="folder of golden cases to run")
    parser.addoption("--stress", action="store_true", help="stress tests in full size (make stress)")


@pytest.fixture
def golden_dir(request):
    """Folder whose golden cases are run."""
    return pathlib.Path(request.config.getoption("--golden-dir"))
