"""What a pool tells when nobody answers; a clock and answers of the test's own, no Ray."""

from types import SimpleNamespace

import pytest

from mm_ray.runtime import pool
from mm_ray.runtime.pool import ActorPool


class World:
    """Two actors on two hosts; an answer comes when its time has come."""

    def __init__(self, answers_at):
        self.now, self.answers_at, self.notices = 0.0, answers_at, []
        self.actors = [SimpleNamespace(place=SimpleNamespace(remote=lambda n=n: ("place", n)), number=n) for n in (0, 1)]

    def wait(self, refs, num_returns, timeout):
        due = [ref for ref in refs if self.time_of(ref) <= self.now]
        if not due:
            self.now = min([self.now + timeout, *map(self.time_of, refs)])
        return due[:1], []

    def time_of(self, ref):
        kind, number = ref
        return 0.0 if kind == "place" else self.answers_at[number]

    def get(self, ref):
        kind, number = ref
        return (f"host{number}", 100 + number) if kind == "place" else number * 10

    def run(self, count):
        return ActorPool(self.actors, self.tell).run(lambda actor, number: ("call", number), count)

    def tell(self, text):
        self.notices.append((self.now, text))


@pytest.fixture
def world(monkeypatch):
    def make(answers_at):
        world = World(answers_at)
        monkeypatch.setattr(pool, "ray", world)
        monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: world.now))
        return world

    return make


def test_who_is_silent_is_named_after_a_while_and_then_ever_more_rarely(world):
    two = world({0: 0.0, 1: 500.0})
    assert two.run(2) == {0: 0, 1: 10}
    assert [when for when, _ in two.notices] == [60, 120, 240, 480]
    silent = two.notices[0][1]
    assert silent.startswith("no answer for 60 s from client actors: process 10")
    assert silent.count("process 10") == 1, "the one that has answered is not named"


def test_nothing_is_told_while_answers_come(world):
    two = world({number: 45.0 * number for number in range(5)})
    assert len(two.run(5)) == 5
    assert two.notices == []


def test_actors_that_are_not_up_are_told_of(world, monkeypatch):
    two = world({0: 0.0})
    monkeypatch.setattr(two, "time_of", lambda ref: 100.0)
    assert two.run(1) == {0: 0}
    assert [text for _, text in two.notices] == [
        "no answer for 60 s because no client actor is running; waiting until Ray has room to start one"
    ]
