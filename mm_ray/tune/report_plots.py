"""The report's figures of an Optuna study; one that cannot be drawn yet is a sentence that says what it needs."""

import warnings
from collections.abc import Callable, Sequence
from typing import TypeAlias

import optuna
import plotly.graph_objects as go
from optuna import visualization
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

Figure: TypeAlias = go.Figure | str
WEIGHT, TEMPERATURE = "phase2.loss_weight", "phase2.temperature"
MIN_FOR_IMPORTANCE = 10
MIN_FOR_CONTOUR = 4
HEIGHT = 420
COLOR = "#2f6690"


def history(study: optuna.Study, metric: str) -> Figure:
    """Each complete trial's value of the first objective, and the best so far."""
    if not complete(study):
        return needs("The optimisation history", 1, 0)
    return _styled(visualization.plot_optimization_history(study, target=_target(study), target_name=metric))


def importances(study: optuna.Study, metric: str) -> Figure:
    """PED-ANOVA: which parameters set the best tenth of the trials apart (arXiv 2304.10255)."""
    trials = complete(study)
    if len(trials) < MIN_FOR_IMPORTANCE:
        return needs("Parameter importance", MIN_FOR_IMPORTANCE, len(trials))
    if _constant(trials):
        return "Parameter importance needs trials that differ in their score; here all are equal."
    return _styled(
        visualization.plot_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(), target=_ascending(study), target_name=metric
        )
    )


def slices(study: optuna.Study, metric: str) -> Figure:
    """The score over each parameter alone."""
    trials = complete(study)
    if len(trials) < 2 or not any(trial.params for trial in trials):
        return needs("The slices", 2, len(trials))
    figure = _styled(visualization.plot_slice(study, target=_target(study), target_name=metric))
    figure.update_traces(marker={"size": 8}, selector={"mode": "markers"})
    return figure


def contour(study: optuna.Study, metric: str) -> Figure:
    """The score over temperature and loss weight together."""
    trials = [trial for trial in complete(study) if {WEIGHT, TEMPERATURE} <= set(trial.params)]
    points = {(trial.params[WEIGHT], trial.params[TEMPERATURE]) for trial in trials}
    spread = [len(set(values)) for values in zip(*points, strict=True)] or [0]
    if len(points) < MIN_FOR_CONTOUR or min(spread) < 2:
        return needs(f"The map of {TEMPERATURE} and {WEIGHT}", MIN_FOR_CONTOUR, len(points), "that differ in both")
    return _styled(visualization.plot_contour(study, params=[TEMPERATURE, WEIGHT], target=_target(study), target_name=metric))


def parallel(study: optuna.Study, metric: str) -> Figure:
    """One line a complete trial through all the parameters that every one of them has."""
    trials = complete(study)
    shared = set.intersection(*(set(trial.params) for trial in trials)) if trials else set()
    if len(trials) < 2 or len(shared) < 2:
        return needs("Parallel coordinates", 2, len(trials), "with two parameters in common")
    names = [name for name in trials[0].params if name in shared]
    figure = visualization.plot_parallel_coordinate(study, params=names, target=_target(study), target_name=metric)
    return _styled(figure).update_layout(margin={"t": 60, "r": 60, "b": 40, "l": 70})


def complete(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def needs(what: str, wanted: int, there: int, which: str = "") -> str:
    """The sentence in place of a figure."""
    return f"{what} needs at least {wanted} complete trial{'s' * (wanted > 1)}{' ' * bool(which)}{which}; there {_are(there)}."


def _are(count: int) -> str:
    return f"is {count}" if count == 1 else f"are {count or 'none'}"


def _target(study: optuna.Study) -> Callable[[FrozenTrial], float] | None:
    # Optuna wants a target where there are several objectives: the first.
    return None if len(study.directions) == 1 else lambda trial: trial.values[0]


def _ascending(study: optuna.Study) -> Callable[[FrozenTrial], float] | None:
    # PED-ANOVA takes a target for something to minimise.
    sign = -1 if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else 1
    return None if len(study.directions) == 1 else lambda trial: sign * trial.values[0]


def _constant(trials: Sequence[FrozenTrial]) -> bool:
    return len({trial.values[0] for trial in trials}) == 1


def _styled(figure: go.Figure) -> go.Figure:
    figure.update_traces(marker_color=COLOR, selector={"type": "bar"})
    margin = {"t": 30, "r": 30, "b": 60, "l": 70}
    return figure.update_layout(title=None, template="plotly_white", height=HEIGHT, width=None, autosize=True, margin=margin)


def quietly(draw: Callable[[optuna.Study, str], Figure], study: optuna.Study, metric: str) -> Figure:
    """Draw without Optuna's remarks on experimental parts, on absent parameters and on the sign of the target."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        figure = draw(study, metric)
    optuna.logging.set_verbosity(level)
    return figure
