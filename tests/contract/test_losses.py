"""Every module in `mm_ray/losses` is a distillation loss that keeps its promises."""

import inspect

import pytest
import torch

from mm_ray.config import Phase2Config, flatten, to_dict, with_overrides
from mm_ray.distill.projection import projected
from mm_ray.distill.teacher_output import TeacherOutput
from mm_ray.models.layers import Output
from mm_ray.plugins import modules_in, resolve
from mm_ray.seeding import torch_stream

NAMES = modules_in("mm_ray.losses")
SETTINGS = Phase2Config(temperature=3.0)
LABELS = torch.tensor([0, 1, 2, 3, 1, 0])
OTHER_SETTINGS = {"temperature": 2.0} | {
    f"losses.{name}": value + 1 if isinstance(value, int) else value / 2 + 0.1
    for name, value in flatten(to_dict(SETTINGS.losses)).items()
}


@pytest.fixture(params=NAMES)
def loss(request):
    return resolve("phase2.loss", request.param, "mm_ray.losses").loss


def draw(name):
    return torch.randn(6, 4, generator=torch_stream(0, name))


def target(logits=None, features=None):
    return TeacherOutput(draw("teacher") if logits is None else logits, draw("features") if features is None else features)


def make(logits, features=None):
    features = draw("own features") if features is None else features
    return Output(logits.clone().requires_grad_(), features.clone().requires_grad_())


def test_the_folder_holds_losses():
    assert "kd" in NAMES


def test_it_has_the_signature_and_says_where_it_comes_from(loss):
    assert list(inspect.signature(loss).parameters) == ["student", "target", "labels_B", "settings"]
    assert loss.__doc__
    assert inspect.getmodule(loss).__doc__


def gradients(student):
    return [g for g in (student.logits_BC.grad, student.features_BH.grad) if g is not None]


def test_it_is_a_finite_scalar_with_a_finite_gradient(loss):
    student = make(draw("student"))
    value = loss(student, target(), LABELS, SETTINGS)
    assert value.shape == ()
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(g).all() for g in gradients(student))
    assert any(g.abs().max() > 0 for g in gradients(student))


def test_it_stays_finite_where_the_teacher_is_certain(loss):
    student = make(-50 * draw("teacher"))
    value = loss(student, target(50 * draw("teacher")), LABELS, SETTINGS)
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(g).all() for g in gradients(student))


@pytest.mark.parametrize("rows", [[0], [1, 1]])
def test_it_stays_finite_in_a_batch_of_one_clip_and_of_twins(loss, rows):
    student = make(draw("student")[rows], draw("own features")[rows])
    value = loss(student, target(draw("teacher")[rows], draw("features")[rows]), LABELS[rows], SETTINGS)
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(g).all() for g in gradients(student))


def test_a_student_like_its_teacher_loses_least(loss):
    teacher, features = draw("teacher"), projected(target(), 4, SETTINGS)
    alike = loss(make(teacher, features), target(), LABELS, SETTINGS)
    steps = [(draw(f"step{i}"), draw(f"features step{i}")) for i in range(8)]
    others = [loss(make(teacher + step, features + other), target(), LABELS, SETTINGS) for step, other in steps]
    assert all(alike <= other + 1e-6 for other in others)


def test_the_order_of_the_batch_does_not_matter(loss):
    student = make(draw("student"))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = Output(*(values[order] for values in student[:2]))
    value = loss(student, target(), LABELS, SETTINGS)
    again = loss(shuffled, TeacherOutput(*(values[order] for values in target()[:2])), LABELS[order], SETTINGS)
    torch.testing.assert_close(again, value, atol=1e-6, rtol=1e-5)


def test_it_changes_nothing_that_it_is_given(loss):
    student, teacher = make(draw("student")), target()
    first = loss(student, teacher, LABELS, SETTINGS)
    assert loss(student, teacher, LABELS, SETTINGS).equal(first)
    for mine, name in zip((*teacher[:2], *student[:2]), ("teacher", "features", "student", "own features"), strict=True):
        assert mine.equal(draw(name))


def test_it_names_the_settings_that_it_reads(loss):
    # A setting that a loss reads in secret would change results under a key that stays the same.
    module = inspect.getmodule(loss)
    value = loss(make(draw("student")), target(), LABELS, SETTINGS)
    for name, other in OTHER_SETTINGS.items():
        changed = loss(make(draw("student")), target(), LABELS, with_overrides(SETTINGS, {name: other}))
        assert changed.equal(value) or name in module.USES, name


def test_kd_is_zero_where_student_and_teacher_agree():
    kd = resolve("phase2.loss", "kd", "mm_ray.losses")
    student = make(draw("teacher") + 5)  # a softmax does not see what is added to all classes
    value = kd.loss(student, TeacherOutput(draw("teacher")), LABELS, SETTINGS)
    value.backward()
    assert abs(value.item()) < 1e-6
    assert student.logits_BC.grad.abs().max() < 1e-6
