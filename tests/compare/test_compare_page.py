"""The comparison's page: every method is on it, n is said, and what differs from the defaults."""

import pytest

from mm_ray.compare.__main__ import _numbers, _seeds
from mm_ray.compare.comparison import _seeds as seeds_of
from mm_ray.compare.comparison import _settings
from mm_ray.compare.plots import against_missing_video, style_of
from mm_ray.compare.report import write_report
from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.errors import UserError


def row(method, seed, top1, fold=0, q=0.5):
    where = {
        "method": method,
        "video_missing": q,
        "alpha": 1.0,
        "seed": seed,
        "fold": fold,
        "train_clips": 80,
        "test_clips": 20,
    }
    costs = dict.fromkeys(("rounds", "bytes_up", "bytes_down", "rounds_computed", "rounds_reused"), 1)
    clips = {"train_clips": 80, "test_clips": 20}
    return where | costs | clips | {"top1": top1, "uar": top1, "macro_f1": top1, "teacher_top1": None, "per_class": {}}


def test_any_number_of_methods_has_a_line_of_its_own():
    methods = [f"m{i}" for i in range(30)]
    figure = against_missing_video([row(name, 0, 0.5) for name in methods], methods, 1.0)
    assert {trace.name for trace in figure.data if trace.name} == set(methods)
    assert len({tuple(style_of(place).values()) for place in range(30)}) == 30


def test_the_page_says_what_n_is_and_corrects_for_all_its_tests(tmp_path):
    tops = {"control": (0.5, 0.6, 0.7), "a": (0.6, 0.7, 0.85), "b": (0.4, 0.6, 0.9)}
    rows = [row(name, 0, top1, fold) for name in tops for fold, top1 in enumerate(tops[name])]
    table = write_report(tmp_path / "compare.html", rows, ["x", "y"], "no method tuned, with model.hidden 8")
    page = (tmp_path / "compare.html").read_text()
    assert "no method tuned, with model.hidden 8" in page
    assert "Holm's correction is for all 2 tests of this page" in page
    assert "<td>3 folds</td>" in page
    assert "20, 20, 20 test clips" in page
    assert "0.600 ± 0.100 (n=3)" in table


@pytest.mark.parametrize("text", ["0,0,1", "1.5", "nan", "inf", "1e400", "two", "0,1.0"])
def test_seeds_are_whole_numbers_each_once(text):
    with pytest.raises(UserError, match=f"^--seeds {text}: "):
        _seeds(text)


@pytest.mark.parametrize("text", ["nan", "0.2,inf", "0.2,0.20", "x"])
def test_numbers_are_finite_and_each_once(text):
    with pytest.raises(UserError, match=f"^--alphas {text}: "):
        _numbers("alphas", text)


def test_seeds_by_count_and_by_list():
    assert (_seeds("3"), _seeds("0,3,7"), _seeds("4,")) == (3, [0, 3, 7], [4])
    assert (seeds_of(3, 5), seeds_of([0, 3, 7], 5)) == ([5, 6, 7], [0, 3, 7])


def test_settings_that_are_no_defaults_are_named():
    assert _settings(ExperimentConfig(), 0) == "no method tuned, default settings"
    varied = with_overrides(ExperimentConfig(), {"seed": 3, "partition.alpha": 0.1, "model.hidden": 8})
    assert _settings(varied, 8) == "each method tuned with 8 trials on dev, with model.hidden 8"
