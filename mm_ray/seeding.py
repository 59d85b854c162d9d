"""Named random streams: every draw comes from `seed -> purpose -> round -> client`; nothing here touches a global RNG."""

import hashlib

import numpy as np
import torch

Name = str | int


def stream(seed: int, *name: Name) -> int:
    """A 63-bit seed that depends on every part of the name, and on nothing else (process, order, platform)."""
    text = "/".join([str(seed), *map(str, name)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def numpy_stream(seed: int, *name: Name) -> np.random.Generator:
    """A numpy generator for the named stream."""
    return np.random.default_rng(stream(seed, *name))


def torch_stream(seed: int, *name: Name, device: str = "cpu") -> torch.Generator:
    """A torch generator for the named stream, on `device`."""
    return torch.Generator(device).manual_seed(stream(seed, *name))
