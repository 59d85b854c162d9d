"""What the entry points share: flags from the fields of the config, and errors that end in one line."""

import argparse
import atexit
import difflib
import gc
import os
import re
import select
import signal
import sys
import warnings
from ast import literal_eval
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

import yaml
from pydantic.fields import FieldInfo

from mm_ray.config import FIELDS, ExperimentConfig, flatten
from mm_ray.errors import EnvironmentFailure, UserError, bad_value, in_one_line
from mm_ray.storage import names_bad_file
from mm_ray.validation import choices_of, read_text, with_overrides, words_of

COMMANDS = {
    "train": ("mm_ray.train", "one experiment"),
    "tune": ("mm_ray.tune.__main__", "search the distillation settings"),
    "compare": ("mm_ray.compare.__main__", "methods on equal terms"),
    "prepare": ("mm_ray.prepare.__main__", "recordings into a feature store"),
    "predict": ("mm_ray.predict", "labels of recordings from a trained student"),
    "export": ("mm_ray.export.__main__", "a student as a folder to give away"),
    "completion": ("mm_ray.completion", "the script by which bash or zsh completes all this"),
}
"""Of `mm-ray`, each with its module and what it is for."""
GROUPS_WITH_NAME = ("data",)
"""`--data X` stands for `--data.name X`."""
NUMBERS = {"int": "a whole number", "float": "a number"}
METAVARS = {int: "INT", float: "FLOAT", bool: "{true,false}"}
MAX_CONFIG_BYTES = 100_000
"""A complete config has less than 3,000; one of 400,000, a list, took more than 20 s to read."""


INTERRUPTED = 130
"""The exit code after ^C, as shells have it."""
RARE_COLLECTIONS = 100_000
"""Objects between two garbage collections: while torch and Ray are imported, all of them stay, and looking takes time."""


def run_main(main: Callable[[Sequence[str]], None]) -> None:
    """Run an entry point: a user's mistake, or a file that the system refuses, is one line on stderr and exit code 2, a machine
    that fails (a full disk, a Ray that does not start) one line and 1; TERM is taken like ^C, until the last word is said.
    """
    if os.environ.pop("PYTHONWARNINGS", None):  # Ray uses what others deprecate: with `error` it would not even start
        warnings.simplefilter("ignore")
    if os.path.expanduser("~") == "~":  # neither HOME nor a name, as in containers: Ray asks for it when it is imported
        os.environ["HOME"] = "/nonexistent"
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # of a shell's background
        signal.signal(signal.SIGINT, _interrupt)  # no more as while `mm_ray` was imported
    gc.set_threshold(RARE_COLLECTIONS)
    try:
        with names_bad_file(), _ends_without_readers():
            main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, EnvironmentFailure) else 2)
    except KeyboardInterrupt:
        _ignore_signals()
        print("stopped; the same command resumes from the last stored round", file=sys.stderr)
        _end_interrupted()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _end_interrupted()
        raise
    finally:
        _ignore_signals()
        gc.freeze()  # the interpreter's last collections would look through all modules, for nothing


