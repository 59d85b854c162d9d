"""A preparation from its settings to the store: what `mm_ray.prepare` and its command share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from mm_ray.config import ClientsConfig, DataConfig
from mm_ray.console import PlainConsole
from mm_ray.data.feature_store import REJECTED, check_writable, reopen, write_rejected
from mm_ray.data.prepare import SHARD_CLIPS, ClipResult, PreparePlan, Tick, make_plan, run_here, tasks_of
from mm_ray.data.video_features import has_encoder
from mm_ray.devices import make_deterministic
from mm_ray.errors import bad_value
from mm_ray.prepare.card import write_card
from mm_ray.prepare.estimate import estimate, print_estimate
from mm_ray.prepare.inspect import count_contents, print_facts, read_contents
from mm_ray.prepare.page import write_page
from mm_ray.prepare.summary import Summary, print_summary
from mm_ray.runtime.cpus import usable_cpus

Run = Callable[[Tick], Iterator[list[ClipResult]]]


@dataclass(frozen=True)
class PrepareRequest:
    """What is prepared, into which store, and where the work is done."""

    data: DataConfig
    out: str
    serial: bool = True
    """In this process; else by workers on Ray."""
    address: str = ""
    max_rejected: float = 0.05
    shard_clips: int = SHARD_CLIPS
    num_gpus: float = 0
    """GPUs of each worker, or 1 for this process, on which pretrained encoders compute."""


def prepare_store(request: PrepareRequest) -> Summary:
    """Prepare what is missing in a store, and tell what became of it; `rejected.parquet` is written last.

    Raises:
        UserError: A mistake in the settings or the data, or too many rejects; the store is complete then.

    """
    _check(request)
    plan, console = make_plan(request.data, request.out, _device(request)), PlainConsole()
    check_writable(plan.store)
    run, summary = _runner(plan, request), Summary(len(plan.stored), list(plan.rejected))
    reopen(plan.store)
    columns = (BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_live) as bars:
        task = bars.add_task("", total=len(plan.missing))
        for outcomes in run(lambda clips: bars.update(task, advance=clips)):
            for outcome in outcomes:
                summary.add(outcome)
    write_rejected(plan.store, summary.rejected)
    if plan.stored or summary.num_kept:
        contents = read_contents(plan.store)
        write_card(contents, count_contents(contents, fold=0))
    print_summary(summary, plan.manifest, plan.data.features.audio_s, console)
    if summary.rejected_frac > request.max_rejected:
        problem = f"{summary.rejected_frac:.1%} of the clips were rejected; see {request.out}/{REJECTED}"
        raise bad_value("max_rejected", request.max_rejected, problem)
    as_data = request.out if "/" in request.out else f"./{request.out}"
    console.print(f"store: {request.out}; train on it with --data {as_data}", soft_wrap=True)
    return summary


def estimate_store(request: PrepareRequest) -> None:
    """Count and estimate; nothing is written."""
    _check(request)
    plan = make_plan(request.data, request.out)
    print_estimate(plan, estimate(plan, _estimated_workers(request)), PlainConsole())


def inspect_store(store: str, fold: int, recordings: DataConfig | None = None) -> None:
    """Show the contents of a store, and write a page with some of its clips, and with their sound if `recordings` has it."""
    contents, console = read_contents(store), PlainConsole()
    facts = count_contents(contents, fold)
    print_facts(facts, console)
    console.print(f"page: {write_page(contents, facts, recordings)}", soft_wrap=True)


def _check(request: PrepareRequest) -> None:
    if not 0 <= request.max_rejected <= 1:
        raise bad_value("max_rejected", request.max_rejected, "must be between 0 and 1")
    if request.shard_clips < 1:
        raise bad_value("shard_clips", request.shard_clips, "needs at least 1")


def _device(request: PrepareRequest) -> str:
    """The kind of device that pretrained encoders compute on; `cuda` only where there are some."""
    num_gpus = request.num_gpus
    if not num_gpus:
        return "cpu"
    if not 0 < num_gpus <= 1:
        raise bad_value("num_gpus", num_gpus, "must be between 0 and 1")
    if not has_encoder(request.data):
        raise bad_value("num_gpus", num_gpus, "these features need no pretrained encoder, which alone uses a GPU; leave it out")
    if request.serial and not torch.cuda.is_available():
        raise bad_value("num_gpus", num_gpus, f"torch {torch.__version__} finds no GPU here; leave it out")
    return "cuda"


def _runner(plan: PreparePlan, request: PrepareRequest) -> Run:
    """Where the tasks run; Ray is started only if there is something to do."""
    if request.serial or not plan.missing:
        if plan.settings.device == "cuda":
            make_deterministic()
        return lambda tick: run_here(tasks_of(plan, request.shard_clips, 1), tick)
    from mm_ray.prepare.on_ray import run_on_ray  # ray takes a second to import, which --serial need not wait for

    num_workers = _num_workers(request)
    return lambda tick: run_on_ray(tasks_of(plan, request.shard_clips, num_workers), num_workers, tick, request.num_gpus)


def _num_workers(request: PrepareRequest) -> int:
    if request.serial:
        return 1
    from mm_ray.runtime.cluster import connect
    from mm_ray.runtime.placement import num_fitting

    cluster = connect(request.address)
    num_workers = max(int(cluster.num_cpus), 1)
    if not request.num_gpus:
        return num_workers
    on_gpus = num_fitting(ClientsConfig(num_cpus=1, num_gpus=request.num_gpus), cluster.nodes)
    if not on_gpus:
        raise bad_value("num_gpus", request.num_gpus, f"{cluster.name} has no GPU; leave it out")
    return on_gpus


def _estimated_workers(request: PrepareRequest) -> int:
    """Without a cluster's address Ray need not start to be counted."""
    return _num_workers(request) if request.address else 1 if request.serial else usable_cpus()


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Recent clips per second."""
        speed = task.speed or task.finished_speed
        return Text("" if speed is None else f"{speed:.1f} clips/s")
