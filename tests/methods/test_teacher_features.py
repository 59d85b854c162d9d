"""The teacher's features on their way: stored beside the logits where a loss reads them, and handed to the client's loss."""

import numpy as np
import pytest
from fed.tiny import Run

from mm_ray.data.batching import gather
from mm_ray.distill.objective import objective
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.rounds import role_params
from mm_ray.methods import modality_mirror
from mm_ray.methods.modality_mirror import TeacherLogits
from mm_ray.models.flat_params import FlatNetwork

FEATURES = {"phase2.loss": "kd:0.5+fitnets+rkd:0.01+crd:0.1", "phase2.rounds": 1, "phase1.rounds": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("phases"), FEATURES)


@pytest.fixture(scope="module")
def state(run):
    return run.store.load(run.keys[TeacherLogits.name], 1).server


def test_features_have_the_teacher_s_size_and_lie_with_audiovisual_clients_only(run, state):
    rows = np.concatenate([client.indices for client in run.plan.federation.of_type("audio", "video")])
    assert state["features"].shape == (run.plan.federation.table.num_clips, 2 * 8)
    assert np.isfinite(state["features"][rows]).all()
    for name in ("logits", "features"):
        assert np.isnan(np.delete(state[name], rows, axis=0)).all()


def test_they_are_what_the_teacher_s_classifier_sees(run, state):
    plan, phase = run.plan, run.plan.method.phases[2]
    params = role_params(NetworkRef("phase1/fusion", "av"), run.finished.outcomes, run.store)
    net = FlatNetwork("av", plan.config.model, plan.federation.shapes, "cpu")
    net.load(params)
    client = phase.cohort(plan.federation, 1)[0]
    output = net.network(gather(plan.federation.table, client.indices, ("audio", "video")))
    np.testing.assert_allclose(state["features"][client.indices], output.features_BH.detach(), atol=1e-5)


def test_a_batch_gets_its_own_rows(monkeypatch, run, state):
    seen = []

    def spy(output, target, labels, settings):
        seen.append((target, labels))
        return objective(output, target, labels, settings)

    monkeypatch.setattr(modality_mirror, "objective", spy)
    table, client = run.plan.federation.table, run.plan.federation.of_type("audio", "video")[0]
    batch = gather(table, client.indices[2:5], ("audio",))
    net = FlatNetwork("audio", run.plan.config.model, run.plan.federation.shapes, "cpu")
    context = type("Context", (), {"shared_inputs": state})
    run.plan.method.phases[3].loss(net.network(batch), batch, context, client)
    assert seen[0][0].logits_BC.numpy().tobytes() == state["logits"][client.indices[2:5]].tobytes()
    assert seen[0][0].features_BP.numpy().tobytes() == state["features"][client.indices[2:5]].tobytes()


def test_without_such_a_loss_none_are_stored_and_nothing_changes(tmp_path, run):
    plain = Run(tmp_path, FEATURES | {"phase2.loss": "kd"})
    logits = plain.store.load(plain.keys[TeacherLogits.name], 1).server
    assert set(logits) == {"logits"}
    assert logits["logits"].tobytes() == run.store.load(run.keys[TeacherLogits.name], 1).server["logits"].tobytes()
    assert plain.keys[TeacherLogits.name] != run.keys[TeacherLogits.name]
