"""`benchmarks/results/evidence/README.md` from the stored runs of `benchmarks.evidence`: a table for each regime.

    python -m benchmarks.evidence_table

A cell of the synthetic data is a data set of its own, so cells are independent and the test is the paired t-test. Cells of a
data set with folds share recordings: the mean over a fold's cells is the unit, and the variance is corrected (Nadeau and Bengio
2003). Holm's correction is over all tests of the page.
"""

from collections import defaultdict
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.evidence import METHODS, REGIMES, RESULTS, rows_of
from mm_ray.evaluate.statistics import Paired, holm, paired_test, spread_text

OURS = "modality_mirror"


def scores_of(rows: list[dict[str, Any]], method: str) -> dict[int, float]:
    """Top-1 on the test set by cell."""
    return {row["cell"]: row["test"]["student"] for row in rows if row["method"] == method and "student" in row["test"]}


def paired(rows: list[dict[str, Any]], other: str, folds: bool) -> Paired | None:
    """The student minus another method's, over the cells that both have."""
    ours, theirs = scores_of(rows, OURS), scores_of(rows, other)
    cells = sorted(ours.keys() & theirs.keys())
    if not folds:
        return paired_test(np.array([ours[cell] - theirs[cell] for cell in cells])) if cells else None
    fold_of = {row["cell"]: row["fold"] for row in rows}
    by_fold: dict[int, list[float]] = defaultdict(list)
    for cell in cells:
        by_fold[fold_of[cell]].append(ours[cell] - theirs[cell])
    ratio = fmean(row["test_clips"] / row["train_clips"] for row in rows)
    return paired_test(np.array([fmean(values) for values in by_fold.values()]), ratio) if by_fold else None


MAPPED = ("control_all", "self_distil", "harmony")
"""The methods of the first table; the regimes' own tables have all."""


def map_text(names: list[str], tests: dict[tuple[str, str], tuple[Paired, float]]) -> str:
    """A line per regime: what the diagnosis says, and the gains."""
    heads = " | ".join(f"minus `{method}`" for method in MAPPED)
    lines = [
        "## Map",
        "What the teacher knows (its lead over phase 1's audio network on dev, and the share of the audiovisual clips that it "
        "adds to), and ModalityMirror's gain.",
        "",
        f"| regime | lead | adds to | {heads} | cells |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        own = [row for row in rows_of(name) if row["method"] == OURS]
        lead = fmean(row["dev"]["teacher"] - row["dev"]["phase1_audio"] for row in own)
        share = fmean(row["share"] for row in own if row["share"] is not None)
        gains = " | ".join(_gain(tests[name, method][0]) if (name, method) in tests else "" for method in MAPPED)
        lines.append(f"| [{name}](#{name}) | {lead:+.2f} | {share:.0%} | {gains} | {len(own)} |")
    return "\n".join(lines)


def _gain(found: Paired) -> str:
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def regime_text(name: str, tests: dict[tuple[str, str], tuple[Paired, float]]) -> str:
    """A regime's table."""
    rows = rows_of(name)
    first = rows[0]
    teacher = [row["test"]["teacher"] for row in rows if row["method"] == OURS]
    phase1 = [row["test"]["phase1_audio"] for row in rows if row["method"] == OURS]
    shares = [row["share"] for row in rows if row["method"] == OURS and row["share"] is not None]
    settings = ", ".join(f"`{key} {value}`" for key, value in REGIMES[name].overrides.items())
    lines = [
        f"## {name}",
        f"{settings}. {first['test_clips']:,} test clips in a cell, {first['classes']} classes, "
        f"chance {1 / first['classes']:.2f}. "
        f"Teacher {spread_text(teacher)}, phase 1's audio network {spread_text(phase1)}; "
        f"the teacher adds to {fmean(shares):.0%} of the audiovisual clips.",
        "",
        "| method | audio top-1 | ModalityMirror minus it | better in | p | p, Holm |",
        "|---|---|---|---|---|---|",
    ]
    for method in METHODS:
        scores = scores_of(rows, method)
        if not scores:
            continue
        cell = f"| `{method}` | {spread_text(list(scores.values()))} |"
        if (name, method) in tests:
            found, corrected = tests[name, method]
            cell += f" {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}] | {found.wins} of {found.n} |"
            cell += f" {found.p:.1g} | {corrected:.1g} |"
        else:
            cell += " | | | |"
        lines.append(cell)
    return "\n".join(lines)


def main() -> None:
    """Write the page."""
    names = [name for name in REGIMES if rows_of(name)]
    found = {
        (name, method): result
        for name in names
        for method in METHODS[1:]
        if (result := paired(rows_of(name), method, bool(REGIMES[name].folds))) is not None and result.n > 1
    }
    corrected = holm([one.p for one in found.values()])
    tests = {key: (one, p) for (key, one), p in zip(found.items(), corrected, strict=True)}
    head = (
        "# When ModalityMirror helps: every regime\n"
        "Made by `python -m benchmarks.evidence_table` from the runs stored beside it, which "
        "`python -m benchmarks.evidence REGIME` made. "
        "Mean ± standard deviation over cells; n is the number of cells. Differences are paired by cell, with a 95 % interval; "
        f"Holm's correction is over the {len(tests)} tests of this page. "
        "Each network is taken at its best dev round and tested once."
    )
    pieces = [head, map_text(names, tests), *(regime_text(name, tests) for name in names)]
    (RESULTS / "README.md").write_text("\n\n".join(pieces) + "\n")


if __name__ == "__main__":
    main()
