"""A generated set of clips like those of UCF101: 320 x 240 at 25 frames a second, 4 to 11 s, a tone under noise.

Half are avi (MPEG-4 and mp3, as UCF101 is), half mp4 (H.264 and AAC). Shapes move before a still texture under grain.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

SIZE, FPS, RATE = (320, 240), 25, 44_100
CODECS = {"avi": ("mpeg4", "libmp3lame"), "mp4": ("libx264", "aac")}
OPTIONS: dict[str, dict[str, str]] = {"avi": {}, "mp4": {"preset": "veryfast"}}
NUM_CLASSES = 10


def write_set(root: Path, num_clips: int) -> Path:
    """`root/CLASS/INDEX.avi|mp4`; what is there already is kept."""
    for index in range(num_clips):
        path = root / f"class{index % NUM_CLASSES}" / f"{index:03d}.{('avi', 'mp4')[index // NUM_CLASSES % 2]}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f".{path.name}")
            write_clip(unfinished, seconds=4 + index * 37 % 71 / 10, seed=index, form=path.suffix[1:])
            unfinished.rename(path)
    return root


def write_clip(path: Path, seconds: float, seed: int, form: str, fps: int = FPS) -> None:
    """One clip; `form` is its container."""
    video_codec, audio_codec = CODECS[form]
    with av.open(str(path), "w", format=form) as container:
        video = container.add_stream(video_codec, rate=fps, options=OPTIONS[form])
        video.width, video.height, video.pix_fmt, video.bit_rate = *SIZE, "yuv420p", 400_000
        audio = container.add_stream(audio_codec, rate=RATE, layout="stereo")
        rng = np.random.default_rng(seed)
        texture = rng.integers(0, 200, (SIZE[1] // 8, SIZE[0] // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        for second in range(int(np.ceil(seconds))):  # a second of sight, then a second of sound: interleaved as films are
            _see(container, video, texture, rng, range(second * fps, min((second + 1) * fps, round(seconds * fps))), fps)
            _hear(container, audio, rng, second * RATE, min((second + 1) * RATE, round(seconds * RATE)), 200 + 10 * seed % 2000)
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def _see(container: Any, video: Any, texture: np.ndarray, rng: np.random.Generator, numbers: range, fps: int) -> None:
    for number in numbers:
        image = texture + rng.integers(0, 12, texture.shape, dtype=np.uint8)
        left, top = number * 5 % (SIZE[0] - 40), number * 3 % (SIZE[1] - 40)
        image[top : top + 40, left : left + 40] = 255
        frame = av.VideoFrame.from_ndarray(image, "rgb24")
        frame.pts, frame.time_base = number, Fraction(1, fps)
        container.mux(video.encode(frame))


def _hear(container: Any, audio: Any, rng: np.random.Generator, first: int, end: int, hz: int) -> None:
    mono_N = 0.3 * np.sin(2 * np.pi * hz * np.arange(first, end) / RATE) + 0.05 * rng.standard_normal(end - first)
    frame = av.AudioFrame.from_ndarray(np.repeat(mono_N[None].astype(np.float32), 2, axis=0), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = RATE, first, Fraction(1, RATE)
    container.mux(audio.encode(frame))
