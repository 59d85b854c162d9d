"""How good the study's machinery is: sharing against the ideal, overhead against bare Ray Tune, ASHA with TPE against random.

python -m benchmarks.study_curves        # the learning curves that `replay` replays
python -m benchmarks.study sharing       # 24 trials of 20 s and up, two at once: about 5 minutes
python -m benchmarks.study overhead
python -m benchmarks.study replay
python -m benchmarks.study tables        # results/study.md from the results
"""

import sys

import optuna
import torch

from benchmarks.study_overhead import overhead
from benchmarks.study_replay import replay
from benchmarks.study_sharing import sharing
from benchmarks.study_tables import write_tables

PARTS = {"sharing": sharing, "overhead": overhead, "replay": replay, "tables": write_tables}


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in PARTS:
        sys.exit(f"name a part: {', '.join(PARTS)}")
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    PARTS[sys.argv[1]]()


if __name__ == "__main__":
    main()
