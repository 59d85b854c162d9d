"""A lease on a phase key: one process computes, the others follow what it stores.

The lease is advice that saves work, not a lock that guards bits: two processes that compute the same key store the same
bits. A holder renews its lease every few seconds from a thread. A process takes the lease over if it sees it unrenewed for
`EXPIRY_S` by its own clock, or if its machine knows that the holder's process is gone.

Each claimant writes its own file and then looks for others. Of two that claim at once, at least one sees the other and
withdraws, on any file system whose listings show finished writes. Both may withdraw; they retry at different times.
"""

import json
import os
import posixpath
import random
import socket
import threading
import time
import uuid
from contextlib import suppress
from types import TracebackType

from mm_ray.errors import StorageError
from mm_ray.storage import Storage

RENEWAL_S = 3.0
EXPIRY_S = 20.0
WITHDRAWAL_S = 0.05
PREFIX = "lease-"
CLAIM = ("renewals", "host", "process", "pid")


class Lease:
    """This object's claim on one key. Use `try_take`, and then the object as a context manager that renews and releases."""

    def __init__(self, files: Storage, key: str) -> None:
        self._files, self._key = files, key
        self._owner = uuid.uuid4().hex
        self._mine = f"{PREFIX}{self._owner}.json"
        self._renewals = 0
        self._seen: dict[str, tuple[object, float]] = {}
        self._stop = threading.Event()

    def try_take(self) -> bool:
        """Take the lease if it is free, expired or its holder is dead; False while another holds it."""
        if self._others():
            return False
        self._write()
        if self._others():
            self._delete(self._mine)
            time.sleep(random.uniform(0, WITHDRAWAL_S))
            return False
        return True

    def __enter__(self) -> "Lease":
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._delete(self._mine)

    def _renew(self) -> None:
        while not self._stop.wait(RENEWAL_S):
            with suppress(StorageError):  # a process that takes over the expired lease computes the same bits
                self._write(patience_s=0.0)

    def _others(self) -> list[str]:
        """Names of the claims of others; those that are dead are removed."""
        claims = [name for name in self._files.list(self._key) if name.startswith(PREFIX) and name != self._mine]
        living = [name for name in claims if not self._is_dead(name, self._read(name))]
        for name in set(claims) - set(living):
            self._delete(name)
        return living

    def _write(self, patience_s: float | None = None) -> None:
        self._renewals += 1
        content = {"renewals": self._renewals, "host": _host(), "process": _process(os.getpid()), "pid": os.getpid()}
        self._files.write(self._path(self._mine), json.dumps(content).encode(), patience_s=patience_s)

    def _read(self, name: str) -> dict[str, object]:
        """A claim; empty if the file is gone or is not a claim."""
        try:
            content: dict[str, object] = json.loads(self._files.read(self._path(name)))
            return {field: content[field] for field in CLAIM} | {"pid": int(str(content["pid"]))}
        except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError):
            return {}

    def _delete(self, name: str) -> None:
        self._files.delete(self._path(name))

    def _path(self, name: str) -> str:
        return posixpath.join(self._key, name)

    def _is_dead(self, name: str, claim: dict[str, object]) -> bool:
        if not claim:
            return True
        if claim["host"] == _host() and claim["process"]:
            return _process(int(str(claim["pid"]))) != claim["process"]
        if name not in self._seen or self._seen[name][0] != claim["renewals"]:
            self._seen[name] = (claim["renewals"], time.monotonic())
        return time.monotonic() - self._seen[name][1] > EXPIRY_S


def _host() -> str:
    """This machine and the process namespace in which its process ids mean something."""
    try:
        return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _process(pid: int) -> str:
    """A process by its id and start time, so that a reused id is another process; empty if there is none, or no /proc."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    # A killed process stays a zombie until its parent waits for it; in a container without an init, for ever.
    return "" if fields[0] in "ZX" else f"{pid}/{fields[19]}"
