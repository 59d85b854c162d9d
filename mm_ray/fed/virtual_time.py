"""Unequal clients and virtual time: how long a round would take on devices of given speed.

A client's round takes the time to receive, to compute and to send, one after the other: bytes over bandwidth and FLOPs over
speed (`mm_ray.fed.cost`). A round takes as long as its slowest client, or until the simulated deadline. The server's own work,
latency and a device's other work are left out. All of it is a formula, so it is the same on every machine and in every run.
"""

import csv
import hashlib
import io
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mm_ray.errors import UserError, bad_value, in_one_line
from mm_ray.plugins import find_file
from mm_ray.seeding import numpy_stream
from mm_ray.storage import read_text
from mm_ray.types import Cost

SIM_SECONDS = "sim_seconds"
"""The metric of a round's simulated time."""
FIELD = "clients.profile"
MOST_SHARE = 1_000_000
COLUMNS = ("client", "gflops", "down_mbps", "up_mbps")
SLOWEST, FASTEST = 1e-6, 1e12
"""Of a device's speeds: beyond them is a mistake in the unit, or seconds that no float32 of a tracker holds."""


class Device(NamedTuple):
    """A kind of device."""

    gflops: float
    """Speed of training, in 10^9 floating point operations per second."""
    down_mbps: float
    """10^6 bits per second that it receives."""
    up_mbps: float
    """10^6 bits per second that it sends."""


DEVICES = {"phone": Device(5, 50, 10), "laptop": Device(50, 100, 20), "server": Device(1000, 1000, 1000)}
"""Round numbers for what such a device sustains, not measurements: give a CSV file for those of your own devices."""


@dataclass(frozen=True, eq=False)
class DeviceProfile:
    """The devices of all clients, by client id."""

    gflops_K: np.ndarray
    down_mbps_K: np.ndarray
    up_mbps_K: np.ndarray

    def seconds(self, client: int, cost: Cost) -> float:
        """Simulated seconds of a client's round."""
        if not (cost.bytes_down or cost.bytes_up):  # a data centre, not a client (`mm_ray.methods.central_audio`)
            return cost.flops / (1e9 * float(self.gflops_K.max()))
        return (
            cost.bytes_down * 8 / (1e6 * float(self.down_mbps_K[client]))
            + cost.flops / (1e9 * float(self.gflops_K[client]))
            + cost.bytes_up * 8 / (1e6 * float(self.up_mbps_K[client]))
        )

    @cached_property
    def digest(self) -> str:
        """A digest of all devices: what a result depends on where a deadline drops the slow ones."""
        content = np.stack([self.gflops_K, self.down_mbps_K, self.up_mbps_K]).astype("<f8")
        return hashlib.blake2b(content.tobytes(), digest_size=8).hexdigest()


def device_profile(text: str, num_clients: int, seed: int) -> DeviceProfile | None:
    """The devices that `clients.profile` gives to the clients; None if it is empty.

    Args:
        text: A CSV file with the columns `client`, `gflops`, `down_mbps`, `up_mbps`, or names of `DEVICES` with their shares
            (`phone:0.7,laptop:0.3`; without shares all are equally likely), of which each client draws one.
        num_clients: Number of clients; their ids count from 0.
        seed: The experiment's.

    Raises:
        UserError: The file cannot be read or misses a client, or a name or share is not valid.

    """
    if not text:
        return None
    rows_KR = _of_file(text, num_clients) if text.endswith(".csv") else _drawn(text, num_clients, seed)
    return DeviceProfile(*(np.ascontiguousarray(column) for column in rows_KR.T))


def check_profile(text: str) -> None:
    """Refuse a `clients.profile` that is wrong for any number of clients: before the data is read (UserError)."""
    if text:
        _rows(text) if text.endswith(".csv") else _shares(text)


def _drawn(text: str, num_clients: int, seed: int) -> np.ndarray:
    shares = _shares(text)
    edges = np.cumsum(list(shares.values())) / sum(shares.values())
    draws_K = numpy_stream(seed, "clients", "profile").random(num_clients)
    kinds_K = np.searchsorted(edges, draws_K, side="right").clip(max=len(shares) - 1)
    rows_KR: np.ndarray = np.array([DEVICES[name] for name in shares], np.float64)[kinds_K]
    return rows_KR


def _shares(text: str) -> dict[str, float]:
    pieces = [_share(piece, text) for piece in text.split(",")]
    shares = dict(pieces)
    if len(shares) < len(pieces):
        raise bad_value(FIELD, text, "names a device twice; give each one share")
    return shares


def _share(piece: str, text: str) -> tuple[str, float]:
    name, colon, share = piece.partition(":")
    name = name.strip()
    if name not in DEVICES:
        raise bad_value(FIELD, text, f"{name!r} is not a device; use {', '.join(DEVICES)} or a CSV file {','.join(COLUMNS)}")
    try:
        value = float(share) if colon else 1.0
    except ValueError:
        value = math.nan
    if not 0 < value <= MOST_SHARE:
        raise bad_value(FIELD, text, f"the share of {name} must be above 0 and at most {MOST_SHARE:,}, such as {name}:0.5")
    return name, value


def _of_file(path: str, num_clients: int) -> np.ndarray:
    rows = _rows(path)
    missing = next((k for k in range(num_clients) if k not in rows), None)
    if missing is not None:
        raise bad_value(FIELD, path, f"has no line for client {missing}; give one for each of 0 to {num_clients - 1}")
    return np.array([rows[k] for k in range(num_clients)])


def _rows(path: str) -> dict[int, list[float]]:
    """GFLOPS, and megabits per second down and up, by client."""
    try:
        reader = csv.DictReader(io.StringIO(read_text(find_file(path) or path)), skipinitialspace=True)
        lacking = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        lines = [] if lacking else [(int(line["client"]), [float(line[name]) for name in COLUMNS[1:]]) for line in reader]
    except (UserError, ValueError, TypeError, csv.Error) as error:
        why = in_one_line(error.__cause__ or error)
        raise bad_value(FIELD, path, f"cannot be read as a CSV file of numbers ({why})") from error
    if lacking:
        raise bad_value(FIELD, path, f"has no column {lacking[0]!r}; write {','.join(COLUMNS)} in its first line")
    rows = dict(lines)
    if len(rows) < len(lines):
        client, count = Counter(client for client, _ in lines).most_common(1)[0]
        raise bad_value(FIELD, path, f"has {count} lines for client {client}; give one")
    if not all(SLOWEST <= number <= FASTEST for row in rows.values() for number in row):  # also false for NaN
        raise bad_value(FIELD, path, f"speeds and bandwidths must be numbers from {SLOWEST:g} to {FASTEST:g}")
    return rows


class RoundTime(NamedTuple):
    """Which clients of a round are late, by id, and its simulated seconds."""

    seconds: float
    late: frozenset[int]


def round_time(seconds: Mapping[int, float], deadline_s: float) -> RoundTime:
    """The time of a round.

    Args:
        seconds: Of each client that would send an update, by id.
        deadline_s: Simulated seconds after which the server no longer waits, except for the first update; 0: it waits for all.

    """
    if not seconds:
        return RoundTime(deadline_s, frozenset())
    enough = max(deadline_s, min(seconds.values())) if deadline_s else math.inf
    late = frozenset(client for client, own in seconds.items() if own > enough)
    return RoundTime(enough if late else max(seconds.values()), late)
