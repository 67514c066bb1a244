"""The sandbox itself: FullStory's hosts on loopback, as a context manager."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from .account import LEVELS, Account
from .bundles import (
    Bundle,
    BundleFile,
    BundleStore,
    generated_bundles,
    last_settled_midnight,
    utc_now,
)
from .data_export import DataExport, Throttle
from .events import GeneratedEvents
from .faults import Fault, Faults, parse_fault
from .files import FileServer, Storage
from .people import people
from .rest import MOST_A_PAGE, RestApis
from .routes import Match, Route, find
from .segment_export import SegmentExports
from .settings import PLATFORMS, Settings
from .steps import Fields
from .wire import Answer, Origin, Request, error_answer, json_answer

DEFAULT_KEY = "na1.sandbox-key"
EXPORT_APIS = ("data_export", "segment_export")


class Sandbox:
    """Serves from its construction to `close()` or the end of its `with` block.

        with Sandbox(compression="none") as sandbox:
            sandbox.fault("get:503,times=2")
            run_the_tap(sandbox.config(checkpoint_events=10))
            assert sandbox.requests

    All methods may be called from any thread. `bundles` of None are generated_bundles(); `port` 0
    is any that is free. The other options:

    - `layout`, `compression`: how events become files, see LAYOUTS and COMPRESSIONS;
    - `unpublished`: how many of the newest bundles are listed only after `publish()`;
    - `redirect`: `get` sends to a signed address at a second origin, the storage host, which
      refuses requests that carry an Authorization header;
    - `get_limit`: downloads in `get_limit_seconds` (FullStory: 2 in 60); None for no limit;
    - `ranges`, `changing_etag`: see FileServer;
    - `list_style`: "capitals" (names in capitals, numbers) or "lower-strings";
    - `inclusive_list`: `list` also answers bundles that end exactly at `start`;
    - `role`: the key's level: USER, ARCHITECT or ADMIN;
    - `most_a_page`: caps what a page of the REST lists holds, save that of users, which holds ten;
    - `export_api`: which of EXPORT_APIS `config()` chooses; both are served, over the same events;
    - `pending_polls`, `reorder`: see SegmentExports;
    - `clock`: returns the time (aware) that the account's dates follow from;
    - `log`: called with a line for each request, which names no key.

    Raises ValueError if an option has no such value, OSError if the port is taken.
    """

    def __init__(
        self,
        bundles: Iterable[Bundle] | None = None,
        *,
        api_key: str = DEFAULT_KEY,
        port: int = 0,
        layout: str = "lines",
        compression: str = "content-type",
        unpublished: int = 0,
        redirect: bool = False,
        get_limit: int | None = None,
        get_limit_seconds: float = 60,
        ranges: bool = True,
        changing_etag: bool = False,
        list_style: str = "capitals",
        inclusive_list: bool = False,
        export_api: str = "data_export",
        pending_polls: int = 1,
        reorder: bool = True,
        role: str = "ARCHITECT",
        most_a_page: int = MOST_A_PAGE,
        faults: Iterable[Fault | str] = (),
        clock: Callable[[], datetime] = utc_now,
        log: Callable[[str], None] | None = None,
    ) -> None:
        if role not in LEVELS:
            raise ValueError(f"role is {role!r}, not one of {', '.join(LEVELS)}")
        if export_api not in EXPORT_APIS:
            raise ValueError(f"export_api is {export_api!r}, not one of {', '.join(EXPORT_APIS)}")
        self.api_key = api_key
        self.export_api = export_api
        self._clock = clock
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._faults = Faults()
        for fault in faults:
            self.fault(fault)
        with ExitStack() as resources:
            folder = resources.enter_context(
                tempfile.TemporaryDirectory(
                    prefix="tap-fullstory-sandbox-", ignore_cleanup_errors=True
                )
            )
            self._store = BundleStore(
                generated_bundles(until=last_settled_midnight(clock()))
                if bundles is None
                else bundles,
                Path(folder),
                layout=layout,
                compression=compression,
                unpublished=unpublished,
            )
            self._redirect = redirect
            self._files = FileServer(ranges=ranges, changing_etag=changing_etag)
            self._storage = Storage(self._files)
            account = Account(role)
            data_export = DataExport(
                self._store,
                self._serve,
                Throttle(get_limit, get_limit_seconds),
                account,
                list_style=list_style,
                inclusive_list=inclusive_list,
            )
            self._settings = Settings(clock)
            rest = RestApis(
                people(_seed(self._store.everything())),
                self._store,
                self._settings,
                account,
                most_a_page,
            )
            self._control = [
                Route("publish", ("POST",), "/sandbox/publish", self._publish),
                Route("settings", ("POST",), r"/sandbox/settings/([a-z]+)", self._change),
            ]
            exports = SegmentExports(
                self._store,
                lambda bundle_id, file: self._storage.location(self.storage_url, bundle_id, file),
                pending_polls=pending_polls,
                reorder=reorder,
                account=account,
                clock=clock,
            )
            self._routes = {
                "api": [
                    *data_export.routes(),
                    *exports.routes(),
                    *account.routes(),
                    *rest.routes(),
                ],
                "storage": self._storage.routes(),
            }
            # The storage host first: an API answer may point to it from the first request on.
            self._storage_origin = Origin("storage", 0, self._respond, log)
            resources.callback(self._storage_origin.stop)
            self._api_origin = Origin("api", port, self._respond, log)
            resources.callback(self._api_origin.stop)
            self._resources = resources.pop_all()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections and removes all files. A second call does nothing."""
        self._resources.close()

    @property
    def url(self) -> str:
        """Of the API host, without a slash at the end."""
        return self._api_origin.url

    @property
    def storage_url(self) -> str:
        return self._storage_origin.url

    @property
    def bundles(self) -> list[Bundle]:
        """All bundles, the unpublished included, oldest first."""
        return self._store.everything()

    @property
    def requests(self) -> list[Request]:
        """All so far, to both origins, in the order they came in."""
        with self._lock:
            return list(self._requests)

    def config(self, **overrides: Any) -> dict[str, Any]:
        """A config with which the tap finds the sandbox and its oldest bundle."""
        bundles = self.bundles
        start = datetime.fromtimestamp(bundles[0].start, timezone.utc) if bundles else None
        return {
            "api_key": self.api_key,
            "start_date": f"{start or last_settled_midnight(self._clock()):%Y-%m-%dT%H:%M:%SZ}",
            "data_export_url": self.url,
            "api_url": self.url,
            **({} if self.export_api == EXPORT_APIS[0] else {"export_api": self.export_api}),
            **overrides,
        }

    def publish(self, bundle: Bundle | None = None) -> Bundle | None:
        """Publish the oldest unpublished bundle, or the given one, which replaces one with the
        same id. Return it, or None if there was nothing to publish.
        """
        return self._store.publish(bundle)

    def change_settings(
        self, kind: str, platform: str = "web", at: datetime | None = None, **changes: Any
    ) -> Fields:
        """Make a new version of the settings of a kind (the last part of their path, such as
        "blocking"), dated `at` (None: now), and return it. Raises ValueError if there are no such
        settings.
        """
        return self._settings.change(kind, platform, changes, at)

    def fault(self, fault: Fault | str) -> None:
        """Adds a fault, behind those that are in force. Raises ValueError if the text is none."""
        self._faults.add(parse_fault(fault) if isinstance(fault, str) else fault)

    def clear_faults(self) -> None:
        self._faults.clear()

    def _respond(self, request: Request) -> Answer:
        control = find(self._control, request)
        if control and request.origin == "api":
            return control[0].answer(request, control[1])
        with self._lock:
            self._requests.append(request)
        found = find(self._routes[request.origin], request)
        if found is None:
            return error_answer(404, "not_found", f"no {request.method} {request.path} here")
        route, match = found
        fault = self._faults.take(route.name, route.bundle(request, match))
        if fault is None:
            return self._answer(request, route, match)
        if fault.invalidates() and route.invalidate:
            route.invalidate(request, match)
            return self._answer(request, route, match)
        if fault.alters():
            return fault.altered(self._answer(request, route, match))
        return fault.instead(request)

    def _answer(self, request: Request, route: Route, match: Match) -> Answer:
        given = request.headers.get("authorization")
        if request.origin == "api" and given != f"Basic {self.api_key}":
            return error_answer(401, "unauthorized", "the API key is missing or wrong")
        return route.answer(request, match)

    def _serve(self, request: Request, bundle_id: str, file: BundleFile) -> Answer:
        if not self._redirect:
            return self._files.answer(request, file)
        location = self._storage.location(self.storage_url, bundle_id, file)
        return Answer(302, {"Location": location})

    def _publish(self, request: Request, match: Match) -> Answer:
        published = self.publish()
        if published is None:
            return error_answer(409, "nothing_unpublished", "all bundles are published already")
        return json_answer(200, {"published": published.id})

    def _change(self, request: Request, match: Match) -> Answer:
        try:
            changes = json.loads(request.body or b"{}")
            platform = request.query.get("platform", PLATFORMS[0])
            return json_answer(200, self.change_settings(match[1], platform, **changes))
        except (TypeError, ValueError) as error:
            return error_answer(400, "bad_request", str(error))


def _seed(bundles: Iterable[Bundle]) -> int:
    """The seed of the people whom the events are about."""
    bodies = (bundle.body for bundle in bundles)
    return next((body.seed for body in bodies if isinstance(body, GeneratedEvents)), 0)
