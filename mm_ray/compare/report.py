"""`compare.html`: one self-contained page, and the summary that the command prints."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from mm_ray.compare.plots import against_missing_video, per_class
from mm_ray.evaluate.statistics import Comparison, Row, compare_all, spread_text
from mm_ray.storage import write_text
from mm_ray.tune.report_style import CSS

REFERENCES = ("control", "control_all", "harmony")
"""What every method is compared with, pair by pair."""
INDEPENDENT = (
    "<b>n</b> counts folds, each the mean of its seeds (and regimes): cells of one fold share their data. p is of the t-test "
    "corrected for training clips that folds share (Nadeau and Bengio 2003)."
)
ONE_FOLD = (
    "<b>n</b> counts seeds (each the mean of its regimes), all on the same split of the data: p (paired t-test) says nothing "
    "of other test clips; use --folds for that."
)


def write_report(path: Path, rows: Sequence[Row], class_names: Sequence[str], settings: str) -> str:
    """Write the page; returns a short table for the terminal.

    Args:
        path: The html file.
        rows: A row a cell (`mm_ray.compare.results.row_of`).
        class_names: Labels in their order.
        settings: With which settings the methods ran, for people.

    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    regimes = sorted({(row["video_missing"], row["alpha"]) for row in rows})
    tests = compare_all(rows, methods, REFERENCES, "top1")
    body = [f"<h1>Comparison {html.escape(path.parent.name)}</h1>", _intro(rows, settings), _how_tested(tests)]
    body += [_section(rows, methods, regime, tests) for regime in regimes]
    body += [f"<h2>All regimes together</h2>{_tests(tests, None)}"] if len(regimes) > 1 else []
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


def _intro(rows: Sequence[Row], settings: str) -> str:
    seeds, folds = sorted({row["seed"] for row in rows}), sorted({row["fold"] for row in rows})
    computed, reused = sum(row["rounds_computed"] for row in rows), sum(row["rounds_reused"] for row in rows)
    clips = {row["fold"]: row["test_clips"] for row in rows}
    return (
        f"<p>{len(rows)} cells; seeds {seeds}, folds {folds} with {', '.join(f'{clips[fold]}' for fold in folds)} test clips; "
        f"{html.escape(settings)}. {computed} rounds computed, {reused} taken from the phase store. "
        f"Scores are on the test set, at each network's best dev round; &plusmn; is the standard deviation over n cells.</p>"
    )


def _how_tested(tests: Sequence[Comparison]) -> str:
    if not tests:
        return ""
    made = sum(not np.isnan(one.result.p) for one in tests)
    kinds = {one.units.kind: INDEPENDENT if one.units.kind == "folds" else ONE_FOLD for one in tests}
    return (
        f"<p>{' '.join(kinds.values())} Holm's correction is for all {made} tests of this page; the intervals are not "
        f"corrected. No p is given for n below 2, or where all differences are equal.</p>"
    )


def _section(rows: Sequence[Row], methods: Sequence[str], regime: tuple[float, float], tests: Sequence[Comparison]) -> str:
    missing, alpha = regime
    mine = [row for row in rows if (row["video_missing"], row["alpha"]) == regime]
    title = f"<h2>{missing:.0%} of the clients without video, alpha {alpha:g}</h2>"
    return title + _scores(mine, methods) + _tests(tests, regime)


def _scores(rows: Sequence[Row], methods: Sequence[str]) -> str:
    head = ("method", "audio top-1", "UAR", "macro-F1", "teacher top-1", "rounds", "MB up", "MB down")
    return _table(head, [_scores_row([row for row in rows if row["method"] == method], method) for method in methods])


def _scores_row(rows: Sequence[Row], method: str) -> list[str]:
    scores = [_mean_sd(rows, name) for name in ("top1", "uar", "macro_f1", "teacher_top1")]
    rounds, up, down = (np.mean([row[name] for row in rows]) for name in ("rounds", "bytes_up", "bytes_down"))
    return [method, *scores, f"{rounds:.0f}", f"{up / 1e6:.0f}", f"{down / 1e6:.0f}"]


def _mean_sd(rows: Sequence[Row], name: str) -> str:
    values = [row[name] for row in rows if row[name] is not None]
    return html.escape(spread_text(values)) if values else "&ndash;"


def _tests(tests: Sequence[Comparison], regime: tuple[float, float] | None) -> str:
    head = ("audio top-1, difference", "n", "mean", "95 % interval", "better in", "p", "p, Holm")
    mine = [one for one in tests if one.regime == regime]
    others = dict.fromkeys(one.other for one in mine)
    return "".join(_table(head, [_tests_row(one) for one in mine if one.other == other]) for other in others)


def _tests_row(one: Comparison) -> list[str]:
    result = one.result
    interval = "&ndash;" if np.isnan(result.low) else f"[{result.low:+.3f}, {result.high:+.3f}]"
    ps = ["&ndash;" if np.isnan(p) else f"{p:.3g}" for p in (result.p, one.holm_p)]
    n = f"{result.n} {one.units.kind}"
    name = f"{html.escape(one.method)} &minus; {html.escape(one.other)}"
    return [name, n, f"{result.mean:+.3f}", interval, f"{result.wins} of {result.n}", *ps]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div><br>'


def _plot(title: str, figure: Any) -> str:
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True})
    return f"<h2>{html.escape(title)}</h2>{drawn}"


def _terminal(rows: Sequence[Row], methods: Sequence[str], regimes: Sequence[tuple[float, float]]) -> str:
    lines = [f"{'audio top-1 on test':<22}" + "".join(f"  q={q:g} alpha={a:g}".rjust(26) for q, a in regimes)]
    for method in methods:
        cells = [[r["top1"] for r in rows if r["method"] == method and (r["video_missing"], r["alpha"]) == g] for g in regimes]
        texts = [spread_text(v) if v and v[0] is not None else "–" for v in cells]
        lines.append(f"{method:<22}" + "".join(text.rjust(26) for text in texts))
    return "\n".join(lines)
