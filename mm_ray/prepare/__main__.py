"""`python -m mm_ray.prepare SOURCE ROOT --out STORE`: recordings become a feature store."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console

from mm_ray.cli import run_main
from mm_ray.console import PlainConsole
from mm_ray.data.feature_store import REJECTED, check_writable, reopen, write_rejected
from mm_ray.errors import bad_value
from mm_ray.prepare.estimate import estimate, print_estimate
from mm_ray.prepare.flags import parse_flags
from mm_ray.prepare.inspect import print_contents, read_contents
from mm_ray.prepare.page import write_page
from mm_ray.prepare.plan import PreparePlan, make_plan
from mm_ray.prepare.progress import ClipProgress
from mm_ray.prepare.summary import Summary, print_summary
from mm_ray.prepare.work import ClipResult, Tick, run_here, tasks_of
from mm_ray.runtime.cpus import usable_cpus

Run = Callable[[Tick], Iterator[list[ClipResult]]]


def main(argv: Sequence[str]) -> None:
    """Parse the flags, prepare what is missing, tell what became of it."""
    data, flags = parse_flags(argv)
    console = PlainConsole()
    if flags.inspect:
        inspect(flags.inspect, data.fold, console)
        return
    plan = make_plan(data, flags.out)
    if flags.dry_run:
        print_estimate(plan, estimate(plan, _dry_workers(flags)), console)
        return
    check_writable(plan.store)
    summary = prepare(plan, _runner(plan, flags), console)
    print_summary(summary, plan.manifest, plan.data.features.audio_s, console)
    console.print(f"store: {flags.out}; train on it with --data {_as_data(flags.out)}", soft_wrap=True)
    if summary.rejected_frac > flags.max_rejected:
        problem = f"{summary.rejected_frac:.1%} of the clips were rejected; see {flags.out}/{REJECTED}"
        raise bad_value("max_rejected", flags.max_rejected, problem)


def inspect(store: str, fold: int, console: Console) -> None:
    """Tell what is in a store, and write a page with some of its clips."""
    contents = read_contents(store)
    print_contents(contents, fold, console)
    console.print(f"page: {write_page(contents)}", soft_wrap=True)


def prepare(plan: PreparePlan, run: Run, console: Console) -> Summary:
    """Prepare what is missing; `rejected.parquet` is written last."""
    summary = Summary(plan.num_stored, list(plan.rejected))
    reopen(plan.store)
    with ClipProgress(len(plan.missing), console) as progress:
        for outcomes in run(progress.tick):
            for outcome in outcomes:
                summary.add(outcome)
    write_rejected(plan.store, summary.rejected)
    return summary


def _runner(plan: PreparePlan, flags: Any) -> Run:
    """Where the tasks run; Ray is started only if there is something to do."""
    if flags.serial or not plan.missing:
        return lambda tick: run_here(tasks_of(plan, flags.shard_clips, 1), tick)
    from mm_ray.prepare.on_ray import run_on_ray  # ray takes a second to import, which --serial need not wait for

    num_workers = _num_workers(flags)
    return lambda tick: run_on_ray(tasks_of(plan, flags.shard_clips, num_workers), num_workers, tick)


def _num_workers(flags: Any) -> int:
    if flags.serial:
        return 1
    from mm_ray.runtime.cluster import connect

    return max(int(connect(flags.address).num_cpus), 1)


def _dry_workers(flags: Any) -> int:
    """Without a cluster's address Ray need not start to be counted."""
    return _num_workers(flags) if flags.address else 1 if flags.serial else usable_cpus()


def _as_data(store: str) -> str:
    return store if "/" in store else f"./{store}"


if __name__ == "__main__":
    run_main(main)
