"""From one clip of a manifest to its row of the store.

Shape suffixes: T audio frames, F audio bins, S video frames, D video features.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from mm_ray.config import PRECOMPUTED, DataConfig
from mm_ray.data.audio_features import compute_audio
from mm_ray.data.features.log_mel import BLOCK_S
from mm_ray.data.manifest import Clip, ManifestModule, Rejected, label_name, own_load, window_name
from mm_ray.data.media.decode import AudioBlocks, DecodeRequest, Media, read_media
from mm_ray.data.media.errors import MediaError
from mm_ray.data.precomputed import array_file, read_frames
from mm_ray.data.video_features import frame_size, video_features
from mm_ray.data.windows import Windows, cut_windows
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
    recording: str = ""
    """Id of the first clip that was cut from the same recording, if it is another one."""


def extract(module: ManifestModule, number: int, clip: Clip, data: DataConfig) -> Row:
    """Load a clip and compute its features.

    Raises:
        MediaError: The recording cannot be used.

    """
    load = own_load(module)
    media = read_clip(clip, data) if load is None else load(clip, data)
    audio_TF = _audio_of(clip, media, data)
    seconds = len(media.waveform_N) / media.sample_rate if media.seconds is None else media.seconds
    is_cut = data.features.audio != PRECOMPUTED and seconds > data.features.audio_s + data.features.hop_ms / 1000
    flags = (*media.flags, *(["cut_off"] if is_cut else []))
    return _row(number, clip, audio_TF, media.frames, seconds, flags, data)


def extract_windows(module: ManifestModule, number: int, clip: Clip, data: DataConfig) -> list[Row]:
    """The same for `features.window_hop_s`: a row for each window of the recording, in their order; the first has its id.

    Each window is a clip by itself: its audio and its frames are normalised over the window. Audio is decoded in blocks, so
    memory does not grow with a recording's length, but for its features.
    """
    load = own_load(module)
    cut, frames, flags = _cut_file(clip, data) if load is None else _cut_media(load(clip, data), clip, data)
    if any(of_window is None for of_window in frames):  # the video begins later than a window ends
        frames = [None] * len(cut)
    if len(cut) == 1:
        (_, seconds, audio_TF) = cut[0]
        return [_row(number, clip, audio_TF, frames[0], seconds, flags, data)]
    rows, base_s = [], clip.start_s or 0.0
    for index, ((begin_s, end_s, audio_TF), of_window) in enumerate(zip(cut, frames, strict=True)):
        window = replace(clip, id=window_name(clip.id, index), start_s=base_s + begin_s, end_s=base_s + end_s)
        row = _row(number, window, audio_TF, of_window, end_s - begin_s, flags, data)
        rows.append(replace(row, recording=clip.id))
    return rows


Cut = list[tuple[float, float, np.ndarray]]
"""Begin and end of each window in seconds since the clip's start, and its audio features (T, F)."""


def _cut_file(clip: Clip, data: DataConfig) -> tuple[Cut, list[np.ndarray | None], tuple[str, ...]]:
    """The windows of a clip's recording, their frames, and the recording's flags."""
    audio = AudioBlocks(_place(clip.source, data), BLOCK_S, clip.start_s, clip.end_s)
    blocks = iter(audio)
    first_N = next(blocks)  # the rate is known from here on
    cut = _cut(itertools.chain([first_N], blocks), audio.sample_rate, clip, data)
    if clip.video_source and data.features.video == PRECOMPUTED:
        return cut, _shares(read_frames(_place(clip.video_source, data)), cut), audio.flags
    wanted, base_s, place = wanted_of(clip, data), clip.start_s or 0.0, _place(clip.video_source or clip.source, data)
    seen: list[Media] = []
    for begin_s, end_s, _ in cut:
        part = replace(wanted, start_s=base_s + begin_s, end_s=base_s + end_s) if len(cut) > 1 else wanted
        try:
            seen.append(read_media(place, part, tracks=("video",)))
        except MediaError as error:
            if error.reason != "span_outside" or not seen or seen[-1].frames is None:
                raise
            # A video of its own that ends before the audio stays at its last frame, as a film's does.
            seen.append(replace(seen[-1], frames=seen[-1].frames[-1:]))
        if seen[-1].frames is None:
            break
    if clip.video_source and seen[-1].frames is None and read_media(place, wanted, tracks=("video",)).frames is None:
        raise MediaError("no_picture", clip.video_source, "has no video track and is not an image")
    flags = (*audio.flags, *(flag for media in seen for flag in media.flags if flag != "span_cut"))
    return cut, [media.frames for media in seen], tuple(dict.fromkeys(flags))


