"""The sound of one audio track, packet by packet, mono, only the wanted span.

Shape suffixes: N samples, C channels.
"""

import av
import numpy as np
from av.audio.stream import AudioStream
from av.packet import Packet

from mm_ray.data.span import begin_of

PREROLL_S = 0.2
"""Decoded before the span and thrown away: lossy codecs need a few frames to settle after a jump."""
_MOST_UNMIXED = 100
"""Pieces kept with all channels."""


class Sound:
    """Collects the mono waveform of a track while its packets are fed in the order of the file.

    Args:
        stream: The track.
        start_s: Where the span begins on the container's clock; `None`: at the first sample.
        seconds: At most so many seconds of it.

    """

    def __init__(self, stream: AudioStream, start_s: float | None = None, seconds: float = float("inf")) -> None:
        self.index, self._codec = stream.index, stream.codec_context
        self._start_s, self._seconds = start_s, seconds
        self._begin_s = begin_of(stream) if start_s is None else start_s
        self._unit_s = float(stream.time_base or 0)
        self._to_float = av.AudioResampler(format="fltp")
        self._pieces: list[np.ndarray] = []
        self._unmixed: list[np.ndarray] = []
        self._samples = 0
        self.num_channels = 0
        self.sample_rate = int(stream.rate or 0)
        self.num_packets = self.bad_packets = 0

    kind = "audio"

    @property
    def done(self) -> bool:
        """Whether the span is complete."""
        return self.sample_rate > 0 and self._samples >= self._seconds * self.sample_rate

    @property
    def seconds(self) -> float:
        """Seconds of sound collected."""
        return self._samples / self.sample_rate if self.sample_rate else 0.0

    @property
    def reached_s(self) -> float:
        """Where the collected sound ends on the container's clock."""
        return self._begin_s + self.seconds

    def feed(self, packet: Packet) -> None:
        """Decode one packet of the track (the empty one at the end flushes the decoder); a broken one is only counted."""
        if self.done or self._is_early(packet):
            return
        self.num_packets += 1
        try:
            for frame in self._codec.decode(packet):
                self._add(frame)
        except av.FFmpegError:
            self.bad_packets += 1

    def waveform_N(self) -> np.ndarray:
        """What was collected, (N,) float32 in [-1, 1]; the channels are mixed down by their mean."""
        self._mix()
        whole = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.float32)
        limit = self._seconds * self.sample_rate
        return whole if limit >= len(whole) else whole[: round(limit)]

    def _is_early(self, packet: Packet) -> bool:
        if self._start_s is None or packet.pts is None:
            return False
        return (packet.pts + (packet.duration or 0)) * self._unit_s < self._start_s - PREROLL_S

    def _add(self, frame: av.AudioFrame) -> None:
        early = 0
        if self._start_s is not None and frame.time is not None:
            early = max(round((self._start_s - frame.time) * frame.sample_rate), 0)
        for piece in self._to_float.resample(frame):
            samples_CN = piece.to_ndarray()[:, early:]
            if len(samples_CN) != self.num_channels or len(self._unmixed) == _MOST_UNMIXED:
                self._mix()
            self.num_channels, self.sample_rate = len(samples_CN), piece.sample_rate
            self._unmixed.append(samples_CN)
            self._samples += samples_CN.shape[1]

    def _mix(self) -> None:
        """Mix many pieces at once: one by one it takes as long as decoding them."""
        if self._unmixed:
            self._pieces.append(np.concatenate(self._unmixed, axis=1).mean(axis=0, dtype=np.float32))
            self._unmixed = []
