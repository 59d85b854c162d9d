"""What the entry points share: flags from the config's dataclasses, and errors that end in one line."""

import difflib
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, TextIO

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from mm_ray.config import ExperimentConfig, flatten, to_dict
from mm_ray.errors import EnvironmentFailure, UserError, bad_value, in_one_line, led_to
from mm_ray.storage import names_full_disk

GROUPS_WITH_NAME = ("data",)
"""`--data X` stands for `--data.name X`."""
FIELDS = tuple(flatten(to_dict(ExperimentConfig())))
"""What a config file may name. Not a group of fields: jsonargparse would import a class that its text names."""
MAX_CONFIG_BYTES = 100_000
"""A complete config has less than 3,000; one of 400,000, a list, took more than 20 s to read."""


def run_main(main: Callable[[Sequence[str]], None]) -> None:
    """Run an entry point: a user's mistake, a full disk, or a file that the system refuses is one line on stderr and exit code
    2, a machine that fails (Ray does not start) one line and 1; TERM is taken like ^C, until the last word is said.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with names_full_disk("the disk"), _ends_without_readers():
            main(sys.argv[1:])
    except UserError as error:
        _end_with(error)
    except OSError as error:
        if error.filename is None:
            raise
        _end_with(UserError(f"{error.filename}: cannot be used ({error.strerror}); check what lies there"))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last stored round", file=sys.stderr)
        sys.exit(130)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # amid Ray's shutdown they would end in a traceback, or a crash
            signal.signal(number, signal.SIG_IGN)


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


def _end_with(error: UserError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1 if isinstance(error, EnvironmentFailure) else 2)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def experiment_parser(program: str, description: str) -> ArgumentParser:
    """A parser whose flags are the fields of `ExperimentConfig` by their dotted names."""
    parser = ArgumentParser(prog=f"python -m {program}", description=description, exit_on_error=False)
    parser.add_argument("--config", type=str, help="YAML file of config fields (a run's config.yaml, a study's best.yaml)")
    parser.add_class_arguments(ExperimentConfig)
    return parser


def add_run_flags(parser: ArgumentParser) -> None:
    """Where a run leaves its files, and which Ray it uses."""
    parser.add_argument("--name", type=str, default="", help="Name of the run, and of its folder below --runs")
    parser.add_argument("--runs", type=str, default="runs", help="Folder of all runs (default: runs)")
    parser.add_argument("--phases", type=str, default="", help="Phase store: a path or s3://, gs:// (default: RUNS/phases)")
    parser.add_argument(
        "--address", type=str, default="", help="Ray cluster to join: auto, HOST:PORT (default: start one here)"
    )


def parse(parser: ArgumentParser, argv: Sequence[str]) -> tuple[ExperimentConfig, Namespace]:
    """The config and the other flags; flags override the file of `--config`.

    Raises:
        UserError: An unknown flag or field, a value of the wrong type or out of range, a missing or broken file.

    """
    arguments = _normalised(argv)
    flags = parse_flags(parser, [*_file_arguments(arguments), *arguments])
    try:
        config = parser.instantiate_classes(flags)
    except (ValueError, TypeError) as error:
        raise UserError(_one_line(error, parser)) from error
    values = {field.name: config[field.name] for field in fields(ExperimentConfig)}
    return ExperimentConfig(**values), flags


def parse_flags(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """The flags alone.

    Raises:
        UserError: An unknown or a missing flag, or a value of the wrong type.

    """
    refuse_aliases(arguments)
    try:
        return parser.parse_args(list(arguments))
    except (ArgumentError, ValueError, TypeError) as error:
        raise UserError(_one_line(error, parser)) from error


def refuse_aliases(arguments: Sequence[str]) -> None:
    """Refuse a flag whose value has an alias of YAML, as which jsonargparse reads it.

    Raises:
        UserError: It names the flag.

    """
    for argument in arguments:
        flag, _, value = argument.partition("=") if argument.startswith("--") else ("a flag", "", argument)
        with suppress(yaml.YAMLError):
            if _has_alias(value):
                raise UserError(f"{flag}: has an alias (*name); write its value out")


def _has_alias(text: str) -> bool:
    """Whether YAML has an anchor and its alias: a few lines of them unfold to more than memory holds."""
    return "&" in text and "*" in text and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))


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


def _file_arguments(arguments: Sequence[str]) -> list[str]:
    """The file of `--config` as flags, so that a flag and a field are checked alike."""
    path = value_of("--config", arguments)
    if path is None:
        return []
    flat = _read_fields(path)
    for name in flat:
        if name not in FIELDS:
            nearest = difflib.get_close_matches(name, FIELDS, n=1)
            raise bad_value(
                "--config", path, f"{name} is no config field" + (f"; did you mean {nearest[0]}?" if nearest else "")
            )
    return [f"--{name}={_as_flag(path, name, value)}" for name, value in flat.items()]


def _read_fields(path: str) -> dict[str, Any]:
    """The fields of a YAML file by dotted name."""
    text = _config_text(path)
    try:
        aliased = _has_alias(text)
        tree = None if aliased else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:  # ValueError: the 40th of May
        raise UserError(f"--config={path}: is not YAML ({in_one_line(error)})") from error
    if aliased:
        raise UserError(f"--config={path}: has an alias (*name); write its value out")
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise UserError(f"--config={path}: holds no config fields; give a run's config.yaml or best.yaml")
    return flatten(tree)


def _config_text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        text = data.decode("utf-8") if len(data) <= MAX_CONFIG_BYTES else ""
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL in the path
        raise UserError(f"--config={path}: cannot be read ({error}); give a run's config.yaml or best.yaml") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise bad_value("--config", path, f"is longer than {MAX_CONFIG_BYTES:,} bytes; give a config.yaml or best.yaml")
    return text


def _as_flag(path: str, name: str, value: Any) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except TypeError as error:
        raise bad_value("--config", path, f"{name} is a {type(value).__name__}, which no field takes; quote it") from error


def value_of(flag: str, arguments: Sequence[str]) -> str | None:
    """The value that a flag is given, before the rest is parsed."""
    for position, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
        if argument == flag and position + 1 < len(arguments):
            return arguments[position + 1]
    return None


def _flag_names(parser: ArgumentParser) -> list[str]:
    return [option[2:] for action in parser._actions for option in action.option_strings if option.startswith("--")]


def _one_line(error: Exception, parser: ArgumentParser) -> str:
    for cause in led_to(error):
        if isinstance(cause, UserError):
            return str(cause)
    text = in_one_line(error)
    if text.lower().startswith("unrecognized arguments:"):
        flag = text.partition(":")[2].split()[0].partition("=")[0]
        nearest = difflib.get_close_matches(flag, [f"--{name}" for name in _flag_names(parser)], n=1)
        text = f"{flag}: no such flag" + (f", did you mean {nearest[0]}?" if nearest else "")
    return f"{text.removeprefix('Parser key ')}; --help lists the flags"
