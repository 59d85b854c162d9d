"""Decodes the wanted segment of one audio track to mono, packet by packet, on the recording's clock.

Shape suffixes: N samples, C channels.
"""

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.packet import Packet

from mm_ray.data.features.log_mel import resampled

PREROLL_S = 0.2
"""Decoded before the span and thrown away: lossy codecs need a few frames to settle after a jump."""
MAX_SAMPLE = 2.0**31
"""The largest number that a recorder writes (floats on the scale of 32 bits); what is beyond it is damage, as NaN is."""
_MOST_UNMIXED = 100
"""Pieces kept with all channels."""
_JITTER_S = 0.1
"""Time stamps may be off by this much (containers round, packets share a stamp) without a gap in the audio."""
_MOST_OVERLAP_S = 1.0
"""Audio repeated by less than this is dropped; a larger step back means that the clock was reset."""
_LONGEST_GAP_S = 3600.0
"""A larger step forward also means that the clock was reset, not silence."""


class AudioTrackReader:
    """Collects the mono waveform of a track while its packets are fed in the order of the file.

    Each sample lies where its time stamp says: there is silence where the track begins late or pauses, what comes before the
    span is dropped, and a change of the sample rate in mid-file ends in one rate, the highest.

    Args:
        stream: The track.
        origin_s: Where the recording begins on the container's clock.
        start_s: Where the span begins, seconds since then.
        seconds: Maximum length, seconds.

    """

    def __init__(self, stream: AudioStream, origin_s: float = 0.0, start_s: float = 0.0, seconds: float = float("inf")) -> None:
        self.index, self._codec = stream.index, stream.codec_context
        self._zero_s, self._start_s, self.limit_s = origin_s + start_s, start_s, seconds
        _forget_layout(self._codec)
        self._unit_s = float(stream.time_base or 0)
        self._shift_s = 0.0
        self._source: tuple[str, str, int] | None = None
        self._to_float = av.AudioResampler(format="flt")
        self._runs: list[tuple[int, list[np.ndarray]]] = []
        self._unmixed: list[np.ndarray] = []
        self._before_s = 0.0
        self._samples = 0
        self._taken_s = 0.0
        self.num_channels = 0
        self.num_packets = self.bad_packets = self.bad_samples = 0
        self.has_gap = False

    kind = "audio"

    @property
    def sample_rate(self) -> int:
        """Rate of the waveform, Hz: the track's highest, or 48,000 if rates change and the highest is unusual."""
        highest = max(self.sample_rates, default=0)
        return highest if len(self.sample_rates) < 2 or highest % 25 == 0 else 48_000

    @property
    def done(self) -> bool:
        """Whether the span is complete."""
        return self._begun and self.seconds >= self.limit_s

    @property
    def seconds(self) -> float:
        """Seconds of audio collected."""
        return self._before_s + (self._samples / self._runs[-1][0] if self._runs else 0.0)

    @property
    def sample_rates(self) -> list[int]:
        """The rates of its parts, Hz; more than one if it changes in mid-file."""
        return [rate for rate, _ in self._runs]

    @property
    def reached_s(self) -> float:
        """Where the collected audio ends, seconds since the recording's start."""
        return self._start_s + self.seconds

    def feed(self, packet: Packet) -> None:
        """Decode one packet of the track; an empty one has no audio, a broken one is only counted."""
        if not (self.done or packet.size == 0 or self._is_early(packet)):
            self.num_packets += 1
            self._decode(packet)

    def end(self) -> None:
        """Take what the decoder still holds, after the last packet."""
        if not self.done:
            self._decode(None)

    def rest_in_silence(self) -> None:
        """Fill what is missing of the span with silence: the track has audio, but not here."""
        self._begin_run(int(self._codec.sample_rate))
        self._insert_silence(self.limit_s)

    def waveform_N(self) -> np.ndarray:
        """What was collected, (N,) float32 in [-1, 1]; the channels are mixed down by their mean."""
        self._mix()
        if not self._runs:
            return np.zeros(0, np.float32)
        parts = [(rate, np.concatenate(pieces)) for rate, pieces in self._runs if pieces]
        whole = np.concatenate([resampled(part_N, rate, self.sample_rate) for rate, part_N in parts])
        limit = self.limit_s * self.sample_rate
        return whole if limit >= len(whole) else whole[: round(limit)]

    @property
    def held_s(self) -> float:
        """Seconds of audio collected since the last `take`."""
        return self.seconds - self._taken_s

    def take(self, sample_rate: int) -> np.ndarray:
        """What was collected since the last call, (N,) float32 at a rate; it is forgotten here."""
        self._mix()
        parts = [resampled(np.concatenate(pieces), rate, sample_rate) for rate, pieces in self._runs if pieces]
        self._runs = [(rate, []) for rate, _ in self._runs]
        self._taken_s = self.seconds
        return np.concatenate([np.zeros(0, np.float32), *parts])

    def _is_early(self, packet: Packet) -> bool:
        if packet.pts is None or self._start_s == 0:
            return False
        return (packet.pts + (packet.duration or 0)) * self._unit_s < self._zero_s - PREROLL_S

    def _decode(self, packet: Packet | None) -> None:
        try:
            for frame in self._codec.decode(packet):
                self._add(frame)
        except av.FFmpegError:
            self.bad_packets += 1

    def _add(self, frame: av.AudioFrame) -> None:
        self._expect(frame)
        missing_s = self._missing_s(frame)
        self._insert_silence(missing_s)
        early = max(round(-missing_s * frame.sample_rate), 0)
        for piece in self._to_float.resample(frame):
            # Interleaved, since PyAV looks for a ninth plane behind the last one where a frame has eight planes or more.
            samples_NC = piece.to_ndarray().reshape(piece.samples, -1)[early:]
            self.bad_samples += int((~(np.abs(samples_NC) <= MAX_SAMPLE)).sum())
            if samples_NC.shape[1] != self.num_channels or len(self._unmixed) == _MOST_UNMIXED:
                self._mix()
            self.num_channels = samples_NC.shape[1]
            self._unmixed.append(samples_NC)
            self._samples += len(samples_NC)

    def _expect(self, frame: av.AudioFrame) -> None:
        """Get ready for the frame's format, channels and rate, which may change in mid-file."""
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        if source != self._source:
            self._source, self._to_float = source, av.AudioResampler(format="flt")
        self._begin_run(frame.sample_rate)

    def _begin_run(self, rate: int) -> None:
        if not self._runs or rate != self._runs[-1][0]:
            self._mix()
            self._before_s, self._samples = self.seconds, 0
            self._runs.append((rate, []))

    def _missing_s(self, frame: av.AudioFrame) -> float:
        """Seconds of silence before a frame; negative: so much at its begin is too much. Zero within the stamps' jitter."""
        if frame.time is None:
            return 0.0
        gap_s = frame.time - self._zero_s - self._shift_s - self.seconds
        if not self._begun:
            is_jitter = 0 < gap_s <= _JITTER_S or (self._zero_s == 0 and -_JITTER_S <= gap_s < 0)
            if is_jitter:
                self._shift_s, gap_s = gap_s, 0.0
            return gap_s
        if abs(gap_s) <= _JITTER_S:
            return 0.0
        if not -_MOST_OVERLAP_S < gap_s < _LONGEST_GAP_S:
            self._shift_s += gap_s
            return 0.0
        return gap_s

    @property
    def _begun(self) -> bool:
        return self.seconds > 0

    def _insert_silence(self, seconds: float) -> None:
        rate, pieces = self._runs[-1]
        num_samples = round(min(seconds, self.limit_s - self.seconds) * rate)
        if num_samples > 0:
            self._mix()
            pieces.append(np.zeros(num_samples, np.float32))
            self._samples += num_samples
            self.has_gap = True

    def _mix(self) -> None:
        """Mix many pieces at once: one by one it takes as long as decoding them."""
        if self._unmixed:
            samples_CN = np.ascontiguousarray(np.concatenate(self._unmixed).T)
            self._runs[-1][1].append(samples_CN.mean(axis=0, dtype=np.float32))
            self._unmixed = []


def _forget_layout(codec: AudioCodecContext) -> None:
    """Name the channels of a track in no special order: PyAV frees the list of a special one (7.1 in a caf) once for each look.

    The one look that is needed here frees the list; the new layout takes its place before anything else looks.
    """
    num_channels = codec.channels
    if num_channels:
        codec.layout = {1: "mono", 2: "stereo"}.get(num_channels, f"{num_channels} channels")
