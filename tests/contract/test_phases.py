"""Every phase of every method in `mm_ray/methods` keeps its promises."""

import json
from dataclasses import fields, replace
from functools import cached_property, reduce
from operator import add

import numpy as np
import pytest
from fed.tiny import state_digest, tiny_config, tiny_plan
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_ray.config import FeatureConfig
from mm_ray.fed.cohort import chunks_of
from mm_ray.fed.executor import SerialExecutor, run_chunk
from mm_ray.fed.experiment import run_rounds
from mm_ray.fed.method import find_method
from mm_ray.fed.phase import Phase, PhaseSettings, key_settings, shared_inputs
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import drive, role_params
from mm_ray.models.network import PARTS
from mm_ray.plugins import modules_in
from mm_ray.types import ClientUpdate, RoundContext, ServerState

ROADS = [{"method": name, "phase1.kind": kind} for name in modules_in("mm_ray.methods") for kind in ("modality_wise", "joint")]
PHASES = {phase.name: road for road in ROADS for phase in find_method(tiny_config(road)).phases}


class Setting:
    """A phase in its federation, with what comes before it."""

    def __init__(self, name, root):
        self.plan = tiny_plan(PHASES[name])
        self.store = PhaseStore(str(root))
        self.outcomes = drive(run_rounds(self.plan, self.store, SerialExecutor())).outcomes
        self.phase = next(phase for phase in self.plan.method.phases if phase.name == name)
        self.federation = self.plan.federation
        self.sources = {role: role_params(role, self.outcomes, self.store) for role in self.phase.sources}

    def state(self):
        return self.phase.init(self.federation, self.sources)

    def context(self, round_number=1):
        material, state, federation = shared_inputs(self.sources), self.state(), self.federation
        context = RoundContext(federation.seed, round_number, state.params, material, federation.table, federation.shapes)
        return replace(context, clients=state.clients)

    def updates(self):
        """As the server takes them."""
        context = self.context()
        cohort = self.phase.cohort(self.federation, 1)
        return [run_chunk(one_by_one(self.phase), context, (client,)) for client in cohort]

    @cached_property
    def sent(self):
        return self.updates()


@pytest.fixture(params=sorted(PHASES), scope="module")
def at(request, tmp_path_factory):
    return Setting(request.param, tmp_path_factory.mktemp("phase"))


def arrays_of(update):
    """Every array of an update with its path."""
    by_client = {client: its.sums for client, its in update.by_client.items()}
    kept = {("kept", *path): array for path, array in ServerState(clients=update.kept).flat().items()}
    return [*ServerState(update.sums, clients=by_client).flat().items(), *kept.items()]


def bits(update):
    arrays = sorted((path, array.dtype.str, array.tobytes()) for path, array in arrays_of(update))
    weights = {client: dict(its.weights) for client, its in update.by_client.items()}
    return dict(update.weights), weights, arrays, dict(update.metrics)


def test_a_phase_has_eight_members_and_its_settings_are_fields():
    members = {name for name in {*vars(Phase), *Phase.__annotations__} if not name.startswith("_")}
    expected = {"name", "sources", "networks", "init", "cohort", "client_update", "server_update", "cost"}
    assert members == expected
    assert not any(callable(value) for name, value in vars(PhaseSettings).items() if not name.startswith("_"))


def test_its_settings_are_json_with_its_name_and_without_its_rounds(at):
    settings = key_settings(at.phase)
    assert json.loads(json.dumps(settings))["phase"] == at.phase.name
    assert "rounds" not in json.dumps(settings)
    assert key_settings(replace(at.phase, rounds=at.phase.rounds + 1)) == settings


def test_init_is_the_same_every_time_and_does_not_depend_on_the_rounds(at):
    first = state_digest(at.state())
    assert state_digest(at.state()) == first
    assert state_digest(replace(at.phase, rounds=99).init(at.federation, at.sources)) == first


def test_its_networks_lie_whole_in_its_state(at):
    assert {part for network in at.phase.networks for part in PARTS[network]} <= set(at.state().params)


def test_a_plan_is_the_same_every_time_and_holds_clients_of_the_federation_in_order(at):
    for number in (1, 2, 3):
        cohort = at.phase.cohort(at.federation, number)
        ids = [client.id for client in cohort]
        assert ids == sorted(set(ids))
        assert ids
        assert set(ids) <= {client.id for client in at.federation.clients}
        assert [client.id for client in at.phase.cohort(at.federation, number)] == ids


def test_a_client_s_update_is_the_same_every_time_and_changes_nothing(at):
    context, client = at.context(), at.phase.cohort(at.federation, 1)[0]
    before = [state_digest(ServerState(arrays)) for arrays in (context.params, context.shared_inputs)]
    first = bits(at.phase.client_update(context, client))
    for other in at.phase.cohort(at.federation, 1)[1:]:
        at.phase.client_update(context, other)
    assert bits(at.phase.client_update(context, client)) == first
    assert [state_digest(ServerState(arrays)) for arrays in (context.params, context.shared_inputs)] == before


