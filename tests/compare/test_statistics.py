"""Paired statistics on numbers that one can check by hand."""

import numpy as np
import pytest

from mm_ray.compare.statistics import differences, mean_and_sd, paired


def row(method, seed, top1, fold=0, q=0.5):
    return {"method": method, "video_missing": q, "alpha": 1.0, "seed": seed, "fold": fold, "top1": top1}


def test_pairs_are_cells_that_differ_in_the_method_only():
    rows = [row("a", 0, 0.5), row("a", 1, 0.7), row("b", 1, 0.4), row("b", 0, 0.1), row("b", 2, 0.9), row("a", 2, 0.9, q=0.2)]
    np.testing.assert_allclose(differences(rows, "a", "b", "top1"), [0.4, 0.3])


def test_a_method_without_an_audio_network_has_no_pairs():
    assert len(differences([row("central_av", 0, None), row("b", 0, 0.4)], "central_av", "b", "top1")) == 0


def test_the_interval_is_student_s_and_the_test_is_wilcoxon_s():
    # mean 2, sd 1, standard error 1/sqrt(3), t(0.975, 2) = 4.302653: half width 2.484138.
    result = paired(np.array([1.0, 2.0, 3.0]))
    assert (result.num_pairs, result.mean, result.wins) == (3, 2.0, 3)
    assert (result.low, result.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)
    # All three ranks positive: 2 of the 2^3 sign patterns are as extreme.
    assert result.wilcoxon_p == pytest.approx(2 / 8)


def test_equal_methods_are_not_told_apart():
    result = paired(np.zeros(4))
    assert (result.mean, result.low, result.high, result.wins, result.wilcoxon_p) == (0, 0, 0, 0, 1.0)


def test_a_single_pair_has_no_interval():
    result = paired(np.array([0.25]))
    assert result.mean == 0.25
    assert np.isnan([result.low, result.high, result.wilcoxon_p]).all()


def test_the_deviation_is_the_sample_s():
    assert mean_and_sd([0.2, 0.4]) == pytest.approx((0.3, 0.02**0.5))
    assert mean_and_sd([0.2]) == (0.2, 0.0)
