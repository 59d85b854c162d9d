"""Who takes part in a round, in which chunks."""

import numpy as np
import pytest

from mm_ray.fed.cohort import chunks_of, epoch_batches, sample_cohort
from mm_ray.seeding import numpy_stream
from mm_ray.types import ClientData

AUDIO, BOTH = ("audio",), ("audio", "video")


def clients(num_audio, num_both):
    kinds = [AUDIO] * num_audio + [BOTH] * num_both
    return [ClientData(k, kind, np.array([k]), np.array([0])) for k, kind in enumerate(kinds)]


def ids(cohort):
    return [client.id for client in cohort]


@pytest.mark.parametrize(
    ("num_audio", "num_both", "frac", "expected"),
    [(10, 10, 0.3, (3, 3)), (10, 3, 0.1, (1, 1)), (1, 1, 0.01, (1, 1)), (0, 5, 0.2, (0, 1)), (4, 6, 1.0, (4, 6))],
)
def test_a_fraction_of_each_type_and_one_of_each_at_least(num_audio, num_both, frac, expected):
    for round_number in range(1, 20):
        cohort = sample_cohort(clients(num_audio, num_both), frac, 0, "s", round_number)
        assert (sum(c.modalities == AUDIO for c in cohort), sum(c.modalities == BOTH for c in cohort)) == expected
        assert ids(cohort) == sorted(set(ids(cohort)))


def test_the_draw_depends_on_seed_stream_and_round_only():
    some = clients(10, 10)
    first = ids(sample_cohort(some, 0.3, 0, "s", 1))
    assert ids(sample_cohort(some, 0.3, 0, "s", 1)) == first
    others = [ids(sample_cohort(some, 0.3, *draw)) for draw in ((1, "s", 1), (0, "t", 1), (0, "s", 2))]
    assert all(other != first for other in others)


def test_a_type_draws_the_same_whether_or_not_others_take_part():
    both = clients(10, 10)
    together = [c.id for c in sample_cohort(both, 0.3, 0, "s", 1) if c.modalities == BOTH]
    assert ids(sample_cohort([c for c in both if c.modalities == BOTH], 0.3, 0, "s", 1)) == together


def test_everyone_comes_at_some_time():
    seen = {c.id for n in range(1, 60) for c in sample_cohort(clients(6, 6), 0.2, 0, "s", n)}
    assert seen == set(range(12))


def test_chunks_keep_the_order_and_the_last_may_be_smaller():
    cohort = clients(3, 2)
    assert [ids(chunk) for chunk in chunks_of(cohort, 2)] == [[0, 1], [2, 3], [4]]
    assert [ids(chunk) for chunk in chunks_of(cohort, 9)] == [[0, 1, 2, 3, 4]]
    assert chunks_of([], 2) == []


def test_batches_of_an_epoch_hold_every_position_once():
    batches = epoch_batches(7, 3, numpy_stream(0, "b"))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert sorted(np.concatenate(batches)) == list(range(7))
    again = epoch_batches(7, 3, numpy_stream(0, "b"))
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
