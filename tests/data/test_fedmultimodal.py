"""FedMultimodal's splits and partition, draw by draw, against its own lines."""

from dataclasses import replace

import numpy as np
import pytest
from media_trees import ucf101

from mm_ray.config import MODALITIES, DataConfig, PartitionConfig
from mm_ray.data.datasets.ucf101 import CLASSES_WITH_SOUND
from mm_ray.data.fedmultimodal import dirichlet_clients, split_train_dev
from mm_ray.data.load import load_data
from mm_ray.data.manifest import read_manifest
from mm_ray.data.partition import make_clients
from mm_ray.errors import UserError


def test_a_fifth_for_dev_in_the_order_of_their_seed():
    train, dev = split_train_dev([f"c{i}" for i in (3, 1, 0, 2, 4, 5)])
    order = np.random.RandomState(8).permutation(6)
    assert dev == [f"c{order[0]}"]
    assert train == [f"c{i}" for i in order[1:]]


@pytest.mark.parametrize("alpha", [0.5, 5.0])
def test_the_partition_is_theirs(alpha):
    labels = np.random.default_rng(1).integers(0, 7, 400)
    np.random.seed(8)
    smallest = 0
    while smallest < 5:  # as in partition_manager.py
        theirs = [[] for _ in range(10)]
        for k in range(7):
            members = np.where(labels == k)[0]
            np.random.shuffle(members)
            shares = np.random.dirichlet(np.repeat(alpha, 10))
            shares = np.array([p * (len(client) < 400 / 10) for p, client in zip(shares, theirs, strict=True)])
            shares = shares / shares.sum()
            cuts = (np.cumsum(shares) * len(members)).astype(int)[:-1]
            theirs = [client + piece.tolist() for client, piece in zip(theirs, np.split(members, cuts), strict=True)]
            smallest = min(len(client) for client in theirs)
    ours = dirichlet_clients(labels, alpha, 10)
    assert [client.tolist() for client in ours] == theirs
    assert sum(map(len, ours)) == 400


def test_from_the_lists_to_the_clients(tmp_path):
    ucf101(tmp_path)
    data = DataConfig(name="ucf101", root=str(tmp_path), folds="fedmultimodal")
    clips = read_manifest(data).clips
    train, dev = split_train_dev([clip.id for clip in clips if clip.splits[0] != "test"])
    assert {clip.id for clip in clips if clip.splits[0] == "dev"} == set(dev)
    table = load_data(data, tmp_path / "cache")
    config = PartitionConfig(kind="fedmultimodal", num_clients=2, video_missing=0)
    clients = make_clients(table, config, seed=3)
    labels = np.array([{clip.id: clip.label for clip in clips}[name] for name in train])
    for client, positions in zip(clients, dirichlet_clients(labels, 5.0, 2), strict=True):
        assert {str(table.clip_ids_N[row]) for row in client.indices} == {train[i] for i in positions}
    first = clients[0].indices[0]
    lengths = np.diff(table.video_offsets_N1)
    lengths[first] = 0
    sightless = replace(table, video_offsets_N1=np.concatenate([[0], np.cumsum(lengths)]))
    assert [client.modalities for client in make_clients(sightless, config, seed=3)] == [("audio",), MODALITIES]
    with pytest.raises(UserError, match=r"^--partition.kind fedmultimodal: needs data.folds fedmultimodal"):
        make_clients(load_data(replace(data, folds=""), tmp_path / "cache"), config, seed=3)
    with pytest.raises(UserError, match=r"^--partition.num_clients 50: no draw in 1,000 gives each of 50 clients 5 clips"):
        make_clients(table, replace(config, num_clients=50), seed=3)
    with pytest.raises(UserError, match=r"^--data.folds known: ucf101 has official, fedmultimodal$"):
        read_manifest(replace(data, folds="known"))


def test_the_classes_with_sound():
    assert len(set(CLASSES_WITH_SOUND)) == 51
    assert list(CLASSES_WITH_SOUND) == sorted(CLASSES_WITH_SOUND)
