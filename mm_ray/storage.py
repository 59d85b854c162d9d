"""The one file layer: local paths, and URIs of any pyarrow file system (`s3://bucket/folder`, `gs://`, `file://`).

A file is written whole or not at all. `Storage` is a root whose calls also wait out an outage: a run that computed for hours
does not end because a bucket or a network folder is away for half a minute.
"""

import errno
import json
import logging
import os
import posixpath
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from pyarrow import fs

from mm_ray.errors import StorageError, UserError, bad_value, cause_chain, in_one_line

FULL = (errno.ENOSPC, errno.EDQUOT)
PATIENCE_S = 120.0
"""A failing `Storage` is retried for this long."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0

_OBJECT_STORES = ("s3", "gcs", "abfs")
"""They have no folders, and show an object only when it is complete."""

Found = TypeVar("Found")
log = logging.getLogger(__name__)


def join(root: str | Path, name: str) -> str:
    """The path of a name below a root; an absolute name stays unchanged."""
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


def local_path(place: str | Path) -> str | None:
    """The path of a place on this machine's own file system, also of a `file://` one; `None` on any other.

    Raises:
        UserError: A URI of an unknown kind.

    """
    filesystem, path = locate(place)
    return path if isinstance(filesystem, fs.LocalFileSystem) else None


@lru_cache(maxsize=16)
def _open_root(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        return cast(tuple[fs.FileSystem, str], fs.FileSystem.from_uri(uri))
    except (ValueError, OSError) as error:
        reason = in_one_line(error)
        raise bad_value("PATH", uri, f"no file system for it ({reason}); use a path, s3:// or gs://") from error


def leaves_root(root: str | Path, name: str) -> bool:
    """Whether a name, after all links, lies outside a root; a place without a root cannot leave it."""
    if not str(root):
        return False
    local = local_path(root)
    if local is None:
        return is_uri(name) or name.startswith("/") or ".." in name.split("/")
    inside = os.path.realpath(local)
    return os.path.commonpath([inside, os.path.realpath(os.path.join(inside, name))]) != inside


def size_of(place: str | Path) -> int | None:
    """Bytes of a file; `None` if there is none."""
    info = look(place)
    return int(info.size) if info and info.type == fs.FileType.File else None


def is_folder(place: str | Path) -> bool:
    """Whether there is a folder."""
    info = look(place)
    return info is not None and info.type == fs.FileType.Directory


def exists(place: str | Path) -> bool:
    """Whether there is a file or a folder."""
    info = look(place)
    return info is not None and info.type != fs.FileType.NotFound


def look(place: str | Path) -> Any:
    """The file system's information on a path (pyarrow's `FileInfo`); `None` for a name that no file can have."""
    filesystem, path = locate(place)
    try:
        return filesystem.get_file_info(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise
    except ValueError:  # a NUL
        return None


def names_in(folder: str | Path) -> list[str]:
    """Names of the files directly in a folder, sorted; none if it is not there. Unfinished files are left out.

    Raises:
        UserError: It is no folder, or may not be listed.

    """
    try:
        return _names_in(*locate(folder))
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({in_one_line(error)}); give a folder that can be read") from error


def _names_in(filesystem: fs.FileSystem, path: str) -> list[str]:
    try:
        infos = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    except FileNotFoundError:  # made by another between Arrow's two looks: at the first one it was not there
        return []
    return sorted(info.base_name for info in infos if info.type == fs.FileType.File and not info.base_name.startswith("."))


def open_binary(place: str | Path) -> IO[bytes]:
    """A seekable file to read from.

    Raises:
        OSError: There is no such file, or it may not be read.

    """
    filesystem, path = locate(place)
    if isinstance(filesystem, fs.LocalFileSystem):
        return Path(path).open("rb")
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


def read_object(place: str | Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: The file cannot be read, or holds anything else; `remedy` says what to do.

    """
    try:
        content = json.loads(read_bytes(place))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no JSON, or no UTF-8
        raise UserError(f"{place}: cannot be read ({in_one_line(error)}); {remedy}") from error
    if not isinstance(content, dict):
        raise UserError(f"{place}: does not hold a JSON object; {remedy}")
    return content


