"""Where files are: local paths, and URIs of any pyarrow file system (`s3://bucket/folder`, `gs://`, `file://`)."""

import errno
import os
import posixpath
import uuid
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, cast

from pyarrow import fs

from mm_ray.errors import UserError, bad_value, in_one_line

_OBJECT_STORES = ("s3", "gcs", "abfs")
"""They have no folders, and show an object only when it is complete."""


def join(root: str | Path, name: str) -> str:
    """The place of a name below a root; an absolute name stays what it is."""
    return posixpath.join(str(root), name) if str(root) else name


def is_uri(place: str | Path) -> bool:
    """Whether it is not a local path."""
    return "://" in str(place)


def locate(place: str | Path) -> tuple[fs.FileSystem, str]:
    """The file system of a place, and its path there.

    Raises:
        UserError: A URI of an unknown kind.

    """
    if not is_uri(place):
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(place))
    head, slashes, rest = str(place).partition("://")
    bucket, slash, path = rest.partition("/")
    filesystem, base = _open_root(f"{head}{slashes}{bucket}{slash}")
    return filesystem, posixpath.join(base, path)


@lru_cache(maxsize=16)
def _open_root(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        return cast(tuple[fs.FileSystem, str], fs.FileSystem.from_uri(uri))
    except (ValueError, OSError) as error:
        reason = in_one_line(error)
        raise bad_value("path", uri, f"no file system for it ({reason}); use a path, s3:// or gs://") from error


def leaves_root(root: str | Path, name: str) -> bool:
    """Whether a name, after all links, lies outside a root; a place without a root cannot leave it."""
    if not str(root):
        return False
    if is_uri(root):
        return is_uri(name) or name.startswith("/") or ".." in name.split("/")
    inside = os.path.realpath(os.path.expanduser(root))
    return os.path.commonpath([inside, os.path.realpath(os.path.join(inside, name))]) != inside


def size_of(place: str | Path) -> int | None:
    """Bytes of a file; `None` if there is none."""
    info = _look(place)
    return int(info.size) if info and info.type == fs.FileType.File else None


def is_folder(place: str | Path) -> bool:
    """Whether there is a folder."""
    info = _look(place)
    return info is not None and info.type == fs.FileType.Directory


def exists(place: str | Path) -> bool:
    """Whether there is a file or a folder."""
    info = _look(place)
    return info is not None and info.type != fs.FileType.NotFound


def _look(place: str | Path) -> Any:
    """What the file system says of a place; `None` for a name that no file can have."""
    filesystem, path = locate(place)
    try:
        return filesystem.get_file_info(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise
    except ValueError:  # a NUL
        return None


def open_binary(place: str | Path) -> IO[bytes]:
    """A seekable file to read from.

    Raises:
        OSError: There is no such file, or it may not be read.

    """
    if not is_uri(place):
        return Path(place).expanduser().open("rb")
    filesystem, path = locate(place)
    return cast(IO[bytes], filesystem.open_input_file(path))


def read_bytes(place: str | Path) -> bytes:
    """The contents of a file."""
    with open_binary(place) as file:
        return file.read()


def read_text(place: str | Path) -> str:
    """The contents of a text file, UTF-8 with or without its mark.

    Raises:
        UserError: It is not there, may not be read, or is no text.

    """
    try:
        return read_bytes(place).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{place}: cannot be read ({in_one_line(error)}); give a text file in UTF-8") from error


def names_in(folder: str | Path) -> list[str]:
    """Names of the files directly in a folder, sorted; none if it is not there. Unfinished files are left out."""
    filesystem, path = locate(folder)
    infos = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(info.base_name for info in infos if info.type == fs.FileType.File and not info.base_name.startswith("."))


def write_whole(place: str | Path, write: Any) -> None:
    """Write a file so that a reader sees the old one, the new one or none, never a part.

    Args:
        place: The file; its folder is made.
        write: Called with the path to write to, and the file system.

    """
    filesystem, path = locate(place)
    folder, base = posixpath.split(path)
    if filesystem.type_name in _OBJECT_STORES:
        write(path, filesystem)
        return
    filesystem.create_dir(folder, recursive=True)
    unfinished = posixpath.join(folder, f".{base}.{uuid.uuid4().hex}")
    try:
        write(unfinished, filesystem)
        filesystem.move(unfinished, path)
    finally:
        if filesystem.get_file_info(unfinished).type == fs.FileType.File:
            filesystem.delete_file(unfinished)


def remove(place: str | Path) -> None:
    """Remove a file if it is there."""
    filesystem, path = locate(place)
    if filesystem.get_file_info(path).type == fs.FileType.File:
        filesystem.delete_file(path)
