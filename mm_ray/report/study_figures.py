"""The figures of a study's page."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import plotly.graph_objects as go

from mm_ray.evaluate.statistics import mean_interval
from mm_ray.report.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SCALE,
    YELLOW,
    Figure,
    add_level,
    errors,
    needs,
    styled,
)  # fmt: skip

Row = Mapping[str, Any]
ROLES = {
    "student": ("distilled student", GREEN),
    "control_all": ("control_all", ORANGE),
    "control": ("control", YELLOW),
    "phase1_audio": ("phase 1", BLUE),
    "teacher": ("teacher", PURPLE),
}
"""By role its name and colour in figures."""
MOST_CURVES = 60
"""Trials drawn beside the best one."""
MOST_CLIENTS = 200
"""Clients in the figure of classes."""


def scores_by_seed(test: Mapping[str, Sequence[float]], chance: float) -> Figure:
    """Top-1 on the test set by role: a stroke per seed, a diamond for the mean with its 95 % interval over seeds."""
    figure, roles = go.Figure(), [role for role in reversed(ROLES) if role in test]
    for role in roles:
        name, color = ROLES[role]
        values, (mean, low, high) = test[role], mean_interval(test[role])
        strokes = {"color": color, "size": 16, "symbol": "line-ns-open", "line": {"width": 2}}
        figure.add_scatter(
            x=list(values), y=[name] * len(values), mode="markers", marker=strokes, opacity=0.6, showlegend=False,
            hovertemplate="%{x:.3f}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=[mean], y=[name], error_x=errors([mean], [low], [high]) | {"color": color}, mode="markers+text",
            text=[f"{mean:.3f}"], marker={"color": color, "size": 9, "symbol": "diamond"}, textposition="top center",
            showlegend=False, hovertemplate=f"mean {mean:.3f}<extra></extra>",
        )  # fmt: skip
    line = {"color": GREY, "dash": "dash", "width": 1.5}
    figure.add_vline(x=chance, line=line)
    label = f"chance {chance:.3f}"  # in the legend: beside the line it would cover a score
    figure.add_scatter(x=[chance], y=[ROLES[roles[0]][0]], mode="lines", name=label, line=line, showlegend=True)
    return styled(figure, "top-1 on the test set", "", height=110 + 48 * len(roles)).update_xaxes(rangemode="tozero")


def curves_by_seed(
    curves: Mapping[str, Sequence[Sequence[tuple[int, float]]]], levels: Mapping[str, float], metric: str
) -> Figure:
    """The last phase of the chosen configuration and of its control: a thin line per seed, a thick one for the mean.

    Args:
        curves: Rounds and values of each seed, by role.
        levels: `teacher`, `phase1_audio` and `chance`, if they exist.
        metric: What the values are.

    """
    if not any(points for runs in curves.values() for points in runs):
        return f"The curves need rounds that report {metric}; there are none."
    figure, last = go.Figure(), 1
    for role, runs in curves.items():
        name, color = ROLES[role]
        for points in runs if len(runs) > 1 else ():
            line = {"color": color, "width": 1}
            figure.add_scatter(
                x=[x for x, _ in points], y=[y for _, y in points], mode="lines", line=line, opacity=0.35, hoverinfo="skip",
                showlegend=False,
            )  # fmt: skip
        by_round: dict[int, list[float]] = {}
        for x, y in (point for points in runs for point in points):
            by_round.setdefault(x, []).append(y)
        last = max(last, *by_round)
        label = f"{name}, mean of {len(runs)} seeds" if len(runs) > 1 else name
        means = [float(np.mean(values)) for values in by_round.values()]
        figure.add_scatter(x=list(by_round), y=means, name=label, mode="lines", line={"color": color, "width": 3})
    for role, value in levels.items():
        name, color = ROLES.get(role, (role, GREY))
        add_level(figure, name, value, (1, last), color)
    return styled(figure, "round of the last phase", metric)


def class_gains(gains: Sequence[Row], control: str) -> Figure:
    """The student's recall minus the control's by class, the greatest gain first.

    Args:
        gains: Rows with `name`, `clips`, `control` and `student` (recall), `mean`, `low` and `high` of the difference.
        control: The control's name.

    """
    if not gains:
        return "The gain by class needs the test of the chosen configuration and its control."
    rows = sorted(gains, key=lambda row: -row["mean"])
    mean, low, high = ([row[key] for row in rows] for key in ("mean", "low", "high"))
    figure = go.Figure()
    figure.add_bar(
        x=[f"{row['name']} (n={row['clips']})" for row in rows], y=mean, error_y=errors(mean, low, high),
        marker_color=[GREEN if value >= 0 else ORANGE for value in mean],
        customdata=[f"{control} {row['control']:.3f}, student {row['student']:.3f}" for row in rows],
        hovertemplate="%{x}: %{y:+.3f}<br>%{customdata}<extra></extra>",
    )  # fmt: skip
    return styled(figure, "", f"recall, student − {control}")


def trial_curves(trials: Sequence[Row], metric: str, best: int | None) -> Figure:
    """The best trial over the rounds of all its phases, of its first seed; some of the others in grey behind it."""
    others = [row for row in trials if row["number"] != best]
    shown = others[:: max(1, -(-len(others) // MOST_CURVES))]
    figure = go.Figure()
    for name, rows, color, width in (
        (f"{len(shown)} other trials" + f" of {len(others)}" * (len(shown) < len(others)), shown, GREY, 1),
        (f"best (trial {best})", [row for row in trials if row["number"] == best], GREEN, 3),
    ):
        for reused in (False, True):
            x, y = _segments(rows, metric, reused)
            if any(value is not None for value in y):
                line = {"color": color, "width": width, "dash": "dot" if reused else "solid"}
                label = name + ", from the phase store" * reused
                opacity = 1.0 if width > 1 else 0.5
                figure.add_scatter(x=x, y=y, name=label, mode="lines", line=line, opacity=opacity)
    if not figure.data:
        return f"The learning curves need a trial that reported {metric}; there is none."
    return styled(figure, "round, counted over all phases", metric)


def _segments(rows: Iterable[Row], metric: str, reused: bool) -> tuple[list[int | None], list[float | None]]:
    """The rounds that were computed, or those from the store, as one line with gaps."""
    x: list[int | None] = []
    y: list[float | None] = []
    for row in rows:
        curve = [report for report in row["curve"] if report.get("seed") == row["curve"][0].get("seed")]
        kinds = [bool(report["reused"]) == reused for report in curve]
        for i, report in enumerate(curve):
            # A segment has the style of the round it leads to, so a line begins one point earlier.
            is_shown = kinds[i] or (i + 1 < len(curve) and kinds[i + 1])
            x.append(i + 1)
            y.append(report["metrics"].get(metric) if is_shown else None)
        x.append(None)
        y.append(None)
    return x, y


def complete(trials: Sequence[Row]) -> list[Row]:
    """Complete trials with a score."""
    return [row for row in trials if row["state"] == "COMPLETE" and row.get("score") is not None]


def history(trials: Sequence[Row], metric: str, maximize: bool) -> Figure:
    """Each complete trial's score, and the best so far."""
    rows = complete(trials)
    if not rows:
        return needs("The history", 1, 0)
    numbers, scores = [row["number"] for row in rows], [row["score"] for row in rows]
    figure = go.Figure()
    figure.add_scatter(x=numbers, y=scores, mode="markers", name="trial", marker={"color": BLUE, "size": 8})
    so_far = list(accumulate(scores, max if maximize else min))
    figure.add_scatter(x=numbers, y=so_far, mode="lines", name="best so far", line={"color": GREEN, "shape": "hv"})
    return styled(figure, "trial", metric)


