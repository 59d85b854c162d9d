"""What a host shows of the rounds that it drives."""

import math

import pytest
from fed.tiny import Run, tiny_plan

from mm_ray.fed.rounds import drive
from mm_ray.runtime.progress import RunProgress
from mm_ray.types import RoundReport


def test_every_listener_hears_every_report_and_the_end_is_returned():
    def rounds():
        yield 1
        yield 2
        return "end"

    one, two = [], []
    assert drive(rounds(), one.append, two.append) == "end"
    assert one == two == [1, 2]


def test_an_error_of_a_listener_ends_the_rounds():
    def rounds():
        try:
            yield 1
        finally:
            closed.append(True)

    closed = []
    generator = rounds()
    with pytest.raises(ZeroDivisionError):
        drive(generator, lambda report: 1 / 0)
    generator.close()
    assert closed == [True]


def test_away_from_a_terminal_there_is_a_line_for_each_phase(tmp_path, capsys):
    with RunProgress(tiny_plan(), control=True) as progress:
        run = Run(tmp_path, control=True, tell=progress.add)
    lines = capsys.readouterr().out.split("\n")
    shown = [line for line in lines if line.strip()]
    audio = run.reports[2].metrics["dev/audio_top1"]
    assert shown[0] == f"phase1/unimodal: 3 rounds, dev audio_top1 {audio:.3f}, video_top1 {shown[0][-5:]}"
    assert shown.pop(2) == run.result["diagnosis"]["text"], "before phase 2"
    assert [line.split(":")[0] for line in shown] == [
        "phase1/unimodal",
        "phase1/fusion",
        "phase1/teacher_logits",
        "phase2/distill",
        "control/cross_entropy",
        "control_all/cross_entropy",
    ]


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (
            RoundReport("phase1/unimodal", 20, {"dev/audio_top1": 0.12, "dev/video_top1": 0.8}, 1, 1.0, 0, 0),
            "at chance on dev (0.25)",
        ),
        (
            RoundReport("phase1/unimodal", 3, {"train/audio_loss": math.nan}, 1, 1.0, 0, 0),
            "the audio network's loss is not finite",
        ),
        (RoundReport("phase1/unimodal", 20, {"dev/audio_top1": 0.6}, 1, 1.0, 0, 0), ""),
        (RoundReport("phase1/unimodal", 19, {"dev/audio_top1": 0.1}, 1, 1.0, 0, 0), ""),
    ],
)
def test_a_training_that_does_not_learn_is_named_while_it_runs(report, said, capsys):
    with RunProgress(tiny_plan(), control=False) as progress:
        progress.add(report)
    out = capsys.readouterr().out
    assert (said in out) if said else ("phase1/unimodal" not in out)


def test_stored_rounds_are_named(tmp_path, capsys):
    Run(tmp_path)
    with RunProgress(tiny_plan(), control=False) as progress:
        Run(tmp_path, tell=progress.add)
    out = capsys.readouterr().out
    assert "(stored)" in out
    assert "phase2/distill" in out
