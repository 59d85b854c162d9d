"""From rows of the feature table to the batches of K clients in one piece, without Python per clip.

Shape suffixes: K clients, B batch, L frames of the longest clip.
"""

from collections.abc import Collection, Sequence

import numpy as np
import torch

from mm_ray.data.device_cache import Frames, resident
from mm_ray.data.feature_table import FeatureTable
from mm_ray.types import StackedBatch


def gather_stacked(
    table: FeatureTable,
    indices: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    modalities: Collection[str],
    device: torch.device,
) -> StackedBatch:
    """The batches of K clients, each given as rows of the table and their labels; a modality that is not named is `None`."""
    rows_K, there = tuple(map(len, indices)), resident(table, device)
    indices_KB, labels_KB = (np.stack([np.resize(one, max(rows_K)) for one in each]) for each in (indices, labels))
    audio, audio_lengths, video, video_lengths = None, None, None, None
    if "audio" in modalities:
        frames_KBL, audio_lengths = _frames(table.audio_offsets_N1, indices_KB)
        audio = _gathered(there.audio, frames_KBL, audio_lengths, (1, 2, 0))
    if "video" in modalities and there.video is not None:
        frames_KBL, video_lengths = _frames(table.video_offsets_N1, indices_KB)
        video = _gathered(there.video, frames_KBL, video_lengths, (0, 2, 1))
    tensors = [None if values is None else values.to(device) for values in (audio, video, torch.from_numpy(labels_KB))]
    return StackedBatch(rows_K, tensors[0], audio_lengths, tensors[1], video_lengths, tensors[2], indices_KB)  # type: ignore[arg-type]


def _frames(offsets_N1: np.ndarray, indices_KB: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows (K, B, L) of the frames, as if all clips were as long as the longest, and the lengths (K, B)."""
    starts_KB = offsets_N1[indices_KB]
    lengths_KB = offsets_N1[indices_KB + 1] - starts_KB
    return starts_KB[..., None] + np.arange(lengths_KB.max()), lengths_KB


def _gathered(frames: Frames, rows_KBL: np.ndarray, lengths_KB: np.ndarray, order: tuple[int, int, int]) -> torch.Tensor:
    """The frames as float32 with their axes K, B, L in the given order, zeros behind a clip's end."""
    longest, past = rows_KBL.shape[2], None
    if lengths_KB.min() < longest:
        past = (np.arange(longest) >= lengths_KB[..., None]).transpose(order)
    return frames.take(np.ascontiguousarray(rows_KBL.transpose(order)), past)
