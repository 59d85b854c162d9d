"""The student's weighted objective on a batch: cross-entropy and a weighted sum of distillation losses (`phase2.loss`).

A loss is one module in `mm_ray/losses`, with `loss(student, target, labels_B, settings)`. It may name in `USES` the
fields of `Phase2Config` that it reads, so that the others do not enter its phase's key; without `USES` all of them enter.
With `FEATURES = True` it also gets the teacher's pooled features, which are then stored beside the logits. With `ROWWISE =
True` it says that it is the mean of the losses of single clips, so that it may be taken of several clients' clips at once.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache, reduce
from operator import add, attrgetter
from typing import Any

from torch import Tensor
from torch.nn import functional

from mm_ray.config import Phase2Config
from mm_ray.distill.teacher_output import TeacherOutput
from mm_ray.errors import bad_value
from mm_ray.models.layers import Output
from mm_ray.plugins import code_digest, resolve
from mm_ray.types import UNLABELLED

Loss = Callable[[Output, TeacherOutput, Tensor, Phase2Config], Tensor]


@dataclass(frozen=True)
class LossTerm:
    """One loss of the sum."""

    name: str
    weight: float
    loss: Loss
    uses: tuple[str, ...] | None
    """Dotted names of the fields of `Phase2Config` that it reads; None: it does not say."""
    features: bool
    """Whether it reads the teacher's features."""
    rowwise: bool
    """Whether it is a mean over clips, none of which depends on the others."""
    code: str = ""
    """Digest of its source, if it is not one of ours."""


@lru_cache(maxsize=64)
def parse_loss(text: str) -> tuple[LossTerm, ...]:
    """The terms of `phase2.loss`, in their order: `kd`, `kd+rkd` or `kd:0.7+mine.py:0.3` (a weight left out is 1).

    A loss of yours may be one function of several in its file: `mine.py:sharp` or `mine.py:sharp:0.3`.

    Raises:
        UserError: An unknown name, or a weight that is not a number above 0.

    """
    return tuple(_term(piece.strip(), text) for piece in text.split("+"))


def _term(piece: str, text: str) -> LossTerm:
    name, colon, weight = piece.rpartition(":")
    if not colon or not _is_number(weight):
        name, weight = piece, "1"
    module = resolve("phase2.loss", name, "mm_ray.losses", "loss")
    short = name if "." in name else name.replace("-", "_")
    uses, features = getattr(module, "USES", None), getattr(module, "FEATURES", False)
    rowwise = getattr(module, "ROWWISE", False)
    return LossTerm(short, _weight(weight, text), module.loss, uses, features, rowwise, code_digest(module))


def _is_number(text: str) -> bool:
    return not text or text[0] in "+-.0123456789" or text.lower() in ("nan", "inf", "infinity")


def _weight(text: str, whole: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise bad_value("phase2.loss", whole, f"the weight {text!r} is not a number above 0; write it as in kd:0.7+rkd:0.3")
    return weight


def reads_features(settings: Phase2Config) -> bool:
    """Whether the objective reads the teacher's features (UserError: see `parse_loss`)."""
    return settings.loss_weight > 0 and any(term.features for term in parse_loss(settings.loss))


def loss_settings(settings: Phase2Config) -> dict[str, Any]:
    """What the distillation loss depends on, for the key of its phase: the terms and the settings that they read."""
    terms = parse_loss(settings.loss)
    used: dict[str, Any] = {"loss": "+".join(term.name if term.weight == 1 else f"{term.name}:{term.weight}" for term in terms)}
    for term in terms:
        names = term.uses if term.uses is not None else ("temperature", *(f"losses.{name}" for name in asdict(settings.losses)))
        used |= {name: attrgetter(name)(settings) for name in names}
    if codes := {term.name: term.code for term in terms if term.code}:
        used["code"] = codes
    return used | ({"class_temperature": settings.class_temperature} if has_class_temperatures(settings) else {})


def has_class_temperatures(settings: Phase2Config) -> bool:
    """Whether temperatures are class-wise and a loss reads them (UserError: see `parse_loss`)."""
    if not settings.loss_weight or not settings.class_temperature:
        return False
    return any(term.uses is None or "temperature" in term.uses for term in parse_loss(settings.loss))


def cross_entropy(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """The mean over the labelled clips of the batch (scalar, nats); 0 without any."""
    total = functional.cross_entropy(logits_BC, labels_B, ignore_index=UNLABELLED, reduction="sum")
    return total / (labels_B != UNLABELLED).sum().clamp_min(1)


def objective(student: Output, target: TeacherOutput | None, labels_B: Tensor, settings: Phase2Config) -> Tensor:
    """(1 - a) * cross-entropy over the labelled clips + a * distillation loss over all clips of the batch (scalar, nats).

    The distillation loss is the weighted sum of the terms of `phase2.loss`; one that reads labels gets the teacher's class for
    a clip without one. Without a target (an audio-only client, or the control) the objective is the cross-entropy alone.
    """
    weight = settings.loss_weight
    supervised = cross_entropy(student.logits_BC, labels_B)
    if target is None or weight == 0:
        return supervised
    classes_B = labels_B.where(labels_B != UNLABELLED, target.logits_BC.argmax(1))
    terms = [term.weight * term.loss(student, target, classes_B, settings) for term in parse_loss(settings.loss)]
    return (1 - weight) * supervised + weight * reduce(add, terms)
