"""`python -m mm_ray.prepare SOURCE ROOT --out STORE`: recordings become a feature store."""

from collections.abc import Sequence

from mm_ray import api
from mm_ray.cli import run_main
from mm_ray.prepare.flags import make_parser as make_parser
from mm_ray.prepare.flags import parse_flags


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


if __name__ == "__main__":
    run_main(main)
