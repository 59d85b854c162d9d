"""The runs that trackers show: a listener of round reports for all trackers of `--tracker`.

A tracker is a module of mm_ray/trackers, or your own, with `begin(run: RunInfo) -> TrackerRun`. `NEEDS` may name the library
that it needs. A run that was killed is reported from its first round again, including stored rounds. A tracker that kept them
either starts over or skips what it has, so that each round is there once.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from mm_ray.config import ExperimentConfig, flatten, to_dict
from mm_ray.errors import EnvironmentFailure, UserError, bad_value, in_one_line
from mm_ray.plugins import resolve
from mm_ray.storage import names_full_disk
from mm_ray.types import RoundReport

DEFAULT = "tensorboard"
ARTIFACTS = (
    "config.yaml", "best.yaml", "result.json", "report.html", "compare.html", "compare.csv", "student.safetensors",
    "student.json",
)  # fmt: skip
"""Files of a run's folder that trackers keep at its end, if they exist."""


@dataclass(frozen=True)
class RunInfo:
    """One run as trackers show it."""

    folder: Path
    """The folder of the run, study or comparison that it belongs to."""
    name: str
    """Unique in the folder; empty for a run that has the folder to itself."""
    config: Mapping[str, Any]
    """All settings by dotted name."""
    group: str = ""
    """Shared by the seeds of a configuration."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """This run's values of what a study or comparison varies."""
    board: str | None = ""
    """Its subfolder in TensorBoard; None: it is not shown there."""

    @property
    def title(self) -> str:
        """The folder's name and the run's name."""
        return f"{self.folder.name}-{self.name}" if self.name else self.folder.name

    @property
    def key(self) -> str:
        """An id that depends on the run's name, folder and config: 32 hex digits."""
        content = [str(self.folder.absolute()), self.name, dict(self.config)]
        return sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


class TrackerRun(Protocol):
    """A run that a tracker shows."""

    def add_round(self, report: Mapping[str, Any], number: int) -> None:
        """Take a round.

        Args:
            report: A `RoundReport` as a dictionary.
            number: Number of the round over all phases, from 1.

        """

    def finish(self, status: str, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
        """End.

        Args:
            status: `SUCCESS`, `FAILURE`, or `RUNNING` if the run can be resumed.
            metrics: What was found: `best_round`, scores of the best round, and of the test.
            files: To keep with the run.

        """


def check_trackers(text: str) -> tuple[str, ...]:
    """The names in a list such as `tensorboard,wandb`; `none` is the empty list.

    Raises:
        UserError: An unknown name, or a library that is not installed.

    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip() not in ("", "none")))
    for name in names:
        library = getattr(resolve("tracker", name, "mm_ray.trackers", "begin"), "NEEDS", "")
        found = find_spec(library) if library else None
        if library and (found is None or found.origin is None):  # without an origin it is only a folder of that name
            raise bad_value("tracker", name, f"is not installed; pip install 'mm-ray[{library}]'")
    return names


class TrackedRun:
    """A run in all trackers; a round that is reported twice is passed on once.

    Args:
        trackers: Names checked by `check_trackers`.
        info: The run.

    Raises:
        EnvironmentFailure: A tracker fails; the run itself can continue without it.

    """

    def __init__(self, trackers: Iterable[str], info: RunInfo) -> None:
        self._info, self._seen = info, set[tuple[str, int]]()
        self._runs: dict[str, TrackerRun] = {}
        for name in trackers:
            with _names(name, info.folder):
                self._runs[name] = resolve("tracker", name, "mm_ray.trackers", "begin").begin(info)

    def add(self, report: RoundReport) -> None:
        """Take a round; a listener of `mm_ray.fed.rounds.drive`."""
        if self._runs:
            self.add_round(report.to_json())

    def add_round(self, report: Mapping[str, Any]) -> None:
        """Take a round as a dictionary."""
        which = report["phase"], report["round"]
        if which in self._seen:
            return
        self._seen.add(which)
        for name, run in self._runs.items():
            with _names(name, self._info.folder):
                run.add_round(report, len(self._seen))

    def finish(self, status: str, metrics: Mapping[str, float] | None = None, artifacts: bool = False) -> None:
        """End in all trackers, with the files of the run's folder if `artifacts` is true."""
        files = [path for path in map(self._info.folder.joinpath, ARTIFACTS) if artifacts and path.exists()]
        for name, run in self._runs.items():
            with _names(name, self._info.folder):
                run.finish(status, metrics or {}, files)
        self._runs = {}

    def __enter__(self) -> "TrackedRun":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self.finish("FAILURE")


@contextmanager
def _names(tracker: str, folder: Path) -> Iterator[None]:
    """A tracker's own error in one line."""
    try:
        with names_full_disk(folder):
            yield
    except UserError:
        raise
    except Exception as error:  # from a library, a server or user code
        reason = in_one_line(f"{type(error).__name__}: {error}")[:300]
        raise EnvironmentFailure(f"--tracker {tracker}: fails ({reason}); leave it out: stored rounds are kept") from error


def flat_config(config: ExperimentConfig) -> dict[str, Any]:
    """All settings by dotted name, as trackers show them."""
    return flatten(to_dict(config))


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a `result.json`: the best round, and each network's scores on dev and test."""
    scores = {
        f"{split}/{role}_{name}": float(value)
        for split in ("dev", "test")
        for role, by_name in result.get(split, {}).items()
        for name, value in by_name.items()
    }
    return scores | ({"best_round": float(result["best_round"])} if "best_round" in result else {})


def best_round(reports: Sequence[Mapping[str, Any]], metric: str) -> dict[str, float]:
    """The first round of the last phase in which a metric is highest, and the metric; nothing if no round has one."""
    last = [one for one in reports if one["phase"] == reports[-1]["phase"] and metric in one["metrics"]]
    best = max(last, key=lambda one: (one["metrics"][metric], -one["round"]), default=None)
    return {} if best is None else {"best_round": float(best["round"]), metric: best["metrics"][metric]}
