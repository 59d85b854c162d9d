"""Where the chaos happens: a Ray cluster of its own on this machine, two small file systems, the command's process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from benchmarks.memory import title, tree

WORKERS, DISK_MB = 3, 64
DISKS = ("phases", "runs")
TITLES = {"client": b"ray::ClientActor", "trial": b"ray::ResourceTrainable", "train": b"ray::RayTrainWorker"}


class Stage:
    """A head without CPUs and workers of one CPU each; nothing outside it is ever touched.

    Nodes must be started from the main thread: the kernel ends them with the thread that started them.

    Args:
        folder: Where all its files lie.
        may_mount: Put the phase store and the run folders on small file systems of their own.

    """

    def __init__(self, folder: Path, may_mount: bool) -> None:
        self.folder, self.may_mount = folder, may_mount
        for disk in DISKS:
            (folder / disk).mkdir()
            if may_mount:
                self._mount("-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", disk)
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.workers: list[Any] = []
        for _ in range(WORKERS):
            self.add_worker()

    def add_worker(self) -> None:
        """Start a worker node."""
        self.workers.append(self.cluster.add_node(num_cpus=1))

    def kill_worker(self, node: Any) -> None:
        """All processes of a node at once, as when its power is cut."""
        send(signal.SIGKILL, self.pids([node]))
        self.workers.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)

    def pids(self, nodes: Iterable[Any]) -> list[int]:
        """The processes that were started for these nodes, and all below them."""
        roots = [info.process.pid for node in nodes for infos in node.all_processes.values() for info in infos]
        return sorted(set().union(*map(tree, roots)))

    def playing(self, part: str, nodes: Iterable[Any] | None = None) -> list[int]:
        """Processes that play a part of `TITLES` on these nodes, or on any."""
        everywhere = self.cluster.list_all_nodes() if nodes is None else nodes
        return [pid for pid in self.pids(everywhere) if title(pid).startswith(TITLES[part])]

    def remount(self, disk: str, how: str) -> bool:
        """Make a disk `ro` or `rw`; False while a file on it is open for writing."""
        command = ["mount", "-o", f"remount,{how}", str(self.folder / disk)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def close(self) -> None:
        """End the cluster and take the disks away."""
        self.cluster.shutdown()
        for disk in DISKS if self.may_mount else ():
            subprocess.run(["umount", "-l", str(self.folder / disk)], check=True)

    def _mount(self, *flags: str) -> None:
        subprocess.run(["mount", *flags[:-1], str(self.folder / flags[-1])], check=True)


class Command:
    """A command of ours, which can be given again.

    Args:
        module: `mm_ray.tune` or `mm_ray.train`.
        flags: Its flags.
        log: Gets what it prints.

    """

    def __init__(self, module: str, flags: list[str], log: Path) -> None:
        self._argv, self._log = [sys.executable, "-m", module, *flags], log
        self.start()

    def start(self) -> None:
        """Give it, once more if it has ended."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.poll()

    def said(self) -> str:
        """The end of what it printed."""
        return self._log.read_text(errors="replace")[-3000:]

    def kill(self) -> None:
        """End it if it still runs."""
        self.process.kill()
        self.process.wait()


def send(number: int, pids: Iterable[int]) -> int:
    """Send a signal to those that are still there; how many those are."""
    reached = 0
    for pid in pids:
        try:
            os.kill(pid, number)
            reached += 1
        except ProcessLookupError:
            continue
    return reached
