"""Every module in `mm_ray/data/datasets` is a data set that keeps its promises."""

from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from media_trees import TREES

from mm_ray.config import DataConfig, SyntheticConfig
from mm_ray.data.feature_row import extract
from mm_ray.data.manifest import OPTIONAL, find_manifest, read_manifest
from mm_ray.errors import UserError
from mm_ray.plugins import modules_in
from mm_ray.testing import check_dataset

ROOT = Path(__file__).parents[3] / "shared" / "data"
NAMES = modules_in("mm_ray.data.datasets")
SMALL = SyntheticConfig(labelled=1.0, num_classes=4, num_groups=10, clips_per_class=10)


@pytest.fixture(scope="module", params=NAMES)
def data(request, tmp_path_factory):
    build = TREES.get(request.param, lambda root: {"root": str(ROOT)} if "root" in find_manifest(request.param).READS else {})
    dials = {"synthetic": SMALL} if "synthetic" in find_manifest(request.param).READS else {}
    config = DataConfig(name=request.param, **dials, **build(tmp_path_factory.mktemp(request.param)))
    try:
        find_manifest(config.name).read(config)
    except UserError as error:
        pytest.skip(f"the recordings are not here: {error}")
    return config


@pytest.fixture(scope="module")
def manifest(data):
    return find_manifest(data.name).read(data)


def test_the_folder_holds_data_sets():
    assert "synthetic" in NAMES


def test_it_keeps_its_promises(data, manifest):
    check_dataset(data.name, **{field.name: getattr(data, field.name) for field in fields(data) if field.name != "name"})
    assert manifest.name == data.name


@pytest.mark.parametrize("option", OPTIONAL)
def test_an_option_that_it_does_not_read_is_refused(data, option):
    if option in find_manifest(data.name).READS:
        return
    given, said = (SMALL, "synthetic.num_classes 4") if option == "synthetic" else ("given", f"{option} given")
    with pytest.raises(UserError, match=rf"^--data\.{said}: {data.name} .*; leave it out$"):
        read_manifest(replace(data, **{option: given}))


def test_each_fold_has_every_class_in_every_split(manifest):
    for fold in range(manifest.num_folds):
        seen = Counter((clip.splits[fold], clip.label) for clip in manifest.clips)
        assert len(seen) == 3 * len(manifest.class_names)


def test_a_clip_becomes_finite_features(data, manifest):
    module, number = find_manifest(data.name), len(manifest.clips) - 1
    row = extract(module, number, manifest.clips[-1], data)
    assert (row.audio_TF.shape[1], row.audio_TF.dtype) == (data.features.num_mels, np.float16)
    assert np.isfinite(row.audio_TF).all()
    if row.video_SD is not None:
        assert (row.video_SD.shape[1], row.video_SD.dtype) == (data.features.video_size**2, np.float16)
        assert np.isfinite(row.video_SD).all()
