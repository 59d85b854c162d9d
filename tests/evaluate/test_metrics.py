"""Metrics by hand."""

import numpy as np
import pytest

from mm_ray.evaluate.metrics import confusion_matrix, summary


def test_the_confusion_matrix_counts_true_rows_and_predicted_columns():
    confusion = confusion_matrix(np.array([0, 0, 2, 2, 2]), np.array([0, 1, 2, 2, 0]), 3)
    assert confusion.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 2]]
    assert confusion.dtype == np.int64


def test_the_summary_by_hand():
    # Hits 8 + 3 of 15. Recalls 8/10 and 3/5. F1: 2*8/(10+10) and 2*3/(5+5).
    scores = summary(np.array([[8, 2], [2, 3]]))
    assert scores == {"top1": pytest.approx(11 / 15), "uar": pytest.approx(0.7), "macro_f1": pytest.approx((0.8 + 0.6) / 2)}


def test_a_class_that_never_occurs_has_no_recall_but_a_wrong_prediction_of_it_costs_f1():
    # Class 1 has no clip and is predicted once; class 3 neither occurs nor is predicted.
    scores = summary(confusion_matrix(np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2]), 4))
    assert scores["top1"] == pytest.approx(3 / 4)
    assert scores["uar"] == pytest.approx((1 / 2 + 1) / 2)
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_a_class_that_is_never_predicted_counts_as_zero():
    scores = summary(confusion_matrix(np.array([0, 1]), np.array([0, 0]), 2))
    assert scores == {"top1": 0.5, "uar": 0.5, "macro_f1": pytest.approx((2 / 3 + 0) / 2)}


def test_perfect_and_empty():
    assert summary(np.diag([3, 1, 2])) == {"top1": 1.0, "uar": 1.0, "macro_f1": 1.0}
    assert summary(np.zeros((3, 3), int)) == {"top1": 0.0, "uar": 0.0, "macro_f1": 0.0}
