"""Predicts whether distillation can help: what the teacher adds to the labels of the audiovisual clients' clips.

A student gains from a teacher where the teacher's soft labels differ from the labels that the clients have: on clips without a
label, and on clips whose label the teacher contradicts. Where it repeats the labels, its soft labels *are* the labels, and
phase 2 is plain training. Each client counts this on its own clips; only the counts leave it.

Shape suffixes: N clips of a client, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mm_ray.fed.evaluation import predicted
from mm_ray.types import UNLABELLED, ClientData, RoundReport

CLIPS, LABELLED, AGREEING, ENTROPY = "teacher/clips", "teacher/labelled", "teacher/agreeing", "teacher/entropy"
COUNTS = (CLIPS, LABELLED, AGREEING, ENTROPY)
"""The clips of the audiovisual clients, those with a label, those whose label is the teacher's class; the sum of entropies."""
DEV_ENTROPY = "teacher/dev_entropy"
SHARES, GAINS = (0.0, 0.064, 0.13, 0.33, 0.75), (0.0, 0.005, 0.022, 0.060, 0.060)
"""Pairs (share, gain over `control_all`), measured on the synthetic data (docs/when-it-helps.md)."""
LEAST_SHARE = 0.02
"""Below this share no gain was measured."""


@dataclass(frozen=True)
class Diagnosis:
    """What a teacher adds to the labels of the audiovisual clients' clips."""

    clips: int
    unlabelled: int
    contradicted: int
    """Clips whose label is not the teacher's class."""
    entropy: float
    """Mean entropy of the teacher on these clips, nats."""
    dev_entropy: float
    """The same on the dev set; if it is far above `entropy`, the teacher over-fits the clips it was trained on."""
    teacher_dev: float
    """The teacher's dev top-1."""
    audio_dev: float
    """Dev top-1 of phase 1's audio network."""

    @property
    def share(self) -> float:
        """Share of the clips to which the teacher adds something."""
        return (self.unlabelled + self.contradicted) / self.clips if self.clips else 0.0

    @property
    def expected_gain(self) -> float:
        """Expected top-1 gain over more cross-entropy training, interpolated from `GAINS`; 0 if the teacher does not lead on
        dev."""
        if self.teacher_dev <= self.audio_dev or self.share < LEAST_SHARE:
            return 0.0
        return float(np.interp(self.share, SHARES, GAINS))

    def line(self) -> str:
        """For people: one line."""
        lead = f"dev {self.teacher_dev:.3f}, audio network {self.audio_dev:.3f}"
        if self.teacher_dev <= self.audio_dev:
            return f"the teacher does not lead ({lead}): expect no gain; continue with cross-entropy (--method control_all)"
        if self.share < LEAST_SHARE:
            return f"the teacher repeats the labels it was given ({1 - self.share:.1%}; {lead}): expect no gain"
        return f"the teacher adds to {self.share:.0%} of the audiovisual clips ({lead}): expect about {self.expected_gain:+.2f}"


def counts(logits_NC: np.ndarray, client: ClientData) -> dict[str, float]:
    """A client's counts, as metrics that are summed over clients."""
    labelled_N = client.labels != UNLABELLED
    return {
        CLIPS: float(client.num_clips),
        LABELLED: float(labelled_N.sum()),
        AGREEING: float((predicted(logits_NC, client.labels) == client.labels).sum()),
        ENTROPY: float(mean_entropy(logits_NC) * client.num_clips),
    }


def mean_entropy(logits_NC: np.ndarray) -> float:
    """Mean over clips of the entropy of the predicted distribution, nats; 0 without clips."""
    if not len(logits_NC):
        return 0.0
    log_NC = torch.from_numpy(logits_NC).double().log_softmax(1)
    return float(-(log_NC.exp() * log_NC).sum(1).mean())


def diagnosis_of(reports: Sequence[RoundReport]) -> Diagnosis | None:
    """The diagnosis as soon as a run's reports hold the teacher's round, else None."""
    asked = [report.metrics for report in reports if CLIPS in report.metrics]
    if not asked:
        return None
    counted = asked[-1]
    clips, labelled = int(counted[CLIPS]), int(counted[LABELLED])
    entropy = counted[ENTROPY] / clips if clips else 0.0
    before = [report.metrics for report in reports if "phase2" not in report.phase]
    teacher_dev, audio_dev = (
        max((metrics[name] for metrics in before if name in metrics), default=0.0) for name in ("dev/av_top1", "dev/audio_top1")
    )
    contradicted = labelled - int(counted[AGREEING])
    return Diagnosis(clips, clips - labelled, contradicted, entropy, counted[DEV_ENTROPY], teacher_dev, audio_dev)
