"""The device of a client actor."""

import ray
import torch


def select_device() -> str:
    """`cuda` if Ray gave this actor a share of a card, else `cpu`; with one thread, and settings under which bits repeat."""
    torch.set_num_threads(1)
    if not (ray.get_gpu_ids() and torch.cuda.is_available()):
        return "cpu"
    make_deterministic()
    return "cuda"


def make_deterministic() -> None:
    """Of cuDNN's algorithms only those that give the same bits each time, with float32's precision as on a CPU."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
