"""A study's page: the result, its uncertainty, what was run, and how to retrain it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import stdev
from typing import Any

import numpy as np
from markupsafe import Markup

from mm_ray.evaluate.statistics import ClientSpread, spread_of_clients
from mm_ray.report import study_figures as figures
from mm_ray.report.figures import needs
from mm_ray.report.pages import number_text, render, score_text
from mm_ray.report.study_figures import ROLES, Row
from mm_ray.report.vector import write_figures
from mm_ray.report.verdict import CONTROLS, tone
from mm_ray.storage import write_text

TEMPERATURE, WEIGHT = "phase2.temperature", "phase2.loss_weight"
MIN_FOR_IMPORTANCE = 10
LABELS = {
    "student": "distilled student",
    "control_all": "control_all: cross-entropy on all clients",
    "control": "control: cross-entropy on the audiovisual clients",
    "phase1_audio": "phase 1 audio network",
    "teacher": "audiovisual teacher",
}
UPDATES = {"loss": "training loss", "norm": "norm of the update"}
"""What is known of a client's updates, and its name."""
COLUMNS = {
    "number": "trial",
    "state": "state",
    "score": "dev score",
    "spread": "sd over seeds",
    "best_round": "best round",
    "last_step": "stopped at",
    "rounds_computed": "computed",
    "rounds_reused": "reused",
    "seconds": "seconds",
}
"""Columns of the table of trials; one without a value is left out."""


