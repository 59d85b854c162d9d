"""The study's report: one html file that needs no network, with what was found, how sure it is, and how to retrain it."""

import html
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

import optuna
from plotly.offline import get_plotlyjs

from mm_ray.evaluate.statistics import spread_text
from mm_ray.storage import write_text
from mm_ray.tune.report_curves import learning_curves
from mm_ray.tune.report_gains import class_gains, pareto
from mm_ray.tune.report_plots import WEIGHT, Figure, contour, history, importances, parallel, quietly, slices
from mm_ray.tune.report_style import CSS

Row = Mapping[str, Any]
COLUMNS = {
    "number": "trial",
    "state": "state",
    "score": "best dev",
    "spread": "sd over seeds",
    "best_round": "best round",
    "rounds_computed": "computed",
    "rounds_reused": "reused",
    "seconds": "seconds",
}


def write_report(path: Path, study: optuna.Study, trials: list[dict[str, Any]], best: dict[str, Any]) -> None:
    """Write the report of a study, finished or not.

    Args:
        path: The html file, in the run's folder.
        study: The Optuna study.
        trials: One row a trial: `number`, `state`, `params`, `score`, `best_round`, `rounds_computed`, `rounds_reused`,
            `seconds` and `curve`, a list of `{"phase", "round", "reused", "metrics"}`; `metrics` and `seed_scores`, where
            there are some. Unknown values are None.
        best: `number`, `params` and `score` of the best trial, empty if there is none yet; and optionally `metric`,
            `command` (retrains it), `phase1` and `control` (the score of phase 1's audio model and of the control, else
            read from the trials), `test`, top-1 on the test set by role, `guessing` (that of the most common class) with
            `at_chance` (the roles that are no better), `classes` and `recall` by role for the gain by class, and `finals`,
            sentences on the finalists. Each score is a number, or a list with one for each seed, the same seeds in all.

    """
    path = Path(path)
    metric = best.get("metric", "dev/audio_top1")
    control = (_control(trials, _sign(study)) or {}).get("number")
    panels = [
        ("Learning curves", CURVES, learning_curves(trials, metric, best.get("number"), control)),
        ("Optimisation history", HISTORY, quietly(history, study, metric)),
        ("Parameter importance", IMPORTANCE, quietly(importances, study, metric)),
        ("Temperature and loss weight", CONTOUR, quietly(contour, study, metric)),
        ("All parameters together", PARALLEL, quietly(parallel, study, metric)),
        ("Each parameter alone", SLICES, quietly(slices, study, metric)),
        ("Accuracy and traffic", PARETO, pareto(trials, metric, best.get("number"))),
        ("Gain by class", CLASSES, class_gains(best.get("classes", ()), best.get("recall", {}))),
    ]
    body = [_headline(path, study, trials, best, metric), *(_panel(*panel) for panel in panels), _table(trials, best)]
    write_text(path, _page(f"Study {path.resolve().parent.name}", "\n".join(body)))


CURVES = "Dotted with open markers: rounds taken from the store, which cost nothing. Hover for the phase and the round."
HISTORY = "Complete trials only; a trial that was stopped early is in the table."
IMPORTANCE = "PED-ANOVA: what sets the best tenth of the trials apart. A rough guide below about 50 trials."
CONTOUR = "Dots are trials; the colours between them are interpolated."
PARALLEL = "One line a complete trial. Drag along an axis to keep only some of the lines."
PARETO = "Complete trials; on the line no other trial has both more accuracy and less traffic."
CLASSES = "Test set: recall of the distilled student minus that of the control."
SLICES = "Complete trials; darker is later."


def _headline(path: Path, study: optuna.Study, trials: Sequence[Row], best: Row, metric: str) -> str:
    if best.get("number") is None:
        return f"<p>No trial is complete yet. {_counts(trials)}</p>"
    control = _control(trials, _sign(study)) or {}
    guess = f"on the test set not better than guessing, {best.get('guessing', 0.0):.2f}"
    figures: list[tuple[Any, ...]] = [
        (f"best trial ({best['number']})", best.get("score"), guess if "student" in best.get("at_chance", ()) else ""),
        ("control: cross-entropy on all clients", best.get("control", control.get("score"))),
        ("phase 1 audio model", best.get("phase1", _phase1(trials, best["number"], metric, _sign(study)))),
    ]
    command = best.get(
        "command", f"python -m mm_ray.train --config {path.parent / 'best.yaml'} --name {path.resolve().parent.name}-best"
    )
    return (
        f"{_verdict(best.get('verdict', ()))}"
        f"<p>{_counts(trials)} Scores are <code>{_text(metric)}</code> at each trial's best round.</p>"
        f'<div class="cards">{"".join(_card(*figure) for figure in figures)}</div>'
        f"{_test(best.get('test', {}), best.get('guessing', 0.0), best.get('at_chance', ()))}"
        f"{_refused(best.get('refused', []))}"
        f"{_finals(best.get('finals', []))}"
        f"<h2>Best configuration</h2>{_params(best['params'])}<h3>Retrain it</h3><pre>{_text(command)}</pre>"
    )


