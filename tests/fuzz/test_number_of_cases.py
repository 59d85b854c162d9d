"""How many cases of bad input there are."""

from fuzz.cases import CASES


def test_there_are_more_than_six_thousand():
    assert sum(CASES.values()) > 6_000
