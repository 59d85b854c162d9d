"""What a student hears in a recording of any length: windows with overlap, each as long as a training clip.

A window is normalised by itself, as a clip is; `mm_ray.data.windows` cuts them.
Shape suffixes: N samples, T audio frames, F audio bins, W windows, C classes.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from mm_ray.data.audio_features import FIELD, compute_audio
from mm_ray.data.features.log_mel import check_finite, check_frames, log_mel_blocks, normalized
from mm_ray.data.windows import Windows, cut_windows, windows_in_frames
from mm_ray.devices import encoders_on
from mm_ray.errors import UserError, bad_value
from mm_ray.models.student import Student
from mm_ray.types import Batch

_AT_ONCE = 16
"""Windows in one pass of the network."""


def predict_windows(
    student: Student, waveform_N: np.ndarray, sample_rate: int, window_s: float | None = None, hop_s: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of each window of a recording.

    Args:
        student: One that reads waveforms.
        waveform_N: Mono samples in [-1, 1].
        sample_rate: Hz.
        window_s: Length of a window, seconds; `None`: that of the student's training clips.
        hop_s: Shift between windows, seconds; `None`: half a window.

    Returns:
        Begin and end of each window in seconds (W, 2), and its probabilities (W, C). The recording's are their mean.

    Raises:
        UserError: A bad window or hop, a waveform that is too short or not finite, or weights that are damaged.

    """
    windows = windows_in_frames(student.features, window_s, hop_s)
    return predict_blocks(student, [np.asarray(waveform_N, np.float32)], sample_rate, windows, "waveform")


def predict_blocks(
    student: Student, blocks: Iterable[np.ndarray], sample_rate: int, windows: Windows, place: str
) -> tuple[np.ndarray, np.ndarray]:
    """The same for a waveform that comes in blocks, of which some seconds are held at a time; `place` names it in errors."""
    features, num_samples = student.features, 0
    if features.is_pretrained_audio or features.is_own_audio:
        return _predict_by_window(student, blocks, sample_rate, windows, place)

    def counted() -> Iterator[np.ndarray]:
        nonlocal num_samples
        for block_N in blocks:
            num_samples += len(block_N)
            yield block_N

    found = cut_windows(log_mel_blocks(counted(), sample_rate, features), windows)
    times, probabilities = [], []
    while some := list(itertools.islice(found, _AT_ONCE)):
        audio_WTF = np.stack([normalized(mel_TF) for _, mel_TF in some])
        for audio_TF in audio_WTF:
            check_frames(audio_TF, num_samples / max(sample_rate, 1), features, place)
        times += [(start, start + len(mel_TF)) for start, mel_TF in some]
        probabilities.append(window_probabilities(student, audio_WTF, place))
    frames_W2 = np.array(times) * features.hop_ms + [0, features.frame_ms - features.hop_ms]
    return frames_W2 / 1000, np.concatenate(probabilities)


def _predict_by_window(
    student: Student, blocks: Iterable[np.ndarray], sample_rate: int, windows: Windows, place: str
) -> tuple[np.ndarray, np.ndarray]:
    """The same for features of a pretrained encoder or of the user's own function, which gets one window after the other."""
    features = student.features
    frame, hop = (sample_rate * ms / 1000 for ms in (features.frame_ms, features.hop_ms))
    ranges, probabilities = [], []
    for first, stop, window_N in _cut_samples(blocks, frame, hop, windows):
        with encoders_on(student.device.type):
            audio_TD = compute_audio(window_N, sample_rate, replace(features, max_frames=windows.size), place)
        check_finite(audio_TD, place)
        if audio_TD.shape[1] != student.audio_bins:
            problem = f"gives {audio_TD.shape[1]} numbers per frame, this student takes {student.audio_bins}"
            raise bad_value(FIELD, features.audio, f"{problem}; give what it was trained with")
        ranges.append((first, stop))
        probabilities.append(window_probabilities(student, audio_TD[None], place)[0])
    frames_W2 = np.array(ranges) * features.hop_ms + [0, features.frame_ms - features.hop_ms]
    return frames_W2 / 1000, np.stack(probabilities)


def _cut_samples(
    blocks: Iterable[np.ndarray], frame: float, hop: float, windows: Windows
) -> Iterator[tuple[int, int, np.ndarray]]:
    """The samples of each window, and its first frame and the one behind its last; a window and a block are held at a time.

    Args:
        blocks: The waveform in pieces, (N,) float32.
        frame: Samples of a frame, which need not be whole.
        hop: Samples between frames.
        windows: In frames; a recording shorter than a frame has one.

    """
    held_N, dropped = np.zeros(0, np.float32), 0

    def frame_numbers() -> Iterator[np.ndarray]:
        nonlocal held_N, dropped
        num_frames = 0
        for block_N in blocks:
            held_N = np.concatenate([held_N, block_N])
            complete = max(1 + int((dropped + len(held_N) - frame) // hop), 0)
            if complete > num_frames:
                yield np.arange(num_frames, complete)[:, None]
                num_frames = complete
                past = max(round((num_frames - windows.size) * hop) - dropped, 0)  # in no window that is still to come
                held_N, dropped = held_N[past:], dropped + past
        if not num_frames:
            yield np.arange(1)[:, None]

    for first, numbers_T1 in cut_windows(frame_numbers(), windows):
        stop = first + len(numbers_T1)
        yield first, stop, held_N[round(first * hop) - dropped : round((stop - 1) * hop + frame) - dropped]


def window_probabilities(student: Student, audio_WTF: np.ndarray, place: str) -> np.ndarray:
    """The student's probabilities (W, C) for features of equal length.

    Raises:
        UserError: The student's weights are damaged.

    """
    lengths_W = torch.full((len(audio_WTF),), audio_WTF.shape[1])
    audio = torch.from_numpy(audio_WTF.astype(np.float32))
    batch = Batch(audio, lengths_W, None, None, torch.zeros(len(audio), dtype=torch.long), np.zeros(len(audio), int))
    with torch.inference_mode():
        probabilities_WC: np.ndarray = student.network(batch.to(student.device)).logits_BC.softmax(1).cpu().numpy()
    if not np.isfinite(probabilities_WC).all():
        raise UserError(f"{place}: the student's prediction is not finite; train the student again, its weights are damaged")
    return probabilities_WC
