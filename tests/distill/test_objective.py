"""The weighted objective on batches in which some clips have no label, by hand."""

import math

import pytest
import torch

from mm_ray.config import Phase2Config
from mm_ray.distill.objective import cross_entropy, objective
from mm_ray.distill.teacher_output import TeacherOutput
from mm_ray.models.layers import Output

EVEN = math.log(2)


def output(*rows):
    logits_BC = torch.tensor(rows)
    return Output(logits_BC, logits_BC)


def test_cross_entropy_is_the_mean_over_the_labelled_clips():
    logits_BC = torch.tensor([[0.0, 0.0], [0.0, math.log(3)], [5.0, -5.0]])
    # 2 classes alike: ln 2; chances 1/4 and 3/4: ln(4/3) for class 1
    found = cross_entropy(logits_BC, torch.tensor([0, 1, -1]))
    assert found.item() == pytest.approx((EVEN + math.log(4 / 3)) / 2)


def test_without_a_label_it_is_zero_and_moves_nothing():
    logits_BC = torch.zeros(2, 3, requires_grad=True)
    found = cross_entropy(logits_BC, torch.tensor([-1, -1]))
    found.backward()
    assert found.item() == 0
    assert not logits_BC.grad.any()


def test_fully_labelled_it_has_the_bits_of_torch_s_mean():
    logits_BC = torch.randn(13, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels_B = torch.arange(13) % 7
    ours = cross_entropy(logits_BC, labels_B)
    theirs = torch.nn.functional.cross_entropy(logits_BC, labels_B)
    assert ours.equal(theirs)
    assert torch.autograd.grad(ours, logits_BC)[0].equal(torch.autograd.grad(theirs, logits_BC)[0])


def test_distillation_takes_all_clips_and_cross_entropy_the_labelled_ones():
    student, teacher = output([0.0, 0.0], [0.0, 0.0]), torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    settings = Phase2Config(loss="kd", loss_weight=0.5, temperature=1.0)
    found = objective(student, TeacherOutput(teacher), torch.tensor([0, -1]), settings)
    # KL((3/4, 1/4) || (1/2, 1/2)) = ln 2 - H(3/4, 1/4), of the second clip alone
    divergence = EVEN + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    assert found.item() == pytest.approx(0.5 * EVEN + 0.5 * divergence / 2)


def test_a_loss_that_reads_labels_gets_the_teacher_s_class_where_there_is_none():
    student, teacher = output([0.3, -0.2, 0.1], [0.0, 1.0, 0.5]), torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 3.0]])
    settings = Phase2Config(loss="dkd", loss_weight=1.0)
    blank = objective(student, TeacherOutput(teacher), torch.tensor([0, -1]), settings)
    filled = objective(student, TeacherOutput(teacher), torch.tensor([0, 2]), settings)
    assert blank.equal(filled)
