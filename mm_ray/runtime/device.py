"""The device of a client actor."""

import os
import socket
from typing import NamedTuple

import ray
import torch

from mm_ray.devices import make_deterministic
from mm_ray.errors import EnvironmentFailure


def select_device() -> str:
    """`cuda` if Ray gave this actor a share of a card, else `cpu`; with one thread and deterministic settings.

    Raises:
        EnvironmentFailure: Ray gave a card that torch cannot use. A CPU's results must not be stored as a GPU's.

    """
    torch.set_num_threads(1)
    given = ray.get_gpu_ids()
    if not given:
        return "cpu"
    use_gpu(f"a client actor GPU {given[0]}", "train on CPUs with --clients.num_gpus 0")
    return "cuda"


def use_gpu(given: str, instead: str) -> None:
    """Make the GPU that Ray gave this process deterministic.

    Args:
        given: To whom Ray gave which GPU, for the error.
        instead: What to do without one.

    Raises:
        EnvironmentFailure: torch cannot use it. A CPU's results must not be stored as a GPU's.

    """
    if not torch.cuda.is_available():
        problem = f"Ray gave {given} on {socket.gethostname()}, but torch {torch.__version__} finds none there"
        raise EnvironmentFailure(f"{problem}; install torch with CUDA and the driver on that node, or {instead}")
    make_deterministic()


class DeviceMemory(NamedTuple):
    """A device's memory: all of it, and what this process and new ones beside it may take."""

    free_bytes: int
    total_bytes: int


def device_memory(device: str) -> DeviceMemory:
    """The memory of this process's GPU, where the process's own tensors count as free, or of the machine."""
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        return DeviceMemory(free + torch.cuda.memory_reserved(), total)
    page = os.sysconf("SC_PAGE_SIZE")
    return DeviceMemory(page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES"))
