"""`python -m mm_ray.prepare SOURCE ROOT --out STORE`: recordings become a feature store."""

from collections.abc import Sequence

from rich.console import Console

from mm_ray.cli import run_main
from mm_ray.data.store import REJECTED, reopen, write_rejected
from mm_ray.errors import bad_value
from mm_ray.prepare.flags import parse_flags
from mm_ray.prepare.plan import Plan, make_plan
from mm_ray.prepare.progress import ClipProgress
from mm_ray.prepare.summary import Summary, print_summary
from mm_ray.prepare.work import run_here, tasks_of


def main(argv: Sequence[str]) -> None:
    """Parse the flags, prepare what is missing, tell what became of it."""
    data, flags = parse_flags(argv)
    console = Console()
    plan = make_plan(data, flags.out)
    summary = prepare(plan, flags.shard_clips, console)
    print_summary(summary, plan.manifest.notes, console)
    console.print(f"store: {flags.out}; train on it with --data {_as_data(flags.out)}", highlight=False, soft_wrap=True)
    if summary.rejected_frac > flags.max_rejected:
        problem = f"{summary.rejected_frac:.1%} of the clips were rejected; see {flags.out}/{REJECTED}"
        raise bad_value("max_rejected", flags.max_rejected, problem)


def prepare(plan: Plan, shard_clips: int, console: Console) -> Summary:
    """Prepare what is missing; `rejected.parquet` is written last."""
    summary = Summary(plan.num_stored, list(plan.rejected))
    reopen(plan.store)
    with ClipProgress(len(plan.missing), console) as progress:
        for outcome in run_here(tasks_of(plan, shard_clips, 1)):
            summary.add(outcome)
            progress.add(outcome)
    write_rejected(plan.store, summary.rejected)
    return summary


def _as_data(store: str) -> str:
    return store if "/" in store else f"./{store}"


if __name__ == "__main__":
    run_main(main)
