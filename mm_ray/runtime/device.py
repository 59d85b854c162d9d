"""The device of a client actor."""

import ray
import torch


def claim_device() -> str:
    """`cuda` if Ray gave this actor a share of a card, else `cpu`; with one thread, and settings under which bits repeat."""
    torch.set_num_threads(1)
    if not (ray.get_gpu_ids() and torch.cuda.is_available()):
        return "cpu"
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False  # convolutions with float32's precision, as on a CPU
    return "cuda"
