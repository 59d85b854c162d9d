"""What somebody else can use: the student as safetensors and ONNX, and a model card."""

from pathlib import Path
from typing import Any

import yaml

from mm_ray.config import flatten, to_dict
from mm_ray.errors import bad_value
from mm_ray.evaluate.metrics import recall
from mm_ray.fed.experiment import Tested
from mm_ray.models.onnx_file import write_onnx
from mm_ray.models.student import load_student
from mm_ray.storage import write_bytes, write_text

ROLE_LABELS = {
    "student": "distilled student",
    "control": "control (cross-entropy)",
    "phase1_audio": "phase 1, un-distilled",
    "teacher": "audiovisual teacher",
}
FILES = ("student.safetensors", "student.json")


def export(folder: Path, tested: Tested) -> Path:
    """Write `export/` below the study's folder; returns it.

    The card is Hugging Face's kind: YAML between dashes, then Markdown. Its licence is left open, since it hangs on the data's.

    Raises:
        UserError: The method has no student.

    """
    if "student" not in tested.confusions:
        config = tested.finished.plan.config
        raise bad_value("method", config.method, "has no student to export; leave out --export")
    target = folder / "export"
    target.mkdir(exist_ok=True)
    for name in FILES:
        write_bytes(target / name, (folder / name).read_bytes())
    write_onnx(load_student(target / "student.safetensors"), target / "student.onnx")
    write_text(target / "README.md", _card(folder.name, tested))
    return target


def _card(name: str, tested: Tested) -> str:
    config, test = tested.finished.plan.config, tested.result["test"]
    head: dict[str, Any] = {
        "license": "unknown",
        "library_name": "mm_ray",
        "pipeline_tag": "audio-classification",
        "tags": ["federated-learning", "knowledge-distillation", config.method],
        "datasets": [config.data.name],
        "metrics": ["accuracy"],
    }
    table = tested.finished.plan.federation.table
    sections = [
        f"# {name}: audio classifier of {len(table.class_names)} classes",
        f"Trained with `{config.method}` (docs/method.md of mm_ray) on `{config.data.name}`, fold {config.data.fold}, seed "
        f"{config.seed}; data fingerprint `{table.fingerprint}`. Digest of the parameters `{tested.result['params_digest']}`.",
        "**Licence**: whoever publishes this replaces `license: unknown` above; it hangs on the licence of the data.",
        "## Accuracy on the test set\n" + _accuracies(test),
        "Chosen on the dev set alone; the test set was looked at once. One seed: say nothing more of it than that.",
        "## By class\n" + _classes(tested),
        "## Use\n```bash\npython -m mm_ray.predict student.safetensors a.wav\n```\n"
        "`student.onnx` takes `audio` (B, T, F), float32 log-mel frames as `student.json` sets them, and `lengths` (B,), "
        "int64; it gives `logits` (B, C). Its metadata hold `class_names` and `features`.",
        "## Settings\n```yaml\n" + yaml.safe_dump(_plain(flatten(to_dict(config))), sort_keys=False) + "```",
    ]
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n" + "\n\n".join(sections) + "\n"


def _accuracies(test: dict[str, dict[str, float]]) -> str:
    lines = ["| network | top-1 | UAR | macro-F1 |", "|---|---|---|---|"]
    for role, label in ROLE_LABELS.items():
        if role in test:
            scores = test[role]
            lines.append(f"| {label} | {scores['top1']:.3f} | {scores['uar']:.3f} | {scores['macro_f1']:.3f} |")
    return "\n".join(lines)


def _classes(tested: Tested) -> str:
    names = tested.finished.plan.federation.table.class_names
    student_CC, control_CC = tested.confusions["student"], tested.confusions["control"]
    rows = zip(names, student_CC.sum(1), recall(student_CC), recall(control_CC), strict=True)
    lines = [f"| {name} | {clips} | {mine:.3f} | {other:.3f} |" for name, clips, mine, other in rows]
    return "\n".join(["| class | test clips | student's recall | control's recall |", "|---|---|---|---|", *lines])


def _plain(flat: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in flat.items()}
