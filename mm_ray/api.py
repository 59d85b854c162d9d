"""The Python API: the functions behind `mm_ray.train`, `mm_ray.tune`, `mm_ray.compare`, `mm_ray.prepare` and `mm_ray.load_...`.

The commands parse their flags and call these functions. Every config field can be given by its dotted name,
`mm_ray.train(**{"phase2.rounds": 24})`, on top of `config`. A mistake raises `mm_ray.UserError`, whose text is the line
that the command prints. The same call again takes what is stored and resumes where it was interrupted.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mm_ray.config import FIELDS, DataConfig, ExperimentConfig, with_overrides
from mm_ray.errors import bad_value
from mm_ray.plugins import check_name, modules_in
from mm_ray.storage import names_bad_file

if TYPE_CHECKING:
    import optuna

    from mm_ray.classifier import AudioClassifier
    from mm_ray.data.feature_table import FeatureTable
    from mm_ray.results import CompareResult, TrainResult, TuneResult

    Space = Callable[[optuna.Trial], dict[str, Any]]

METHODS = ("modality_mirror", "control", "control_all", "harmony", "multifl", "unifl", "fedcmi", "mfcpl")
"""What a comparison compares, where nothing else is asked for."""
NEEDS = {"serial": ("torch",), "ray": ("torch", "ray")}
"""Executors, and what each of them must load."""
Executor = Literal["serial", "ray"]


def train(
    config: ExperimentConfig | None = None,
    *,
    data: str | Path | None = None,
    method: str | None = None,
    seed: int | None = None,
    control: bool = False,
    executor: Executor = "serial",
    address: str = "",
    name: str = "",
    runs: str | Path = "runs",
    phases: str | Path = "",
    tracker: str = "tensorboard",
    progress: bool = True,
    **fields: Any,
) -> TrainResult:
    """Train one method once.

    Args:
        config: All settings; what follows overrides them.
        data: A data set's name, or the path of a feature store (`mm_ray.prepare`).
        method: A method of mm_ray/methods, or your own (`mine.py`).
        seed: Of every random stream.
        control: Also run both cross-entropy controls for as many rounds.
        executor: `serial` plays the clients in this process, `ray` by actors in a Ray Train job; the results are the same.
        address: With `ray`: the cluster to join (`auto`, HOST:PORT); empty starts a Ray on this machine.
        name: Of the run, and of its folder below `runs`; empty names it after its config.
        runs: Folder of all runs.
        phases: The phase store: a path, s3:// or gs://; empty: `runs`/phases.
        tracker: What shows the rounds: `tensorboard`, `wandb`, `mlflow`, `trackio`, your own (`mine.py`), several of them with
            commas, or `none`.
        progress: Show bars on a terminal and in a notebook, lines elsewhere; False shows nothing.
        fields: Config fields by dotted name.

    Raises:
        UserError: A mistake; its text names the field, the value and the remedy.

    """
    _check_executor(executor)
    asked = _config(config, data, method, seed, fields)
    _check_names(asked)
    with _shown(progress, *NEEDS[executor]):
        from mm_ray.results import read_result
        from mm_ray.training import TrainingRequest, run_training

        serial = executor == "serial"
        request = TrainingRequest(asked, control, name, str(runs), str(phases), serial, address, tracker)
        return read_result(run_training(request))


def tune(
    space: str | Space = "distill",
    *,
    config: ExperimentConfig | None = None,
    data: str | Path | None = None,
    method: str | None = None,
    seed: int | None = None,
    trials: int = 8,
    seeds: int = 1,
    test_seeds: int = 5,
    time: str = "",
    rounds: int = 0,
    patience: int = 0,
    searcher: str = "tpe",
    scheduler: str = "none",
    storage: str = "",
    host: str = "actor",
    export: bool = False,
    figures: bool = False,
    from_study: str = "",
    address: str = "",
    name: str = "",
    runs: str | Path = "runs",
    phases: str | Path = "",
    tracker: str = "tensorboard",
    progress: bool = True,
    **fields: Any,
) -> TuneResult:
    """Search a space for the best audio student, with Optuna under Ray Tune, and test the best once beside the controls.

    Args:
        space: A function of an Optuna trial that returns config fields by dotted name, the name of a space of tune_spaces/, or
            a file (`mine.py`).
        config: Settings of all trials; what follows overrides them.
        data: As for `train`.
        method: As for `train`.
        seed: The first seed, and that of the search.
        trials: How many configurations.
        seeds: Seeds of each trial; with several, the best configurations run again with fresh ones.
        test_seeds: Fresh seeds with which the chosen configuration and both controls run for the test; 0: the trials' own.
        time: Stop after this time, such as `30m` or `1h30m`.
        rounds: Stop when all trials have computed this many rounds; 0 sets no limit.
        patience: Stop when this many trials in a row were no better; 0 sets no limit.
        searcher: Who suggests: `tpe`, `gp`, `cmaes`, `random`, `grid`, `nsga2`, or your own sampler (`mine.py`).
        scheduler: Who stops hopeless trials: `none`, `asha`, `hyperband`, `median`, or with several seeds `wilcoxon`.
        storage: A database's URL for Optuna; empty: a journal in the study's folder.
        host: What runs a trial: an `actor`, or a `train` job.
        export: Write the student as safetensors and ONNX with a model card into `export/`.
        figures: Write the report's figures as SVG and PDF into `figures/`.
        from_study: Name of an older study below `runs`: its complete trials are known results, where their configuration is
            one of the space.
        address: Ray cluster to join; empty starts a Ray on this machine.
        name: Of the study, and of its folder below `runs`; the same name and settings resume it.
        runs: As for `train`.
        phases: As for `train`.
        tracker: As for `train`; a run for each seed of a trial, and one for the best.
        progress: As for `train`.
        fields: Config fields by dotted name.

    Raises:
        UserError: A mistake; its text names the field, the value and the remedy.
        KeyboardInterrupt: Somebody ended it; the same call resumes it.

    """
    from mm_ray.tune.flags import SEARCHERS

    asked = _config(config, data, method, seed, fields)
    _check_names(asked)
    check_name("searcher", searcher, SEARCHERS)
    with _shown(progress, *NEEDS["ray"]):
        from mm_ray.results import study_result
        from mm_ray.tune.run import StudyRequest, run_study

        request = StudyRequest(
            asked, space, trials, seeds, test_seeds, time, rounds, patience, searcher, scheduler, storage, host, export,
            name, str(runs), str(phases), address, tracker, from_study, figures,
        )  # fmt: skip
        return study_result(run_study(request))


def compare(
    methods: Sequence[str] = METHODS,
    *,
    config: ExperimentConfig | None = None,
    data: str | Path | None = None,
    seeds: int | Sequence[int] = 3,
    video_missing: Sequence[float] = (),
    alphas: Sequence[float] = (),
    folds: Sequence[int] | Literal["all"] = (),
    tune: int = 0,
    figures: bool = False,
    executor: Executor = "ray",
    address: str = "",
    name: str = "",
    runs: str | Path = "runs",
    phases: str | Path = "",
    tracker: str = "none",
    progress: bool = True,
    **fields: Any,
) -> CompareResult:
    """Compare methods on equal terms: the same clients, cohorts, batches and number of rounds, the same tuning budget.

    Args:
        methods: Methods of mm_ray/methods, or your own (`mine.py`).
        config: Settings of all runs; what follows overrides them.
        data: As for `train`.
        seeds: How many, from the config's seed on, or a list of them.
        video_missing: Fractions of the clients without video; empty takes the config's.
        alphas: Dirichlet alphas; empty takes the config's.
        folds: Folds of the data, or `all`; empty takes the config's.
        tune: Trials that each method gets on dev before its test.
        figures: Write the page's figures as SVG and PDF into `figures/`.
        executor: `ray` runs as many cells side by side as fit, `serial` one after the other in this process.
        address: With `ray`: the cluster to join; empty starts a Ray on this machine.
        name: Of the comparison, and of its folder below `runs`.
        runs: As for `train`.
        phases: As for `train`.
        tracker: As for `train`; a run for each cell.
        progress: As for `train`.
        fields: Config fields by dotted name.

    Raises:
        UserError: A mistake, or a run that failed; the others' results are kept, and the same call resumes.

    """
    _check_executor(executor)
    from mm_ray.compare.cells import seeds_of

    asked = _config(config, data, None, None, fields)
    _check_names(asked)
    seeds_of(seeds, asked.seed)
    for field, values in {"partition.video_missing": video_missing, "partition.alpha": alphas}.items():
        for value in values:
            with_overrides(asked, {field: value})
    for method in methods:
        check_name("methods", method, modules_in(CODE["method"]))
    with _shown(progress, *NEEDS[executor]):
        from mm_ray.compare.comparison import ComparisonRequest, run_comparison
        from mm_ray.results import CompareResult

        request = ComparisonRequest(
            asked, tuple(methods), seeds, tuple(video_missing), tuple(alphas), folds, tune, executor == "serial", address, name,
            str(runs), str(phases), tracker, figures,
        )  # fmt: skip
        return CompareResult(*run_comparison(request))


def prepare(
    source: str,
    root: str | Path,
    out: str | Path,
    *,
    executor: Executor = "ray",
    address: str = "",
    max_rejected: float = 0.05,
    shard_clips: int = 64,
    num_gpus: float = 0,
    progress: bool = True,
    **fields: Any,
) -> Path | str:
    """Turn recordings into a feature store, which `data=` of the other functions takes; a second call prepares what came since.

    Args:
        source: A data set of mm_ray/data/datasets, such as `folder` or `csv`, or your own (`mine.py`).
        root: Folder of the recordings: a path, s3:// or gs://.
        out: The store: a new folder, or one to resume.
        executor: `ray` works on all cores of this machine or of a cluster, `serial` in this process.
        address: With `ray`: the cluster to join; empty starts a Ray on this machine.
        max_rejected: Above this fraction of clips that cannot be used, raise an error at the end.
        shard_clips: Most clips in a file of the store.
        num_gpus: GPUs of each worker, such as 0.25, or 1 of this process, on which pretrained encoders compute.
        progress: As for `train`.
        fields: Config fields of `data` by dotted name, such as `data.features.num_mels`.

    Returns:
        The store's place, `out`.

    Raises:
        UserError: A mistake in the settings or the data, or too many rejects.

    """
    _check_executor(executor)
    asked = _config(None, source, None, None, {"data.root": str(root), **fields})
    prepare_data(asked.data, str(out), executor == "serial", address, max_rejected, shard_clips, progress, num_gpus)
    return out


def prepare_data(
    data: DataConfig,
    out: str,
    serial: bool,
    address: str = "",
    max_rejected: float = 0.05,
    shard_clips: int = 64,
    progress: bool = True,
    num_gpus: float = 0,
) -> None:
    """The same, with the data's settings as they are."""
    with _shown(progress, *NEEDS["serial" if serial else "ray"]):
        from mm_ray.prepare.run import PrepareRequest, prepare_store

        prepare_store(PrepareRequest(data, out, serial, address, max_rejected, shard_clips, num_gpus))


