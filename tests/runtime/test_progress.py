"""What a host shows of the rounds that it drives."""

import pytest
from fed.tiny import Run, tiny_plan

from mm_ray.runtime.drive import drive
from mm_ray.runtime.progress import RunProgress


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
    assert [line.split(":")[0] for line in shown] == [
        "phase1/unimodal",
        "phase1/fusion",
        "phase1/teacher_logits",
        "phase2/distill",
        "control/cross_entropy",
    ]


def test_stored_rounds_are_named(tmp_path, capsys):
    Run(tmp_path)
    with RunProgress(tiny_plan(), control=False) as progress:
        Run(tmp_path, tell=progress.add)
    out = capsys.readouterr().out
    assert "(stored)" in out
    assert "phase2/distill" in out
