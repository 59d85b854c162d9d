"""The labels that clients have: some wrong, some hidden; nested, by seed, whoever holds the clips."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_ray.config import PartitionConfig
from mm_ray.data.clients import ClientList, Shares
from mm_ray.data.labels import with_client_labels
from mm_ray.errors import UserError
from mm_ray.types import UNLABELLED, ClientData

NUM_CLASSES = 4


def clients(sizes=(5, 7, 8)):
    ends = np.cumsum(sizes)
    rows = [np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    return [ClientData(k, ("audio",), own, own % NUM_CLASSES) for k, own in enumerate(rows)]


def labels(seed=0, given_clients=None, **partition):
    given = given_clients or clients()
    shares = Shares.of_arrays([client.indices for client in given])
    flat = ClientList(shares, np.concatenate([client.labels for client in given]), (("audio",),), np.zeros(len(given), int))
    some = with_client_labels(flat, PartitionConfig(**partition), NUM_CLASSES, seed)
    return {row: label for client in some for row, label in zip(client.indices.tolist(), client.labels.tolist(), strict=True)}


CLEAN = labels()


def test_nothing_asked_for_changes_nothing():
    assert {row: row % NUM_CLASSES for row in range(20)} == CLEAN


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 100))
def test_a_larger_share_of_labels_only_adds_to_them(one, other, seed):
    fewer, more = (labels(seed, labelled=share) for share in sorted((one, other)))
    known = {row for row, label in fewer.items() if label != UNLABELLED}
    assert len(known) == max(round(min(one, other) * 20), 1)
    assert all(more[row] == CLEAN[row] == fewer[row] for row in known)


@given(st.floats(0, 0.99), st.floats(0, 0.99), st.integers(0, 100))
def test_a_label_that_is_wrong_stays_wrong_in_the_same_way_at_more_noise(one, other, seed):
    less, more = (labels(seed, label_noise=share) for share in sorted((one, other)))
    wrong = {row for row in CLEAN if less[row] != CLEAN[row]}
    assert all(more[row] == less[row] for row in wrong)
    assert set(more.values()) <= set(range(NUM_CLASSES))


def test_about_as_many_are_wrong_as_asked_for():
    many = [ClientData(0, ("audio",), np.arange(4000), np.arange(4000) % NUM_CLASSES)]
    found = labels(given_clients=many, label_noise=0.3)
    wrong = [row for row in found if found[row] != row % NUM_CLASSES]
    assert len(wrong) / 4000 == pytest.approx(0.3, abs=0.03)
    shifts = np.bincount([(found[row] - row) % NUM_CLASSES for row in wrong], minlength=NUM_CLASSES)
    assert shifts[0] == 0
    assert shifts[1:].min() > 300  # of 1,200, a third each


def test_who_holds_a_clip_does_not_matter():
    assert labels(label_noise=0.5, labelled=0.5) == labels(0, clients((11, 9)), label_noise=0.5, labelled=0.5)
    assert labels(label_noise=0.5, labelled=0.5) != labels(1, label_noise=0.5, labelled=0.5)


def test_a_confusion_matrix_says_which_label_is_given(tmp_path):
    path = tmp_path / "confusion.csv"
    path.write_text("9,1,0,0\n1,9,0,0\n0,0,9,1\n0,0,1,9\n")  # 0 and 1 are taken for each other, 2 and 3 too
    found = labels(label_noise=0.99, label_confusion=str(path))
    wrong = {row: label for row, label in found.items() if label != CLEAN[row]}
    assert len(wrong) > 15
    assert all(label == CLEAN[row] ^ 1 for row, label in wrong.items())


@pytest.mark.parametrize("text", ["1,2\n3,4\n", "a,b,c,d\n" * 4, "1,0,0,0\n" * 4, "0,-1,2,0\n" * 4, "0,nan,1,1\n" * 4])
def test_a_file_that_is_no_such_matrix_is_refused(tmp_path, text):
    path = tmp_path / "confusion.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"partition\.label_confusion"):
        labels(label_noise=0.5, label_confusion=str(path))


def test_a_clip_without_a_label_stays_without():
    blank = [ClientData(0, ("audio",), np.arange(4), np.array([0, UNLABELLED, 2, UNLABELLED]))]
    found = labels(given_clients=blank, label_noise=0.99)
    assert [row for row, label in found.items() if label == UNLABELLED] == [1, 3]


def test_an_epoch_of_the_labelled_clips_is_as_long_as_one_of_all():
    client = ClientData(0, ("audio",), np.arange(4), np.array([0, UNLABELLED, 2, UNLABELLED]))
    known = client.labelled()
    assert (known.indices.tolist(), known.labels.tolist(), known.epoch_clips) == ([0, 2], [0, 2], 4)
    assert known.labelled() is known
