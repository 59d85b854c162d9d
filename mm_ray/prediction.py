"""What a trained student hears in recordings of any length: the work of `mm_ray.predict`."""

import glob
import itertools
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import torch

from mm_ray.config import PRECOMPUTED
from mm_ray.data.dataset_helpers import files_below
from mm_ray.data.features.log_mel import BLOCK_S
from mm_ray.data.media.decode import AudioBlocks
from mm_ray.data.precomputed import is_array, read_frames
from mm_ray.data.windows import Windows, cut_windows, windows_in_frames
from mm_ray.errors import UserError, bad_value
from mm_ray.evaluate.windows import predict_blocks, window_probabilities
from mm_ray.models.student import Student

STDIN = "-"


@dataclass(frozen=True)
class HeardWindows:
    """What a student hears in one recording. Shape suffixes: W windows, C classes."""

    file: str
    class_names: tuple[str, ...]
    times_W2: np.ndarray
    """Begin and end of each window, seconds; of an array of features, frames."""
    probabilities_WC: np.ndarray
    is_silent: bool = False

    def to_json(self) -> dict[str, Any]:
        """`file`, `label`, `probability`, `probabilities` by label: the mean over the windows."""
        return {"file": self.file, **self._answer(self.probabilities_WC.mean(0))}

    def windows_to_json(self) -> list[dict[str, Any]]:
        """The same for each window, with its `start_s` and `end_s`."""
        rows = zip(self.times_W2.tolist(), self.probabilities_WC, strict=True)
        return [{"file": self.file, "start_s": begin, "end_s": end, **self._answer(row_C)} for (begin, end), row_C in rows]

    def _answer(self, probabilities_C: np.ndarray) -> dict[str, Any]:
        best = int(probabilities_C.argmax())
        by_label = dict(zip(self.class_names, probabilities_C.tolist(), strict=True))
        return {"label": self.class_names[best], "probability": by_label[self.class_names[best]], "probabilities": by_label}


def predict_all(student: Student, names: Sequence[str], windows: Windows, jobs: int) -> Iterator[HeardWindows | UserError]:
    """What a student hears in the recordings that some names stand for, several at once, in the order of the names.

    A file that cannot be read gives its error and does not end the rest.
    """
    torch.set_num_threads(1)
    with ThreadPoolExecutor(jobs) as pool:
        waiting = iter(itertools.chain.from_iterable(map(recordings_of, names)))
        while some := list(itertools.islice(waiting, 16 * jobs)):  # a few files ahead of what is printed
            yield from pool.map(partial(answer_of, student, windows=windows), some)


def windows_of(student: Student, window_s: float | None, hop_s: float | None) -> Windows:
    """Windows in frames, as the flags say.

    Raises:
        UserError: A window or hop that is out of range, or given for a student that reads arrays.

    """
    if student.features.audio == PRECOMPUTED and (window_s, hop_s) != (None, None):
        flag, value = ("window", window_s) if window_s is not None else ("hop", hop_s)
        raise bad_value(flag, value, "this student reads arrays, whose frames have no length in seconds; leave it out")
    return windows_in_frames(student.features, window_s, hop_s)


def recordings_of(name: str) -> list[str]:
    """The files that a name stands for: a file itself, a folder's recordings below it, or those that match a pattern.

    A folder or pattern without recordings stands for itself, so that it gets its line.
    """
    if os.path.isdir(name):
        return [os.path.join(name, file) for file in files_below(name)] or [name]
    if os.path.lexists(name) or not glob.has_magic(name):
        return [name]
    return sorted(file for file in glob.glob(name, recursive=True) if os.path.isfile(file)) or [name]


def answer_of(student: Student, file: str, windows: Windows) -> HeardWindows | UserError:
    """What a student hears in a recording, or why nothing."""
    try:
        return predict_file(student, file, windows)
    except UserError as error:
        return error


def predict(student: Student, file: str) -> dict[str, Any]:
    """The student's word on one recording of any length: `file`, `label`, `probability`, and `probabilities` by label.

    Raises:
        UserError: The file is no recording, or the student's weights are damaged.

    """
    return predict_file(student, file, windows_of(student, None, None)).to_json()


def predict_file(student: Student, file: str, windows: Windows) -> HeardWindows:
    """What a student hears in each window of a recording; memory does not grow with its length.

    Raises:
        UserError: The file is no recording, is too short, or holds samples that are no numbers; or the weights are damaged.

    """
    if student.features.audio == PRECOMPUTED:
        return _predict_array(student, file, windows)
    if file == STDIN:
        return _predict_stdin(student, windows)
    if os.path.isdir(file):
        raise UserError(f"{file}: holds no recordings; check the folder")
    audio = AudioBlocks(file, BLOCK_S)
    blocks = iter(audio)
    first_N = next(blocks)
    times_W2, probabilities_WC = predict_blocks(student, itertools.chain([first_N], blocks), audio.sample_rate, windows, file)
    return HeardWindows(file, student.class_names, times_W2, probabilities_WC, audio.is_silent)


def _predict_stdin(student: Student, windows: Windows) -> HeardWindows:
    """A recording on stdin is put into a file first: most formats have to be sought in."""
    with NamedTemporaryFile() as spooled:
        shutil.copyfileobj(sys.stdin.buffer, spooled)
        spooled.flush()
        try:
            heard = predict_file(student, spooled.name, windows)
        except UserError as error:
            raise UserError(str(error).replace(spooled.name, "stdin")) from error
    return HeardWindows(STDIN, heard.class_names, heard.times_W2, heard.probabilities_WC, heard.is_silent)


def _predict_array(student: Student, file: str, windows: Windows) -> HeardWindows:
    if not is_array(file):
        raise UserError(f"{file}: this student was trained on precomputed features; give their array, FILE.npy or FILE.npz#KEY")
    audio_TF = read_frames(file)
    if audio_TF.shape[1] != student.audio_bins:
        raise UserError(f"{file}: has {audio_TF.shape[1]} numbers a frame, this student takes {student.audio_bins}")
    found = list(cut_windows([audio_TF], windows))
    times_W2 = np.array([(start, start + len(window_TF)) for start, window_TF in found])
    rows = [window_probabilities(student, window_TF[None], file)[0] for _, window_TF in found]
    return HeardWindows(file, student.class_names, times_W2, np.stack(rows))
