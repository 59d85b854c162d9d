"""A pool of actors that pull numbered calls. Calls of a lost actor go to others; an actor that returns works again."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError

QUEUED_PER_ACTOR = 2
"""One call runs and the next one is queued, so that an actor never waits for the driver."""
MAX_LOSSES = 5
"""After this many actors lost on one call the run ends, since the call may be what kills them."""
LOOK_S = 30.0
SILENT_S = 60.0
"""After this long without an answer the missing actors are shown; again after twice as long, and so on."""
LOST = (RayActorError, NodeDiedError, ObjectLostError)
STALE = -1

Submit = Callable[[Any, int], Any]
Notice = Callable[[str], None]


class ActorPool:
    """Actors that Ray starts again when they die, without Ray's retries: the pool reassigns their calls.

    Args:
        actors: Handles; each has `place`, which waits until the actor is back.
        notice: Shows a line to the user.

    """

    def __init__(self, actors: Sequence[Any], notice: Notice) -> None:
        self.actors = list(actors)
        self._notice = notice
        self._places: dict[int, tuple[str, int]] = {}
        self._running: dict[Any, tuple[int, int]] = {}
        self._returning: dict[Any, int] = {}
        self._away: set[int] = set()
        self._late: set[Any] = set()
        # An actor gets calls once it has answered: one whose bundle is on a lost node may never start.
        for actor in range(len(self.actors)):
            self._call_back(actor)

    def run(self, submit: Submit, count: int, deadline_s: float = 0.0, at_least: int = 1) -> dict[int, Any]:
        """The results of the calls 0 to `count` - 1 by number.

        Args:
            submit: Starts call `number` on an actor.
            count: Number of calls.
            deadline_s: Calls still running this many seconds after the first was submitted are late. Until `at_least` results
                exist, late calls are also given to other actors, and the first answer counts (again after twice as long, and so
                on); then they are dropped. An actor with a late answer gets no further calls. 0 waits for all.
            at_least: Number of results that are needed.

        """
        waiting, results, losses = deque(range(count)), dict[int, Any](), Counter[int]()
        until, enough = math.inf, count
        self._heard()
        while len(results) < enough:
            self._hand_out(waiting, submit)
            if deadline_s and until == math.inf and len(waiting) < count:
                until = time.monotonic() + deadline_s
            for ref in self._arrived(until):
                self._take(ref, waiting, results, losses)
            if time.monotonic() > until:
                deadline_s *= 2
                until, enough = time.monotonic() + deadline_s, min(at_least, count)
                self._late.update(self._running)
                waiting = deque(number for number in range(count) if number not in results)
        self._running = {ref: (STALE, actor) for ref, (_, actor) in self._running.items()}
        return results

    def close(self) -> None:
        """End the actors."""
        for actor in self.actors:
            ray.kill(actor)

    def _hand_out(self, waiting: deque[int], submit: Submit) -> None:
        load = Counter(actor for _, actor in self._running.values())
        late = {self._running[ref][1] for ref in self._late}  # their next calls would be late as well, or never finish
        here = [actor for actor in range(len(self.actors)) if actor not in self._away | late]
        while waiting and here:
            actor = min(here, key=lambda actor: load[actor])
            if load[actor] == QUEUED_PER_ACTOR:
                return
            number = waiting.popleft()
            self._running[submit(self.actors[actor], number)] = (number, actor)
            load[actor] += 1

    def _arrived(self, until: float) -> list[Any]:
        patience = max(0.0, min(LOOK_S, until - time.monotonic()))
        done, _ = ray.wait([*self._running, *self._returning], num_returns=1, timeout=patience)
        if done:
            self._heard()
        elif time.monotonic() - self._heard_at >= self._next_notice_s:
            self._notice(f"no answer for {time.monotonic() - self._heard_at:.0f} s {self._whose()}")
            self._next_notice_s *= 2
        return list(done)

    def _heard(self) -> None:
        self._heard_at, self._next_notice_s = time.monotonic(), SILENT_S

    def _whose(self) -> str:
        owing = sorted({actor for _, actor in self._running.values()} - self._away)
        if not owing:
            return "because no client actor is running; waiting until Ray has room to start one"
        places = [f"process {pid} on {host}" for host, pid in (self._places[actor] for actor in owing)]
        return f"from client actors: {', '.join(places)}; a long chunk, or a process that hangs: end it, and others take over"

    def _take(self, ref: Any, waiting: deque[int], results: dict[int, Any], losses: Counter[int]) -> None:
        if ref in self._returning:
            actor = self._returning.pop(ref)
            self._places[actor] = ray.get(ref)  # one that will never come back raises here
            self._away.discard(actor)
            return
        number, actor = self._running.pop(ref)
        self._late.discard(ref)
        try:
            result = ray.get(ref)
        except LOST as error:
            self._call_back(actor)
            if number != STALE and number not in results:
                waiting.extend({number}.difference(waiting))
                losses[number] += 1
                if losses[number] > MAX_LOSSES:
                    raise error
            return
        if number != STALE:
            results[number] = result
            if number in waiting:  # it was late, but no other actor had started it
                waiting.remove(number)

    def _call_back(self, actor: int) -> None:
        if actor not in self._away:
            self._away.add(actor)
            self._returning[self.actors[actor].place.remote()] = actor
