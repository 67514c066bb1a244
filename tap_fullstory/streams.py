"""The streams, one row each. Another list of FullStory's REST APIs is a row here and a schema file.

Paths, parameters, envelopes and key levels are those of developer.fullstory.com; a machine-readable
copy is in github.com/fullstorydev/sekizui (internal/connectors/fullstory/reference). Keys and
replication are this tap's choice: the documentation has no notion of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# FullStory's levels of API keys, each of which may do what those before it may, by the role in the
# answer to GET /me (developer.fullstory.com, "Me", Role Mappings).
STANDARD, ARCHITECT, ADMIN = "Standard", "Architect", "Admin"
LEVELS = (STANDARD, ARCHITECT, ADMIN)
LEVEL_OF_ROLE = {"USER": STANDARD, "ARCHITECT": ARCHITECT, "ADMIN": ADMIN}

CUSTOM_VARS = "CustomVars"
EXTRA = "extra"
LAST_UPDATED = "lastUpdated"


@dataclass(frozen=True)
class Stream:
    """One stream. Its schema is in the file of its name.

    `level` is the lowest level of API key that may read it, `add_on` what the account needs too.
    `cost` says in words what a sync requests of FullStory. `overflow` is the property that holds
    what fits no other property, if there is one. `texts` are properties that take numbers as their
    text.
    """

    name: str
    path: str
    level: str
    cost: str
    key_properties: tuple[str, ...] = ()
    replication_key: str | None = None
    add_on: str = ""
    selected_by_default: bool = False
    overflow: str = CUSTOM_VARS
    texts: frozenset[str] = frozenset()

    @property
    def replication_method(self) -> str:
        """INCREMENTAL or FULL_TABLE."""
        return "INCREMENTAL" if self.replication_key else "FULL_TABLE"

    @property
    def needs(self) -> str:
        """What key and account need to read the stream, in words."""
        key = f"a key of level {self.level} or higher"
        return f"{key}, and {self.add_on}" if self.add_on else key


@dataclass(frozen=True)
class Paging:
    """How a list continues: the answer holds the next page's token under one of the names in
    `tokens`, and `parameter` sends it back. An empty token, or none, ends the list.
    """

    parameter: str
    tokens: tuple[str, ...]


@dataclass(frozen=True)
class RestStream(Stream):
    """A stream of the REST APIs.

    `records` names the member of an answer that lists the records; None: the answer is the only
    one. `beside` are members that an answer without records may have. `limit` is the page size to
    request, `params` are parameters of every call, and those in `params_for` are sent if one of the
    properties is selected. `promoted` are members of a record's `metadata` that it gets at its top
    level. `aliases` turns other names that the documentation uses into those of the schema.

    With `parts` the stream is read for each value of the parameter `part_name` in turn, and each
    record gets a property of that name. With `parent`, it is read for each record of that stream
    that has any: see sync_rest.RestSync.
    """

    overflow: str = EXTRA
    records: str | None = None
    beside: tuple[str, ...] = ()
    paging: Paging | None = None
    limit: int | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    params_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    part_name: str = "platform"
    parts: tuple[str, ...] = ()
    promoted: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    parent: RestStream | None = None

    @property
    def bookmarks(self) -> tuple[str, ...]:
        """The names of the stream's bookmarks in the state: it has one for each part."""
        return (self.parts or (self.replication_key,)) if self.replication_key else ()


# The schemas of the documentation have the one name of the token, its examples the other.
_TOKENS = ("nextPaginationToken", "next_pagination_token")
_V1_PAGING = Paging("paginationToken", _TOKENS)
# The parameter in the table of "List Endpoints"; its text calls it paginationToken.
_WEBHOOK_PAGING = Paging("pagination_token", _TOKENS)
_V2_PAGING = Paging("page_token", ("next_page_token",))
_LIMIT = 100  # the most that segments, histories, webhooks and operations allow
# "List Sessions" documents the parameter and its default, 20, but no maximum.
_NEWEST_SESSIONS = 100
_PLATFORMS = ("web", "mobile")  # the default is web: mobile is only seen by those who ask for it
_SUBCATEGORIES = 1000  # the default and the most that "List Event Subcategories" allows
# What a rule writes to: "List Extraction Rules" requires one in each call.
_SCOPES = ("PAGE", "USER", "ELEMENT", "REQUEST", "EVENT")
# The schemas of the webhooks' documentation have the one, its examples the other.
_WEBHOOK_ALIASES = {
    "event_types": "eventTypes",
    "event_name": "eventName",
    "event_defs": "eventDefs",
    "display_name": "displayName",
    "has_subcategories": "hasSubcategories",
    "subcategory_defs": "subcategoryDefs",
}


def _settings(name: str, path: str, level: str = STANDARD, *platforms: str) -> list[RestStream]:
    """Return two streams of one kind of settings: as they are, and all their versions."""
    path = f"/settings/recording/v1/{path}"
    calls = "1 call a platform" if platforms else "1 call"
    of_platform = ("platform",) if platforms else ()
    current = RestStream(
        name, path, level, calls, of_platform, parts=platforms, promoted=(LAST_UPDATED,)
    )
    history = RestStream(
        f"{name}_history",
        f"{path}/history",
        level,
        f"{calls} for {_LIMIT} new versions",
        (*of_platform, LAST_UPDATED),
        LAST_UPDATED,
        records="versions",
        paging=_V1_PAGING,
        limit=_LIMIT,
        parts=platforms,
        promoted=(LAST_UPDATED,),
    )
    return [current, history]