def _verdict(lines: Sequence[str]) -> str:
    first, *others = lines or ("",)
    return f"<h2>{_text(first)}</h2>" + "".join(f"<p>{_text(line)}</p>" for line in others) if first else ""


TEST_LABELS = {
    "student": "distilled student",
    "control": "control: cross-entropy, as many rounds",
    "control_all": "control on all clients: cross-entropy, as many rounds",
    "phase1_audio": "phase 1 audio model",
    "teacher": "audiovisual teacher",
}


def _test(test: Mapping[str, Any], guess: float, at_chance: Collection[str]) -> str:
    cards = "".join(
        _card(label, test[role], f"not better than guessing, {guess:.2f}" if role in at_chance else "")
        for role, label in TEST_LABELS.items()
        if role in test
    )
    return f'<h3>On the test set, once, top-1</h3><div class="cards">{cards}</div>' if cards else ""


def _refused(lines: Sequence[str]) -> str:
    return "".join(f'<p class="note">Warning, best trial: {_text(line)}</p>' for line in lines)


def _finals(words: Sequence[str]) -> str:
    if not words:
        return (
            '<p class="note">The best of many trials looks better than it is: retrain it with fresh seeds before a claim.</p>'
        )
    lines = "".join(f"<li>{_text(line)}</li>" for line in words)
    return f"<h3>The best again, with fresh seeds</h3><ul>{lines}</ul>"


def _counts(trials: Sequence[Row]) -> str:
    states = [str(row["state"]).lower() for row in trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    computed, reused = (sum(row.get(key) or 0 for row in trials) for key in ("rounds_computed", "rounds_reused"))
    return f"{len(trials)} trials ({counts}); {computed} rounds computed, {reused} reused."


def _card(label: str, value: Any, warning: str = "") -> str:
    values = list(value) if isinstance(value, Sequence) else [value]
    shown = spread_text(values) if len(values) > 1 else _number(values[0] if values else None)
    label += " (n is the number of seeds)" * (len(values) > 1)
    said = f"<em>{_text(warning)}</em>" if warning else ""
    return f'<div class="card{" chance" * bool(warning)}"><b>{shown}</b>{said}<span>{_text(label)}</span></div>'


def _params(params: Row) -> str:
    rows = "".join(f"<tr><td><code>{_text(key)}</code></td><td>{_number(value)}</td></tr>" for key, value in params.items())
    return f'<table class="narrow">{rows}</table>'


def _panel(title: str, caption: str, figure: Figure) -> str:
    if isinstance(figure, str):
        return f'<h2>{title}</h2><p class="empty">{_text(figure)}</p>'
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True})
    return f'<h2>{title}</h2><p class="note">{caption}</p>{drawn}'


def _table(trials: Sequence[Row], best: Row) -> str:
    names = list(dict.fromkeys(name for row in trials for name in row["params"]))
    head = "".join(f"<th>{_text(name)}</th>" for name in [*COLUMNS.values(), *names])
    rows = sorted(trials, key=lambda row: row["number"])
    body = "".join(_table_row(row, names, row["number"] == best.get("number")) for row in rows)
    return f'<h2>Trials</h2><div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _table_row(row: Row, names: Sequence[str], is_best: bool) -> str:
    scores = row.get("seed_scores") or []
    row = {**row, "spread": stdev(scores) if len(scores) > 1 else None}
    cells = [row.get(key) for key in COLUMNS] + [row["params"].get(name) for name in names]
    marked = ' class="best"' if is_best else ""
    return f"<tr{marked}>{''.join(f'<td>{_number(cell)}</td>' for cell in cells)}</tr>"


def _sign(study: optuna.Study) -> int:
    return 1 if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else -1


def _control(trials: Sequence[Row], sign: int) -> Row | None:
    done = [row for row in trials if str(row["state"]).upper() == "COMPLETE" and row.get("score") is not None]
    return max((row for row in done if row["params"].get(WEIGHT) == 0), key=lambda row: sign * row["score"], default=None)


def _phase1(trials: Sequence[Row], number: int, metric: str, sign: int) -> float | None:
    curves = [row["curve"] for row in trials if row["number"] == number]
    rounds = [point["metrics"] for curve in curves for point in curve if point["phase"].startswith("phase1")]
    return max((metrics[metric] for metrics in rounds if metric in metrics), key=lambda value: sign * value, default=None)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else _text(value)


def _text(value: Any) -> str:
    return html.escape(str(value))


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title><style>{CSS}</style>'
        f"<script>{get_plotlyjs()}</script></head><body><h1>{_text(title)}</h1>{body}</body></html>\n"
    )
