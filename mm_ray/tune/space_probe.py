"""What a space suggests, without a study: trials whose choices are fixed, for the space's digest and its checks."""

from collections.abc import Iterator
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from mm_ray.seeding import stream


def probe_study(num_probes: int) -> Iterator[optuna.Trial]:
    """Trials of a throw-away study whose choices depend only on the probe's number and the parameter's name."""
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage(), sampler=_ProbeSampler())
    for _ in range(num_probes):
        yield study.ask()


class _ProbeSampler(optuna.samplers.BaseSampler):
    # Not Optuna's random sampler: the digest must outlive a new version of Optuna or numpy.

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution) -> Any:
        return _pick(param_distribution, stream(0, "probe", trial.number, param_name) / 2**63)


def _pick(distribution: Any, unit: float) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(unit * len(distribution.choices))]
    value = distribution.low + unit * (distribution.high - distribution.low)
    if distribution.step:
        value = distribution.low + distribution.step * round((value - distribution.low) / distribution.step)
    return min(value, distribution.high)
