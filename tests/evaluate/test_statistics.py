"""Statistics on numbers that one can check by hand."""

import numpy as np
import pytest

from mm_ray.evaluate.statistics import (
    beats_guessing,
    compare_all,
    compare_clips,
    guessing,
    holm,
    mcnemar,
    mean_and_sd,
    mean_interval,
    paired_test,
    spread_text,
    units_of,
)  # fmt: skip


def row(method, seed, top1, fold=0, q=0.5, clips=(80, 20)):
    where = {"method": method, "video_missing": q, "alpha": 1.0, "seed": seed, "fold": fold}
    return where | {"top1": top1, "train_clips": clips[0], "test_clips": clips[1]}


def test_pairs_are_cells_that_differ_in_the_method_only():
    rows = [row("a", 0, 0.5), row("a", 1, 0.7), row("b", 1, 0.4), row("b", 0, 0.1), row("b", 2, 0.9), row("a", 2, 0.9, q=0.2)]
    units = units_of(rows, "a", "b", "top1")
    assert (units.kind, units.cells_each, units.test_per_train) == ("seeds", 1, 0)
    np.testing.assert_allclose(units.differences_K, [0.4, 0.3])


def test_a_method_without_an_audio_network_has_no_pairs():
    assert len(units_of([row("central_av", 0, None), row("b", 0, 0.4)], "central_av", "b", "top1").differences_K) == 0


def test_cells_that_share_data_are_one_unit():
    # Two folds, two seeds, two regimes: n is 2, not 8. Fold 0 gains 0.1 in each cell, fold 1 0.1, 0.2, 0.3 and 0.4.
    gains = {0: [0.1, 0.1, 0.1, 0.1], 1: [0.1, 0.2, 0.3, 0.4]}
    where = [(seed, q) for seed in (0, 1) for q in (0.2, 0.8)]
    rows = [row("b", seed, 0.5, fold, q, (60, 30)) for fold in gains for seed, q in where]
    rows += [
        row("a", seed, 0.5 + gain, fold, q, (60, 30))
        for fold in gains
        for (seed, q), gain in zip(where, gains[fold], strict=True)
    ]
    units = units_of(rows, "a", "b", "top1")
    assert (units.kind, units.cells_each, units.test_per_train) == ("folds", 4, 0.5)
    np.testing.assert_allclose(units.differences_K, [0.1, 0.25])


def test_the_paired_t_test():
    # mean 2, sd 1, standard error 1/sqrt(3), t(0.975, 2) = 4.302653: half width 2.484138. t = 3.464102: with 2 degrees of
    # freedom p = 1 - t / sqrt(t^2 + 2) = 1 - 3.464102 / sqrt(14).
    result = paired_test(np.array([1.0, 2.0, 3.0]))
    assert (result.n, result.mean, result.wins) == (3, 2.0, 3)
    assert (result.low, result.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)
    assert result.p == pytest.approx(1 - 3.464102 / 14**0.5, abs=1e-6)


def test_the_correction_of_nadeau_and_bengio():
    # Variance of the mean (1/3 + 1/4) * 1 instead of 1/3: t = 2 / sqrt(7/12) = 2.618615, p = 1 - t / sqrt(t^2 + 2).
    result = paired_test(np.array([1.0, 2.0, 3.0]), 0.25)
    t = 2 / (7 / 12) ** 0.5
    assert result.p == pytest.approx(1 - t / (t**2 + 2) ** 0.5)
    assert result.high - result.mean == pytest.approx(4.302653 * (7 / 12) ** 0.5, abs=1e-6)
    assert result.p > paired_test(np.array([1.0, 2.0, 3.0])).p


def test_equal_methods_are_not_told_apart():
    result = paired_test(np.zeros(4))
    assert (result.mean, result.low, result.high, result.wins, result.p) == (0, 0, 0, 0, 1.0)


@pytest.mark.parametrize("differences", [[0.25], [0.25, 0.25]])
def test_no_test_without_a_spread(differences):
    result = paired_test(np.array(differences))
    assert (result.n, result.mean) == (len(differences), 0.25)
    assert np.isnan([result.low, result.high, result.p]).all()


