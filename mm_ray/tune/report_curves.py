"""The report's learning curves: dev metric by round for each trial; rounds taken from the store are dotted."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from mm_ray.tune.report_plots import Figure

BEST, CONTROL, OTHER = "#0b6e4f", "#c8553d", "#9aa5b1"


def learning_curves(trials: Sequence[Mapping[str, Any]], metric: str, best: int | None, control: int | None) -> Figure:
    """One line a trial over the rounds of all its phases, of its first seed; the best trial and the control stand out.

    Args:
        trials: Rows of the report, whose `curve` is a list of `{"phase", "round", "reused", "metrics"}`.
        metric: The metric that is drawn.
        best: Number of the best trial.
        control: Number of the control's trial.

    """
    figure = go.Figure()
    trials = [{**trial, "curve": _first_seed(trial["curve"])} for trial in trials]
    for trial in sorted(trials, key=lambda row: (row["number"] == best, row["number"] == control)):
        for reused in (True, False):
            _add_line(figure, trial, metric, reused, {best: BEST, control: CONTROL}.get(trial["number"], OTHER))
    if not figure.data:
        return f"The learning curves need a trial that reported {metric}; there is none."
    _add_legend(figure, best, control)
    _add_phases(figure, trials)
    figure.update_layout(template="plotly_white", height=460, margin={"t": 40, "r": 30, "b": 60, "l": 70})
    figure.update_layout(
        xaxis_title="round, counted over all phases", yaxis_title=metric, legend={"orientation": "h", "y": -0.2}
    )
    return figure


def _first_seed(curve: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [report for report in curve if report.get("seed") == curve[0].get("seed")]


def _add_line(figure: go.Figure, trial: Mapping[str, Any], metric: str, reused: bool, color: str) -> None:
    points = _points(trial["curve"], metric)
    keep = {i for i, point in enumerate(points) if point[2] == reused and point[1] is not None}
    if not keep:
        return
    # A segment looks like the round it leads to, so a line begins at the point before its own.
    shown = keep | {i - 1 for i in keep if i > 0}
    name = f"trial {trial['number']}"
    figure.add_scatter(
        x=[point[0] for point in points],
        y=[point[1] if i in shown else None for i, point in enumerate(points)],
        text=[point[3] for point in points],
        name=name,
        mode="lines+markers",
        line={"color": color, "width": 1.2 if color == OTHER else 3, "dash": "dot" if reused else "solid"},
        marker={"symbol": "circle-open" if reused else "circle", "size": 4 if color == OTHER else 6},
        opacity=0.6 if color == OTHER else 1,
        showlegend=False,
        hovertemplate=f"{name}, %{{text}}: %{{y:.4f}}<extra></extra>",
    )


def _points(curve: Sequence[Mapping[str, Any]], metric: str) -> list[tuple[int, float | None, bool, str]]:
    # A phase that does not have the metric leaves a gap in the line.
    return [
        (
            x,
            row["metrics"].get(metric),
            bool(row["reused"]),
            f"{row['phase']} round {row['round']}{' (reused)' * row['reused']}",
        )
        for x, row in enumerate(curve, start=1)
    ]


def _add_legend(figure: go.Figure, best: int | None, control: int | None) -> None:
    entries = [(f"best (trial {best})", BEST, "solid")] if best is not None else []
    entries += [(f"control (trial {control})", CONTROL, "solid")] if control is not None and control != best else []
    entries += [("other trials", OTHER, "solid"), ("rounds taken from the store", OTHER, "dot")]
    for name, color, dash in entries:
        figure.add_scatter(x=[None], y=[None], mode="lines", name=name, line={"color": color, "dash": dash})


def _add_phases(figure: go.Figure, trials: Sequence[Mapping[str, Any]]) -> None:
    # Where every trial has its phases at the same rounds, say which they are.
    starts = {tuple(_starts(trial["curve"]).items()) for trial in trials if trial["curve"]}
    full = [one for one in starts if all(set(other) <= set(one) for other in starts)]
    for phase, x in full[0] if full else ():
        if phase.endswith("teacher_logits"):
            continue  # one round, whose name would lie over the next one's
        figure.add_vline(
            x=x - 0.5, line={"color": "#d5dbe1", "width": 1}, annotation_text=phase, annotation_position="top right"
        )


def _starts(curve: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    starts: dict[str, int] = {}
    for x, row in enumerate(curve, start=1):
        starts.setdefault(row["phase"], x)
    return starts
