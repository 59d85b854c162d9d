"""The frames that one video track shows at given times; parts without a wanted time are not decoded.

Shape suffixes: S frames, H height, W width.
"""

from collections.abc import Callable, Sequence

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

_MOST_HELD = 500
"""Packets kept undecoded at most, so that a film with a single key frame does not fill the memory."""
_TOLERANCE_S = 1e-4
_MOST_STEPS = 400
"""Packets whose times are remembered to see whether the frame rate varies."""

Size = Callable[[int, int], tuple[int, int]]
"""Width and height at which frames are kept, from those of the upright video."""


def whole_frame(width: int, height: int) -> tuple[int, int]:
    """Frames are kept as large as they are."""
    return width, height


class VideoFrameSampler:
    """Picks, for each wanted time, the last frame that began by then, while packets are fed in the order of the file.

    Args:
        stream: The track.
        times_S: Wanted times, seconds since the recording's start, ascending.
        size: Width and height of the kept frames, from those of the upright video.
        origin_s: Where the recording begins on the container's clock.

    """

    def __init__(self, stream: VideoStream, times_S: Sequence[float], size: Size, origin_s: float = 0.0) -> None:
        self.index, self._codec, self._size = stream.index, stream.codec_context, size
        self._codec.thread_count = 1
        self._unit_s = float(stream.time_base or 0)  # a float once: a fraction for each packet takes as long as its decoding
        self._origin_s = origin_s
        self._times_S = list(times_S)
        self.frames: list[np.ndarray] = []
        self.num_packets = self.bad_packets = self.num_decoded = 0
        self.rotated = False
        self.last_s = float("-inf")
        self._packet_times: list[float] = []
        self._decoding_s = float("inf")
        self._held: list[Packet] = []
        self._decoding = self._gap = self._ended = self._skips = False
        self._latest_s = float("-inf")
        self._last: tuple[av.VideoFrame, np.ndarray | None] | None = None

    kind = "video"

    @property
    def done(self) -> bool:
        """Whether every wanted time has its frame."""
        return len(self.frames) == len(self._times_S)

    @property
    def next_s(self) -> float:
        """The next wanted time."""
        return self._times_S[len(self.frames)] if not self.done else float("inf")

    @property
    def reached_s(self) -> float:
        """Where the track ended, seconds since the recording's start; infinity if it had all frames before that."""
        return self.last_s if self._ended else float("inf")

    @property
    def packet_times(self) -> list[float]:
        """Times of the first packets; between later ones than these others may still come, as packets are not in order."""
        return [time_s for time_s in self._packet_times if time_s <= self._decoding_s]

    def feed(self, packet: Packet) -> None:
        """Take one packet of the track; it is decoded at once, later or never. An empty one (the last frame stays) is not."""
        if self.done:
            return
        if packet.size == 0:
            self._remember(packet, self._time_of(packet))
            return
        self.num_packets += 1
        time_s = self._time_of(packet)
        self._remember(packet, time_s)
        if packet.is_keyframe and not self._passed(time_s):
            self._rest()
        if self._decoding:
            self._decode(packet)
            return
        self._held.append(packet)
        if self._passed(time_s) or len(self._held) >= _MOST_HELD:
            self._catch_up()

    def jumped(self) -> None:
        """Say that the next packet does not follow the last one."""
        self._rest()
        self._gap = True
        self._last = None

    def _passed(self, time_s: float) -> bool:
        return time_s > self.next_s + _TOLERANCE_S

    def _rest(self) -> None:
        """Stop decoding until a wanted time comes; what was held in vain is forgotten."""
        self._gap = self._gap or bool(self._held)
        self._held, self._decoding = [], False

    def _catch_up(self) -> None:
        if self._gap:
            self._codec.flush_buffers()
            self._gap, self._last, self._latest_s = False, None, float("-inf")
        self._decoding = True
        held, self._held = self._held, []
        for packet in held:
            self._decode(packet)

    def _decode(self, packet: Packet | None) -> None:
        self._skip_if_never_on_show(packet)
        try:
            frames = self._codec.decode(packet)
        except av.FFmpegError:
            self.bad_packets += 1
            return
        for frame in frames:
            self.num_decoded += 1
            self._show(frame)

    def _skip_if_never_on_show(self, packet: Packet | None) -> None:
        """Let the decoder leave out a frame that no other needs, if one that comes after it is on show by the wanted time."""
        skip = False
        if packet is not None:
            time_s = self._time_of(packet)
            skip = time_s < self._latest_s and not self._passed(self._latest_s)
            self._latest_s = max(self._latest_s, time_s)
        if skip != self._skips:
            self._codec.skip_frame = "NONREF" if skip else "DEFAULT"
            self._skips = skip

    def _show(self, frame: av.VideoFrame) -> None:
        begins_s = float("-inf") if frame.time is None else frame.time - self._origin_s
        while not self.done and self._passed(begins_s):
            self._pick(frame)
        self._last = (frame, None)

    def _pick(self, instead: av.VideoFrame | None) -> None:
        """Keep the frame that was on show; before the first one, the one that begins now."""
        frame, array = self._last or (instead, None)
        if frame is None:
            return
        array = upright(frame, self._size) if array is None else array
        self.rotated = self.rotated or frame.rotation != 0
        self._last = (frame, array) if self._last else None
        self.frames.append(array)

    def end(self) -> None:
        """Take what the decoder still holds, after the last packet; the last frame stays for the times that are left."""
        if self.done:
            return
        self._ended = True
        if not self._decoding:
            self._catch_up()
        self._decode(None)
        while not self.done and self._last:
            self._pick(None)

    def _time_of(self, packet: Packet) -> float:
        stamp = packet.dts if packet.pts is None else packet.pts
        return float("-inf") if stamp is None else stamp * self._unit_s - self._origin_s

    def _remember(self, packet: Packet, time_s: float) -> None:
        self.last_s = max(self.last_s, time_s + (packet.duration or 0) * self._unit_s)
        if len(self._packet_times) < _MOST_STEPS:
            self._packet_times.append(time_s)
            self._decoding_s = float("inf") if packet.dts is None else packet.dts * self._unit_s - self._origin_s


def upright(frame: av.VideoFrame, size: Size) -> np.ndarray:
    """A frame as RGB, (H, W, 3) uint8, turned as its metadata says, scaled by area.

    Args:
        frame: The decoded frame.
        size: Width and height of the result, from those of the upright frame.

    """
    turns = round(frame.rotation / 90) % 4
    sides = (frame.width, frame.height)
    width, height = size(*(sides[::-1] if turns % 2 else sides))
    if turns % 2:
        width, height = height, width
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
    return np.ascontiguousarray(np.rot90(small.to_ndarray(), turns))


def evenly_spaced(start_s: float, end_s: float, fps: float, at_most: int) -> list[float]:
    """Times at which a span is looked at: every 1 / fps seconds, or `at_most` evenly spaced ones where that would be more."""
    length = max(end_s - start_s, 0.0)
    count = max(int(length * fps + 1e-6), 1)
    step = 1 / fps if count <= at_most else length / at_most
    return [start_s + i * step for i in range(min(count, at_most))]


def varies(times: Sequence[float]) -> bool:
    """Whether packets come at unequal times: their steps differ by more than a fifth, and by more than 2 ms (clocks round)."""
    stamps = np.asarray(times, np.float64)
    steps = np.diff(np.sort(stamps[np.isfinite(stamps)]))[1:-1]  # the ends are unsettled in many files
    if len(steps) < 3:
        return False
    middle = float(np.median(steps))
    return bool(np.abs(steps - middle).max() > max(0.2 * middle, 0.002))
