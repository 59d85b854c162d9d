"""Every module in `mm_ray/distill/losses` is a distillation loss that keeps its promises."""

import inspect

import pytest
import torch

from mm_ray.config import Phase2Config
from mm_ray.distill.target import Target
from mm_ray.models.layers import Output
from mm_ray.names import modules_in, resolve
from mm_ray.seeding import torch_stream

NAMES = modules_in("mm_ray.distill.losses")
SETTINGS = Phase2Config(temperature=3.0)
LABELS = torch.tensor([0, 1, 2, 3, 1, 0])


@pytest.fixture(params=NAMES)
def loss(request):
    return resolve("phase2.loss", request.param, "mm_ray.distill.losses").loss


def draw(name):
    return torch.randn(6, 4, generator=torch_stream(0, name))


def make(logits):
    return Output(logits.clone().requires_grad_(), draw("features").requires_grad_())


def test_the_folder_holds_losses():
    assert "kd" in NAMES


def test_it_has_the_signature_and_says_where_it_comes_from(loss):
    assert list(inspect.signature(loss).parameters) == ["student", "target", "labels_B", "settings"]
    assert loss.__doc__
    assert inspect.getmodule(loss).__doc__


def test_it_is_a_finite_scalar_with_a_finite_gradient(loss):
    student = make(draw("student"))
    value = loss(student, Target(draw("teacher")), LABELS, SETTINGS)
    assert value.shape == ()
    value.backward()
    gradients = [g for g in (student.logits_BC.grad, student.features_BH.grad) if g is not None]
    assert torch.isfinite(value)
    assert all(torch.isfinite(g).all() for g in gradients)
    assert any(g.abs().max() > 0 for g in gradients)


def test_it_stays_finite_where_the_teacher_is_certain(loss):
    student = make(-50 * draw("teacher"))
    value = loss(student, Target(50 * draw("teacher")), LABELS, SETTINGS)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(student.logits_BC.grad).all()


def test_a_student_like_its_teacher_loses_least(loss):
    teacher = draw("teacher")
    alike = loss(make(teacher), Target(teacher), LABELS, SETTINGS)
    others = [loss(make(teacher + draw(f"step{i}")), Target(teacher), LABELS, SETTINGS) for i in range(8)]
    assert all(alike <= other + 1e-6 for other in others)


def test_the_order_of_the_batch_does_not_matter(loss):
    student, target = make(draw("student")), Target(draw("teacher"))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = Output(*(values[order] for values in student))
    value = loss(student, target, LABELS, SETTINGS)
    again = loss(shuffled, Target(target.logits_BC[order]), LABELS[order], SETTINGS)
    torch.testing.assert_close(again, value, atol=1e-6, rtol=1e-5)


def test_it_changes_nothing_that_it_is_given(loss):
    student, teacher = make(draw("student")), draw("teacher")
    first = loss(student, Target(teacher), LABELS, SETTINGS)
    assert loss(student, Target(teacher), LABELS, SETTINGS).equal(first)
    assert teacher.equal(draw("teacher"))
    assert student.logits_BC.equal(draw("student"))


def test_kd_is_zero_where_student_and_teacher_agree():
    kd = resolve("phase2.loss", "kd", "mm_ray.distill.losses")
    student = make(draw("teacher") + 5)  # a softmax does not see what is added to all classes
    value = kd.loss(student, Target(draw("teacher")), LABELS, SETTINGS)
    value.backward()
    assert abs(value.item()) < 1e-6
    assert student.logits_BC.grad.abs().max() < 1e-6
