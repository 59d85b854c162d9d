"""Clusters by hand: which clients go together, how many clusters there are, and nothing about it is random."""

import numpy as np
import pytest

from mm_ray.methods.harmony import clusters_of


def groups(labels):
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}


def test_distances_are_compared_after_division_by_their_maximum():
    # Scaled: (1, .1), (.9, .1), (.1, 1), (.1, .9): two dominant singular values, two clusters.
    distances = np.array([[1000, 1], [900, 1], [100, 10], [100, 9]], np.float32)
    assert groups(clusters_of(distances)) == {frozenset({0, 1}), frozenset({2, 3})}


@pytest.mark.parametrize("distances", [[[1, 2], [2, 4], [4, 8]], [[0, 0], [0, 0]], [[0.3, 0.1]]])
def test_one_dominant_singular_value_is_one_cluster(distances):
    assert clusters_of(np.array(distances, np.float32)).tolist() == [0] * len(distances)


def test_a_modality_in_which_nobody_moved_counts_nothing():
    assert clusters_of(np.array([[0, 1], [0, 2], [0, 3]], np.float32)).tolist() == [0, 0, 0]


def test_the_order_of_the_clients_does_not_matter():
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(2, dtype=np.float32), 5, axis=0)
    distances = centres + rng.uniform(0, 0.2, centres.shape).astype(np.float32)
    order = rng.permutation(10)
    labels, shuffled = clusters_of(distances), np.empty(10, int)
    shuffled[order] = clusters_of(distances[order])
    assert groups(labels) == groups(shuffled) == {frozenset(range(5)), frozenset(range(5, 10))}
