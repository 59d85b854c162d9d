"""`compare.html`: one self-contained page, and the summary that the command prints."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from mm_ray.compare.plots import against_missing_video, per_class
from mm_ray.compare.statistics import Paired, Row, differences, mean_and_sd, paired
from mm_ray.storage import write_text
from mm_ray.tune.report_style import CSS

REFERENCES = ("control", "control_all", "harmony")
"""What every method is compared with, pair by pair."""


def write_report(path: Path, rows: Sequence[Row], class_names: Sequence[str], tune_trials: int) -> str:
    """Write the page; returns a short table for the terminal.

    Args:
        path: The html file.
        rows: A row a cell (`mm_ray.compare.results.row_of`).
        class_names: Labels in their order.
        tune_trials: Trials that each method was given on dev.

    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    regimes = sorted({(row["video_missing"], row["alpha"]) for row in rows})
    body = [f"<h1>Comparison {html.escape(path.parent.name)}</h1>", _intro(rows, tune_trials)]
    body += [_section(rows, methods, regime) for regime in regimes]
    body += [_all_regimes(rows, methods)] if len(regimes) > 1 else []
    body += [
        _plot(f"Audio accuracy against missing video, alpha {a:g}", against_missing_video(rows, methods, a))
        for a in sorted({row["alpha"] for row in rows})
    ]
    gains = per_class(rows, class_names)
    if gains is not None:
        body.append(_plot("What the student gains by class (ModalityMirror; class, phase-1 accuracy)", gains))
    script = f"<script>{get_plotlyjs()}</script>"
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Comparison</title><style>{CSS}</style>{script}'
    write_text(path, page + "\n".join(body))
    return _terminal(rows, methods, regimes)


def _intro(rows: Sequence[Row], tune_trials: int) -> str:
    seeds, folds = sorted({row["seed"] for row in rows}), sorted({row["fold"] for row in rows})
    computed, reused = sum(row["rounds_computed"] for row in rows), sum(row["rounds_reused"] for row in rows)
    tuned = f"each method tuned with {tune_trials} trials on dev" if tune_trials else "default settings"
    return (
        f"<p>{len(rows)} cells; seeds {seeds}, folds {folds}; {tuned}. "
        f"{computed} rounds computed, {reused} taken from the phase store. "
        f"Scores are on the test set, at each network's best dev round; &plusmn; is the standard deviation over cells.</p>"
    )


def _section(rows: Sequence[Row], methods: Sequence[str], regime: tuple[float, float]) -> str:
    missing, alpha = regime
    mine = [row for row in rows if (row["video_missing"], row["alpha"]) == regime]
    title = f"<h2>{missing:.0%} of the clients without video, alpha {alpha:g}</h2>"
    return title + _scores(mine, methods) + "".join(_paired(mine, methods, other) for other in REFERENCES if other in methods)


def _all_regimes(rows: Sequence[Row], methods: Sequence[str]) -> str:
    tables = "".join(_paired(rows, methods, other) for other in REFERENCES if other in methods)
    return f"<h2>All regimes together</h2>{tables}"


def _scores(rows: Sequence[Row], methods: Sequence[str]) -> str:
    head = ("method", "cells", "audio top-1", "UAR", "macro-F1", "teacher top-1", "rounds", "MB up", "MB down")
    return _table(head, [_scores_row([row for row in rows if row["method"] == method], method) for method in methods])


def _scores_row(rows: Sequence[Row], method: str) -> list[str]:
    scores = [_mean_sd(rows, name) for name in ("top1", "uar", "macro_f1", "teacher_top1")]
    rounds, up, down = (np.mean([row[name] for row in rows]) for name in ("rounds", "bytes_up", "bytes_down"))
    return [method, str(len(rows)), *scores, f"{rounds:.0f}", f"{up / 1e6:.0f}", f"{down / 1e6:.0f}"]


def _mean_sd(rows: Sequence[Row], name: str) -> str:
    values = [row[name] for row in rows if row[name] is not None]
    return "{:.3f} &plusmn; {:.3f}".format(*mean_and_sd(values)) if values else "&ndash;"


def _paired(rows: Sequence[Row], methods: Sequence[str], other: str) -> str:
    head = ("audio top-1, difference", "pairs", "mean", "95 % interval", "better in", "Wilcoxon p")
    compared = [(method, differences(rows, method, other, "top1")) for method in methods if method != other]
    lines = [_paired_row(f"{method} &minus; {other}", paired(values)) for method, values in compared if len(values)]
    return _table(head, lines) if lines else ""


def _paired_row(name: str, result: Paired) -> list[str]:
    interval = "&ndash;" if np.isnan(result.low) else f"[{result.low:+.3f}, {result.high:+.3f}]"
    p = "&ndash;" if np.isnan(result.wilcoxon_p) else f"{result.wilcoxon_p:.3g}"
    return [name, str(result.num_pairs), f"{result.mean:+.3f}", interval, f"{result.wins} of {result.num_pairs}", p]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div><br>'


def _plot(title: str, figure: Any) -> str:
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True})
    return f"<h2>{html.escape(title)}</h2>{drawn}"


def _terminal(rows: Sequence[Row], methods: Sequence[str], regimes: Sequence[tuple[float, float]]) -> str:
    lines = [f"{'audio top-1 on test':<22}" + "".join(f"  q={q:g} alpha={a:g}".rjust(18) for q, a in regimes)]
    for method in methods:
        cells = [[r["top1"] for r in rows if r["method"] == method and (r["video_missing"], r["alpha"]) == g] for g in regimes]
        texts = ["{:.3f} ± {:.3f}".format(*mean_and_sd(v)) if v and v[0] is not None else "–" for v in cells]
        lines.append(f"{method:<22}" + "".join(text.rjust(18) for text in texts))
    return "\n".join(lines)
