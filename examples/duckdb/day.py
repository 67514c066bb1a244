#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.10"
# dependencies = [
#   "duckdb==2.0.1; python_version >= '3.11'",
#   "duckdb==1.5.6; python_version < '3.11'",
# ]
# ///
"""Draw the sessions of a day, from a DuckDB database that load.py has loaded, as an SVG picture.

    python day.py fullstory.duckdb > day.svg
    python day.py fullstory.duckdb 2026-06-06 --sessions 40 > day.svg

The day is in UTC; default: the last one in the database. The title and the strip below it are about
the whole day. If it has more sessions than --sessions, they are drawn evenly over the day: of each
part of it, the one with the most rage clicks, dead clicks and errors. The picture has the names of
people, or their e-mail addresses: it is personal data like the database. Any browser shows it, and
names an event when the mouse is over it.

Exit codes: 0 done; 1 the database cannot be read, or has no event of that day; 2 usage.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from itertools import groupby
from urllib.parse import urlsplit
from xml.sax.saxutils import escape, quoteattr

import duckdb

DEFAULT_SESSIONS = 40
WIDTH, LABEL, MARGIN = 1200, 270, 24  # px: of the picture, of the column of names, around all
ROW, HEAD, STRIP = 30, 92, 34  # px: height of a session, of the title, and of the day's strip
QUANTILE = 0.9  # of the sessions' lengths: longer ones are cut off, so that the others are seen

INK, FAINT, LINE = "#0f172a", "#64748b", "#e2e8f0"
RED, ORANGE, BLUE, VIOLET = "#dc2626", "#ea580c", "#2563eb", "#7c3aed"
PAGES = ("#dbeafe", "#dcfce7", "#fef3c7", "#ede9fe", "#ffe4e6", "#cffafe", "#f1f5f9", "#fae8ff")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
LEGEND = ("click", "rage click", "dead click", "error", "custom event", "other event")
TROUBLE = LEGEND[1:4]

COLUMNS = (
    "EventStart", "EventType", "EventTargetText", "EventCustomName", "PageName", "AppViewName",
    "PageUrl", "UserDisplayName", "UserEmail", "PageDevice", "EventModFrustrated", "EventModDead",
    "EventModError",
)  # fmt: skip


@dataclass
class Event:
    """What happened `second` seconds after the session's first event."""

    second: float
    kind: str  # one of LEGEND
    page: str
    text: str


@dataclass
class Session:
    """The events of one UserId and SessionId, in order."""

    start: datetime
    who: str
    device: str
    events: list[Event] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.events[-1].second


@dataclass
class Day:
    """What happened on a day, and the sessions of it that are drawn."""

    day: date
    starts: list[tuple[datetime, bool]]
    """When each session began that day, in order, and whether it had trouble."""
    events: int
    trouble: dict[str, int]
    """How often something went wrong, by what. A series of rage clicks is once."""
    drawn: list[Session] = field(default_factory=list)


def read(connection: duckdb.DuckDBPyConnection, day: date | None, limit: int) -> Day:
    """Return what `day` has, by default the last one, with at most `limit` sessions to draw."""
    found = {row[0] for row in connection.execute("DESCRIBE events").fetchall()}
    if day is None:
        ((newest,),) = connection.execute('SELECT max("EventStart") FROM events').fetchall()
        day = newest.date() if newest else date.min
    listed = ", ".join(f'"{name}"' if name in found else f'NULL AS "{name}"' for name in COLUMNS)
    connection.execute(
        f"""
        CREATE TEMP TABLE of_the_day AS SELECT *,
            coalesce("EventModFrustrated" > 0, false) AS is_rage,
            coalesce("EventModDead" > 0, false) AS is_dead,
            coalesce("EventModError" > 0 OR "EventType" = 'exception', false) AS is_error
        FROM (SELECT "UserId", "SessionId", {listed} FROM events)
        WHERE "EventStart" >= ? AND "EventStart" < ?
        """,
        [day, day + timedelta(days=1)],
    )
    starts = connection.execute(
        """
        SELECT min("EventStart") AS start, bool_or(is_rage OR is_dead OR is_error)
        FROM of_the_day GROUP BY "UserId", "SessionId" ORDER BY start
        """
    ).fetchall()
    ((events, *counts),) = connection.execute(
        """
        SELECT count(*), count(*) FILTER (WHERE "EventModFrustrated" = 1),
            count(*) FILTER (WHERE is_dead AND NOT is_rage),
            count(*) FILTER (WHERE is_error AND NOT is_rage AND NOT is_dead)
        FROM of_the_day
        """
    ).fetchall()
    rows = connection.execute(
        f"""
        WITH sessions AS (
            SELECT "UserId", "SessionId", min("EventStart") AS start,
                count(*) FILTER (WHERE is_rage OR is_dead OR is_error) AS trouble
            FROM of_the_day GROUP BY ALL
        ), parts AS (
            SELECT *, ntile(?) OVER (ORDER BY start, "UserId", "SessionId") AS part FROM sessions
        ), chosen AS (
            SELECT "UserId", "SessionId" FROM parts
            QUALIFY row_number() OVER (PARTITION BY part ORDER BY trouble DESC, start) = 1
        )
        SELECT "UserId", "SessionId", {", ".join(f'"{name}"' for name in COLUMNS)}
        FROM of_the_day JOIN chosen USING ("UserId", "SessionId")
        ORDER BY "UserId", "SessionId", "EventStart", "EventType"
        """,
        [limit],
    ).fetchall()
    sessions = [_session(list(group)) for _, group in groupby(rows, key=lambda row: row[:2])]
    drawn = sorted(sessions, key=lambda session: session.start)
    return Day(day, starts, events, dict(zip(TROUBLE, counts, strict=True)), drawn)