def load_data(
    data: str | Path | None = None, *, runs: str | Path = "runs", progress: bool = True, **fields: Any
) -> FeatureTable:
    """The features of a data set or of a feature store, as `train` reads them; computed if they are not stored yet.

    Args:
        data: A data set's name, or the path of a feature store.
        runs: Folder of all runs, in which features are stored.
        progress: Show how far the features are.
        fields: Config fields of `data` by dotted name, such as `data.features.num_mels`.

    Raises:
        UserError: An unknown data set, or missing or broken recordings.

    """
    asked = _config(None, data, None, None, fields)
    with _shown(progress, "torch"):
        from mm_ray.startup import load_with_progress

        return load_with_progress(asked.data, str(runs))


def load_result(folder: str | Path) -> TrainResult:
    """The result of a run that has ended, read from its folder.

    Raises:
        UserError: The folder holds no finished run.

    """
    from mm_ray.results import read_result

    return read_result(Path(folder).expanduser())


def load_student(place: str | Path, encoder: str = "", features: str = "", device: str = "auto") -> AudioClassifier:
    """A trained student: its `predict` takes a file, or samples with their rate.

    Args:
        place: A run's folder, or its `student.safetensors`.
        encoder: The student's encoder, if it is your own (`mine.py:thing`): its code runs.
        features: The student's audio features, if they are your own: their code runs.
        device: `cpu`, `cuda`, or `auto`, which is `cuda` where torch finds a GPU.

    Raises:
        UserError: There is no student, it is damaged, or there is no GPU.

    """
    from mm_ray.classifier import AudioClassifier

    return AudioClassifier.load(place, encoder, features, device)


