"""What is shown on the terminal: names of the user's and of files go through here, and are text and nothing else."""

import io
import sys
from importlib.util import find_spec
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import TextColumn
from rich.text import Text

from mm_ray.errors import printable


class PlainConsole(Console):
    """rich's console, for which `[bold]`, `[/x]` and `:dog:` are letters: a label, a name or a path may hold any."""

    def __init__(self, **options: Any) -> None:
        if isinstance(sys.stdout, io.StringIO):  # somebody keeps what is printed; in a notebook rich would show it all the same
            options.setdefault("force_jupyter", False)
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    @property
    def is_live(self) -> bool:
        """Whether bars and tables can move here: on a terminal, and in a notebook that has ipywidgets."""
        return self.is_terminal or (self.is_jupyter and find_spec("ipywidgets") is not None)

    def render_str(self, text: str, **options: Any) -> Text:
        """A text with its lines, and without what a terminal would obey instead of showing it."""
        return super().render_str("\n".join(map(printable, text.split("\n"))), **options)

    def on_broken_pipe(self) -> NoReturn:
        """Leave it to `mm_ray.cli`, as when `print` finds that nobody reads (`| head`)."""
        raise BrokenPipeError


def text_column(text: str) -> TextColumn:
    """A column of a progress bar that shows names as they are."""
    return TextColumn(text, markup=False)
