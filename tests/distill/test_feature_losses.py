"""FitNets, RKD and CRD on pooled features, worked out by hand and against torch."""

import math

import pytest
import torch
from torch.nn import functional

from mm_ray.config import LossConfig, Phase2Config
from mm_ray.distill.objective import reads_features
from mm_ray.distill.teacher_output import TeacherOutput, projected, projection
from mm_ray.losses import crd, fitnets, rkd
from mm_ray.models.layers import Output
from mm_ray.seeding import torch_stream

LABELS = torch.tensor([0, 1, 2])


def settings(**losses):
    return Phase2Config(losses=LossConfig(**losses))


def output(*rows):
    return Output(torch.zeros(len(rows), 3), torch.tensor(rows))


def target(*rows):
    return TeacherOutput(torch.zeros(len(rows), 3), torch.tensor(rows))


def draw(name, *shape):
    return torch.randn(*shape, generator=torch_stream(0, name))


@pytest.mark.parametrize(("num_in", "num_out"), [(12, 4), (4, 4), (3, 5)])
def test_the_projection_is_orthonormal_and_the_same_again(num_in, num_out):
    matrix = projection(num_in, num_out, 0)
    gram = matrix.T @ matrix if num_in >= num_out else matrix @ matrix.T
    torch.testing.assert_close(gram, torch.eye(min(num_in, num_out)), atol=1e-6, rtol=0)
    projection.cache_clear()
    assert projection(num_in, num_out, 0).equal(matrix)
    assert not projection(num_in, num_out, 1).equal(matrix)


def test_fitnets_by_hand():
    # Of one feature the only projections are 1 and -1.
    sign = projection(1, 1, 0).item()
    value = fitnets.loss(output([3.0], [0.0]), target([2.0], [1.0]), LABELS, settings())
    assert abs(sign) == 1
    assert value.item() == pytest.approx(((3 - 2 * sign) ** 2 + 1) / 2)


def test_fitnets_is_torch_s_squared_error_to_the_projected_teacher():
    student, teacher = draw("student", 5, 4), draw("teacher", 5, 12)
    value = fitnets.loss(Output(student, student), TeacherOutput(student, teacher), LABELS, settings(projection_seed=7))
    torch.testing.assert_close(value, torch.nn.MSELoss()(student, teacher @ projection(12, 4, 7)))


def test_rkd_distances_by_hand():
    # Student 0, 1, 3: distances 1, 3, 2, mean 2. Teacher 0, 1, 2: distances 1, 2, 1, mean 4/3.
    # Relative: (1/2, 3/2, 1) against (3/4, 3/2, 3/4): Huber 1/32, 0, 1/32, each twice among 9 elements.
    value = rkd.loss(output([0.0], [1.0], [3.0]), target([0.0], [1.0], [2.0]), LABELS, settings(rkd_angle=0.0))
    assert value.item() == pytest.approx(25 * 4 / 32 / 9, rel=1e-5)


def test_rkd_angles_by_hand():
    # A right triangle has the cosines 0, 1/sqrt 2, 1/sqrt 2 at its corners; three points on a line have 1, -1, 1.
    # Huber of 1: 1/2; of 1.7071: 1.2071; of 0.2929: 0.0429; together 1.75, each twice among 27 elements.
    triangle, line = output([0.0, 0.0], [1.0, 0.0], [0.0, 1.0]), target([0.0, 0.0], [1.0, 0.0], [2.0, 0.0])
    value = rkd.loss(triangle, line, LABELS, settings(rkd_distance=0.0))
    assert value.item() == pytest.approx(50 * 2 * 1.75 / 27, rel=1e-5)


def test_rkd_s_distances_and_angles_are_torch_s():
    features = draw("features", 6, 5)
    distances = torch.cdist(features, features)
    mean = functional.pdist(features).mean()
    torch.testing.assert_close(rkd.relative_distances(features), distances / mean, atol=1e-5, rtol=1e-5)
    expected = functional.cosine_similarity(features[2] - features[4], features[5] - features[4], dim=0)
    torch.testing.assert_close(rkd.angles(features)[4, 2, 5], expected, atol=1e-6, rtol=1e-5)


def test_rkd_does_not_see_a_rotation_a_scale_or_a_shift():
    teacher = draw("teacher", 6, 5)
    student = 3 * teacher @ projection(5, 5, 1) + 2
    value = rkd.loss(Output(student, student), TeacherOutput(student, teacher), LABELS, settings())
    assert value.item() == pytest.approx(0, abs=1e-6)


def test_crd_by_hand():
    # Each student is its own teacher's direction and orthogonal to the other's: cosines 1 and 0, tau 1/2: ln(1 + e^-2).
    teacher = target([1.0, 0.0], [0.0, 3.0])
    student = Output(torch.zeros(2, 3), 5 * projected(teacher, 2, settings()))
    value = crd.loss(student, teacher, torch.tensor([0, 1]), settings(crd_tau=0.5))
    assert value.item() == pytest.approx(0.8 * math.log(1 + math.exp(-2)), rel=1e-5)


def test_crd_has_no_negatives_of_the_same_class():
    teacher = target([1.0, 0.0], [0.0, 3.0], [1.0, 1.0])
    student = output([0.0, 1.0], [2.0, 1.0], [1.0, 0.0])
    value = crd.loss(student, teacher, torch.tensor([0, 1, 0]), settings(crd_weight=1.0))
    cosines = functional.normalize(student.features_BH) @ functional.normalize(projected(teacher, 2, settings())).T / 0.07
    first, second, third = (cosines[i, j] for i, j in ((0, [0, 1]), (1, [1, 0, 2]), (2, [2, 1])))
    expected = sum(-scores.log_softmax(0)[0] for scores in (first, second, third)) / 3
    torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)


def test_crd_with_all_negatives_is_torch_s_cross_entropy():
    student, teacher = draw("student", 3, 4), draw("teacher", 3, 12)
    value = crd.loss(Output(student, student), TeacherOutput(student, teacher), LABELS, settings(crd_weight=1.0))
    cosines = functional.cosine_similarity(student[:, None], (teacher @ projection(12, 4, 0))[None], dim=2)
    torch.testing.assert_close(value, functional.cross_entropy(cosines / 0.07, torch.arange(3)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "weight", "expected"),
    [("kd", 0.5, False), ("kd+rkd:0.1", 0.5, True), ("rkd", 0.0, False), ("dkd+c2kd", 1.0, False)],
)
def test_features_are_asked_for_only_where_a_loss_reads_them(loss, weight, expected):
    assert reads_features(Phase2Config(loss=loss, loss_weight=weight)) == expected
