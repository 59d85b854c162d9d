"""What all figures share: a palette readable on white and black, a layout, and a sentence if there is nothing to draw.

Text and grid lines take the page's colours (`style.css`), so that a figure follows dark mode and print.
"""

from collections.abc import Sequence
from typing import TypeAlias

import plotly.graph_objects as go

Figure: TypeAlias = go.Figure | str
GREEN, ORANGE, BLUE, PURPLE, YELLOW, RED, CYAN, PINK, BROWN = (
    "#149174", "#d9662b", "#3b7dbd", "#8a63c7", "#c99a1a", "#d64550", "#22a5b8", "#cf5fa3", "#96704a",
)  # fmt: skip
GREY = "#8b96a3"
PALETTE = (GREEN, ORANGE, BLUE, PURPLE, YELLOW, RED, CYAN, PINK, BROWN)
DASHES = ("solid", "dash", "dot", "dashdot")
SCALE = [[0.0, "#dbe9f4"], [0.5, "#5b9fc4"], [1.0, "#0d5a49"]]
"""From low to high."""
HEIGHT = 380


def styled(figure: go.Figure, x: str = "", y: str = "", height: int = HEIGHT) -> go.Figure:
    """Axis titles and the common layout."""
    figure.update_layout(
        template="none", height=height, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", hovermode="closest",
        margin={"t": 20, "r": 15, "b": 45, "l": 55}, font={"family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, colorway=PALETTE,
    )  # fmt: skip
    axis = {"automargin": True, "zeroline": False, "title": {"standoff": 10, "font": {"size": 13}}}
    figure.update_xaxes(**axis, title_text=x)
    return figure.update_yaxes(**axis, title_text=y)


def style_of(place: int) -> dict[str, str]:
    """Colour and dash of a line by its position; 36 differ."""
    return {"color": PALETTE[place % len(PALETTE)], "dash": DASHES[place // len(PALETTE) % len(DASHES)]}


def add_level(figure: go.Figure, name: str, value: float, ends: Sequence[float | str], color: str) -> None:
    """A dashed line across the figure, with its value in the legend."""
    line = {"color": color, "dash": "dash", "width": 1.5}
    figure.add_scatter(x=list(ends), y=[value] * 2, mode="lines", name=f"{name} {value:.3f}", line=line, hoverinfo="name")


def errors(values: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> dict[str, object]:
    """Error bars from intervals; none where a bound is NaN."""
    up = [high - value for value, high in zip(values, highs, strict=True)]
    down = [value - low for value, low in zip(values, lows, strict=True)]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.5, "width": 4, "color": GREY}


def needs(what: str, wanted: int, there: int, which: str = "") -> str:
    """The sentence in place of a figure."""
    are = f"is {there}" if there == 1 else f"are {there or 'none'}"
    return f"{what} needs at least {wanted} complete trial{'s' * (wanted > 1)}{' ' * bool(which)}{which}; there {are}."
