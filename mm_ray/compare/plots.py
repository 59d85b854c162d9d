"""The plots of a comparison."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from mm_ray.evaluate.statistics import Row, mean_and_sd

COLORS = ("#0b6e4f", "#d64545", "#f0a202", "#3066be", "#7b4b94", "#5c6b73", "#c05299", "#119da4", "#8d6a3f")
DASHES = ("solid", "dash", "dot", "dashdot")
"""A tenth method has the first one's colour again, with another line."""


def against_missing_video(rows: Sequence[Row], methods: Sequence[str], alpha: float) -> go.Figure:
    """Audio top-1 against the fraction of clients without video; a band of one standard deviation where cells are several."""
    figure = go.Figure()
    for place, method in enumerate(methods):
        points = _points(rows, method, alpha)
        if points:
            _add_band(figure, method, points, style_of(place))
    figure.update_layout(
        template="plotly_white", height=420, margin={"t": 20}, legend={"title": None},
        xaxis_title="clients without video (q)", yaxis_title="audio top-1 on test",
    )  # fmt: skip
    return figure


def style_of(place: int) -> dict[str, str]:
    """Colour and dash of the line of a method, by its place."""
    return {"color": COLORS[place % len(COLORS)], "dash": DASHES[place // len(COLORS) % len(DASHES)]}


def _points(rows: Sequence[Row], method: str, alpha: float) -> list[tuple[float, float, float]]:
    mine = [row for row in rows if row["method"] == method and row["alpha"] == alpha and row["top1"] is not None]
    missing = sorted({row["video_missing"] for row in mine})
    return [(q, *mean_and_sd([row["top1"] for row in mine if row["video_missing"] == q])) for q in missing]


def _add_band(figure: go.Figure, method: str, points: Sequence[tuple[float, float, float]], style: dict[str, str]) -> None:
    q, mean, sd = (np.nan_to_num(column) for column in zip(*points, strict=True))
    band = {"x": [*q, *q[::-1]], "y": [*(mean + sd), *(mean - sd)[::-1]], "fill": "toself", "fillcolor": style["color"]}
    figure.add_scatter(**band, mode="lines", opacity=0.12, line={"width": 0}, hoverinfo="skip", showlegend=False)
    figure.add_scatter(x=q, y=mean, name=method, mode="lines+markers", line=style | {"width": 2})


def per_class(rows: Sequence[Row], class_names: Sequence[str]) -> go.Figure | None:
    """Student minus phase 1 by class, classes sorted by phase 1's accuracy (the paper's own analysis); mean over cells."""
    mine = [row["per_class"] for row in rows if row["method"] == "modality_mirror" and "phase1_audio" in row["per_class"]]
    if not mine:
        return None
    before_C = np.mean([scores["phase1_audio"] for scores in mine], axis=0)
    gain_C = np.mean([np.subtract(scores["student"], scores["phase1_audio"]) for scores in mine], axis=0)
    order = np.argsort(before_C, kind="stable")
    labels = [f"{class_names[c]} ({before_C[c]:.2f})" for c in order]
    colors = [COLORS[0] if gain_C[c] >= 0 else COLORS[1] for c in order]
    figure = go.Figure(go.Bar(x=labels, y=gain_C[order], marker_color=colors))
    figure.update_layout(template="plotly_white", height=360, margin={"t": 20}, yaxis_title="student minus phase 1")
    return figure
