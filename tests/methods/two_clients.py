"""Two clients, one round at a time, and the rule of a method worked out in numpy from what they send."""

from dataclasses import replace

import numpy as np
from fed.tiny import tiny_plan

from mm_ray.fed.executor import own_of, run_chunk
from mm_ray.fed.phase import shared_inputs
from mm_ray.fed.rounds import role_params
from mm_ray.types import RoundContext

# Everybody takes part in every round; each client is a chunk of its own.
TWO = {"partition.num_clients": 2, "clients.sample_frac": 1.0, "clients.chunk_size": 1, "phase1.rounds": 2, "phase2.rounds": 1}
# The server takes the mean as it is, so that a round can be worked out from its own updates.
TWO |= {f"phase{n}.server.{name}": value for n in (1, 2) for name, value in (("optimizer", "fedavg"), ("average", 0.0))}
ONE_AUDIO_ONLY, BOTH_AUDIOVISUAL = {"partition.video_missing": 0.5}, {"partition.video_missing": 0.0}


def two_client_plan(method, kind, overrides=()):
    return tiny_plan(TWO | kind | {"method": method} | dict(overrides))


def clients_of(plan):
    """(audio-only clients, audiovisual clients)."""
    return plan.federation.of_type("audio"), plan.federation.of_type("audio", "video")


def updates_of(plan, phase, state, number=1, sources=None):
    """Update by client id in a round that begins with `state`."""
    federation = plan.federation
    material = shared_inputs(sources or {})
    context = RoundContext(federation.seed, number, state.params, material, federation.table, federation.shapes)
    chunks = [(client,) for client in phase.cohort(federation, number)]
    own = [own_of(chunk, state.clients) for chunk in chunks]
    return {c[0].id: run_chunk(phase, replace(context, clients=its), c) for c, its in zip(chunks, own, strict=True)}


def weighted_mean(changes):
    """The mean of (clips, change) pairs, in the order of the clients: float32, as the server takes it."""
    total = sum(np.float32(clips) * change for clips, change in changes)
    return total / np.float32(sum(clips for clips, _ in changes))


def sources_of(run, phase):
    """What a phase of a finished run took from the phases before it."""
    return {role: role_params(role, run.finished.outcomes, run.store) for role in phase.sources}


def state_after(run, phase, number):
    return run.store.load(run.keys[phase.name], number)
