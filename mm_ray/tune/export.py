"""What a study leaves for somebody else to use: its best student, exported (`mm_ray.export`)."""

from pathlib import Path

from mm_ray.errors import bad_value
from mm_ray.export.card import ROLE_LABELS as ROLE_LABELS
from mm_ray.export.folder import write_export
from mm_ray.export.subject import STUDENT, Subject
from mm_ray.fed.experiment import Evaluation


def export(folder: Path, tested: Evaluation) -> Path:
    """Write `export/` below the study's folder; returns it.

    Raises:
        UserError: The method has no student, or its encoder cannot be written as ONNX.

    """
    plan = tested.finished.plan
    if "student" not in tested.confusions:
        raise bad_value("method", plan.config.method, "has no student to export; leave out --export")
    found = Subject(folder.name, folder / STUDENT, plan.config, tested.result, plan.federation, tested.confusions)
    return write_export(folder / "export", found, encoder=plan.config.model.audio_encoder)
