"""Media files through PyAV (FFmpeg): any container and codec that FFmpeg reads, both tracks in one pass.

Shape suffixes: N samples, S video frames, H height, W width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition, Stream

from mm_ray.data.checks import SLACK_S, check_file, check_tracks, first_bytes, flags_of
from mm_ray.data.reasons import BadMedia
from mm_ray.data.sight import Sight, Size, evenly_spaced
from mm_ray.data.sound import PREROLL_S, Sound
from mm_ray.data.span import Span, find_span
from mm_ray.storage import open_binary

JUMP_S = 5.0
"""Where the next wanted frame is further away, the file is sought, not read through."""
_MARGIN_S = 0.25
"""Heard beyond the wanted seconds, so that resampling has what lies around their end."""
_BUFFER_BYTES = 1 << 18


@dataclass(frozen=True, eq=False)
class Media:
    """A decoded recording."""

    waveform_N: np.ndarray
    """Mono, float32 in [-1, 1]."""
    sample_rate: int
    """Hz."""
    frames: np.ndarray | None = None
    """uint8, grey (S, H, W) or RGB (S, H, W, 3), or precomputed features (S, D) float16; `None` without video."""
    flags: tuple[str, ...] = ()
    """What is odd about it, of `mm_ray.data.reasons.FLAGS`."""
    seconds: float | None = None
    """Length of the recording or the span, where the waveform is only its beginning."""


def _as_it_is(width: int, height: int) -> tuple[int, int]:
    return width, height


@dataclass(frozen=True)
class Wanted:
    """What of a recording is wanted.

    Args:
        start_s: Begin of the span on the container's clock; `None`: of the recording.
        end_s: End of the span; `None`: of the recording.
        audio_s: At most so many seconds of sound, from the span's begin.
        fps: Frames a second of the span.
        max_frames: At most so many frames, then evenly spaced over the span.
        size: Width and height of the kept frames, from those of the upright video.

    """

    start_s: float | None = None
    end_s: float | None = None
    audio_s: float = float("inf")
    fps: float = 1.0
    max_frames: int = 10
    size: Size = _as_it_is


def read_audio(path: str | Path) -> tuple[np.ndarray, int]:
    """The first audio track of a file, mixed down to mono by the mean of its channels.

    Returns:
        The waveform, (N,) float32 in [-1, 1], and its sample rate in Hz.

    Raises:
        UserError: The file is missing, is no media file, has no audio track, or an empty or broken one.

    """
    media = read_media(path, Wanted(), tracks=("audio",))
    return media.waveform_N, media.sample_rate


def read_media(place: str | Path, wanted: Wanted, tracks: tuple[str, ...] = ("audio", "video")) -> Media:
    """The first audio track, and frames of the first video track, in one pass over the wanted span of a file.

    Args:
        place: A path, or a URI of a pyarrow file system. A picture is a video of one frame.
        wanted: The span, and how much of it.
        tracks: `audio` must be there, `video` need not; a track that is not named is not decoded.

    Raises:
        BadMedia: The file cannot be used.

    """
    with open_media(place) as container:
        span = find_span(container, place, wanted.start_s, wanted.end_s, SLACK_S)
        sound = _sound(container, place, span, wanted) if "audio" in tracks else None
        sight = _sight(container, place, span, wanted) if "video" in tracks else None
        ended = _pump(container, sound, sight, span)
        check_tracks(container, place, span, sound, sight, ended)
        flags = flags_of(container, place, span, sound, sight)
    frames = np.stack(sight.frames) if sight and sight.frames else None
    waveform_N, sample_rate = (sound.waveform_N(), sound.sample_rate) if sound else (np.zeros(0, np.float32), 0)
    if sound and not waveform_N.size:
        raise BadMedia("empty_audio", place, "the span is shorter than a sample; give one of some seconds")
    return Media(waveform_N, sample_rate, frames, flags, span.seconds)


@contextmanager
def open_media(path: str | Path) -> Iterator[InputContainer]:
    """An opened media file; whatever FFmpeg finds wrong with it, on opening or later, becomes a `BadMedia` of one line.

    FFmpeg sees bytes only, never a name: names with a colon or a percent sign are safe, and a playlist leads nowhere.
    """
    check_file(path)
    with open_binary(path) as file, _opened(file, path) as container:
        try:
            yield container
        except av.FFmpegError as error:
            raise BadMedia("damaged", path, f"cannot be read to its end ({error.strerror}); give the whole file") from error


def _opened(file: IO[bytes], path: str | Path) -> InputContainer:
    try:
        return av.open(file, "r", buffer_size=_BUFFER_BYTES, metadata_errors="replace")
    except av.FFmpegError as error:
        cut_off = first_bytes(path)[4:8] == b"ftyp"  # mp4 without its index: the download stopped
        detail = f"cannot be decoded ({error.strerror}); give a media file such as wav, flac, ogg or mp4"
        raise BadMedia("truncated" if cut_off else "not_media", path, detail) from error


def _sound(container: InputContainer, place: str | Path, span: Span, wanted: Wanted) -> Sound:
    if not container.streams.audio:
        raise BadMedia("no_audio_track", place, "has no audio track; give a file with sound (wav, flac, ogg, mp4)")
    stream = container.streams.audio[0]
    _check_decoder(stream, place)
    seconds = wanted.audio_s + _MARGIN_S
    if wanted.end_s is not None:
        seconds = min(seconds, span.end_s - span.begin_of(stream))
    return Sound(stream, span.start_s, seconds)


def _check_decoder(stream: Stream, place: str | Path) -> None:
    if stream.codec_context is None:
        raise BadMedia("no_decoder", place, f"FFmpeg has no decoder for its {stream.type} track; convert it")


def _sight(container: InputContainer, place: str | Path, span: Span, wanted: Wanted) -> Sight | None:
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]  # covers are no video
    if not streams:
        return None
    stream = streams[0]
    _check_decoder(stream, place)
    times_S = evenly_spaced(span.begin_of(stream), span.end_of(stream), wanted.fps, wanted.max_frames)
    return Sight(stream, times_S, wanted.size)


def _pump(container: InputContainer, sound: Sound | None, sight: Sight | None, span: Span) -> bool:
    """Feed packets until both have what they want; returns whether the file ended before."""
    if span.start_s:
        _seek(container, span.start_s - PREROLL_S)
    tracks: dict[int, Sound | Sight] = {track.index: track for track in (sound, sight) if track is not None}
    sought_s = float("-inf")
    for packet in container.demux([container.streams[index] for index in tracks]):
        tracks[packet.stream.index].feed(packet)  # the flushing packets have a wrong stream_index
        if all(track.done for track in tracks.values()):
            return False
        if sight and (sound is None or sound.done) and sight.next_s > sight.last_s + JUMP_S and sight.next_s > sought_s:
            sought_s = sight.next_s
            _seek(container, sought_s)
            sight.jumped()
    return True


def _seek(container: InputContainer, time_s: float) -> None:
    container.seek(max(int(time_s * av.time_base), 0))