def importance_bars(importances: Mapping[str, float]) -> Figure:
    """Parameters by importance, the greatest on top."""
    rows = sorted(importances.items(), key=lambda item: item[1])
    figure = go.Figure(go.Bar(x=[v for _, v in rows], y=[k for k, _ in rows], orientation="h", marker_color=BLUE))
    return styled(figure, "importance", "", height=90 + 34 * len(rows))


def pair(trials: Sequence[Row], metric: str, x: str, y: str, best: int | None) -> Figure:
    """Complete trials over two parameters, coloured by score; the best has a ring."""
    rows = [row for row in complete(trials) if {x, y} <= set(row["params"])]
    points = {(row["params"][x], row["params"][y]) for row in rows}
    if len(points) < 4 or any(len(set(values)) < 2 for values in zip(*points, strict=True)):
        return needs(f"The map of {x} and {y}", 4, len(points), "that differ in both")
    marker = {"color": [row["score"] for row in rows], "colorscale": SCALE, "size": 12, "colorbar": {"title": metric}}
    marker["line"] = {"color": ORANGE, "width": [3 if row["number"] == best else 0 for row in rows]}
    text = [f"trial {row['number']}: {row['score']:.3f}" for row in rows]
    figure = go.Figure()
    figure.add_scatter(
        x=[row["params"][x] for row in rows], y=[row["params"][y] for row in rows], mode="markers", marker=marker, text=text,
        hovertemplate="%{text}<br>%{x}, %{y}<extra></extra>", showlegend=False,
    )  # fmt: skip
    return styled(figure, x, y)


def slices(trials: Sequence[Row], metric: str, best: int | None) -> dict[str, go.Figure]:
    """Slice plots: the score over each parameter, a figure per parameter; none below two complete trials."""
    rows = complete(trials)
    names = dict.fromkeys(name for row in rows for name in row["params"])
    return {name: _slice([row for row in rows if name in row["params"]], name, metric, best) for name in names if len(rows) > 1}


def _slice(rows: Sequence[Row], name: str, metric: str, best: int | None) -> go.Figure:
    figure = go.Figure()
    colors = [GREEN if row["number"] == best else BLUE for row in rows]
    sizes = [13 if row["number"] == best else 8 for row in rows]
    values = [row["params"][name] for row in rows]
    figure.add_scatter(
        x=[value if isinstance(value, int | float) and not isinstance(value, bool) else str(value) for value in values],
        y=[row["score"] for row in rows], mode="markers", marker={"color": colors, "size": sizes, "opacity": 0.8},
        text=[f"trial {row['number']}" for row in rows], hovertemplate="%{text}: %{x}, %{y:.3f}<extra></extra>",
    )  # fmt: skip
    return styled(figure, name, metric, height=260)


