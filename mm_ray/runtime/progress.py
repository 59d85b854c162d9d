"""Progress of a run on the terminal: one line per phase, with accuracy, rounds per second and time left."""

import math
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeRemainingColumn

from mm_ray.console import PlainConsole, text_column
from mm_ray.fed.diagnosis import CLIPS, diagnosis_of
from mm_ray.fed.experiment import CONTROL_PHASES, Experiment
from mm_ray.types import RoundReport


class RunProgress:
    """Progress bars on a terminal; elsewhere one line at the end of each phase.

    Args:
        plan: What is run.
        control: Whether its control is run too.

    """

    def __init__(self, plan: Experiment, control: bool) -> None:
        self._console = PlainConsole()
        self._rounds = {phase.name: phase.rounds for phase in plan.method.phases}
        if control:
            self._rounds |= dict.fromkeys(CONTROL_PHASES.values(), plan.config.phase2.rounds)
        columns = [text_column("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        self._bars = Progress(*columns, text_column("{task.fields[note]}"), console=self._console)
        self._tasks: dict[str, TaskID] = {}
        self._chance = 1 / plan.federation.shapes.num_classes
        self._reports: list[RoundReport] = []

    def add(self, report: RoundReport) -> None:
        """Show a round, and warn if training diverges or stays at chance."""
        self._reports.append(report)
        if said := _warning(report, self._chance):
            self._console.print(f"{report.phase}: {said}", soft_wrap=True)
        if CLIPS in report.metrics and (diagnosis := diagnosis_of(self._reports)):
            self._console.print(diagnosis.line(), soft_wrap=True)
        note = _note(report)
        if report.phase not in self._tasks:
            total = self._rounds[report.phase]
            self._tasks[report.phase] = self._bars.add_task(report.phase, total=total, note=note)
        self._bars.update(self._tasks[report.phase], completed=report.round, note=note)
        if report.round == self._rounds[report.phase] and not self._console.is_live:
            count = f"{report.round} round{'s' * (report.round > 1)}"
            self._console.print(f"{report.phase}: {', '.join(filter(None, (count, note)))}")

    def __enter__(self) -> "RunProgress":
        if self._console.is_live:
            self._bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._console.is_live:  # elsewhere it would print an empty line
            self._bars.stop()


AT_CHANCE_ROUND = 20
"""By this round a network that learns is clearly above chance."""


def _warning(report: RoundReport, chance: float) -> str:
    """A warning if training diverges, or stays at chance."""
    lost = [name for name, value in report.metrics.items() if name.endswith("_loss") and not math.isfinite(value)]
    if lost:
        network = lost[0].removeprefix("train/").removesuffix("_loss")
        return f"round {report.round}: the {network} network's loss is not finite; use a smaller local.lr"
    if report.round != AT_CHANCE_ROUND:
        return ""
    low = [name for name, value in report.metrics.items() if name.endswith("_top1") and value < 1.5 * chance]
    names = ", ".join(name.removeprefix("dev/").removesuffix("_top1") for name in low)
    remedy = "if it stays there, use a smaller local.lr"
    return f"after {report.round} rounds still at chance on dev ({chance:.2f}): {names}; {remedy}" if low else ""


def _note(report: RoundReport) -> str:
    scores = [f"{name.removeprefix('dev/')} {value:.3f}" for name, value in report.metrics.items() if name.endswith("_top1")]
    return "dev " + ", ".join(scores) + (" (stored)" if report.reused else "") if scores else ""
