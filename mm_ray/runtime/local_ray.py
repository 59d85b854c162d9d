"""Start a Ray on this machine, for this process and its children alone.

By default, Ray writes one token for all clusters into the user's home, readable by everybody on the machine, listens on every
address, and keeps its sockets, logs and spilled objects in folders with mode 0777.
"""

import fcntl
import logging
import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray._private import ray_constants

from mm_ray.errors import EnvironmentFailure, in_one_line
from mm_ray.runtime.cpus import usable_cpus

SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107
BELOW_TMP = len("/mm_ray-12345678/r/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
"""Bytes of the longest socket path below the temporary folder; Ray does not start if it does not fit."""
KEEP_S = 24 * 3600.0
"""The folder of a finished run is kept for its logs; the first run after this time removes it."""
SLOW_S = 20.0
TRANSIENT = ("timed out", "timeout", "in use")
"""Parts of Ray's message when a second try may succeed: a busy machine, or a port taken meanwhile."""

_LOCKED: list[int] = []
"""Private folders of this process, open and locked until it ends."""


def start_local_ray(num_gpus: int) -> None:
    """Start Ray with the CPUs that this process may use; after a time-out it is tried once more.

    Args:
        num_gpus: GPUs that Ray may assign.

    Raises:
        EnvironmentFailure: Ray does not start; it names the cause, the log and the remedy.

    """
    folder = private_folder()
    with _for_this_run_alone(), _says_if_slow(folder):
        for tries_left in (1, 0):
            try:
                ray.init(
                    address="local",
                    num_cpus=usable_cpus(),
                    num_gpus=num_gpus,
                    include_dashboard=False,
                    logging_level=logging.WARNING,
                    log_to_driver=False,
                    _temp_dir=str(folder / "r"),
                )
                return
            except Exception as error:  # Ray raises any type, bare `Exception`s too
                ray.shutdown()
                is_transient = any(words in str(error).lower() for words in TRANSIENT)
                if not (is_transient and tries_left):
                    raise _failure(error, is_transient, folder) from error
                print("Ray did not start in time; trying once more", file=sys.stderr, flush=True)


def _failure(error: Exception, is_transient: bool, folder: Path) -> EnvironmentFailure:
    cause = in_one_line(f"{type(error).__name__}: {error}")[:300]
    busy = "end other work on the machine and give the same command again; `mm_ray.train --serial` needs no Ray"
    remedy = busy if is_transient else "set RAY_TMPDIR to another folder; `mm_ray.train --serial` needs no Ray"
    return EnvironmentFailure(f"Ray does not start on this machine ({cause}); log: {logs_in(folder)}; {remedy}")


def logs_in(folder: Path) -> Path:
    """The logs in a private folder, as far down as they exist."""
    logs = folder / "r" / "session_latest" / "logs"
    return logs if logs.exists() else folder


@contextmanager
def _says_if_slow(folder: Path) -> Iterator[None]:
    words = f"still waiting for Ray to start, after {SLOW_S:.0f} s; its log: {folder}/r/session_latest/logs"
    timer = threading.Timer(SLOW_S, lambda: print(words, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _for_this_run_alone() -> Iterator[None]:
    """A token of the run, no port beyond loopback, and no address of another cluster.

    The switch is the one that keeps Ray on loopback on macOS and Windows. `_node_ip_address` does not, since Ray replaces
    127.0.0.1 by the machine's own address.
    """
    os.environ.pop("RAY_ADDRESS", None)  # of another cluster: Ray Train's processes would look there
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def private_folder() -> Path:
    """A new private folder (0700), with a path short enough for Ray's sockets.

    It lies in RAY_TMPDIR or TMPDIR, or in /tmp if these are not set or too long. Ray makes its content writable for everybody,
    so the folder around it keeps others out.

    Raises:
        EnvironmentFailure: No such folder can be made.

    """
    places = [Path(os.environ[name]).absolute() for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)]
    for place in [*places, Path("/tmp")]:
        if len(os.fsencode(place)) > SOCKET_PATH_BYTES - BELOW_TMP or not os.access(place, os.W_OK | os.X_OK):
            continue
        _remove_old(place)
        folder = Path(tempfile.mkdtemp(prefix="mm_ray-", dir=place))
        _LOCKED.append(_lock(folder))
        return folder
    longest = SOCKET_PATH_BYTES - BELOW_TMP
    remedy = f"set RAY_TMPDIR to a folder that you can write, with a path of at most {longest} bytes"
    raise EnvironmentFailure(
        f"Ray does not start: /tmp cannot be written, and no other folder is given for its sockets; {remedy}"
    )


def _lock(folder: Path) -> int:
    """An open and locked folder; the system releases it when this process ends, however it ends."""
    opened = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(opened)
        raise
    return opened


def _remove_old(place: Path) -> None:
    """Remove folders of this user's runs that ended a while ago."""
    for folder in place.glob("mm_ray-????????"):
        try:
            status = folder.lstat()
            if status.st_uid != os.getuid() or time.time() - status.st_mtime < KEEP_S:
                continue
            os.close(_lock(folder))
        except OSError:  # its run is not finished, it is gone, or it is not a folder
            continue
        shutil.rmtree(folder, ignore_errors=True)
