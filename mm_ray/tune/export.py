"""What a study leaves for somebody else to use: its best student, exported (`mm_ray.export`)."""

from pathlib import Path
from tempfile import TemporaryDirectory

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import UserError, bad_value
from mm_ray.export.card import ROLE_LABELS as ROLE_LABELS
from mm_ray.export.folder import write_export
from mm_ray.export.subject import STUDENT, Subject
from mm_ray.fed.experiment import Evaluation, Experiment, plan_experiment
from mm_ray.models.network import PARTS, init_part
from mm_ray.models.onnx_export import write_onnx
from mm_ray.models.student import load_student, save_student
from mm_ray.seeding import torch_stream
from mm_ray.tune.space import NUM_PROBES, Space, probe_study

DECIDING = ("method", "model.audio_encoder")
"""The fields that decide whether there is a student, and whether it can be exported."""


def check_export(config: ExperimentConfig, space: Space, table: FeatureTable) -> None:
    """Export, before the first trial, an untrained student of each kind that the space suggests.

    Raises:
        UserError: A method has no student, or its encoder cannot be written as ONNX.

    """
    suggested = [space.overrides(trial) for trial in probe_study(NUM_PROBES)]
    changes = {tuple((name, overrides[name]) for name in DECIDING if name in overrides) for overrides in suggested}
    for change in sorted(changes):
        _export_untrained(plan_experiment(with_overrides(config, dict(change)), table))


def _export_untrained(plan: Experiment) -> None:
    student, shapes = plan.method.student, plan.federation.shapes
    if student is None:
        raise _no_student(plan.config)
    model = plan.model_of(student)
    params = {part: init_part(part, model, shapes, torch_stream(0, part)) for part in PARTS["audio"]}
    with TemporaryDirectory() as folder:
        table = plan.federation.table
        file = save_student(Path(folder), params, model, shapes, table.class_names, table.features)
        write_onnx(load_student(file, model.audio_encoder, table.features.audio), Path(folder, "student.onnx"))


def export(folder: Path, tested: Evaluation) -> Path:
    """Write `export/` below the study's folder; returns it.

    Raises:
        UserError: The method has no student, or its encoder cannot be written as ONNX.

    """
    plan = tested.finished.plan
    if "student" not in tested.confusions:
        raise _no_student(plan.config)
    found = Subject(folder.name, folder / STUDENT, plan.config, tested.result, plan.federation, tested.confusions)
    return write_export(folder / "export", found, encoder=plan.config.model.audio_encoder)


def _no_student(config: ExperimentConfig) -> UserError:
    return bad_value("method", config.method, "has no student to export; leave out --export")
