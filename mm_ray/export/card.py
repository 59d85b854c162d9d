"""The model card of an export: Hugging Face's kind, with what a stranger must know to use the student and to doubt it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from mm_ray.config import PRECOMPUTED, FeatureConfig, flatten, to_dict
from mm_ray.evaluate.metrics import recall
from mm_ray.evaluate.statistics import proportion_interval
from mm_ray.export.measure import Variant
from mm_ray.export.subject import Subject
from mm_ray.models.student import Student
from mm_ray.types import UNLABELLED

ROLE_LABELS = {
    "student": "distilled student",
    "control_all": "control_all (cross-entropy)",
    "control": "control (AV clients only)",
    "phase1_audio": "phase 1, un-distilled",
    "teacher": "audiovisual teacher",
}
PRIVATE = ("data.root", "data.annotations", "data.classes", "data.video_weights", "partition.label_confusion")
"""Settings that name files of whoever trained the student."""


def card_of(
    subject: Subject,
    student: Student,
    confusions: Mapping[str, np.ndarray],
    variants: Sequence[Variant],
    digests: Mapping[str, str],
) -> str:
    """The text of `README.md`. Its licence is left open: it depends on the data's."""
    config, names = subject.config, student.class_names
    sections = [
        f"# {subject.name}: audio classifier of {len(names)} classes",
        f"Trained with `{config.method}` (docs/method.md of mm_ray) on `{config.data.name}`, fold {config.data.fold}, seed "
        f"{subject.result.get('seed', config.seed)}. Digest of the parameters `{subject.result.get('params_digest', '')}`.",
        "**Licence**: set `license` above before publishing; it depends on the licence of the data.",
        "## Intended use\n" + _intended_use(student),
        "## Use\n" + (USE_FEATURES if student.features.audio == PRECOMPUTED else USE),
        "## Files\n" + _files(variants, digests),
        "## Accuracy on the test set\n" + _accuracies(subject, confusions),
        "## By class\n" + _classes(names, confusions) if "student" in confusions else "",
        "## Training data and clients\n" + _training(subject),
        "## Limits\n" + _limits(student),
        "## Audio features\n" + _recipe(student.features) if student.features.audio != PRECOMPUTED else "",
        "## Settings\n```yaml\n" + yaml.safe_dump(_public(flatten(to_dict(config))), sort_keys=False) + "```",
    ]
    head = yaml.safe_dump(_head(subject, confusions), sort_keys=False)
    return f"---\n{head}---\n" + "\n\n".join(section for section in sections if section) + "\n"


def _head(subject: Subject, confusions: Mapping[str, np.ndarray]) -> dict[str, Any]:
    config = subject.config
    top1 = subject.result["test"]["student"]["top1"]
    metrics = [{"type": "accuracy", "value": round(float(top1), 4), "name": "top-1 on the test clips"}]
    dataset = {"name": config.data.name, "type": config.data.name, "split": "test"}
    return {
        "license": "unknown",
        "library_name": "mm_ray",
        "pipeline_tag": "audio-classification",
        "tags": ["federated-learning", "knowledge-distillation", "onnx", config.method],
        "datasets": [config.data.name],
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": subject.name,
                "results": [{"task": {"type": "audio-classification"}, "dataset": dataset, "metrics": metrics}],
            }
        ],
    }


USE = """```bash
pip install numpy onnxruntime
python predict.py a.wav                                    # label, probability, file
python -m mm_ray.predict student.safetensors a.mp3         # with mm_ray: any format
```
`student.onnx` takes `waveform` (B, N), float32, mono in [-1, 1] at the sample rate in its metadata, and `lengths` (B,), int64,
the number of samples of each recording. It gives `logits` and `probabilities`, both (B, C). What lies behind a recording's
length does not matter. A recording longer than a training clip is cut into windows with overlap inside the file, and its
probabilities are the windows' mean. The metadata hold `class_names`, `features`, `sample_rate`, `window_frames` and
`hop_frames` (JSON)."""

USE_FEATURES = """`student.onnx` takes `audio` (B, T, F), float32, precomputed features, and `lengths` (B,), int64, the number
of frames of each recording. It gives `logits` and `probabilities`, both (B, C). What lies behind a recording's length does not
matter. The metadata hold `class_names`, `features`, `window_frames` and `hop_frames` (JSON)."""


def _intended_use(student: Student) -> str:
    known = ", ".join(f"`{_cell(name)}`" for name in student.class_names[:20])
    more = f" and {len(student.class_names) - 20} more" if len(student.class_names) > 20 else ""
    return f"One of these classes for each recording that holds one of them: {known}{more}. It reads audio only."


def _limits(student: Student) -> str:
    seconds = student.features.audio_s
    lines = [
        "It always names one of its classes, also for audio that is none of them, and for silence.",
        "Its probabilities are not calibrated.",
        "It was tested on recordings like those it was trained on; other microphones, rooms and speakers lower its accuracy.",
        "Result of a single seed: no significance can be claimed.",
    ]
    if student.features.audio != PRECOMPUTED:
        lines.insert(1, f"It was trained on clips of {seconds:g} s at most; longer recordings are the mean of such windows.")
    return "\n".join(f"- {line}" for line in lines)