def _session(rows: list[tuple[object, ...]]) -> Session:
    first = dict(zip(COLUMNS, rows[0][2:], strict=True))
    start = first["EventStart"]
    assert isinstance(start, datetime)
    who = first["UserDisplayName"] or first["UserEmail"] or "anonymous"
    session = Session(start, str(who), str(first["PageDevice"] or ""))
    for row in rows:
        event = dict(zip(COLUMNS, row[2:], strict=True))
        at = event["EventStart"]
        assert isinstance(at, datetime)
        page = (
            event["PageName"] or event["AppViewName"] or urlsplit(str(event["PageUrl"] or "")).path
        )
        what = event["EventCustomName"] or event["EventTargetText"] or ""
        text = f"{event['EventType']} {what}".strip()
        session.events.append(
            Event((at - start).total_seconds(), _kind(event), str(page), text),
        )
    return session


def _kind(event: dict[str, object]) -> str:
    for kind, column in (("rage click", "EventModFrustrated"), ("dead click", "EventModDead")):
        if event[column]:
            return kind
    if event["EventModError"] or event["EventType"] == "exception":
        return "error"
    kinds = {"click": "click", "custom": "custom event"}
    return kinds.get(str(event["EventType"]), "other event")


# --- drawing ---


def draw(day: Day) -> Iterator[str]:
    """Yield the lines of the picture."""
    sessions = day.drawn
    lengths = sorted(session.seconds for session in sessions)
    scale = max(lengths[int(QUANTILE * (len(lengths) - 1))], 1.0)
    pages = Counter(event.page for session in sessions for event in session.events)
    colours = {page: PAGES[number % len(PAGES)] for number, (page, _) in enumerate(pages.items())}
    top = HEAD + STRIP + 30
    height = top + ROW * len(sessions) + 70
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" font-family="ui-sans-serif, system-ui, sans-serif" font-size="13">'
    )
    yield f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    yield from _title(day)
    yield from _day_strip(day)
    for number, session in enumerate(sessions):
        yield from _row(session, top + ROW * number, scale, colours)
    yield from _axis(top, top + ROW * len(sessions), scale)
    yield from _legend(height - 18)
    yield "</svg>"


def _title(day: Day) -> Iterator[str]:
    said = [_count(len(day.starts), "session"), _count(day.events, "event")]
    said += [_count(day.trouble[kind], kind) for kind in TROUBLE if day.trouble[kind]]
    if len(day.drawn) < len(day.starts):
        said.append(f"{len(day.drawn)} of {len(day.starts)} drawn")
    yield _text(MARGIN, 40, f"Sessions of {day.day:%A, %d %B %Y}, UTC", 22, INK, 600)
    yield _text(MARGIN, 64, " · ".join(said), 14, FAINT)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _day_strip(day: Day) -> Iterator[str]:
    """The whole day, with a tick where each session began."""
    left, width = LABEL, WIDTH - LABEL - MARGIN
    yield _text(MARGIN, HEAD + 16, "when they began", 12, FAINT)
    yield f'<rect x="{left}" y="{HEAD}" width="{width}" height="22" rx="4" fill="#f8fafc"/>'
    for hour in range(0, 25, 3):
        x = left + width * hour / 24
        yield f'<path d="M{x:.1f} {HEAD}v22" stroke="{LINE}"/>'
        yield _text(x, HEAD + 36, f"{hour:02}:00", 10, FAINT, anchor="middle")
    midnight = datetime.combine(day.day, time())
    thickness = 3 if len(day.starts) <= DEFAULT_SESSIONS else 1
    for start, has_trouble in day.starts:
        x = left + width * (start - midnight).total_seconds() / 86400
        colour = RED if has_trouble else BLUE
        yield (
            f'<path class="start" d="M{x:.1f} {HEAD + 3}v16" stroke="{colour}" '
            f'stroke-width="{thickness}"/>'
        )


