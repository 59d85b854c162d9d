"""Measured cost of a run on its machine: peak memory, and energy where RAPL can be read."""

import resource
import sys
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


def peak_memory_bytes() -> int:
    """Peak resident memory of this process so far, including memory shared with other processes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


class EnergyMeter:
    """Joules of this machine's processor packages since its creation, other processes' included (RAPL, Linux).

    A counter starts over after some 260 kJ, so `read` must be called more often than that: once per round.

    Args:
        root: Where the counters are, which many systems show to root only; None: `POWERCAP`.

    """

    def __init__(self, root: Path | None = None) -> None:
        packages = (root or POWERCAP).glob("intel-rapl:*")
        self._packages = sorted(path for path in packages if path.name.count(":") == 1)
        self._last = self._counters()
        self._joules = 0.0

    def read(self) -> float | None:
        """Joules so far; None where they cannot be measured."""
        now = self._counters()
        if now is None or self._last is None:
            return None
        for package, before, after in zip(self._packages, self._last, now, strict=True):
            if after < before:
                after += int((package / "max_energy_range_uj").read_text())
            self._joules += (after - before) / 1e6
        self._last = now
        return self._joules

    def _counters(self) -> list[int] | None:
        try:
            return [int((package / "energy_uj").read_text()) for package in self._packages] or None
        except (OSError, ValueError):
            return None
