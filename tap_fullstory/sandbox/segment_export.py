"""The Segment Export API: a file to order, made while one waits.

As documented at developer.fullstory.com (create-segment-export, get-operation, cancel-operation,
get-export-results). What is not documented is as FullStory's own exporter has it
(github.com/fullstorydev/hauser): windows include their start and exclude their end, `page_*` is a
third wildcard, rows come in no order. A field named twice, and one that no export has, are refused.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any

from .account import Account
from .bundles import Bundle, BundleFile, BundleStore, last_midnight
from .events import shuffled
from .exported import (
    EVENT_FIELDS,
    INDIVIDUAL_FIELDS,
    WILDCARDS,
    as_segment_export,
    individuals_among,
    is_custom,
)
from .routes import Match, Route
from .segments import SCOPES, matching
from .wire import Answer, Request, error_answer, json_answer

OWN_DAYS = 30  # a segment's own range, where the order gives none: that of `everyone`

_FIELDS = {"TYPE_EVENT": EVENT_FIELDS, "TYPE_INDIVIDUAL": INDIVIDUAL_FIELDS}
_ROWS_MIXED = 4096  # how far apart rows may be carried from where they happened
_KEPT = timedelta(days=7)
_BEGINNING = datetime.min.replace(tzinfo=timezone.utc)
_EXPORT = "/operations/v1/([^/]+)"


@dataclass(frozen=True)
class _Order:
    kind: str
    segment: str
    scope: str
    start: datetime
    end: datetime
    within: tuple[datetime, datetime]  # when the segment is to match
    fields: tuple[str, ...]


@dataclass
class _Export:
    number: int
    order: _Order
    bundle: str  # what faults call it
    polls: int  # how often its operation still says PENDING
    created: datetime
    state: str = "PENDING"
    error: str = ""
    finished: datetime | None = None
    file: BundleFile | None = None
    expired: bool = False
    making: threading.Lock = field(default_factory=threading.Lock)

    @property
    def operation_id(self) -> str:
        return _id("operation", self.number)

    @property
    def result_id(self) -> str:
        return _id("results", self.number)


class SegmentExports:
    """`locate` gives a fresh signed address of a file. An operation is PENDING `pending_polls`
    times. With `reorder` each export of a window has its rows in another order. To create an
    export and to get its results takes the level ARCHITECT; its operation is open to all.

    A bundle whose body is a file as it is, bytes or a path, is what an export of exactly its period
    answers, whatever it is.
    """

    def __init__(
        self,
        store: BundleStore,
        locate: Callable[[str, BundleFile], str],
        *,
        pending_polls: int,
        reorder: bool,
        account: Account,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._locate = locate
        self._pending_polls = pending_polls
        self._reorder = reorder
        self._clock = clock
        self._account = account
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._by_operation: dict[str, _Export] = {}
        self._by_result: dict[str, _Export] = {}

    def routes(self) -> list[Route]:
        results = "/search/v1/exports/([^/]+)/results"
        create = self._account.require("ARCHITECT", self.create)
        get = self._account.require("ARCHITECT", self.results)
        return [
            Route("create", ("POST",), "/segments/v1/exports", create, self._ordered),
            Route("operation", ("GET",), _EXPORT, self.operation, self._bundle, self._fail),
            Route("cancel", ("POST",), f"{_EXPORT}/cancel", self.cancel, self._bundle),
            Route("results", ("GET",), results, get, self._bundle, self._expire),
        ]

    def create(self, request: Request, match: Match) -> Answer:
        now = self._clock()
        try:
            order = _order(json.loads(request.body), now)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return error_answer(400, "bad_request", f"this cannot be exported: {error}")
        with self._lock:
            bundle = self._bundle_of(order)
            export = _Export(next(self._numbers), order, bundle, self._pending_polls, now)
            self._by_operation[export.operation_id] = export
            self._by_result[export.result_id] = export
        return json_answer(200, {"operationId": export.operation_id})

    def operation(self, request: Request, match: Match) -> Answer:
        export = self._by_operation.get(match[1])
        if export is None:
            return error_answer(404, "resource_not_found", "no such operation")
        with export.making:
            if export.state == "PENDING" and export.polls > 0:
                export.polls -= 1
            elif export.state == "PENDING":
                self._finish(export)
            return json_answer(200, self._described(export))

    def cancel(self, request: Request, match: Match) -> Answer:
        export = self._by_operation.get(match[1])
        if export is None:
            return error_answer(404, "resource_not_found", "no such operation")
        with export.making:
            if export.state == "PENDING":
                export.state, export.error = "FAILED", "the operation was canceled"
        return json_answer(200, {})

    def results(self, request: Request, match: Match) -> Answer:
        export = self._by_result.get(match[1])
        if export is None or export.expired or export.file is None:
            return error_answer(404, "resource_not_found", "no such export, or it has expired")
        until = self._clock() + timedelta(minutes=5)
        location = self._locate(export.bundle, export.file)
        return json_answer(200, {"location": location, "expires": _nine_decimals(until)})

    def _finish(self, export: _Export) -> None:
        export.finished = self._clock()
        try:
            export.file = self._made(export)
        except (ValueError, OSError, EOFError) as error:
            export.state, export.error = "FAILED", f"the events cannot be exported: {error}"
        else:
            export.state = "COMPLETED"

    def _made(self, export: _Export) -> BundleFile:
        order = export.order
        window = order.start, order.end
        exactly = self._exactly(order)
        if exactly and order.kind == "TYPE_EVENT" and isinstance(exactly.body, (bytes, Path)):
            file = self._store.file(exactly.id)
            if file is not None:
                return file
        bundles = self._store.listed()
        rows: Any
        if order.kind == "TYPE_EVENT":
            found = matching(bundles, order.segment, order.scope, window, order.within)
            rows = (as_segment_export(event, order.fields) for event in found)
        else:
            who = matching(bundles, order.segment, order.scope, window, order.within)
            rows = individuals_among(bundles, who, order.fields)
        rng = Random(f"export/{export.number if self._reorder else 0}")
        return self._store.make(export.operation_id, shuffled(rows, rng, _ROWS_MIXED))

    def _described(self, export: _Export) -> dict[str, Any]:
        done = export.state == "COMPLETED"
        finished, results = export.finished, None
        if done and finished:
            expires = _six_decimals(finished + _KEPT)
            results = {"searchExportId": export.result_id, "expires": expires}
        waits = self._pending_polls
        return {
            "id": export.operation_id,
            "type": "SEARCH_EXPORT",
            "state": export.state,
            "errorDetails": export.error,
            # 100 before it is COMPLETED, as it may be at FullStory.
            "estimatePctComplete": 100 if done or not waits else 100 - 100 * export.polls // waits,
            "step": "" if done else "writing",
            "createdAt": _six_decimals(export.created),
            "finishedAt": _six_decimals(finished) if finished else None,
            "details": None,
            "results": results,
        }

    def _exactly(self, order: _Order) -> Bundle | None:
        """The bundle of exactly the period of an order, if there is one."""
        start, end = order.start.timestamp(), order.end.timestamp()
        for bundle in self._store.listed():
            if bundle.start == start and bundle.stop == end:
                return bundle
        return None

    def _bundle_of(self, order: _Order) -> str:
        bundle = self._exactly(order)
        return bundle.id if bundle else f"{order.start:%Y-%m-%dT%H:%M:%SZ}"

    def _ordered(self, request: Request, match: Match) -> str | None:
        try:
            return self._bundle_of(_order(json.loads(request.body), self._clock()))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def _bundle(self, request: Request, match: Match) -> str | None:
        export = self._by_operation.get(match[1]) or self._by_result.get(match[1])
        return export.bundle if export else None

    def _fail(self, request: Request, match: Match) -> None:
        if export := self._by_operation.get(match[1]):
            export.state, export.error = "FAILED", "the sandbox was told to fail this export"

    def _expire(self, request: Request, match: Match) -> None:
        if export := self._by_result.get(match[1]):
            export.expired = True


def _order(document: Mapping[str, Any], now: datetime) -> _Order:
    """Raises ValueError, or what comes of a document in another form, if it cannot be fulfilled."""
    kind = document["type"]
    if kind not in _FIELDS:
        raise ValueError(f"type {kind}")
    if document["format"] != "FORMAT_JSON":
        raise ValueError(f"format {document['format']}: the sandbox has FORMAT_JSON only")
    start, end = _span(document["timeRange"], now)
    # Whole days, or the time of day would decide which of the sandbox's bundles are in it.
    within = last_midnight(now) - timedelta(days=OWN_DAYS), now
    if "segmentTimeRange" in document:
        within = _span(document["segmentTimeRange"], now)
    segment = document["segmentId"]
    if not segment or start >= end:
        raise ValueError("segmentId and timeRange")
    individuals = kind == "TYPE_INDIVIDUAL"
    scope = (document.get("eventDetails") or {}).get("scope", "SCOPE_EVENTS")
    if scope not in SCOPES or (individuals and "eventDetails" in document):
        raise ValueError("eventDetails")
    scope = "SCOPE_INDIVIDUALS" if individuals else scope
    fields = tuple(document.get("fields") or ())
    if len(set(fields)) < len(fields):
        raise ValueError("a field is named twice")
    unknown = [name for name in fields if not _is_field(name, kind)]
    if unknown:
        raise ValueError(f"no such field: {', '.join(unknown)}")
    return _Order(kind, segment, scope, start, end, within, fields)


def _is_field(name: str, kind: str) -> bool:
    return name in _FIELDS[kind] or name in WILDCARDS or (is_custom(name) and "*" not in name)


def _span(given: Mapping[str, str], now: datetime) -> tuple[datetime, datetime]:
    start, end = given["start"], given["end"]
    return _moment(start) if start else _BEGINNING, _moment(end) if end else now


def _moment(text: str) -> datetime:
    if not text.endswith("Z"):
        raise ValueError(f"{text} is not UTC")
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _six_decimals(time: datetime) -> str:
    utc = time.astimezone(timezone.utc).replace(tzinfo=None)
    return utc.isoformat(timespec="microseconds") + "Z"


def _nine_decimals(time: datetime) -> str:
    """As the example of get-export-results has it, which not every parser takes."""
    return _six_decimals(time).replace("Z", "123Z")


def _id(of: str, number: int) -> str:
    return hashlib.blake2b(f"{of} {number}".encode(), digest_size=12).hexdigest()
