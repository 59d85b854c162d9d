"""Faults at random moments through whole studies and runs; at the end all must be as in an undisturbed one.

    python -m benchmarks.chaos [--faults 100] [--seed 0] [--seconds 2400] [--add]

A study (`mm_ray.tune`: a TPE with ASHA, phases of varying length) and a single run (`mm_ray.train`) go through a Ray cluster of
this script's own, a head and three workers, first in peace and then again and again under fire. When a fault has struck, the
next one waits until the command makes progress again, and a random while longer. Faults of disks need root on Linux, since the
phase store and the run folders lie on small file systems in a mount namespace of their own; elsewhere they are left out.

Every run is compared with the undisturbed one of its kind: trials by number, state, parameters, values and curves; rows of
`trials.jsonl` or `rounds.jsonl`, none lost or doubled; the student's digest; its test. Any difference ends in exit code 1.
"""

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Any

import optuna

from benchmarks.chaos_faults import FAULTS, deck
from benchmarks.chaos_hunt import RUNS, Hunt, Run, Stuck
from benchmarks.chaos_stage import Stage
from benchmarks.results import FOLDER, write_result
from benchmarks.systems import ROOT

PLACE, MOUNTS = "CHAOS_FOLDER", "CHAOS_MOUNTS"
LOST = (
    "seconds lost: from the last stored state before the fault to the second one after it, less what the undisturbed run takes "
    "between the same two; the fault's own duration (30 s of refusal, the time until a node or a disk's room is back) is in it"
)


def main() -> None:
    """Hunt, compare, print, write."""
    parser = argparse.ArgumentParser("benchmarks.chaos")
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=2400, help="No fault is injected later than that")
    parser.add_argument("--add", action="store_true", help="Add to the stored faults, instead of beginning anew")
    flags = parser.parse_args()
    if PLACE not in os.environ:
        _move_in()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder, until = Path(os.environ[PLACE]), time.monotonic() + flags.seconds
    calm, hunted, stuck = dict[str, Run](), list[Run](), ""
    try:
        stage = Stage(folder, os.environ[MOUNTS] == "1")
        try:
            hunts(stage, flags.faults, flags.seed, until, calm, hunted)
        except Stuck as error:
            stuck = str(error)  # what ended before it counts nevertheless
        finally:
            stage.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    runs, events = rows_of(calm, hunted)
    stored = json.loads((FOLDER / "chaos.json").read_text()) if flags.add else {"runs": [], "events": []}
    runs, events = [*stored["runs"], *runs], [*stored["events"], *numbered_on(events, len(stored["runs"]))]
    earlier = [*stored.get("earlier", []), stored["made"]] if flags.add else []
    text = table(runs, events)
    print(text)
    write_result("chaos", {"earlier": earlier, "lost_s_is": LOST, "faults": by_fault(events), "runs": runs, "events": events})
    (FOLDER / "chaos.md").write_text(f"# Faults survived\n\n{text}\n")
    if stuck or any(run["different"] for run in runs) or not all(event["recovered"] for event in events):
        sys.exit(f"not all was survived\n{stuck}")


