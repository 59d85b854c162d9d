"""A comparison's page: the best method in each regime, its lead and the uncertainty; the same as table files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from mm_ray.evaluate.statistics import MethodDifference, Row, compare_all, mean_interval, spread_text
from mm_ray.report.figures import BLUE, GREEN, GREY, ORANGE, errors, style_of, styled
from mm_ray.report.pages import NONE, render
from mm_ray.report.tables import HEAD, Record, cells, is_sure, or_none, regime_text, to_latex, to_markdown
from mm_ray.report.vector import write_figures
from mm_ray.storage import write_text

REFERENCES = ("control", "control_all", "harmony")
"""What every method is compared with, pair by pair."""
Regime = tuple[float, float]
SCORES = {"top1": "audio top-1", "uar": "UAR", "macro_f1": "macro-F1", "teacher_top1": "teacher top-1"}


def paired_records(rows: Sequence[Row], references: Sequence[str] = REFERENCES) -> list[dict[str, Any]]:
    """Every paired test of a comparison (`mm_ray.report.tables.Record`), Holm's correction for all of them.

    Args:
        rows: A row per cell: `method`, `video_missing`, `alpha`, `seed`, `fold`, `top1`, `train_clips`, `test_clips`.
        references: Methods that the others are compared with.

    """
    return [_record(one) for one in compare_all(rows, list(dict.fromkeys(row["method"] for row in rows)), references, "top1")]


def _record(one: MethodDifference) -> dict[str, Any]:
    missing, alpha = one.regime or (None, None)
    found = one.result
    numbers = {"mean": found.mean, "low": found.low, "high": found.high, "p": found.p, "p_holm": one.holm_p}
    return {
        "video_missing": missing, "alpha": alpha, "method": one.method, "reference": one.other, "n": found.n,
        "unit": one.units.kind, "wins": found.wins, **{name: or_none(value) for name, value in numbers.items()},
    }  # fmt: skip


def write_comparison(
    path: Path, rows: Sequence[Row], class_names: Sequence[str], settings: str, vector_figures: bool = False
) -> str:
    """Write the page and, beside it, `paired.json`, `paired.md` and `paired.tex`; returns a short table for the terminal.

    Args:
        path: The html file.
        rows: A row per cell: as for `paired_records`, and `uar`, `macro_f1`, `teacher_top1`, `rounds`, `rounds_computed`,
            `rounds_reused`, `bytes_up`, `bytes_down`, `seconds`, `per_class`; `clients` (the student's spread over clients) and
            `refused` (lines on refused updates) if known.
        class_names: Labels in their order.
        settings: The settings of the methods, for people.
        vector_figures: Also write the figures as SVG and PDF into `figures/`.

    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    regimes = sorted({(row["video_missing"], row["alpha"]) for row in rows})
    records = paired_records(rows)
    content: dict[str, Any] = dict(
        title=f"Comparison {path.parent.name}",
        settings=settings,
        facts=_facts(rows),
        folds=any(one["unit"] == "folds" for one in records),
        num_tests=sum(one["p"] is not None for one in records),
        against_video={alpha: against_missing_video(rows, methods, alpha) for alpha in sorted({row["alpha"] for row in rows})},
        sections=[_section(rows, methods, regime, records) for regime in regimes]
        + [_section(rows, methods, None, records)] * (len(regimes) > 1),
        heads=["n", *SCORES.values(), "rounds", "MB up", "MB down", "seconds"],
        test_heads=HEAD[1:],
        clients=client_lines(rows, methods),
        client_spread=client_spread(rows, methods),
        refused=[f"{row['method']}, seed {row['seed']}: {line}" for row in rows for line in row.get("refused") or ()],
        per_class=per_class(rows, class_names),
    )
    write_text(path, render("comparison.html", **content))
    if vector_figures:
        write_figures(path.parent / "figures", content)
    for name, text in (("json", json.dumps(records, indent=2)), ("md", to_markdown(records)), ("tex", to_latex(records))):
        write_text(path.with_name(f"paired.{name}"), text)
    return _terminal(rows, methods, regimes)


def _facts(rows: Sequence[Row]) -> dict[str, Any]:
    clips = {row["fold"]: row["test_clips"] for row in rows}
    return {
        "cells": len(rows),
        "seeds": ", ".join(str(seed) for seed in sorted({row["seed"] for row in rows})),
        "folds": ", ".join(f"{fold} ({clips[fold]:,} test clips)" for fold in sorted(clips)),
        "rounds computed": sum(row["rounds_computed"] for row in rows),
        "rounds taken from the phase store": sum(row["rounds_reused"] for row in rows),
    }


def _section(rows: Sequence[Row], methods: Sequence[str], regime: Regime | None, records: Sequence[Record]) -> dict[str, Any]:
    mine = [row for row in rows if regime in (None, (row["video_missing"], row["alpha"]))]
    missing, alpha = regime or (None, None)
    tests = [one for one in records if (one["video_missing"], one["alpha"]) == (missing, alpha)]
    best = _best(mine, methods)
    return {
        "title": regime_text(missing, alpha).capitalize() if regime else "All regimes together",
        "conclusion": conclusion(mine, best, tests),
        "scores": [{"method": name, "best": name == best, "cells": _scores(mine, name)} for name in methods],
        "forest": forest(tests)
        if tests
        else f"Paired differences need a reference and another method; references are {', '.join(REFERENCES)}.",
        "tests": [{"sure": is_sure(one), "cells": cells(one)[1:]} for one in tests],
    }


def _tops(rows: Sequence[Row], method: str) -> list[float]:
    return [row["top1"] for row in rows if row["method"] == method and row["top1"] is not None]


def _best(rows: Sequence[Row], methods: Sequence[str]) -> str | None:
    means = {name: float(np.mean(tops)) for name in methods if (tops := _tops(rows, name))}
    return max(means, key=lambda name: means[name], default=None)


def conclusion(rows: Sequence[Row], best: str | None, tests: Sequence[Record]) -> str:
    """One line: the best method, the references that it beats significantly, and the others."""
    if best is None:
        return "None of these methods has an audio student."
    compared = [(one["reference"], one, 1) for one in tests if one["method"] == best]
    compared += [(one["method"], one, -1) for one in tests if one["reference"] == best]
    sure = [_against(*one) for one in compared if is_sure(one[1])]
    unsure = [_against(*one) for one in compared if not is_sure(one[1])]
    parts = [f"Best: {best}, {spread_text(_tops(rows, best))}"]
    parts += [f"better than {', '.join(sure)}"] if sure else []
    parts += [f"not significantly different from {', '.join(unsure)}"] if unsure else []
    return "; ".join(parts) + "."


def _against(other: str, record: Record, sign: int) -> str:
    ends = sorted(sign * record[key] for key in ("low", "high")) if record["low"] is not None else []
    interval = f" [{ends[0]:+.3f}, {ends[1]:+.3f}]" if ends else ""
    p = "" if record["p_holm"] is None else f", Holm p {record['p_holm']:.2g}"
    return f"{other} ({sign * record['mean']:+.3f}{interval}{p})"


def _scores(rows: Sequence[Row], method: str) -> list[str]:
    mine = [row for row in rows if row["method"] == method]
    scores = [[row[name] for row in mine if row[name] is not None] for name in SCORES]
    costs = (("rounds", 1), ("bytes_up", 1e6), ("bytes_down", 1e6), ("seconds", 1))
    means = [f"{np.mean([row.get(name) or 0 for row in mine]) / unit:,.0f}" if mine else NONE for name, unit in costs]
    return [str(len(mine)), *(spread_text(values).partition(" (")[0] if values else NONE for values in scores), *means]


def forest(records: Sequence[Record]) -> go.Figure:
    """Paired differences with their intervals; green and orange where Holm's p is below 5 %."""
    shown = records[::-1]
    names = [f"{one['method']} − {one['reference']}" for one in shown]
    means = [one["mean"] for one in shown]
    lows, highs = ([np.nan if one[key] is None else one[key] for one in shown] for key in ("low", "high"))
    colors = [(GREEN if one["mean"] > 0 else ORANGE) if is_sure(one) else GREY for one in shown]
    figure = go.Figure()
    for i, color in enumerate(colors):
        bars = errors([means[i]], [lows[i]], [highs[i]]) | {"color": color}
        p = "" if shown[i]["p_holm"] is None else f"  p {shown[i]['p_holm']:.2g}"
        figure.add_scatter(
            x=[means[i]], y=[names[i]], error_x=bars, mode="markers", marker={"color": color, "size": 10, "symbol": "square"},
            showlegend=False, hovertemplate=f"{names[i]}: {means[i]:+.3f}<extra></extra>",
        )  # fmt: skip
        figure.add_annotation(x=1, xref="paper", xanchor="left", y=names[i], text=p, showarrow=False)
    figure.add_vline(x=0, line={"color": GREY, "width": 1.5})
    figure = styled(figure, "difference in audio top-1", "", height=110 + 40 * len(shown))
    figure.update_layout(margin_r=80).update_xaxes(nticks=5, tickangle=0)
    in_two_lines = [name.replace(" − ", "<br>− ") for name in names]  # so that a phone has room for the bars
    return figure.update_yaxes(tickvals=names, ticktext=in_two_lines)


def _client_means(rows: Sequence[Row], methods: Sequence[str]) -> dict[str, tuple[int, float, float, float]]:
    """By method: the number of cells, and over them the means of the clients' mean, worst tenth and standard deviation."""
    found: dict[str, tuple[int, float, float, float]] = {}
    for method in methods:
        mine = [row["clients"] for row in rows if row["method"] == method and row.get("clients")]
        if mine:
            mean, worst, sd = (float(np.mean([one[key] or 0.0 for one in mine])) for key in ("mean", "worst", "sd"))
            found[method] = len(mine), mean, worst, sd
    return found


def client_lines(rows: Sequence[Row], methods: Sequence[str]) -> list[list[str]]:
    """A line per method: its name, cells, and the clients' mean accuracy, worst tenth and standard deviation."""
    means = _client_means(rows, methods)
    return [[name, str(count), *(f"{value:.3f}" for value in values)] for name, (count, *values) in means.items()]


def client_spread(rows: Sequence[Row], methods: Sequence[str]) -> go.Figure:
    """By method the clients' mean accuracy, with a line to that of the worst tenth."""
    figure = go.Figure()
    means = _client_means(rows, methods)
    for method, (_, mean, worst, _) in reversed(means.items()):
        figure.add_scatter(x=[worst, mean], y=[method] * 2, mode="lines", line={"color": GREY, "width": 2}, showlegend=False)
    for place, (name, symbol, color) in enumerate((("mean", "circle", BLUE), ("worst 10 %", "diamond", ORANGE)), start=1):
        figure.add_scatter(
            x=[values[place] for values in means.values()], y=list(means), mode="markers", name=name,
            marker={"symbol": symbol, "color": color, "size": 11}, hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )  # fmt: skip
    return styled(figure, "accuracy of clients, own classes", "", height=110 + 34 * len(means))


def against_missing_video(rows: Sequence[Row], methods: Sequence[str], alpha: float) -> go.Figure:
    """Audio top-1 against the fraction of clients without video, with 95 % intervals over the cells; also for one fraction."""
    figure, ends = go.Figure(), list[float]()
    for place, method in enumerate(methods):
        mine = [row for row in rows if row["alpha"] == alpha and row["method"] == method and row["top1"] is not None]
        missing = sorted({row["video_missing"] for row in mine})
        points = [mean_interval([row["top1"] for row in mine if row["video_missing"] == q]) for q in missing]
        if points:
            mean, low, high = zip(*points, strict=True)
            ends += [end for point in points for end in point if not np.isnan(end)]
            style = style_of(place)
            figure.add_scatter(
                x=[f"{q:g}" for q in missing], y=mean, error_y=errors(mean, low, high) | {"color": style["color"]}, name=method,
                mode="lines+markers", line=style | {"width": 2}, marker={"size": 9},
            )  # fmt: skip
    figure = styled(figure, "clients without video", "audio top-1 on test", height=420)
    figure.update_layout(scattermode="group", scattergap=0.5)
    if ends:  # for grouped bars plotly's own range would begin at 0
        pad = 0.06 * (max(ends) - min(ends)) or 0.05
        figure.update_yaxes(range=[min(ends) - pad, max(ends) + pad])
    return figure.update_xaxes(type="category")


def per_class(rows: Sequence[Row], class_names: Sequence[str]) -> go.Figure | None:
    """Student minus phase 1 by class, sorted by phase 1's accuracy (as the paper does); 95 % intervals over cells."""
    mine: list[Mapping[str, Any]] = [
        row["per_class"] for row in rows if row["method"] == "modality_mirror" and "phase1_audio" in row["per_class"]
    ]
    if not mine:
        return None
    before_C = np.mean([scores["phase1_audio"] for scores in mine], axis=0)
    gains_XC = np.array([np.subtract(scores["student"], scores["phase1_audio"]) for scores in mine])
    order = np.argsort(before_C, kind="stable")
    mean, low, high = zip(*(mean_interval(gains_XC[:, c].tolist()) for c in order), strict=True)
    labels = [f"{class_names[c]} ({before_C[c]:.2f})" for c in order]
    colors = [GREEN if value >= 0 else ORANGE for value in mean]
    figure = go.Figure(go.Bar(x=labels, y=mean, marker_color=colors, error_y=errors(mean, low, high)))
    return styled(figure, "", "recall, student − phase 1")


def _terminal(rows: Sequence[Row], methods: Sequence[str], regimes: Sequence[Regime]) -> str:
    lines = [f"{'audio top-1 on test':<22}" + "".join(f"  q={q:g} alpha={a:g}".rjust(26) for q, a in regimes)]
    for method in methods:
        tops = [_tops([row for row in rows if (row["video_missing"], row["alpha"]) == regime], method) for regime in regimes]
        lines.append(f"{method:<22}" + "".join((spread_text(values) if values else NONE).rjust(26) for values in tops))
    return "\n".join(lines)
