"""Which part of a recording is wanted, on its container's clock."""

from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Stream

from mm_ray.data.reasons import BadMedia


@dataclass(frozen=True)
class Span:
    """A part of a recording; all times in seconds on the container's clock."""

    start_s: float | None
    """The wanted begin; `None`: of each track."""
    end_s: float
    """The wanted end, or that of the recording if it comes first."""
    recording_end_s: float
    cut: bool
    """Whether the span reaches beyond the recording's end."""

    def begin_of(self, stream: Stream) -> float:
        """Where the span begins in a track."""
        return begin_of(stream) if self.start_s is None else self.start_s

    def end_of(self, stream: Stream) -> float:
        """Where the span ends in a track."""
        own = own_end(stream)
        return self.end_s if own is None else min(own, self.end_s)

    @property
    def seconds(self) -> float:
        """Its length; that of the recording is counted from its clock's zero."""
        return self.end_s - (self.start_s or 0.0)


def find_span(container: InputContainer, place: str | Path, start_s: float | None, end_s: float | None, slack_s: float) -> Span:
    """The wanted span, cut to the recording.

    Args:
        container: The opened file; where it does not say how long it is, it is read through once, undecoded.
        place: The file, for the error.
        start_s: Wanted begin, or `None`.
        end_s: Wanted end, or `None`.
        slack_s: Annotations may be so much longer than the recording without being told of.

    Raises:
        BadMedia: The span begins after the recording's end.

    """
    recording_end_s = _end(container)
    if container.format.name.endswith("_pipe"):  # a picture has no time
        return Span(None, recording_end_s, recording_end_s, cut=False)
    if start_s is not None and start_s >= recording_end_s:
        raise BadMedia(
            "span_outside", place, f"the span begins at {start_s:.2f} s, the recording ends at {recording_end_s:.2f} s"
        )
    wanted_end_s = recording_end_s if end_s is None else end_s
    return Span(start_s, min(wanted_end_s, recording_end_s), recording_end_s, wanted_end_s > recording_end_s + slack_s)


def begin_of(stream: Stream) -> float:
    """Where a track begins."""
    return float((stream.start_time or 0) * stream.time_base) if stream.time_base is not None else 0.0


def own_end(stream: Stream) -> float | None:
    """Where a track ends by its own account; `None` where only the container has a length (webm, mkv, flv)."""
    if stream.duration is None or stream.time_base is None:
        return None
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base)


def _end(container: InputContainer) -> float:
    if container.duration is not None:
        return (max(container.start_time or 0, 0) + container.duration) / av.time_base
    ends = [
        float((packet.pts + (packet.duration or 0)) * packet.time_base)
        for packet in container.demux()
        if packet.pts is not None and packet.time_base is not None
    ]
    container.seek(0)
    return max(ends, default=0.0)
