"""The sound of a stored clip, read from its recording again, as a data URI that a page can play."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream

from mm_ray.config import PRECOMPUTED, DataConfig
from mm_ray.data.feature_row import read_clip_audio
from mm_ray.data.features.log_mel import resampled
from mm_ray.data.manifest import Clip, find_manifest, own_load
from mm_ray.errors import UserError

RATE = 24_000
MAX_S = 10.0
"""Seconds of a clip that are embedded at most: about 60 kB."""
BITS_PER_S = 48_000


def sound_of(clip: Mapping[str, Any], data: DataConfig) -> tuple[str, str]:
    """A clip's beginning as an MP3 data URI, and empty text; or no URI, and why there is none.

    Args:
        clip: A row of the store, with its columns by name.
        data: Where the recordings are, and the store's feature settings.

    """
    if data.features.audio == PRECOMPUTED:
        return "", "its audio features were precomputed"
    names = ("label", "group", "source", "start_s", "end_s")
    one = Clip(clip["clip_id"], splits=tuple(clip["splits"]), **{name: clip[name] for name in names})
    load = own_load(find_manifest(data.name))
    try:
        media = load(one, data) if load else read_clip_audio(one, data, MAX_S)
    except UserError as error:
        return "", str(error)
    return mp3(media.waveform_N[: round(MAX_S * media.sample_rate)], media.sample_rate), ""


def mp3(waveform_N: np.ndarray, sample_rate: int) -> str:
    """A mono waveform (N,) in [-1, 1] as a data URI."""
    sound_N = resampled(np.ascontiguousarray(waveform_N, np.float32), sample_rate, RATE)
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream: AudioStream = container.add_stream("libmp3lame", rate=RATE, layout="mono")
        stream.bit_rate = BITS_PER_S
        frame = av.AudioFrame.from_ndarray(sound_N[None], "fltp", "mono")
        frame.sample_rate = RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return f"data:audio/mpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
