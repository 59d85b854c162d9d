"""The live table of a study: its trials, their rounds, the best so far, and the time left."""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from ray.tune import Callback
from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mm_ray.console import PlainConsole, text_column
from mm_ray.tune.estimate import duration

SHOWN_ROWS = 20


class JobProgress(Callback):
    """A bar of the configurations that run after the trials; without a terminal, one line when one ends.

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
        if self._console.is_live:
            self._bars.stop()


class LiveTable:
    """A live table on a terminal and in a notebook; elsewhere one line when a trial begins and one when it ends.

    Args:
        num_trials: Trials that are still to run.
        remaining_s: Seconds left of the study's time, or None.
        num_seeds: Seeds of each trial.
        rounds_of: The rounds of each phase of a trial, from its overrides.

    """

    def __init__(
        self,
        num_trials: int,
        remaining_s: Callable[[], float | None] = lambda: None,
        num_seeds: int = 1,
        rounds_of: Callable[[Mapping[str, Any]], Mapping[str, int]] = lambda overrides: {},
    ) -> None:
        self._console = PlainConsole()
        self._live = Live(console=self._console, refresh_per_second=4, transient=False)
        self._rows: dict[int, dict[str, Any]] = {}
        self._num_trials, self._left_s = num_trials, remaining_s
        self._num_seeds, self._rounds_of = num_seeds, rounds_of
        self._begun = time.monotonic()

    def begin(self, number: int, params: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> None:
        """A trial begins."""
        self._rows[number] = _new_row(params) | {"planned": self._rounds_of(overrides or {})}
        self._show(f"trial {number} begins: {describe(params)}")

    def update(self, number: int, result: Mapping[str, Any]) -> None:
        """A trial reports."""
        last = result["reports"][-1] if result["reports"] else None
        position = {"phase": last["phase"], "phase_round": last["round"]} if last else {}
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
        if self._console.is_live:
            self._live.stop()

    def _show(self, line: str = "") -> None:
        if self._console.is_live:
            self._live.update(self.table(self._console.width))
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
        parts += [f"{computed + reused} rounds so far ({reused} from the store)"] if computed + reused else []
        at_this_pace_s = (time.monotonic() - self._begun) / ended * (self._num_trials - ended) if ended else None
        left = [self._left_s(), at_this_pace_s]
        known = [value for value in left if value is not None]
        return ", ".join([*parts, f"about {duration(max(min(known), 0))} left"] if known else parts)

    def _best(self) -> int | None:
        """The number of the complete trial with the highest score; of equals the first."""
        scores = {number: row["score"] for number, row in sorted(self._rows.items()) if row["state"] == "COMPLETE"}
        return max(scores, key=lambda number: scores[number]) if scores else None

    def table(self, width: int) -> Table:
        """The last trials, in as many columns as the width has room for, a line each."""
        columns = [name for name, least in COLUMNS.items() if width >= least]
        if self._num_seeds == 1 and "seed" in columns:
            columns.remove("seed")
        table = Table(title=self.title(), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for name in columns:
            right = name in ("#", "seed", "top-1", "new", "stored")
            # rich shrinks the columns that may wrap: only this one, whose cells are cut instead
            table.add_column(name, justify="right" if right else "left", no_wrap=name != "configuration")
        best = self._best()
        for number, row in sorted(self._rows.items())[-SHOWN_ROWS:]:
            table.add_row(*(self._cell(name, number, row, best) for name in columns))
        return table

    def _cell(self, name: str, number: int, row: Mapping[str, Any], best: int | None) -> RenderableType:
        match name:
            case "#":
                return str(number)
            case "state":
                return STATES[row["state"]]
            case "configuration":
                return Text(describe(row["params"]), no_wrap=True, overflow="ellipsis")
            case "now":
                return _position(row) if row["state"] == "RUNNING" else ""
            case "bar":
                return _bar(row, self._num_seeds)
            case "seed":
                done = len(row.get("seed_scores") or ())
                return f"{min(done + 1, self._num_seeds)}/{self._num_seeds}"
            case "top-1":
                return "" if row["score"] is None else f"{row['score']:.3f}{'*' if number == best else ' '}"
        return str(row.get(COUNTS[name], 0))


COLUMNS = {"#": 0, "state": 40, "configuration": 60, "now": 0, "bar": 72, "seed": 0, "top-1": 0, "new": 96, "stored": 96}
"""The table's columns, each with the smallest terminal width at which it is shown."""
COUNTS = {"new": "rounds_computed", "stored": "rounds_reused"}
STATES = {"RUNNING": "runs", "COMPLETE": "done", "PRUNED": "cut", "FAIL": "failed"}
BAR_WIDTH = 8


def _position(row: Mapping[str, Any]) -> str:
    """Where a trial is: `distill 16/20`."""
    total = row["planned"].get(row["phase"])
    return f"{row['phase'].rpartition('/')[2]} {row['phase_round']}{f'/{total}' if total else ''}" if row["phase"] else "starts"


def _bar(row: Mapping[str, Any], num_seeds: int) -> RenderableType:
    """How far a trial is, over the rounds of all its phases and seeds."""
    total = sum(row["planned"].values()) * num_seeds
    done = row.get("rounds_computed", 0) + row.get("rounds_reused", 0)
    return ProgressBar(total, min(done, total), width=BAR_WIDTH) if total and row["state"] == "RUNNING" else ""


def describe(params: Mapping[str, Any]) -> str:
    """Parameters for people: short names, three digits."""
    digits = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in params.items()}
    return ", ".join(f"{name.removeprefix('phase2.')} {value}" for name, value in digits.items())


def _new_row(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"params": params, "state": "RUNNING", "score": None, "phase": "", "phase_round": 0, "planned": {}}
