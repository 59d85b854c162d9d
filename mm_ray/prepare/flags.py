"""The flags of `python -m mm_ray.prepare`."""

from argparse import Namespace
from collections.abc import Sequence

from mm_ray.cli import Parser, add_fields, given_fields
from mm_ray.config import FIELDS, DataConfig, ExperimentConfig
from mm_ray.errors import UserError, bad_value
from mm_ray.validation import with_overrides

DESCRIPTION = """Turn recordings into a feature store, on all cores of this machine or of a Ray cluster:
python -m mm_ray.prepare SOURCE ROOT --out STORE; then train with --data STORE. SOURCE is a data set of mm_ray/data/datasets or
your own (mine.py, lab.mine). The same command goes on where it was stopped, and prepares what came since. A recording that
cannot be used never stops it: it is listed with its reason in STORE/rejected.parquet."""

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


def parse_flags(argv: Sequence[str]) -> tuple[DataConfig, Namespace]:
    """The data set to prepare, and the other flags.

    Raises:
        UserError: An unknown flag, a value of the wrong type or out of range, a missing SOURCE, ROOT or --out.

    """
    flags = _parser().parse_args([_long(argument) for argument in argv])
    _check(flags)
    named = {"data.name": flags.source or DataConfig().name, "data.root": flags.root}
    return with_overrides(ExperimentConfig(), given_fields(flags) | named).data, flags


def _parser() -> Parser:
    parser = Parser("mm_ray.prepare", DESCRIPTION)
    add = parser.add_argument
    add("source", metavar="SOURCE", nargs="?", default="", help="folder, csv, ucf101, activitynet, crema_d, ravdess, ...")
    add("root", metavar="ROOT", nargs="?", default="", help="Folder of the recordings: a path, s3:// or gs://")
    add("--out", default="", help="The store: a new folder or one to go on with; a path, s3:// or gs://")
    add("--max_rejected", type=float, default=0.05, help="Exit code 2 above this fraction of rejects (default: 0.05)")
    add("--shard_clips", type=int, default=64, help="Most clips in a shard (default: 64)")
    add("--address", default="", help="Ray cluster to join: auto, HOST:PORT (default: start one here)")
    add("--inspect", default="", help="Instead: show what this store holds, and write a page of clips")
    add("--dry_run", action="store_true", help="Count and estimate; write nothing")
    add("--serial", action="store_true", help="Run in this process without Ray: same bits, easy to debug")
    fields = {name: info for name, info in FIELDS.items() if name.startswith("data.")}
    add_fields(parser, {name: info for name, info in fields.items() if name not in NO_FLAGS})
    return parser


def _long(argument: str) -> str:
    """Short names become their long ones."""
    name, equals, value = argument.removeprefix("--").partition("=")
    name = name.replace("-", "_")
    return f"--{SHORT[name]}{equals}{value}" if argument.startswith("--") and name in SHORT else argument


def _check(flags: Namespace) -> None:
    if flags.inspect:
        return
    if not flags.source:
        raise UserError("SOURCE: name a data set, such as folder; python -m mm_ray.prepare --help lists what is needed")
    if "/" in flags.source and not flags.source.partition(":")[0].endswith(".py"):
        raise bad_value("SOURCE", flags.source, "is a path; first the kind of data set, such as folder, then its path")
    if not flags.out:
        raise UserError("--out: name the store to write with --out")
    if not 0 <= flags.max_rejected <= 1:
        raise bad_value("max_rejected", flags.max_rejected, "must be between 0 and 1")
    if flags.shard_clips < 1:
        raise bad_value("shard_clips", flags.shard_clips, "needs at least 1")
