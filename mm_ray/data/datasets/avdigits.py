"""AV digits: a spoken digit (FSDD) with a handwritten image of the same digit (MNIST), seen as a few jittered frames.

Both modalities are real, the pairing is ours. `--data.folds speaker` (the default) holds out speakers: fold k tests on
speaker k and uses speaker k + 1 for dev. `known` holds out recordings of all speakers, by their index in blocks of ten: fold
k of five tests on the indices 10k to 10k + 9 and uses the next ten for dev.
"""

from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import numpy as np

from mm_ray.config import DataConfig
from mm_ray.data.dataset_helpers import splits_in_turn
from mm_ray.data.manifest import Clip, Manifest
from mm_ray.data.media.decode import Media, read_audio
from mm_ray.data.precomputed import names_bad_array
from mm_ray.errors import UserError, bad_value
from mm_ray.seeding import numpy_stream

READS = ("root",)

FOLDS = ("speaker", "known")
_BLOCK, _NUM_BLOCKS = 10, 5
_NUM_FRAMES = 4
_JITTER = 2
_WAVS, _IMAGES = "fsdd/recordings", "mnist10k/mnist10k.npz"
_LAYOUT = (
    "needs fsdd/recordings/DIGIT_SPEAKER_INDEX.wav (github.com/Jakobovski/free-spoken-digit-dataset) and "
    "mnist10k/mnist10k.npz with `images` uint8 (N, 28, 28) and `labels` (N,) (MNIST, from any of its mirrors)"
)


def read(data: DataConfig) -> Manifest:
    """List the recordings under `data.root`, each paired with an image of its digit.

    Raises:
        UserError: The folder does not have the expected layout, fewer than three speakers, or with known speakers fewer
            images than recordings.

    """
    wavs, labels_N = _wavs(data), _mnist(data)[1]
    speakers = sorted({wav.stem.split("_")[1] for wav in wavs})
    if len(speakers) < 3:
        raise bad_value("data.root", data.root, f"has {len(speakers)} speaker(s); train, dev and test need one each")
    pools = _image_pools(labels_N, speakers)
    if lacking := [digit for (digit, _), pool in pools.items() if not len(pool)]:
        raise UserError(f"{data.root}/{_IMAGES}: has fewer images of {lacking[0]} than there are speakers; {_LAYOUT}")
    used: defaultdict[tuple[int, str], int] = defaultdict(int)
    clips = []
    for wav in wavs:
        digit, speaker = int(wav.stem.split("_")[0]), wav.stem.split("_")[1]
        pool = pools[digit, speaker]
        if data.folds == "known" and used[digit, speaker] == len(pool):
            raise UserError(f"{data.root}/{_IMAGES}: has {len(pool)} images of {digit} per speaker; folds known needs more")
        image = pool[used[digit, speaker] % len(pool)]
        used[digit, speaker] += 1
        splits = _by_index(wav) if data.folds == "known" else splits_in_turn(speakers.index(speaker), len(speakers))
        clips.append(Clip(wav.stem, digit, speaker, splits, f"{_WAVS}/{wav.name}", f"{_IMAGES}#image={image}"))
    return Manifest("avdigits", tuple(map(str, range(10))), tuple(clips))


def load(clip: Clip, data: DataConfig) -> Media:
    """The recording, and its image shifted by up to two pixels per frame, (4, 28, 28)."""
    waveform_N, sample_rate = read_audio(Path(data.root, clip.source))
    image = _mnist(data)[0][int(clip.video_source.rpartition("=")[2])]
    padded = np.pad(image, _JITTER)
    shifts = numpy_stream(0, "avdigits", "jitter", clip.id).integers(0, 2 * _JITTER + 1, (_NUM_FRAMES, 2))
    height, width = image.shape
    frames = np.stack([padded[y : y + height, x : x + width] for y, x in shifts])
    return Media(waveform_N, sample_rate, frames)


def _wavs(data: DataConfig) -> list[Path]:
    wavs = sorted(Path(data.root, _WAVS).glob("[0-9]_*_[0-9]*.[Ww][Aa][Vv]"))
    if not data.root or not wavs:
        raise bad_value("data.root", data.root, _LAYOUT)
    return wavs


def _mnist(data: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    path = Path(data.root, _IMAGES)
    if not path.is_file():
        raise bad_value("data.root", data.root, _LAYOUT)
    return _read_mnist(path)


@lru_cache(maxsize=2)
def _read_mnist(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with names_bad_array(path, f"the expected file; data.root {_LAYOUT}"):
        with np.load(path) as arrays:
            images, labels_N = arrays["images"], arrays["labels"]
        if images.ndim != 3 or not images.size or images.dtype != np.uint8 or labels_N.shape != images.shape[:1]:
            raise ValueError(f"images of shape {images.shape}")
        return images, labels_N


def _image_pools(labels_N: np.ndarray, speakers: list[str]) -> dict[tuple[int, str], np.ndarray]:
    """Images of each digit for each speaker; no two speakers share one, so none crosses a split."""
    pools: dict[tuple[int, str], np.ndarray] = {}
    for digit in range(10):
        images = np.flatnonzero(labels_N == digit)
        order = numpy_stream(0, "avdigits", "images", digit).permutation(images)
        pools |= {(digit, speaker): order[k :: len(speakers)] for k, speaker in enumerate(speakers)}
    return pools


def _by_index(wav: Path) -> tuple[str, ...]:
    """No image crosses these splits: each recording has its own."""
    return splits_in_turn(int(wav.stem.split("_")[2]) // _BLOCK % _NUM_BLOCKS, _NUM_BLOCKS)
