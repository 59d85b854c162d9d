"""A recording of any length as windows with overlap: of features to predict from, or of samples to train on.

The first window begins with the recording, the next ones a hop later each, and the last one ends with the recording. A
recording that is shorter than a window is one window. Shape suffixes: T audio frames or samples, F what a frame holds.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Windows:
    """Length of a window, and shift between windows, in audio frames or samples."""

    size: int
    hop: int


def cut_windows(blocks: Iterable[np.ndarray], windows: Windows) -> Iterator[tuple[int, np.ndarray]]:
    """The windows of blocks (T, F) or (T,), each with the number of its first frame or sample; few are held at a time."""
    held_TF, first, begin = None, 0, 0
    for block_TF in blocks:
        held_TF = block_TF if held_TF is None else np.concatenate([held_TF, block_TF])
        while begin + windows.size <= first + len(held_TF):
            yield begin, held_TF[begin - first : begin - first + windows.size]
            begin += windows.hop
        kept = max(first + len(held_TF) - windows.size, 0)  # of which the last window may be made
        held_TF, first = held_TF[max(min(begin, kept) - first, 0) :], max(min(begin, kept), first)
    assert held_TF is not None
    end = first + len(held_TF)
    if begin == 0:
        yield 0, held_TF
    elif begin - windows.hop + windows.size < end:
        yield end - windows.size, held_TF[-windows.size :]
