"""A page's figures as SVG and PDF, for papers: plotly's figures drawn by matplotlib, which needs no browser.

It can draw what our figures consist of: lines, markers, error bars, bars, heatmaps and level lines. Parallel coordinates are on
the page only.
"""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from mm_ray.errors import UserError

FORMATS = ("svg", "pdf")
WIDTH_IN, PX_PER_IN = 7.0, 90.0
"""Width of a page's text; heights are those of the page."""
DRAWN = ("scatter", "bar", "heatmap")
LINES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
MARKERS = {"circle": "o", "square": "s", "diamond": "D", "line-ns-open": "|"}
PT_PER_PX = 0.75
GROUP_WIDTH = 0.5
"""Of traces that stand side by side over a category."""
SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "mm_ray", "pdf.fonttype": 42, "font.size": 9, "axes.titlesize": 9}
"""Text stays text; the same figure gives the same bytes."""


def check_figures(wanted: bool) -> None:
    """Refuse `--figures` where matplotlib is missing.

    Raises:
        UserError: It is missing.

    """
    if wanted and find_spec("matplotlib") is None:
        raise UserError("--figures: needs matplotlib; pip install 'mm-ray[figures]'")


def write_figures(folder: Path, content: Mapping[str, Any]) -> list[Path]:
    """Write every figure of a page's content as `NAME.svg` and `NAME.pdf`; returns the files.

    Args:
        folder: Created if missing.
        content: As for `mm_ray.report.pages.render`; a figure in a mapping or a list gets its position as a second name.

    """
    import matplotlib

    folder.mkdir(exist_ok=True)
    written = []
    with matplotlib.rc_context(SETTINGS):
        for name, figure in figures_in(content):
            if any(trace.type not in DRAWN for trace in figure.data):
                continue
            drawn = draw(figure)
            for kind in FORMATS:
                stamp = "Date" if kind == "svg" else "CreationDate"
                drawn.savefig(folder / f"{name}.{kind}", bbox_inches="tight", metadata={stamp: None})
                written.append(folder / f"{name}.{kind}")
    return written


def figures_in(content: Any, name: str = "") -> Iterator[tuple[str, go.Figure]]:
    """The figures in a page's content, with names for their files."""
    if isinstance(content, go.Figure):
        yield name, content
    pairs = content.items() if isinstance(content, Mapping) else enumerate(content) if isinstance(content, list) else ()
    for key, value in pairs:
        inner = "".join(c if c.isalnum() or c in "._" else "-" for c in str(key))
        yield from figures_in(value, f"{name}-{inner}" if name else inner)


def draw(figure: go.Figure) -> Any:
    """A plotly figure as one of matplotlib."""
    from matplotlib.figure import Figure

    layout = figure.layout
    drawn = Figure(figsize=(WIDTH_IN, (layout.height or 380) / PX_PER_IN))
    axes = drawn.add_subplot()
    for trace in side_by_side(figure) if layout.scattermode == "group" else figure.data:
        {"scatter": _scatter, "bar": _bar, "heatmap": _heatmap}[trace.type](axes, trace)
    if layout.scattermode == "group":
        axes.set_xticks(range(len(_categories(figure))), _categories(figure))
    for shape in layout.shapes:
        _level(axes, shape)
    for note in layout.annotations:
        _note(axes, note)
    axes.set_xlabel(layout.xaxis.title.text or "")
    axes.set_ylabel(layout.yaxis.title.text or "")
    for axis, limits in ((layout.xaxis, axes.set_xlim), (layout.yaxis, axes.set_ylim)):
        if axis.range:
            limits(*axis.range)
    if layout.xaxis.rangemode == "tozero":
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    if any(len(str(label)) > 4 for trace in figure.data for label in _words(trace.x)):
        axes.tick_params(axis="x", labelrotation=90)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1 or any(trace.showlegend for trace in figure.data):  # as plotly decides it
        axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
    return drawn


def side_by_side(figure: go.Figure) -> list[Any]:
    """The traces over categories, each slightly shifted."""
    places, count = {name: place for place, name in enumerate(_categories(figure))}, len(figure.data)
    shifts = [GROUP_WIDTH * ((2 * i + 1) / (2 * count) - 0.5) for i in range(count)]
    return [go.Scatter(t, x=[places[name] + shift for name in t.x]) for t, shift in zip(figure.data, shifts, strict=True)]


def _categories(figure: go.Figure) -> list[str]:
    return list(dict.fromkeys(name for trace in figure.data for name in trace.x))


def _words(values: Any) -> list[str]:
    return [value for value in (() if values is None else values) if isinstance(value, str)]


