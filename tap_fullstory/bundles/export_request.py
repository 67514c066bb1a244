"""What is asked of the Segment Export API: whose events or which people, of when, which fields."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tap_fullstory.bundle import Bundle
from tap_fullstory.catalog import CUSTOM_PREFIXES, EVENT_TYPE, Selection, is_custom
from tap_fullstory.config import Config
from tap_fullstory.state import EVERYONE, Export
from tap_fullstory.streams import INDIVIDUALS
from tap_fullstory.times import format_rfc3339

# The name under which bundles have PageUserAgent. Exports do not know it, whereas they still know
# EventTargetSelectorTok (github.com/fullstorydev/hauser, warehouse/schema.go, specialCasedFields).
BUNDLES_ONLY = "PageAgent"
# Of accounts with FullStory for Mobile Apps. Whether others may ask for them is not documented;
# FullStory's own exporter does so only if told to (github.com/fullstorydev/hauser,
# internal/service.go, IncludeMobileAppsFields).
MOBILE_FIELDS = frozenset(
    """
    AppName AppPackageName AppDeviceModel AppDeviceVendor AppVersion AppOsVersion AppViewName
    EventMobileSourceFile
    """.split()
)
# By the values of export_scope. SCOPE_EVENTS is the default, and documentation and clients disagree
# on how it is spelled, so it is not sent.
_SCOPES = {
    "pages": "SCOPE_PAGES",
    "sessions": "SCOPE_SESSIONS",
    "individuals": "SCOPE_INDIVIDUALS",
}
_ALL_TIME = {"start": "", "end": ""}


@dataclass(frozen=True)
class ExportRequest:
    """What to export of each window: `kind` is TYPE_EVENT or TYPE_INDIVIDUAL, `segment_id` whom it
    covers. `fields`, sorted, restricts it to these; with None everything comes, fields that
    FullStory adds tomorrow too. `scope` and `time_range` are what export_scope and
    segment_time_range say.
    """

    kind: str
    segment_id: str
    fields: tuple[str, ...] | None
    scope: str = "events"
    time_range: str = "window"

    def body(self, window: Bundle) -> dict[str, Any]:
        """Return the body of "Create Segment Export" (developer.fullstory.com)."""
        time_range = {"start": format_rfc3339(window.start), "end": format_rfc3339(window.end)}
        body = {
            "segmentId": self.segment_id,
            "type": self.kind,
            "format": "FORMAT_JSON",
            "timeRange": time_range,
        }
        if self.time_range != "own":
            # Without it `everyone` means those active in the last 30 days, and an older window is
            # empty, without an error.
            body["segmentTimeRange"] = _ALL_TIME if self.time_range == "all" else time_range
        if self.scope in _SCOPES:
            body["eventDetails"] = {"scope": _SCOPES[self.scope]}
        if self.fields is not None:
            body["fields"] = list(self.fields)
        return body

    def export(self, operation_id: str, window: Bundle) -> Export:
        """Return what the state remembers of the export of a window."""
        return Export(
            operation_id,
            window.start,
            window.end,
            self.fields,
            self.segment_id,
            self.scope,
            self.time_range,
        )

    def is_that_of(self, earlier: Export) -> bool:
        """Return whether this request would create an export like one that the state remembers."""
        fields = (self.fields, self.without_mobile_fields().fields)
        wanted = (self.segment_id, self.scope, self.time_range)
        return earlier.fields in fields and wanted == (
            earlier.segment,
            earlier.scope,
            earlier.time_range,
        )

    def without_mobile_fields(self) -> ExportRequest:
        """Return the same request without the fields that some accounts may not ask for."""
        if self.fields is None:
            return self
        fields = tuple(name for name in self.fields if name not in MOBILE_FIELDS)
        return replace(self, fields=fields)


def export_request(config: Config, selection: Selection) -> ExportRequest:
    """Return what to ask for of a stream, for the first of the config's segments.

    Everybody matches `everyone` at all times, so there the scope and the range have no meaning: its
    own range, the last 30 days, would only leave out older windows.
    """
    (segment_id, *_) = config.segment_id
    individuals = selection.stream is INDIVIDUALS
    kind = "TYPE_INDIVIDUAL" if individuals else "TYPE_EVENT"
    fields = export_fields(selection, ("user_",) if individuals else CUSTOM_PREFIXES)
    if segment_id == EVERYONE:
        return ExportRequest(kind, segment_id, fields)
    scope = "events" if individuals else config.export_scope
    return ExportRequest(kind, segment_id, fields, scope, config.segment_time_range)


def export_fields(selection: Selection, prefixes: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the `fields` to ask for, sorted, each once; None if they would keep nothing out.

    FullStory refuses a field that is named twice, and sends a custom variable only if it is named,
    or its kind is, as `user_*` ("Create Segment Export"; `page_*` is in hauser's
    warehouse/schema.go). CustomVars takes all of them, but for kinds that the config excludes as a
    whole; one that is deselected is left out later. A filter by EventType needs that.
    """
    names = {name for name in selection.columns if name != BUNDLES_ONLY}
    if selection.keeps_overflow:
        kinds = [prefix for prefix in prefixes if not selection.rules.excludes_all(prefix)]
        if len(kinds) == len(prefixes) and all(map(is_custom, selection.dropped - {BUNDLES_ONLY})):
            return None
        names = {name for name in names if not is_custom(name)}
        names |= {f"{prefix}*" for prefix in kinds}
    if selection.event_filter:
        names.add(EVENT_TYPE)
    return tuple(sorted(names))
