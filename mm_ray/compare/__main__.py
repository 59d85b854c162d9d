"""`python -m mm_ray.compare`: methods x missing video x heterogeneity x seeds x folds, on equal terms."""

from collections.abc import Sequence
from typing import Any

from mm_ray import api
from mm_ray.cli import Parser, add_run_flags, experiment_parser, given_fields, parse, run_main
from mm_ray.compare.cells import each_once
from mm_ray.errors import bad_value

DESCRIPTION = """Compare methods on equal terms: same clients, cohorts, batches and number of rounds, same tuning budget.
Methods share the phases that are the same. Every cell's result is kept, so the same command resumes a stopped comparison.
Writes compare.csv (a row for each cell) and compare.html below RUNS/NAME."""


def main(argv: Sequence[str]) -> None:
    """Parse the flags, run the cells, print where the tables are."""
    config, flags = parse(make_parser(), argv)
    if method := given_fields(flags).get("method"):
        raise bad_value("--method", method, "has no effect in a comparison; name it in --methods")
    methods = each_once("methods", [name.strip() for name in flags.methods.split(",") if name.strip()], flags.methods)
    if not methods:
        raise bad_value("--methods", flags.methods, "must name a method; write modality_mirror,control")
    result = api.compare(
        methods,
        config=config,
        seeds=_seeds(flags.seeds),
        video_missing=_numbers("video_missing", flags.video_missing),
        alphas=_numbers("alphas", flags.alphas),
        folds="all" if flags.folds == "all" else _numbers("folds", flags.folds, int),
        tune=flags.tune,
        executor="serial" if flags.serial else "ray",
        address=flags.address,
        name=flags.name,
        runs=flags.runs,
        phases=flags.phases,
        tracker=flags.tracker,
        figures=flags.figures,
    )
    print(f"table:  {result.folder / 'compare.csv'}\nreport: {result.report()}")


def make_parser() -> Parser:
    """The command's flags."""
    parser = experiment_parser("mm_ray.compare", DESCRIPTION)
    add = parser.add_argument
    add("--methods", default=",".join(api.METHODS), metavar="A,B", help="Methods (default: eight methods)")
    add("--video_missing", default="", metavar="Q,Q", help="Fractions, such as .2,.5,.8; partition.video_missing")
    add("--alphas", default="", metavar="A,A", help="Dirichlet alphas, such as .1,1; partition.alpha")
    add("--seeds", default="3", metavar="N", help="Number of seeds, or a list such as 0,3,7")
    add("--folds", default="", metavar="LIST", help="A list such as 0,1,2, or all; data.fold")
    add("--tune", type=int, default=0, metavar="N", help="Tuning trials per method, on dev, before the test")
    add("--figures", action="store_true", help="Write figures/: the page's, as SVG and PDF")
    add("--serial", action="store_true", help="Without Ray, in this process: same bits")
    add_run_flags(parser, tracker="none")
    return parser


def _seeds(text: str) -> int | list[int]:
    numbers = _numbers("seeds", text, int)
    if not numbers:
        raise bad_value("--seeds", text, "gives no seed; write how many, such as 3, or a list such as 0,3,7")
    return numbers if "," in text else int(numbers[0])


def _numbers(flag: str, text: str, kind: type[Any] = float) -> list[Any]:
    """The numbers of a list, each once.

    Raises:
        UserError: A piece is not such a number, or occurs twice.

    """
    try:
        numbers = [kind(piece) for piece in text.split(",") if piece.strip()]
    except ValueError as error:
        remedy = "must be whole numbers, such as 0,1,2" if kind is int else "must be numbers, such as 0.2,0.5"
        raise bad_value(f"--{flag}", text, remedy) from error
    return each_once(flag, numbers, text)


if __name__ == "__main__":
    run_main(main)
