"""The report's figures of what accuracy costs, and of the classes that gain."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from mm_ray.tune.report_plots import COLOR, HEIGHT, Figure

GAIN, LOSS, MUTED = "#0b6e4f", "#c8553d", "#9aa5b1"


def pareto(trials: Sequence[Mapping[str, Any]], metric: str, best: int | None) -> Figure:
    """Score against bytes of each complete trial, and the front: those that no other one beats in both.

    Args:
        trials: Rows of the report, whose `metrics` hold `bytes`.
        metric: The score's name.
        best: Number of the best trial.

    """
    rows = [row for row in trials if row["state"] == "COMPLETE" and "bytes" in (row.get("metrics") or {})]
    if len(rows) < 2:
        return f"The front of accuracy and traffic needs at least 2 complete trials; there {_are(len(rows))}."
    points = sorted((row["metrics"]["bytes"] / 1e6, -row["score"], row["number"]) for row in rows)
    front, reached = [], 1.0
    for sent, negative, number in points:
        if negative < reached:
            front.append((sent, -negative, number))
            reached = negative
    figure = go.Figure()
    figure.add_scatter(
        x=[x for x, _, _ in front], y=[y for _, y, _ in front], mode="lines", name="front", line={"color": GAIN, "shape": "hv"}
    )
    on_front = {number for _, _, number in front}
    for name, color, chosen in (("on the front", GAIN, True), ("beaten in both", MUTED, False)):
        some = [(x, -y, n) for x, y, n in points if (n in on_front) is chosen]
        figure.add_scatter(
            x=[x for x, _, _ in some], y=[y for _, y, _ in some], mode="markers", name=name,
            text=[f"trial {n}{' (best)' if n == best else ''}" for _, _, n in some], marker={"color": color, "size": 9},
            hovertemplate="%{text}: %{y:.4f}, %{x:.1f} MB<extra></extra>",
        )  # fmt: skip
    return _styled(figure, "MB that the federation would send in all rounds", metric)


def class_gains(classes: Sequence[str], recall: Mapping[str, Sequence[float]]) -> Figure:
    """The student's recall minus the control's on the test set, by class, the greatest gain first.

    Args:
        classes: Class names.
        recall: Recall by class for `student` and `control`, as far as the roles are there.

    """
    if not {"student", "control"} <= set(recall):
        return "The gain by class needs the test of the chosen configuration and its control."
    pairs = list(zip(recall["student"], recall["control"], strict=True))
    order = sorted(range(len(classes)), key=lambda i: pairs[i][1] - pairs[i][0])
    gains = [pairs[i][0] - pairs[i][1] for i in order]
    figure = go.Figure()
    figure.add_bar(
        x=[classes[i] for i in order], y=gains, marker_color=[GAIN if gain >= 0 else LOSS for gain in gains],
        text=[f"{pairs[i][1]:.2f} to {pairs[i][0]:.2f}" for i in order],
        hovertemplate="%{x}: control %{text} student<extra></extra>",
    )  # fmt: skip
    figure.update_traces(textposition="none")
    return _styled(figure, "", "recall gained")


def _styled(figure: go.Figure, x_title: str, y_title: str) -> go.Figure:
    figure.update_layout(template="plotly_white", height=HEIGHT, margin={"t": 30, "r": 30, "b": 60, "l": 70}, colorway=[COLOR])
    return figure.update_layout(xaxis_title=x_title, yaxis_title=y_title, legend={"orientation": "h", "y": -0.25})


def _are(count: int) -> str:
    return f"is {count}" if count == 1 else f"are {count or 'none'}"
