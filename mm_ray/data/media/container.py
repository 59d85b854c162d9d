"""Opens a media file; other kinds of files are rejected with their kind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import av
from av.container import InputContainer

from mm_ray.data.media.errors import MediaError
from mm_ray.errors import in_one_line
from mm_ray.storage import open_binary, size_of

_BUFFER_BYTES = 1 << 18
_STRANGERS = {
    b"\xd0\xcf\x11\xe0": "a Thumbs.db or an Office document",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF document",
    b"\x93NUMPY": "a numpy array",
    b"\x89HDF": "an HDF5 file",
    b"PAR1": "a Parquet table",
    b"SQLite": "an SQLite database",
    b'File type = "ooText': "a Praat TextGrid",
    b"\xff\xfeF\x00i\x00l\x00e\x00 \x00t\x00y\x00p\x00e": "a Praat TextGrid",
    b"\xfe\xff\x00F\x00i\x00l\x00e\x00 \x00t\x00y\x00p\x00e": "a Praat TextGrid",
}
"""By their first bytes, files that lie among recordings."""
_POINTERS = {b"version https://git-lfs.github.com/": "git lfs pull", b"/annex/objects/": "git annex get"}
"""By their first bytes, files that stand for a recording, and the command that brings it."""
_HEAD_BYTES = 256


@contextmanager
def open_media(place: str | Path) -> Iterator[InputContainer]:
    """An opened media file; every error of FFmpeg, on opening or later, becomes a `MediaError` of one line.

    FFmpeg sees bytes only, never a name: names with a colon or a percent sign are safe, and a playlist leads nowhere.
    """
    check_file(place)
    with open_binary(place) as file, _opened(file, place) as container:
        try:
            yield container
        except av.FFmpegError as error:
            raise MediaError("damaged", place, f"cannot be read to its end ({error.strerror}); give the whole file") from error


def check_file(place: str | Path) -> None:
    """Refuse what is no file, or stands for one that was not downloaded.

    Raises:
        MediaError: `missing`, `unreadable`, `truncated` (empty) or `not_downloaded`.

    """
    try:
        size = size_of(place)
    except OSError as error:
        raise MediaError("unreadable", place, f"cannot be accessed ({in_one_line(error)}); check its place") from error
    if size is None:
        raise MediaError("missing", place, "no such file; check the path")
    if size == 0:
        raise MediaError("truncated", place, "cannot be decoded: the file is empty; give a media file")
    head = first_bytes(place)
    for start, command in _POINTERS.items():
        if head.startswith(start):
            raise MediaError("not_downloaded", place, f"stands for a recording that was not downloaded; run `{command}`")


def first_bytes(place: str | Path) -> bytes:
    """The first bytes of a file: 256, or all."""
    try:
        with open_binary(place) as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise MediaError("unreadable", place, f"cannot be read ({error.strerror or error}); check its permissions") from error


def _opened(file: IO[bytes], place: str | Path) -> InputContainer:
    try:
        return av.open(file, "r", buffer_size=_BUFFER_BYTES, metadata_errors="replace")
    except av.FFmpegError as error:
        head = first_bytes(place)
        if head[4:8] == b"ftyp":  # mp4 without its index: the download stopped
            detail = f"cannot be decoded ({error.strerror}); give the whole file"
            raise MediaError("truncated", place, detail) from error
        if stranger := _stranger(head):
            raise MediaError("not_media", place, f"is {stranger}, not a recording; leave it out") from error
        detail = f"cannot be decoded ({error.strerror}); give a media file such as wav, flac, ogg or mp4"
        raise MediaError("not_media", place, detail) from error


def _stranger(head: bytes) -> str:
    """The kind of a file that FFmpeg does not know, by its first bytes."""
    for start, name in _STRANGERS.items():
        if head.startswith(start):
            return name
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "a web page (a failed download?)"
    return ""
