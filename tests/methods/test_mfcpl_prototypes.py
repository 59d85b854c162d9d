"""Prototypes and their terms by hand: two classes of which one may have no prototype, two features."""

import numpy as np
import pytest
import torch

from mm_ray.methods.mfcpl import CONTRAST_TEMPERATURE, class_sums, contrast, shared_distance, updated_table

NONE = torch.zeros(2, 3)
ONE = torch.tensor([[3.0, 0.0, 1.0], [0.0, 0.0, 0.0]])  # only class 0 has one
TWO = torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 1.0]])


def test_sums_and_counts_by_class_and_their_mean():
    first = class_sums(np.array([[1, 2], [3, 4], [10, 20]], np.float32), np.array([0, 0, 2]), 4)
    second = class_sums(np.array([[30, 40]], np.float32), np.array([2]), 4)
    assert first.tolist() == [[4, 6, 2], [0, 0, 0], [10, 20, 1], [0, 0, 0]]
    old = np.array([[9, 9, 1], [8, 8, 1], [7, 7, 1], [0, 0, 0]], np.float32)
    assert updated_table(old, first + second).tolist() == [[2, 3, 1], [8, 8, 1], [20, 30, 1], [0, 0, 0]]


def test_contrast_is_cross_entropy_of_cosines():
    # Cosines 0.6 and 0.8 to the prototypes; class 1 is right.
    value = contrast(torch.tensor([[6.0, 8.0]]), torch.tensor([1]), TWO)
    own, other = (np.exp(cosine / CONTRAST_TEMPERATURE) for cosine in (0.8, 0.6))
    assert float(value) == pytest.approx(-np.log(own / (own + other)), rel=1e-6)


def test_a_class_without_prototype_does_not_count():
    features = torch.tensor([[6.0, 8.0], [1.0, 1.0]], requires_grad=True)
    assert contrast(features, torch.tensor([0, 1]), ONE).item() == 0  # nothing to tell class 0 from, nothing for class 1
    for table in (NONE, ONE):
        value = contrast(features, torch.tensor([1, 1]), table) + shared_distance(
            [features], torch.tensor([1, 1]), {"audio": table}
        )
        value.backward()
        assert value.item() == 0
    assert features.grad.tolist() == [[0, 0], [0, 0]]


def test_the_complete_prototype_is_the_mean_over_the_modalities_that_know_the_class():
    features = [torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[3.0, 2.0], [0.0, 0.0]])]  # means (2, 1) and (0, 0)
    tables = {"audio": ONE, "video": torch.tensor([[1.0, 4.0, 1.0], [0.0, 2.0, 1.0]])}
    # Class 0: ((3, 0) + (1, 4)) / 2 = (2, 2), distance (0 + 1) / 2; class 1: (0, 2) of video alone, distance (0 + 4) / 2.
    assert float(shared_distance(features, torch.tensor([0, 1]), tables)) == pytest.approx((0.5 + 2) / 2)
