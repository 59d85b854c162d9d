"""The export folder: what somebody without this project needs to use a student, and to judge it."""

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from mm_ray.config import PRECOMPUTED
from mm_ray.export.card import card_of
from mm_ray.export.demo import write_demo
from mm_ray.export.measure import Variant, confusions_on_test, has_onnxruntime, latency_ms, write_quantized
from mm_ray.export.subject import STUDENT, Subject
from mm_ray.models.onnx_export import write_onnx
from mm_ray.models.student import load_student
from mm_ray.plugins import public_name
from mm_ray.storage import write_bytes, write_text

MODEL, QUANTIZED = "student.onnx", "student.int8.onnx"
CARD, CHECKSUMS = "README.md", "SHA256SUMS"
SUMMED = (MODEL, QUANTIZED, STUDENT, "student.json", "predict.py", "demo.html")
FILES = (*SUMMED, CARD, CHECKSUMS)
"""All that an export can hold; other files in its folder are none of its business."""


def write_export(target: Path, subject: Subject, demo: str = "", encoder: str = "") -> Path:
    """Write the export folder; returns it.

    Args:
        target: The folder; it is made, files of an earlier export are replaced.
        subject: The student.
        demo: Where `mm_ray.export.demo` finds the browser's runtime; empty: no `demo.html`.
        encoder: The student's encoder, if it is the user's own.

    It holds `student.onnx`, its variant of 8-bit weights (with `mm-ray[export]`), `predict.py`, the student's own files, the
    card `README.md` and `SHA256SUMS`. The card is Hugging Face's kind: YAML between dashes, then Markdown.

    Raises:
        UserError: The student cannot be read, or its encoder cannot be written as ONNX.

    """
    student = load_student(subject.student, encoder)
    with TemporaryDirectory() as workspace:  # an encoder that cannot be written leaves nothing behind
        write_onnx(student, written := Path(workspace, MODEL))
        target.mkdir(parents=True, exist_ok=True)
        for name in (QUANTIZED, "predict.py", "demo.html"):  # of an earlier export, which may have had more
            (target / name).unlink(missing_ok=True)
        write_bytes(target / MODEL, written.read_bytes())
    tensors, description = subject.student.read_bytes(), _public_description(subject.student)
    write_bytes(target / STUDENT, tensors)
    write_text(target / "student.json", description)
    if student.features.audio != PRECOMPUTED:
        write_text(target / "predict.py", Path(__file__).with_name("standalone_predict.py").read_text())
    if demo:
        write_demo(target, subject.name, student, demo)
    confusions = dict(subject.confusions)
    variants = [Variant(MODEL, "32-bit weights", (target / MODEL).stat().st_size, None, confusions.get("student"))]
    if has_onnxruntime():
        write_quantized(target / MODEL, target / QUANTIZED)
        plain_CC, quantized_CC = confusions_on_test(student, subject.federation.table) if subject.federation else (None, None)
        variants = [
            Variant(name, what, (target / name).stat().st_size, latency_ms(student, target / name), confusion_CC)
            for name, what, confusion_CC in (
                (MODEL, "32-bit weights", plain_CC),
                (QUANTIZED, "8-bit weights", quantized_CC),
            )
        ]
        if plain_CC is not None:
            confusions.setdefault("student", plain_CC)
    files = sorted(name for name in SUMMED if (target / name).is_file())
    digests = {name: hashlib.sha256((target / name).read_bytes()).hexdigest() for name in files}
    write_text(target / CHECKSUMS, "".join(f"{digest}  {name}\n" for name, digest in digests.items()))
    write_text(target / CARD, card_of(subject, student, confusions, variants, digests))
    return target


def _public_description(student: Path) -> str:
    """`student.json`, in which names of models and code hold no folder of this machine."""
    content = json.loads(student.with_suffix(".json").read_text())
    for section, names in (("features", ("audio", "video")), ("model", ("audio_encoder", "video_encoder"))):
        content[section] |= {name: public_name(content[section][name]) for name in names}
    return json.dumps(content, indent=2)
