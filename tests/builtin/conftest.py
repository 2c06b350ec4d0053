"""Every set is drawn once for all tests of this folder."""

from functools import lru_cache

import pytest

from datasets.builtin import sets


@pytest.fixture(scope="session", autouse=True)
def drawn_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sets, "make", lru_cache(sets.make))
        yield
