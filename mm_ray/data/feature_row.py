"""From one clip of a manifest to its row of the store.

Shape suffixes: T audio frames, F audio bins, S video frames, D video features.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from mm_ray.config import PRECOMPUTED, DataConfig
from mm_ray.data.features.log_mel import finite_features
from mm_ray.data.features.pretrained_audio import pretrained_features
from mm_ray.data.manifest import Clip, ManifestModule, Rejected, label_name, own_load
from mm_ray.data.media.decode import DecodeRequest, Media, read_media
from mm_ray.data.media.errors import MediaError
from mm_ray.data.precomputed import array_file, read_frames
from mm_ray.data.video_features import frame_size, video_features
from mm_ray.storage import join, leaves_root


@dataclass(frozen=True, eq=False)
class Row:
    """A clip with its features, as the store holds it."""

    number: int
    """Position of the clip in its manifest: the order of the feature table."""
    clip: Clip
    audio_TF: np.ndarray
    """float16."""
    video_SD: np.ndarray | None
    """float16; `None` for a clip without video."""
    seconds: float
    """Length of the recording or span; 0 where there are only precomputed features."""
    flags: tuple[str, ...]


def extract(module: ManifestModule, number: int, clip: Clip, data: DataConfig) -> Row:
    """Load a clip and compute its features.

    Raises:
        MediaError: The recording cannot be used.

    """
    load = own_load(module)
    media = read_clip(clip, data) if load is None else load(clip, data)
    audio_TF = _audio_of(clip, media, data)
    video_SD = None if media.frames is None else video_features(media.frames, data)
    for features in (audio_TF, video_SD):
        if features is not None and not np.isfinite(features).all():
            raise MediaError(
                "damaged", clip.source, "its features are not finite, or above 65,504; correct the recording or the array"
            )
    seconds = len(media.waveform_N) / media.sample_rate if media.seconds is None else media.seconds
    is_cut = data.features.audio != PRECOMPUTED and seconds > data.features.audio_s + data.features.hop_ms / 1000
    found = {"no_video": video_SD is None, "cut_off": is_cut}
    flags = (*media.flags, *(name for name, present in found.items() if present))
    return Row(number, clip, audio_TF, video_SD, seconds, flags)


def _audio_of(clip: Clip, media: Media, data: DataConfig) -> np.ndarray:
    if data.features.audio == PRECOMPUTED:
        return read_frames(_place(clip.source, data))[: data.features.max_frames]
    if data.features.is_pretrained_audio:
        return pretrained_features(media.waveform_N, media.sample_rate, data.features)
    return finite_features(media.waveform_N, media.sample_rate, data.features, clip.source)


def rejected(class_names: tuple[str, ...], clip: Clip, error: MediaError) -> Rejected:
    """The line of `rejected.parquet` for a clip that could not be used."""
    return Rejected(clip.id, clip.source, label_name(clip.label, class_names), clip.group, error.reason, error.detail)


def read_clip(clip: Clip, data: DataConfig) -> Media:
    """Decode a clip's sound and frames, as far as the features want them; precomputed video takes the frames' place.

    Raises:
        MediaError: The recording cannot be used.

    """
    wanted, features = wanted_of(clip, data), data.features
    if not clip.video_source and PRECOMPUTED not in (features.audio, features.video):
        return read_media(_place(clip.source, data), wanted)
    nothing = Media(np.zeros(0, np.float32), 0, seconds=0.0)
    is_array = features.audio == PRECOMPUTED
    heard = nothing if is_array else read_media(_place(clip.source, data), wanted, tracks=("audio",))
    if not clip.video_source:
        return heard
    if features.video == PRECOMPUTED:
        return replace(heard, frames=read_frames(_place(clip.video_source, data)))
    seen = read_media(_place(clip.video_source, data), wanted, tracks=("video",))
    if seen.frames is None:
        raise MediaError("no_picture", clip.video_source, "has no video track and is not an image")
    seconds = seen.seconds if is_array else heard.seconds
    return replace(heard, frames=seen.frames, seconds=seconds, flags=tuple(dict.fromkeys([*heard.flags, *seen.flags])))


def wanted_of(clip: Clip, data: DataConfig) -> DecodeRequest:
    """What the features want of a clip's recording."""
    features = data.features
    return DecodeRequest(clip.start_s, clip.end_s, features.audio_s, features.fps, features.max_video_frames, frame_size(data))


def _place(name: str, data: DataConfig) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise MediaError("unreadable_name", ascii(name), "its name is not UTF-8; rename it") from error
    if "\0" in name:
        raise MediaError("missing", ascii(name), "no file has a NUL in its name; check the path")
    if leaves_root(data.root, array_file(name)):
        raise MediaError("outside_root", name, "a link or path that leaves ROOT; copy the recording there")
    return join(data.root, name)


@contextmanager
def one_torch_thread() -> Iterator[Any]:
    """Clips are too short to share among threads: the hand-over costs more than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
