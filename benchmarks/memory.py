"""Processes that descend from one: what they call themselves, and their memory."""

import os
from pathlib import Path


def tree_pss_mb() -> float:
    """Proportional set size of the whole tree, MB: what processes share is counted once."""
    return sum(map(pss_mb, tree(os.getpid())))


def tree(root: int) -> set[int]:
    """A process and all that descend from it."""
    parents = {int(name): _parent(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def title(pid: int) -> bytes:
    """What a process calls itself, as Ray's do (`ray::ClientActor`); empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def pss_mb(pid: int) -> float:
    """Proportional set size of a process, MB; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
