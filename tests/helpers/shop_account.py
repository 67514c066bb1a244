"""What the queries of the documents must find, counted in the sandbox's own account.

The account is the plan of sessions that the sandbox makes its events from: who came, and which
steps of which journey they took. Only what the plan leaves to chance, such as times and the status
of a request, is read from the generated events. No SQL, and nothing that the tap has written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from statistics import mean, median, quantiles
from typing import Any
from urllib.parse import urlsplit

from tap_fullstory.sandbox import generated_bundles
from tap_fullstory.sandbox.events import GeneratedEvents
from tap_fullstory.sandbox.shop import order_completed, product_added
from tap_fullstory.sandbox.steps import Page, Step, selector_tokens
from tap_fullstory.sandbox.visits import Session

BUNDLES, EVENTS = 42, 240
UNTIL = datetime(2026, 6, 8, tzinfo=timezone.utc)
DENVER = timezone(timedelta(hours=-6))  # in these weeks
ERRORS = ("exception", "console_message")
ASKED_FOR = "customer-1014@example.com"  # docs/sql.md

Rows = list[list[Any]]


@dataclass(frozen=True)
class Visited:
    """A session, with its events in the order in which they happened."""

    session: Session
    events: list[dict[str, Any]]

    @property
    def person(self) -> int:
        return int(self.session.visitor.fields["IndvId"])

    @property
    def device(self) -> str:
        return str(self.session.visitor.fields["PageDevice"])

    @property
    def steps(self) -> tuple[tuple[Page, Step], ...]:
        return self.session.steps

    @property
    def pages(self) -> list[Page]:
        """The page loads."""
        seen: list[Page] = []
        for page, _ in self.steps:
            if not seen or page is not seen[-1]:
                seen.append(page)
        return seen

    @property
    def times(self) -> list[datetime]:
        return [time_of(event["EventStart"]) for event in self.events]

    @property
    def began(self) -> datetime:
        return self.times[0]

    @property
    def week(self) -> date:
        """The Monday of its week: no session continues past midnight."""
        return self.began.date() - timedelta(days=self.began.weekday())

    @property
    def amount(self) -> Decimal | None:
        """What was ordered, in all."""
        if not self.count(lambda step: step.vary is order_completed):
            return None
        return rounded(Decimal(str(self.session.product.price)) * self.session.items, 2)

    def count(self, wanted: Callable[[Step], Any]) -> int:
        return sum(bool(wanted(step)) for _, step in self.steps)


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def rounded(number: Any, digits: int = 1) -> Decimal:
    """Half away from zero, as databases round decimals."""
    return Decimal(str(number)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)


def percent(part: int, whole: int) -> Decimal:
    return rounded(Decimal(100) * part / whole)


def p75(times: list[int]) -> Decimal:
    return rounded(quantiles(times, n=4, method="inclusive")[2] if times[1:] else times[0], 0)


def naive(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(sep=" ")


def monday(number: int) -> str:
    first = (UNTIL - timedelta(days=BUNDLES)).date()
    return str(first + timedelta(weeks=number))


class Account:
    """What the recipes must find where events have all documented fields, or the sample's."""

    def __init__(self, fields: str, bundles: int = BUNDLES, until: datetime = UNTIL) -> None:
        self.sample = fields == "sample"
        self.visits: list[Visited] = []
        for bundle in generated_bundles(bundles, EVENTS, until=until, fields=fields):
            assert isinstance(bundle.body, GeneratedEvents)
            events: dict[int, list[dict[str, Any]]] = defaultdict(list)
            for event in bundle.events:
                events[event["SessionId"]].append(event)
            for session in bundle.body.plan.sessions():
                in_order = sorted(events[session.id], key=lambda event: event["EventStart"])
                self.visits.append(Visited(session, in_order))

    def answers(self) -> dict[str, Rows]:
        """Return the rows of each recipe by its heading."""
        return {
            "Sessions and people a day, in local time": self._days(),
            "Week over week": self._weeks(),
            "New and returning people": self._new_people(),
            "Retention by first week": self._retention(),
            "Conversion by device, and how long it takes": self._conversion(),
            "Entry and exit pages": self._entries(),
            "Paths": self._paths(),
            "Where sessions come from": self._referrers(),
            "Campaigns, and what they bring": self._campaigns(),
            "Revenue by plan": self._plans(),
            "A person's whole history": self._history("customer-1032@example.com"),
            "Who comes most often": self._regulars(),
            "Top errors, and how many people they hit": self._errors(),
            "Failed requests": [] if self.sample else self._requests(),
            "An error, then rage": [] if self.sample else self._error_then_rage(),
            "Rage clicks by device": self._rage(),
            "Rage clicks where they are not marked": self._rage_series(),
            "Dead clicks by element": self._dead_clicks(),
            "Slow pages": self._slow_pages(),
            "For whom pages are slow": self._slow_devices(),
            "Begun and not completed": self._left_checkout(),
            "Events of your own": self._custom_events(),
            "When people come": self._hours(),
            "Days with unusually many errors": self._unusual_days(),
            "What FullStory's screens count": self._on_screens(),
        }

    def tables(self) -> dict[str, Rows]:
        """Return the rows of what other pages ask, by the names of the columns."""
        return {
            "page, rage_clicks, dead_clicks, errors_after_clicks, exceptions": self._trouble(),
            "plan, sessions, with_rage_clicks, rage_clicks, dead_clicks, exceptions": (
                self._trouble_by_plan()
            ),
            "page, page_loads, seconds, active_seconds": self._times_on_pages()[:4],
            "sessions, saw_a_product, added_it, went_to_checkout, ordered": [self._funnel()],
            "product, added": self._added()[:3],
            "day, orders, revenue, express, latest_for": self._orders(),
            "plan, sessions, rage_clicks": sorted(
                ([row[0], row[1], row[3]] for row in self._trouble_by_plan()),
                key=lambda row: (row[1], row[0]),
            ),
            "IndvId, UserId, PageDevice, events, last_seen": self._devices(ASKED_FOR),
            "UserId, SessionId, began, pages, events, rage_clicks": self._latest(ASKED_FOR)[:4],
            "first_rage_click, UserEmail, clicks, replay": self._replays()[:2],
            "EventType, events": self._event_types()[:3],
        }

    def _of(self, email: str) -> list[Visited]:
        return [v for v in self.visits if v.session.visitor.fields["UserEmail"] == email]

    def _devices(self, email: str) -> Rows:
        found: dict[int, list[Visited]] = defaultdict(list)
        for visit in self._of(email):
            found[visit.session.visitor.user_id].append(visit)
        rows = []
        for user_id, visits in found.items():
            last = naive(max(time for visit in visits for time in visit.times))
            events = sum(len(visit.steps) for visit in visits)
            rows.append([visits[0].person, user_id, visits[0].device, events, last])
        return sorted(rows, key=lambda row: row[4], reverse=True)

    def _latest(self, email: str) -> Rows:
        rows = [
            [
                visit.session.visitor.user_id, visit.session.id, naive(visit.began),
                len(visit.pages), len(visit.steps),
                visit.count(lambda step: step.more.get("EventModFrustrated") == 1),
            ]
            for visit in self._of(email)
        ]  # fmt: skip
        return sorted(rows, key=lambda row: row[2], reverse=True)

    def _replays(self) -> Rows:
        rows = []
        for visit in self.visits:
            clicks = [event for event in visit.events if event.get("EventModFrustrated")]
            if clicks:
                user = visit.session.visitor
                session = f"{user.user_id}:{visit.session.id}"
                link = f"https://app.fullstory.com/ui/YOUR_ORG_ID/session/{session}"
                first = naive(time_of(min(event["EventStart"] for event in clicks)))
                rows.append([first, user.fields["UserEmail"], len(clicks), link])
        return sorted(rows, key=lambda row: row[0], reverse=True)

    def _orders(self) -> Rows:
        rows = []
        for day, visits in sorted(self._by(lambda visit: visit.began.date()).items()):
            ordered = [visit for visit in visits if visit.amount is not None]
            express = sum(event.get("evt_express_bool", 0) for v in ordered for event in v.events)
            revenue = sum(visit.amount or Decimal() for visit in ordered)
            rows.append([day, len(ordered), revenue, express, "2030-01-01 12:00:00"])
        return rows

    def _trouble(self) -> Rows:
        found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for visit in self.visits:
            incidents = set()
            for page, step in visit.steps:
                counts = found[self._page_name(visit, page)]
                counts[0] += step.more.get("EventModFrustrated") == 1
                counts[1] += bool(step.more.get("EventModDead"))
                counts[3] += step.kind == "exception"
                if step.more.get("EventModError"):  # several on one thing are one
                    incidents.add((self._page_name(visit, page), step.text))
            for name, _ in incidents:
                found[name][2] += 1
        rows = [[page, *counts] for page, counts in found.items() if any(counts[:3])]
        return sorted(rows, key=lambda row: (-row[1], -row[2], row[0]))

    def _trouble_by_plan(self) -> Rows:
        rows = []
        plans = self._by(lambda v: v.session.visitor.fields.get("user_plan_str", "(not known)"))
        for plan, visits in plans.items():
            rage = [v.count(lambda step: step.more.get("EventModFrustrated") == 1) for v in visits]
            dead = sum(v.count(lambda step: step.more.get("EventModDead")) for v in visits)
            thrown = sum(v.count(lambda step: step.kind == "exception") for v in visits)
            rows.append([plan, len(visits), sum(map(bool, rage)), sum(rage), dead, thrown])
        return sorted(rows, key=lambda row: (-row[3], row[1]))

    def _times_on_pages(self) -> Rows:
        loads: dict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
        for visit in self.visits:
            for event in visit.events:
                name = event.get("PageName") or event["AppViewName"]
                times = event["PageDuration"], event["PageActiveDuration"]
                loads[name][event["PageId"]] = times
        rows = [
            [
                page, len(times),
                rounded(mean(Decimal(whole) for whole, _ in times.values()) / 1000),
                rounded(mean(Decimal(active) for _, active in times.values()) / 1000),
            ]
            for page, times in loads.items()
        ]  # fmt: skip
        return sorted(rows, key=lambda row: (-row[1], row[0]))

    def _funnel(self) -> list[Any]:
        """Return how many sessions take each step after the one before it."""
        reached = [len(self.visits), 0, 0, 0, 0]
        wanted: list[Callable[[Page, Step], bool]] = [
            lambda page, step: "/products/" in page.url,
            lambda page, step: step.vary is product_added and step.kind == "custom",
            lambda page, step: "/checkout" in page.url,
            lambda page, step: step.vary is order_completed,
        ]
        for visit in self.visits:
            done = 0
            for page, step in visit.steps:
                if done < len(wanted) and wanted[done](page, step):
                    done += 1
                    reached[done] += 1
        return reached

    def _added(self) -> Rows:
        added: dict[str, int] = defaultdict(int)
        for visit in self.visits:
            product = visit.session.product.slug
            added[product] += visit.count(lambda s: s.vary is product_added and s.kind == "custom")
        return sorted(([*row] for row in added.items()), key=lambda row: (-row[1], row[0]))

    def _event_types(self) -> Rows:
        types: dict[str, int] = defaultdict(int)
        for visit in self.visits:
            for _, step in visit.steps:
                types[step.kind] += 1
        return sorted(([*row] for row in types.items()), key=lambda row: (-row[1], row[0]))

    def by_person(self) -> list[list[Visited]]:
        return list(self._by(lambda visit: visit.person).values())

    def _by(self, key: Callable[[Visited], Any]) -> dict[Any, list[Visited]]:
        found: dict[Any, list[Visited]] = defaultdict(list)
        for visit in self.visits:
            found[key(visit)].append(visit)
        return found

    def _page_name(self, visit: Visited, page: Page) -> str:
        if not self.sample:
            return page.name or str(page.more["AppViewName"])
        return urlsplit(page.url.replace("{slug}", visit.session.product.slug)).path

    def _days(self) -> Rows:
        sessions: dict[date, set[int]] = defaultdict(set)
        seen: dict[date, set[int]] = defaultdict(set)
        for visit in self.visits:
            for time in visit.times:
                day = time.astimezone(DENVER).date()
                sessions[day].add(visit.session.id)
                seen[day].add(visit.person)
        return [[day, len(sessions[day]), len(seen[day])] for day in sorted(seen)[:-5:-1]]

    def _weeks(self) -> Rows:
        counted = [
            (week, len(people(visits)), sum(visit.amount is not None for visit in visits))
            for week, visits in sorted(self._by(lambda visit: visit.week).items())
        ]
        return [
            [week, now, now - then, orders, rounded(Decimal(100) * orders / before - 100)]
            for (_, then, before), (week, now, orders) in pairwise(counted)
        ][:-4:-1]

    def _new_people(self) -> Rows:
        first: dict[int, datetime] = {}
        for visit in self.visits:
            times = [visit.began]
            if not self.sample:
                times.append(time_of(visit.session.visitor.fields["UserCreated"]))
            first[visit.person] = min(*times, first.get(visit.person, visit.began))
        rows = []
        for week, visits in sorted(self._by(lambda visit: visit.week).items()):
            new = {person for person in people(visits) if first[person].date() >= week}
            rows.append([week, len(people(visits)), len(new), len(people(visits) - new)])
        return rows

    def _retention(self) -> Rows:
        came = [people(visits) for _, visits in sorted(self._by(lambda v: v.week).items())]
        rows, known = [], set[int]()
        for number, here in enumerate(came):
            new = here - known
            known |= here
            later = [len(new & again) for again in came[number + 1 : number + 5]]
            rows.append([monday(number), len(new), *later, *[0] * (4 - len(later))])
        return rows

    def _conversion(self) -> Rows:
        rows = []
        for device, visits in self._by(lambda visit: visit.device).items():
            taken = [
                (time_of(event["EventStart"]) - visit.began).total_seconds()
                for visit in visits
                for event in visit.events
                if event.get("EventCustomName") == "Order Completed"
            ]
            share = percent(len(taken), len(visits))
            rows.append([device, len(visits), len(taken), share, rounded(median(taken))])
        return sorted(rows, key=lambda row: (-row[3], row[0]))

    def _entries(self) -> Rows:
        loads: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
        for visit in self.visits:
            pages = visit.pages
            for page in pages:
                ends = page is pages[0], page is pages[-1]
                loads[self._page_name(visit, page)].append(ends)
        rows: Rows = [
            [page, len(ends), sum(a for a, _ in ends), sum(b for _, b in ends)]
            for page, ends in loads.items()
        ]
        return [
            [*row, percent(row[3], row[1])]
            for row in sorted(rows, key=lambda row: (-row[1], row[0]))[:5]
        ]

    def _paths(self) -> Rows:
        paths = self._by(lambda v: " > ".join(self._page_name(v, page) for page in v.pages))
        rows = sorted(paths.items(), key=lambda item: (-len(item[1]), item[0]))
        return [[path, len(visits)] for path, visits in rows[:5]]

    def _referrers(self) -> Rows:
        def referrer(visit: Visited) -> str:
            if visit.session.visitor.platform != "web":
                return ""
            return urlsplit(visit.session.source.referer).hostname or "(direct)"

        found = [(name, visits) for name, visits in self._by(referrer).items() if name]
        rows = [[name, len(visits), len(people(visits))] for name, visits in found]
        return sorted(rows, key=lambda row: -row[1])

    def _campaigns(self) -> Rows:
        def campaign(visit: Visited) -> str:
            return visit.session.source.query.rpartition("utm_campaign=")[2] or "(none)"

        rows = []
        for name, visits in self._by(campaign).items():
            amounts = [visit.amount for visit in visits if visit.amount is not None]
            share = percent(len(amounts), len(visits))
            rows.append([name, len(visits), len(amounts), share, sum(amounts)])
        return sorted(rows, key=lambda row: -row[1])

    def _plans(self) -> Rows:
        rows = []
        for plan, visits in self._by(lambda visit: visit.session.visitor.plan).items():
            ordered = [visit for visit in visits if visit.amount is not None]
            amounts = [visit.amount or Decimal() for visit in ordered]
            rows.append([plan, len(ordered), len(people(ordered)), sum(amounts)])
        return sorted((row for row in rows if row[1]), key=lambda row: -row[3])

    def _history(self, email: str) -> Rows:
        theirs = self._of(email)
        return [
            [
                naive(visit.began), visit.device, len(visit.pages), len(visit.steps), visit.amount,
                visit.count(lambda step: step.more.get("EventModDead")),
                visit.count(lambda step: step.kind == "exception"),
            ]
            for visit in sorted(theirs, key=lambda visit: visit.began)
        ]  # fmt: skip

    def _regulars(self) -> Rows:
        rows = []
        for person, visits in self._by(lambda visit: visit.person).items():
            days = {visit.began.date() for visit in visits}
            email = visits[0].session.visitor.fields["UserEmail"] or None
            last = naive(max(time for visit in visits for time in visit.times))
            rows.append([person, email, len(visits), len(days), last])
        rows.sort(key=lambda row: row[4], reverse=True)
        return sorted(rows, key=lambda row: -row[2])[:3]

    def _errors(self) -> Rows:
        hit: dict[tuple[str, str], list[Visited]] = defaultdict(list)
        for visit in self.visits:
            for _, step in visit.steps:
                if step.kind in ERRORS:
                    hit[step.kind, step.text or ""].append(visit)
        rows: Rows = [
            [*error, len(visits), len({visit.session.id for visit in visits}), len(people(visits))]
            for error, visits in hit.items()
        ]
        return sorted(rows, key=lambda row: (-row[4], -row[2], row[0]))

    def _requests(self) -> Rows:
        made: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        for visit in self.visits:
            for event in visit.events:
                if event["EventType"] == "request":
                    key = event["ReqMethod"], event["ReqUrl"].partition("?")[0]
                    made[key].append((event["ReqStatus"], visit.person))
        rows = []
        for request, answers in made.items():
            failed = [person for status, person in answers if status >= 400]
            share = percent(len(failed), len(answers))
            rows.append([*request, len(answers), len(failed), share, len(set(failed))])
        return sorted((row for row in rows if row[3]), key=lambda row: (-row[5], -row[3]))

    def _error_then_rage(self) -> Rows:
        hit: dict[tuple[str, str], list[Visited]] = defaultdict(list)
        for visit in self.visits:
            before: dict[str, Page] = {}
            found = set()
            for page, step in visit.steps:  # pages take less than ten seconds here
                if step.kind in ERRORS:
                    before[step.text or ""] = page
                if step.more.get("EventModFrustrated"):
                    found |= {(error, step.text or "") for error in before if before[error] is page}
            for incident in found:
                hit[incident].append(visit)
        rows = [[*what, len(visits), len(people(visits))] for what, visits in hit.items()]
        return sorted(rows, key=lambda row: -row[2])

    def _rage(self) -> Rows:
        rows = []
        for device, visits in self._by(lambda visit: visit.device).items():
            raging = sum(
                visit.count(lambda step: step.more.get("EventModFrustrated") == 1) > 0
                for visit in visits
            )
            raging = 0 if self.sample else raging
            rows.append([device, len(visits), raging, percent(raging, len(visits))])
        return sorted(rows, key=lambda row: (-row[3], row[0]))

    def _rage_series(self) -> Rows:
        hit: dict[str, list[Visited]] = defaultdict(list)
        for visit in self.visits:
            for _, step in visit.steps:
                if step.more.get("EventModFrustrated") == 3:
                    hit[step.text or ""].append(visit)
        rows: Rows = [[text, len(visits), len(people(visits))] for text, visits in hit.items()]
        return sorted(rows, key=lambda row: (-row[1], row[0]))

    def _dead_clicks(self) -> Rows:
        clicked: dict[str, list[tuple[bool, int]]] = defaultdict(list)
        for visit in self.visits:
            for _, step in visit.steps:
                if step.kind == "click":
                    path = step.target or ""
                    element = step.text or (selector_tokens(path) if self.sample else path)
                    dead = bool(step.more.get("EventModDead"))
                    clicked[element].append((dead, visit.person))
        rows = []
        for element, clicks in clicked.items():
            hit = [person for dead, person in clicks if dead]
            rows.append([element, len(clicks), len(hit), len(set(hit))])
        return sorted((row for row in rows if row[2]), key=lambda row: (-row[2], row[0]))

    def _loads(self) -> Iterable[tuple[Visited, str, int]]:
        """Yield each load of a page, and how long it took."""
        column = "LoadEventTime" if self.sample else "LoadLargestPaintTime"
        for visit in self.visits:
            for event in visit.events:
                if event["EventType"] == "load":
                    path = urlsplit(event["PageUrl"]).path
                    yield visit, path if self.sample else event["PageName"], event[column]

    def _slow_pages(self) -> Rows:
        loads: dict[str, list[int]] = defaultdict(list)
        for _, page, time in self._loads():
            loads[page].append(time)
        rows: Rows = [
            [page, len(times), p75(times), percent(sum(t <= 2500 for t in times), len(times))]
            for page, times in loads.items()
        ]
        return sorted(rows, key=lambda row: (-row[2], row[0]))[:4]

    def _slow_devices(self) -> Rows:
        loads: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        for visit, _, time in self._loads():
            browser = visit.session.visitor.fields["PageBrowser"]
            loads[visit.device, browser].append((visit.person, time))
        rows: Rows = [
            [*who, len(seen), len({person for person, _ in seen}), p75([time for _, time in seen])]
            for who, seen in loads.items()
        ]
        return sorted(rows, key=lambda row: (-row[4], row[1]))

    def _left_checkout(self) -> Rows:
        rows = []
        for week, visits in sorted(self._by(lambda visit: visit.week).items())[:-4:-1]:
            reached = [v for v in visits if any("/checkout" in page.url for page in v.pages)]
            left = sum(visit.amount is None for visit in reached)
            rows.append([week, len(reached), left, percent(left, len(reached))])
        return rows

    def _custom_events(self) -> Rows:
        rows = []
        for name, vary in (("Product Added", product_added), ("Order Completed", order_completed)):
            sent = [
                visit
                for visit in self.visits
                for _, step in visit.steps
                if step.vary is vary and step.kind == "custom"
            ]
            sessions = {visit.session.id for visit in sent}
            rows.append([name, len(sent), len(sessions), len(people(sent))])
        return rows

    def _hours(self) -> Rows:
        hours = self._by(lambda visit: visit.began.astimezone(DENVER).hour)
        rows = [[hour, len(visits)] for hour, visits in hours.items()]
        return sorted(rows, key=lambda row: (-row[1], row[0]))[:3]

    def _unusual_days(self) -> Rows:
        errors = [
            (day, sum(visit.count(lambda step: step.kind in ERRORS) for visit in visits))
            for day, visits in sorted(self._by(lambda visit: visit.began.date()).items())
        ]
        found = []
        for number in range(7, len(errors)):
            day, count = errors[number]
            usual = mean(Decimal(count) for _, count in errors[number - 7 : number])
            if count >= Decimal("1.5") * usual:
                found.append((count / usual, [day, count, rounded(usual)]))
        return [row for _, row in sorted(found, key=lambda item: item[0], reverse=True)[:3]]

    def _on_screens(self) -> Rows:
        screens: dict[date, set[str]] = defaultdict(set)
        here: dict[date, set[int]] = defaultdict(set)
        for visit in self.visits:
            visitor = visit.session.visitor
            for time in visit.times:
                day = time.astimezone(DENVER).date()
                screens[day].add(visitor.fields["UserAppKey"] or str(visitor.user_id))
                here[day].add(visit.person)
        return [[day, len(screens[day]), len(here[day])] for day in sorted(here)[:-5:-1]]


def people(visits: Iterable[Visited]) -> set[int]:
    return {visit.person for visit in visits}
