"""What a teacher adds to the labels, counted by hand."""

import numpy as np
import pytest
from fed.tiny import Run

from mm_ray.fed.diagnosis import AGREEING, CLIPS, ENTROPY, LABELLED, Diagnosis, counts, mean_entropy
from mm_ray.types import ClientData


def diagnosis(unlabelled=0, contradicted=0, teacher_dev=0.9, audio_dev=0.6):
    return Diagnosis(100, unlabelled, contradicted, 0.1, 0.2, teacher_dev, audio_dev)


def test_a_client_counts_its_clips():
    client = ClientData(3, ("audio", "video"), np.arange(4), np.array([0, 1, -1, 1]))
    logits_NC = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], np.float32))
    found = counts(logits_NC, client)
    assert (found[CLIPS], found[LABELLED], found[AGREEING]) == (4, 3, 2)
    entropy = -2 * (0.9 * np.log(0.9) + 0.1 * np.log(0.1)) + np.log(2) - 0.2 * np.log(0.2) - 0.8 * np.log(0.8)
    assert found[ENTROPY] == pytest.approx(entropy, rel=1e-6)


def test_entropy_without_clips():
    assert mean_entropy(np.zeros((0, 3), np.float32)) == 0


def test_a_teacher_that_repeats_the_labels_promises_nothing():
    line = diagnosis(contradicted=1).line()
    assert line.startswith("the teacher repeats the labels it was given (99.0%;")
    assert diagnosis(contradicted=1).expected_gain == 0


def test_a_teacher_that_adds_promises_what_was_measured():
    adding = diagnosis(unlabelled=70, contradicted=5)
    assert adding.share == 0.75
    assert adding.line().startswith("the teacher adds to 75% of the audiovisual clips (dev 0.900, audio network 0.600)")
    assert adding.expected_gain > 0.05


def test_a_teacher_that_does_not_lead_promises_nothing():
    behind = diagnosis(unlabelled=75, teacher_dev=0.55)
    assert behind.expected_gain == 0
    assert "does not lead" in behind.line()


def test_a_run_tells_it_before_the_student_is_trained(tmp_path):
    run = Run(tmp_path, {"partition.labelled": 0.5})
    phases = [report.phase for report in run.reports]
    asked = phases.index("phase1/teacher_logits")
    assert asked < phases.index("phase2/distill")
    metrics, found = run.reports[asked].metrics, run.result["diagnosis"]
    av_clips = sum(c.num_clips for c in run.plan.federation.clients if "video" in c.modalities)
    assert metrics[CLIPS] == found["clips"] == av_clips
    blank = sum((c.labels == -1).sum() for c in run.plan.federation.clients if "video" in c.modalities)
    assert found["unlabelled"] == blank > 0
