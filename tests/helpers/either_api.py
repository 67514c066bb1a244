"""FullStory's two export APIs from one test: a sandbox set up for either, and what is called what.

    @each_api
    def test_nothing_is_lost(api):
        with api.sandbox(days(3, 40)) as sandbox:
            sandbox.fault(api.fault("get:503"))
            run = run_tap(api.config(sandbox))
            assert counted(run.records) == counted(api.records(sandbox))

Bundles have to be whole UTC days for the windows of a segment export to be cut as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import pytest
from running import as_record

from tap_fullstory.sandbox import (
    Bundle,
    Fault,
    Request,
    Sandbox,
    as_segment_export,
    generated_bundles,
    parse_fault,
)
from tap_fullstory.times import format_rfc3339, from_epoch

Json = dict[str, Any]
# Years ago, so that a window that is requested wrongly is empty.
UNTIL = datetime(2024, 6, 7, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Api:
    """`ask` and `file` are the endpoints, by the names that faults have for them, where the tap
    asks what there is, and where the files come from.
    """

    name: str
    ask: str
    file: str

    def __str__(self) -> str:
        return self.name

    def sandbox(self, bundles: Iterable[Bundle] | None = None, **options: Any) -> Sandbox:
        """A sandbox whose config chooses this API. Its exports are finished at once and have their
        rows in the same order, unless `options` say otherwise: as bundles are.
        """
        made = days() if bundles is None else bundles
        usual = {"pending_polls": 0, "reorder": False}
        return Sandbox(made, export_api=self.name, **{**usual, **options})

    def config(self, sandbox: Sandbox, **overrides: Any) -> Json:
        """From the sandbox's oldest bundle to its newest one, the unpublished included."""
        ends = [bundle.stop for bundle in sandbox.bundles]
        until = {"end_date": format_rfc3339(from_epoch(max(ends)))} if ends else {}
        return sandbox.config(**{**until, **overrides})

    def fault(self, fault: str | Fault) -> Fault:
        """A fault of `list` or `get`, or of `storage`, at the endpoint that has its part here."""
        made = parse_fault(fault) if isinstance(fault, str) else fault
        return replace(
            made, endpoint={"list": self.ask, "get": self.file}.get(made.endpoint, made.endpoint)
        )

    def downloads(self, sandbox: Sandbox, bundle: Bundle) -> int:
        """How often the tap has begun to download a bundle, so far."""
        if self.name == "data_export":
            return [request.query.get("id") for request in sandbox.requests].count(bundle.id)
        return len([one for one in requests_to(sandbox, "storage") if f"/{bundle.id}/" in one.path])

    def publish(self, sandbox: Sandbox, bundle: Bundle) -> None:
        """A bundle in the place of the one with its id, and no export of that one any more."""
        sandbox.publish(bundle)
        # Of this bundle: a run that has ended may have left a request for another one on its way.
        sandbox.fault(f"results/{bundle.id}:expired")

    def bundle_id(self, bundle: Bundle) -> str:
        """What the tap calls a bundle of the sandbox: in `partial`, in errors, in skip_bundles."""
        if self.name == "data_export":
            return bundle.id
        return "/".join(format_rfc3339(from_epoch(end)) for end in (bundle.start, bundle.stop))

    def exported(self, event: Mapping[str, Any]) -> Json:
        """An event of a bundle that is made of events, under the names that this API has."""
        return dict(event) if self.name == "data_export" else dict(as_segment_export(event))

    def records(self, *sources: Sandbox | Bundle) -> list[Json]:
        """What becomes of the events of these, with nothing deselected."""
        bundles = [
            bundle
            for source in sources
            for bundle in (source.bundles if isinstance(source, Sandbox) else [source])
        ]
        return [as_record(self.exported(event)) for bundle in bundles for event in bundle.events]


DATA_EXPORT = Api("data_export", ask="list", file="get")
SEGMENT_EXPORT = Api("segment_export", ask="create", file="storage")
APIS = [DATA_EXPORT, SEGMENT_EXPORT]
each_api = pytest.mark.parametrize("api", APIS, ids=str)


def days(count: int = 3, events: int = 20, **options: Any) -> list[Bundle]:
    """Bundles of a UTC day each, whenever the test runs."""
    return generated_bundles(count, events, **{"until": UNTIL, **options})


def requests_to(sandbox: Sandbox, *endpoints: str) -> list[Request]:
    """The requests so far to these endpoints."""
    return [request for request in sandbox.requests if endpoint(request) in endpoints]


def endpoints_asked(sandbox: Sandbox) -> list[str]:
    """Which endpoints the requests so far went to, in order."""
    return [endpoint(request) for request in sandbox.requests]


def orders(sandbox: Sandbox) -> list[Json]:
    """The exports ordered so far, as they were ordered."""
    return [json.loads(request.body) for request in requests_to(sandbox, "create")]


def endpoint(request: Request) -> str:
    """What faults call the place that a request went to."""
    if request.origin == "storage":
        return "storage"
    last = request.path.rpartition("/")[2]
    if last in ("list", "get", "results", "cancel", "me"):
        return last
    return "create" if last == "exports" else "operation"
