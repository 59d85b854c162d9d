"""What a study claims, by hand."""

import numpy as np
import pytest

from mm_ray.evaluate.statistics import OverClips
from mm_ray.report.verdict import tone, verdict


def test_a_gain_beyond_chance():
    test = {"student": [0.7, 0.72, 0.74], "control": [0.6, 0.61, 0.65], "control_all": [0.62, 0.65, 0.63], "teacher": [0.9] * 3}
    first, all_clients, audiovisual = verdict(test, 0.1, 1440)
    # differences to control_all: 0.08, 0.07, 0.11: mean 0.0867, sd 0.0208, half width 4.303 * 0.0208 / sqrt(3) = 0.0517
    assert first == (
        "Distillation helped: student 0.720, control_all 0.633, difference +0.087 [+0.035, +0.138], "
        "paired over 3 seeds and 1,440 test clips; chance 0.10; 33% of the gap to the teacher closed"
    )
    assert all_clients == "student - control_all: +0.087 [+0.035, +0.138], better in 3 of 3 seeds, p 0.019"
    assert audiovisual.startswith("student - control: +0.100 [")
    assert tone(first) == "good"


@pytest.mark.parametrize(
    ("student", "control", "claim", "colour"),
    [
        ([0.7, 0.6], [0.7, 0.6], "Distillation made no difference: ", ""),
        ([0.7, 0.6], [0.6, 0.7], "It is not certain whether distillation helped: ", ""),
        ([0.50, 0.51, 0.52], [0.61, 0.61, 0.62], "Distillation hurt: ", "bad"),
        ([0.7], [0.6], "One seed cannot show whether distillation helped (--test_seeds 5 can): ", ""),
    ],
)
def test_noise_a_loss_and_one_seed(student, control, claim, colour):
    first, *_ = verdict({"student": student, "control_all": control, "teacher": [0.9] * len(student)}, 0.1, 720)
    assert first.startswith(claim)
    assert tone(first) == colour
    assert ("gap" in first) == (np.mean(student) > np.mean(control)), "a student that is not above the control closes nothing"


def test_one_seed_has_no_interval():
    first, difference = verdict({"student": [0.7], "control": [0.6]}, 0.1, 720)
    assert "control 0.600, difference +0.100, paired over 1 seed and 720 test clips" in first
    assert difference == "student - control: +0.100 (one seed)"


def test_chance_comes_before_any_gain():
    test = {"student": [0.11, 0.12, 0.13], "control_all": [0.08, 0.09, 0.10]}
    first, *_ = verdict(test, 0.12, 720, at_chance=["student"])
    assert first.startswith("At chance level: the student learned nothing measurable")
    assert "chance 0.12" in first


def test_single_answers_have_a_line():
    *_, last = verdict(
        {"student": [0.7], "control": [0.6]}, 0.1, 720, (), {"control": OverClips(0.1, 0.05, 0.15, 90, 18, 1e-9)}
    )
    assert last == (
        "student - control, over seeds and test clips (paired bootstrap): +0.100 [+0.050, +0.150]; "
        "90 answers right in the first alone, 18 in the second alone, McNemar p 1e-09"
    )


def test_without_a_student_there_is_nothing_to_say():
    assert verdict({"teacher": [0.9]}, 0.1, 720) == []


def test_a_configuration_without_distillation_is_named():
    first, *_ = verdict({"student": [0.7, 0.6], "control_all": [0.7, 0.6]}, 0.1, 720, distils=False)
    assert first.startswith("The best configuration does not distil (loss weight 0): student 0.650, control_all 0.650, ")
