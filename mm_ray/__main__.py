"""`mm-ray COMMAND FLAGS` and `python -m mm_ray COMMAND FLAGS`: the commands under one name."""

import importlib
from collections.abc import Sequence

from mm_ray import __version__
from mm_ray.cli import COMMANDS, run_main
from mm_ray.errors import UserError


def main(argv: Sequence[str]) -> None:
    """Run a command, which gets the flags behind its name.

    Raises:
        UserError: An unknown command, or what the command raises.

    """
    name = argv[0] if argv else "--help"
    if name in ("-h", "--help"):
        print("usage: mm-ray COMMAND [FLAGS]\n")
        print("\n".join(f"  {command:<12}{about}" for command, (_, about) in COMMANDS.items()))
        print("\nmm-ray COMMAND --help lists its flags")
    elif name == "--version":
        print(f"mm_ray {__version__}")
    elif name in COMMANDS:
        importlib.import_module(COMMANDS[name][0]).main(argv[1:])
    else:
        raise UserError(f"{name}: no such command; there are: {', '.join(COMMANDS)}")


def console_script() -> None:
    """What `mm-ray` starts."""
    run_main(main)


if __name__ == "__main__":
    run_main(main)
