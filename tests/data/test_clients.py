"""Clients as flat arrays: each is what it was as an object, and many are few bytes."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from mm_ray.config import MODALITIES
from mm_ray.data import clients as module
from mm_ray.data.clients import ClientList, ClientSelection, Shares, groups_of
from mm_ray.data.partition import _fill_small
from mm_ray.types import UNLABELLED

ROWS = [[4, 7], [1], [0, 2, 9]]
LABELS = [[1, UNLABELLED], [UNLABELLED], [0, 1, 2]]


@pytest.fixture
def three():
    shares = Shares.of_arrays([np.array(rows) for rows in ROWS])
    return ClientList(shares, np.concatenate(LABELS), (("audio",), MODALITIES), np.array([1, 0, 1], np.int8))


def test_each_client_has_its_own_clips_labels_and_modalities(three):
    assert [(c.id, c.indices.tolist(), c.labels.tolist()) for c in three] == list(zip(range(3), ROWS, LABELS, strict=True))
    assert [client.modalities for client in three] == [MODALITIES, ("audio",), MODALITIES]
    assert {client.indices.dtype for client in three} == {client.labels.dtype for client in three} == {np.dtype("i8")}
    assert three[-1] is three[2] is three[1:][1]
    with pytest.raises(IndexError):
        three[3]


def test_a_client_stays_the_same_object_until_too_many_were_asked_for(three, monkeypatch):
    first = three[0]
    assert three[0] is first
    monkeypatch.setattr(module, "MOST_KEPT", 1)
    assert three[1] is not None
    assert three[0] is not first


def test_a_copy_in_another_process_brings_no_objects(three):
    one = three[1]
    copy = pickle.loads(pickle.dumps(three))
    assert not vars(copy)["_made"]
    assert copy[1].indices.tolist() == one.indices.tolist()


def test_groups_are_the_same_of_a_list_and_of_objects(three):
    as_list, as_objects = groups_of(three), groups_of(tuple(three))
    assert [(g.example.id, g.positions.tolist()) for g in as_list] == [(0, [0, 2]), (1, [1])]
    assert [(g.example.id, g.positions.tolist()) for g in as_objects] == [(0, [0, 2]), (1, [1])]


def test_positions_by_id_follow_the_ids_of_objects(three):
    turned = tuple(replace(client, id=10 - client.id) for client in three)
    assert ClientSelection.of_groups(turned, groups_of(turned)).positions_by_id().tolist() == [2, 1, 0]
    assert ClientSelection.of_groups(three, groups_of(three)).positions_by_id().tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_small_clients_are_filled_as_by_looking_at_all_clients_each_time(seed):
    rng = np.random.default_rng(seed)
    num_clients, min_clips = int(rng.integers(2, 9)), int(rng.integers(1, 4))
    owners_R = rng.choice(
        num_clients, num_clients * min_clips + int(rng.integers(0, 12)), p=rng.dirichlet(np.ones(num_clients))
    )
    expected, sizes_K = owners_R.copy(), np.bincount(owners_R, minlength=num_clients)
    while sizes_K.min() < min_clips:
        giver, taker = int(sizes_K.argmax()), int(sizes_K.argmin())
        expected[np.flatnonzero(expected == giver)[-1]] = taker
        sizes_K[[giver, taker]] += (-1, 1)
    _fill_small(owners_R, num_clients, min_clips)
    assert owners_R.tolist() == expected.tolist()
