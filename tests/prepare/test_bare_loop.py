"""The bare loop that the benchmark measures against does the same work."""

import numpy as np
from media_files import write_film

from benchmarks.prepare_bare import bare_features
from mm_ray.config import DataConfig
from mm_ray.data.feature_row import extract
from mm_ray.data.manifest import find_manifest, read_manifest


def test_the_bare_loop_makes_the_same_features(tmp_path):
    path = write_film(tmp_path / "a" / "0.mkv", seconds=12, hz=700, rate=44_100)
    data = DataConfig(name="folder", root=str(tmp_path))
    row = extract(find_manifest("folder"), 0, read_manifest(data).clips[0], data)
    audio_TF, video_SD = bare_features(path)
    assert (audio_TF.shape, video_SD.shape) == (row.audio_TF.shape, (10, 256))
    assert np.corrcoef(audio_TF.ravel().astype(float), row.audio_TF.ravel())[0, 1] > 0.95
    assert row.video_SD.shape == (10, 256)
