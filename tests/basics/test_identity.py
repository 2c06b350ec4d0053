"""Two identities differ where their values mean different things, not where one of them was read from a log."""

import pytest

from basics.identity import differences


@pytest.mark.parametrize("logged, own", [("None", None), (None, ""), ("", None), ("0.1", 0.1), ("(8, 8)", "(8, 8)")])
def test_values_of_a_log(logged, own):
    assert differences({"A": logged}, {"A": own}) == []


def test_other_values():
    found = differences({"A": "None", "B": 1, "C": 2}, {"A": "a photo of a", "B": 2})
    assert found == [("A", "None", "a photo of a"), ("B", 1, 2)]
