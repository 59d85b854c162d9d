"""`python -m mm_ray.predict STUDENT.safetensors a.wav b.flac ...`: what a student hears in recordings."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mm_ray.cli import Parser, run_main
from mm_ray.config import PRECOMPUTED
from mm_ray.data.features.log_mel import finite_features
from mm_ray.data.media.decode import read_audio
from mm_ray.data.precomputed import is_array, read_frames
from mm_ray.errors import UserError, printable
from mm_ray.models.student import Student, load_student
from mm_ray.types import Batch

DESCRIPTION = """Print the label and its probability for each recording, one line each. Any format that FFmpeg reads, any
sample rate, mono or stereo. A file that cannot be read gets a line on stderr, the others are predicted, the exit code is 2."""


def main(argv: Sequence[str]) -> None:
    """Parse the flags and predict file by file."""
    parser = Parser("mm_ray.predict", DESCRIPTION)
    parser.add_argument("student", help="A run's student.safetensors (student.json lies beside it)")
    parser.add_argument("files", nargs="+", help="Recordings")
    parser.add_argument("--json", action="store_true", help="One JSON object a line: file, label, probability, probabilities")
    flags = parser.parse_args(argv)
    student = load_student(Path(flags.student))
    torch.set_num_threads(1)
    failed = [file for file in flags.files if not _told(student, file, flags.json)]
    if failed:
        sys.exit(2)


def _told(student: Student, file: str, as_json: bool) -> bool:
    try:
        answer = predict(student, file)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return False
    line = f"{printable(answer['label'])}\t{answer['probability']:.4f}\t{printable(file)}"
    print(json.dumps(answer) if as_json else line, flush=True)
    return True


def predict(student: Student, file: str) -> dict[str, Any]:
    """The student's word on one recording: `file`, `label`, `probability`, and `probabilities` by label.

    Raises:
        UserError: The file is no recording, or the student's weights are damaged.

    """
    audio_TF = _features(student, file).astype(np.float32)
    length_B = torch.tensor([len(audio_TF)])
    batch = Batch(torch.from_numpy(audio_TF)[None], length_B, None, None, torch.zeros(1, dtype=torch.long), np.zeros(1, int))
    with torch.inference_mode():
        probabilities_C = student.network(batch).logits_BC[0].softmax(0).tolist()
    if not np.isfinite(probabilities_C).all():
        raise UserError(f"{file}: the student's prediction is not finite; train it anew, its weights are damaged")
    best = int(np.argmax(probabilities_C))
    return {
        "file": file,
        "label": student.class_names[best],
        "probability": probabilities_C[best],
        "probabilities": dict(zip(student.class_names, probabilities_C, strict=True)),
    }


def _features(student: Student, file: str) -> np.ndarray:
    if student.features.audio != PRECOMPUTED:
        waveform_N, sample_rate = read_audio(file, student.features.audio_s)
        return finite_features(waveform_N, sample_rate, student.features, file)
    if not is_array(file):
        raise UserError(f"{file}: this student was trained on precomputed features; give their array, FILE.npy or FILE.npz#KEY")
    audio_TF = read_frames(file)
    if audio_TF.shape[1] != student.audio_bins:
        raise UserError(f"{file}: has {audio_TF.shape[1]} numbers a frame, this student takes {student.audio_bins}")
    return audio_TF[: student.features.max_frames]


if __name__ == "__main__":
    run_main(main)
