"""The REST APIs: users, sessions, segments, settings and their history, webhooks, rules and more.

As documented at developer.fullstory.com, with what is odd about it: two ways of paging, two
spellings of the token, three ways for it to end; ten users a page; a level of API key for each
operation. Parameters that are not documented are refused.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from .account import Account
from .bundles import Bundle, BundleStore
from .listings import (
    OPERATIONS,
    SEGMENTS,
    WEBHOOK_ENDPOINTS,
    WEBHOOK_EVENT_TYPES,
    WEBHOOK_SUBCATEGORIES,
    schema_of,
    sessions,
    user,
)
from .people import Person
from .routes import Handler, Match, Route
from .rules import PRIVACY_ELEMENTS, QUOTAS, extraction_rules
from .settings import KINDS, PLATFORMS, WITH_PLATFORM, Settings, moment
from .steps import Fields
from .wire import Answer, Request, error_answer, json_answer

USERS_A_PAGE = 10
MOST_A_PAGE = 100
MOST_SUBCATEGORIES = 1000
ELEMENTS_A_PAGE = 10  # how many FullStory sends is not documented
_SESSIONS = 20  # unless `limit` asks for more

# What faults call the settings: the streams that taps make of them.
STREAMS = {
    "blocking": "block_rules",
    "domain": "domain_settings",
    "features": "recording_features",
    "geo": "geo_settings",
    "privacy": "privacy_settings",
    "targeting": "target_rule",
}
_CAMEL, _SNAKE = "nextPaginationToken", "next_pagination_token"
_SPELLING = {"blocking": _CAMEL, "domain": _SNAKE, "geo": _CAMEL, "features": _SNAKE}


class _RefusedError(Exception):
    """The request is one that the documentation does not allow."""


class RestApis:
    """`everybody` are the users, `store` holds the events that tell their sessions, `account` tells
    the key's level, `most_a_page` caps what a list answers whatever `limit` asks for.
    """

    def __init__(
        self,
        everybody: Sequence[Person],
        store: BundleStore,
        settings: Settings,
        account: Account,
        most_a_page: int = MOST_A_PAGE,
    ) -> None:
        self._everybody = everybody
        self._store = store
        self._settings = settings
        self._account = account
        self._most = most_a_page
        self._told_by: list[Bundle] = []
        self._sessions: dict[int, list[Fields]] = {}

    def routes(self) -> list[Route]:
        return [
            self._route("users", "/v2/users", "ARCHITECT", self.users),
            self._route("sessions", "/v2/sessions", "USER", self.sessions),
            self._route("segments", "/segments/v1", "USER", self.segments),
            self._route("webhook_endpoints", "/webhooks/v1/endpoints", "ARCHITECT", self.endpoints),
            self._route(
                "webhook_event_types", "/webhooks/v1/event-types", "ARCHITECT", self.event_types
            ),
            self._route(
                "webhook_event_subcategories",
                "/webhooks/v1/event-types/([^/]+)/subcategories",
                "ARCHITECT",
                self.subcategories,
            ),
            self._route("organization_quotas", "/v2/organization/quotas", "USER", self.quotas),
            self._route("extraction_rules", "/v2beta/extraction/rules", "USER", self.rules),
            self._route("privacy_elements", "/v2beta/privacy/elements", "ARCHITECT", self.elements),
            self._route("operations", "/operations/v1", "USER", self.operations),
            *(route for kind in KINDS for route in self._settings_routes(kind)),
        ]

    def users(self, request: Request, match: Match) -> Answer:
        given = _only(
            request, "uid", "email", "display_name", "is_identified", "page_token", "include_schema"
        )
        filters = {name: value for name, value in given.items() if name != "page_token"}
        found = [user(person, number) for number, person in enumerate(self._everybody)]
        for name in ("uid", "email", "display_name"):
            if name in filters:
                found = [one for one in found if one.get(name) == filters[name]]
        if "is_identified" in filters:
            found = [one for one in found if ("uid" in one) == (filters["is_identified"] == "true")]
        if filters.get("include_schema") == "true":
            found = [{**one, **schema_of(one)} for one in found]
        return json_answer(200, _page_of_v2(found, given, filters, USERS_A_PAGE))

    def sessions(self, request: Request, match: Match) -> Answer:
        given = _only(request, "uid", "email", "limit", "session_uid")
        if not {"uid", "email"} & set(given):
            raise _RefusedError("uid, email or session_uid is required")
        listed = self._store.listed()
        if listed != self._told_by:  # reading all events takes a while where they are many
            self._sessions, self._told_by = sessions(listed), listed
        found = [
            session
            for person in self._everybody
            if given.get("uid") == person.app_key or given.get("email") == person.email
            for visitor in person.visitors
            for session in self._sessions.get(visitor.user_id, [])
        ]
        found.sort(key=lambda session: str(session["created_time"]), reverse=True)
        return json_answer(200, {"results": found[: int(given.get("limit", _SESSIONS))]})

    def segments(self, request: Request, match: Match) -> Answer:
        given = _only(request, "limit", "paginationToken", "creator")
        return self._list("segments", SEGMENTS, given, 20, "paginationToken")

    def endpoints(self, request: Request, match: Match) -> Answer:
        given = _only(request, "limit", "pagination_token")
        return self._list("endpoints", WEBHOOK_ENDPOINTS, given, MOST_A_PAGE, "pagination_token")

    def event_types(self, request: Request, match: Match) -> Answer:
        _only(request)
        return json_answer(200, {"eventDefs": WEBHOOK_EVENT_TYPES})

    def subcategories(self, request: Request, match: Match) -> Answer:
        given = _only(request, "limit", "pagination_token")
        name = unquote(match[1])
        if name not in WEBHOOK_SUBCATEGORIES:
            return error_answer(404, "resource_not_found", "no such event type with subcategories")
        found = WEBHOOK_SUBCATEGORIES[name]
        return self._list("subcategoryDefs", found, given, MOST_SUBCATEGORIES, "pagination_token")

    def quotas(self, request: Request, match: Match) -> Answer:
        _only(request)
        return json_answer(200, QUOTAS)

    def rules(self, request: Request, match: Match) -> Answer:
        return json_answer(
            200, extraction_rules(_only(request, "scope", "property_name", "include_archived"))
        )

    def elements(self, request: Request, match: Match) -> Answer:
        given = _only(request, "page_token")
        size = min(self._most, ELEMENTS_A_PAGE)
        document = _page_of_v2(PRIVACY_ELEMENTS, given, {}, size)
        return json_answer(200, {"next_page_token": None, **document})

    def operations(self, request: Request, match: Match) -> Answer:
        given = _only(request, "limit", "paginationToken", "state", "type")
        return self._list("operations", OPERATIONS, given, MOST_A_PAGE, "paginationToken")

    def _list(
        self, name: str, everything: Sequence[Fields], given: dict[str, str], usual: int, token: str
    ) -> Answer:
        """A page of a v1 list that ends with an answer without token."""
        limit = self._limit(given, usual, max(usual, MOST_A_PAGE))
        filters = {key: value for key, value in given.items() if key not in (token, "limit")}
        found = [one for one in everything if all(one.get(key) == filters[key] for key in filters)]
        first = _place(given.get(token), filters)
        document: Fields = {name: found[first : first + limit]}
        if first + limit < len(found):
            document[_CAMEL] = _token(first + limit, filters)
        return json_answer(200, document)

    def _settings_routes(self, kind: str) -> list[Route]:
        level = "ARCHITECT" if kind == "privacy" else "USER"
        path = f"/settings/recording/v1/{kind}"
        known = ("platform",) if kind in WITH_PLATFORM else ()

        def current(request: Request, match: Match) -> Answer:
            platform = _platform(_only(request, *known))
            return json_answer(200, self._settings.versions(kind, platform)[0])

        def history(request: Request, match: Match) -> Answer:
            given = _only(request, *known, "limit", "paginationToken")
            versions = self._settings.versions(kind, _platform(given))
            begin = given.get("paginationToken")
            if begin is not None:
                versions = [one for one in versions if _stamp(one) <= begin]
                if not versions or _stamp(versions[0]) != begin:
                    raise _RefusedError("paginationToken is none of this history's")
            limit = self._limit(given, 20)
            token = _stamp(versions[limit]) if limit < len(versions) else ""
            document = {"versions": versions[:limit], _SPELLING.get(kind, _SNAKE): token}
            return json_answer(200, document)

        return [
            self._route(STREAMS[kind], path, level, current),
            self._route(f"{STREAMS[kind]}_history", f"{path}/history", level, history),
        ]

    def _limit(self, given: Mapping[str, str], usual: int, most: int = MOST_A_PAGE) -> int:
        limit = int(given.get("limit", usual))
        if not 0 < limit <= most:
            raise _RefusedError(f"limit is not from 1 to {most}")
        return min(limit, self._most)

    def _route(self, name: str, path: str, level: str, answer: Handler) -> Route:
        def guarded(request: Request, match: Match) -> Answer:
            try:
                return answer(request, match)
            except (_RefusedError, ValueError) as error:
                return error_answer(400, "bad_request", str(error))

        return Route(name, ("GET",), path, self._account.require(level, guarded))


def _only(request: Request, *names: str) -> dict[str, str]:
    """The parameters. Raises _RefusedError if there are others than `names`."""
    unknown = set(request.query) - set(names)
    if unknown:
        raise _RefusedError(f"no such parameter: {', '.join(sorted(unknown))}")
    return dict(request.query)


def _page_of_v2(
    found: Sequence[Fields], given: Mapping[str, str], filters: Mapping[str, str], size: int
) -> Fields:
    first = _place(given.get("page_token"), filters)
    document: Fields = {"results": found[first : first + size], "total_records": str(len(found))}
    if first + size < len(found):
        document["next_page_token"] = _token(first + size, filters)
    return document


def _platform(given: Mapping[str, str]) -> str:
    platform = given.get("platform", "web")
    if platform not in PLATFORMS:
        raise _RefusedError(f"platform is none of {', '.join(PLATFORMS)}")
    return platform


def _stamp(version: Fields) -> str:
    """The token of the page that begins with this version: one in the documentation's examples is
    `v` and a moment in milliseconds, in hexadecimal.
    """
    return f"v{int(moment(version).timestamp() * 1000):x}"


def _token(first: int, filters: Mapping[str, str]) -> str:
    return urlsafe_b64encode(json.dumps([first, dict(filters)]).encode()).decode()


def _place(token: str | None, filters: Mapping[str, str]) -> int:
    """Where the page of `token` begins. Raises _RefusedError if it is for other filters."""
    if token is None:
        return 0
    try:
        first, given = json.loads(urlsafe_b64decode(token))
    except ValueError:
        raise _RefusedError("the page token is none") from None
    if given != dict(filters):
        raise _RefusedError("the page token came with other filters")
    return int(first)
