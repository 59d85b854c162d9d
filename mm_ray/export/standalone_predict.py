"""python predict.py a.wav b.wav ...: label, probability and file. Needs numpy and onnxruntime; student.onnx lies beside it."""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(str(Path(__file__).with_name("student.onnx")))
notes = {name: json.loads(note) for name, note in session.get_modelmeta().custom_metadata_map.items()}
RATE, SIZE, STEP = notes["sample_rate"], notes["window_frames"], notes["hop_frames"]
FRAME, SHIFT = (RATE * notes["features"][name] // 1000 for name in ("frame_ms", "hop_ms"))


def read(path: str) -> np.ndarray:
    """A PCM wav file as mono floats in [-1, 1] at the student's rate."""
    with wave.open(path) as file:
        width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
        data = np.frombuffer(file.readframes(file.getnframes()), np.uint8).reshape(-1, width)
    if width == 1:
        samples = data[:, 0] / 128.0 - 1
    else:  # little endian, brought to 32 bits
        samples = np.pad(data, ((0, 0), (4 - width, 0))).copy().view("<i4")[:, 0] / 2.0**31
    return resample(samples.reshape(-1, channels).mean(1), rate)


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Interpolate by a sinc of six zero crossings on each side under a Hann window, cut off at 0.99 of the lower rate."""
    if rate == RATE:
        return samples.astype(np.float32)
    cutoff = 0.99 * min(rate, RATE) / rate
    reach = int(np.ceil(6 / cutoff))
    padded, pieces = np.pad(samples, (reach, reach + 2)), []
    for some in np.array_split(np.arange(-(-len(samples) * RATE // rate)), 1 + len(samples) // 100_000):
        centre = some[:, None] * (rate / RATE)
        around = np.floor(centre).astype(int) + np.arange(-reach, reach + 2)
        distance = np.clip((around - centre) * cutoff, -6, 6)
        weights = cutoff * np.sinc(distance) * np.cos(np.pi * distance / 12) ** 2
        pieces.append((weights * padded[np.minimum(around + reach, len(padded) - 1)]).sum(1))
    return np.concatenate(pieces).astype(np.float32)


def predict(waveform: np.ndarray) -> np.ndarray:
    """The probability of each label: the mean over windows, one in memory at a time."""
    last = max((len(waveform) - FRAME) // SHIFT + 1 - SIZE, 0)
    starts = sorted({*range(0, last, STEP), last})
    windows = [waveform[None, start * SHIFT :][:, : FRAME + (SIZE - 1) * SHIFT] for start in starts]
    each = [session.run(["probabilities"], {"waveform": x, "lengths": np.array([x.shape[1]])})[0][0] for x in windows]
    return np.mean(each, axis=0)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        shares = predict(read(path))
        print(f"{notes['class_names'][shares.argmax()]}\t{shares.max():.4f}\t{path}")
