"""The progress bar: clips, clips per second, time left."""

from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from mm_ray.console import PlainConsole


class ClipProgress:
    """Shows the progress of a preparation; nothing if the output is not a terminal.

    Args:
        total: Clips to prepare.
        console: Where to show it.

    """

    def __init__(self, total: int, console: PlainConsole) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=console, transient=True, disable=not console.is_live)
        self._task = self._bars.add_task("", total=total)

    def tick(self, clips: int) -> None:
        """Count more clips."""
        self._bars.update(self._task, advance=clips)

    def __enter__(self) -> "ClipProgress":
        self._bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Recent clips per second."""
        speed = task.speed or task.finished_speed
        return Text("" if speed is None else f"{speed:.1f} clips/s")