def _ignore_signals() -> None:
    """From now on ^C and TERM change nothing: amid Ray's shutdown they would end in a traceback, or a crash."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _end_interrupted() -> NoReturn:
    """End with 130 once all that is to run at exit, such as Ray's shutdown, has run.

    The interpreter itself is not taken down: threads of Ray that were cut off in a call crash in it (seen: SIGSEGV).
    """
    _ignore_signals()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it
            stream.flush()
    os._exit(INTERRUPTED)


@contextmanager
def _ends_without_readers() -> Iterator[None]:
    """End without a word, and with code 0, where nobody reads the output any more (`| head`)."""
    try:
        yield
    except BrokenPipeError:
        if not _has_no_reader(sys.stdout):
            raise
        sys.exit(0)
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:  # the interpreter would try once more at its end, and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _has_no_reader(stream: TextIO) -> bool:
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line (`UserError`), and whose flags are the same with dashes and underscores.

    `--help` shows the command's own flags and names the groups of config fields; `--help GROUP` shows one of them, `--help-all`
    all. The fields become flags only when there is something to parse, so help comes at once.

    Args:
        program: The module, such as `mm_ray.train`.
        description: For `--help`.
        fields: The config fields that are flags, by dotted name.

    """

    def __init__(self, program: str, description: str, fields: Mapping[str, FieldInfo] | None = None) -> None:
        super().__init__(
            prog=f"python -m {program}",
            description=description,
            allow_abbrev=False,
            add_help=False,
            formatter_class=_Formatter,
        )
        self.fields = fields or {}
        if fields:
            self.usage = "%(prog)s [FLAGS]"  # there are a hundred

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found, in the house form where it is a wrong value."""
        if wrong := re.fullmatch(r"argument (\S+): invalid (\w+) value: (.*)", message, re.DOTALL):
            raise bad_value(wrong[1], literal_eval(wrong[3]), f"must be {NUMBERS.get(wrong[2], wrong[2])}")
        raise UserError(f"{message.removeprefix('argument ')}; --help lists the flags")

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        """The flags.

        Raises:
            UserError: An unknown or a missing flag, or a value of the wrong type.

        """
        asked = _help_asked(args or ())
        if asked is not None:
            print(self._help(asked).rstrip())
            self.exit()
        add_fields(self, self.fields)
        flags, unknown = self.parse_known_args(_normalised(args or ()), namespace)
        if unknown:
            raise UserError(self._unknown(unknown[0]))
        return flags

    def _help(self, group: str) -> str:
        """The help of a group of config fields, of all of them (`all`), or of the command itself (empty)."""
        if not group:
            return self._own_help()
        inner = {name: info for name, info in self.fields.items() if "." in name}
        within = {name: info for name, info in inner.items() if group == "all" or f"{name}.".startswith(f"{group}.")}
        if not within:
            raise UserError(f"--help {group}: no such group of fields; there are: {', '.join(self._groups()) or 'none'}")
        shown = argparse.ArgumentParser(self.prog, usage=self.usage, add_help=False, formatter_class=_Formatter)
        add_fields(shown, within)
        return (self._own_help() + "\n" if group == "all" else "") + shown.format_help().partition("\n\n")[2]

    def _own_help(self) -> str:
        shown = self.add_argument_group("help")
        if not self.fields:
            shown.add_argument("-h", "--help", action="store_true", help="This text")
            return self.format_help()
        shown.add_argument("--help", nargs="?", metavar="GROUP", help="This text; with a GROUP, its config fields")
        shown.add_argument("--help-all", action="store_true", help="All config fields")
        names = [name for name in self.fields if "." not in name]
        if names:
            add_fields(self, {name: self.fields[name] for name in names})
        lines = [f"  {name:<12}{self._about(name)}" for name in self._groups()]
        head = "config fields, each a flag, such as --partition.alpha 0.3; --help GROUP lists:"
        return self.format_help() + "\n" + "\n".join([head, *lines]) + "\n"

    def _groups(self) -> list[str]:
        return list(dict.fromkeys(name.partition(".")[0] for name in self.fields if "." in name))

    def _about(self, group: str) -> str:
        section = ExperimentConfig.__pydantic_fields__[group]  # type: ignore[attr-defined]
        count = sum(name.startswith(f"{group}.") for name in self.fields)
        return f"{in_one_line(section.description)} ({count})"

    def _unknown(self, argument: str) -> str:
        flag = argument.partition("=")[0]
        known = list(self._option_string_actions)
        if inner := [name for name in known if name.startswith(f"{flag}.")]:
            return f"{flag}: is a group of flags; give one of them, such as {inner[0]}"
        nearest = difflib.get_close_matches(flag, known, n=1)
        return f"{flag}: no such flag" + (f", did you mean {nearest[0]}?" if nearest else "") + "; --help lists the flags"


class _Formatter(argparse.HelpFormatter):
    """Names the default of each flag that has one, once."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=24)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        has_default = action.default not in (None, argparse.SUPPRESS, "", 0, False) and action.option_strings
        return f"{text} (default: %(default)s)" if has_default and "(default" not in text else text


def _help_asked(argv: Sequence[str]) -> str | None:
    """The group whose help is asked for: empty for the command's own; None where no help is asked for."""
    for position, argument in enumerate(argv):
        if argument in ("--help-all", "--help_all"):
            return "all"
        if argument in ("-h", "--help"):
            group = argv[position + 1] if position + 1 < len(argv) else ""
            return "" if group.startswith("-") else group
        if argument.startswith("--help="):
            return argument.partition("=")[2]
    return None


def experiment_parser(program: str, description: str) -> Parser:
    """A parser whose flags are the fields of `ExperimentConfig` by their dotted names."""
    parser = Parser(program, description, FIELDS)
    parser.add_argument("--config", default="", metavar="FILE", help="A run's config.yaml or best.yaml; flags override")
    return parser