@dataclass(frozen=True)
class StudyEnding:
    """The test of the chosen configuration beside its controls, on the same seeds."""

    test: Mapping[str, Sequence[float]]
    """Top-1 on the test set by role, one for each seed."""
    dev: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Top-1 on dev at the best round by role, one for each seed."""
    chance: float = 0.0
    """Accuracy on the test set of always naming the most common class."""
    at_chance: Collection[str] = ()
    """Roles that are no better than that."""
    verdict: Sequence[str] = ()
    curves: Mapping[str, Sequence[Sequence[tuple[int, float]]]] = field(default_factory=dict)
    """Rounds and dev scores of the last phase, by role and seed."""
    levels: Mapping[str, float] = field(default_factory=dict)
    """`teacher`, `phase1_audio` and `chance` on dev."""
    gains: Sequence[Row] = ()
    """The gain by class (`class_gains`)."""
    classes: Sequence[str] = ()
    clients: Sequence[Row] = ()
    """A row per client: `id`, `modalities`, `clips`, `labelled`, `classes` (clips by class, if known),
    `rounds` (whose cohort it was in), `participation` (their share), `refused` (rounds), `reason` (the last), `accuracy` by
    role (None where no class is known), `loss` and `norm` (training loss and norm of the update, the mean over its rounds of
    the last phase; None where the server does not see them).
    """
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    finals: Sequence[str] = ()
    cost: Row = field(default_factory=dict)
    curves_over_time: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    """Simulated seconds and dev scores by role; empty where no time is simulated."""
    what_was_run: Row = field(default_factory=dict)
    command: str = ""
    """The command that retrains the chosen configuration."""


@dataclass(frozen=True)
class StudyRecord:
    """A study, finished or not.

    `trials` has a row per trial: `number`, `state`, `params`, `score`, `best_round`, `rounds_computed`, `rounds_reused`,
    `seconds`, `curve` (a list of `{"phase", "round", "reused", "seed", "metrics"}`), and, where there are some, `metrics`,
    `seed_scores`, `last_step` of a trial that was stopped, and `error` of one that failed. Unknown values are None.
    """

    name: str
    trials: Sequence[Row]
    metric: str = "dev/audio_top1"
    maximize: bool = True
    importances: Mapping[str, float] = field(default_factory=dict)
    """By parameter; empty while it cannot be computed."""
    best: Row = field(default_factory=dict)
    """`number`, `params` and `score` of the chosen trial; empty if there is none."""
    ending: StudyEnding | None = None


def write_study(path: Path, record: StudyRecord, vector_figures: bool = False) -> None:
    """Write the page of a study and, where `vector_figures` says so, its figures as SVG and PDF into `figures/`."""
    trials, metric, best = record.trials, record.metric, record.best.get("number")
    end = record.ending or StudyEnding({})
    control = next((name for name in CONTROLS if name in end.test), "")
    claim, *basis = end.verdict or [_unfinished(record)]
    roles = [role for role in ("student", control) if end.clients and role in end.clients[0]["accuracy"]]
    content: dict[str, Any] = dict(
        title=f"Study {record.name}",
        claim=claim,
        tone=tone(claim),
        basis=basis,
        counts=_counts(trials),
        cards=_cards(record, end),
        end=end,
        best=record.best,
        metric=metric,
        by_seed=figures.scores_by_seed(end.test, end.chance) if end.test else "",
        curves=figures.curves_by_seed(end.curves, end.levels, metric),
        gains=figures.class_gains(end.gains, control),
        trial_curves=figures.trial_curves(trials, metric, best),
        history=figures.history(trials, metric, record.maximize),
        importances=_importances(record),
        pair=figures.pair(trials, metric, TEMPERATURE, WEIGHT, best),
        parallel=figures.parallel(trials, metric),
        slices=figures.slices(trials, metric, best),
        pareto=figures.pareto(trials, metric, best),
        columns=_columns(trials),
        rows=_table(trials, best),
        client_summary=_client_summary(end.clients, roles),
        has_updates=any(row.get("norm") is not None for row in end.clients),
        client_accuracy=figures.client_accuracy(end.clients, roles),
        client_classes=figures.client_classes(end.clients, end.classes),
        over_time=figures.curves_over_time(end.curves_over_time, metric),
        clients=[_client(row, end.classes, roles) for row in end.clients],
        client_roles=[ROLES[role][0] for role in roles],
    )
    write_text(path, render("study.html", **content))
    if vector_figures:
        write_figures(path.parent / "figures", content)


def _unfinished(record: StudyRecord) -> str:
    if not record.best:
        return "No trial is complete yet."
    return "No claim: the test needs a student and a control." if record.ending else "Nothing is tested yet."


def _counts(trials: Sequence[Row]) -> str:
    states = [str(row["state"]).lower() for row in trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    computed, reused = (sum(row.get(key) or 0 for row in trials) for key in ("rounds_computed", "rounds_reused"))
    return f"{len(trials)} trials{f' ({counts})' * bool(trials)}; {computed:,} rounds computed, {reused:,} reused."


def _cards(record: StudyRecord, end: StudyEnding) -> list[Row]:
    """On test before dev; each with its warning."""
    chance = f"not better than guessing, {end.chance:.2f}"
    cards: list[Row] = [
        {"value": end.test[role], "label": f"{label}, test", "warning": chance if role in end.at_chance else ""}
        for role, label in LABELS.items()
        if role in end.test
    ]
    cards += [{"value": end.dev[role], "label": f"{LABELS[role]}, dev", "warning": ""} for role in LABELS if role in end.dev]
    if not end.dev and record.best:
        label = f"best trial ({record.best['number']}), {record.metric}"
        cards.append({"value": record.best["score"], "label": label, "warning": ""})
    return cards


def _importances(record: StudyRecord) -> figures.Figure:
    if record.importances:
        return figures.importance_bars(record.importances)
    scores = [row["score"] for row in figures.complete(record.trials)]
    if len(scores) >= MIN_FOR_IMPORTANCE:
        return "Parameter importance needs trials that differ in their score; here all are equal."
    return needs("Parameter importance", MIN_FOR_IMPORTANCE, len(scores))


def _columns(trials: Sequence[Row]) -> list[Any]:
    """Heads of the table; a long name may break at its dots and lines."""
    return [*_used(trials).values(), *map(_breakable, _params(trials)), *["why it failed"][: any(map(_error, trials))]]


def _table(trials: Sequence[Row], best: int | None) -> list[Row]:
    rows, names = sorted(trials, key=lambda row: row["number"]), _params(trials)
    failed = any(map(_error, trials))
    return [
        {
            "is_best": row["number"] == best,
            "cells": [
                *(_cell(key, _value(row, key)) for key in _used(trials)),
                *(_cell(name, row["params"].get(name)) for name in names),
                *[_cell("error", _error(row))][:failed],
            ],
        }
        for row in rows
    ]


def _used(trials: Sequence[Row]) -> dict[str, str]:
    return {key: head for key, head in COLUMNS.items() if any(_value(row, key) is not None for row in trials)}


def _params(trials: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in trials for name in row["params"]))


def _value(row: Row, key: str) -> Any:
    scores = row.get("seed_scores") or []
    return (stdev(scores) if len(scores) > 1 else None) if key == "spread" else row.get(key)


def _error(row: Row) -> str:
    return str(row.get("error") or "")


def _cell(key: str, value: Any) -> Row:
    """The text of a cell, and the value by which its column is sorted."""
    text = score_text(value) if key in ("score", "spread") else number_text(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"text": text, "sort": "" if value is None else value, "is_number": is_number or value is None}


def _breakable(name: str) -> Markup:
    return Markup("<wbr>").join(piece for piece in name.replace(".", ".\0").replace("_", "_\0").split("\0"))


def _known(clients: Sequence[Row], role: str) -> list[float]:
    return [row["accuracy"][role] for row in clients if row["accuracy"][role] is not None]


def _client_summary(clients: Sequence[Row], roles: Sequence[str]) -> dict[str, ClientSpread]:
    """The spread over clients of each role's accuracy, of the training loss and of the norm of the update."""
    accuracies = {f"accuracy, {ROLES[role][0]}": _known(clients, role) for role in roles}
    updates = {head: [row[key] for row in clients if row.get(key) is not None] for key, head in UPDATES.items()}
    spreads = {name: spread_of_clients(values) for name, values in accuracies.items() if values}
    return spreads | {name: spread_of_clients(values, lowest=False) for name, values in updates.items() if values}


def _client(row: Row, classes: Sequence[str], roles: Sequence[str]) -> Row:
    counts = np.array(row["classes"])
    top = [c for c in np.argsort(-counts, kind="stable")[:3] if counts[c]]
    more = int((counts > 0).sum()) - len(top)
    named = ", ".join(f"{classes[c]} {counts[c]}" for c in top) + f", {more} more" * (more > 0)
    return {**row, "named": named, "scores": [row["accuracy"][role] for role in roles]}