def _config(
    base: ExperimentConfig | None,
    data: str | Path | None,
    method: str | None,
    seed: int | None,
    fields: Mapping[str, Any],
) -> ExperimentConfig:
    named = {"data.name": None if data is None else str(data), "method": method, "seed": seed}
    given = {name: value for name, value in named.items() if value is not None}
    return with_overrides(base or ExperimentConfig(), {**given, **fields})


CODE = {
    "method": "mm_ray.methods",
    "model.audio_encoder": "mm_ray.models.encoders",
    "model.video_encoder": "mm_ray.models.encoders",
    "phase1.server.rule": "mm_ray.fed.aggregators",
    "phase2.server.rule": "mm_ray.fed.aggregators",
    "phase2.loss": "mm_ray.losses",
}
"""Fields that name code, and its folders."""


def _check_names(config: ExperimentConfig) -> None:
    """Refuse unknown names before anything is loaded, which takes seconds (UserError)."""
    for field, package in CODE.items():
        value: str = attrgetter(field)(config)
        pieces = value.split("+") if field == "phase2.loss" else [value]
        for name in pieces if value != FIELDS[field].default else ():
            check_name(field, name.strip(), modules_in(package))


def _check_executor(executor: str) -> None:
    if executor not in NEEDS:
        raise bad_value("executor", executor, f"must be {' or '.join(NEEDS)}")


@contextmanager
def _shown(progress: bool, *needs: str) -> Iterator[None]:
    """Say at once what is loaded, which takes seconds; show nothing at all where no progress is wanted."""
    hidden = redirect_stdout(io.StringIO()) if not progress else nullcontext()
    with hidden, names_bad_file():
        if missing := [name for name in needs if name not in sys.modules]:
            print(f"loading {' and '.join(missing)} ...", flush=True)
        yield
