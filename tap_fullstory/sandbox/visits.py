"""Who visits the sandbox's shop on which day, from where, and what they do there.

This plan of a bundle's sessions is what its events are made from. It can be listed without making
them: a count over it is the account that answers of queries are compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from itertools import islice
from random import Random
from types import MappingProxyType

from .journeys import EXAMPLE, JOURNEYS, STEPS
from .people import EXAMPLE_SESSION_ID, Person, Visitor, people, some_id
from .shop import PRODUCTS, SOURCES
from .steps import Journey, Page, Product, Source, Step

_OLD_CUSTOMERS = 20  # besides those with user variables
_GROWTH = 42  # bundles, in each of which at most one person comes for the first time
_RHYTHMS = (1, 2, 3, 4, 7, 7, 14)  # bundles, which are days, from one visit to the next
_NEVER_AGAIN = 0
_LONGEST_SESSION = 15 * 60  # seconds, which journeys stay well below
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Session:
    """`began` is in Unix milliseconds. Only the first `count` steps of the journey are taken."""

    id: int
    began: int
    visitor: Visitor
    journey: Journey
    source: Source
    product: Product
    order_number: int
    items: int
    count: int

    @property
    def steps(self) -> tuple[tuple[Page, Step], ...]:
        return self.journey.steps[: self.count]


@dataclass(frozen=True)
class _Habit:
    since: int  # the bundle of the first visit; a negative one is before the sandbox's first
    every: int  # bundles from one visit to the next

    def comes(self, number: int) -> bool:
        return self.every > 0 and (number - self.since) % self.every == 0


def _habits(everybody: tuple[Person, ...], seed: int) -> dict[int, _Habit]:
    """Return each person's habit, by IndvId: of all but the example's person."""
    rng = Random(f"habits/{seed}")
    with_variables = [person for person in everybody[1:] if person.variables]
    others = [person for person in everybody[1:] if not person.variables]
    rng.shuffle(others)
    found = {}
    for person in (*with_variables, *others[:_OLD_CUSTOMERS]):
        rhythms = _RHYTHMS[-3:] if person.variables else _RHYTHMS
        found[person.indv_id] = _Habit(-rng.randrange(1, 15), rng.choice(rhythms))
    new = others[_OLD_CUSTOMERS:]
    for person, since in zip(new, sorted(rng.sample(range(1, _GROWTH), len(new))), strict=True):
        found[person.indv_id] = _Habit(since, rng.choice((_NEVER_AGAIN, *_RHYTHMS)))
    return found


@dataclass(frozen=True)
class Plan:
    """The sessions of one bundle of `count` events, from `start` to `stop` in Unix seconds.

    The dates of first visits suppose that the bundles before it are as long and as large.
    """

    start: int
    stop: int
    count: int
    seed: int
    number: int

    def sessions(self) -> Iterator[Session]:
        """Yield the sessions, in the order in which they begin."""
        rng = Random(f"sessions/{self.seed}/{self.number}")
        times = self._times(self.number)
        left = self.count
        if self.number == 0:
            visitor = self._as_old_customer(self._everybody[0].visitors[0])
            began = self.start * 1000 + self._room // 3
            count = min(left, len(EXAMPLE.steps))
            yield _session(EXAMPLE, visitor, EXAMPLE_SESSION_ID, began, rng, count)
            left -= count
        arrivals, crowds = self._arrivals(self.number), self._crowds()
        # Each bundle continues with the journey after those of the bundle before it, so that a few
        # small bundles show all of them; a large one has each once, and then any.
        turn = self.number * (self.count // STEPS)
        session = 0
        while left > 0:
            if session < len(JOURNEYS):
                journey = JOURNEYS[(turn + session) % len(JOURNEYS)]
            else:
                journey = rng.choice(JOURNEYS)
            visitor = arrivals.get(session) or rng.choice(crowds[journey.platform, journey.known])
            count = min(left, STEPS)
            yield _session(journey, visitor, some_id(rng), next(times), rng, count)
            left -= count
            session += 1

    @cached_property
    def _everybody(self) -> tuple[Person, ...]:
        return people(self.seed)

    @cached_property
    def _habit_of(self) -> dict[int, _Habit]:
        return _habits(self._everybody, self.seed)

    @property
    def _room(self) -> int:
        """How long after the start sessions may begin, in milliseconds."""
        length = self.stop - self.start
        return (length - min(_LONGEST_SESSION, length)) * 1000

    def _times(self, number: int) -> Iterator[int]:
        """Yield when the sessions of a bundle begin: of this one or of one before it."""
        rng = Random(f"times/{self.seed}/{number}")
        first = (self.start - (self.number - number) * (self.stop - self.start)) * 1000
        sessions = self.count // STEPS + 1
        for session in range(sessions):
            yield first + int(self._room * (session + rng.random()) / sessions)

    def _arrivals(self, number: int) -> dict[int, Visitor]:
        """Return who comes for the first time in a bundle, by the session in which they do."""
        turn = number * (self.count // STEPS)
        found: dict[int, Visitor] = {}
        for person in self._everybody[1:]:
            if self._habit_of[person.indv_id].since == number:
                for visitor in person.visitors:
                    for session in range(min(self.count // STEPS, len(JOURNEYS))):
                        journey = JOURNEYS[(turn + session) % len(JOURNEYS)]
                        fits = journey.platform == visitor.platform and not journey.known
                        if fits and session not in found:
                            (began,) = islice(self._times(number), session, session + 1)
                            found[session] = _created_at(visitor, began)
                            break
        return found

    def _as_old_customer(self, visitor: Visitor) -> Visitor:
        first = self.start - self.number * (self.stop - self.start)
        return _created_at(visitor, first * 1000 - visitor.age // timedelta(milliseconds=1))

    def _crowds(self) -> dict[tuple[str, bool], tuple[Visitor, ...]]:
        """Return who may come in this bundle, by platform and whether they need user variables."""
        created = {
            visitor.user_id: visitor
            for number in range(min(self.number, _GROWTH))
            for visitor in self._arrivals(number).values()
        }
        around = [
            (person, self._habit_of[person.indv_id])
            for person in self._everybody[1:]
            if self._habit_of[person.indv_id].since < self.number
        ]
        crowds = {}
        for platform in ("web", "app"):
            for known in (False, True):
                fitting = [
                    (habit, created.get(visitor.user_id) or self._as_old_customer(visitor))
                    for person, habit in around
                    for visitor in person.visitors
                    if visitor.platform == platform and (person.variables or not known)
                ]
                today = tuple(visitor for habit, visitor in fitting if habit.comes(self.number))
                regulars = tuple(visitor for habit, visitor in fitting if habit.every)
                crowds[platform, known] = today or regulars
        return crowds


def _created_at(visitor: Visitor, milliseconds: int) -> Visitor:
    fields = {**visitor.fields, "UserCreated": timestamp(milliseconds)}
    return replace(visitor, fields=MappingProxyType(fields))


def _session(
    journey: Journey, visitor: Visitor, session_id: int, began: int, rng: Random, count: int
) -> Session:
    return Session(
        session_id,
        began,
        visitor,
        journey,
        rng.choice(SOURCES) if journey.from_outside else SOURCES[0],
        journey.product or rng.choice(PRODUCTS),
        rng.randrange(10**6, 10**7),
        rng.randrange(1, 5),
        count,
    )


def timestamp(milliseconds: int) -> str:
    """Return RFC 3339 in UTC with milliseconds, as FullStory writes it."""
    time = _EPOCH + timedelta(milliseconds=milliseconds)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
