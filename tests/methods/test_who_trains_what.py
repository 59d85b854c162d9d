"""Clients without video never touch video, idle in phase 2 unless asked, and have no teacher."""

from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytest
from fed.tiny import Run, tiny_plan
from torch.nn import functional

from mm_ray.errors import UserError
from mm_ray.fed.local_training import train_local
from mm_ray.models.flat_params import FlatNetwork
from mm_ray.types import RoundContext

AUDIO, BOTH = ("audio",), ("audio", "video")
IDLE = {"phase2.audio_clients": "idle"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("run"), IDLE)


def phase_of(plan, name):
    return next(phase for phase in plan.method.phases if phase.name.endswith(name))


def cohort(plan, name, number):
    return [client.id for client in phase_of(plan, name).cohort(plan.federation, number)]


def context_of(run, phase, params=None, shared_inputs=None):
    federation = run.plan.federation
    last = run.finished.outcomes[phase.name]
    params = params or run.store.load(last.key, len(last.reports)).params
    return RoundContext(federation.seed, 1, params, shared_inputs or {}, federation.table, federation.shapes)


def test_the_tiny_federation_has_both_types(run):
    types = [client.modalities for client in run.plan.federation.clients]
    assert (types.count(AUDIO), types.count(BOTH)) == (3, 3)


@pytest.mark.parametrize("kind", ["unimodal", "joint"])
def test_a_client_without_video_never_changes_a_video_part(run, tmp_path, kind):
    if kind == "joint":
        run = Run(tmp_path, {"phase1.kind": "joint"})
    phase, federation = phase_of(run.plan, kind), run.plan.federation
    context = context_of(run, phase)
    updates = [phase.client_update(context, client) for client in federation.of_type("audio")]
    assert all(set(update.sums) == set(update.weights) == {"audio.encoder", "audio.head"} for update in updates)
    state = run.store.load(run.keys[phase.name], 1)
    after = phase.server_update(state, reduce(add, updates)).params
    changed = {part for part, array in state.params.items() if array.tobytes() != after[part].tobytes()}
    assert changed == {"audio.encoder", "audio.head"}


def test_audiovisual_clients_train_every_part(run):
    phase = phase_of(run.plan, "unimodal")
    update = phase.client_update(context_of(run, phase), run.plan.federation.of_type("audio", "video")[0])
    assert set(update.sums) == {"audio.encoder", "audio.head", "video.encoder", "video.head"}
    fusion = phase_of(run.plan, "fusion")
    update = fusion.client_update(context_of(run, fusion), run.plan.federation.of_type("audio", "video")[0])
    assert set(update.sums) == {"audio.encoder", "video.encoder", "fusion"}


@pytest.mark.parametrize("name", ["fusion", "teacher_logits", "distill"])
def test_audio_only_clients_idle_after_the_unimodal_phase(run, name):
    phase = phase_of(run.plan, name)
    for number in range(1, 12):
        assert {client.modalities for client in phase.cohort(run.plan.federation, number)} == {BOTH}


def test_every_audiovisual_client_is_asked_for_its_teacher_logits(run):
    assert phase_of(run.plan, "teacher_logits").cohort(run.plan.federation, 1) == run.plan.federation.of_type(*BOTH)


def test_teacher_logits_are_nan_exactly_in_the_rows_of_no_audiovisual_client(run):
    logits = run.store.load(run.keys["phase1/teacher_logits"], 1).server["logits"]
    federation = run.plan.federation
    held = np.zeros(federation.table.num_clips, bool)
    held[np.concatenate([client.indices for client in federation.of_type(*BOTH)])] = True
    assert logits.shape == (80, 4)
    assert np.isfinite(logits[held]).all()
    assert np.isnan(logits[~held]).all()
    assert not held[federation.table.rows("dev")].any()
    assert not held[federation.table.rows("test")].any()


def test_phases_of_one_stream_see_the_same_cohorts():
    plan, control, joint = (tiny_plan(road) for road in (IDLE, {"method": "control"}, {"phase1.kind": "joint"}))
    for number in range(1, 8):
        assert cohort(plan, "distill", number) == cohort(control, "distill", number)
        assert cohort(plan, "unimodal", number) == cohort(joint, "joint", number)


class TestAudioClientsThatTrain:
    @pytest.fixture(scope="class")
    def run(self, tmp_path_factory):
        return Run(tmp_path_factory.mktemp("train"), {"phase2.audio_clients": "train"})

    @pytest.fixture(scope="class")
    def logits(self, run):
        return dict(run.store.load(run.keys["phase1/teacher_logits"], 1).server)

    def test_they_are_in_the_cohort(self, run):
        kinds = {client.modalities for client in phase_of(run.plan, "distill").cohort(run.plan.federation, 1)}
        assert kinds == {AUDIO, BOTH}

    def test_they_take_cross_entropy_steps_whatever_the_teacher_says(self, run, logits):
        phase, client = phase_of(run.plan, "distill"), run.plan.federation.of_type("audio")[0]
        context = context_of(run, phase, shared_inputs=logits)
        net = FlatNetwork("audio", run.plan.config.model, context.shapes, "cpu")

        def cross_entropy(output, batch):
            return functional.cross_entropy(output.logits_BC, batch.labels_B)

        expected = train_local(net, context, client, phase.local, cross_entropy, "phase2")
        other = replace(context, shared_inputs={"logits": np.zeros_like(logits["logits"])})
        for given in (context, other):
            update = phase.client_update(given, client)
            assert all(update.sums[part].tobytes() == expected.sums[part].tobytes() for part in expected.sums)
            assert all(np.isfinite(array).all() for array in update.sums.values())

    def test_the_others_hear_the_teacher(self, run, logits):
        phase, client = phase_of(run.plan, "distill"), run.plan.federation.of_type(*BOTH)[0]
        context = context_of(run, phase, shared_inputs=logits)
        other = replace(context, shared_inputs={"logits": np.zeros_like(logits["logits"])})
        one, two = (phase.client_update(given, client).sums["audio.head"] for given in (context, other))
        assert one.tobytes() != two.tobytes()


@pytest.mark.parametrize(
    ("kind", "missing", "message"),
    [
        ("joint", 0.0, r"^--partition\.video_missing 0\.0: no client trains the audio network of phase1/joint; lower it for"),
        (
            "modality_wise",
            1.0,
            r"^--partition\.video_missing 1\.0: leaves no client with video, so no teacher; use at most 0\.83$",
        ),
    ],
)
def test_where_nobody_trains_a_network_one_line_says_so(kind, missing, message):
    with pytest.raises(UserError, match=message):
        tiny_plan({"phase1.kind": kind, "partition.video_missing": missing})


def test_without_missing_video_everything_works(tmp_path):
    run = Run(tmp_path, {"partition.video_missing": 0.0})
    assert len(run.reports) == 8
