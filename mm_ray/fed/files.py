"""Small files under a root on any pyarrow file system, each written whole or not at all.

A place that was there and fails now is waited for: a run that computed for hours does not end because a bucket or a network
folder is away for half a minute.
"""

import logging
import os
import posixpath
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from pyarrow import fs

from mm_ray.disk import names_full_disk
from mm_ray.errors import StorageError, bad_value, in_one_line

PATIENCE_S = 120.0
"""A place that fails is tried again for so long."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0

Found = TypeVar("Found")
log = logging.getLogger(__name__)


class Files:
    """Files below a root: a local path, or a URI such as `s3://bucket/folder`.

    Each call waits up to `PATIENCE_S` for a place that fails, with one warning.

    Raises:
        UserError: A URI of an unknown kind.
        StorageError: Here and in each method: the place has no room, or failed all the time.

    """

    def __init__(self, root: str) -> None:
        self.filesystem, self.base = _open(root)
        self.local = isinstance(self.filesystem, fs.LocalFileSystem)
        self._patiently("", lambda: _touch(self.filesystem, self.base, self.local))

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return Files, (self.base if self.local else f"{self.filesystem.type_name}://{self.base}",)

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        return self._patiently(name, lambda: self._exists(self._path(name)))

    def list(self, folder: str) -> list[str]:
        """Names of the files directly in a folder; none if it is not there. Files still being written are left out."""
        selector = fs.FileSelector(self._path(folder), allow_not_found=True)
        try:
            infos = self._patiently(folder, lambda: self.filesystem.get_file_info(selector))
        except FileNotFoundError:  # made by another between Arrow's two looks: at the first one it was not there
            return []
        return [info.base_name for info in infos if info.type == fs.FileType.File and not info.base_name.startswith(".")]

    def read(self, name: str, num_bytes: int | None = None) -> bytes:
        """The file's bytes, or the first `num_bytes` of them.

        Raises:
            FileNotFoundError: No such file.

        """
        return self._patiently(name, lambda: self._get(self._path(name), num_bytes))

    def write(self, name: str, data: bytes, patience_s: float | None = None) -> None:
        """Write the file; a reader sees the old file or the new one, never a part.

        Args:
            name: Its name below the root.
            data: Its bytes.
            patience_s: Wait so long for a place that fails; None: `PATIENCE_S`.

        """
        path = self._path(name)
        # An object store shows an object only when it is complete.
        put = partial(self._put_whole, token=uuid.uuid4().hex) if self.local else self._put
        self._patiently(name, lambda: put(path, data), patience_s)

    def delete(self, name: str) -> None:
        """Remove the file if it is there."""
        self._patiently(name, lambda: self._remove(self._path(name)))

    def _exists(self, path: str) -> bool:
        return self.filesystem.get_file_info(path).type == fs.FileType.File

    def _get(self, path: str, num_bytes: int | None) -> bytes:
        with self.filesystem.open_input_file(path) as file:
            return bytes(file.read(num_bytes))

    def _remove(self, path: str) -> None:
        if self._exists(path):
            self.filesystem.delete_file(path)

    def _put_whole(self, path: str, data: bytes, token: str) -> None:
        folder, base = posixpath.split(path)
        self.filesystem.create_dir(folder, recursive=True)
        unfinished = posixpath.join(folder, f".{base}.{token}")
        try:
            self._put(unfinished, data)
            os.replace(unfinished, path)
        except BaseException:
            with suppress(OSError):  # the same attempt, made again, writes the same unfinished file
                self._remove(unfinished)
            raise

    def _put(self, path: str, data: bytes) -> None:
        with self.filesystem.open_output_stream(path) as file:
            file.write(data)

    def _path(self, name: str) -> str:
        return posixpath.join(self.base, name)

    def _patiently(self, name: str, work: Callable[[], Found], patience_s: float | None = None) -> Found:
        place, warned, pause = self._path(name), False, FIRST_PAUSE_S
        until = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
        while True:
            try:
                with names_full_disk(place):
                    return work()
            except FileNotFoundError:
                raise
            except (NotADirectoryError, IsADirectoryError) as error:  # no outage: something else has this name
                raise StorageError(f"{place}: cannot be used ({in_one_line(error)}); remove what has its name") from error
            except OSError as error:
                if time.monotonic() + pause > until:
                    raise StorageError(f"{place}: does not answer ({in_one_line(error)}); try again when it does") from error
                if not warned:
                    log.warning("%s: does not answer (%s); waiting up to %.0f s", place, in_one_line(error), PATIENCE_S)
                warned = True
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


def check_place(root: str) -> None:
    """Refuse a place that cannot be used, at once: before a run begins that is a mistake, and not an outage.

    Raises:
        UserError: It cannot be used.

    """
    filesystem, base = _open(root)
    try:
        _touch(filesystem, base, isinstance(filesystem, fs.LocalFileSystem))
    except OSError as error:
        raise bad_value("phases", root, f"cannot be used ({in_one_line(error)}); give a folder that can be written") from error


def _open(root: str) -> tuple[fs.FileSystem, str]:
    if "://" not in root:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(root))
    try:
        return fs.FileSystem.from_uri(root)
    except (ValueError, OSError) as error:
        raise bad_value("phases", root, f"no file system for it ({in_one_line(error)}); use a path, s3:// or gs://") from error


def _touch(filesystem: fs.FileSystem, base: str, local: bool) -> None:
    if local:
        filesystem.create_dir(base, recursive=True)
    else:
        filesystem.get_file_info(base)
