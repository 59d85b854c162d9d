"""Figures as SVG and PDF: what is drawn is what the page shows."""

import re

import numpy as np
import plotly.graph_objects as go
import pytest

from mm_ray.errors import UserError
from mm_ray.report import study_figures as figures
from mm_ray.report import vector
from mm_ray.report.comparison import against_missing_video, forest, paired_records, write_comparison
from mm_ray.report.study import StudyRecord, write_study
from mm_ray.report.vector import check_figures, draw, figures_in, write_figures
from mm_ray.results import CompareResult

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def cell(method, seed, top1, q=0.5):
    where = {"method": method, "video_missing": q, "alpha": 1.0, "seed": seed, "fold": 0}
    return where | {"train_clips": 80, "test_clips": 20, "top1": top1, "uar": top1, "macro_f1": top1}


CELLS = [cell(m, s, t + 0.1 * s * (1 + t)) for m, t in (("a", 0.4), ("control_all", 0.3)) for s in (0, 1)]
TRIALS = [
    {"number": n, "state": "COMPLETE", "score": 0.1 * n, "params": {"x": n, "y": n % 3}, "metrics": {"bytes": 1e6 * (n + 1)},
     "curve": [{"phase": "p", "round": r, "reused": r == 1, "seed": 0, "metrics": {"m": 0.1 * r}} for r in (1, 2, 3)]}
    for n in range(5)
]  # fmt: skip
CLIENTS = [{"id": i, "modalities": "audio", "classes": [i, 2], "accuracy": {"student": 0.1 * i}} for i in range(1, 4)]
CONTENT = {
    "by_seed": figures.scores_by_seed({"student": [0.5, 0.6], "control": [0.4, 0.5]}, 0.1),
    "curves": figures.curves_by_seed({"student": [[(1, 0.2), (2, 0.4)], [(1, 0.1), (2, 0.5)]]}, {"teacher": 0.8}, "m"),
    "gains": figures.class_gains(
        [{"name": "dog", "clips": 3, "mean": 0.1, "low": 0.0, "high": 0.2, "control": 0.5, "student": 0.6}], "control"
    ),
    "trial_curves": figures.trial_curves(TRIALS, "m", 4),
    "history": figures.history(TRIALS, "m", True),
    "importances": figures.importance_bars({"x": 0.7, "y": 0.3}),
    "pair": figures.pair(TRIALS, "m", "x", "y", 4),
    "slices": figures.slices(TRIALS, "m", 4),
    "parallel": figures.parallel(TRIALS, "m"),
    "pareto": figures.pareto(TRIALS, "m", 4),
    "clients": figures.client_accuracy(CLIENTS, ["student"]),
    "classes": figures.client_classes(CLIENTS, ["dog", "cat"]),
    "missing": against_missing_video(CELLS, ["a", "control_all"], 1.0),
    "sections": [{"forest": forest(paired_records(CELLS, ["control_all"]))}],
    "sentence": "There is none.",
}


def test_every_figure_of_a_page_is_written_twice(tmp_path):
    written = {path.name for path in write_figures(tmp_path / "figures", CONTENT)}
    names = {name for name, _ in figures_in(CONTENT)}
    assert names == {*CONTENT} - {"slices", "sections", "sentence"} | {"slices-x", "slices-y", "sections-0-forest"}
    assert written == {f"{name}.{kind}" for name in names - {"parallel"} for kind in ("svg", "pdf")}
    text = (tmp_path / "figures" / "sections-0-forest.svg").read_text()
    assert "a − control_all" in text, "text is text"
    assert (tmp_path / "figures" / "curves.pdf").read_bytes().startswith(b"%PDF")
    again = write_figures(tmp_path / "again", CONTENT)
    assert all(path.read_bytes() == (tmp_path / "figures" / path.name).read_bytes() for path in again), "the same bytes"


def test_a_study_and_a_comparison_leave_their_figures_beside_the_page(tmp_path):
    for vector_figures in (False, True):
        write_study(tmp_path / "report.html", StudyRecord("s", TRIALS, metric="m", best=TRIALS[4]), vector_figures)
        assert (tmp_path / "figures" / "history.svg").exists() is vector_figures
    costs = dict.fromkeys(("rounds", "bytes_up", "bytes_down", "rounds_computed", "rounds_reused"), 1)
    rows = [row | costs | {"teacher_top1": None, "per_class": {}} for row in CELLS]
    write_comparison(tmp_path / "compare.html", rows, ["x"], "", vector_figures=True)
    assert {"against_video-1.0.pdf", "sections-0-forest.svg"} <= {path.name for path in (tmp_path / "figures").iterdir()}


def test_points_errors_and_levels_are_where_they_belong():
    figure = go.Figure()
    errors = {"type": "data", "symmetric": False, "array": [0.1, np.nan], "arrayminus": [0.2, np.nan]}
    figure.add_scatter(x=[1, 2], y=[0.5, None], name="line", mode="lines+markers", error_y=errors, line={"dash": "dot"})
    figure.add_scatter(x=[1, 2], y=[0.1, 0.2], name="other", mode="lines")
    figure.add_vline(x=1.5)
    axes = draw(figure).axes[0]
    first, second, level = (line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_marker() == "None")
    np.testing.assert_array_equal(first.get_ydata(), [0.5, np.nan])
    assert (first.get_linestyle(), second.get_label(), level.get_xdata()[0]) == (":", "other", 1.5)
    (segments,) = [bars.get_segments() for bars in axes.collections if hasattr(bars, "get_segments")]
    np.testing.assert_allclose(segments[0], [[1, 0.3], [1, 0.6]])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["line", "other"]


def test_methods_stand_side_by_side():
    cells = [*CELLS, *(cell(row["method"], row["seed"], row["top1"], 0.8) for row in CELLS)]
    axes = draw(against_missing_video(cells, ["a", "control_all"], 1.0)).axes[0]
    points = [line.get_xdata().tolist() for line in axes.lines if line.get_label() in ("a", "control_all")]
    assert points == [[-0.125, 0.875], [0.125, 1.125]]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.5", "0.8"]


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch):
    check_figures(False)
    monkeypatch.setattr(vector, "find_spec", lambda name: None)
    check_figures(False)
    with pytest.raises(UserError, match=re.escape("--figures: needs matplotlib; pip install 'mm-ray[figures]'")):
        check_figures(True)


def test_a_comparison_shows_scores_and_differences(tmp_path):
    found = CompareResult(tmp_path, [*CELLS, *(cell(row["method"], row["seed"], row["top1"], 0.8) for row in CELLS)])
    scores, differences = found.figure(), found.figure("control_all")
    assert [trace.name for trace in scores.data] == ["a", "control_all"]
    assert list(scores.data[0].x) == ["0.5", "0.8"]
    assert [trace.y[0] for trace in differences.data] == ["a − control_all"], "all regimes together"
    assert differences.data[0].x[0] == pytest.approx(np.mean([0.1, 0.11]))
    for wrong in ({"reference": "b"}, {"alpha": 3.0}):
        with pytest.raises(UserError, match="of this comparison"):
            found.figure(**wrong)