def _row(session: Session, top: int, scale: float, colours: dict[str, str]) -> Iterator[str]:
    middle = top + ROW // 2
    yield _text(MARGIN, middle + 4, f"{session.start:%H:%M}", 12, FAINT)
    yield _text(MARGIN + 46, middle + 4, _cut(session.who, 20), 13, INK)
    yield _text(LABEL - 14, middle + 4, session.device, 11, FAINT, anchor="end")
    shown = [event for event in session.events if event.second <= scale]
    for page, group in groupby(shown, key=lambda event: event.page):
        events = list(group)
        after = [event.second for event in session.events if event.second > events[-1].second]
        start, stop = events[0].second, min([*after[:1], scale]) if after else events[-1].second
        x, width = _x(start, scale), max(_x(stop, scale) - _x(start, scale), 10)
        yield (
            f'<rect x="{x - 5:.1f}" y="{top + 3}" width="{width + 6:.1f}" height="{ROW - 6}" '
            f'rx="5" fill="{colours[page]}"><title>{_plain(page)}</title></rect>'
        )
        if width > 7 * len(page) + 12 or width > 90:
            name = _cut(page, int(width / 7))
            yield _text(x + width / 2, top + 13, name, 9, FAINT, anchor="middle")
    for event in shown:
        said = f"{event.second:.1f} s: {event.text} ({event.kind})"
        mark = _mark(event.kind, _x(event.second, scale), middle + 4)
        yield f"<g><title>{_plain(said)}</title>{mark}</g>"
    if session.seconds > scale:
        rest = _text(WIDTH - 6, middle + 4, f"→ {session.seconds:.0f} s", 10, FAINT, anchor="end")
        yield rest


def _mark(kind: str, x: float, y: float) -> str:
    if kind == "rage click":
        rays = "".join(f'<path d="M0 -8V8" transform="rotate({turn})"/>' for turn in (0, 60, 120))
        return f'<g transform="translate({x:.1f} {y})" stroke="{RED}" stroke-width="2.6">{rays}</g>'
    if kind == "dead click":
        ring = f'fill="#ffffff" stroke="{ORANGE}" stroke-width="2.4"'
        return f'<circle cx="{x:.1f}" cy="{y}" r="5" {ring}/>'
    if kind == "error":
        cross = f"M{x - 5:.1f} {y - 5}l10 10m0 -10l-10 10"
        return f'<path d="{cross}" stroke="{RED}" stroke-width="2"/>'
    if kind == "custom event":
        return f'<path d="M{x:.1f} {y - 6}l6 6l-6 6l-6 -6z" fill="{VIOLET}"/>'
    if kind == "click":
        return f'<circle cx="{x:.1f}" cy="{y}" r="4.5" fill="{BLUE}"/>'
    return f'<circle cx="{x:.1f}" cy="{y}" r="2" fill="{FAINT}"/>'


def _axis(top: int, bottom: int, scale: float) -> Iterator[str]:
    step = next(step for step in (1, 5, 10, 30, 60, 300, 600, 3600, 86400) if scale / step <= 12)
    for second in range(0, int(scale) + 1, step):
        x = _x(second, scale)
        yield f'<path d="M{x:.1f} {top}V{bottom}" stroke="{LINE}" stroke-dasharray="2 4"/>'
        said = f"{second} s" if step < 60 else f"{second // 60} min"
        yield _text(x, bottom + 14, said, 10, FAINT, anchor="middle")
    yield _text(MARGIN, bottom + 14, "since the session began", 12, FAINT)


def _legend(y: int) -> Iterator[str]:
    for number, kind in enumerate(LEGEND):
        x = LABEL + number * 140
        yield _mark(kind, x, y - 4)
        yield _text(x + 13, y, kind, 12, INK)


def _x(second: float, scale: float) -> float:
    return LABEL + 6 + (WIDTH - LABEL - 2 * MARGIN - 40) * second / scale


def _plain(text: str) -> str:
    """Return text as XML has it, in which control characters are not allowed."""
    return escape(_CONTROL.sub("\ufffd", text))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(length - 1, 0)] + "…"


def _text(
    x: float, y: float, text: str, size: int, colour: str, weight: int = 400, anchor: str = "start"
) -> str:
    style = f"font-size={quoteattr(str(size))} fill={quoteattr(colour)} font-weight='{weight}'"
    return f'<text x="{x:.1f}" y="{y}" {style} text-anchor="{anchor}">{_plain(text)}</text>'


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def main() -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="day.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database", help="the file")
    parser.add_argument("day", nargs="?", type=date.fromisoformat, help="such as 2026-06-06")
    parser.add_argument("--sessions", type=_positive, default=DEFAULT_SESSIONS, metavar="N",
        help="draw at most so many; default: %(default)s")  # fmt: skip
    options = parser.parse_args()
    try:
        with duckdb.connect(options.database, read_only=True) as connection:
            day = read(connection, options.day, options.sessions)
    except duckdb.Error as error:
        print(f"day.py: {error}", file=sys.stderr)
        return 1
    if not day.drawn:
        print(f"day.py: {options.database} has no event of that day.", file=sys.stderr)
        return 1
    sys.stdout.buffer.write("".join(f"{line}\n" for line in draw(day)).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
