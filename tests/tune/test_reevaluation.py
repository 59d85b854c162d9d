"""The one-standard-error rule and what is said of it, by hand."""

import pytest

from mm_ray.tune.reevaluation import Finalist, choose

A = Finalist(3, {}, [0.70, 0.74, 0.72], rounds=100)  # mean 0.72, sd 0.02, standard error 0.0115
NEAR = Finalist(5, {}, [0.71, 0.71, 0.71], rounds=60)
FAR = Finalist(8, {}, [0.70, 0.70, 0.70], rounds=10)


def test_the_cheapest_within_one_standard_error_is_chosen():
    finals = choose([FAR, NEAR, A], [7, 8, 9], seed=0)
    assert [one.number for one in finals.finalists] == [3, 5, 8]
    assert finals.chosen == 5


def test_the_best_is_chosen_where_none_is_near_or_cheaper():
    assert choose([FAR, A], [7, 8, 9], seed=0).chosen == 3
    assert choose([Finalist(5, {}, NEAR.scores, rounds=100), A], [7, 8, 9], seed=0).chosen == 3


def test_certainty():
    sure = choose([Finalist(0, {}, [0.9, 0.8, 0.85], 1), Finalist(1, {}, [0.7, 0.7, 0.7], 1)], [1, 2, 3], seed=0)
    assert sure.certainty == 1.0
    # Trial 0 is ahead unless both resampled seeds are the second one: 3 of 4.
    torn = choose([Finalist(0, {}, [0.9, 0.6], 1), Finalist(1, {}, [0.7, 0.7], 1)], [1, 2], seed=0)
    assert torn.certainty == pytest.approx(0.75, abs=0.04)


def test_words():
    lines = choose([FAR, NEAR, A], [7, 8, 9], seed=0).words()
    assert lines[0] == "trial 3: mean 0.720, sd 0.020 over 3 fresh seeds, 100 rounds"
    assert lines[1].startswith("trial 5: mean 0.710, sd 0.000 over 3 fresh seeds, 60 rounds (chosen); -0.010 (se 0.012)")
    assert lines[1].endswith("against trial 3, which wins 2 of 3")
    assert lines[-1].startswith("chosen for the fewest rounds within one standard error of the best; trial 3 is first in ")


def test_one_seed_has_no_spread():
    finals = choose([Finalist(0, {}, [0.9], 5), Finalist(1, {}, [0.8], 1)], [1], seed=0)
    assert (finals.chosen, finals.certainty, finals.finalists[0].spread) == (0, 1.0, 0.0)
