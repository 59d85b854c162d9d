"""The page of a feature store: classes, groups, durations, rejects, warnings, and a few clips."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from mm_ray.report.figures import BLUE, SCALE, styled
from mm_ray.report.pages import render

MOST_GROUPS = 200
"""Number of groups in the figure, the largest first."""


class ShownClip(NamedTuple):
    """One clip of the page."""

    name: str
    facts: str
    shades_FT: np.ndarray
    """Its audio features, uint8."""
    hop_s: float | None
    """Seconds from column to column; None if unknown."""
    hz: Mapping[int, float]
    """Positions of some frequencies among the rows, by frequency; empty if unknown."""
    frames: str
    """Its frames as a data URI; empty without video."""
    sound: str
    """Its sound as a data URI; empty without recording."""
    silence: str
    """Why there is no sound, if that is a reason of this clip."""


def data_page(
    title: str,
    heads: Sequence[str],
    classes: Sequence[Sequence[str]],
    groups: Mapping[str, int],
    seconds: np.ndarray,
    durations: str,
    warnings: Sequence[str],
    counts: Mapping[str, Sequence[tuple[int, str, str]]],
    clips: Sequence[ShownClip],
    silence: str,
) -> str:
    """The page's text.

    Args:
        title: Name of the store.
        heads: Column heads of the table of classes.
        classes: Its rows, the last one of all clips.
        groups: Clips by group.
        seconds: Duration of each clip.
        durations: The same in one line.
        warnings: Likely mistakes.
        counts: Tables by title, of count, name and meaning.
        clips: Clips to show.
        silence: How to hear the clips, if they have no sound.

    """
    largest = sorted(groups.items(), key=lambda item: -item[1])[:MOST_GROUPS]
    by_group = go.Figure(go.Bar(x=[name for name, _ in largest], y=[n for _, n in largest], marker_color=BLUE))
    counts_B, edges_B1 = np.histogram(seconds, bins=30)
    by_length = go.Figure(go.Bar(x=(edges_B1[:-1] + edges_B1[1:]) / 2, y=counts_B, width=np.diff(edges_B1), marker_color=BLUE))
    return render(
        "data.html",
        title=title,
        heads=heads,
        classes=classes,
        num_groups=len(groups),
        most_groups=MOST_GROUPS,
        by_group=styled(by_group, "group", "clips", height=280).update_xaxes(type="category"),
        by_length=styled(by_length, "seconds", "clips", height=280),
        durations=durations,
        warnings=warnings,
        counts=counts,
        clips=[(clip, _spectrogram(clip)) for clip in clips],
        silence=silence,
    )


def _spectrogram(clip: ShownClip) -> go.Figure:
    heatmap = go.Heatmap(z=clip.shades_FT, dx=clip.hop_s or 1, x0=0, colorscale=SCALE, showscale=False, zmin=0, zmax=255)
    figure = styled(go.Figure(heatmap), "seconds" if clip.hop_s else "frame", "Hz" if clip.hz else "bin", height=200)
    ticks = {"tickvals": list(clip.hz.values()), "ticktext": [f"{hz:,}" for hz in clip.hz]} if clip.hz else {}
    return figure.update_yaxes(**ticks)
