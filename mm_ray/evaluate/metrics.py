"""Metrics of a classifier from its confusion matrix (C, C): rows are true classes, columns predictions."""

import numpy as np


def confusion_matrix(labels_N: np.ndarray, predictions_N: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (C, C) int64."""
    flat = np.bincount(labels_N * num_classes + predictions_N, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def recall(confusion_CC: np.ndarray) -> list[float]:
    """Accuracy by class (C,); 0 for a class without clips."""
    values: list[float] = (np.diag(confusion_CC) / np.maximum(confusion_CC.sum(1), 1)).tolist()
    return values


def summary(confusion_CC: np.ndarray) -> dict[str, float]:
    """`top1`, `uar` (mean recall) and `macro_f1`; means run over the classes that occur (for F1: or are predicted)."""
    hits_C = np.diag(confusion_CC).astype(float)
    true_C, predicted_C = confusion_CC.sum(1), confusion_CC.sum(0)
    occurs_C, seen_C = true_C > 0, true_C + predicted_C > 0
    f1_C = 2 * hits_C[seen_C] / (true_C + predicted_C)[seen_C]
    return {
        "top1": float(hits_C.sum() / max(true_C.sum(), 1)),
        "uar": float((hits_C[occurs_C] / true_C[occurs_C]).mean()) if occurs_C.any() else 0.0,
        "macro_f1": float(f1_C.mean()) if seen_C.any() else 0.0,
    }
