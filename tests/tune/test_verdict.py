"""What a study claims, by hand."""

from mm_ray.tune.verdict import verdict


def test_a_gain_beyond_chance():
    test = {"student": [0.7, 0.72, 0.74], "control": [0.6, 0.61, 0.65], "control_all": [0.62, 0.65, 0.63], "teacher": [0.9] * 3}
    first, all_clients, audiovisual = verdict(test, 0.1, 720)
    # differences to control_all: 0.08, 0.07, 0.11: mean 0.0867, sd 0.0208, half width 4.303 * 0.0208 / sqrt(3) = 0.0517
    assert first.startswith(
        "Distillation helped: student 0.720 ± 0.020 (n=3), cross-entropy on all clients (control_all) 0.633"
    )
    assert "720 test clips; chance 0.10; 33% of the gap to the teacher" in first
    assert all_clients == "student - control_all: +0.087 [+0.035, +0.138], better in 3 of 3 seeds, p 0.019"
    assert audiovisual.startswith("student - control: +0.100 [")


def test_noise_is_called_noise():
    first, *_ = verdict({"student": [0.7, 0.6], "control_all": [0.6, 0.7]}, 0.1, 720)
    assert first.startswith("No difference can be told: ")


def test_a_loss_is_called_a_loss():
    first, *_ = verdict({"student": [0.50, 0.51, 0.52], "control_all": [0.61, 0.61, 0.62]}, 0.1, 720)
    assert first.startswith("Distillation hurt: ")


def test_one_seed_says_nothing():
    first, difference = verdict({"student": [0.7], "control_all": [0.6]}, 0.1, 720)
    assert first.startswith("One seed says nothing about a gain")
    assert difference == "student - control_all: +0.100 (one seed)"


def test_without_a_student_there_is_nothing_to_say():
    assert verdict({"teacher": [0.9]}, 0.1, 720) == []
