"""Normalisation over the clips of a group (`data.features.normalize group`): a client needs only its own clips.

Shape suffixes: X frames of all clips, D features, N clips, N1 = N + 1.
"""

from dataclasses import replace

import numpy as np

from mm_ray.data.feature_store import digest
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import bad_value

_EPSILON = 1e-5


def by_group(table: FeatureTable) -> FeatureTable:
    """Video features, and audio features other than log-mel, with mean 0 and variance 1 in each group; no label is read.

    Log-mel features stay as they are: they are normalised over the clip, which a single recording can be too.

    Raises:
        UserError: A group of a single frame, of which nothing would be left.

    """
    audio_XD, video_XD = table.audio_flat_XF, table.video_flat_XD
    if table.features.audio != "log_mel":
        audio_XD = _normalised(audio_XD, table.audio_offsets_N1, table)
    if video_XD is not None:
        video_XD = _normalised(video_XD, table.video_offsets_N1, table)
    return replace(
        table,
        audio_flat_XF=audio_XD,
        video_flat_XD=video_XD,
        features=replace(table.features, normalize="group"),
        fingerprint=digest([f"{table.fingerprint}/normalize group".encode()]),
    )


def _normalised(flat_XD: np.ndarray, offsets_N1: np.ndarray, table: FeatureTable) -> np.ndarray:
    groups_X = np.repeat(table.groups_N, np.diff(offsets_N1))
    result_XD = np.empty_like(flat_XD)
    for group in np.unique(groups_X):
        frames = np.flatnonzero(groups_X == group)
        if len(frames) == 1:
            name = table.group_names[group]
            raise bad_value("data.features.normalize", "group", f"group {name} has a single frame; name larger groups")
        wide_XD = flat_XD[frames].astype(np.float32)
        result_XD[frames] = (wide_XD - wide_XD.mean(axis=0)) / (wide_XD.std(axis=0) + _EPSILON)
    return result_XD
