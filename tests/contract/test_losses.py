"""Every module in `mm_ray/losses` is a distillation loss that keeps its promises."""

import inspect

import pytest
import torch

from mm_ray.distill.teacher_output import TeacherOutput
from mm_ray.plugins import modules_in, resolve
from mm_ray.testing import LABELS, LOSS_CHECKS, SETTINGS, check_loss, draw, student_output

NAMES = modules_in("mm_ray.losses")


def test_the_folder_holds_losses():
    assert "kd" in NAMES


@pytest.mark.parametrize("check", LOSS_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_its_promises(name, check):
    check(resolve("phase2.loss", name, "mm_ray.losses").loss)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_where_it_comes_from(name):
    loss = resolve("phase2.loss", name, "mm_ray.losses").loss
    assert loss.__doc__
    assert inspect.getmodule(loss).__doc__


WRONG = {
    "takes settings; it needs student": "def loss(settings): ...",
    "shape": "return (student.logits_BC - target.logits_BC) ** 2",
    "no gradient": "return 0 * student.logits_BC.sum()",
    "is inf where": "return ((student.logits_BC - target.logits_BC) ** 2).exp().sum()",
    "like its teacher": "return -((student.logits_BC - target.logits_BC) ** 2).sum()",
    "order": "return ((student.logits_BC - target.logits_BC) ** 2)[0].sum()",
    "changes the student": "student.logits_BC.data.zero_(); return ((student.logits_BC - target.logits_BC) ** 2).sum()",
    "temperature": "return (((student.logits_BC - target.logits_BC) / settings.temperature) ** 2).sum()",
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_fault_of_an_own_loss_is_named(tmp_path, monkeypatch, fault):
    monkeypatch.chdir(tmp_path)
    body = WRONG[fault]
    head = "" if body.startswith("def") else "def loss(student, target, labels_B, settings):\n    "
    (tmp_path / "mine.py").write_text(f"USES = ()\n{head}{body}")
    with pytest.raises(AssertionError, match=fault):
        check_loss("mine.py")


def test_kd_is_zero_where_student_and_teacher_agree():
    kd = resolve("phase2.loss", "kd", "mm_ray.losses")
    student = student_output(draw("teacher") + 5)  # a softmax does not see what is added to all classes
    value = kd.loss(student, TeacherOutput(draw("teacher")), LABELS, SETTINGS)
    value.backward()
    assert abs(value.item()) < 1e-6
    assert student.logits_BC.grad.abs().max() < 1e-6
    assert torch.isfinite(value)
