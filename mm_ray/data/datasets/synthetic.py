"""Seeded events with audio and video: audio is hard, video is easy, so the audiovisual teacher knows more than an audio model.

Audio: classes 2k and 2k+1 are harmonic stacks of the same pitch; only the direction of a slight glide and the rate of a
tremolo distinguish them. Each group has its own pitch and spectral tilt. Video: a moving pattern of the class.
Shape suffixes: N samples, H harmonics, S frames.
"""

import hashlib
from functools import lru_cache

import numpy as np

from mm_ray.config import DataConfig, SyntheticConfig
from mm_ray.data.manifest import Clip, Manifest
from mm_ray.data.media.decode import Media
from mm_ray.errors import bad_value
from mm_ray.seeding import numpy_stream
from mm_ray.types import UNLABELLED

READS = ("synthetic",)

_RATE = 16_000
_NUM_HARMONICS = 6
_LOWEST_HZ, _HIGHEST_HZ = 180.0, 720.0
_PITCH_SPREAD = 0.08
"""Standard deviation over groups of the log pitch; neighbouring pairs of classes lie ln(4) / 4 = 0.35 apart at 10 classes."""
_TILT_SPREAD = 0.8
_GLIDE = 0.12
_TREMOLO_HZ = (4.0, 5.5)
_NUM_FRAMES, _SIDE = 8, 24
_WANDER = 2.0
"""Standard deviation of the pattern's start, pixels; a cell of the pattern is 6 pixels wide."""


def read(data: DataConfig) -> Manifest:
    """List the clips: `clips_per_class` per class, spread evenly over the groups; groups are held out for dev and test.

    Raises:
        UserError: Fewer than three groups.

    """
    dials = data.synthetic
    if dials.num_groups < 3:
        remedy = "needs at least 3: train, dev and test hold different groups"
        raise bad_value("data.synthetic.num_groups", dials.num_groups, remedy)
    classes, per_class = range(dials.num_classes), range(dials.clips_per_class)
    clips = tuple(_clip(dials, event, index) for index in per_class for event in classes)
    return Manifest("synthetic", tuple(f"event{event:02d}" for event in classes), clips)


def load(clip: Clip, data: DataConfig) -> Media:
    """About a second of 16 kHz audio, and 8 grey frames (8, 24, 24)."""
    event = int(clip.source.split("/")[0])
    return Media(_waveform(data.synthetic, event, clip), _RATE, _frames(data.synthetic, event, clip))


def _clip(dials: SyntheticConfig, event: int, index: int) -> Clip:
    # The fraction spreads the classes over all groups also where a class has fewer clips than there are groups.
    position = index + event / dials.num_classes
    group = int(position * dials.num_groups / dials.clips_per_class)
    split = _split(group, dials.num_groups)
    name = f"event{event:02d}-{index:04d}"
    recording = (dials.data_seed, dials.num_classes, dials.num_groups, dials.audio_snr_db, dials.video_noise)
    digest = hashlib.blake2b(repr(recording).encode(), digest_size=6).hexdigest()
    label = _given_label(dials, event, name) if split == "train" else event
    return Clip(name, label, f"site{group:03d}", (split,), f"{event}/{index}/{digest}")


def _split(group: int, num_groups: int) -> str:
    """Of 7 groups 3 are for training, 1 is for dev and 3 are for the test, whose size limits what can be concluded."""
    num_test, num_dev = (max(round(num_groups * share / 7), 1) for share in (3, 1))
    if group >= num_groups - num_test:
        return "test"
    return "dev" if group >= num_groups - num_test - num_dev else "train"


def _given_label(dials: SyntheticConfig, event: int, name: str) -> int:
    if numpy_stream(dials.data_seed, "synthetic", "labelled", name).random() >= dials.labelled:
        return UNLABELLED
    rng = numpy_stream(dials.data_seed, "synthetic", "label", name)
    flipped = rng.random() < dials.label_noise
    shift = int(rng.integers(1, dials.num_classes))
    return (event + shift) % dials.num_classes if flipped else event


