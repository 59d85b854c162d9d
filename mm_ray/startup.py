"""What training, a study and a comparison do before they compute: a line for each step that takes time, and the data."""

import time
from collections.abc import Callable

import torch
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from mm_ray.config import ClientsConfig, DataConfig
from mm_ray.console import PlainConsole, text_column
from mm_ray.data.feature_table import FeatureTable
from mm_ray.data.load import load_data
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.plugins import code_used
from mm_ray.runtime.run_folder import runs_folder

REPORT_EVERY_S = 5.0
"""Where no bar moves, a line tells how far the features are."""


def load_with_progress(data: DataConfig, runs: str) -> FeatureTable:
    """The feature table; features that are computed for the first time show as a bar, or as a line every few seconds."""
    console = PlainConsole()
    columns = (text_column("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_live) as bars:
        task = bars.add_task(f"features of {data.name}", visible=False)
        tell = _lines() if not console.is_live else lambda done, total: None

        def progress(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total, visible=True)
            tell(done, total)

        return load_data(data, runs_folder(runs) / "features", progress)


def _lines() -> Callable[[int, int], None]:
    last = -REPORT_EVERY_S

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= REPORT_EVERY_S:
            last = time.monotonic()
            print(f"features {done:,}/{total:,}", flush=True)

    return tell


def say_changed_code(phases: str) -> None:
    """A line for each own module that is not what this phase store has seen: its phases are computed again."""
    for name in PhaseStore(phases).changed_code(code_used()):
        print(f"{name} changed: recomputing", flush=True)


def say_idle_gpus(clients: ClientsConfig, num_gpus: float) -> None:
    """A line where there are GPUs and the clients train on the CPU.

    Args:
        clients: The settings.
        num_gpus: GPUs of this machine or of the cluster.

    """
    if num_gpus and not clients.num_gpus:
        share = "1 GPU is" if num_gpus == 1 else f"{num_gpus:g} GPUs are"
        print(f"{share} idle: the clients train on the CPU; --clients.num_gpus 0.25 puts four of them on a GPU", flush=True)


def local_gpus() -> int:
    """GPUs of this machine."""
    return torch.cuda.device_count()
