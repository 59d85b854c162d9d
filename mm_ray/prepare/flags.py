"""The flags of `python -m mm_ray.prepare`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from mm_ray.cli import refuse_aliases
from mm_ray.config import DataConfig
from mm_ray.errors import UserError, bad_value, in_one_line, led_to

DESCRIPTION = """Turn recordings into a feature store, on all cores of this machine or of a Ray cluster:
python -m mm_ray.prepare SOURCE ROOT --out STORE; then train with --data STORE. SOURCE is a data set of mm_ray/data/manifests or
a dotted name of your own module. The same command goes on where it was stopped, and prepares what came since. A recording that
cannot be used never stops it: it is listed with its reason in STORE/rejected.parquet."""

SHORT = {
    "classes": "data.classes",
    "annotations": "data.annotations",
    "weights": "data.video_weights",
    "group_pattern": "data.group_pattern",
}
"""`--classes X` stands for `--data.classes X`."""


def parse_flags(argv: Sequence[str]) -> tuple[DataConfig, Any]:
    """The data set to prepare, and the other flags.

    Raises:
        UserError: An unknown flag, a value of the wrong type or out of range, a missing SOURCE, ROOT or --out.

    """
    parser = _parser()
    refuse_aliases(argv)
    try:
        flags = parser.parse_args([_normalised(argument) for argument in argv])
        data = parser.instantiate_classes(flags).data
    except (ArgumentError, ValueError, TypeError) as error:
        raise UserError(_one_line(error)) from error
    _check(flags)
    return replace(data, name=flags.source, root=flags.root), flags


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m mm_ray.prepare", description=DESCRIPTION, exit_on_error=False)
    parser.add_argument("source", nargs="?", default="", type=str, help="folder, csv, ucf101, activitynet, crema_d, ravdess")
    parser.add_argument("root", nargs="?", default="", type=str, help="Folder of the recordings: a path, s3:// or gs://")
    parser.add_argument(
        "--out", type=str, default="", help="The store: a new folder or one to go on with; a path, s3:// or gs://"
    )
    parser.add_argument("--max_rejected", type=float, default=0.05, help="Exit code 2 above this fraction of rejects (0.05)")
    parser.add_argument("--shard_clips", type=int, default=64, help="At most so many clips per shard (64)")
    parser.add_argument(
        "--address", type=str, default="", help="Ray cluster to join: auto, HOST:PORT (default: start one here)"
    )
    parser.add_argument(
        "--inspect", type=str, default="", help="Instead: show what this store holds, and write a page of clips"
    )
    parser.add_argument("--dry_run", action="store_true", help="Count and estimate; write nothing")
    parser.add_argument("--serial", action="store_true", help="Run in this process without Ray: same bits, easy to debug")
    parser.add_class_arguments(DataConfig, "data", skip={"name", "root", "dev_from_train"})
    return parser


def _normalised(argument: str) -> str:
    """Dashes in flag names become underscores, and short names their long ones."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument[2:].partition("=")
    name = name.replace("-", "_")
    return f"--{SHORT.get(name, name)}{equals}{value}"


def _check(flags: Any) -> None:
    if flags.inspect:
        return
    if not flags.source:
        raise UserError("SOURCE: name a data set, such as folder; python -m mm_ray.prepare --help lists what is needed")
    if "/" in flags.source:
        raise bad_value("SOURCE", flags.source, "is a path; first the kind of data set, such as folder, then its path")
    if not flags.out:
        raise UserError("out: name the store to write with --out")
    if not 0 <= flags.max_rejected <= 1:
        raise bad_value("max_rejected", flags.max_rejected, "is a fraction in [0, 1]")
    if flags.shard_clips < 1:
        raise bad_value("shard_clips", flags.shard_clips, "needs at least 1")


def _one_line(error: BaseException) -> str:
    for cause in led_to(error):
        if isinstance(cause, UserError):
            return str(cause)
    return f"{in_one_line(error).removeprefix('Parser key ')}; --help lists the flags"
