"""Events as FullStory exports them, made up: seeded, repeatable, one at a time.

The fields, their types and which of them are sparse follow FullStory's dictionary of export
fields (developer.fullstory.com/server/v1/segments/export-fields/) and the sample export in
github.com/fullstorydev/hauser (testing/testdata/raw.json): a value that is not there is an absent
key, never null; ids are integers that can exceed 2^53; the rows of a bundle come in no strict
order; no two of them are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice
from random import Random

from .journeys import EXAMPLE, JOURNEYS, STEPS
from .people import EXAMPLE_SESSION_ID, Visitor, crowd, people, some_id
from .shop import PRODUCTS
from .steps import Fields, Journey, Page, Step, Visit

Event = Fields

# `all` are the documented ones; `sample` are those of FullStory's one public sample of a bundle
# (github.com/fullstorydev/hauser, testing/testdata/raw.json), which has these and no others.
FIELDS = ("all", "sample")
_TEXT_ON_EVERY_ROW = """
    UserAppKey UserDisplayName UserEmail PageUrl PageRefererUrl PageIp PageLatLong PageUserAgent
    PageBrowser PageDevice PageOperatingSystem
    """.split()
_IN_SAMPLE = frozenset(
    """
    IndvId UserId SessionId PageId EventStart EventType EventCustomName EventTargetText
    EventTargetSelectorTok EventModError EventModDead PageDuration PageActiveDuration PageNumInfos
    PageNumWarnings PageNumErrors PageClusterId LoadDomContentTime LoadFirstPaintTime LoadEventTime
    """.split()
)
_VARIABLES_IN_SAMPLE = ("evt_", "page_")

_ERRORS = ("console_message", "exception")  # what PageNumErrors counts
_NEIGHBOURHOOD = 8  # rows: how far apart shuffling may carry two events
_LONGEST_SESSION = 15 * 60  # seconds, which journeys stay well below
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class GeneratedEvents:
    """`count` events of the period from `start` (included) to `stop` (excluded), Unix seconds.

    Iterating makes them one by one, the same ones each time. `number` counts a sandbox's bundles
    from 0, the oldest, which holds the example session (EXAMPLE_USER_ID, EXAMPLE_SESSION_ID).
    `start` only moves the events in time: periods of equal length with the same `count`, `seed`
    and `number` hold the same events but for their dates. `fields` is one of FIELDS.
    """

    start: int
    stop: int
    count: int
    seed: int = 0
    number: int = 0
    fields: str = FIELDS[0]

    def __iter__(self) -> Iterator[Event]:
        rng = Random(f"bundle/{self.seed}/{self.number}")
        events = shuffled(islice(self._sessions(rng), self.count), rng, _NEIGHBOURHOOD)
        return map(_as_in_sample, events) if self.fields == "sample" else events

    def _sessions(self, rng: Random) -> Iterator[Event]:
        everybody = people(self.seed)
        crowds = {
            (platform, known): crowd(everybody, platform, known=known)
            for platform in ("web", "app")
            for known in (False, True)
        }
        first, last = self.start * 1000, self.stop * 1000 - 1  # milliseconds
        sessions = self.count // STEPS + 1
        room = (self.stop - self.start - min(_LONGEST_SESSION, self.stop - self.start)) * 1000
        if self.number == 0:
            visitor = everybody[0].visitors[0]
            began = first + room // 3
            yield from _session(EXAMPLE, visitor, EXAMPLE_SESSION_ID, (began, last), rng)
        # Each bundle goes on with the journey after those of the bundle before it, so that a few
        # small bundles show all of them.
        turn = self.number * (self.count // STEPS)
        for session in range(sessions):
            journey = JOURNEYS[(turn + session) % len(JOURNEYS)]
            visitor = rng.choice(crowds[journey.platform, journey.known])
            began = first + int(room * (session + rng.random()) / sessions)
            yield from _session(journey, visitor, some_id(rng), (began, last), rng)


def generate_events(
    start: int, stop: int, count: int, *, seed: int = 0, number: int = 0
) -> Iterator[Event]:
    """GeneratedEvents, iterated over."""
    return iter(GeneratedEvents(start, stop, count, seed, number))


def _as_in_sample(event: Event) -> Event:
    texts = {name: event.get(name, "") for name in _TEXT_ON_EVERY_ROW}
    texts["PageUserAgent"] = event.get("PageUserAgent", event.get("PageAgent", ""))
    others = {
        name: value
        for name, value in event.items()
        if name in _IN_SAMPLE or name.startswith(_VARIABLES_IN_SAMPLE)
    }
    return {**others, **texts}


def _session(
    journey: Journey, visitor: Visitor, session_id: int, span: tuple[int, int], rng: Random
) -> Iterator[Event]:
    began, last = span
    visit = Visit(rng, journey.product or rng.choice(PRODUCTS), rng.randrange(10**6, 10**7))
    session = {**visitor.fields, "SessionId": session_id, "SessionStart": _timestamp(began)}
    now, referer = began, ""
    for page in journey.pages:
        times = []
        for step in page.steps:
            now += int(step.gap * (0.5 + rng.random()))
            times.append(min(now, last))
        on_page = _on_page(page, visit, times, referer)
        referer = on_page.get("PageUrl", "")
        errors = warnings = 0
        for step, time in zip(page.steps, times, strict=True):
            errors += step.kind in _ERRORS
            warnings += rng.random() < 0.1
            yield {
                **session,
                **on_page,
                "EventStart": _timestamp(time),
                "EventPageOffset": time - times[0],
                "EventSessionOffset": time - began,
                "PageNumInfos": len(times),
                "PageNumWarnings": warnings,
                "PageNumErrors": errors,
                **step.fields,
                **(step.vary(visit) if step.vary else {}),
                **_about_product(step, visit),
            }


def _on_page(page: Page, visit: Visit, times: list[int], referer: str) -> Fields:
    """The fields that all events of one page load share."""
    rng = visit.rng
    duration = times[-1] - times[0] + rng.randrange(200, 30000)
    fields = {
        "PageId": some_id(rng),
        "PageStart": _timestamp(times[0]),
        "PageDuration": duration,
        "PageActiveDuration": duration * 5 // 7,
        "PageNumEvents": len(times),
        "PageNumDerivedEvents": len(times) // 3,
        **page.more,
    }
    if page.url:
        fields["PageName"] = page.name
        fields["PageUrl"] = page.url.replace("{slug}", visit.product.slug)
        fields["PageRefererUrl"] = referer
    if page.cluster:
        fields["PageClusterId"] = page.cluster
    if page.vary:
        fields.update(page.vary(visit))
    return fields


def _about_product(step: Step, visit: Visit) -> Fields:
    if step.text is None or "{name}" not in step.text:
        return {}
    return {"EventTargetText": step.text.replace("{name}", visit.product.name)}


def _timestamp(milliseconds: int) -> str:
    """RFC 3339 in UTC with milliseconds, as FullStory writes it."""
    time = _EPOCH + timedelta(milliseconds=milliseconds)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shuffled(events: Iterable[Event], rng: Random, neighbourhood: int) -> Iterator[Event]:
    """The events in another order, none of them carried further than `neighbourhood`."""
    events = iter(events)
    while neighbours := list(islice(events, neighbourhood)):
        rng.shuffle(neighbours)
        yield from neighbours
