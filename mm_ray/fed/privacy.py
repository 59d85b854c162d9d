"""Client-level differential privacy: DP-FedAvg (McMahan et al., ICLR 2018), and what it costs.

Each client is in a round's cohort independently with probability q. A client's change is clipped to norm S over all its parts
and has weight 1. The server adds Gaussian noise of standard deviation z S to the sum of each part and divides by q times the
number of all holders of the part, in the cohort or not. Every round of every phase is one Poisson-sampled Gaussian mechanism of
(q, z), and the accountant
of Google's dp-accounting composes them (Renyi; two federations are neighbours if one has one client more).

Not covered: an attacker who knows the experiment's seed, from which the noise is derived; attacks on floating-point noise
(Mironov 2012); the choice among several runs. The dev and test sets are assumed to be public.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mm_ray.config import ServerConfig
from mm_ray.errors import UserError
from mm_ray.fed.federation import Federation
from mm_ray.fed.phase import Phase
from mm_ray.seeding import numpy_stream
from mm_ray.types import ClientUpdate

EPSILON = "privacy/epsilon"
ORDERS = [*range(2, 65), 80, 96, 128, 192, 256, 384, 512]
"""Of the Renyi divergences: integers, for which the sampled Gaussian has a closed form."""


class DpEvent(NamedTuple):
    """Some rounds of a phase."""

    sample_frac: float
    noise: float
    rounds: int


def add_gaussian_noise(
    server: ServerConfig, total: ClientUpdate, sample_frac: float, meta: Mapping[str, Any], sizes: Mapping[str, int]
) -> ClientUpdate:
    """The sum over a round's clients with noise, as an estimate of the mean change.

    Args:
        server: Clipping norm and noise multiplier.
        total: The sum of clipped changes with weight 1; a part that no client held counts as zero.
        sample_frac: The cohort's q.
        meta: `holders` by part, `noise_seed`, `stream` and `noised_rounds` so far.
        sizes: Number of parameters by part.

    """
    sums, weights = {}, {}
    for part, size in sizes.items():
        rng = numpy_stream(meta["noise_seed"], "noise", meta["stream"], meta["noised_rounds"] + 1, part)
        noise_P = rng.standard_normal(size) * server.noise * server.clip_norm
        sums[part] = (total.sums.get(part, np.zeros(size)) + noise_P).astype(np.float32)
        weights[part] = sample_frac * meta["holders"][part]
    return replace(total, weights=weights, sums=sums)


def delta_of(num_clients: int) -> float:
    """The delta for which epsilon is reported: number of clients ^ -1.1, as in the paper."""
    return float(num_clients**-1.1)


def epsilon_of(spent: Sequence[DpEvent], delta: float) -> float:
    """Epsilon of all rounds together.

    Raises:
        UserError: dp-accounting is not installed.

    """
    try:
        from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
        from dp_accounting.rdp import RdpAccountant
    except ImportError as error:
        raise UserError("--phase1.server.noise: epsilon needs dp-accounting; pip install 'mm-ray[privacy]'") from error
    accountant = RdpAccountant(ORDERS)
    for part in spent:
        accountant.compose(PoissonSampledDpEvent(part.sample_frac, GaussianDpEvent(part.noise)), part.rounds)
    return float(accountant.get_epsilon(delta))


def epsilon_metric(phase: Phase, rounds: int, federation: Federation) -> dict[str, float]:
    """`privacy/epsilon` of only a phase's first rounds; empty without noise."""
    if not phase.server.noise:
        return {}
    return {EPSILON: epsilon_of([DpEvent(phase.sample_frac, phase.server.noise, rounds)], delta_of(len(federation.clients)))}


def privacy_of(phases: Iterable[Phase], federation: Federation) -> dict[str, Any]:
    """`privacy` for `result.json`: epsilon and delta of all phases together; nothing if none adds noise.

    A phase in which clients send nothing costs nothing. Epsilon is None (no bound) if clients send without noise in a phase.
    """
    sending = [phase for phase in phases if any(phase.cost(federation, group.example).bytes_up for group in federation.groups)]
    if not any(phase.server.noise for phase in sending):
        return {}
    delta, epsilon = delta_of(len(federation.clients)), None
    if all(phase.server.noise for phase in sending):
        epsilon = epsilon_of([DpEvent(phase.sample_frac, phase.server.noise, phase.rounds) for phase in sending], delta)
    return {"privacy": {"epsilon": epsilon, "delta": delta}}
