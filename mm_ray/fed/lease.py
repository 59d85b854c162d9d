"""A lease on a phase key: one process computes, the others follow what it stores.

The lease is advice that saves work, not a lock that guards bits: two processes that compute the same key store the same
bits. So it may be simple. A holder renews its lease every few seconds from a thread; whoever sees the same lease unrenewed
for `EXPIRY_S` by its own clock, or whose machine knows that the holder's process is gone, takes it over.
"""

import json
import os
import posixpath
import socket
import threading
import time
import uuid
from types import TracebackType

from mm_ray.fed.files import Files

RENEWAL_S = 3.0
EXPIRY_S = 20.0


class Lease:
    """This object's claim on one key. Use `try_take`, and then the object as a context manager that renews and releases."""

    def __init__(self, files: Files, key: str) -> None:
        self._files, self._name = files, posixpath.join(key, "lease.json")
        self._owner = uuid.uuid4().hex
        self._renewals = 0
        self._seen: tuple[str, float] = ("", 0.0)
        self._stop = threading.Event()

    def try_take(self) -> bool:
        """Take the lease if it is free, expired or its holder is dead; False while another holds it."""
        current = self._read()
        if current and not self._is_dead(current):
            return False
        self._write()
        return self._read().get("owner") == self._owner

    def __enter__(self) -> "Lease":
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if self._read().get("owner") == self._owner:
            self._files.delete(self._name)

    def _renew(self) -> None:
        while not self._stop.wait(RENEWAL_S):
            self._write()

    def _write(self) -> None:
        self._renewals += 1
        content = {"owner": self._owner, "renewals": self._renewals, "host": _host(), "process": _process(os.getpid())}
        self._files.write(self._name, json.dumps({**content, "pid": os.getpid()}).encode())

    def _read(self) -> dict[str, object]:
        try:
            content: dict[str, object] = json.loads(self._files.read(self._name))
        except (FileNotFoundError, ValueError):
            return {}
        return content

    def _is_dead(self, current: dict[str, object]) -> bool:
        if current["host"] == _host() and current["process"]:
            return _process(int(str(current["pid"]))) != current["process"]
        token = f"{current['owner']}/{current['renewals']}"
        if token != self._seen[0]:
            self._seen = (token, time.monotonic())
        return time.monotonic() - self._seen[1] > EXPIRY_S


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
    # A killed process whose parent does not ask for its end stays as a zombie, in a container without an init for ever.
    return "" if fields[0] in "ZX" else f"{pid}/{fields[19]}"