def _training(subject: Subject) -> str:
    config, federation = subject.config, subject.federation
    how = f"`{config.partition.kind}` partition, seed {config.seed}"
    if federation is None:
        return f"Data set `{config.data.name}`, {how}. The data was not at hand when this was exported."
    clients, table = federation.clients, federation.table
    with_video = sum("video" in client.modalities for client in clients)
    labelled = int(sum((client.labels != UNLABELLED).sum() for client in clients))
    num_train, num_dev, num_test = len(table.rows("train")), *(len(table.file_rows(split)) for split in ("dev", "test"))
    return (
        f"A simulated federation of {len(clients)} clients ({how}): {with_video} with audio and video, "
        f"{len(clients) - with_video} with audio only. {num_train:,} training clips, {labelled:,} of them with a label; "
        f"{num_dev:,} dev clips, by which the best round was chosen; {num_test:,} test clips, used once. Data fingerprint "
        f"`{table.fingerprint}`."
    )


def _files(variants: Sequence[Variant], digests: Mapping[str, str]) -> str:
    lines = ["| file | weights | bytes | 10 s of audio on one core | top-1 on the test clips |", "|---|---|---|---|---|"]
    for one in variants:
        latency = "not measured" if one.latency_ms is None else f"{one.latency_ms:.1f} ms"
        lines.append(f"| `{one.file}` | {one.what} | {one.num_bytes:,} | {latency} | {_score(one.confusion_CC)} |")
    sums = "\n".join(f"{digest}  {name}" for name, digest in digests.items())
    return "\n".join(lines) + f"\n\nsha256, also in `SHA256SUMS` (`sha256sum -c SHA256SUMS`):\n```\n{sums}\n```"


def _score(confusion_CC: np.ndarray | None) -> str:
    if confusion_CC is None:
        return "not measured"
    hits, clips = int(np.trace(confusion_CC)), int(confusion_CC.sum())
    low, high = proportion_interval(hits, clips)
    return f"{hits / max(clips, 1):.3f} ({low:.3f} to {high:.3f}, n = {clips:,})"


def _accuracies(subject: Subject, confusions: Mapping[str, np.ndarray]) -> str:
    lines = ["| network | top-1 | UAR | macro-F1 | 95 % interval of top-1 |", "|---|---|---|---|---|"]
    for role, label in ROLE_LABELS.items():
        if role in subject.result["test"]:
            scores, interval = subject.result["test"][role], ""
            if role in confusions:
                hits, clips = int(np.trace(confusions[role])), int(confusions[role].sum())
                interval = "{:.3f} to {:.3f}, n = {:,}".format(*proportion_interval(hits, clips), clips)
            lines.append(f"| {label} | {scores['top1']:.3f} | {scores['uar']:.3f} | {scores['macro_f1']:.3f} | {interval} |")
    note = "Chosen on the dev set alone; the test set was used once. The intervals (Wilson's) hold for independent clips; clips"
    return "\n".join(lines) + f"\n\n{note} of one speaker are not, so the true intervals are wider."


def _classes(names: Sequence[str], confusions: Mapping[str, np.ndarray]) -> str:
    columns = [role for role in ("student", "control") if role in confusions]
    recalls = [recall(confusions[role]) for role in columns]
    rows = zip(names, confusions["student"].sum(1), *recalls, strict=True)
    lines = [
        f"| {_cell(name)} | {clips} | " + " | ".join(f"{value:.3f}" for value in values) + " |" for name, clips, *values in rows
    ]
    heads = " | ".join(f"{role}'s recall" for role in columns)
    return "\n".join([f"| class | test clips | {heads} |", "|---" * (2 + len(columns)) + "|", *lines])


def _recipe(features: FeatureConfig) -> str:
    """Every step from a recording to what the network reads, which `student.onnx` does from the third on."""
    rate = features.sample_rate
    window, hop = (rate * ms // 1000 for ms in (features.frame_ms, features.hop_ms))
    size = 1 << (window - 1).bit_length()
    steps = [
        "Mono: the mean of the channels, as floats in [-1, 1] (not scaled to 16 bits).",
        f"Resampled to {rate} Hz by `torchaudio.transforms.Resample` with its defaults: a sinc with 6 zero crossings a side "
        "under a Hann window, cut off at 0.99 of half the lower rate.",
        f"Frames of {window} samples ({features.frame_ms} ms) every {hop} samples ({features.hop_ms} ms), whole ones only, at "
        f"most {features.max_frames} in a window. A recording shorter than one frame is padded with zeros at its end.",
        "In each frame: the mean subtracted; pre-emphasis x[n] - 0.97 x[n-1], with x[-1] = x[0]; a Hamming window, "
        f"0.54 - 0.46 cos(2 pi n / {window - 1}); zeros to {size} samples; the power spectrum |FFT|^2. No dither.",
        f"{features.num_mels} triangular mel filters, linear in mel = 1127 ln(1 + f / 700), evenly spaced from 20 Hz to "
        f"{rate / 2:g} Hz, each with a peak of 1 (Kaldi's, `torchaudio.compliance.kaldi.fbank`).",
        "The natural logarithm of max(energy, 2^-23).",
        "**Each bin normalised over the window**: minus its mean over the window's frames, divided by its standard deviation "
        "over them (the population's, divided by T) + 1e-5. Not over the training set.",
        "Rounded to float16, and given to the network as float32.",
    ]
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))


def _cell(text: str) -> str:
    """Text in a table of Markdown, in which a bar or a line break would begin something else."""
    return " ".join(text.split()).replace("|", "\\|")


def _public(flat: dict[str, Any]) -> dict[str, Any]:
    """The settings as plain values, without those that name places on a machine."""
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in flat.items()}
    return {key: value for key, value in plain.items() if key not in PRIVATE and not (isinstance(value, str) and "/" in value)}