def _numbers(values: Any) -> Any:
    """Numbers, with NaN for None; text unchanged."""
    return list(values) if _words(values) else np.array([np.nan if value is None else value for value in values], float)


def _label(trace: Any) -> str:
    return "_" if trace.showlegend is False or not trace.name else trace.name


def _ends(errors: Any) -> np.ndarray | None:
    if errors.array is None:
        return None
    return np.nan_to_num(np.maximum(np.array([errors.arrayminus, errors.array], float), 0))


def _scatter(axes: Any, trace: Any) -> None:
    x, y, mode, line, marker = _numbers(trace.x), _numbers(trace.y), trace.mode or "lines", trace.line, trace.marker
    color = line.color or (marker.color if isinstance(marker.color, str) else None)
    style = {"color": color, "alpha": trace.opacity, "label": _label(trace)}
    if "lines" in mode:
        steps = {"drawstyle": "steps-post"} if line.shape == "hv" else {}
        width = (line.width or 2) * PT_PER_PX
        (drawn,) = axes.plot(x, y, LINES[line.dash or "solid"], linewidth=width, **style, **steps)
        style |= {"color": drawn.get_color(), "label": "_"}
    if "markers" in mode:
        _markers(axes, x, y, marker, style)
    bars = {"xerr": _ends(trace.error_x), "yerr": _ends(trace.error_y)}
    if any(ends is not None for ends in bars.values()):
        color = trace.error_x.color or trace.error_y.color or style["color"]
        axes.errorbar(x, y, **bars, fmt="none", ecolor=color, capsize=2, linewidth=1.1)
    for place, text in zip(zip(x, y, strict=True), trace.text or (), strict=False) if "text" in mode else ():
        axes.annotate(text, place, xytext=(0, 5), textcoords="offset points", ha="center")


def _markers(axes: Any, x: Any, y: Any, marker: Any, style: dict[str, Any]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    size = marker.size if marker.size is not None else 6
    areas = (np.array(size, float) * PT_PER_PX) ** 2
    shape = MARKERS.get(marker.symbol if isinstance(marker.symbol, str) else "circle", "o")
    if marker.colorscale:
        colors = LinearSegmentedColormap.from_list("scale", [(place, color) for place, color in marker.colorscale])
        shown = style | {"c": np.array(marker.color, float), "cmap": colors}
        del shown["color"]
        if marker.line.color:
            shown |= {"edgecolors": marker.line.color, "linewidths": marker.line.width}
        points = axes.scatter(x, y, areas, marker=shape, **shown)
        axes.figure.colorbar(points, label=marker.colorbar.title.text or "")
    else:
        color = style["color"] if marker.color is None else marker.color
        axes.scatter(x, y, areas, marker=shape, **style | {"color": color})


def _bar(axes: Any, trace: Any) -> None:
    x, y, color = _numbers(trace.x), _numbers(trace.y), trace.marker.color
    if trace.orientation == "h":
        axes.barh(y, x, color=color, label=_label(trace))
    else:
        width = 0.8 if trace.width is None else np.array(trace.width)
        axes.bar(x, y, width, color=color, label=_label(trace), yerr=_ends(trace.error_y), ecolor="grey", capsize=2)


def _heatmap(axes: Any, trace: Any) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("scale", [(place, color) for place, color in trace.colorscale])
    shown = axes.imshow(np.array(trace.z, float), aspect="auto", origin="lower", cmap=colors)
    for names, set_ticks in ((trace.x, axes.set_xticks), (trace.y, axes.set_yticks)):
        if names is not None:
            every = max(1, len(names) // 40)
            set_ticks(range(0, len(names), every), list(names)[::every])
    if trace.showscale is not False:
        axes.figure.colorbar(shown, label=trace.colorbar.title.text or "")


def _level(axes: Any, shape: Any) -> None:
    style = {"color": shape.line.color, "linestyle": LINES[shape.line.dash or "solid"], "linewidth": PT_PER_PX * 1.5}
    if shape.x0 == shape.x1:
        axes.axvline(shape.x0, zorder=0, **style)
    else:
        axes.axhline(shape.y0, zorder=0, **style)


def _note(axes: Any, note: Any) -> None:
    """A text beside a point, or at the edge if its axis is the paper."""
    if not note.text or not note.text.strip():
        return
    across = axes.get_xaxis_transform() if "y" in (note.yref or "") and "domain" in note.yref else axes.get_yaxis_transform()
    axes.text(note.x, note.y, note.text, transform=across, va="bottom", ha="left")
