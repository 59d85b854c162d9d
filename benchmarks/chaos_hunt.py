"""One run of benchmarks.chaos: a command from its start to its end, under fire or in peace, and what it left."""

import json
import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from benchmarks.chaos_faults import FAULTS, Scene, possible
from benchmarks.chaos_stage import Command, Stage
from benchmarks.study_sharing import BASE
from mm_ray.tune.study_storage import JOURNAL

LOOK_S = 0.1
PAUSE_S = (0.3, 3.0)
"""From the recovery from one fault to the next one."""
RECOVERY_LIMIT_S = 300.0
PROOF = 2
"""New states after a fault that show recovery: the first may have been on its way when the fault struck."""
END = "end"
SETTINGS = BASE | {"clients.num_actors": 2, "clients.chunk_size": 1, "phase1.local.lr": 0.1, "phase2.local.lr": 0.1, "seed": 1}
STUDY = ["--space=benchmarks.chaos_space", "--trials=12", "--scheduler=asha", "--phase2.rounds=80"]
TRAIN = ["--phase1.rounds=300", "--phase2.rounds=200"]
RUNS = {"study": ("mm_ray.tune", "trial", STUDY), "train": ("mm_ray.train", "train", TRAIN)}
"""Module, who drives the rounds, and flags. A trial takes two of three workers, so trials run one after the other."""


class Stuck(Exception):
    """A command makes no progress any more; says which, and what it printed."""


@dataclass
class Event:
    """A fault that struck; times are Unix times."""

    fault: str
    struck: float
    over: float = 0.0
    recovered: bool = False
    """It made progress again, and ended only with exit codes that this fault may bring."""
    codes: list[int] = field(default_factory=list)
    """Exit codes with which the command ended of it, each time to be given again."""


@dataclass
class Run:
    """What became of a command."""

    kind: str
    began: float
    seen: dict[str, float]
    """When each state of the phase store was there first, and `END`."""
    events: list[Event]
    left: dict[str, Any]

    @property
    def seconds(self) -> float:
        """From the command to its end."""
        return self.seen[END] - self.began

    def lost(self, event: Event, calm: "Run") -> float:
        """See `seconds_lost`."""
        times = {name: at - calm.began for name, at in calm.seen.items()}
        return seconds_lost(times, {name: at - self.began for name, at in self.seen.items()}, *self._span(event))

    def _span(self, event: Event) -> tuple[float, float]:
        return event.struck - self.began, event.over - self.began


def seconds_lost(calm: Mapping[str, float], seen: Mapping[str, float], struck: float, over: float) -> float:
    """From the last state before a fault to the `PROOF`-th after it, less what an undisturbed run takes from one to the other.

    Args:
        calm: When an undisturbed run had each state, in seconds since its start.
        seen: The same of the run that was struck; states that only it stored (where it was interrupted) do not count.
        struck: When.
        over: When the fault itself was over; the time until then is part of what is lost.

    """
    shared = sorted((at, calm[name]) for name, at in seen.items() if name in calm)
    before = max((pair for pair in shared if pair[0] <= struck), default=(0.0, 0.0))
    after = [*[pair for pair in shared if pair[0] > over][:PROOF], shared[-1]][:PROOF][-1]
    return (after[0] - before[0]) - (after[1] - before[1])


