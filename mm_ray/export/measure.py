"""What an exported student is worth: its accuracy in ONNX Runtime, its size, and its time on one core.

Shape suffixes: T audio frames, F audio bins, N clips, C classes.
"""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mm_ray.config import PRECOMPUTED
from mm_ray.data.feature_table import FeatureTable
from mm_ray.evaluate.metrics import confusion_matrix
from mm_ray.fed.evaluation import by_recording
from mm_ray.models.onnx_export import write_onnx
from mm_ray.models.student import Student

QUANTIZED = ("Conv", "MatMul", "Gemm")
FRONT_END = ("real_BTK", "imaginary_BTK", "energy_BTF")
"""Products of the front end: of energies over nine powers of ten, eight bits keep nothing."""
_LATENCY_S, _REPEATS = 10.0, 5


@dataclass(frozen=True)
class Variant:
    """One file of the student, as measured."""

    file: str
    what: str
    num_bytes: int
    latency_ms: float | None
    """For ten seconds of audio, on one core; `None` where ONNX Runtime is not installed."""
    confusion_CC: np.ndarray | None
    """On the test clips; `None` where the data is not at hand."""


def has_onnxruntime() -> bool:
    """Whether the extra `mm-ray[export]` is installed."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    return True


def write_quantized(source: Path, target: Path) -> None:
    """A variant whose matrix products and convolutions have 8-bit weights; the front end and the GRU stay as they are."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # it would like shapes to be inferred first, which changes nothing here
    try:
        quantize_dynamic(
            source, target, op_types_to_quantize=list(QUANTIZED), nodes_to_exclude=list(FRONT_END), weight_type=QuantType.QInt8
        )
    finally:
        logging.disable(logging.NOTSET)


def session_of(path: Path) -> Any:
    """The model in ONNX Runtime, on one core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def latency_ms(student: Student, path: Path) -> float:
    """The least time that ten seconds of audio take on one core, of five tries."""
    session, num_samples = session_of(path), round(_LATENCY_S * student.features.sample_rate)
    name, shape = session.get_inputs()[0].name, (1, num_samples)
    if student.features.audio == PRECOMPUTED:
        shape = (1, student.features.max_frames, student.audio_bins)  # type: ignore[assignment]
    given = {name: np.random.default_rng(0).standard_normal(shape, np.float32) * 0.1, "lengths": np.array([shape[1]])}
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        session.run(None, given)
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def confusions_on_test(student: Student, table: FeatureTable) -> tuple[np.ndarray, np.ndarray]:
    """Confusion matrices (C, C) on the test clips, of the student and of its quantised variant.

    The clips' features come from the table, since its recordings need not be at hand: both run without the front end, which
    is the same in both.
    """
    reads_features = replace(student, features=replace(student.features, audio="precomputed"))
    with TemporaryDirectory() as folder:
        plain, quantized = Path(folder, "plain.onnx"), Path(folder, "quantized.onnx")
        write_onnx(reads_features, plain)
        write_quantized(plain, quantized)
        first, second = (_confusion(session_of(path), table) for path in (plain, quantized))
    return first, second


def _confusion(session: Any, table: FeatureTable) -> np.ndarray:
    rows = table.rows("test")
    logits = []
    for row in rows:
        audio_TF = table.audio_flat_XF[table.audio_offsets_N1[row] : table.audio_offsets_N1[row + 1]].astype(np.float32)
        logits_BC = session.run(["logits"], {"audio": audio_TF[None], "lengths": np.array([len(audio_TF)])})[0]
        logits.append(logits_BC[0])
    file_rows, scores_RC = by_recording(np.array(logits), rows, table)
    return confusion_matrix(table.labels_N[file_rows], scores_RC.argmax(1), len(table.class_names))