def write_whole(place: str | Path, write: Callable[[str, fs.FileSystem], Any]) -> None:
    """Write a file so that a reader sees the old one, the new one or none, never a part.

    Args:
        place: The file; its folder is made.
        write: Called with the path to write to, and the file system.

    Raises:
        StorageError: There is no room.

    """
    with names_full_disk(place):
        _write_whole(*locate(place), write, uuid.uuid4().hex)


def write_bytes(place: str | Path, data: bytes) -> None:
    """Write a file whole: a reader sees the old one or the new one.

    Raises:
        StorageError: There is no room.

    """
    write_whole(place, lambda path, filesystem: _put(filesystem, path, data))


def write_text(place: str | Path, text: str) -> None:
    """Write a text file whole, as UTF-8.

    Raises:
        StorageError: There is no room.

    """
    write_bytes(place, text.encode())


def _write_whole(filesystem: fs.FileSystem, path: str, write: Callable[[str, fs.FileSystem], Any], token: str) -> None:
    """Write under an unfinished file's name (with the token) and then move it; an attempt made again takes the same name."""
    if filesystem.type_name in _OBJECT_STORES:
        write(path, filesystem)
        return
    folder, base = posixpath.split(path)
    unfinished = posixpath.join(folder, f".{base}.{token}")
    _make_folder(filesystem, folder)
    try:
        write(unfinished, filesystem)
        if isinstance(filesystem, fs.LocalFileSystem):
            os.replace(unfinished, path)
        else:
            _remove(filesystem, path)  # HDFS moves nothing onto a file that is there
            filesystem.move(unfinished, path)
    except BaseException:
        with suppress(OSError):
            _remove(filesystem, unfinished)
        raise


def _put(filesystem: fs.FileSystem, path: str, *pieces: bytes | memoryview) -> None:
    # Python's own errors name the file, Arrow's do not.
    local = isinstance(filesystem, fs.LocalFileSystem)
    with open(path, "wb") if local else filesystem.open_output_stream(path) as file:
        for piece in pieces:
            file.write(piece)


def _make_folder(filesystem: fs.FileSystem, path: str) -> None:
    if isinstance(filesystem, fs.LocalFileSystem):
        os.makedirs(path, exist_ok=True)
    else:
        filesystem.create_dir(path, recursive=True)


def append_lines(path: Path, text: str, wait_for_disk: bool = False) -> None:
    """Append whole lines, or nothing: half a line that stayed on a full disk would be glued to the next one.

    Raises:
        StorageError: There is no room.

    """
    rest = memoryview(text.encode())
    with names_full_disk(path), path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            while rest:
                rest = rest[file.write(rest) :]
            if wait_for_disk:
                os.fsync(file.fileno())
        except BaseException:
            file.truncate(end)
            raise


def remove(place: str | Path) -> None:
    """Remove a file if it is there."""
    _remove(*locate(place))


def _remove(filesystem: fs.FileSystem, path: str) -> None:
    if filesystem.get_file_info(path).type == fs.FileType.File:
        filesystem.delete_file(path)


