"""The cells of a comparison: one method in one setting, with one seed, on one fold."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mm_ray.config import ExperimentConfig, to_dict, with_overrides
from mm_ray.errors import bad_value


@dataclass(frozen=True, order=True)
class Setting:
    """A regime: how much video is missing, how heterogeneous the clients are."""

    video_missing: float
    alpha: float

    def overrides(self) -> dict[str, Any]:
        """As config fields."""
        return {"partition.video_missing": self.video_missing, "partition.alpha": self.alpha}


@dataclass(frozen=True)
class ComparisonRun:
    """One run of the comparison. Cells that differ only in the method are a pair: same clients, cohorts and batches."""

    method: str
    setting: Setting
    seed: int
    fold: int
    tuned: Mapping[str, Any] = field(default_factory=dict)
    """What tuning chose for the method, as config fields."""
    on_test: bool = True
    """False during tuning: the test set is then not used."""

    def config(self, base: ExperimentConfig) -> ExperimentConfig:
        """The config of the run."""
        own = {"method": self.method, "seed": self.seed, "data.fold": self.fold}
        config: ExperimentConfig = with_overrides(base, own | self.setting.overrides() | dict(self.tuned))
        return config

    def key(self, base: ExperimentConfig) -> str:
        """The name of the cell's result: a digest of all that it depends on."""
        content = {"config": to_dict(self.config(base)), "on_test": self.on_test}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]

    def to_json(self) -> dict[str, Any]:
        """Flat, for a result's row."""
        flat = asdict(self) | asdict(self.setting)
        del flat["setting"]
        return flat


def cells_of(
    methods: Sequence[str], settings: Sequence[Setting], seeds: Sequence[int], folds: Sequence[int]
) -> list[ComparisonRun]:
    """All cells, ordered so that cells that share a phase run side by side as rarely as possible.

    The order is method by method: while the first method computes phase 1 of one setting, another actor computes that of the
    next one, and no actor waits.
    """
    return [
        ComparisonRun(method, setting, seed, fold)
        for method in methods
        for setting in settings
        for seed in seeds
        for fold in folds
    ]


def each_once(flag: str, values: Sequence[Any], text: str = "") -> list[Any]:
    """The values of one dimension of the cells, as a list.

    Args:
        flag: The flag that gives the values.
        values: Numbers or names.
        text: What the user wrote, if it was text.

    Raises:
        UserError: A value occurs twice, so that its cells would count twice, or is not a finite number.

    """
    shown = text or ",".join(map(str, values))
    if not all(math.isfinite(value) for value in values if isinstance(value, float)):
        raise bad_value(f"--{flag}", shown, "each must be a finite number; write 0.2,0.5")
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise bad_value(f"--{flag}", shown, f"names {twice[0]} twice, whose cells would count twice; name it once")
    return list(values)


def seeds_of(seeds: int | Sequence[int], first: int) -> list[int]:
    """The seeds of a comparison: a number of them, counted up from the first, or a list.

    Raises:
        UserError: There is none, or one occurs twice.

    """
    chosen = list(range(first, first + seeds)) if isinstance(seeds, int) else each_once("seeds", seeds)
    if not chosen:
        text = seeds if isinstance(seeds, int) else ""
        raise bad_value("--seeds", text, "gives no seed; write how many, such as 3, or a list such as 0,3,7")
    return chosen
