"""`mm-ray completion bash` and `zsh`: the script by which a shell completes commands and flags."""

import argparse
import importlib
from collections.abc import Sequence

import shtab

from mm_ray.cli import COMMANDS, Parser, add_fields
from mm_ray.tune.flags import SEARCHERS

SHELLS = ("bash", "zsh")
DESCRIPTION = """Print the script by which a shell completes the commands of mm-ray, their flags and the flags' choices:
eval "$(mm-ray completion bash)" in ~/.bashrc, or "$(mm-ray completion zsh)" in ~/.zshrc after compinit."""
CHOICES = {"searcher": SEARCHERS}
"""Of flags that also take own code, so that argparse must not refuse other words."""
FILES, FOLDERS = ("FILE", "SPACE", "student", "files"), ("DIR", "PLACE", "ROOT", "STORE")
"""What flags and positional arguments take, by the name in their help."""


def main(argv: Sequence[str]) -> None:
    """Print the script."""
    parser = make_parser()
    print(shtab.complete(_all_commands(), shell=parser.parse_args(argv).shell))


def make_parser() -> Parser:
    """The command's flags."""
    parser = Parser("mm_ray completion", DESCRIPTION)
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=" or ".join(SHELLS))
    return parser


def _all_commands() -> argparse.ArgumentParser:
    """A parser of all commands, with the config fields as flags."""
    program = argparse.ArgumentParser("mm-ray")
    under = program.add_subparsers()
    for name, (module, about) in COMMANDS.items():
        own: Parser = importlib.import_module(module).make_parser()
        add_fields(own, own.fields)
        command = under.add_parser(name, parents=[own], help=about)
        command.add_argument("--help-all", action="store_true", help="Also the config fields")
        for action in command._actions:
            _complete(action)
    return program


def _complete(action: argparse.Action) -> None:
    """What follows a flag: one of its choices, a file or a folder."""
    kind = str(action.metavar or action.dest)
    if action.dest in CHOICES:
        action.choices = CHOICES[action.dest]
    elif kind.startswith("{"):
        action.choices = kind.strip("{}").split(",")
    elif kind in FILES or kind in FOLDERS:
        action.complete = shtab.FILE if kind in FILES else shtab.DIRECTORY  # type: ignore[attr-defined]
