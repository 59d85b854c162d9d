"""Media files through PyAV (FFmpeg): any container and codec that FFmpeg reads.

Shape suffixes: N samples, C channels, S video frames, H height, W width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from mm_ray.errors import UserError


@dataclass(frozen=True, eq=False)
class Media:
    """A decoded recording."""

    waveform_N: np.ndarray
    """Mono, float32 in [-1, 1]."""
    sample_rate: int
    """Hz."""
    frames: np.ndarray | None = None
    """uint8, grey (S, H, W) or RGB (S, H, W, 3); `None` without video."""


def read_audio(path: str | Path) -> tuple[np.ndarray, int]:
    """The first audio track of a file, mixed down to mono by the mean of its channels.

    Returns:
        The waveform, (N,) float32 in [-1, 1], and its sample rate in Hz.

    Raises:
        UserError: The file is missing, is no media file, has no audio track or an empty one.

    """
    with open_media(path) as container:
        if not container.streams.audio:
            raise UserError(f"{path}: has no audio track; give a file with sound (wav, flac, ogg, mp4)")
        stream = container.streams.audio[0]
        to_float = av.AudioResampler(format="fltp")
        decoded = [piece for frame in container.decode(stream) for piece in to_float.resample(frame)]
        pieces = [frame.to_ndarray().mean(axis=0, dtype=np.float32) for frame in decoded]
        if not sum(map(len, pieces)):
            raise UserError(f"{path}: its audio track is empty; give a file with at least one sample")
        return np.concatenate(pieces), decoded[0].sample_rate


@contextmanager
def open_media(path: str | Path) -> Iterator[InputContainer]:
    """An opened media file; whatever FFmpeg finds wrong with it, on opening or later, becomes a `UserError` of one line."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; check the path")
    try:
        with av.open(str(path)) as container:
            yield container
    except av.FFmpegError as error:
        raise UserError(
            f"{path}: cannot be decoded ({error.strerror}); give a media file such as wav, flac, ogg or mp4"
        ) from error
