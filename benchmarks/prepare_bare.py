"""The bare loop: one process, PyAV and torchaudio, both tracks decoded in one pass; what one would write for oneself.

It makes the same features as `mm_ray.prepare` with its defaults: `python -m benchmarks.prepare_bare ROOT` prints JSON.
"""

import json
import sys
import time
from pathlib import Path

import av
import numpy as np
import torch
from torch.nn import functional
from torchaudio.compliance.kaldi import fbank
from torchaudio.transforms import Resample

RATE, MAX_FRAMES, MAX_PICTURES, SIDE = 16_000, 500, 10, 16
resamplers = {}


def bare_features(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel (T, 80) and grey frames, one a second, (S, 256), both float16 and standardised."""
    pieces, pictures = [], []
    to_float = av.AudioResampler(format="fltp", layout="mono")
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0, video=0):
            if isinstance(frame, av.AudioFrame):
                pieces += [piece.to_ndarray()[0] for piece in to_float.resample(frame)]
            elif frame.time >= len(pictures) and len(pictures) < MAX_PICTURES:
                pictures.append(frame.to_ndarray(format="gray"))
        rate = container.streams.audio[0].rate
    return hear(torch.from_numpy(np.concatenate(pieces)), rate), see(np.stack(pictures))


def hear(waveform: torch.Tensor, rate: int) -> np.ndarray:
    if rate != RATE:
        waveform = resamplers.setdefault(rate, Resample(rate, RATE))(waveform)
    options = {"num_mel_bins": 80, "frame_length": 40.0, "frame_shift": 20.0, "window_type": "hamming", "dither": 0.0}
    mel = fbank(waveform[None], sample_frequency=RATE, **options)[:MAX_FRAMES].numpy()
    return ((mel - mel.mean(0)) / (mel.std(0) + 1e-5)).astype(np.float16)


def see(pictures: np.ndarray) -> np.ndarray:
    small = functional.interpolate(torch.from_numpy(pictures).float()[:, None] / 255, size=(SIDE, SIDE), mode="area")
    small = small.reshape(len(small), -1).numpy()
    return ((small - small.mean()) / (small.std() + 1e-5)).astype(np.float16)


def main(root: str) -> None:
    torch.set_num_threads(1)  # faster for clips as short as these than torch's default of all cores
    paths = sorted(path for path in Path(root).glob("*/*") if not path.name.startswith("."))
    for path in paths[:3]:
        bare_features(path)  # what is set up once
    start, start_cpu = time.perf_counter(), time.process_time()
    features = [bare_features(path) for path in paths]
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
    print(json.dumps({"clips": len(features), "seconds": seconds, "clips_per_s": len(features) / seconds, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main(sys.argv[1])
