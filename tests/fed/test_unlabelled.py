"""Clips without a label: only distillation uses them, at equal steps for all, together as alone."""

from dataclasses import replace

import numpy as np
import pytest
from fed.test_batched_training import assert_near, context_of
from fed.tiny import Run, tiny_plan

from mm_ray.errors import UserError
from mm_ray.fed.local_training import batch_plan
from mm_ray.fed.phase import key_settings
from mm_ray.fed.rounds import role_params
from mm_ray.types import UNLABELLED

FEW = {"partition.labelled": 0.4}


def clips_seen(reports, phase):
    return [report for report in reports if report.phase == phase]


def test_training_takes_the_labelled_clips_and_the_student_all_of_an_audiovisual_client():
    plan = tiny_plan(FEW)
    unimodal, *_, distill = plan.method.phases
    for client in plan.federation.clients:
        known = client.indices[client.labels != UNLABELLED].tolist()
        assert unimodal.usable(client).indices.tolist() == known
        expected = client.indices.tolist() if "video" in client.modalities else known
        assert distill.usable(client).indices.tolist() == expected


def test_a_control_takes_the_labelled_clips_only():
    plan = tiny_plan(FEW | {"method": "control_all"})
    distill = plan.method.phases[-1]
    assert all(distill.usable(client).is_labelled for client in plan.federation.clients)


def test_equal_steps_with_few_and_with_many_labels():
    plan = tiny_plan(FEW)
    phase = plan.method.phases[0]
    context = context_of(plan, phase)
    for client in plan.federation.clients:
        known = client.labelled()
        few, many = (batch_plan(context, one, phase.local, "audio", "s")[0] for one in (known, client))
        assert len(few) == len(many)
        assert {len(batch) for batch in few} <= set(range(1, known.num_clips + 1))
        uses = np.bincount(np.concatenate(few), minlength=known.num_clips)
        assert uses.max() - uses.min() <= 1  # cycled: every clip before any clip again


def test_a_fixed_number_of_steps():
    plan = tiny_plan({"phase1.local.steps": 7})
    phase = plan.method.phases[0]
    batches, _ = batch_plan(context_of(plan, phase), plan.federation.clients[0], phase.local, "audio", "s")
    assert len(batches) == 7
    assert "epochs" not in key_settings(phase)["local"]


@pytest.mark.parametrize("overrides", [{}, {"phase2.loss": "dkd"}, {"phase2.loss_weight": 1.0}])
def test_together_as_alone(overrides, tmp_path):
    run = Run(tmp_path, FEW | overrides)
    distill = run.plan.method.phases[-1]
    sources = {role: role_params(role, run.finished.outcomes, run.store) for role in distill.sources}
    context = context_of(run.plan, distill, sources)
    clients = [client for client in run.plan.federation.clients if "video" in client.modalities]
    assert not all(client.is_labelled for client in clients)
    assert_near(distill, context, clients)


@pytest.mark.parametrize("method", ["modality_mirror", "control_all", "self_distil", "harmony", "fedcmi", "mfcpl", "multifl"])
def test_every_method_works_where_a_client_has_no_label_at_all(method, tmp_path):
    plan = tiny_plan({"method": method, "clients.sample_frac": 1.0, "phase1.rounds": 2, "phase2.rounds": 1})
    labelled = {plan.federation.of_type(*kind)[0].id for kind in (("audio",), ("audio", "video"))}
    blank = [
        client if client.id in labelled else replace(client, labels=np.full_like(client.labels, UNLABELLED))
        for client in plan.federation.clients
    ]
    plan = replace(plan, federation=replace(plan.federation, clients=tuple(blank)))
    run = Run(tmp_path, plan=plan)
    assert 0 <= run.result["test"]["student"]["top1"] <= 1
    assert not any(report.refused for report in run.reports)
    first = run.reports[0]
    able = [client for client in blank if client.id in labelled and plan.method.phases[0].trains(client)]
    assert first.num_clients == len(able)


def test_no_labelled_clip_for_a_network_is_one_line():
    plan = tiny_plan(FEW)
    blank = tuple(replace(c, labels=np.full_like(c.labels, UNLABELLED)) for c in plan.federation.clients)
    with pytest.raises(UserError, match=r"partition\.labelled"):
        plan.method.phases[0].cohort(replace(plan.federation, clients=blank), 1)


def test_the_share_of_labels_is_in_the_key_only_where_it_is_not_all(tmp_path):
    keys = [Run(tmp_path / str(i), o).keys["phase1/unimodal"] for i, o in enumerate([{}, {"partition.labelled": 1.0}, FEW])]
    assert keys[0] == keys[1] != keys[2]
