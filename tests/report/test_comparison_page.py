"""The comparison's page: every method is on it, n is said, and what differs from the defaults."""

import json

import pytest

from mm_ray.compare.__main__ import _numbers, _seeds
from mm_ray.compare.cells import seeds_of
from mm_ray.compare.comparison import _settings
from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.errors import UserError
from mm_ray.evaluate.statistics import ClientSpread, spread_of_clients
from mm_ray.report.comparison import against_missing_video, client_lines, forest, paired_records, write_comparison
from mm_ray.report.figures import style_of
from mm_ray.report.tables import to_latex, to_markdown


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
    table = write_comparison(tmp_path / "compare.html", rows, ["x", "y"], "no method tuned, with model.hidden 8")
    page = (tmp_path / "compare.html").read_text()
    assert "no method tuned, with model.hidden 8" in page
    assert "Holm's correction is for all 2 tests of this page" in page
    assert "<td>3 folds</td>" in page
    assert "2 (20 test clips)" in page
    assert '<tr class="best"><td>a</td>' in page
    # Folds share training clips: differences 0.1, 0.1, 0.15 have the error sqrt(1/3 + 20/80) * 0.0289 = 0.0220
    against = "not significantly different from control (+0.117 [+0.022, +0.212], Holm p 0.068)"
    assert f"Best: a, 0.717 ± 0.126 (n=3); {against}." in page
    assert {path.name for path in tmp_path.iterdir()} == {"compare.html", "paired.json", "paired.md", "paired.tex"}
    assert json.loads((tmp_path / "paired.json").read_text())[0]["method"] == "a"
    assert "0.600 ± 0.100 (n=3)" in table


def test_one_seed_one_regime_and_no_reference_are_said(tmp_path):
    write_comparison(tmp_path / "compare.html", [row("a", 0, 0.5), row("b", 0, 0.6)], ["x", "y"], "")
    page = (tmp_path / "compare.html").read_text()
    assert "Best: b, 0.600 (n=1)." in page
    assert "No difference can be tested" in page
    assert (tmp_path / "paired.json").read_text() == "[]"


def sure_rows():
    gains = (0.10, 0.11, 0.10, 0.09, 0.10)
    rows = [row("my_method", seed, 0.6 + gain) for seed, gain in enumerate(gains)]
    return rows + [row("control", seed, 0.6) for seed in range(5)]


def test_tables_for_papers():
    records = paired_records(sure_rows())
    assert "**+0.100**" in to_markdown(records)
    latex = to_latex(records)
    assert r"my\_method $-$ control & 5 seeds & \textbf{+0.100} & [+0.091, +0.109] & 5 of 5" in latex
    assert r"video missing 0.5, alpha 1" in latex
    assert latex.count(r"\\") == 2


def test_the_forest_is_green_where_holm_is_sure():
    (point,) = forest(paired_records(sure_rows())).data
    assert (point.x[0], point.marker.color) == (pytest.approx(0.1), "#149174")
    assert point.error_x.array[0] == pytest.approx(2.776 * 0.00707 / 5**0.5, rel=1e-3)


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


def test_the_clients_of_each_method(tmp_path):
    spreads = {"a": ClientSpread(0.6, 0.2, 0.1, 9), "control": ClientSpread(0.5, 0.4, 0.3, 9)}
    rows = [row(method, seed, 0.5) | {"clients": spread._asdict()} for method, spread in spreads.items() for seed in (0, 1)]
    rows[0] |= {"refused": ["client 3 in 2 rounds: norm 9 above 1"]}
    rows[1]["clients"] |= {"mean": 0.8}
    assert client_lines(rows, ["a", "control"]) == [
        ["a", "2", "0.700", "0.200", "0.100"],
        ["control", "2", "0.500", "0.400", "0.300"],
    ]
    write_comparison(tmp_path / "compare.html", rows, ["x"], "defaults")
    page = (tmp_path / "compare.html").read_text()
    assert "a, seed 0: client 3 in 2 rounds: norm 9 above 1" in page
    assert "Mean and worst clients" in page
    write_comparison(tmp_path / "compare.html", [row("a", 0, 0.5), row("control", 0, 0.4)], ["x"], "defaults")
    assert "Mean and worst clients" not in (tmp_path / "compare.html").read_text(), "results of an older version"


def test_the_worst_tenth_of_the_clients():
    assert spread_of_clients([0.5] * 18 + [0.1, 0.3]) == pytest.approx((0.47, 0.2, 0.0979, 20), abs=1e-3)
    assert spread_of_clients([3.0, 1.0], lowest=False) == pytest.approx((2.0, 3.0, 1.414, 2), abs=1e-3)
    assert spread_of_clients([0.4]) == (0.4, 0.4, None, 1)
