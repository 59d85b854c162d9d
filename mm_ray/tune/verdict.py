"""What a study may claim: the student against both controls on the same fresh seeds, with an interval."""

from collections.abc import Mapping, Sequence

import numpy as np

from mm_ray.evaluate.statistics import Paired, paired_test, spread_text

CONTROLS = {
    "control_all": "cross-entropy on all clients (control_all)",
    "control": "cross-entropy on the audiovisual clients (control)",
}
"""The first one has the student's own clients wherever audio-only clients train in phase 2."""


def verdict(test: Mapping[str, Sequence[float]], guessing: float, num_clips: int) -> list[str]:
    """For people: what the test says, then the difference to each control; empty without a student and a control.

    Args:
        test: Top-1 on the test set by role, one for each seed, the same seeds in all.
        guessing: Accuracy of always naming the most common class.
        num_clips: Test clips.

    """
    controls = [name for name in CONTROLS if name in test]
    if "student" not in test or not controls:
        return []
    student, first = test["student"], controls[0]
    tests = {name: paired_test(np.subtract(student, test[name])) for name in controls}
    scale = f"{num_clips:,} test clips; chance {guessing:.2f}{_closed(test, first)}"
    lines = [f"{_claim(tests[first])}: student {_score(student)}, {CONTROLS[first]} {_score(test[first])} ({scale})"]
    return lines + [f"student - {name}: {_difference(tests[name])}" for name in controls]


def _claim(found: Paired) -> str:
    if found.low > 0:
        return "Distillation helped"
    if found.high < 0:
        return "Distillation hurt"
    if found.n == 1:
        return "One seed says nothing about a gain (--test_seeds 5 does)"
    return "No difference can be told"


def _score(values: Sequence[float]) -> str:
    return spread_text(values) if len(values) > 1 else f"{values[0]:.3f}"


def _difference(found: Paired) -> str:
    if found.n == 1:
        return f"{found.mean:+.3f} (one seed)"
    return (
        f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], better in {found.wins} of {found.n} seeds, p {found.p:.2g}"
    )


def _closed(test: Mapping[str, Sequence[float]], control: str) -> str:
    """How much of the way from the control to the teacher the student went, where the teacher leads."""
    if "teacher" not in test:
        return ""
    student, base, teacher = (float(np.mean(test[role])) for role in ("student", control, "teacher"))
    return f"; {(student - base) / (teacher - base):.0%} of the gap to the teacher" if teacher > base else ""