class Hunt:
    """Runs one command and strikes while it runs.

    Args:
        kind: Of `RUNS`.
        stage: Cluster and disks.
        number: Of the run; its folders bear it.

    """

    def __init__(self, kind: str, stage: Stage, number: int) -> None:
        module, part, flags = RUNS[kind]
        self.kind, self._name = kind, f"{kind}-{number}"
        self._phases, self.folder = stage.folder / "phases" / self._name, stage.folder / "runs" / self._name
        fields = [f"--{name}={json.dumps(value)}" for name, value in SETTINGS.items()]
        places = [f"--name={self._name}", f"--runs={stage.folder / 'runs'}", f"--phases={self._phases}"]
        flags = [*fields, *flags, *places, f"--address={stage.cluster.address}"]
        self.began, self.seen, self.events = time.time(), dict[str, float](), list[Event]()
        self._command = Command(module, flags, stage.folder / f"{self._name}.log")
        self.scene = Scene(stage, self._command, random.Random(0), self.watch, part)

    def peace(self) -> Run:
        """To the end without a fault."""
        while self._command.code() is None:
            self.watch(LOOK_S)
        if self._command.code():
            raise Stuck(f"{self._name}: exit code {self._command.code()} without a fault\n{self._command.said()}")
        return self._ended()

    def fire(self, calm: Run, cards: list[str], chance: random.Random, until: float) -> Run:
        """To the end, with a fault out of `cards` (those that struck are taken out) at random moments before `until`."""
        self.scene.chance = chance
        while self._command.code() != 0:
            self.watch(chance.uniform(*PAUSE_S))
            if self._command.code():
                self._give_again(self.events[-1])  # it ended late of the last fault
            name = next((card for card in cards if possible(card, self.scene)), None)
            if name and self.seen and time.monotonic() < until and self._command.code() is None and self._strike(name, calm):
                cards.remove(name)
        return self._ended()

    def watch(self, seconds: float) -> None:
        """Let time pass, and note which states are there."""
        until = time.monotonic() + seconds
        while True:
            for path in self._phases.glob("*/round-*.safetensors"):
                name = f"{path.parent.name}/{path.name}"
                if name not in self.seen:
                    self.seen[name] = path.stat().st_mtime
            if self._command.code() == 0:
                self.seen.setdefault(END, time.time())
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(LOOK_S, left))

    def _strike(self, name: str, calm: Run) -> bool:
        event = Event(name, time.time())
        if not FAULTS[name].strike(self.scene):
            return False
        event.over = time.time()
        self.events.append(event)
        self._recover(event, calm)
        back = time.time() - event.struck
        print(f"{self._name} {event.struck - self.began:>6.0f} s  {name:<56} {back:>5.1f} s {event.codes or ''}", flush=True)
        return True

    def _recover(self, event: Event, calm: Run) -> None:
        until = time.monotonic() + RECOVERY_LIMIT_S
        while self._since(event, calm) < PROOF and self._command.code() != 0:
            if self._command.code():
                self._give_again(event)
                self.watch(1.0)
            if time.monotonic() > until:
                raise Stuck(f"{event.fault}: no progress for {RECOVERY_LIMIT_S:g} s after it\n{self._command.said()}")
            self.watch(LOOK_S)
        event.recovered = set(event.codes) <= set(FAULTS[event.fault].exits)

    def _since(self, event: Event, calm: Run) -> int:
        return sum(at > event.over for name, at in self.seen.items() if name in calm.seen)

    def _give_again(self, event: Event) -> None:
        event.codes.append(self._command.process.returncode)
        if event.codes[-1] not in FAULTS[event.fault].exits:
            print(f"{self._name}: exit code {event.codes[-1]} after: {event.fault}\n{self._command.said()}", flush=True)
            event.recovered = False
        self.scene.deaths = 0
        self._command.start()

    def _ended(self) -> Run:
        self.watch(0)
        left = LEFT[self.kind](self.folder)
        for folder in (self.folder, self._phases):
            shutil.rmtree(folder)
        return Run(self.kind, self.began, self.seen, self.events, left)

    def close(self) -> None:
        """End the command if it still runs."""
        self._command.kill()


def left_by_study(folder: Path) -> dict[str, Any]:
    """What a study knows of its trials, its rows, and its student."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL)))
    trials = optuna.load_study(study_name=None, storage=storage).get_trials(deepcopy=False)
    rows = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    return {
        "trials": [(t.number, t.state.name, t.params, t.values, t.intermediate_values) for t in trials],
        "rows": [(row["number"], row["state"], row["score"], row["rounds_computed"] + row["rounds_reused"]) for row in rows],
        **_result(folder),
    }


def left_by_train(folder: Path) -> dict[str, Any]:
    """A run's rounds and its student."""
    reports = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    return {"rounds": [(one["phase"], one["round"], one["metrics"]) for one in reports], **_result(folder)}


def _result(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text())
    return {name: result[name] for name in ("params_digest", "dev", "test", "best_round")}


LEFT = {"study": left_by_study, "train": left_by_train}
