"""From rows of the feature table to padded batches, of one client or of K in one piece.

This is in the hot loop, so there is no Python per clip. Frames come from the host's arrays, or from a copy of them on the
accelerator, where no batch waits for a transfer.

Shape suffixes: K clients, B batch, L frames of the longest clip, X frames of all clips, Z audio bins or video features.
"""

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mm_ray.data.feature_table import FeatureTable
from mm_ray.types import Batch, StackedBatch

MOST_OF_FREE = 0.1
"""Fraction of a card's free memory: several client actors may share the card, each with its own copy."""


class Frames(NamedTuple):
    """One modality's frames."""

    host_XZ: np.ndarray
    """float16, may be read-only."""
    device_XZ: Tensor | None
    """The same on the accelerator, if they are there."""

    def take(self, rows: np.ndarray, past: np.ndarray | None) -> Tensor:
        """Some of the frames in float32.

        Args:
            rows: int64, any shape; a row behind the last one reads the last one.
            past: bool, the same shape: where zeros belong; None: nowhere.

        Returns:
            (*rows.shape, Z), on the accelerator if the frames lie there.

        """
        if self.device_XZ is not None:
            return self._taken_there(self.device_XZ, rows, past)
        values = self.host_XZ.take(rows.ravel(), axis=0, mode="clip")
        if past is not None:
            values[np.flatnonzero(past)] = 0  # in numpy, before the cast: ten times faster than in torch
        return torch.from_numpy(values).float().view(*rows.shape, self.host_XZ.shape[1])

    @staticmethod
    def _taken_there(frames_XZ: Tensor, rows: np.ndarray, past: np.ndarray | None) -> Tensor:
        there = torch.from_numpy(np.ascontiguousarray(rows)).to(frames_XZ.device)
        values = frames_XZ[there.clamp_(max=len(frames_XZ) - 1)].float()
        if past is None:
            return values
        return values.masked_fill_(torch.from_numpy(np.ascontiguousarray(past)).to(values.device)[..., None], 0.0)


class Resident(NamedTuple):
    """The frames of both modalities; `video` is None where the data has none."""

    audio: Frames
    video: Frames | None


@lru_cache(maxsize=2)
def resident(table: FeatureTable, device: torch.device) -> Resident:
    """The table's frames; an accelerator gets a copy once per process if they take a small part of its free memory."""
    flat = [table.audio_flat_XF, table.video_flat_XD]
    size = sum(array.nbytes for array in flat if array is not None)
    fits = device.type != "cpu" and size <= MOST_OF_FREE * torch.cuda.mem_get_info(device)[0]
    audio, video = (None if a is None else Frames(a, torch.tensor(a, device=device) if fits else None) for a in flat)
    assert audio is not None
    return Resident(audio, video)


CPU = torch.device("cpu")


def gather(
    table: FeatureTable,
    indices: np.ndarray,
    modalities: Collection[str],
    device: torch.device = CPU,
    labels: np.ndarray | None = None,
) -> Batch:
    """The clips of some rows as float32 tensors, padded with zeros to the longest among them.

    Args:
        table: The feature table; its arrays may be read-only, they are copied from and never written.
        indices: Rows of the table, (B,).
        modalities: `audio`, `video` or both; the fields of a modality that is not named, or that the data lacks, are `None`.
        device: Device of the tensors.
        labels: Classes of the clips, (B,), as the client knows them; None: the table's.

    """
    frames = resident(table, device)
    audio, audio_lengths, video, video_lengths = None, None, None, None
    if "audio" in modalities:
        audio, audio_lengths = _padded(frames.audio, table.audio_offsets_N1, indices)
    if "video" in modalities and frames.video is not None:
        video, video_lengths = _padded(frames.video, table.video_offsets_N1, indices)
    labels_B = torch.from_numpy(table.labels_N[indices] if labels is None else labels)
    return Batch(audio, audio_lengths, video, video_lengths, labels_B, indices).to(device)


def _padded(frames: Frames, offsets: np.ndarray, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    starts_B = offsets[indices]
    lengths_B = offsets[indices + 1] - starts_B
    steps_L = np.arange(int(lengths_B.max(initial=0)))
    return frames.take(starts_B[:, None] + steps_L, steps_L >= lengths_B[:, None]), torch.from_numpy(lengths_B)


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
