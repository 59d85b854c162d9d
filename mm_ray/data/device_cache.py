"""Frames by their rows: from the host's arrays, or from a copy of them on the accelerator, where no batch waits for a transfer.

Shape suffixes: X frames of all clips, F audio bins, D video features, Z either.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mm_ray.data.feature_table import FeatureTable

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