def _waveform(dials: SyntheticConfig, event: int, clip: Clip) -> np.ndarray:
    rng = numpy_stream(dials.data_seed, "synthetic", "sound", clip.id)
    total = int(_RATE * rng.uniform(0.8, 1.2))
    start, length = int(total * rng.uniform(0.05, 0.3)), int(total * rng.uniform(0.5, 0.65))
    tone_N = _tone(dials, event, clip.group, length, rng)
    noise_N = rng.standard_normal(total, np.float32)
    noise_N *= np.float32(tone_N.std() * 10 ** (-dials.audio_snr_db / 20))
    noise_N[start : start + length] += tone_N
    return noise_N * np.float32(rng.uniform(0.3, 0.9) / np.abs(noise_N).max())


def _tone(dials: SyntheticConfig, event: int, group: str, length: int, rng: np.random.Generator) -> np.ndarray:
    pair, member = divmod(event, 2)
    pitch_shift, tilt = _style(dials.data_seed, group)
    time_N = np.arange(length, dtype=np.float32) / length
    num_pairs = (dials.num_classes + 1) // 2
    hz = _LOWEST_HZ * (_HIGHEST_HZ / _LOWEST_HZ) ** (pair / max(num_pairs - 1, 1)) * np.exp(pitch_shift + rng.normal(0, 0.03))
    glide = _GLIDE * (1 if member else -1) + rng.normal(0, _GLIDE)
    phase_N = 2 * np.pi * hz * length / _RATE * (time_N + glide * (time_N**2 - time_N) / 2)
    tone_N = np.zeros(length, np.float32)
    for harmonic in range(1, _NUM_HARMONICS + 1):
        size = harmonic ** -(1 + tilt) * rng.uniform(0.5, 1.5)
        tone_N += np.float32(size) * np.sin(np.float32(harmonic) * phase_N + np.float32(rng.uniform(0, 2 * np.pi)))
    cycles = _TREMOLO_HZ[member] * np.exp(rng.normal(0, 0.1)) * length / _RATE
    tremolo_N = 1 + 0.6 * np.sin(2 * np.pi * (cycles * time_N + rng.random()))
    return (tone_N * tremolo_N * np.sin(np.pi * time_N) ** 0.5).astype(np.float32)


def _style(data_seed: int, group: str) -> tuple[float, float]:
    rng = numpy_stream(data_seed, "synthetic", "style", group)
    return float(rng.normal(0, _PITCH_SPREAD)), float(rng.uniform(-_TILT_SPREAD, _TILT_SPREAD))


def _frames(dials: SyntheticConfig, event: int, clip: Clip) -> np.ndarray:
    rng = numpy_stream(dials.data_seed, "synthetic", "sight", clip.id)
    angle = 2 * np.pi * event / dials.num_classes
    steps_S2 = np.arange(_NUM_FRAMES)[:, None] * np.array([np.sin(angle), np.cos(angle)])
    shifts_S2 = np.rint(steps_S2 + rng.normal(0, _WANDER, (1, 2)) + rng.normal(0, 0.5, (_NUM_FRAMES, 2))).astype(int)
    pattern = _pattern(dials.data_seed, event)
    clean = np.stack([np.roll(pattern, tuple(shift), axis=(0, 1)) for shift in shifts_S2]) * rng.uniform(0.6, 1.0)
    noisy = clean + dials.video_noise * rng.standard_normal(clean.shape, np.float32)
    return np.rint(255 * np.clip(noisy, 0, 1)).astype(np.uint8)


@lru_cache(maxsize=256)
def _pattern(data_seed: int, event: int) -> np.ndarray:
    coarse = numpy_stream(data_seed, "synthetic", "pattern", event).random((4, 4), np.float32)
    return np.kron(coarse, np.ones((_SIDE // 4, _SIDE // 4), np.float32))
