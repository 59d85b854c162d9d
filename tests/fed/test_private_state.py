"""What a client keeps to itself goes to its own chunk alone: a round moves the bytes of its cohort, not of all clients."""

from dataclasses import replace

import numpy as np
import pytest
from fed.tiny import tiny_plan

from mm_ray.fed import executor
from mm_ray.fed.cohort import chunks_of
from mm_ray.fed.executor import SerialExecutor, moved_bytes, num_bytes, own_of, run_chunk
from mm_ray.fed.phase import shared_inputs
from mm_ray.methods.harmony import ENCODERS
from mm_ray.types import ClientData, ClientUpdate, Key, RoundContext, ServerState, merged

NUM_CLIENTS, COHORT = 1000, 10
PARTS = ("audio.encoder", "audio.head", "video.encoder", "video.head")


def many_clients(vectorize, **overrides):
    """A tiny plan whose federation has 1,000 audiovisual clients of two clips each."""
    plan = tiny_plan({"clients.sample_frac": COHORT / NUM_CLIENTS, "clients.vectorize": vectorize, **overrides})
    table = plan.federation.table
    rows = [np.roll(table.rows("train"), i)[:2] for i in range(NUM_CLIENTS)]
    clients = tuple(ClientData(i, ("audio", "video"), own, table.labels_N[own]) for i, own in enumerate(rows))
    return plan, replace(plan.federation, clients=clients)


def scaffold(vectorize):
    """The unimodal phase, and the state in which every client has taken part."""
    plan, federation = many_clients(vectorize, **{"phase1.local.scaffold": True})
    phase = plan.method.phases[0]
    state = phase.init(federation, {})
    own = {Key("control", part): np.zeros_like(state.params[part]) for part in PARTS}
    return phase, federation, {}, replace(state, clients=dict.fromkeys(range(NUM_CLIENTS), own))


def harmony(vectorize):
    """Harmony's second phase, likewise."""
    plan, federation = many_clients(vectorize, method="harmony")
    unimodal, phase = plan.method.phases
    params = unimodal.init(federation, {}).params
    sources = {role: params for role in phase.sources}
    first = shared_inputs(sources)
    encoders = {part: first[part] for part in ENCODERS}
    state = phase.init(federation, sources)
    return (
        phase,
        federation,
        first,
        replace(state, clients=merged(state.clients, dict.fromkeys(range(NUM_CLIENTS), encoders))),
    )


@pytest.mark.parametrize("vectorize", ["on", "off"])
@pytest.mark.parametrize("kind", [scaffold, harmony])
def test_a_chunk_gets_its_own_clients_arrays_and_a_round_moves_its_cohort_s(monkeypatch, kind, vectorize):
    phase, federation, first, state = kind(vectorize)
    cohort, seen = phase.cohort(federation, 1), []
    chunks = chunks_of(cohort, 3)

    def spy(phase, context, chunk):
        seen.append((set(context.clients), {client.id for client in chunk}))
        return run_chunk(phase, context, chunk)

    monkeypatch.setattr(executor, "run_chunk", spy)
    serial = SerialExecutor()
    serial.open(phase, first, federation)
    updates = serial.run_round(state.params, 1, chunks, state.clients)
    assert len(cohort) == COHORT
    assert len(seen) == len(chunks)
    assert all(owners == chunk for owners, chunk in seen)
    assert {client for update in updates for client in update.kept} == {client.id for client in cohort}

    moved = moved_bytes(state.params, [own_of(chunk, state.clients) for chunk in chunks], updates)
    down = num_bytes(state.params) + COHORT * num_bytes(state.clients[0])
    assert moved == down + sum(update.num_bytes for update in updates)
    everything = num_bytes(state.params) + sum(map(num_bytes, state.clients.values()))
    assert moved < everything / 20


def test_updates_and_states_keep_clients_apart():
    one = ClientUpdate(kept={1: {"a": np.ones(2)}}) + ClientUpdate(kept={1: {"b": np.ones(3)}, 2: {"a": np.zeros(1)}})
    assert {client: set(arrays) for client, arrays in one.kept.items()} == {1: {"a", "b"}, 2: {"a"}}
    assert one.num_bytes == 8 * 6
    assert (one + ClientUpdate(by_client={7: ClientUpdate({"a": 1.0}, {"a": np.ones(4)})})).num_bytes == 8 * 10
    context = RoundContext(0, 1, {}, {}, None, None, clients=one.kept)
    known, new = (ClientData(i, ("audio",), np.arange(1), np.zeros(1, np.int64)) for i in (2, 3))
    assert (set(context.own(known)), context.own(new)) == ({"a"}, {})
    # Names that prefixes would have confused.
    state = ServerState({"server": np.ones(1)}, {Key("a", "b"): np.ones(1), "a": np.ones(1)}, {1: {"a": np.ones(1)}})
    assert set(state.flat()) == {("params", "server"), ("server", "a", "b"), ("server", "a"), ("clients", 1, "a")}
