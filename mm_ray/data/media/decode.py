"""Media files through PyAV (FFmpeg): any container and codec that FFmpeg reads, both tracks in one pass.

Shape suffixes: N samples, S video frames, H height, W width.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Stream

from mm_ray.data.media.audio_track import PREROLL_S, AudioTrackReader
from mm_ray.data.media.checks import SLACK_S, check_riff, check_samples, check_tracks, flags_of
from mm_ray.data.media.container import open_media
from mm_ray.data.media.errors import MediaError
from mm_ray.data.media.time_range import Span, films_of, find_span
from mm_ray.data.media.video_track import Size, VideoFrameSampler, evenly_spaced, whole_frame

JUMP_S = 5.0
"""Where the next wanted frame is further away, the file is sought, not read through."""
_MARGIN_S = 0.25
"""Heard beyond the wanted seconds, so that resampling has what lies around their end."""
_FURTHER_BACK_S = (2.0, 10.0, 60.0, float("inf"))
"""How far before a time a key frame is looked for, if there is none just before it."""


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
    """Flags of `mm_ray.data.media.errors.FLAGS`: what is unusual about it."""
    seconds: float | None = None
    """Length of the recording or the span, where the waveform is only its beginning."""


@dataclass(frozen=True)
class DecodeRequest:
    """Which part of a recording to decode, and how much of it.

    Args:
        start_s: Begin of the span, seconds since the recording's start; `None`: of the recording.
        end_s: End of the span; `None`: of the recording.
        audio_s: Maximum length of the audio from the segment's start, seconds.
        fps: Frames per second of the segment.
        max_frames: Maximum number of frames, then evenly spaced over the segment.
        size: Width and height of the kept frames, from those of the upright video.
        measured: Whether the length of the recording must be known; some formats must be read through for it.

    """

    start_s: float | None = None
    end_s: float | None = None
    audio_s: float = float("inf")
    fps: float = 1.0
    max_frames: int = 10
    size: Size = whole_frame
    measured: bool = True


def read_audio(path: str | Path, seconds: float = float("inf")) -> tuple[np.ndarray, int]:
    """The first audio track of a file, mixed down to mono by the mean of its channels.

    Args:
        path: The file.
        seconds: At most this much of its beginning, and a little for the resampler; the rest is not decoded.

    Returns:
        The waveform, (N,) float32 in [-1, 1], and its sample rate in Hz.

    Raises:
        UserError: The file is missing, is no media file, has no audio track, or an empty or broken one.

    """
    media = read_media(path, DecodeRequest(audio_s=seconds, measured=False), tracks=("audio",))
    return media.waveform_N, media.sample_rate


class AudioBlocks:
    """The first audio track of a file of any length, mono, in blocks, as an iterable to go through once.

    What `read_media` refuses is refused here too, some of it only at the file's end. A rate that changes in mid-file is brought
    to the first block's.

    Args:
        place: A path or URI.
        block_s: Seconds of a block; decoded at once in memory.
        start_s: Begin of the wanted part, seconds; `None`: of the recording.
        end_s: End of the wanted part; `None`: of the recording.

    """

    def __init__(self, place: str | Path, block_s: float, start_s: float | None = None, end_s: float | None = None) -> None:
        self._place, self._block_s, self._wanted = place, block_s, DecodeRequest(start_s, end_s)
        self.sample_rate = 0
        """Hz; known from the first block on."""
        self.num_samples = 0
        self.is_silent = True
        self.flags: tuple[str, ...] = ()
        """As `Media.flags`; known after the last block."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Decode the next block, (N,) float32 in [-1, 1].

        Raises:
            UserError: The file is missing, is no media file, has no audio track, or an empty or broken one.

        """
        with open_media(self._place) as container:
            check_riff(self._place)
            span = find_span(container, self._place, self._wanted.start_s, self._wanted.end_s, SLACK_S, measured=False)
            audio = _audio_track(container, self._place, span, self._wanted)
            if span.start_s > PREROLL_S:
                _seek(container, span, span.start_s - PREROLL_S, None)
            for packet in container.demux(container.streams.audio[0]):
                audio.feed(packet)
                if audio.done:
                    break
                if audio.held_s >= self._block_s:
                    yield self._taken(audio)
            ended = not audio.done
            audio.end()
            _fill_silent_span(container, span, audio)
            check_tracks(container, self._place, span, audio, None, ended)
            last_N = self._taken(audio)
            self.flags = flags_of(container, self._place, span, audio, None, self.is_silent)
            yield last_N

    def _taken(self, audio: AudioTrackReader) -> np.ndarray:
        check_samples(audio, self._place)
        self.sample_rate = self.sample_rate or audio.sample_rate
        block_N = audio.take(self.sample_rate)
        left = audio.limit_s * self.sample_rate - self.num_samples
        block_N = block_N if left >= len(block_N) else block_N[: max(round(left), 0)]
        self.num_samples += len(block_N)
        self.is_silent = self.is_silent and not block_N.any()
        return block_N


def read_media(place: str | Path, wanted: DecodeRequest, tracks: tuple[str, ...] = ("audio", "video")) -> Media:
    """The first audio track, and frames of the first video track, in one pass over the wanted span of a file.

    Both tracks share one clock, that of the recording: seconds since its first sample or frame. The waveform begins where the
    span begins, with silence where the track has no audio yet, or pauses.

    Args:
        place: A path, or a URI of a pyarrow file system. A picture is a video of one frame.
        wanted: The span, and how much of it.
        tracks: `audio` must be there, `video` need not; a track that is not named is not decoded.

    Raises:
        MediaError: The file cannot be used.

    """
    with open_media(place) as container:
        check_riff(place)
        measured = wanted.measured or "video" in tracks
        span = find_span(container, place, wanted.start_s, wanted.end_s, SLACK_S, measured)
        audio = _audio_track(container, place, span, wanted) if "audio" in tracks else None
        video = _video_track(container, place, span, wanted) if "video" in tracks else None
        ended = _pump(container, audio, video, span)
        if audio:
            _fill_silent_span(container, span, audio)
        check_tracks(container, place, span, audio, video, ended)
        waveform_N, sample_rate = (audio.waveform_N(), audio.sample_rate) if audio else (np.zeros(0, np.float32), 0)
        flags = flags_of(container, place, span, audio, video, is_silent=not waveform_N.any())
    frames = np.stack(video.frames) if video and video.frames else None
    if audio:
        check_samples(audio, place)
    if audio and not waveform_N.size:
        raise MediaError("empty_audio", place, "the segment is shorter than one sample; give a segment of some seconds")
    seconds = _length_s(span, [track for track in (audio, video) if track is not None], ended)
    return Media(waveform_N, sample_rate, frames, flags, seconds)


def _audio_track(container: InputContainer, place: str | Path, span: Span, wanted: DecodeRequest) -> AudioTrackReader:
    if not container.streams.audio:
        raise MediaError("no_audio_track", place, "has no audio track; give a file with audio (wav, flac, ogg, mp4)")
    stream = container.streams.audio[0]
    _check_decoder(stream, place)
    seconds = wanted.audio_s + _MARGIN_S
    if wanted.end_s is not None:
        seconds = min(seconds, span.end_s - span.start_s)
    return AudioTrackReader(stream, span.origin_s, span.start_s, seconds)


def _fill_silent_span(container: InputContainer, span: Span, audio: AudioTrackReader) -> None:
    """A wanted part in which the track pauses is silence, where the track has a clock."""
    if span.is_part and not audio.seconds and container.streams.audio[0].start_time is not None:
        audio.rest_in_silence()


def _check_decoder(stream: Stream, place: str | Path) -> None:
    if stream.codec_context is None:
        raise MediaError("no_decoder", place, f"FFmpeg has no decoder for its {stream.type} track; convert it")


def _video_track(container: InputContainer, place: str | Path, span: Span, wanted: DecodeRequest) -> VideoFrameSampler | None:
    streams = films_of(container)
    if not streams:
        return None
    stream = streams[0]
    _check_decoder(stream, place)
    begin_s = span.begin_of(stream)
    if span.is_part and begin_s >= span.end_s:
        return None  # its pictures begin after the span
    times_S = evenly_spaced(begin_s, span.end_of(stream), wanted.fps, wanted.max_frames)
    return VideoFrameSampler(stream, times_S, wanted.size, span.origin_s)


def _pump(container: InputContainer, audio: AudioTrackReader | None, video: VideoFrameSampler | None, span: Span) -> bool:
    """Feed packets until both have what they want; returns whether the file ended before."""
    tracks: dict[int, AudioTrackReader | VideoFrameSampler] = {
        track.index: track for track in (audio, video) if track is not None
    }
    if not tracks:
        return False
    streams = [container.streams[index] for index in tracks]
    if span.start_s > PREROLL_S:
        _seek(container, span, span.start_s - PREROLL_S, video)
    sought_s = float("-inf")
    for packet in container.demux(streams):
        tracks[packet.stream.index].feed(packet)  # the flushing packets have a wrong stream_index
        if all(track.done for track in tracks.values()):
            return False
        if video and (audio is None or audio.done) and video.next_s > video.last_s + JUMP_S and video.next_s > sought_s:
            sought_s = video.next_s
            _seek(container, span, sought_s, video)
            video.jumped()
    for track in tracks.values():
        track.end()
    return not all(track.done for track in tracks.values())


def _seek(container: InputContainer, span: Span, time_s: float, video: VideoFrameSampler | None) -> None:
    """Go to the last key frame before a time; where a format has no index (ts, mpg), further back until there is one."""
    begin_s = (container.start_time or 0) / av.time_base
    for back_s in (0.0, *_FURTHER_BACK_S):
        target_s = max(span.origin_s + time_s - back_s, begin_s)
        _seek_clock(container, target_s)
        if video is None or time_s <= back_s or _next_key_s(container, span, video) <= time_s:
            _seek_clock(container, target_s)
            return


def _seek_clock(container: InputContainer, time_s: float) -> None:
    """Go to a time on the container's clock; by its audio if there is no picture yet to go to."""
    try:
        container.seek(int(time_s * av.time_base))
    except av.FFmpegError:
        audio = next(iter(container.streams.audio), None)
        if audio is None or audio.time_base is None:
            raise
        container.seek(int(time_s / audio.time_base), stream=audio)


def _next_key_s(container: InputContainer, span: Span, video: VideoFrameSampler) -> float:
    for packet in container.demux(container.streams[video.index]):
        stamp = packet.dts if packet.pts is None else packet.pts
        if packet.is_keyframe and stamp is not None and packet.time_base is not None:
            return float(stamp * packet.time_base) - span.origin_s
    return float("inf")


def _length_s(span: Span, tracks: Sequence[AudioTrackReader | VideoFrameSampler], ended: bool) -> float | None:
    """If the whole recording was decoded, the decoded length counts."""
    reached_s = max((track.reached_s for track in tracks), default=float("inf"))
    if span.seconds is None or span.is_part or not ended or abs(reached_s - span.seconds) <= SLACK_S:
        return span.seconds
    return reached_s if math.isfinite(reached_s) else span.seconds