def test_a_client_s_update_does_not_see_other_clients_clips(at):
    context, client = at.context(), at.phase.cohort(at.federation, 1)[0]
    own = np.zeros(at.federation.table.num_clips, bool)
    own[client.indices] = True
    table = at.federation.table
    blind = replace(
        table,
        audio_flat_XF=hidden(table.audio_flat_XF, table.audio_offsets_N1, own),
        video_flat_XD=hidden(table.video_flat_XD, table.video_offsets_N1, own),
        labels_N=np.where(own, table.labels_N, 0),
    )
    material = {name: without(array, own) for name, array in context.shared_inputs.items()}
    update = at.phase.client_update(replace(context, table=blind, shared_inputs=material), client)
    assert bits(update) == bits(at.phase.client_update(context, client))


def hidden(flat, offsets, own):
    return np.where(np.repeat(own, np.diff(offsets))[:, None], flat, np.float16(np.nan))


def without(array, own):
    """Rows of other clips as NaN, in an array that has a row for each clip."""
    return np.where(own[:, None], array, np.nan).astype(array.dtype) if array.ndim == 2 else array


def test_updates_are_finite_and_have_an_integer_weight_for_each_part(at):
    for client, update in zip(at.phase.cohort(at.federation, 1), at.updates(), strict=True):
        for some in (update, *update.by_client.values()):
            assert all(np.isfinite(array).all() for array in some.sums.values())
            assert set(some.weights.values()) <= {float(client.num_clips)}
            assert set(some.weights) <= set(some.sums)
        assert set(update.kept) | set(update.by_client) <= {client.id}


def test_a_chunk_is_the_sum_of_its_clients_in_order(at):
    cohort = at.phase.cohort(at.federation, 1)
    (chunk,) = chunks_of(cohort, len(cohort))
    total = ClientUpdate()
    for update in at.updates():
        total += update
    assert bits(run_chunk(one_by_one(at.phase), at.context(), chunk)) == bits(total)


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_the_next_state_does_not_depend_on_order_or_chunks(at, data):
    updates = at.sent
    order = data.draw(st.permutations(range(len(updates))))
    size = data.draw(st.integers(1, len(updates)))
    chunks = [reduce(add, (updates[i] for i in chunk)) for chunk in chunks_of(order, size)]
    after, expected = (at.phase.server_update(at.state(), reduce(add, some)).flat() for some in (chunks, updates))
    assert after.keys() == expected.keys()
    for name in after:  # float32 sums: up to the order in which they are rounded
        np.testing.assert_allclose(after[name], expected[name], rtol=1e-4, atol=1e-5)


def one_by_one(phase):
    return replace(phase, vectorize=False) if hasattr(phase, "vectorize") else phase


def test_a_chunk_trained_together_is_near_the_sum_and_the_same_every_time(at):
    (chunk,) = chunks_of(at.phase.cohort(at.federation, 1), 99)
    together, alone = (run_chunk(phase, at.context(), chunk) for phase in (at.phase, one_by_one(at.phase)))
    found, expected = (dict(arrays_of(update)) for update in (together, alone))
    assert (found.keys(), together.weights) == (expected.keys(), alone.weights)
    for path, array in expected.items():
        assert np.linalg.norm(found[path] - array) <= 0.02 * np.linalg.norm(array)
    assert together.metrics == pytest.approx(alone.metrics, rel=1e-3)
    assert bits(run_chunk(at.phase, at.context(), chunk)) == bits(together)


def test_the_server_changes_neither_its_state_nor_the_update(at):
    state, total = at.state(), ClientUpdate()
    for update in at.updates():
        total += update
    before = state_digest(state), bits(total)
    after = at.phase.server_update(state, total)
    assert (state_digest(state), bits(total)) == before
    before_flat, after_flat = state.flat(), after.flat()
    added = set(after_flat) - set(before_flat)
    # What a client remembers from its first round on, and averages.
    assert all(path[0] == "clients" or path[:2] == ("server", "average") for path in added)
    assert {path: (a.dtype, a.shape) for path, a in after_flat.items() if path not in added} == {
        path: (a.dtype, a.shape) for path, a in before_flat.items()
    }
    assert state_digest(after) != before[0]
    assert state_digest(at.phase.server_update(state, total)) == state_digest(after)
    json.dumps(dict(after.meta))


def test_it_works_on_read_only_arrays(at):
    context, client = at.context(), at.phase.cohort(at.federation, 1)[0]
    expected = bits(at.phase.client_update(context, client))
    for arrays in (context.params, context.shared_inputs, *context.clients.values()):
        for array in arrays.values():
            array.flags.writeable = False
    update = at.phase.client_update(context, client)
    assert bits(update) == expected
    update, state = run_chunk(one_by_one(at.phase), context, (client,)), at.state()
    for _, array in (*arrays_of(update), *state.flat().items()):
        array.flags.writeable = False
    at.phase.server_update(state, update)


def test_the_cost_is_the_same_for_clients_that_hold_the_same(at):
    by_type = {}
    for client in at.phase.cohort(at.federation, 1):
        by_type.setdefault(client.modalities, set()).add(at.phase.cost(at.federation, client)[:2])
    assert all(len(sizes) == 1 for sizes in by_type.values())
    central = at.phase.name.startswith("central/")
    assert all((down > 0) != central and up >= 0 for sizes in by_type.values() for down, up in sizes)


def test_a_phase_is_a_frozen_dataclass_that_knows_no_data(at):
    assert {"rounds", "model"} <= {field.name for field in fields(at.phase)}
    with pytest.raises(AttributeError):
        at.phase.rounds = 7
    assert not any(isinstance(getattr(at.phase, field.name), FeatureConfig) for field in fields(at.phase))
