"""Class-wise temperatures, by hand.

Two classes, one clip of each. The teacher gives its right class 0.9 and 0.6, the student 0.3 and 0.6: ratios 3 and 1, mean 2.
At T = 4 and strength 2 class 0 gets 4 / (1 + 2 ln 1.5), class 1 keeps 4.
"""

import math

import numpy as np
import pytest
import torch
from fed.tiny import Run

from mm_ray.config import Phase2Config
from mm_ray.distill.objective import has_class_temperatures, loss_settings
from mm_ray.distill.teacher_output import TeacherOutput, class_temperatures
from mm_ray.losses import c2kd, dkd, kd
from mm_ray.methods import modality_mirror
from mm_ray.models.layers import Output
from mm_ray.seeding import torch_stream

SETTINGS = Phase2Config(temperature=4.0, class_temperature=2.0)


def logits(*right):
    """Logits whose right classes, 0 and 1 in turn, have these probabilities."""
    rows = [(p, 1 - p) if k % 2 == 0 else (1 - p, p) for k, p in enumerate(right)]
    return np.log(np.array(rows, np.float32))


def test_the_class_with_the_larger_lead_gets_a_lower_temperature():
    temperatures = class_temperatures(logits(0.9, 0.6), logits(0.3, 0.6), np.array([0, 1]), SETTINGS)
    assert temperatures.tolist() == pytest.approx([4 / (1 + 2 * math.log(1.5)), 4.0], rel=1e-5)


def test_a_class_is_judged_by_the_mean_of_its_clips():
    teacher, student = logits(0.95, 0.6, 0.85), logits(0.2, 0.6, 0.4)
    temperatures = class_temperatures(teacher, student, np.array([0, 1, 0]), SETTINGS)
    assert temperatures.tolist() == pytest.approx([4 / (1 + 2 * math.log(1.5)), 4.0], rel=1e-5)


def test_a_class_without_clips_does_not_count():
    teacher, student = (np.pad(values, ((0, 0), (0, 2)), constant_values=-50) for values in (logits(0.9), logits(0.3)))
    assert class_temperatures(teacher, student, np.array([0]), SETTINGS).tolist() == [4.0] * 4


@pytest.mark.parametrize("loss", [kd.loss, dkd.loss, c2kd.loss])
def test_equal_temperatures_of_all_clips_are_the_one_temperature(loss):
    student, teacher = torch.randn(2, 5, 4, generator=torch_stream(0, "logits"))
    labels, settings = torch.tensor([0, 1, 2, 3, 0]), Phase2Config(temperature=3.0)
    one = loss(Output(student, student), TeacherOutput(teacher), labels, settings)
    each = loss(Output(student, student), TeacherOutput(teacher, None, torch.full((5, 1), 3.0)), labels, SETTINGS)
    torch.testing.assert_close(each, one, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("loss", [kd.loss, dkd.loss, c2kd.loss])
def test_each_clip_has_its_own_temperature(loss):
    student, teacher = torch.randn(2, 2, 4, generator=torch_stream(0, "two"))
    labels = torch.tensor([3, 1])
    both = loss(Output(student, student), TeacherOutput(teacher, None, torch.tensor([[2.0], [5.0]])), labels, SETTINGS)
    alone = [
        loss(Output(student[[k]], student[[k]]), TeacherOutput(teacher[[k]]), labels[[k]], Phase2Config(temperature=t))
        for k, t in enumerate((2.0, 5.0))
    ]
    torch.testing.assert_close(both, sum(alone) / 2, atol=1e-5, rtol=1e-5)


def test_the_strength_enters_the_key_where_a_loss_has_a_temperature():
    for loss, weight, expected in (("kd", 0.5, True), ("mse_logits", 0.5, False), ("kd", 0.0, False)):
        settings = Phase2Config(loss=loss, loss_weight=weight, class_temperature=2.0)
        assert has_class_temperatures(settings) == expected
        assert ("class_temperature" in loss_settings(settings)) == expected
    assert "class_temperature" not in loss_settings(Phase2Config())


def test_a_client_s_temperatures_come_from_the_student_that_it_received(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(modality_mirror, "class_temperatures", lambda *a: seen.append(a) or class_temperatures(*a))
    fields = {"phase2.audio_clients": "idle", "phase2.class_temperature": 2.0, "phase2.rounds": 1, "phase1.rounds": 2}
    run = Run(tmp_path / "with", fields)
    teachers = run.plan.federation.of_type("audio", "video")
    phase = run.plan.method.phases[-1]
    assert len(seen) == len(phase.cohort(run.plan.federation, 1)) == 2
    logits_NC = run.store.load(run.keys["phase1/teacher_logits"], 1).server["logits"]
    for teacher_NC, _, labels_N, _ in seen:
        rows = next(c.indices for c in teachers if len(c.indices) == len(labels_N))
        assert teacher_NC.tobytes() == logits_NC[rows].tobytes()
    assert Run(tmp_path / "without", fields | {"phase2.class_temperature": 0.0}).digest != run.digest