def _cut_media(media: Media, clip: Clip, data: DataConfig) -> tuple[Cut, list[np.ndarray | None], tuple[str, ...]]:
    """The same for a clip that its data set has loaded."""
    cut = _cut([media.waveform_N], media.sample_rate, clip, data)
    return cut, [None] * len(cut) if media.frames is None else _shares(media.frames, cut), media.flags


def _cut(blocks: Iterable[np.ndarray], sample_rate: int, clip: Clip, data: DataConfig) -> Cut:
    features = data.features
    windows = Windows(math.ceil(features.audio_s * sample_rate), max(round(features.window_hop_s * sample_rate), 1))
    return [
        (begin / sample_rate, (begin + len(x_N)) / sample_rate, compute_audio(x_N, sample_rate, features, clip.source))
        for begin, x_N in cut_windows(blocks, windows)
    ]


def _shares(frames: np.ndarray, cut: Cut) -> list[np.ndarray | None]:
    """The frames (S, ...) of each window, of frames that are spread evenly over the clip; at least one each."""
    per_s = len(frames) / cut[-1][1]
    begins = [min(int(begin_s * per_s), len(frames) - 1) for begin_s, _, _ in cut]
    return [frames[begin : max(math.ceil(end_s * per_s), begin + 1)] for begin, (_, end_s, _) in zip(begins, cut, strict=True)]


def _row(
    number: int,
    clip: Clip,
    audio_TF: np.ndarray,
    frames: np.ndarray | None,
    seconds: float,
    flags: tuple[str, ...],
    data: DataConfig,
) -> Row:
    video_SD = None if frames is None else video_features(frames, data)
    for features in (audio_TF, video_SD):
        if features is not None and not np.isfinite(features).all():
            raise MediaError(
                "damaged", clip.source, "its features are not finite, or above 65,504; correct the recording or the array"
            )
    is_bare = ["no_video"] if video_SD is None else []
    return Row(number, clip, audio_TF, video_SD, seconds, (*flags, *is_bare))


def _audio_of(clip: Clip, media: Media, data: DataConfig) -> np.ndarray:
    if data.features.audio == PRECOMPUTED:
        return read_frames(_place(clip.source, data))[: data.features.max_frames]
    return compute_audio(media.waveform_N, media.sample_rate, data.features, clip.source)


def rejected(class_names: tuple[str, ...], clip: Clip, error: MediaError) -> Rejected:
    """The line of `rejected.parquet` for a clip that could not be used."""
    return Rejected(clip.id, clip.source, label_name(clip.label, class_names), clip.group, error.reason, error.detail)


def read_clip(clip: Clip, data: DataConfig) -> Media:
    """Decode a clip's audio and frames, as far as the features want them; precomputed video takes the frames' place.

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


def read_clip_audio(clip: Clip, data: DataConfig, seconds: float) -> Media:
    """Decode a clip's audio alone, at most its first `seconds` seconds.

    Raises:
        MediaError: The recording cannot be used.

    """
    wanted = DecodeRequest(clip.start_s, clip.end_s, seconds, measured=False)
    return read_media(_place(clip.source, data), wanted, tracks=("audio",))


def wanted_of(clip: Clip, data: DataConfig) -> DecodeRequest:
    """What the features want of a clip's recording."""
    features = data.features
    audio_s = float("inf") if features.window_hop_s else features.audio_s
    return DecodeRequest(clip.start_s, clip.end_s, audio_s, features.fps, features.max_video_frames, frame_size(data))


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
