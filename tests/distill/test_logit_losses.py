"""DKD, MSE and C2KD's filter on logits, worked out by hand.

One clip, three classes, T = 1, label 0. Teacher probabilities (1/2, 1/3, 1/6), student (1/4, 1/4, 1/2).
Target part: KL((1/2, 1/2) || (1/4, 3/4)) = 1/2 ln 2 + 1/2 ln(2/3) = 0.143841.
Non-target part: KL((2/3, 1/3) || (1/3, 2/3)) = 2/3 ln 2 - 1/3 ln 2 = 0.231049.
"""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from mm_ray.config import LossConfig, Phase2Config
from mm_ray.distill.teacher_output import TeacherOutput
from mm_ray.errors import UserError
from mm_ray.losses import c2kd, dkd, kd, mse_logits
from mm_ray.models.layers import Output
from mm_ray.seeding import torch_stream

LABELS = torch.tensor([0])


def logs(*probabilities):
    return torch.tensor([[math.log(p) for p in probabilities]])


TEACHER, STUDENT = TeacherOutput(logs(1 / 2, 1 / 3, 1 / 6)), Output(logs(1 / 4, 1 / 4, 1 / 2), torch.zeros(1, 2))


def settings(temperature=1.0, **losses):
    return Phase2Config(temperature=temperature, losses=LossConfig(**losses))


@pytest.mark.parametrize(
    ("alpha", "beta", "expected"),
    [(1.0, 0.0, 0.143841), (0.0, 1.0, 0.231049), (1.0, 8.0, 0.143841 + 8 * 0.231049)],
)
def test_dkd_by_hand(alpha, beta, expected):
    value = dkd.loss(STUDENT, TEACHER, LABELS, settings(dkd_alpha=alpha, dkd_beta=beta))
    assert value.item() == pytest.approx(expected, abs=2e-6)


def test_dkd_divides_by_the_temperature_and_multiplies_by_its_square():
    # Twice the logits at T = 2 are the same probabilities.
    twice = Output(2 * STUDENT.logits_BC, STUDENT.features_BH), TeacherOutput(2 * TEACHER.logits_BC)
    value = dkd.loss(*twice, LABELS, settings(temperature=2.0))
    assert value.item() == pytest.approx(4 * (0.143841 + 8 * 0.231049), abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.5])
def test_dkd_with_the_teacher_s_own_factor_is_torch_s_divergence(temperature):
    student, teacher = torch.randn(2, 1, 5, generator=torch_stream(0, "dkd"))
    other = 1 - (teacher / temperature).softmax(1)[0, 3]
    value = dkd.loss(
        Output(student, student),
        TeacherOutput(teacher),
        torch.tensor([3]),
        settings(temperature, dkd_alpha=1.0, dkd_beta=float(other)),
    )
    expected = functional.kl_div((student / temperature).log_softmax(1), (teacher / temperature).softmax(1), reduction="sum")
    torch.testing.assert_close(value, temperature**2 * expected, atol=1e-6, rtol=1e-5)


def test_mse_of_logits_by_hand():
    # ((1 - 3)^2 + (2 - 2)^2 + (0 - 1)^2 + (0 + 1)^2) / 4
    student = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    value = mse_logits.loss(
        Output(student, student), TeacherOutput(torch.tensor([[3.0, 2.0], [1.0, -1.0]])), LABELS, settings()
    )
    assert value.item() == 1.5


ORDERED = torch.tensor([[3.0, 2.0, 1.0]] * 4)
# Against 3 > 2 > 1: the same order; two of three pairs agree; one of three; none.
ROWS = torch.tensor([[9.0, 5.0, 1.0], [3.0, 1.0, 2.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0]])


def test_kendall_s_tau_by_hand():
    np.testing.assert_allclose(c2kd.kendall_tau(ORDERED, ROWS), [1, 1 / 3, -1 / 3, -1], atol=1e-6)


@pytest.mark.parametrize(("min_tau", "kept"), [(0.0, [0, 1]), (0.5, [0]), (-0.5, [0, 1, 2])])
def test_c2kd_is_kd_of_the_kept_clips_over_the_whole_batch(min_tau, kept):
    labels = torch.zeros(4, dtype=torch.long)
    value = c2kd.loss(Output(ORDERED, ORDERED), TeacherOutput(ROWS), labels, settings(2.0, c2kd_min_tau=min_tau))
    each = [kd.loss(Output(ORDERED[[k]], ORDERED), TeacherOutput(ROWS[[k]]), labels, settings(2.0)) for k in kept]
    torch.testing.assert_close(value, sum(each) / 4, atol=1e-6, rtol=1e-5)


def test_c2kd_of_a_batch_without_agreement_is_zero_with_a_zero_gradient():
    student = ORDERED[:1].clone().requires_grad_()
    value = c2kd.loss(Output(student, student), TeacherOutput(ROWS[3:]), LABELS, settings())
    value.backward()
    assert (value.item(), student.grad.tolist()) == (0.0, [[0.0, 0.0, 0.0]])


@pytest.mark.parametrize("field", ["dkd_alpha", "dkd_beta"])
def test_negative_weights_are_refused(field):
    with pytest.raises(UserError, match=f"--{field} -1.0: must be at least 0"):
        LossConfig(**{field: -1.0})


def test_a_tau_that_nothing_exceeds_is_refused():
    with pytest.raises(UserError, match=r"--c2kd_min_tau 1\.0: must be at least -1 and below 1"):
        LossConfig(c2kd_min_tau=1.0)
