"""The distillation loss and the weighted objective, worked out by hand.

One clip, two classes, T = 2. Student logits (0, 0): q = (1/2, 1/2). Teacher logits (2 ln 3, 0), so (ln 3, 0) after the
division by T: p = (3/4, 1/4). KL(p || q) = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.304099 - 0.173287 = 0.130812, and T^2 times that is
0.523248. The gradient is T^2 * (q - p) / T = 2 * (-1/4, 1/4). Cross-entropy is ln 2 = 0.693147, its gradient for
class 1 is q - (0, 1) = (1/2, -1/2).
"""

import math

import pytest
import torch
from torch.nn import functional

from mm_ray.config import Phase2Config
from mm_ray.distill.objective import objective
from mm_ray.distill.teacher_output import TeacherOutput
from mm_ray.errors import UserError
from mm_ray.losses import kd
from mm_ray.models.layers import Output
from mm_ray.seeding import torch_stream

TEACHER = TeacherOutput(torch.tensor([[2 * math.log(3), 0.0]]))
LABELS = torch.tensor([1])


def student(*rows):
    logits = torch.tensor(rows, requires_grad=True)
    return Output(logits, torch.zeros(len(rows), 3))


def settings(**fields):
    return Phase2Config(**{"temperature": 2.0, **fields})


def gradient(output, loss):
    return torch.autograd.grad(loss, output.logits_BC)[0]


def test_loss_and_gradient_by_hand():
    output = student([0.0, 0.0])
    loss = kd.loss(output, TEACHER, LABELS, settings())
    assert loss.item() == pytest.approx(0.523248, abs=1e-6)
    assert gradient(output, loss).tolist() == [pytest.approx([-0.5, 0.5], abs=1e-6)]


def test_two_clips_give_the_mean():
    both = TeacherOutput(torch.tensor([[2 * math.log(3), 0.0], [0.0, 0.0]]))
    loss = kd.loss(student([0.0, 0.0], [0.0, 0.0]), both, LABELS, settings())
    assert loss.item() == pytest.approx(0.523248 / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("weight", "loss", "slope"),
    [
        (0.0, 0.693147, 0.5),
        (0.25, 0.75 * 0.693147 + 0.25 * 0.523248, 0.75 * 0.5 - 0.25 * 0.5),
        (1.0, 0.523248, -0.5),
    ],
)
def test_the_objective_by_hand(weight, loss, slope):
    output = student([0.0, 0.0])
    value = objective(output, TEACHER, LABELS, settings(loss_weight=weight))
    assert value.item() == pytest.approx(loss, abs=1e-6)
    assert gradient(output, value).tolist() == [pytest.approx([slope, -slope], abs=1e-6)]


@pytest.mark.parametrize("temperature", [1.0, 2.0, 7.5])
def test_it_is_torch_s_divergence_times_the_temperature_squared(temperature):
    logits, target = torch.randn(2, 5, 4, generator=torch_stream(0, "logits"))
    divergence = torch.nn.KLDivLoss(reduction="batchmean")
    expected = temperature**2 * divergence((logits / temperature).log_softmax(1), (target / temperature).softmax(1))
    loss = kd.loss(Output(logits, logits), TeacherOutput(target), LABELS, settings(temperature=temperature))
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-5)


def test_the_gradient_keeps_its_size_at_high_temperatures():
    # At T = infinity the gradient is (student - teacher, each less its mean) / classes: (-ln 3, ln 3) / 2 here.
    for temperature in (50.0, 200.0):
        output = student([0.0, 0.0])
        slopes = gradient(output, kd.loss(output, TEACHER, LABELS, settings(temperature=temperature)))
        assert slopes.tolist() == [pytest.approx([-math.log(3) / 2, math.log(3) / 2], rel=1e-3)]


@pytest.mark.parametrize(("weight", "target"), [(0.0, TEACHER), (0.5, None), (1.0, None)])
def test_without_weight_or_target_it_is_the_cross_entropy_bit_for_bit(weight, target):
    output = student([0.3, -0.2])
    value = objective(output, target, LABELS, settings(loss_weight=weight))
    assert value.equal(functional.cross_entropy(output.logits_BC, LABELS))


def test_an_unknown_loss_lists_what_is_there():
    with pytest.raises(UserError, match=r"^--phase2\.loss kdd: did you mean 'kd'\? known names: .*kd.*"):
        objective(student([0.0, 0.0]), TEACHER, LABELS, settings(loss="kdd"))