@contextmanager
def names_full_disk(place: object) -> Iterator[None]:
    """Turn a full disk, or a used-up quota, into an error that names the place, also where a library has wrapped it.

    Raises:
        StorageError: There is no room.

    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        full = next((one for one in cause_chain(error) if isinstance(one, OSError) and one.errno in FULL), None)
        if full is None:
            raise
        remedy = "make room; then the same command resumes from what is stored"
        raise StorageError(f"{full.filename or place}: no room left ({os.strerror(full.errno or 0)}); {remedy}") from error


@contextmanager
def names_bad_file() -> Iterator[None]:
    """Turn a full disk, and a file that the system refuses, into an error of one line.

    Raises:
        UserError: It names the file.

    """
    try:
        with names_full_disk("the disk"):
            yield
    except OSError as error:
        if error.filename is None:
            raise
        raise UserError(f"{error.filename}: cannot be used ({error.strerror}); check what lies there") from error


class Storage:
    """Files below a root: a local path, or a URI such as `s3://bucket/folder`.

    Each call waits up to `PATIENCE_S` for a place that fails, with one warning.

    Raises:
        UserError: A URI of an unknown kind.
        StorageError: Here and in each method: the place has no room, or failed all the time.

    """

    def __init__(self, root: str) -> None:
        self.root = root if is_uri(root) else os.path.abspath(os.path.expanduser(root))
        self.filesystem, self.base = _open_storage(self.root)
        self._patiently("", lambda: _touch(self.filesystem, self.base))

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return Storage, (self.root,)

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        path = self._path(name)
        return self._patiently(name, lambda: bool(self.filesystem.get_file_info(path).type == fs.FileType.File))

    def list(self, folder: str) -> list[str]:
        """Names of the files directly in a folder, sorted; none if it is not there. Unfinished files are left out."""
        return self._patiently(folder, lambda: _names_in(self.filesystem, self._path(folder)))

    def read(self, name: str, num_bytes: int | None = None) -> bytes:
        """The file's bytes, or the first `num_bytes` of them.

        Raises:
            FileNotFoundError: No such file.

        """
        return self._patiently(name, lambda: self._get(self._path(name), num_bytes))

    def write(self, name: str, *pieces: bytes | memoryview, patience_s: float | None = None) -> None:
        """Write the file; a reader sees the old file or the new one, never a part.

        Args:
            name: Its name below the root.
            pieces: Its bytes, one piece after the other; large ones need no copy in one.
            patience_s: Wait this long for a place that fails; None: `PATIENCE_S`.

        """
        path, token = self._path(name), uuid.uuid4().hex

        def put(unfinished: str, filesystem: fs.FileSystem) -> None:
            _put(filesystem, unfinished, *pieces)

        self._patiently(name, lambda: _write_whole(self.filesystem, path, put, token), patience_s, may_miss=False)

    def delete(self, name: str) -> None:
        """Remove the file if it is there."""
        with suppress(FileNotFoundError):  # another was faster
            self._patiently(name, lambda: _remove(self.filesystem, self._path(name)))

    def _get(self, path: str, num_bytes: int | None) -> bytes:
        with self.filesystem.open_input_file(path) as file:
            return bytes(file.read(num_bytes))

    def _path(self, name: str) -> str:
        return posixpath.join(self.base, name)

    def _patiently(self, name: str, work: Callable[[], Found], patience_s: float | None = None, may_miss: bool = True) -> Found:
        """Do the work, and retry while the storage fails. A missing file is an answer if it `may_miss`; while one is written,
        its folder may have been removed.
        """
        place, warned, pause = self._path(name), False, FIRST_PAUSE_S
        until = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
        while True:
            try:
                with names_full_disk(place):
                    return work()
            except OSError as error:
                if may_miss and isinstance(error, FileNotFoundError):
                    raise
                if remedy := self._lasting(error):
                    raise StorageError(f"{place}: cannot be used ({in_one_line(error)}); {remedy}") from error
                if time.monotonic() + pause > until:
                    raise StorageError(f"{place}: does not answer ({in_one_line(error)}); try again when it does") from error
                if not warned:
                    log.warning("%s: does not answer (%s); waiting up to %.0f s", place, in_one_line(error), PATIENCE_S)
                warned = True
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _lasting(self, error: OSError) -> str:
        """The remedy for an error that waiting does not solve; empty for an outage."""
        if isinstance(error, (NotADirectoryError, IsADirectoryError, FileExistsError)):
            return "remove the file or folder of that name"
        forbidden = isinstance(error, PermissionError) or error.errno == errno.EROFS
        local = isinstance(self.filesystem, fs.LocalFileSystem)
        return "give write permission there, or use another path" if forbidden and local else ""


def check_place(root: str) -> None:
    """Refuse a path that cannot be used, without waiting: before a run begins that is a mistake, not an outage.

    Raises:
        UserError: It cannot be used.

    """
    try:
        _touch(*_open_storage(root))
    except OSError as error:
        raise bad_value(
            "--phases", root, f"cannot be used ({in_one_line(error)}); give a folder that can be written"
        ) from error


def _open_storage(root: str) -> tuple[fs.FileSystem, str]:
    """Unlike a data file's place, a root is a URI as a whole: it may end in options (`?endpoint_override=...`)."""
    if not is_uri(root):
        return locate(root)
    try:
        return cast(tuple[fs.FileSystem, str], fs.FileSystem.from_uri(root))
    except (ValueError, OSError) as error:
        raise bad_value(
            "--phases", root, f"no file system for it ({in_one_line(error)}); use a path, s3:// or gs://"
        ) from error


def _touch(filesystem: fs.FileSystem, base: str) -> None:
    if not isinstance(filesystem, fs.LocalFileSystem):
        filesystem.get_file_info(base)
        return
    os.makedirs(base, exist_ok=True)
    if not os.access(base, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "it may not be written", base)
