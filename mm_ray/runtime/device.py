"""The device of a client actor."""

import os
import socket
from typing import NamedTuple

import ray
import torch

from mm_ray.errors import EnvironmentFailure
from mm_ray.models.devices import make_deterministic


def select_device() -> str:
    """`cuda` if Ray gave this actor a share of a card, else `cpu`; with one thread and deterministic settings.

    Raises:
        EnvironmentFailure: Ray gave a card that torch cannot use. A CPU's results must not be stored as a GPU's.

    """
    torch.set_num_threads(1)
    given = ray.get_gpu_ids()
    if not given:
        return "cpu"
    if not torch.cuda.is_available():
        problem = (
            f"Ray gave a client actor GPU {given[0]} on {socket.gethostname()}, but torch {torch.__version__} finds none there"
        )
        remedy = "install torch with CUDA and the driver on that node, or train on CPUs with --clients.num_gpus 0"
        raise EnvironmentFailure(f"{problem}; {remedy}")
    make_deterministic()
    return "cuda"


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