EVENTS = Stream(
    "events",
    "/api/v1/export/list and /api/v1/export/get, or /segments/v1/exports",
    ARCHITECT,
    "1 download a bundle, 2 a minute; or 1 export a window",
    replication_key="EventStart",
    add_on="the Data Export add-on",
    selected_by_default=True,
)

INDIVIDUALS = Stream(
    "individuals",
    "/segments/v1/exports",
    ARCHITECT,
    "1 export a run",
    ("IndvId",),
    # The newer of two records for one person has the later one.
    replication_key="LastEventStart",
    add_on="the Data Export add-on",
    # Text to one program that reads these exports, a number to another; FullStory does not say.
    texts=frozenset({"Uid"}),
)

# Filled while the events are, by the same requests: it has no listing of its own.
BUNDLES = Stream(
    "bundles",
    EVENTS.path,
    EVENTS.level,
    "none besides those of events",
    ("id",),
    replication_key="end",
    add_on=EVENTS.add_on,
    overflow="",
)

USERS = RestStream(
    "users",
    "/v2/users",
    ARCHITECT,
    "1 call for 10 users",
    ("id",),
    records="results",
    beside=("total_records", "app_url"),
    paging=_V2_PAGING,
    params_for={"include_schema": ("schema", "type_conflicts")},
)

WEBHOOK_EVENT_TYPES = RestStream(
    "webhook_event_types",
    "/webhooks/v1/event-types",
    ARCHITECT,
    "1 call",
    ("eventName",),
    records="eventDefs",
    aliases=_WEBHOOK_ALIASES,
)

STREAMS: tuple[Stream, ...] = (
    EVENTS,
    INDIVIDUALS,
    USERS,
    RestStream(
        "segments",
        "/segments/v1",
        STANDARD,
        f"1 call for {_LIMIT} segments",
        ("id",),
        records="segments",
        paging=_V1_PAGING,
        limit=_LIMIT,
    ),
    *_settings("block_rules", "blocking"),
    *_settings("domain_settings", "domain", STANDARD, *_PLATFORMS),
    *_settings("geo_settings", "geo"),
    *_settings("privacy_settings", "privacy", ARCHITECT),
    *_settings("recording_features", "features", STANDARD, *_PLATFORMS),
    *_settings("target_rule", "targeting"),
    RestStream(
        "webhook_endpoints",
        "/webhooks/v1/endpoints",
        ARCHITECT,
        f"1 call for {_LIMIT} endpoints",
        ("id",),
        records="endpoints",
        paging=_WEBHOOK_PAGING,
        limit=_LIMIT,
        aliases=_WEBHOOK_ALIASES,
    ),
    WEBHOOK_EVENT_TYPES,
    RestStream(
        "webhook_event_subcategories",
        "/webhooks/v1/event-types/{eventName}/subcategories",
        ARCHITECT,
        f"1 call, and 1 for {_SUBCATEGORIES} subcategories of each event type that has them",
        ("eventName", "subcategory"),
        records="subcategoryDefs",
        paging=_WEBHOOK_PAGING,
        limit=_SUBCATEGORIES,
        aliases=_WEBHOOK_ALIASES,
        parent=WEBHOOK_EVENT_TYPES,
    ),
    RestStream("organization_quotas", "/v2/organization/quotas", STANDARD, "1 call"),
    RestStream(
        "extraction_rules",
        "/v2beta/extraction/rules",
        STANDARD,
        "1 call a scope",
        ("scope", "id"),
        records="rules",
        beside=("total_records", "usage_by_scope"),
        # Events keep the properties that a rule wrote before it was archived.
        params={"include_archived": "true"},
        part_name="scope",
        parts=_SCOPES,
    ),
    RestStream(
        "privacy_elements",
        "/v2beta/privacy/elements",
        ARCHITECT,
        "1 call a page",
        ("id",),
        records="results",
        beside=("total_records",),
        paging=_V2_PAGING,
    ),
    RestStream(
        "operations",
        "/operations/v1",
        STANDARD,
        f"1 call for {_LIMIT} operations",
        ("id",),
        records="operations",
        paging=_V1_PAGING,
        limit=_LIMIT,
    ),
    RestStream(
        "sessions",
        "/v2/sessions",
        ARCHITECT,  # the sessions alone are for Standard, the list of users is not
        f"1 call for each identified user, which returns the newest {_NEWEST_SESSIONS} of their "
        "sessions, and 1 for 10 users",
        ("id",),
        records="results",
        limit=_NEWEST_SESSIONS,
        parent=USERS,
    ),
    BUNDLES,
)


def stream_named(name: str) -> Stream | None:
    """Return the stream with this tap_stream_id; None if there is none."""
    return next((stream for stream in STREAMS if stream.name == name), None)
