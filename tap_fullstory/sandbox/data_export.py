"""The Data Export API: lists bundles, gives one as a file.

As documented at developer.fullstory.com/server/v1/exports/list-event-exports/ and
.../get-event-export/: parameters in the address of a GET or in the JSON body of a POST; `list`
answers bundles that end after `start`, oldest first, twenty at a time; `get` may be limited to two
downloads a minute.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .account import Account
from .bundles import Bundle, BundleFile, BundleStore
from .routes import Match, Route
from .wire import Answer, Request, error_answer, json_answer

PAGE_SIZE = 20
LIST_STYLES = ("capitals", "lower-strings")


class Throttle:
    """At most `limit` passes in any `period` seconds (60: a minute); 0 or None is no limit."""

    def __init__(self, limit: int | None, period: float = 60) -> None:
        self._limit = limit
        self._period = period
        self._lock = threading.Lock()
        self._passed: deque[float] = deque()

    def seconds_to_wait(self) -> int:
        """0 lets the caller pass and counts it; else whole seconds until it is worth trying."""
        if not self._limit:
            return 0
        with self._lock:
            now = time.monotonic()
            while self._passed and self._passed[0] <= now - self._period:
                self._passed.popleft()
            if len(self._passed) < self._limit:
                self._passed.append(now)
                return 0
            return math.ceil(self._passed[0] + self._period - now)


class DataExport:
    """`serve` turns a bundle's file into the answer: the file itself, or where it lies. All calls
    need the level ARCHITECT.
    """

    def __init__(
        self,
        store: BundleStore,
        serve: Callable[[Request, str, BundleFile], Answer],
        throttle: Throttle,
        account: Account,
        *,
        list_style: str,
        inclusive_list: bool,
    ) -> None:
        if list_style not in LIST_STYLES:
            raise ValueError(f"list_style is {list_style!r}, not of {', '.join(LIST_STYLES)}")
        self._store = store
        self._serve = serve
        self._throttle = throttle
        self._account = account
        self._list_style = list_style
        self._inclusive_list = inclusive_list

    def routes(self) -> list[Route]:
        listing = self._account.require("ARCHITECT", self.list)
        get = self._account.require("ARCHITECT", self.get)
        return [
            Route("list", ("GET", "POST"), "/api/v1/export/list", listing),
            Route("get", ("GET", "POST"), "/api/v1/export/get", get, _bundle_asked_for),
        ]

    def list(self, request: Request, match: Match) -> Answer:
        try:
            # FullStory documents `start` as required, yet public clients call without it.
            start = int(parameters(request).get("start", 0))
        except ValueError as error:
            return error_answer(400, "bad_request", f"start is not Unix seconds: {error}")
        bundles = [
            bundle
            for bundle in self._store.listed()
            if bundle.stop > start or (self._inclusive_list and bundle.stop == start)
        ]
        exports = [self._listed(bundle) for bundle in bundles[:PAGE_SIZE]]
        return json_answer(200, {"exports": exports})

    def get(self, request: Request, match: Match) -> Answer:
        try:
            bundle_id = parameters(request)["id"]
        except (KeyError, ValueError):
            return error_answer(400, "bad_request", "id is missing")
        wait = self._throttle.seconds_to_wait()
        if wait:
            headers = {"Retry-After": str(wait)}
            return error_answer(429, "too_many_requests", "downloads are limited", headers)
        file = self._store.file(bundle_id)
        if file is None:
            return error_answer(404, "resource_not_found", f"there is no bundle {bundle_id}")
        return self._serve(request, bundle_id, file)

    def _listed(self, bundle: Bundle) -> dict[str, Any]:
        # Numbers under capitalised names in FullStory's example and in what clients read; strings
        # under lower-case names in FullStory's table.
        identifier = int(bundle.id) if bundle.id.isdecimal() else bundle.id
        numbers = {"Id": identifier, "Start": bundle.start, "Stop": bundle.stop}
        if self._list_style == "capitals":
            return numbers
        return {name.lower(): str(value) for name, value in numbers.items()}


def parameters(request: Request) -> dict[str, str]:
    """Of the address, and of the JSON object in the body. Raises ValueError if that is none."""
    if not request.body:
        return dict(request.query)
    document = json.loads(request.body)
    if not isinstance(document, dict):
        raise ValueError("the body is not a JSON object")
    return {**request.query, **{name: str(value) for name, value in document.items()}}


def _bundle_asked_for(request: Request, match: Match) -> str | None:
    try:
        return parameters(request).get("id")
    except ValueError:
        return None
