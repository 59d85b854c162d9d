"""`results/study.md` from the results of benchmarks.study."""

import json
from typing import Any

from benchmarks.results import FOLDER


def write_tables() -> None:
    """Write what there is; a target that is missed is said to be."""
    parts = [_sharing, _overhead, _replay]
    names = ("study_sharing", "study_overhead", "study_replay")
    texts = [
        part(json.loads((FOLDER / f"{name}.json").read_text()))
        for part, name in zip(parts, names, strict=True)
        if (FOLDER / f"{name}.json").exists()
    ]
    (FOLDER / "study.md").write_text("# The study's machinery, measured\n\n" + "\n\n".join(texts) + "\n")


def _sharing(r: dict[str, Any]) -> str:
    outside, wall = 1 - r["in_rounds_frac"], r["wall_over_ideal"]
    gains = f"{r['gain']:.2f} ({r['ideal_gain']:.2f}; limit 1/(1-f) {r['limit_of_gain']:.2f})"
    rows = [
        ("rounds asked / computed", f"{r['rounds_asked']:,} / {r['rounds_computed']:,}", ""),
        ("wall time / ideal", f"{r['wall_s']:.0f} s / {r['ideal_s']:.0f} s = {wall:.3f}", _target(wall, 1 / 0.9)),
        ("gain over no sharing (ideal)", gains, ""),
        ("slots outside rounds and evaluation, after phase 1", f"{outside:.1%}", _target(outside, 0.05)),
        ("students equal to recomputation, bit for bit", f"{r['equal_digests']} of {r['recomputed']}", ""),
    ]
    title = f"{r['trials']} trials, {r['at_once']} at once, phase 1 {r['phase1_frac']:.0%} of a trial of {r['trial_s']:.0f} s"
    return _section(f"Sharing: {title}", rows, r)


def _overhead(r: dict[str, Any]) -> str:
    runs = ", ".join(f"{run['whole_s']:.1f} / {run['bare_s']:.1f}" for run in r["runs"])
    rows = [
        ("whole stack / bare Ray Tune with reuse_actors, s", runs, ""),
        ("median ratio", f"{r['median_ratio']:.2f}", _target(r["median_ratio"], 1.2)),
    ]
    return _section(f"Overhead: {r['trials']} no-op trials of {r['reports']} reports, 2 at once", rows, r)


def _replay(r: dict[str, Any]) -> str:
    share = r["median_share_of_budget"]
    rows = [
        ("rounds to reach random's best / random's rounds, median", f"{share:.2f}", _target(share, 1 / 3)),
        ("the same against the rounds until random had it", f"{r['median_share_of_first_hit']:.2f}", ""),
    ]
    return _section(f"ASHA with TPE against random search of {r['random_trials']} trials, {len(r['runs'])} seeds", rows, r)


def _target(value: float, most: float) -> str:
    return f"at most {most:.3g}: {'met' if value <= most else 'missed'}"


def _section(title: str, rows: list[tuple[str, str, str]], r: dict[str, Any]) -> str:
    made = r["made"]
    where = f"{made['machine']['cpu']}, {made['machine']['cores']} cores, load {made['load'][0]}; {made['date']}"
    table = "\n".join(f"| {name} | {value} | {target} |" for name, value, target in rows)
    return f"## {title}\n`{made['command']}` on {where}\n\n| | | target |\n|---|---|---|\n{table}"
