"""Files of a run on a local disk: each written whole or not at all, read with a word on what is wrong with them."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mm_ray.errors import StorageError, UserError, in_one_line, led_to

FULL = (errno.ENOSPC, errno.EDQUOT)


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
        full = next((one for one in led_to(error) if isinstance(one, OSError) and one.errno in FULL), None)
        if full is None:
            raise
        remedy = "make room, and the same command goes on from what is stored"
        raise StorageError(f"{full.filename or place}: no room left ({os.strerror(full.errno or 0)}); {remedy}") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole: a reader sees the old one or the new one.

    Raises:
        StorageError: There is no room.

    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with names_full_disk(path):
            unfinished.write_bytes(data)
            unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, as UTF-8.

    Raises:
        StorageError: There is no room.

    """
    write_bytes(path, text.encode())


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: The file cannot be read, or holds anything else; `remedy` says what to do.

    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no JSON, or no UTF-8
        raise UserError(f"{path}: cannot be read ({in_one_line(error)}); {remedy}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no JSON object; {remedy}")
    return content


def append_lines(path: Path, text: str, wait_for_disk: bool = False) -> None:
    """Append whole lines, or nothing: half a line that stayed on a full disk would be glued to the next one."""
    rest = memoryview(text.encode())
    with path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            while rest:
                rest = rest[file.write(rest) :]
            if wait_for_disk:
                os.fsync(file.fileno())
        except BaseException:
            file.truncate(end)
            raise
