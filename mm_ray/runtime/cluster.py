"""Which Ray cluster is used, and what it has."""

import logging
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import ray_constants

from mm_ray.errors import bad_value

CONNECT_TIMEOUT_S = 10.0
NOISY_LOGGERS = (
    "ray._private.authentication.authentication_token_setup",
    "ray.tune.analysis.experiment_analysis",
    "ray.tune.tune",
)
"""They tell at each start that tokens are on, miss the files of Tune's own loggers, which we switch off, and advise after ^C to
restore Tune's state, where our own commands go on by themselves."""


@dataclass(frozen=True)
class Cluster:
    """A connected cluster: what it is called and what it holds in all."""

    name: str
    num_cpus: float
    num_gpus: float
    gpus_per_node: tuple[float, ...]


def connect(address: str) -> Cluster:
    """Start a local Ray (no address), or join the cluster at `address` (`auto` for the one on this machine).

    Without an address a cluster that happens to run on this machine is not touched, and the one that is started listens on
    loopback only and asks for a token that nobody else has.

    Raises:
        UserError: Nothing answers at the address.

    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")  # else every train.report waits 2 s
    # It tells a worker of its node's end, for a last checkpoint; the phase store has one. It costs a process, 1.4 s of a core.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not ray.is_initialized():
        _check_answers(address)
        on_term = signal.getsignal(signal.SIGTERM)
        quiet: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
        if not address:
            with _for_this_run_alone():
                ray.init(address="local", include_dashboard=False, **quiet)
        else:
            try:
                ray.init(address=address, **quiet)
            except (ConnectionError, ValueError, RuntimeError) as error:
                remedy = f"no Ray cluster answers there ({str(error).splitlines()[0]}); leave it out to run here"
                raise bad_value("address", address, remedy) from error
        _keep(on_term)
    return describe(address or "this machine")


def _keep(on_term: Any) -> None:
    """Take back the handler of TERM that Ray replaced: Ray's ends the process without a word; its children end at exit too."""
    if callable(on_term):
        signal.signal(signal.SIGTERM, on_term)


@contextmanager
def _for_this_run_alone() -> Iterator[None]:
    """A local Ray is for this process and its children: a token of the run, and no port beyond loopback.

    Left alone, Ray writes one token for all clusters into the user's home, readable by everybody on the machine, and listens
    on every address. The switch is the one by which it stays on loopback on macOS and Windows; `_node_ip_address` does not do
    it, since Ray replaces 127.0.0.1 by the machine's own address.
    """
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _check_answers(address: str) -> None:
    """Ray itself waits for minutes for an address at which nobody listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise bad_value("address", address, f"nobody answers there ({error}); leave it out to run on this machine") from error


def describe(name: str) -> Cluster:
    """The connected cluster."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = tuple(float(node.get("GPU", 0)) for node in nodes)
    return Cluster(name, float(sum(node.get("CPU", 0) for node in nodes)), sum(gpus), gpus)
