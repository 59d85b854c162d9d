"""What this process and its descendants use of the machine, and what others do."""

import os
import time
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s() -> float:
    """CPU seconds of this process, Ray and its workers, all of which are its descendants."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields, pid = path.read_text().rpartition(")")[2].split(), int(path.parent.name)
            parents[pid], ticks[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
    mine, found = {os.getpid()}, 0
    while len(mine) > found:
        found = len(mine)
        mine |= {pid for pid, parent in parents.items() if parent in mine}
    return sum(ticks.get(pid, 0) for pid in mine) / _TICKS


def busy_s() -> float:
    """CPU seconds of the whole machine since it was started."""
    return (sum(_ticks()) - sum(_ticks()[3:5])) / _TICKS


def wait_until_idle(wait_s: float, idle_frac: float = 0.85) -> float:
    """Wait until the machine is idle, at most `wait_s`; returns how idle it was in the last second."""
    end = time.monotonic() + wait_s
    while True:
        before = _ticks()
        time.sleep(1)
        passed = [now - then for now, then in zip(_ticks(), before, strict=True)]
        idle = sum(passed[3:5]) / max(sum(passed), 1)
        if idle >= idle_frac or time.monotonic() > end:
            return idle


def _ticks() -> list[int]:
    return [int(part) for part in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