def test_holm():
    # 3 * 0.01, 2 * 0.02, then at least as much as the one before.
    assert holm([0.02, 0.03, 0.01]) == pytest.approx([0.04, 0.04, 0.03])
    assert holm([0.5, 0.4]) == pytest.approx([0.8, 0.8])
    assert holm([float("nan"), 0.01]) == pytest.approx([float("nan"), 0.01], nan_ok=True)


def test_each_pair_of_a_page_is_tested_once_and_all_are_one_family():
    scores = {"mirror": (0.7, 0.8, 0.95), "control": (0.5, 0.65, 0.7), "harmony": (0.6, 0.6, 0.65)}
    rows = [row(name, seed, top1, q=q) for name, tops in scores.items() for seed, top1 in enumerate(tops) for q in (0.2, 0.8)]
    found = compare_all(rows, [*scores], ("control", "control_all", "harmony"), "top1")
    pairs = [("mirror", "control"), ("harmony", "control"), ("mirror", "harmony")]
    assert [(one.method, one.other) for one in found] == pairs * 3
    assert [one.regime for one in found[::3]] == [(0.2, 1.0), (0.8, 1.0), None]
    assert {one.result.n for one in found} == {3}, "two regimes of a seed are one unit"
    smallest = min(found, key=lambda one: one.result.p)
    assert smallest.holm_p == pytest.approx(9 * smallest.result.p)


def test_the_deviation_is_the_sample_s():
    assert mean_and_sd([0.2, 0.4]) == pytest.approx((0.3, 0.02**0.5))
    assert mean_and_sd([0.2]) == pytest.approx((0.2, float("nan")), nan_ok=True)


@pytest.mark.parametrize(
    ("values", "text"),
    [([0.2, 0.4], "0.300 ± 0.141 (n=2)"), ([0.574], "0.574 (n=1)"), ([0.574, 0.574], "0.574 (n=2, all equal)")],
)
def test_no_spread_is_shown_where_there_is_none(values, text):
    assert spread_text(values) == text


def test_guessing():
    assert guessing([6, 2, 2]) == 0.6
    # 10 clips, two classes alike: 8 or more right by chance has probability 56 / 1024, 9 or more 11 / 1024.
    assert not beats_guessing(0.8, [5, 5])
    assert beats_guessing(0.9, [5, 5])
    assert not beats_guessing(0.0, [5, 5])


def test_mcnemar_is_a_coin():
    # 1 of 6 answers or fewer: (1 + 6) / 64, both sides
    assert mcnemar(1, 5) == mcnemar(5, 1) == pytest.approx(14 / 64)
    assert (mcnemar(0, 0), mcnemar(3, 3)) == (1.0, 1.0)


def test_clips_of_one_seed():
    first, second = np.array([[1, 1, 1, 0] * 50], bool), np.array([[1, 1, 0, 0] * 50], bool)
    found = compare_clips(first, second, 0)
    assert (found.mean, found.only_first, found.only_second) == (0.25, 50, 0)
    assert found.p == pytest.approx(2 * 0.5**50)
    # The standard error is sqrt(0.25 * 0.75 / 200) = 0.0306
    assert found.low == pytest.approx(0.25 - 1.96 * 0.0306, abs=0.01)
    assert found.high == pytest.approx(0.25 + 1.96 * 0.0306, abs=0.01)


def test_seeds_that_disagree_widen_the_interval():
    clips = np.tile([1, 0], 100).astype(bool)
    agreeing = compare_clips(np.stack([clips, clips]), np.zeros((2, 200), bool), 0)
    disagreeing = compare_clips(np.stack([clips | True, clips & False]), np.zeros((2, 200), bool), 0)
    assert agreeing.mean == disagreeing.mean == 0.5
    assert (disagreeing.low, disagreeing.high) == (0.0, 1.0)
    assert agreeing.high - agreeing.low < 0.2
    assert np.isnan(agreeing.p), "McNemar's test takes independent answers"


def test_the_interval_of_a_mean():
    mean, low, high = mean_interval([0.1, 0.2, 0.3])
    assert (mean, high - mean) == (pytest.approx(0.2), pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3))
    assert low == pytest.approx(0.4 - high)
    assert np.isnan(mean_interval([0.5])[1])
