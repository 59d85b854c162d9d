"""`--dry-run`: counts the clips to prepare, and estimates time and size from a few of them."""

import time
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from mm_ray.data.manifest import Rejected
from mm_ray.data.prepare import PreparePlan, Task, extracted
from mm_ray.prepare.summary import print_notes

NUM_TRIED = 12
"""Clips that are decoded for the estimate, evenly spread over the missing ones."""


@dataclass(frozen=True)
class StoreEstimate:
    """Estimated time and size of the missing clips, from a few of them."""

    num_tried: int
    num_bad: int
    """Of those tried, how many cannot be used."""
    seconds: float
    """With `num_workers`, without the start of Ray."""
    num_workers: int
    num_bytes: int
    """Features, before compression."""


def estimate(plan: PreparePlan, num_workers: int) -> StoreEstimate:
    """Decode a few of the missing clips in this process and multiply; nothing is written."""
    count = min(NUM_TRIED, len(plan.missing))
    some = tuple(plan.missing[i * len(plan.missing) // count] for i in range(count))
    list(extracted(_task(plan, some[:1])))  # the first clip pays for what is set up once
    start = time.perf_counter()
    results = list(extracted(_task(plan, some)))
    seconds = time.perf_counter() - start
    good = [rows for rows in results if not isinstance(rows, Rejected)]
    scale = len(plan.missing) / max(count, 1)
    num_bytes = int(
        scale * sum(row.audio_TF.nbytes + (0 if row.video_SD is None else row.video_SD.nbytes) for rows in good for row in rows)
    )
    return StoreEstimate(count, count - len(good), seconds * scale / num_workers, num_workers, num_bytes)


def print_estimate(plan: PreparePlan, found: StoreEstimate, console: Console) -> None:
    """Counts and estimate as a table."""
    table = Table("", "", box=None, pad_edge=False, show_header=False)
    table.columns[0].justify = "right"
    table.add_row(f"{len(plan.manifest.clips):,}", f"clips in {len(plan.manifest.class_names)} classes")
    table.add_row(f"{len(plan.stored):,}", "already stored")
    table.add_row(f"{len(plan.rejected):,}", "rejected when listed")
    table.add_row(f"{len(plan.missing):,}", "to prepare")
    table.add_row(f"{found.num_bad:,}", f"of {found.num_tried} tried clips cannot be used")
    table.add_row(f"{found.seconds / 60:,.1f}", f"minutes on {found.num_workers} CPUs, estimated from the tried clips")
    table.add_row(f"{found.num_bytes / 1e6:,.1f}", "MB of features")
    console.print(table)
    print_notes(plan.manifest, console)


def _task(plan: PreparePlan, clips: tuple) -> Task:
    return Task(plan.data, plan.store, plan.settings, clips)
