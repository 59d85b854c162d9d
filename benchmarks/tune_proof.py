"""Does `python -m mm_ray.tune`, as a newcomer types it, end with a gain on every machine? The whole command, seed after seed.

    python -m benchmarks.tune_proof [--seeds 20]

Each study has a fresh folder and the command's defaults; only `--seed` changes. A line of `benchmarks/results/tune_proof.jsonl`
for each study: the student against `control_all` over the study's own fresh seeds, the interval, and the seconds that the
command took. What is there is not run again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.results import add_row, read_rows
from mm_ray.evaluate.statistics import paired_test

RESULT = Path(__file__).parent / "results" / "tune_proof.jsonl"
FIRST_SEED, STRIDE = 1000, 100
"""The seeds of one study do not overlap with the next one's."""


def study(seed: int, flags: list[str]) -> dict:
    """One study, from nothing."""
    with tempfile.TemporaryDirectory(prefix="tune-proof-") as folder:
        started = time.monotonic()
        command = [sys.executable, "-m", "mm_ray.tune", "--seed", str(seed), "--runs", folder, "--name", "study", *flags]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - started
        result = json.loads((Path(folder) / "study" / "result.json").read_text())
    top1 = {name: [one["test"][name]["top1"] for one in result["seeds"]] for name in ("student", "control_all", "control")}
    gain = paired_test(np.subtract(top1["student"], top1["control_all"]))
    return {"seed": seed, **top1, "gain": gain.mean, "low": gain.low, "high": gain.high, "seconds": round(seconds)}


def main() -> None:
    """Run what is missing and sum up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="studies")
    wanted, flags = parser.parse_known_args()
    for number in range(wanted.seeds):
        seed = FIRST_SEED + STRIDE * number
        if all(row["seed"] != seed for row in read_rows(RESULT)):
            add_row(RESULT, study(seed, flags))
    done = read_rows(RESULT)
    clear, seconds = sum(row["low"] > 0 for row in done), [row["seconds"] for row in done]
    print(
        f"{clear} of {len(done)} studies have an interval above 0; mean gain {np.mean([row['gain'] for row in done]):+.3f}; ",
        end="",
    )
    print(f"{min(seconds)} to {max(seconds)} s a study")


if __name__ == "__main__":
    main()
