"""`python -m mm_ray.train`: one experiment, as a Ray Train job or (`--serial`) in this process."""

from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING

from mm_ray import api
from mm_ray.callable_module import make_callable
from mm_ray.cli import Parser, add_run_flags, experiment_parser, parse, run_main

if TYPE_CHECKING:
    from mm_ray.results import TrainResult

DESCRIPTION = """Train one method once: phase 1 (modality-wise FL and the audiovisual teacher), then phase 2 (federated
distillation into an audio-only student). Every config field is a flag. Stored rounds are reused, so a run that was killed
goes on when the same command is given again."""


def main(argv: Sequence[str]) -> None:
    """Parse the flags, run, print the result."""
    config, flags = parse(make_parser(), argv)
    where = {"name": flags.name, "runs": flags.runs, "phases": flags.phases, "address": flags.address, "tracker": flags.tracker}
    print_result(api.train(config, control=flags.control, executor="serial" if flags.serial else "ray", **where))


def make_parser() -> Parser:
    """The command's flags."""
    parser = experiment_parser("mm_ray.train", DESCRIPTION)
    add_run_flags(parser)
    parser.add_argument("--serial", action="store_true", help="Without Ray, in this process: same bits")
    parser.add_argument("--control", action="store_true", help="Also run both cross-entropy controls")
    return parser


def print_result(result: "TrainResult") -> None:
    """The run's accuracies and files."""
    print(f"\n{'on the test set':<18}{'top-1':>8}{'UAR':>8}{'macro-F1':>10}")
    for role, scores in result.test.items():
        print(f"{role:<18}{scores.top1:>8.3f}{scores.uar:>8.3f}{scores.macro_f1:>10.3f}")
    print(
        f"\nbest round {result.best_round}; {result.rounds_computed} rounds computed, "
        f"{result.rounds_reused} taken from the phase store, {result.seconds:.1f} s"
    )
    for line in result.values.get("refused", []):
        print(f"warning: {line}")
    if "student" in result.test:
        print(f"student:     {result.folder / 'student.safetensors'}")
    if (result.folder / "tensorboard").exists():
        print(f"tensorboard --logdir {quote(str(result.folder / 'tensorboard'))}")


make_callable(__name__)

if __name__ == "__main__":
    run_main(main)
