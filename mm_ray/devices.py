"""Where networks run that predict or compute features: on the CPU, or on this process's GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from mm_ray.errors import bad_value

DEVICES = ("auto", "cpu", "cuda")
_ENCODERS: ContextVar[str] = ContextVar("device of pretrained encoders", default="cpu")


def find_device(asked: str) -> str:
    """`cpu` or `cuda` as asked for, with deterministic settings; `auto` is `cuda` where torch finds a GPU.

    Raises:
        UserError: It is none of `DEVICES`, or there is no GPU.

    """
    if asked not in DEVICES:
        raise bad_value("device", asked, f"must be {', '.join(DEVICES[:-1])} or {DEVICES[-1]}")
    has_gpu = torch.cuda.is_available()
    if asked == "cuda" and not has_gpu:
        raise bad_value("device", asked, f"torch {torch.__version__} finds no GPU here; use auto or cpu")
    if asked == "cpu" or not has_gpu:
        return "cpu"
    make_deterministic()
    return "cuda"


def make_deterministic() -> None:
    """Allow only those cuDNN algorithms that give the same bits each time, with float32's precision as on a CPU."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def encoders_on(device: str) -> Iterator[None]:
    """Frozen pretrained encoders that compute features in this thread run on a device; elsewhere on the CPU."""
    before = _ENCODERS.get()
    _ENCODERS.set(device)
    try:
        yield
    finally:
        _ENCODERS.set(before)


def encoder_device() -> str:
    """The device that `encoders_on` has set here."""
    return _ENCODERS.get()
