"""The live table of a study: its trials, their rounds, the best so far, and how long it still takes."""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from ray.tune import Callback
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from mm_ray.console import PlainConsole, text_column
from mm_ray.tune.estimate import duration

SHOWN_ROWS = 20


class JobProgress(Callback):
    """A bar of the configurations that run after the trials; elsewhere than on a terminal a line when one ends.

    Args:
        what: What they are for.
        num_jobs: How many there are.

    """

    def __init__(self, what: str, num_jobs: int) -> None:
        self._what, self._num_jobs, self._ended, self._rounds = what, num_jobs, 0, dict[str, int]()
        self._console = PlainConsole()
        columns = text_column("{task.description}"), BarColumn(), MofNCompleteColumn(), text_column("{task.fields[note]}")
        self._bars = Progress(*columns, TimeRemainingColumn(), console=self._console)
        self._task = self._bars.add_task(what, total=num_jobs, note="")

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that we do not use

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        """One of them reports."""
        self._rounds[trial.trial_id] = result["round"]
        self._bars.update(self._task, note=f"{sum(self._rounds.values()):,} rounds")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """One of them ended."""
        self._ended += 1
        self._bars.update(self._task, completed=self._ended)
        if not self._console.is_live:
            self._console.print(f"{self._what}: {self._ended} of {self._num_jobs} runs")

    def __enter__(self) -> "JobProgress":
        if self._console.is_live:
            self._bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()


class LiveTable:
    """A table that moves on a terminal; elsewhere one line when a trial begins and ends.

    Args:
        num_trials: Trials that are still to run.
        left_s: Seconds left of the study's time, or None.

    """

    def __init__(self, num_trials: int, remaining_s: Callable[[], float | None] = lambda: None) -> None:
        self._console = PlainConsole()
        self._live = Live(console=self._console, refresh_per_second=4, transient=False)
        self._rows: dict[int, dict[str, Any]] = {}
        self._num_trials, self._left_s = num_trials, remaining_s
        self._begun = time.monotonic()

    def begin(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial begins."""
        self._rows[number] = _new_row(params)
        self._show(f"trial {number} begins: {describe(params)}")

    def update(self, number: int, result: Mapping[str, Any]) -> None:
        """A trial reports."""
        last = result["reports"][-1] if result["reports"] else None
        position = {"phase": last["phase"], "round": last["round"]} if last else {}
        self._rows[number] |= {**result, **position}
        self._show()

    def end(self, number: int, state: str) -> None:
        """A trial ended, perhaps before it could begin."""
        row = self._rows.setdefault(number, _new_row({}))
        row["state"] = state
        score = "no score" if row["score"] is None else f"dev audio top-1 {row['score']:.3f}"
        computed, reused = row.get("rounds_computed", 0), row.get("rounds_reused", 0)
        self._show(f"trial {number} {state}: {score}, {computed} rounds computed, {reused} reused")

    def __enter__(self) -> "LiveTable":
        if self._console.is_live:
            self._live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def _show(self, line: str = "") -> None:
        if self._console.is_live:
            self._live.update(self._table())
        elif line:
            self._console.print(line, soft_wrap=True)

    def title(self) -> str:
        """Trials, best so far, rounds reused, time left."""
        rows = self._rows.values()
        ended = sum(row["state"] != "RUNNING" for row in rows)
        best = max((row["score"] for row in rows if row["state"] == "COMPLETE"), default=None)
        computed, reused = (sum(row.get(key, 0) for row in rows) for key in ("rounds_computed", "rounds_reused"))
        parts = [f"{ended} of {self._num_trials} trials"]
        parts += [f"best dev audio top-1 {best:.3f}"] if best is not None else []
        parts += [f"{reused} of {computed + reused} rounds reused"] if computed + reused else []
        left = [self._left_s(), self._rest_s(ended)]
        known = [value for value in left if value is not None]
        return ", ".join([*parts, f"about {duration(max(min(known), 0))} left"] if known else parts)

    def _rest_s(self, ended: int) -> float | None:
        return (time.monotonic() - self._begun) / ended * (self._num_trials - ended) if ended else None

    def _table(self) -> Table:
        table = Table(title=self.title(), title_justify="left")
        for column in ("trial", "state", "configuration", "phase", "round", "dev audio top-1", "computed", "reused"):
            table.add_column(column, justify="left" if column in ("state", "configuration", "phase") else "right")
        for number, row in sorted(self._rows.items())[-SHOWN_ROWS:]:
            score = "" if row["score"] is None else f"{row['score']:.3f}"
            cells = [number, row["state"], describe(row["params"]), row["phase"], row["round"], score]
            table.add_row(*map(str, [*cells, row.get("rounds_computed", 0), row.get("rounds_reused", 0)]))
        return table


def describe(params: Mapping[str, Any]) -> str:
    """Parameters as people read them: short names, three digits."""
    return ", ".join(f"{_short(name)} {_digits(value)}" for name, value in params.items())


def _short(name: str) -> str:
    return name.removeprefix("phase2.")


def _digits(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _new_row(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"params": params, "state": "RUNNING", "score": None, "phase": "", "round": 0}
