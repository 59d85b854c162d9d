"""`python -m mm_ray.predict STUDENT.safetensors a.wav folder '*.flac' - ...`: what a student hears in recordings."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mm_ray.cli import Parser, run_main
from mm_ray.errors import UserError, bad_value, printable

if TYPE_CHECKING:
    from mm_ray.prediction import HeardWindows

DESCRIPTION = """Print the label and its probability for each recording, one line per file. Any format that FFmpeg reads, any
sample rate, mono or stereo, any length: a recording is cut into windows, whose probabilities are averaged. A file that cannot
be read gets a line on stderr, the others are predicted, the exit code is 2."""


def main(argv: Sequence[str]) -> None:
    """Parse the flags and predict file by file, several at once, in the order in which they are named."""
    flags = make_parser().parse_args(argv)
    if flags.jobs < 1:
        raise bad_value("jobs", flags.jobs, "must be at least 1")
    if flags.address and flags.device == "cuda":
        raise bad_value("device", "cuda", "with --address the cluster's CPUs predict; leave out one of the two")
    from mm_ray.models.student import load_student  # torch, which --help need not wait for
    from mm_ray.prediction import predict_all, windows_of

    own = flags.encoder, flags.features
    student = load_student(Path(flags.student), *own, device="cpu" if flags.address else flags.device)
    windows = windows_of(student, flags.window, flags.hop)
    if flags.address:
        from mm_ray.runtime.prediction import predict_on_ray  # ray takes a second to import

        answers = predict_on_ray(Path(flags.student), own, flags.files, windows, flags.address)
    else:
        answers = predict_all(student, flags.files, windows, flags.jobs)
    if not all([_printed(answer, flags) for answer in answers]):
        sys.exit(2)


def make_parser() -> Parser:
    """The command's flags."""
    parser = Parser("mm_ray.predict", DESCRIPTION)
    parser.add_argument("student", help="A run's student.safetensors (student.json lies beside it)")
    parser.add_argument("files", nargs="+", help="Recordings, folders of them, patterns such as '*.wav', or - for one on stdin")
    parser.add_argument("--json", action="store_true", help="One JSON object per line: file, label, probability, probabilities")
    parser.add_argument("--windows", action="store_true", help="One line per window, with its begin and end in seconds")
    parser.add_argument("--window", type=float, help="Length of a window, seconds (default: that of the training clips)")
    parser.add_argument("--hop", type=float, help="Shift between windows, seconds (default: half a window)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="Files at a time (default: one per CPU)")
    text = "HOST:PORT of a Ray cluster, or auto, which predicts the files; its nodes read them by the same names"
    parser.add_argument("--address", default="", metavar="CLUSTER", help=text)
    text = "Where the student runs; auto: on this machine's GPU if torch finds one (default: auto)"
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help=text)
    parser.add_argument("--encoder", default="", help="The student's encoder, if it is your own: mine.py:thing")
    parser.add_argument("--features", default="", help="The student's audio features, if they are your own: mine.py:thing")
    return parser


def _printed(answer: "HeardWindows | UserError", flags: argparse.Namespace) -> bool:
    """Print what was heard in a recording, or why nothing was; whether there is an answer."""
    if isinstance(answer, UserError):
        print(f"error: {answer}", file=sys.stderr)
        return False
    if answer.is_silent:
        print(f"warning: {printable(answer.file)}: is silent; its label means nothing", file=sys.stderr)
    for row in answer.windows_to_json() if flags.windows else [answer.to_json()]:
        times = f"{row['start_s']:.2f}\t{row['end_s']:.2f}\t" if flags.windows else ""
        line = f"{times}{printable(row['label'])}\t{row['probability']:.4f}\t{printable(answer.file)}"
        print(json.dumps(row) if flags.json else line, flush=True)
    return True


if __name__ == "__main__":
    run_main(main)
