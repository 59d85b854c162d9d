"""A recording of any length as windows with overlap: of features to predict from, or of samples to train on.

The first window begins with the recording, the next ones a hop later each, and the last one ends with the recording. A
recording that is shorter than a window is one window. Shape suffixes: T audio frames or samples, F what a frame holds.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mm_ray.config import FeatureConfig
from mm_ray.errors import bad_value


@dataclass(frozen=True)
class Windows:
    """Length of a window, and shift between windows, in audio frames or samples."""

    size: int
    hop: int


def windows_in_frames(features: FeatureConfig, window_s: float | None = None, hop_s: float | None = None) -> Windows:
    """Windows of some seconds: whole frames that fit. `None`: the training length, and half of the window as hop.

    Raises:
        UserError: A window of fewer than two frames, or a hop that is not positive or leaves gaps between windows.

    """
    size, least_s = features.max_frames, (features.frame_ms + features.hop_ms) / 1000
    if window_s is not None:
        if not least_s <= window_s < float("inf"):
            raise bad_value("window", window_s, f"must be {least_s:g} seconds or more")
        size = 1 + int((round(window_s * 1000) - features.frame_ms) // features.hop_ms)
    if hop_s is None:
        return Windows(size, max(size // 2, 1))
    hop = round(hop_s * 1000 / features.hop_ms) if 0 < hop_s < float("inf") else 0
    if not 1 <= hop <= size:
        longest_s = size * features.hop_ms / 1000
        raise bad_value("hop", hop_s, f"must be between {features.hop_ms / 1000:g} and the window, {longest_s:g} seconds")
    return Windows(size, hop)


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
