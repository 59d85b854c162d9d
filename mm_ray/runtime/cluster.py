"""The Ray cluster in use, and its resources."""

import logging
import os
import signal
import socket
from dataclasses import dataclass
from typing import Any

import ray
import torch

from mm_ray.errors import bad_value
from mm_ray.runtime.cpus import usable_cpus
from mm_ray.runtime.local_ray import start_local_ray

CONNECT_TIMEOUT_S = 10.0
NOISY_LOGGERS = (
    "ray._private.authentication.authentication_token_setup",
    "ray.tune.analysis.experiment_analysis",
    "ray.tune.tune",
)
"""Ray's messages at each start: that tokens are on, that the files of Tune's loggers (which we switch off) are missing, and
after ^C the advice to restore Tune's state, although our commands resume by themselves."""


@dataclass(frozen=True)
class Node:
    """The resources of a machine of a cluster."""

    num_cpus: float
    num_gpus: float = 0.0


@dataclass(frozen=True)
class Cluster:
    """A cluster: its name and its nodes."""

    name: str
    nodes: tuple[Node, ...]

    @property
    def num_cpus(self) -> float:
        """CPUs of all nodes."""
        return sum(node.num_cpus for node in self.nodes)

    @property
    def num_gpus(self) -> float:
        """GPUs of all nodes."""
        return sum(node.num_gpus for node in self.nodes)


def cluster_at(address: str) -> Cluster:
    """The cluster that `connect` would return, without starting a local Ray; a cluster at an address is joined.

    With it, what does not fit is refused before Ray starts.

    Raises:
        UserError: Nothing answers at the address.

    """
    if address or ray.is_initialized():
        return connect(address)
    return Cluster("this machine", (Node(usable_cpus(), torch.cuda.device_count()),))


def connect(address: str) -> Cluster:
    """Start a local Ray (no address), or join the cluster at `address` (`auto` for the one on this machine).

    Without an address, a cluster that happens to run on this machine is not touched, and the new one is for this process alone
    (`mm_ray.runtime.local_ray`).

    Raises:
        UserError: Nothing answers at the address.
        EnvironmentFailure: A local Ray does not start.

    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")  # else every train.report waits 2 s
    # It would notify a worker of its node's end, for a last checkpoint; the phase store has one. It costs a process and 1.4 s
    # of a core.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not ray.is_initialized():
        on_term = signal.getsignal(signal.SIGTERM)
        if address:
            _join(address)
        else:
            print("starting Ray ...", flush=True)
            start_local_ray(torch.cuda.device_count())
        _keep(on_term)
    return describe(address or "this machine")


def _join(address: str) -> None:
    _check_answers(address)
    try:
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        remedy = f"no Ray cluster answers there ({str(error).splitlines()[0]}); leave it out to run here"
        raise bad_value("address", address, remedy) from error


def _keep(on_term: Any) -> None:
    """Restore the TERM handler that Ray replaced: Ray's ends the process without a message; Ray's children end at exit too."""
    if callable(on_term):
        signal.signal(signal.SIGTERM, on_term)


def _check_answers(address: str) -> None:
    """Check first, because Ray waits for minutes if nothing listens at the address."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise bad_value("address", address, f"nothing answers there ({error}); leave it out to run on this machine") from error


def describe(name: str) -> Cluster:
    """The connected cluster."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Cluster(name, tuple(Node(float(node.get("CPU", 0)), float(node.get("GPU", 0))) for node in nodes))
