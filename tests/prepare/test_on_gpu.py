"""`--num_gpus`: what computed a store's features is one of its settings, and kinds of device do not mix.

No GPU is needed: the encoder is a stand-in that notes where it was to compute.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from media_files import tone, write_wav

from mm_ray.config import DataConfig
from mm_ray.data import audio_features
from mm_ray.data.feature_store import shards
from mm_ray.data.feature_store_reader import read_header, read_store
from mm_ray.data.features.pretrained_audio import PretrainedAudio
from mm_ray.devices import encoder_device
from mm_ray.errors import EnvironmentFailure, UserError
from mm_ray.prepare.__main__ import main
from mm_ray.prepare.run import PrepareRequest, _num_workers

RATE = 16_000


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """The devices on which clips were computed, one per clip."""
    seen = []

    def compute(waveform_N, sample_rate, features):
        seen.append(encoder_device())
        return np.full((2, 3), len(waveform_N) / 1e5, np.float16)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(audio_features, "pretrained_features", compute)
    monkeypatch.setattr(audio_features, "load_encoder", lambda name: PretrainedAudio(RATE, torch.tensor, "0123456789abcdef"))
    for name in ("cudnn.deterministic", "cudnn.allow_tf32"):
        monkeypatch.setattr(f"torch.backends.{name}", False)
    for label in ("a", "b"):
        write_wav(tmp_path / "root" / label / "0.wav", tone(440, 1.0 if label == "a" else 1.5, RATE))
    return seen


def prepare(*flags, out="store", has_gpu=True, audio="transformers:x"):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: has_gpu)
        main(["folder", "root", "--out", out, "--serial", "--data.features.audio", audio, *flags])


def settings(store):
    return read_header(shards(store)).settings


def test_the_store_holds_what_computed_it(seen):
    prepare("--num_gpus", "1")
    prepare(out="on_cpu")
    assert seen == ["cuda", "cuda", "cpu", "cpu"]
    assert encoder_device() == "cpu"
    assert (settings("store").device, settings("on_cpu").device) == ("cuda", "cpu")
    assert "device" not in settings("on_cpu").to_json()  # the fingerprints of older stores stay
    assert read_store("store", 0).fingerprint != read_store("on_cpu", 0).fingerprint
    assert "its encoders ran on cuda" in Path("store", "README.md").read_text()
    assert "cuda" not in Path("on_cpu", "README.md").read_text()


@pytest.mark.parametrize(
    ("first", "second", "line"),
    [
        (["--num_gpus", "1"], [], r"^--num_gpus: store was prepared on cuda, this would be cpu, .*; give it again, or give an"),
        ([], ["--num_gpus", "1"], r"^--num_gpus: store was prepared on cpu, this would be cuda, .*; leave it out, or give ano"),
    ],
)
def test_a_store_is_not_continued_on_another_kind(seen, first, second, line):
    prepare(*first)
    write_wav(Path("root", "a", "1.wav"), tone(300, 2.0, RATE))
    with pytest.raises(UserError, match=line):
        prepare(*second)
    prepare(*first)
    assert read_store("store", 0).num_clips == 3


def test_shards_that_were_mixed_by_hand_are_refused(seen):
    prepare("--num_gpus", "1")
    write_wav(Path("root", "a", "1.wav"), tone(300, 2.0, RATE))
    prepare(out="other")
    for shard in shards("other"):
        Path("store", f"part-0{Path(shard).name[6:]}").write_bytes(Path(shard).read_bytes())
    with pytest.raises(UserError, match="has other settings than the other shards"):
        read_store("store", 0)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"flags": ["--num_gpus", "2"]}, r"^--num_gpus 2.0: must be between 0 and 1$"),
        ({"flags": ["--num_gpus", "-1"]}, r"^--num_gpus -1.0: must be between 0 and 1$"),
        ({"flags": ["--num_gpus", "1"], "has_gpu": False}, r"^--num_gpus 1.0: torch \S+ finds no GPU here; leave it out$"),
        ({"flags": ["--num_gpus", "1"], "audio": "log_mel"}, r"^--num_gpus 1.0: these features need no pretrained encoder"),
        ({"flags": ["--num_gpus", "1", "--dry_run"]}, r"^--num_gpus 1.0: --dry_run estimates for CPUs"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(seen, flags, line):
    given = dict(flags)
    with pytest.raises(UserError, match=line):
        prepare(*given.pop("flags"), **given)
    assert (seen, Path("store").exists()) == ([], False)


def test_a_cluster_without_gpus_is_refused(seen, monkeypatch):
    from mm_ray.runtime import cluster

    for num_gpus, num_workers in ((0, None), (2, 8)):
        nodes = (cluster.Node(16.0), cluster.Node(16.0, num_gpus))
        monkeypatch.setattr(cluster, "connect", lambda address, nodes=nodes: cluster.Cluster("here", nodes))
        request = PrepareRequest(DataConfig(), "store", serial=False, num_gpus=0.25)
        if num_workers:
            assert _num_workers(request) == num_workers
            continue
        with pytest.raises(UserError, match=r"^--num_gpus 0.25: here has no GPU; leave it out$"):
            _num_workers(request)


def test_a_worker_without_the_gpu_that_it_was_given_stops(seen, local_ray):
    """The cluster of the tests has GPUs that torch does not find."""
    line = r"^Ray gave a worker a GPU on .*, but torch .* finds none there; install .* or leave out --num_gpus$"
    with pytest.raises(EnvironmentFailure, match=line):
        main(["folder", "root", "--out", "store", "--num_gpus", "0.5", "--data.features.audio", "transformers:x"])
    assert shards("store") == []
