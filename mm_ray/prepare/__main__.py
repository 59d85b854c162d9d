"""`python -m mm_ray.prepare SOURCE ROOT --out STORE`: recordings become a feature store."""

from argparse import Namespace
from collections.abc import Sequence

from mm_ray import api
from mm_ray.cli import Parser, given_fields, run_main
from mm_ray.config import FIELDS, DataConfig, ExperimentConfig
from mm_ray.errors import UserError, bad_value
from mm_ray.validation import with_overrides

DESCRIPTION = """Turn recordings into a feature store, on all cores of this machine or of a Ray cluster:
python -m mm_ray.prepare SOURCE ROOT --out STORE; then train with --data STORE. SOURCE is a data set of mm_ray/data/datasets or
your own (mine.py, lab.mine). The same command resumes where it stopped, and also prepares recordings that were added since.
A recording that cannot be used does not stop it: STORE/rejected.parquet lists it with the reason."""

SHORT = {
    "classes": "data.classes",
    "annotations": "data.annotations",
    "weights": "data.video_weights",
    "group_pattern": "data.group_pattern",
    "label_column": "data.label_column",
}
"""`--classes X` stands for `--data.classes X`."""
NO_FLAGS = ("data.name", "data.root", "data.dev_from_train")
"""SOURCE and ROOT give the first two; a store keeps the splits of its data set."""


def main(argv: Sequence[str]) -> None:
    """Parse the flags, prepare the missing clips, print a summary."""
    data, flags = parse_flags(argv)
    if flags.inspect or flags.dry_run:
        from mm_ray.prepare.run import PrepareRequest, estimate_store, inspect_store

        if flags.inspect:
            inspect_store(flags.inspect, data.fold, data if flags.source else None)
        else:
            estimate_store(PrepareRequest(data, flags.out, flags.serial, flags.address))
        return
    limits = {"max_rejected": flags.max_rejected, "shard_clips": flags.shard_clips}
    api.prepare_data(data, flags.out, flags.serial, flags.address, **limits, num_gpus=flags.num_gpus)


def parse_flags(argv: Sequence[str]) -> tuple[DataConfig, Namespace]:
    """The data set to prepare, and the other flags.

    Raises:
        UserError: An unknown flag, a value of the wrong type or out of range, a missing SOURCE, ROOT or --out.

    """
    flags = make_parser().parse_args([_long(argument) for argument in argv])
    _check(flags)
    named = {"data.name": flags.source or DataConfig().name, "data.root": flags.root}
    return with_overrides(ExperimentConfig(), given_fields(flags) | named).data, flags


def make_parser() -> Parser:
    """The command's flags."""
    fields = {name: info for name, info in FIELDS.items() if name.startswith("data.") and name not in NO_FLAGS}
    parser = Parser("mm_ray.prepare", DESCRIPTION, fields)
    add = parser.add_argument
    add("source", metavar="SOURCE", nargs="?", default="", help="folder, csv, ucf101, activitynet, crema_d, ...")
    add("root", metavar="ROOT", nargs="?", default="", help="Folder of the recordings: a path, s3:// or gs://")
    add("--out", default="", metavar="STORE", help="New folder, or one to resume; also s3://, gs://")
    add("--max_rejected", type=float, default=0.05, metavar="FRAC", help="Exit code 2 if a larger fraction is rejected")
    add("--shard_clips", type=int, default=64, metavar="N", help="Maximum number of clips per shard")
    add("--address", default="", metavar="CLUSTER", help="HOST:PORT of a Ray, or auto (default: start one)")
    text = "GPUs per worker, such as 0.25, for features of pretrained encoders (default: 0, on CPUs)"
    add("--num_gpus", type=float, default=0.0, metavar="FRAC", help=text)
    add("--inspect", default="", metavar="STORE", help="Instead: show a store, write a page; with SOURCE ROOT it has sound")
    add("--dry_run", action="store_true", help="Count and estimate; write nothing")
    add("--serial", action="store_true", help="Without Ray, in this process: same bits")
    return parser


def _long(argument: str) -> str:
    """Short names become their long ones."""
    name, equals, value = argument.removeprefix("--").partition("=")
    name = name.replace("-", "_")
    return f"--{SHORT[name]}{equals}{value}" if argument.startswith("--") and name in SHORT else argument


def _check(flags: Namespace) -> None:
    if flags.inspect:
        return
    if flags.dry_run and flags.num_gpus:
        raise bad_value("num_gpus", flags.num_gpus, "--dry_run estimates for CPUs; leave out one of the two")
    if not flags.source:
        raise UserError("SOURCE: name a data set, such as folder; python -m mm_ray.prepare --help lists what is needed")
    if "/" in flags.source and not flags.source.partition(":")[0].endswith(".py"):
        raise bad_value("SOURCE", flags.source, "is a path; give the data set first, such as folder, then the path")
    if not flags.out:
        raise UserError("--out: name the store to write with --out")


if __name__ == "__main__":
    run_main(main)
