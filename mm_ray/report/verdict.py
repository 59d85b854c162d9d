"""What a study may claim: the student against both controls on the same fresh seeds, with intervals."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from mm_ray.evaluate.statistics import OverClips, Paired, paired_test

CONTROLS = ("control_all", "control")
"""Cross-entropy on all clients (the student's own clients wherever audio-only clients train in phase 2), and on the audiovisual
ones. The first one in the test is the student's reference.
"""


def verdict(
    test: Mapping[str, Sequence[float]],
    chance: float,
    num_clips: int,
    at_chance: Collection[str] = (),
    over_clips: Mapping[str, OverClips] | None = None,
    distils: bool = True,
) -> list[str]:
    """For people: the claim, then its evidence, one line per control; empty without a student and a control.

    Args:
        test: Top-1 on the test set by role, one for each seed, the same seeds in all.
        chance: Accuracy of always naming the most common class.
        num_clips: Test clips.
        at_chance: Roles that are no better than chance.
        over_clips: The student against a control clip by clip, if predictions per clip are known.
        distils: Whether the loss weight of the configuration is above 0.

    """
    controls = [name for name in CONTROLS if name in test]
    if "student" not in test or not controls:
        return []
    first, *others = controls
    tests = {name: paired_test(np.subtract(test["student"], test[name])) for name in controls}
    found = tests[first]
    seeds = f"{found.n} seeds" if found.n > 1 else "1 seed"
    lines = [
        f"{_claim(found, 'student' in at_chance, distils)}: student {np.mean(test['student']):.3f}, "
        f"{first} {np.mean(test[first]):.3f}, difference {_difference(found)}, paired over {seeds} and "
        f"{num_clips:,} test clips; chance {chance:.2f}{_closed(test, first)}"
    ]
    lines += [f"student - {name}: {_difference(tests[name])}{_detail(tests[name])}" for name in (first, *others)]
    return lines + [f"student - {name}, {found.line()}" for name, found in (over_clips or {}).items()]


def tone(line: str) -> str:
    """How a claim is coloured: `good`, `bad`, or neither."""
    return next((colour for claim, colour in TONES.items() if line.startswith(claim)), "")


HELPED, HURT, AT_CHANCE = "Distillation helped", "Distillation hurt", "At chance level: the student learned nothing measurable"
TONES = {HELPED: "good", HURT: "bad", AT_CHANCE: "bad"}


def _claim(found: Paired, is_at_chance: bool, distils: bool) -> str:
    if is_at_chance:
        return AT_CHANCE
    if not distils:
        return "The best configuration does not distil (loss weight 0)"
    if found.low == found.high == 0:
        return "Distillation made no difference"
    if found.low > 0:
        return HELPED
    if found.high < 0:
        return HURT
    if found.n == 1:
        return "One seed cannot show whether distillation helped (--test_seeds 5 can)"
    return "It is not certain whether distillation helped"


def _difference(found: Paired) -> str:
    interval = "" if np.isnan(found.low) else f" [{found.low:+.3f}, {found.high:+.3f}]"
    return f"{found.mean:+.3f}{interval}"


def _detail(found: Paired) -> str:
    if found.n == 1:
        return " (one seed)"
    return f", better in {found.wins} of {found.n} seeds" + ("" if np.isnan(found.p) else f", p {found.p:.2g}")


def _closed(test: Mapping[str, Sequence[float]], control: str) -> str:
    """The share of the gap from control to teacher that the student closed, if both lead the control."""
    if "teacher" not in test:
        return ""
    student, base, teacher = (float(np.mean(test[role])) for role in ("student", control, "teacher"))
    return f"; {(student - base) / (teacher - base):.0%} of the gap to the teacher closed" if teacher > base < student else ""
