"""Every aggregator keeps the contract, and the checks find what does not; the same of partitions."""

from pathlib import Path

import pytest

from mm_ray.errors import UserError
from mm_ray.plugins import modules_in
from mm_ray.testing import check_aggregator, check_partition


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("rule", modules_in("mm_ray.fed.aggregators"))
def test_each_aggregator(rule):
    check_aggregator(rule)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return changes_KP", r"the shape \(1, 5\) for \(1, 5\); return \(5,\)"),
        ("return changes_KP.mean(0) / (len(changes_KP) - 1)", "1 clients that is not finite"),
        ("changes_KP *= 2; return changes_KP.mean(0)", "gives another change the second time"),
        ("result = changes_KP.mean(0); changes_KP.sort(1); return result * 0", "changes its input"),
    ],
)
def test_an_aggregator_that_breaks_the_contract(body, message):
    Path("rule.py").write_text(f"def combine(changes_KP, bad_frac): {body}\n")
    with pytest.raises(AssertionError, match=message):
        check_aggregator("rule.py")


def test_partitions():
    Path("shares.py").write_text(
        "import random\n"
        "def halves(table, config, seed): return [table.rows('train')[::2], table.rows('train')[1::2]]\n"
        "def twice(table, config, seed): return [table.rows('train'), table.rows('train')[:1]]\n"
        "def chance(table, config, seed): return [random.sample(list(table.rows('train')), 9)]\n"
    )
    check_partition("shares.py:halves")
    with pytest.raises(UserError, match="to two clients"):
        check_partition("shares.py:twice")
    with pytest.raises(AssertionError, match="other shares the second time"):
        check_partition("shares.py:chance")
