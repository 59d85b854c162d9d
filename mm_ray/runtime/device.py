"""The device of a client actor."""

import socket

import ray
import torch

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
    if not torch.cuda.is_available():
        problem = (
            f"Ray gave a client actor GPU {given[0]} on {socket.gethostname()}, but torch {torch.__version__} finds none there"
        )
        remedy = "install torch with CUDA and the driver on that node, or train on CPUs with --clients.num_gpus 0"
        raise EnvironmentFailure(f"{problem}; {remedy}")
    make_deterministic()
    return "cuda"


def make_deterministic() -> None:
    """Allow only those cuDNN algorithms that give the same bits each time, with float32's precision as on a CPU."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
