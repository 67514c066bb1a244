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
from itertools import islice
from random import Random

from .people import some_id
from .steps import Fields, Page, Source, Step, Visit
from .visits import Plan, Session, timestamp

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
        events = shuffled(self._in_order(rng), rng, _NEIGHBOURHOOD)
        return map(_as_in_sample, events) if self.fields == "sample" else events

    @property
    def plan(self) -> Plan:
        """The sessions that the events are of."""
        return Plan(self.start, self.stop, self.count, self.seed, self.number)

    def _in_order(self, rng: Random) -> Iterator[Event]:
        last = self.stop * 1000 - 1  # milliseconds
        for session in self.plan.sessions():
            yield from islice(_events_of(session, last, rng), session.count)


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


def _events_of(session: Session, last: int, rng: Random) -> Iterator[Event]:
    visitor = session.visitor
    visit = Visit(
        rng,
        session.product,
        session.order_number,
        session.items,
        visitor.plan,
        visitor.slowness,
    )
    on_all = {
        **visitor.fields,
        "SessionId": session.id,
        "SessionStart": timestamp(session.began),
    }
    now, source = session.began, session.source
    for page in session.journey.pages:
        times = []
        for step in page.steps:
            now += int(step.gap * (0.5 + rng.random()))
            times.append(min(now, last))
        on_page = _on_page(page, visit, times, source)
        source = Source(on_page.get("PageUrl", ""))
        errors = warnings = 0
        for step, time in zip(page.steps, times, strict=True):
            errors += step.kind in _ERRORS
            warnings += rng.random() < 0.1
            yield {
                **on_all,
                **on_page,
                "EventStart": timestamp(time),
                "EventPageOffset": time - times[0],
                "EventSessionOffset": time - session.began,
                "PageNumInfos": len(times),
                "PageNumWarnings": warnings,
                "PageNumErrors": errors,
                **step.fields,
                **(step.vary(visit) if step.vary else {}),
                **_about_product(step, visit),
            }


def _on_page(page: Page, visit: Visit, times: list[int], source: Source) -> Fields:
    """The fields that all events of one page load share."""
    rng = visit.rng
    duration = times[-1] - times[0] + rng.randrange(200, 30000)
    fields = {
        "PageId": some_id(rng),
        "PageStart": timestamp(times[0]),
        "PageDuration": duration,
        "PageActiveDuration": duration * 5 // 7,
        "PageNumEvents": len(times),
        "PageNumDerivedEvents": len(times) // 3,
        **page.more,
    }
    if page.url:
        fields["PageName"] = page.name
        url = page.url.replace("{slug}", visit.product.slug)
        joined = f"{url}{'&' if '?' in url else '?'}{source.query}" if source.query else url
        fields["PageUrl"] = joined
        fields["PageRefererUrl"] = source.referer
    if page.cluster:
        fields["PageClusterId"] = page.cluster
    if page.vary:
        fields.update(page.vary(visit))
    return fields


def _about_product(step: Step, visit: Visit) -> Fields:
    if step.text is None or "{name}" not in step.text:
        return {}
    return {"EventTargetText": step.text.replace("{name}", visit.product.name)}


def shuffled(events: Iterable[Event], rng: Random, neighbourhood: int) -> Iterator[Event]:
    """The events in another order, none of them carried further than `neighbourhood`."""
    events = iter(events)
    while neighbours := list(islice(events, neighbourhood)):
        rng.shuffle(neighbours)
        yield from neighbours