def _move_in() -> None:
    """Start over with a folder, a token and Ray's files of our own, and where that is allowed with our own mounts."""
    folder = tempfile.mkdtemp(prefix="chaos-")
    may_mount = os.geteuid() == 0 and bool(shutil.which("unshare")) and not subprocess.run(["unshare", "-m", "true"]).returncode
    own = {
        PLACE: folder,
        MOUNTS: str(int(may_mount)),
        "PYTHONPATH": str(ROOT),
        "RAY_TMPDIR": folder,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    keep = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [*(["unshare", "-m"] if may_mount else []), sys.executable, "-m", "benchmarks.chaos", *sys.argv[1:]]
    os.execvpe(command[0], command, keep | own)


def hunts(stage: Stage, faults: int, seed: int, until: float, calm: dict[str, Run], hunted: list[Run]) -> None:
    """Fill `calm` with the undisturbed run of each kind and `hunted` with those under fire, the kinds in turn."""
    for kind in RUNS:
        calm[kind] = one_run(Hunt(kind, stage, 0))
    decks = {
        kind: [name for name in deck(kind, faults, seed) if stage.may_mount or not FAULTS[name].needs_disk] for kind in RUNS
    }
    chance = random.Random(seed)
    while any(decks.values()) and time.monotonic() < until:
        for kind in (kind for kind in RUNS if decks[kind]):
            hunted.append(one_run(Hunt(kind, stage, len(hunted) + 1), calm[kind], decks[kind], chance, until))


def one_run(hunt: Hunt, *fire: Any) -> Run:
    """A run to its end, and a line about it."""
    try:
        run = hunt.fire(*fire) if fire else hunt.peace()
    finally:
        hunt.close()
    different = run_row(run, fire[0])["different"] if fire else []
    verdict = f"different: {', '.join(different)}" if different else "as undisturbed" if fire else "undisturbed"
    print(f"{hunt.kind}: {run.seconds:.0f} s, {len(run.events)} faults, {verdict}", flush=True)
    for name in different:
        print(f"  {name}: {first_difference(fire[0].left[name], run.left[name])}", flush=True)
    return run


def first_difference(calm: Any, struck: Any) -> str:
    """Where two values part: for lists the first entry that is not the same, with its place."""
    if isinstance(calm, list):
        pairs = enumerate(zip_longest(calm, struck))
        return next(f"[{place}] {one} became {other}" for place, (one, other) in pairs if one != other)
    return f"{calm} became {struck}"


def rows_of(calm: Mapping[str, Run], hunted: Sequence[Run]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The runs under fire, and the faults with the numbers of their runs, as rows."""
    events = [
        {"run": number, "fault": event.fault, "at_s": round(event.struck - run.began, 1), "recovered": event.recovered,
         "exit_codes": event.codes, "lost_s": round(run.lost(event, calm[run.kind]), 1)}
        for number, run in enumerate(hunted, 1) for event in run.events
    ]  # fmt: skip
    return [run_row(run, calm[run.kind]) for run in hunted], events


def numbered_on(events: Sequence[dict[str, Any]], runs: int) -> list[dict[str, Any]]:
    """Rows of faults whose runs come after `runs` others."""
    return [event | {"run": event["run"] + runs} for event in events]


def run_row(run: Run, calm: Run) -> dict[str, Any]:
    """A run's figures, and what of it is not as in the undisturbed one."""
    different = [name for name, value in run.left.items() if value != calm.left[name]]
    seconds = {"seconds": round(run.seconds, 1), "undisturbed_s": round(calm.seconds, 1)}
    return {"kind": run.kind, **seconds, "faults": len(run.events), "different": different}


def by_fault(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Number, recovered and seconds lost of each kind of fault that struck."""
    rows = []
    for name in FAULTS:
        mine = [event for event in events if event["fault"] == name]
        lost = [event["lost_s"] for event in mine]
        if mine:
            recovered = sum(event["recovered"] for event in mine)
            figures = {"lost_s_median": median(lost), "lost_s_most": max(lost), "lost_s_sum": round(sum(lost), 1)}
            rows.append({"fault": name, "number": len(mine), "recovered": recovered, **figures})
    return rows


def table(runs: Sequence[dict[str, Any]], events: Sequence[dict[str, Any]]) -> str:
    """The figures for people."""
    rows = by_fault(events)
    missing = [name for name in FAULTS if name not in {row["fault"] for row in rows}]
    extra = sum(run["seconds"] - run["undisturbed_s"] for run in runs)
    studies = sum(run["kind"] == "study" for run in runs)
    undisturbed = ", ".join(sorted({f"{run['kind']} {run['undisturbed_s']:.0f} s" for run in runs}))
    different = [f"run {number}: {', '.join(run['different'])}" for number, run in enumerate(runs, 1) if run["different"]]
    lines = [
        "| fault | number | recovered | seconds lost: median | most |",
        "|---|---|---|---|---|",
        *(
            f"| {row['fault']} | {row['number']} | {row['recovered']} | {row['lost_s_median']:.1f} | {row['lost_s_most']:.1f} |"
            for row in rows
        ),
        f"| all | {len(events)} | {sum(event['recovered'] for event in events)} | | |",
        "",
        f"{studies} studies and {len(runs) - studies} single runs under fire (undisturbed: {undisturbed}) took {extra:.0f} s "
        f"longer in all, of which {sum(row['lost_s_sum'] for row in rows):.0f} s lie at the faults.",
        f"{len(runs) - len(different)} of {len(runs)} ended as the undisturbed one: nothing lost or doubled, equal digests.",
        *([f"Different: {'; '.join(different)}."] if different else []),
        f"Here {LOST}.",
        *([f"Not tried here: {'; '.join(missing)}."] if missing else []),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
