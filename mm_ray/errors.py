"""What a user can get wrong, and what the machine can fail at. Entry points turn a `UserError` into one line on
stderr and exit code 2, or 1 where it is an `EnvironmentFailure`.
"""

import difflib
from collections.abc import Iterable, Iterator
from shlex import quote

MAX_SHOWN = 200
"""Characters of a value that an error shows; the longest path that is likely, and a screen's width or two."""


class UserError(ValueError):
    """A mistake in a config, a path, a media file or the size of the cluster; its text is one line that says what to do.

    Whatever a file put into the text, it stays one line, and sends nothing to the terminal but letters.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


def printable(text: str) -> str:
    """A text in one line, without what a terminal would obey instead of showing it."""
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(char: str) -> str:
    return char if char.isprintable() else " " if char.isspace() else repr(char)[1:-1]


class EnvironmentFailure(UserError):
    """The machine fails, not the user: Ray does not start, or a disk is full. Entry points end with exit code 1."""


class StorageError(EnvironmentFailure):
    """A place that cannot be written or read now; with the remedy the run resumes from what is stored."""


def cause_chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it, the last one first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def in_one_line(error: object) -> str:
    """What an error, or a text, says, in one line: a reason to stand in a `UserError`."""
    return " ".join(str(error).split())


class BadValue(UserError):
    """The house form of an error: `--field value: remedy`.

    Args:
        field: The field as a flag without its dashes, by its dotted name; a name in capitals is a positional argument.
        value: What was given.
        remedy: What to do instead; flags of the same section are written as `--name`.

    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field, self.value, self.remedy = field, value, remedy
        dashes = "" if field.isupper() or field.startswith("--") else "--"
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        text = quote(text) if isinstance(value, str) else text
        super().__init__(f"{dashes}{field} {text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + '...'}: {remedy}")

    def within(self, section: str) -> "BadValue":
        """The same error about a field of a section."""
        return BadValue(f"{section}.{self.field}", self.value, self.remedy.replace("--", f"--{section}."))

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return UserError, (str(self),)  # it crosses processes; its value need not


def bad_value(field: str, value: object, remedy: str) -> BadValue:
    """An error of one field: see `BadValue`."""
    return BadValue(field, value, remedy)


def unknown_name(field: str, value: str, known: Iterable[str]) -> UserError:
    """An unknown short name: lists what is there and the nearest match."""
    names = sorted(known)
    nearest = difflib.get_close_matches(value, names, n=1)
    guess = f"did you mean {nearest[0]!r}? " if nearest else ""
    return bad_value(field, value, f"{guess}known names: {', '.join(names)}; or your own: mine.py, mine.py:thing, lab.mine")
