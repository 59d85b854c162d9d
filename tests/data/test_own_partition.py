"""Partitions of one's own: a CSV file, a function, and what is refused."""

import pytest
from data.test_partition import make_table
from fed.tiny import TINY, table_of, tiny_config

from mm_ray.config import PartitionConfig
from mm_ray.data.partition import make_clients
from mm_ray.errors import UserError
from mm_ray.fed.experiment import plan_experiment

TABLE = make_table()
TRAIN = TABLE.rows("train").tolist()
HALVES = "def halves(table, config, seed):\n    rows = table.rows('train')\n    return [rows[1::2], rows[::2]]\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def clients(kind, **fields):
    return make_clients(TABLE, PartitionConfig(kind=kind, video_missing=0.5, **fields), 0)


def test_a_function_gives_each_client_its_rows(here):
    (here / "mine.py").write_text(HALVES)
    first, second = clients("mine.py:halves")
    assert (first.indices.tolist(), second.indices.tolist()) == (TRAIN[1::2], TRAIN[::2])
    assert sorted(len(client.modalities) for client in (first, second)) == [1, 2]


def test_a_file_names_the_client_of_each_clip(here):
    (here / "who.csv").write_text("clip,client\n" + "".join(f"{row},{'ab'[row % 2]}\n" for row in TRAIN))
    assert [client.indices.tolist() for client in clients("who.csv")] == [
        [row for row in TRAIN if row % 2 == TRAIN[0] % 2],
        [row for row in TRAIN if row % 2 != TRAIN[0] % 2],
    ]


WRONG = {
    "def partition(table, config, seed): return [[1, 2], [2]]": "gives the clip 2 to two clients",
    "def partition(table, config, seed): return [[1, 0]]": "gives away row 0, which is no training clip",
    "def partition(table, config, seed): return [[1], []]": "gives a client no clips",
    "def partition(table, config, seed): return 1 / 0": r"fails \(.*ZeroDivisionError",
    "def split(table, config, seed): ...": r"the module has no function partition\(table, config, seed\)",
}


@pytest.mark.parametrize("code", WRONG)
def test_what_is_no_partition_is_refused(here, code):
    (here / "mine.py").write_text(code)
    with pytest.raises(UserError, match=rf"^--partition\.kind mine\.py: {WRONG[code]}"):
        clients("mine.py")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("clip,who\n1,a\n", "has no column 'client'"),
        ("clip,client\n0,a\n", "names the clip '0', which is no training clip"),
        (None, "cannot be read"),
    ],
)
def test_a_broken_file_is_refused(here, text, line):
    if text is not None:
        (here / "who.csv").write_text(text)
    with pytest.raises(UserError, match=rf"^--partition\.kind who\.csv: {line}"):
        clients("who.csv")


def test_an_unknown_kind_lists_those_there_are():
    with pytest.raises(UserError, match=r"^--partition\.kind naturl: did you mean 'natural'\? known names: dirichlet, fedm"):
        clients("naturl")


def test_the_shares_are_part_of_what_a_result_depends_on(here):
    config = tiny_config(TINY | {"partition.kind": "mine.py:halves"})
    (here / "mine.py").write_text(HALVES)
    identity = plan_experiment(config, table_of(config.data)).federation.identity
    assert len(identity["shares"]) == 16
    assert "shares" not in plan_experiment(tiny_config(), table_of(config.data)).federation.identity
