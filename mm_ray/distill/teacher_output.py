"""The teacher's output for a batch, the target of every distillation loss: softened by a temperature, projected to a size.

Temperatures are one for all clips, or class-wise as in FedCMI (Fan et al. 2023, arXiv 2401.00894).

FitNets and CRD learn projections of the teacher's features onto the student's size. Here one is drawn and kept (our choice): a
learned one would be a further network that is trained, sent and averaged, and the student alone could not tell it from the
knowledge that it is to carry. Its columns are orthonormal, so that an element of the result has the variance of an element of
the features, and where the sizes are equal distances and angles stay as they are.

Shape suffixes: B batch, N clips of a client, C classes, X classes of one side of a divergence, P features of the teacher, H
features of the student.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mm_ray.config import Phase2Config
from mm_ray.seeding import torch_stream


class TeacherOutput(NamedTuple):
    """The frozen teacher's output for a batch of B clips."""

    logits_BC: Tensor
    features_BP: Tensor | None = None
    """The teacher's pooled features (P), where a loss reads them."""
    temperature_B1: Tensor | None = None
    """Each clip's temperature, where temperatures are class-wise."""


LEAST_PROBABILITY = 1e-6


def temperature_of(target: TeacherOutput, settings: Phase2Config) -> float | Tensor:
    """The temperature of the batch, or of each of its clips (B, 1)."""
    return settings.temperature if target.temperature_B1 is None else target.temperature_B1


def divergence(student_BX: Tensor, teacher_BX: Tensor, temperature: float | Tensor) -> Tensor:
    """T^2 * KL(teacher || student) of log-probabilities softened by T, the mean over the batch (scalar, nats).

    The factor T^2 keeps the gradient's size independent of T. It stands here and nowhere else, so that the temperature and
    the weight of the objective do not confound.
    """
    if isinstance(temperature, Tensor):
        each_B = functional.kl_div(student_BX, teacher_BX, log_target=True, reduction="none").sum(1)
        return (temperature[:, 0] ** 2 * each_B).mean()
    return temperature**2 * functional.kl_div(student_BX, teacher_BX, log_target=True, reduction="batchmean")


def class_temperatures(teacher_NC: np.ndarray, student_NC: np.ndarray, labels_N: np.ndarray, settings: Phase2Config) -> Tensor:
    """A temperature per class (C), lower where the teacher is further ahead of the student than it is on average.

    r_c is the teacher's mean probability of class c over the student's, on the client's clips of that class; T_c is
    T / (1 + strength * ln(r_c / mean r)) where r_c is above the mean over the client's classes, and T elsewhere. This is the
    rule of FedCMI's published code, where strong and weak modality stand in the place of teacher and student, T is 1 and the
    strength 2.

    Args:
        teacher_NC: The teacher's logits on a client's clips.
        student_NC: The logits of the student as the client received it.
        labels_N: The labels of these clips.
        settings: Gives T and the strength, `class_temperature`.

    """
    num_classes = teacher_NC.shape[1]
    teacher_C, student_C = (_mean_probability(logits, labels_N) for logits in (teacher_NC, student_NC))
    present_C = torch.from_numpy(np.bincount(labels_N, minlength=num_classes) > 0)
    ratio_C = teacher_C.clamp_min(LEAST_PROBABILITY) / student_C.clamp_min(LEAST_PROBABILITY)
    lead_C = torch.where(present_C, ratio_C / ratio_C[present_C].mean(), 1.0).clamp_min(1.0)
    return settings.temperature / (1 + settings.class_temperature * lead_C.log())


def _mean_probability(logits_NC: np.ndarray, labels_N: np.ndarray) -> Tensor:
    """Mean probability of the right class, by class (C); 0 for a class without clips."""
    probability_N = torch.from_numpy(logits_NC).softmax(1)[torch.arange(len(labels_N)), torch.from_numpy(labels_N)].numpy()
    num_classes = logits_NC.shape[1]
    sums_C, counts_C = (np.bincount(labels_N, weights, num_classes) for weights in (probability_N, None))
    return torch.from_numpy(sums_C / np.maximum(counts_C, 1)).float()


PROJECTION_USES = ("losses.projection_seed",)
"""The settings that `projected` reads."""


def projected(target: TeacherOutput, size: int, settings: Phase2Config) -> Tensor:
    """The teacher's features, (B, H = size)."""
    features_BP = target.features_BP
    assert features_BP is not None
    return features_BP @ projection(features_BP.shape[1], size, settings.losses.projection_seed).to(features_BP.device)


@lru_cache(maxsize=16)
def projection(num_in: int, num_out: int, seed: int) -> Tensor:
    """A matrix (num_in, num_out) of the named stream, with orthonormal columns, or rows where there are more columns."""
    wide, narrow = max(num_in, num_out), min(num_in, num_out)
    normal = torch.randn(wide, narrow, generator=torch_stream(seed, "projection", num_in, num_out))
    orthonormal, _ = torch.linalg.qr(normal)
    return orthonormal if num_in >= num_out else orthonormal.T.contiguous()
