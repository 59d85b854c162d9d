"""How many CPUs this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs that this process may use, at least 1.

    The smaller one of its affinity (`taskset`, SLURM, cpusets) and the CPU quota of its cgroup or one above it (containers,
    systemd), rounded down. Ray itself considers only the machine's CPUs and a container's quota.

    Args:
        root: The root of the file system, which holds `proc` and `sys`.

    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(math.floor(min([allowed, *_quotas(root)])), 1)


def _quotas(root: Path) -> Iterator[float]:
    """Quotas in CPUs of this process's cgroup and of all above it, of version 1 and 2 alike."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # In a container the path may be the host's, where only the mount itself exists.
        for folder in (mount / path.lstrip("/"), *(mount / path.lstrip("/")).parents):
            if not folder.is_relative_to(mount):
                break
            quota = _quota(folder)
            if quota:
                yield quota


def _quota(folder: Path) -> float:
    """CPU time per time of a cgroup; 0 where it has no limit."""
    try:
        if (folder / "cpu.max").exists():  # version 2: "150000 100000", or "max 100000"
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return max(float(quota) / float(period), 0.0) if quota != "max" else 0.0  # version 1 has -1 for no limit
    except (OSError, ValueError):
        return 0.0
