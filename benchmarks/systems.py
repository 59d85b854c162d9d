"""The systems under comparison as running processes, and what the kernel says of them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import tree

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-bench" / "bin"
BLAZEFL = ROOT / ".venv-bench-blazefl" / "bin"
"""An environment of its own, since BlazeFL needs Python 3.12."""
MARK = "BENCH_SYSTEM"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
NAMES = ("ours", "floor", "pfl", "flower", "blazefl")
START_TIMEOUT_S = 240


def command_of(name: str, workload: str, folder: Path, processes: int) -> list[str]:
    """How a system is started; the peers by the interpreter of their own environment."""
    match name:
        case "ours":
            return [sys.executable, "-m", "benchmarks.ours", workload, str(folder), str(processes)]
        case "floor":
            # It needs torch alone, and gets the same one as we.
            return [sys.executable, "-m", "benchmarks.peers.floor", str(folder)]
        case "blazefl":
            return [str(BLAZEFL / "python"), "-m", "benchmarks.peers.blazefl_run", str(folder)]
        case "flower":
            # As an imported module, so that its workers find the client's functions.
            return [str(PEERS / "python"), "-c", "from benchmarks.peers.flower import run; run()", str(folder)]
        case _:
            run = ["--standalone", "--nproc-per-node", str(processes), "-m", "benchmarks.peers.pfl_run", str(folder)]
            return [str(PEERS / "python"), "-m", "torch.distributed.run", *run]


@dataclass
class Round:
    """One round of one system: seconds by the clock, processor seconds of all its processes."""

    wall_s: float
    cpu_s: float


@dataclass
class System:
    """A system that waits at its gate between rounds."""

    name: str
    process: subprocess.Popen[bytes]
    line: Connection
    started: float
    mark: str
    rounds: list[Round] = field(default_factory=list)

    def play(self) -> Round:
        """Let it play one round and wait for the end."""
        cpu, start = self._cpu_s(), time.perf_counter()
        self.line.send("go")
        self._at_gate()
        wall = time.perf_counter() - start
        self.rounds.append(Round(wall, self._cpu_s() - cpu))
        return self.rounds[-1]

    def seconds_since_start(self) -> float:
        """Since its process was started."""
        return time.perf_counter() - self.started

    def _at_gate(self) -> None:
        while not self.line.poll(1.0):
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with exit code {self.process.returncode}")
        self.line.recv()

    def params(self) -> np.ndarray:
        """The global parameters as one flat vector."""
        self.line.send("params")
        array: np.ndarray = self.line.recv()
        return array

    def pids(self) -> list[int]:
        """All its processes: who inherited its mark, and who descends from it.

        A process that gives itself a title may write over its environment, and its mark is gone (Ray's agents, in some runs).
        """
        needle = f"{MARK}={self.mark}".encode()
        marked = {pid for pid in _pids() if needle in _read(pid, "environ").split(b"\0")}
        return sorted(marked | tree(self.process.pid))

    def pss_mb(self) -> float:
        """Memory of all its processes; what they share is counted once."""
        texts = (_read(pid, "smaps_rollup").decode() for pid in self.pids())
        lines = (line for text in texts for line in text.splitlines() if line.startswith("Pss:"))
        return sum(int(line.split()[1]) for line in lines) / 1024

    def _cpu_s(self) -> float:
        total = 0
        for pid in self.pids():
            fields = _read(pid, "stat").rpartition(b")")[2].split()
            total += sum(map(int, fields[11:15])) if fields else 0
        return total / TICKS_PER_S

    def end(self) -> None:
        """Stop it, and kill what is left of it."""
        self.line.send("stop")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(15)
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


def start(name: str, workload: str, folder: Path, processes: int) -> System:
    """Start a system and wait until it stands at its gate before round 1."""
    gate = folder / f"gate-{name}-{time.monotonic_ns()}"
    mark = f"{os.getpid()}-{gate.name}"
    temporary = Path("/tmp") / f"b-{time.monotonic_ns() % 10**9}"  # Ray's sockets need a short path
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "OMP_"))}
    environment = keep | {
        MARK: mark,
        "BENCH_GATE": str(gate),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_TMPDIR": str(temporary),
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    temporary.mkdir()
    with Listener(str(gate), "AF_UNIX") as listener, (folder / f"{name}.log").open("ab") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            command_of(name, workload, folder, processes), env=environment, cwd=ROOT, stdout=log, stderr=log
        )
        line = _accept(listener, process, folder / f"{name}.log")
        line.recv()
    return System(name, process, line, started, mark)


def _accept(listener: Listener, process: subprocess.Popen[bytes], log: Path) -> Connection:
    inner: Any = listener._listener  # type: ignore[attr-defined]
    inner._socket.settimeout(1.0)
    for _ in range(START_TIMEOUT_S):
        try:
            return listener.accept()
        except TimeoutError:
            if process.poll() is not None:
                break
    raise RuntimeError(f"{process.args} did not come to its gate:\n{log.read_text()[-3000:]}")


def missing_peers() -> list[str]:
    """Peers that `make bench` has not installed."""
    environments = {"pfl": PEERS, "flower": PEERS, "blazefl": BLAZEFL}
    return [name for name, folder in environments.items() if not (folder / "python").exists()]


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