def add_fields(parser: argparse.ArgumentParser, fields: Mapping[str, FieldInfo]) -> None:
    """A flag for each field, whose text `parse` reads and checks with all the others."""
    groups: dict[str, Any] = {}
    for name, info in fields.items():
        section = name.rpartition(".")[0]
        group = groups[section] = groups.get(section) or parser.add_argument_group(section or "experiment")
        shown = str(info.default).lower() if isinstance(info.default, bool) else str(info.default)
        default = f" (default: {shown})" if shown else ""
        kind = "|".join(["FLOAT", *words_of(info)]) if words_of(info) else METAVARS.get(info.annotation, "TEXT")  # type: ignore[arg-type]
        metavar = f"{{{','.join(choices_of(info))}}}" if choices_of(info) else kind
        text = " ".join(f"{info.description or ''}{default}".split()).replace("%", "%%")
        group.add_argument(f"--{name}", metavar=metavar, default=argparse.SUPPRESS, help=text)


def add_run_flags(parser: Parser, tracker: str = "tensorboard") -> None:
    """Where a run leaves its files, which Ray it uses, and what shows its rounds."""
    add = parser.add_argument
    add("--name", default="", metavar="NAME", help="Folder below --runs (default: from the config)")
    add("--runs", default="runs", metavar="DIR", help="Folder of all runs")
    add("--phases", default="", metavar="PLACE", help="Path, s3:// or gs:// of the phase store")
    add("--address", default="", metavar="CLUSTER", help="HOST:PORT of a Ray, or auto (default: start one)")
    add("--tracker", default=tracker, metavar="A,B", help="tensorboard, wandb, mlflow, trackio; mine.py; none")


def parse(parser: Parser, argv: Sequence[str]) -> tuple[ExperimentConfig, argparse.Namespace]:
    """The config and the other flags; flags override the file of `--config`.

    Raises:
        UserError: An unknown flag or field, a value of the wrong type or out of range, a missing or broken file.

    """
    flags = parser.parse_args(argv)
    stored = _file_fields(flags.config) if flags.config else {}
    return with_overrides(ExperimentConfig(), stored | given_fields(flags)), flags


def given_fields(flags: argparse.Namespace) -> dict[str, Any]:
    """The config fields among the flags that were given, read by their types."""
    return {name: read_text(FIELDS[name], text) for name, text in vars(flags).items() if name in FIELDS}


def _normalised(argv: Sequence[str]) -> list[str]:
    """Dashes in flag names become underscores, and `--data X` becomes `--data.name X`."""
    arguments = []
    for argument in argv:
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            name = name.replace("-", "_")
            name = f"{name}.name" if name in GROUPS_WITH_NAME else name
            argument = f"--{name}{equals}{value}"
        arguments.append(argument)
    return arguments


def _file_fields(path: str) -> dict[str, Any]:
    """The fields of a config file by dotted name; a text is read as that of a flag is."""
    flat = _read_fields(path)
    for name in flat:
        if name not in FIELDS:
            nearest = difflib.get_close_matches(name, FIELDS, n=1)
            raise bad_value(
                "--config", path, f"{name} is no config field" + (f"; did you mean {nearest[0]}?" if nearest else "")
            )
    return {name: read_text(FIELDS[name], value) if isinstance(value, str) else value for name, value in flat.items()}


def _read_fields(path: str) -> dict[str, Any]:
    """The fields of a YAML file by dotted name."""
    text = _config_text(path)
    try:
        aliased = _has_alias(text)
        tree = None if aliased else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:  # ValueError: the 40th of May
        raise UserError(f"--config {path}: is not YAML ({in_one_line(error)})") from error
    if aliased:
        raise UserError(f"--config {path}: has an alias (*name); write its value out")
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise UserError(f"--config {path}: holds no config fields; give a run's config.yaml or best.yaml")
    return flatten(tree)


def _has_alias(text: str) -> bool:
    """Whether YAML has an anchor and its alias: a few lines of them unfold to more than memory holds."""
    return "&" in text and "*" in text and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))


def _config_text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        text = data.decode("utf-8") if len(data) <= MAX_CONFIG_BYTES else ""
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL in the path
        raise UserError(f"--config {path}: cannot be read ({error}); give a run's config.yaml or best.yaml") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise bad_value("--config", path, f"is longer than {MAX_CONFIG_BYTES:,} bytes; give a config.yaml or best.yaml")
    return text


def value_of(flag: str, arguments: Sequence[str]) -> str | None:
    """The value that a flag is given, before the rest is parsed."""
    for position, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
        if argument == flag and position + 1 < len(arguments):
            return arguments[position + 1]
    return None
