"""From rows of the feature table to a padded batch; this is in the hot loop, so there is no Python per clip.

Shape suffixes: B batch, L frames of the longest clip of the batch.
"""

from collections.abc import Collection

import numpy as np
import torch

from mm_ray.data.device_cache import Frames, resident
from mm_ray.data.feature_table import FeatureTable
from mm_ray.types import Batch

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
