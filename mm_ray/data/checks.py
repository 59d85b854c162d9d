"""Does a file hold what its container promises, and what is odd about it?"""

import posixpath
import struct
from pathlib import Path

from av.container import InputContainer

from mm_ray.data.reasons import BadMedia
from mm_ray.data.sight import Sight, varies
from mm_ray.data.sound import Sound
from mm_ray.data.span import Span, own_end
from mm_ray.errors import in_one_line
from mm_ray.storage import open_binary, size_of

SLACK_S = 0.5
"""Tracks end by so much before their container says, in sound files too."""
_MOST_BAD = 0.1
"""Fraction of broken packets above which a track is given up."""
_LOWEST_HZ, _HIGHEST_HZ = 1_000, 1_000_000
_OPEN_ENDED = (0, 0x7FFFFFFF, 0xFFFFFFFF)
"""Sizes in a RIFF header that mean: written as it came, the end was not known."""
_FORMATS = {"opus": "ogg", "oga": "ogg", "ogv": "ogg", "jpg": "jpeg_pipe", "webp": "webp_pipe"}
"""FFmpeg's name of the format for names that the format itself does not list."""


def check_file(place: str | Path) -> None:
    """Refuse what is no file, and a RIFF file (wav, avi) shorter than its header says: FFmpeg takes that without a word.

    Raises:
        BadMedia: `missing`, `unreadable` or `truncated`.

    """
    try:
        size = size_of(place)
    except OSError as error:
        raise BadMedia("unreadable", place, f"cannot be looked at ({in_one_line(error)}); check its place") from error
    if size is None:
        raise BadMedia("missing", place, "no such file; check the path")
    if size == 0:
        raise BadMedia("truncated", place, "cannot be decoded: the file is empty; give a media file")
    head = first_bytes(place)
    promised = struct.unpack("<I", head[4:8])[0] if head[:4] == b"RIFF" and len(head) >= 8 else 0
    if promised not in _OPEN_ENDED and promised + 8 > size:
        raise BadMedia("truncated", place, f"ends after {size:,} of {promised + 8:,} bytes; give the whole file")


def first_bytes(place: str | Path, count: int = 12) -> bytes:
    """The first bytes of a file."""
    try:
        with open_binary(place) as file:
            return file.read(count)
    except OSError as error:
        raise BadMedia("unreadable", place, f"cannot be read ({error.strerror or error}); check its permissions") from error


def check_tracks(
    container: InputContainer, place: str | Path, span: Span, sound: Sound | None, sight: Sight | None, ended: bool
) -> None:
    """Refuse tracks that are broken, empty, or end before their container says.

    Args:
        container: The file, after its packets.
        place: The file, for the error.
        span: The wanted span.
        sound: The audio track, if it was wanted.
        sight: The video track, if there is one.
        ended: Whether the file ended before both had what they wanted.

    Raises:
        BadMedia: `damaged`, `empty_audio` or `truncated`.

    """
    for track in (sound, sight):
        if track is not None and track.bad_packets > _MOST_BAD * max(track.num_packets, 1):
            raise BadMedia("damaged", place, f"{track.bad_packets} of {track.num_packets} {track.kind} packets are broken")
    if sound is not None and not sound.seconds:
        raise BadMedia("empty_audio", place, "its audio track is empty; give a file with at least one sample")
    if sound is not None and not _LOWEST_HZ <= sound.sample_rate <= _HIGHEST_HZ:
        raise BadMedia("damaged", place, f"claims {sound.sample_rate} samples per second; convert it")
    reached = {t.index: t.reached_s for t in (sound, sight) if t is not None}
    if not ended or not reached:
        return
    promised = {index: own_end(container.streams[index]) for index in reached}
    ends = {index: min(end, span.end_s) for index, end in promised.items() if end is not None}
    if not ends and len(reached) == len(container.streams.audio) + len(container.streams.video):
        ends = {max(reached, key=lambda index: reached[index]): span.end_s}
    for index, end_s in ends.items():
        if reached[index] < end_s - SLACK_S:
            raise BadMedia(
                "truncated", place, f"ends at {reached[index]:.2f} of {end_s:.2f} s; give a media file that is whole"
            )


def flags_of(
    container: InputContainer, place: str | Path, span: Span, sound: Sound | None, sight: Sight | None
) -> tuple[str, ...]:
    """The flags of a decoded file, of `mm_ray.data.reasons.FLAGS`."""
    found = {
        "silent": sound is not None and not sound.waveform_N().any(),
        "multichannel": sound is not None and sound.num_channels > 2,
        "variable_frame_rate": sight is not None and varies(sight.packet_times),
        "rotated": sight is not None and sight.rotated,
        "wrong_extension": not _named_rightly(container, place),
        "broken_packets": any(track is not None and track.bad_packets > 0 for track in (sound, sight)),
        "span_cut": span.cut,
    }
    return tuple(name for name, present in found.items() if present)


def _named_rightly(container: InputContainer, place: str | Path) -> bool:
    suffix = posixpath.splitext(str(place))[1][1:].lower()
    known = {*container.format.name.split(","), *container.format.extensions}
    return bool({suffix, f"{suffix}_pipe", _FORMATS.get(suffix)} & known)
