"""Small files under a root on any pyarrow file system, each written whole or not at all."""

import os
import posixpath
import uuid

from pyarrow import fs

from mm_ray.errors import bad_value


class Files:
    """Files below a root: a local path, or a URI such as `s3://bucket/folder`.

    Raises:
        UserError: A URI of an unknown kind, or a place that cannot be used.

    """

    def __init__(self, root: str) -> None:
        self.filesystem, self.base = _open(root)
        self.local = isinstance(self.filesystem, fs.LocalFileSystem)
        _check(root, self.filesystem, self.base, self.local)

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return Files, (self.base if self.local else f"{self.filesystem.type_name}://{self.base}",)

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        return self.filesystem.get_file_info(self._path(name)).type == fs.FileType.File

    def list(self, folder: str) -> list[str]:
        """Names of the files directly in a folder; none if it is not there. Files still being written are left out."""
        selector = fs.FileSelector(self._path(folder), allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return [info.base_name for info in infos if info.type == fs.FileType.File and not info.base_name.startswith(".")]

    def read(self, name: str, num_bytes: int | None = None) -> bytes:
        """The file's bytes, or the first `num_bytes` of them.

        Raises:
            FileNotFoundError: No such file.

        """
        with self.filesystem.open_input_file(self._path(name)) as file:
            return bytes(file.read(num_bytes))

    def write(self, name: str, data: bytes) -> None:
        """Write the file; a reader sees the old file or the new one, never a part."""
        path = self._path(name)
        if not self.local:  # an object store shows an object only when it is complete
            self._put(path, data)
            return
        folder, base = posixpath.split(path)
        self.filesystem.create_dir(folder, recursive=True)
        unfinished = posixpath.join(folder, f".{base}.{uuid.uuid4().hex}")
        try:
            self._put(unfinished, data)
            os.replace(unfinished, path)
        except BaseException:
            self.delete(posixpath.relpath(unfinished, self.base))
            raise

    def delete(self, name: str) -> None:
        """Remove the file if it is there."""
        if self.exists(name):
            self.filesystem.delete_file(self._path(name))

    def _put(self, path: str, data: bytes) -> None:
        with self.filesystem.open_output_stream(path) as file:
            file.write(data)

    def _path(self, name: str) -> str:
        return posixpath.join(self.base, name)


def _open(root: str) -> tuple[fs.FileSystem, str]:
    if "://" not in root:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(root))
    try:
        return fs.FileSystem.from_uri(root)
    except (ValueError, OSError) as error:
        raise bad_value("phases", root, f"no file system for it ({_one_line(error)}); use a path, s3:// or gs://") from error


def _check(root: str, filesystem: fs.FileSystem, base: str, local: bool) -> None:
    try:
        if local:
            filesystem.create_dir(base, recursive=True)
        else:
            filesystem.get_file_info(base)
    except OSError as error:
        raise bad_value("phases", root, f"cannot be used ({_one_line(error)}); give a folder that can be written") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
