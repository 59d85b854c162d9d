"""Sums over clients, and FedAvg, by hand."""

from functools import reduce
from operator import add

import numpy as np
import pytest
from fed.tiny import tiny_plan

from mm_ray.types import ClientUpdate, ServerState


def update(weight, *values, part="a", **metrics):
    return ClientUpdate({part: weight}, {part: np.array(values, np.float32) * np.float32(weight)}, metrics)


def test_overlapping_keys_are_added_and_disjoint_ones_kept():
    one = ClientUpdate({"a": 1.0, "b": 2.0}, {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}, {"loss": 0.5})
    two = ClientUpdate({"b": 3.0, "c": 4.0}, {"b": np.array([10.0]), "c": np.array([5.0])}, {"loss": 0.25, "seen": 2.0})
    total = one + two
    assert total.weights == {"a": 1.0, "b": 5.0, "c": 4.0}
    assert {part: array.tolist() for part, array in total.sums.items()} == {"a": [1.0, 2.0], "b": [13.0], "c": [5.0]}
    assert total.metrics == {"loss": 0.75, "seen": 2.0}


def test_adding_changes_neither_side_and_nothing_is_the_neutral_element():
    one, two = update(1.0, 1, 2, 3), update(2.0, 4, 5, 6)
    total = one + two
    assert (one.sums["a"].tolist(), two.sums["a"].tolist()) == ([1, 2, 3], [8, 10, 12])
    for side in (total + ClientUpdate(), ClientUpdate() + total):
        assert (side.weights, side.sums["a"].tolist()) == (total.weights, total.sums["a"].tolist())


def test_the_weighted_mean_of_two_clients_and_three_weights():
    # One clip at (1, 2, 3) and three at (5, 2, -1): (1*1 + 3*5) / 4 = 4, (2 + 6) / 4 = 2, (3 - 3) / 4 = 0.
    total = update(1.0, 1, 2, 3) + update(3.0, 5, 2, -1)
    assert total.mean("a").tolist() == [4.0, 2.0, 0.0]
    assert total.mean("a").dtype == np.float32


def test_a_part_is_averaged_over_its_holders_only():
    total = update(1.0, 1, 2, 3) + update(3.0, 5, 2, -1) + update(100.0, 7, part="b")
    assert total.mean("a").tolist() == [4.0, 2.0, 0.0]
    assert total.mean("b").tolist() == [7.0]


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_the_sum_is_associative_for_values_without_rounding(cut):
    updates = [update(float(k), k, 2 * k, -k, part="ab"[k % 2], seen=1.0) for k in range(1, 5)]
    whole, left, right = reduce(add, updates), reduce(add, updates[:cut]), reduce(add, updates[cut:])
    total = left + right
    assert total.weights == whole.weights
    assert total.metrics == whole.metrics == {"seen": 4.0}
    assert all(np.array_equal(total.sums[part], whole.sums[part]) for part in ("a", "b"))


def test_the_server_moves_each_part_by_the_mean_of_its_holders_changes():
    phase = tiny_plan({"phase1.server.optimizer": "fedavg", "phase1.server.average": 0.0}).method.phases[0]
    state = ServerState({"a": np.array([10, 20, 30], np.float32), "b": np.array([1], np.float32)}, meta={"kept": 1})
    after = phase.server_update(state, update(1.0, 1, 2, 3) + update(3.0, 5, 2, -1))
    assert {part: array.tolist() for part, array in after.params.items()} == {"a": [14, 22, 30], "b": [1]}
    assert after.meta == {"kept": 1}
    assert state.params["a"].tolist() == [10, 20, 30]