def parallel(trials: Sequence[Row], metric: str) -> Figure:
    """One line per complete trial, through the parameters that all of them have."""
    rows = complete(trials)
    shared = [name for name in rows[0]["params"] if all(name in row["params"] for row in rows)] if rows else []
    if len(rows) < 2 or len(shared) < 2:
        return needs("Parallel coordinates", 2, len(rows), "with two parameters in common")
    scores = [row["score"] for row in rows]
    axes = [_axis(name.rpartition(".")[2], [row["params"][name] for row in rows]) for name in shared]
    line = {"color": scores, "colorscale": SCALE}
    figure = go.Figure(go.Parcoords(line=line, dimensions=[*axes, {"label": metric.rpartition("/")[2], "values": scores}]))
    return styled(figure, height=420).update_layout(margin={"t": 60, "r": 50, "b": 30, "l": 50})


def _axis(label: str, values: Sequence[Any]) -> dict[str, Any]:
    if all(isinstance(value, int | float) for value in values):
        return {"label": label, "values": values}
    levels = sorted({str(value) for value in values})
    places = [levels.index(str(value)) for value in values]
    return {"label": label, "values": places, "tickvals": list(range(len(levels))), "ticktext": levels}


def pareto(trials: Sequence[Row], metric: str, best: int | None) -> Figure:
    """Score against bytes of each complete trial, and the Pareto front: those that no other one dominates."""
    rows = [row for row in complete(trials) if "bytes" in (row.get("metrics") or {})]
    if len(rows) < 2:
        return needs("The Pareto front of accuracy and traffic", 2, len(rows))
    points = sorted((row["metrics"]["bytes"] / 1e6, -row["score"], row["number"]) for row in rows)
    front, reached = [], float("inf")
    for sent, negative, number in points:
        if negative < reached:
            front.append((sent, -negative, number))
            reached = negative
    figure, on_front = go.Figure(), {number for _, _, number in front}
    figure.add_scatter(
        x=[x for x, _, _ in front], y=[y for _, y, _ in front], mode="lines", name="front", line={"color": GREEN, "shape": "hv"}
    )
    for name, color, chosen in (("on the front", GREEN, True), ("dominated", GREY, False)):
        some = [(x, -y, n) for x, y, n in points if (n in on_front) is chosen]
        figure.add_scatter(
            x=[x for x, _, _ in some], y=[y for _, y, _ in some], mode="markers", name=name,
            text=[f"trial {n}{' (best)' if n == best else ''}" for _, _, n in some], marker={"color": color, "size": 9},
            hovertemplate="%{text}: %{y:.3f}, %{x:.1f} MB<extra></extra>",
        )  # fmt: skip
    return styled(figure, "MB that the federation would send in all rounds", metric)


def curves_over_time(curves: Mapping[str, Sequence[tuple[float, float]]], metric: str) -> Figure:
    """Dev scores over simulated time, from the start of phase 1."""
    figure = go.Figure()
    for role, points in curves.items():
        name, color = ROLES[role]
        figure.add_scatter(
            x=[x for x, _ in points], y=[y for _, y in points], mode="lines", name=name, line={"color": color, "width": 2}
        )
    return styled(figure, "simulated seconds", metric)


def client_accuracy(clients: Sequence[Row], roles: Sequence[str]) -> Figure:
    """Each client's accuracy for its own mix of classes, the clients sorted by the first role's."""
    rows = [row for row in clients if all(row["accuracy"][role] is not None for role in roles)]
    if not rows or not roles:
        return "The clients' accuracy needs the test of the chosen configuration, and clients with known classes."
    rows = sorted(rows, key=lambda row: row["accuracy"][roles[0]])
    figure = go.Figure()
    for role in reversed(roles):
        name, color = ROLES[role]
        figure.add_scatter(
            x=list(range(1, len(rows) + 1)), y=[row["accuracy"][role] for row in rows], mode="markers", name=name,
            marker={"color": color, "size": 7}, text=[f"client {row['id']}, {row['modalities']}" for row in rows],
            hovertemplate="%{text}: %{y:.3f}<extra></extra>",
        )  # fmt: skip
    return styled(figure, "clients, sorted", "accuracy, own classes", height=300)


def client_classes(clients: Sequence[Row], classes: Sequence[str]) -> Figure:
    """Clips by client and class."""
    if not clients:
        return "The classes of the clients are known when the study has ended."
    rows = clients[:MOST_CLIENTS]
    colorbar = {"title": "clips"}
    figure = go.Figure(
        go.Heatmap(
            z=np.array([row["classes"] for row in rows]).T, x=[f"{row['id']}" for row in rows], y=list(classes),
            colorscale=SCALE, colorbar=colorbar, hovertemplate="client %{x}, %{y}: %{z} clips<extra></extra>",
        )
    )  # fmt: skip
    figure = styled(figure, "client", "", height=min(800, 110 + 24 * len(classes)))
    return figure.update_xaxes(type="category")
