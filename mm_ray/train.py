"""`python -m mm_ray.train`: one experiment, as a Ray Train job or (`--serial`) in this process."""

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

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
    print_clients(result.values.get("clients", {}))
    for line in result.values.get("refused", []):
        print(f"warning: {line}")
    if "student" in result.test:
        print(f"student:     {result.folder / 'student.safetensors'}")
    if (result.folder / "tensorboard").exists():
        print(f"tensorboard --logdir {quote(str(result.folder / 'tensorboard'))}")


MEASURES = {
    "student": "student accuracy",
    "control": "control accuracy",
    "control_all": "control_all acc.",
    "loss": "training loss",
    "clips": "clips",
}


def print_clients(spreads: Mapping[str, Mapping[str, Any]]) -> None:
    """The spread over clients, a line per measure."""
    if not spreads:
        return
    print(f"\n{'over clients':<18}{'mean':>8}{'worst 10 %':>12}{'sd':>8}{'clients':>9}")
    for measure, head in MEASURES.items():
        if one := spreads.get(measure):
            digits = 1 if measure == "clips" else 3
            sd = "" if one["sd"] is None else f"{one['sd']:.{digits}f}"
            print(f"{head:<18}{one['mean']:>8.{digits}f}{one['worst']:>12.{digits}f}{sd:>8}{one['n']:>9}")


make_callable(__name__)

if __name__ == "__main__":
    run_main(main)
