"""Which part of a recording is wanted, and where the recording begins and ends on its file's clock.

All times are seconds since the recording's start: since its first sample or frame, not since the zero of the file's clock,
which a camera, a receiver or a stream may have set hours before.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from mm_ray.data.media.container import open_media
from mm_ray.data.media.errors import MediaError
from mm_ray.data.media.header_claims import Claim, claim_of

TOGETHER_S = 0.25
"""Tracks that begin within this are meant to begin together: encoders put some silence before their first sample."""


@dataclass(frozen=True)
class Span:
    """A part of a recording."""

    origin_s: float
    """Where the recording begins on the container's clock, seconds."""
    start_s: float
    """The wanted begin, or 0."""
    end_s: float
    """The wanted end, or that of the recording if it comes first."""
    recording_end_s: float
    """The recording's length; infinity where nobody asked."""
    cut: bool
    """Whether the span reaches beyond the recording's end."""
    is_part: bool
    """Whether a part of the recording was asked for."""

    def begin_of(self, stream: Stream) -> float:
        """Where the span begins in a track."""
        own = _begin_of(stream, self.origin_s)
        return self.start_s if self.is_part and own < self.start_s + TOGETHER_S else max(self.start_s, own)

    def end_of(self, stream: Stream) -> float:
        """Where the span ends in a track."""
        own = own_end(stream, self.origin_s)
        return self.end_s if own is None else min(own, self.end_s)

    @property
    def seconds(self) -> float | None:
        """Its length; `None` where nobody asked for the recording's."""
        return self.end_s - self.start_s if math.isfinite(self.end_s) else None


def find_span(
    container: InputContainer,
    place: str | Path,
    start_s: float | None,
    end_s: float | None,
    slack_s: float,
    measured: bool = True,
) -> Span:
    """The wanted span, cut to the recording.

    Args:
        container: The opened file.
        place: The file: where its header does not say how long it is, it is opened again and read through, undecoded.
        start_s: Wanted begin, or `None`.
        end_s: Wanted end, or `None`.
        slack_s: Annotations may be longer than the recording by this without a flag.
        measured: Whether the recording's length must be known if no part of it is asked for.

    Raises:
        MediaError: The span lies outside the recording.

    """
    is_part = start_s is not None or end_s is not None
    begin_s, wanted_end_s = start_s or 0.0, math.inf if end_s is None else end_s
    if not 0 <= begin_s < wanted_end_s:
        detail = f"the segment from {begin_s:.2f} to {wanted_end_s:.2f} s is empty; give 0 <= start < end"
        raise MediaError("span_outside", place, detail)
    if container.format.name.endswith("_pipe"):  # a picture has no time
        return Span(0.0, 0.0, container_end(container, 0.0) or 0.0, math.inf, cut=False, is_part=False)
    origin_s = find_origin(container)
    length_s = _length(container, place, origin_s, max(begin_s, end_s or 0.0)) if is_part or measured else math.inf
    if begin_s >= length_s and begin_s > 0:
        raise MediaError("span_outside", place, f"the segment begins at {begin_s:.2f} s, after the end at {length_s:.2f} s")
    cut = math.isfinite(wanted_end_s) and wanted_end_s > length_s + slack_s
    return Span(origin_s, begin_s, min(wanted_end_s, length_s), length_s, cut, is_part)


def find_origin(container: InputContainer) -> float:
    """Where the recording begins on the container's clock: with its first track, or with the last one that begins almost then.

    A clock that begins at zero, or a moment before it (what the decoder drops), is the recording's own.
    """
    begins = [_begin_of(stream) for stream in tracks_of(container) if stream.start_time is not None]
    first = min(begins, default=0.0)
    if -TOGETHER_S < first <= 0:
        return 0.0
    return max(begin for begin in begins if begin < first + TOGETHER_S)


def tracks_of(container: InputContainer) -> list[Stream]:
    """The tracks of audio and of video."""
    return [*container.streams.audio, *films_of(container)]


def films_of(container: InputContainer) -> list[VideoStream]:
    """The tracks of video; a cover is none."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def own_end(stream: Stream, origin_s: float) -> float | None:
    """Where a track ends by its own account; `None` where only the container has a length (webm, mkv, flv)."""
    if stream.duration is None or stream.time_base is None:
        return None
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - origin_s


def _begin_of(stream: Stream, origin_s: float = 0.0) -> float:
    return float((stream.start_time or 0) * stream.time_base) - origin_s if stream.time_base is not None else 0.0


def _length(container: InputContainer, place: str | Path, origin_s: float, needed_s: float) -> float:
    """By the container, unless it guesses or says less than is needed; then by its packets."""
    claimed = None if claim_of(container, place) is Claim.GUESS else container_end(container, origin_s)
    if claimed is not None and needed_s <= claimed:
        return claimed
    measured = _measured_end(place, origin_s)
    return measured if claimed is None else max(measured, claimed)


def container_end(container: InputContainer, origin_s: float) -> float | None:
    """Where the recording ends by its container; `None` if it does not say."""
    if container.duration is None:
        return None
    since_zero = container.format.name.startswith("matroska") or container.format.name == "nut"
    start_s = (container.start_time or 0) / av.time_base
    begin_s = 0.0 if since_zero or -TOGETHER_S < start_s < 0 else start_s
    return begin_s + container.duration / av.time_base - origin_s


def _measured_end(place: str | Path, origin_s: float) -> float:
    """Where the last packet ends; the file is opened again and read through, undecoded."""
    end_s = origin_s
    with open_media(place) as container:
        for packet in container.demux(tracks_of(container)):
            stamp = packet.dts if packet.pts is None else packet.pts
            if stamp is not None and packet.time_base is not None:
                end_s = max(end_s, float((stamp + (packet.duration or 0)) * packet.time_base))
    return end_s - origin_s
