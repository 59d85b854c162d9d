"""What a file's header says of its length, and whether its bytes are all there: headers err, and pipes cannot know.

Sources: RIFF/RF64/W64 (EBU Tech 3306, Sony Wave64), ISO 14496-12, Matroska (RFC 9559), FLV (Adobe 2010), FLAC (RFC 9639).
"""

import struct
from enum import Enum
from pathlib import Path
from typing import IO

from av.container import InputContainer

from mm_ray.storage import open_binary, size_of

_HEADERS = frozenset(
    [
        "mov",
        "matroska",
        "avi",
        "flv",
        "wav",
        "w64",
        "aiff",
        "au",
        "caf",
        "asf",
        "nut",
        "wv",
        "tta",
        "ape",
        "mxf",
        "nistsphere",
        "rm",
    ]
)
"""FFmpeg's names of formats whose header says how long they are."""
_STAMPED = frozenset(["mpegts", "mpeg", "ogg"])
"""Formats whose length FFmpeg takes from the last time stamps in the file."""
_UNKNOWN_NEAR = (1 << 31, 1 << 32)
"""Sizes near these, and 0, mean: written as it came, the end was not known (sox, arecord, FFmpeg to a pipe)."""
_NEAR_BYTES = 1 << 16
_MISCOUNTED_BYTES = 80
"""Writers count their header, or a pad byte that they did not write, to the data: so much may be missing."""
_MAX_CHUNKS = 10_000
_MEDIA_BOXES = (b"mdat", b"moof")


class Claim(Enum):
    """Where FFmpeg has a recording's length from."""

    HEADER = "header"
    STAMPS = "time stamps"
    GUESS = "size and bit rate of the beginning"


def claim_of(container: InputContainer, place: str | Path) -> Claim:
    """Where the length of an opened file comes from."""
    names = set(container.format.name.split(","))
    if names & _STAMPED:
        return Claim.STAMPS
    if "mp3" in names:
        return Claim.HEADER if _has_xing(place) else Claim.GUESS
    if "flac" in names:
        return Claim.HEADER if _flac_samples(place) else Claim.GUESS
    return Claim.HEADER if names & _HEADERS else Claim.GUESS


def is_whole(place: str | Path) -> bool | None:
    """Whether all bytes are there that the file's own structure announces; `None` where it announces none.

    Raises:
        OSError: The file cannot be read.

    """
    size = size_of(place) or 0
    with open_binary(place) as file:
        head = file.read(16)
        if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
            return _wave_is_whole(file, size, head[:4])
        if head[:4] == b"riff":
            return _wave64_is_whole(file, size)
        if head[:4] == b"RIFF":
            return _covers(8, struct.unpack("<I", head[4:8])[0], size)
        if head[4:8] == b"ftyp":
            return _boxes_are_whole(file, size)
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _segment_is_whole(file, size)
        return True if head[:3] == b"FLV" and _last_tag_is_whole(file, size) else None


def _covers(begin: int, claimed: int, size: int) -> bool | None:
    """Whether a file of `size` bytes holds the `claimed` ones from `begin` on; `None` if they were not known."""
    if claimed == 0 or any(abs(claimed - unknown) <= _NEAR_BYTES for unknown in _UNKNOWN_NEAR):
        return None
    return begin + claimed - size <= _MISCOUNTED_BYTES


def _wave_is_whole(file: IO[bytes], size: int, form: bytes) -> bool | None:
    order = ">" if form == b"RIFX" else "<"
    at, wide = 12, None
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        chunk = file.read(8 + 16)
        if len(chunk) < 8:
            return None
        claimed = struct.unpack(f"{order}I", chunk[4:8])[0]
        if chunk[:4] == b"ds64" and len(chunk) == 24:
            wide = struct.unpack("<Q", chunk[16:24])[0]
        if chunk[:4] == b"data":
            return _covers(at + 8, wide if wide is not None and claimed == 0xFFFFFFFF else claimed, size) is not False
        at += 8 + claimed + claimed % 2
    return None


def _wave64_is_whole(file: IO[bytes], size: int) -> bool | None:
    at = 40
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        chunk = file.read(24)
        if len(chunk) < 24:
            return None
        claimed = struct.unpack("<Q", chunk[16:24])[0]  # with these 24 bytes
        if chunk[:4] == b"data":
            unknown = claimed <= 24 or claimed >= 1 << 62
            return unknown or at + claimed - size <= _MISCOUNTED_BYTES
        at += max((claimed + 7) // 8 * 8, 24)
    return None


def _boxes_are_whole(file: IO[bytes], size: int) -> bool | None:
    """By the boxes of an mp4's top level; a cut behind the recording itself does not matter."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        header = file.read(16)
        claimed = struct.unpack(">I", header[:4])[0]
        if claimed == 1 and len(header) == 16:
            claimed = struct.unpack(">Q", header[8:16])[0]
        if claimed < 8:
            return None  # up to the file's end, or no box
        if at + claimed > size and header[4:8] in _MEDIA_BOXES:
            return False
        at += claimed
    return True


def _segment_is_whole(file: IO[bytes], size: int) -> bool | None:
    """By the size of a Matroska file's one segment; live streams have none."""
    file.seek(0)
    head = file.read(1 << 12)
    header_end = _vint_end(head, 4)
    if header_end is None or (body := _vint(head, 4)) is None:
        return None
    at = header_end + body
    end = _vint_end(head, at + 4)
    if head[at : at + 4] != b"\x18\x53\x80\x67" or end is None or (claimed := _vint(head, at + 4)) is None:
        return None
    return end + claimed <= size


def _vint_end(head: bytes, at: int) -> int | None:
    return at + 9 - head[at].bit_length() if at < len(head) and head[at] else None


def _vint(head: bytes, at: int) -> int | None:
    """An EBML number; `None` if it says that the size is unknown, or is cut off."""
    end = _vint_end(head, at)
    if end is None or end > len(head):
        return None
    bits = 7 * (end - at)
    value = int.from_bytes(head[at:end]) & ((1 << bits) - 1)
    return None if value == (1 << bits) - 1 else value


def _last_tag_is_whole(file: IO[bytes], size: int) -> bool:
    file.seek(max(size - 4, 0))
    begin = size - 4 - int.from_bytes(file.read(4))
    file.seek(max(begin, 0))
    return begin >= 13 and file.read(1) in (b"\x08", b"\x09", b"\x12")


def _has_xing(place: str | Path) -> bool:
    """Whether an mp3 begins with a frame that counts the others."""
    with open_binary(place) as file:
        head = file.read(10)
        tag_bytes = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
        file.seek(tag_bytes + 10 if head[:3] == b"ID3" else 0)
        first = file.read(2048)
    return any(name in first for name in (b"Xing", b"Info", b"VBRI"))


def _flac_samples(place: str | Path) -> int:
    """The number of samples that a FLAC file claims; 0: not known."""
    with open_binary(place) as file:
        head = file.read(26)
    return int.from_bytes(head[21:26]) & ((1 << 36) - 1) if head[:4] == b"fLaC" else 1
