"""What the tests of bad input share: real files made worse, and the judgement of what came of it."""

import random

from fed.tiny import tiny_config

from mm_ray.errors import UserError
from mm_ray.models.network import PARTS, init_part
from mm_ray.models.student import save_student
from mm_ray.seeding import torch_stream
from mm_ray.types import Shapes

CASES = {
    "config": 260,
    "lists": 816,
    "rows that lead nowhere": 22,
    "shards": 400,
    "shards of others": 111,
    "images": 300,
    "states": 800,
    "claims": 200,
    "phase headers": 7,
    "students": 800,
    "student fields": 391,
    "journals": 600,
    "journals of others": 5,
    "rows": 400,
    "cells": 200,
    "recordings": 1000,
}
"""Cases of each subject; `test_there_are_more_than_six_thousand` adds them up."""
ODD_VALUES = ("x", None, -1, 0, 1.5, True, [], [1], {}, 10**9, 10**18, float("nan"), float("inf"))
"""Where a number or a text belongs."""


def mutants(data, count, seed):
    """`count` copies of some bytes, each damaged in one of the ways of disks, copies and people."""
    chance = random.Random(seed)
    for _ in range(count):
        yield chance.choice(WAYS)(bytearray(data), chance)


def cut(data, chance):
    return bytes(data[: chance.randrange(len(data))])


def flipped(data, chance):
    for _ in range(chance.choice((1, 1, 3, 20))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def zeroed(data, chance):
    start = chance.randrange(len(data))
    length = min(chance.choice((1, 16, 512)), len(data) - start)
    data[start : start + length] = bytes(length)
    return bytes(data)


def swollen(data, chance):
    start = chance.randrange(len(data))
    data[start:start] = chance.randbytes(chance.choice((1, 8, 300)))
    return bytes(data)


def gapped(data, chance):
    start = chance.randrange(len(data))
    del data[start : start + chance.choice((1, 8, 300))]
    return bytes(data)


def doubled(data, chance):
    start = chance.randrange(len(data))
    return bytes(data + data[start:])


def noise(data, chance):
    return chance.randbytes(chance.choice((0, 1, 7, 64, 2_000)))


def words(data, chance):
    """A number, a name or a bracket becomes another one: what an editor or another version leaves."""
    pieces = data.split(b" ") if b" " in data else data.split(b",")
    pieces[chance.randrange(len(pieces))] = chance.choice(ODD)
    return b" ".join(pieces)


ODD = [b"null", b"[]", b"{}", b"-1", b"1e999", b"NaN", b'"', b"\x00", b"2026-13-41", b"!!python/object:os.system", "ü".encode()]
WAYS = (cut, cut, flipped, flipped, zeroed, swollen, gapped, doubled, noise, words)


def judged(call, *files):
    """Whether the call gave a result; else it ended in one line. The files are as they were."""
    before, said = [file.read_bytes() for file in files], None
    try:
        call()
    except UserError as error:
        said = str(error)
    assert said is None or said.isprintable(), "one line without control characters"
    assert [file.read_bytes() for file in files] == before, "a file that was read was written"
    return said is None


def tiny_student(folder):
    """The path of a student of four classes that has learnt nothing."""
    config, shapes = tiny_config(), Shapes(20, 0, 4)
    params = {part: init_part(part, config.model, shapes, torch_stream(0, part)) for part in PARTS["audio"]}
    return save_student(folder, params, config.model, shapes, ("a", "b", "c", "d"), config.data.features)
