"""The faults of benchmarks.chaos: each is a real one, and returns whether it struck."""

import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.chaos_stage import Command, Stage, send

OUTAGE_S, SLOW_S, SLOWER, NOTICE_S = 30.0, 10.0, 10, 2.0
AWAY_S, FULL_S = (2.0, 8.0), (3.0, 20.0)
NODES_S = 60.0
BUSY_S = 10.0
"""A disk on which a file is being written cannot be taken away at that moment."""
MOST_DEATHS = 2
"""Of one trial's process or of the Train driver, between two starts of the command: both are given up at the fourth."""


@dataclass
class Scene:
    """What a fault strikes.

    Args:
        stage: Cluster and disks.
        command: The command's process.
        chance: Chooses whom.
        watch: Lets this many seconds pass.
        part: Who drives the rounds: `trial` or `train`.

    """

    stage: Stage
    command: Command
    chance: random.Random
    watch: Callable[[float], None]
    part: str
    deaths: int = 0
    """Of the driver of the rounds since the command was given."""

    def nodes_at_risk(self) -> list[int]:
        """Positions of the worker nodes that may be lost now."""
        nodes = self.stage.workers
        spare = self.deaths < MOST_DEATHS
        return [i for i, node in enumerate(nodes) if spare or not self.stage.playing(self.part, [node])]


def _client(scene: Scene) -> bool:
    return send(signal.SIGKILL, _one(scene, scene.stage.playing("client"))) > 0


def _driver_of_rounds(scene: Scene) -> bool:
    struck = send(signal.SIGKILL, _one(scene, scene.stage.playing(scene.part))) > 0
    scene.deaths += struck
    return struck


def _command(scene: Scene, number: signal.Signals) -> bool:
    struck = send(number, [scene.command.process.pid]) > 0
    scene.command.process.wait(120)
    return struck


def _node(scene: Scene, notice: bool) -> bool:
    places = scene.nodes_at_risk()
    if not places:
        return False
    node = scene.stage.workers[scene.chance.choice(places)]
    scene.deaths += bool(scene.stage.playing(scene.part, [node]))
    if notice:
        send(signal.SIGTERM, scene.stage.pids([node]))
        scene.watch(NOTICE_S)
    scene.stage.kill_worker(node)
    scene.watch(scene.chance.uniform(*AWAY_S))
    scene.stage.add_worker()
    # Ray misses a lost node late; a study begun with one too many would run two trials at once, and so ask other ones.
    scene.stage.cluster.wait_for_nodes(NODES_S)
    return True


def _full(scene: Scene, disk: str) -> bool:
    filler = scene.stage.folder / disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for block in (2**20, 2**12):
                _fill(file.write, bytes(block))
        scene.watch(scene.chance.uniform(*FULL_S))
    finally:
        filler.unlink()
    scene.deaths = MOST_DEATHS + 1  # each try on the full disk counted
    return True


def _fill(write: Callable[[bytes], int], block: bytes) -> None:
    try:
        while write(block) == len(block):
            continue
    except OSError:
        return


def _outage(scene: Scene) -> bool:
    until = time.monotonic() + BUSY_S
    while not scene.stage.remount("phases", "ro"):
        if time.monotonic() > until:
            return False
        scene.watch(0.01)
    try:
        scene.watch(OUTAGE_S)
    finally:
        scene.stage.remount("phases", "rw")
    return True


def _straggler(scene: Scene) -> bool:
    pids, slice_s, struck = _one(scene, scene.stage.playing("client")), 0.2, 0
    try:
        for _ in range(round(SLOW_S / slice_s)):
            struck += send(signal.SIGSTOP, pids)
            scene.watch(slice_s * (1 - 1 / SLOWER))
            send(signal.SIGCONT, pids)
            scene.watch(slice_s / SLOWER)
    finally:
        send(signal.SIGCONT, pids)
    return struck > 0


def _one(scene: Scene, pids: Sequence[int]) -> list[int]:
    return [scene.chance.choice(pids)] if pids else []


@dataclass(frozen=True)
class Fault:
    """A kind of fault."""

    strike: Callable[[Scene], bool]
    shares: dict[str, int]
    """How many of 100 faults, by the kind of run."""
    exits: tuple[int, ...] = ()
    """Exit codes with which the command may end of it, to be given again."""
    kills_driver_of_rounds: bool = False
    needs_disk: bool = False


CLIENT, NODE, SPOT = "client actor killed", "worker node killed", "spot instance: TERM to its processes, killed 2 s later"
FAULTS = {
    CLIENT: Fault(_client, {"study": 18, "train": 7}),
    "trial killed": Fault(_driver_of_rounds, {"study": 12}, kills_driver_of_rounds=True),
    "Train driver killed": Fault(_driver_of_rounds, {"train": 6}, kills_driver_of_rounds=True),
    NODE: Fault(partial(_node, notice=False), {"study": 7, "train": 3}),
    SPOT: Fault(partial(_node, notice=True), {"study": 6, "train": 3}),
    "driver process killed": Fault(partial(_command, number=signal.SIGKILL), {"study": 8, "train": 3}, (-signal.SIGKILL,)),
    # Of the signal itself where it strikes after the last word, when Ray has taken the handlers down.
    "TERM to the driver process": Fault(
        partial(_command, number=signal.SIGTERM), {"study": 5, "train": 3}, (130, -signal.SIGTERM)
    ),
    "disk of the phase store full": Fault(partial(_full, disk="phases"), {"study": 3, "train": 1}, (2,), needs_disk=True),
    "disk of the run folder full": Fault(partial(_full, disk="runs"), {"study": 3, "train": 1}, (2,), needs_disk=True),
    f"storage refuses for {OUTAGE_S:g} s": Fault(_outage, {"study": 2, "train": 1}, needs_disk=True),
    f"client actor {SLOWER} times slower for {SLOW_S:g} s": Fault(_straggler, {"study": 6, "train": 2}),
}


def deck(run: str, faults: int, seed: int) -> list[str]:
    """The faults of all runs of a kind, by name, in a random order: `faults` of both kinds together, in the shares above."""
    chance, cards = random.Random(f"{seed} {run}"), list[str]()
    for name, fault in FAULTS.items():
        cards += [name] * round(fault.shares.get(run, 0) * faults / 100)
    chance.shuffle(cards)
    return cards


def possible(name: str, scene: Scene) -> bool:
    """Whether a fault can strike now and is one that the command must survive."""
    fault = FAULTS[name]
    if fault.kills_driver_of_rounds:
        return scene.deaths < MOST_DEATHS
    return name not in (NODE, SPOT) or bool(scene.nodes_at_risk())
