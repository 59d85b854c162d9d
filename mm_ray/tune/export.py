"""What somebody else can use: the student as safetensors and ONNX, and a model card."""

import inspect
from pathlib import Path
from typing import Any

import yaml

from mm_ray.config import FeatureConfig, flatten, to_dict
from mm_ray.errors import bad_value
from mm_ray.evaluate.metrics import recall
from mm_ray.fed.experiment import Evaluation
from mm_ray.models.onnx_export import write_onnx
from mm_ray.models.student import load_student
from mm_ray.storage import write_bytes, write_text
from mm_ray.tune import numpy_features

ROLE_LABELS = {
    "student": "distilled student",
    "control_all": "control_all (cross-entropy)",
    "control": "control (AV clients only)",
    "phase1_audio": "phase 1, un-distilled",
    "teacher": "audiovisual teacher",
}
FILES = ("student.safetensors", "student.json")
PRIVATE = ("data.root", "data.annotations", "data.classes", "data.video_weights", "partition.label_confusion")
"""Settings that name files of whoever trained the student."""


def export(folder: Path, tested: Evaluation) -> Path:
    """Write `export/` below the study's folder; returns it.

    The card is Hugging Face's kind: YAML between dashes, then Markdown. Its licence is left open: it depends on the data's.

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
    student = load_student(target / "student.safetensors")
    write_onnx(student, target / "student.onnx")
    write_text(target / "README.md", _card(folder.name, tested, student.features))
    return target


def _card(name: str, tested: Evaluation, features: FeatureConfig) -> str:
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
        "**Licence**: set `license` above before publishing; it depends on the licence of the data.",
        "## Accuracy on the test set\n" + _accuracies(test),
        "Chosen on the dev set alone; the test set was used once. Result of a single seed: no significance can be claimed.",
        "## By class\n" + _classes(tested),
        "## Use\n```bash\npython -m mm_ray.predict student.safetensors a.wav\n```\n"
        "`student.onnx` takes `audio` (B, T, F), float32, and `lengths` (B,), int64, the number of frames of each clip; it "
        "gives `logits` (B, C). What lies behind a clip's length does not matter; a length of 0 gives the logits of one frame "
        "of zeros. Its metadata hold `class_names` and `features` (JSON), as `student.json` does.",
        "## Audio features\n" + _recipe(features),
        f"The same in numpy:\n```python\n{inspect.getsource(numpy_features)}```",
        "And the logits:\n```python\n" + LOGITS_IN_PYTHON + "```",
        "## Settings\n```yaml\n" + yaml.safe_dump(_public(flatten(to_dict(config))), sort_keys=False) + "```",
    ]
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n" + "\n\n".join(sections) + "\n"


LOGITS_IN_PYTHON = """import json
import onnxruntime

session = onnxruntime.InferenceSession("student.onnx")
notes = session.get_modelmeta().custom_metadata_map
audio = audio_features(waveform, rate, json.loads(notes["features"]))[None]
(logits,) = session.run(None, {"audio": audio, "lengths": np.array([audio.shape[1]])})
label = json.loads(notes["class_names"])[logits[0].argmax()]
"""


def _recipe(features: FeatureConfig) -> str:
    """Every step from a recording to what the network reads: a step left out costs half the accuracy."""
    rate = features.sample_rate
    window, hop = (rate * ms // 1000 for ms in (features.frame_ms, features.hop_ms))
    size = 1 << (window - 1).bit_length()
    steps = [
        "Mono: the mean of the channels, as floats in [-1, 1] (not scaled to 16 bits).",
        f"Resampled to {rate} Hz by `torchaudio.transforms.Resample` with its defaults: a sinc with 6 zero crossings a side "
        "under a Hann window, cut off at 0.99 of half the lower rate.",
        f"Frames of {window} samples ({features.frame_ms} ms) every {hop} samples ({features.hop_ms} ms), whole ones only, at "
        f"most the first {features.max_frames}. A recording shorter than one frame is padded with zeros at its end.",
        "In each frame: the mean subtracted; pre-emphasis x[n] - 0.97 x[n-1], with x[-1] = x[0]; a Hamming window, "
        f"0.54 - 0.46 cos(2 pi n / {window - 1}); zeros to {size} samples; the power spectrum |FFT|^2. No dither.",
        f"{features.num_mels} triangular mel filters, linear in mel = 1127 ln(1 + f / 700), evenly spaced from 20 Hz to "
        f"{rate / 2:g} Hz, each with a peak of 1 (Kaldi's, `torchaudio.compliance.kaldi.fbank`).",
        "The natural logarithm of max(energy, 2^-23).",
        "**Each bin normalised over the clip**: minus its mean over the clip's frames, divided by its standard deviation over "
        "them (the population's, divided by T) + 1e-5. Not over the training set, and not over frames that are cut off.",
        "Rounded to float16, and given to the network as float32.",
    ]
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))


def _accuracies(test: dict[str, dict[str, float]]) -> str:
    lines = ["| network | top-1 | UAR | macro-F1 |", "|---|---|---|---|"]
    for role, label in ROLE_LABELS.items():
        if role in test:
            scores = test[role]
            lines.append(f"| {label} | {scores['top1']:.3f} | {scores['uar']:.3f} | {scores['macro_f1']:.3f} |")
    return "\n".join(lines)


def _classes(tested: Evaluation) -> str:
    names = tested.finished.plan.federation.table.class_names
    student_CC, control_CC = tested.confusions["student"], tested.confusions["control"]
    rows = zip(names, student_CC.sum(1), recall(student_CC), recall(control_CC), strict=True)
    lines = [f"| {_cell(name)} | {clips} | {mine:.3f} | {other:.3f} |" for name, clips, mine, other in rows]
    return "\n".join(["| class | test clips | student's recall | control's recall |", "|---|---|---|---|", *lines])


def _cell(text: str) -> str:
    """Text in a table of Markdown, in which a bar or a line break would begin something else."""
    return " ".join(text.split()).replace("|", "\\|")


def _public(flat: dict[str, Any]) -> dict[str, Any]:
    """The settings as plain values, without those that name places on a machine."""
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in flat.items()}
    return {key: value for key, value in plain.items() if key not in PRIVATE and not (isinstance(value, str) and "/" in value)}
