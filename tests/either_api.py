"""FullStory's two export APIs from one test: a sandbox set up for either, and what is called what.

    @each_api
    def test_nothing_is_lost(api):
        with api.sandbox(days(3, 40)) as sandbox:
            sandbox.fault(f"{api.file}:503")
            run = run_tap(api.config(sandbox))
            assert counted(run.records) == counted(api.records(sandbox))

Bundles have to be whole UTC days for the windows of a segment export to be cut as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pytest
from running import as_record

from tap_fullstory.sandbox import Bundle, Request, Sandbox, as_segment_export, generated_bundles
from tap_fullstory.times import format_rfc3339, from_epoch

Json = dict[str, Any]
# Years ago, so that a window that is asked for in the wrong way is empty.
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
        """From the sandbox's oldest bundle to its newest one, those held back too."""
        ends = [bundle.stop for bundle in sandbox.bundles]
        until = {"end_date": format_rfc3339(from_epoch(max(ends)))} if ends else {}
        return sandbox.config(**{**until, **overrides})

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
        return [as_record(self.exported(event)) for bundle in bundles for event in bundle.body]


DATA_EXPORT = Api("data_export", ask="list", file="get")
SEGMENT_EXPORT = Api("segment_export", ask="create", file="storage")
each_api = pytest.mark.parametrize("api", [DATA_EXPORT, SEGMENT_EXPORT], ids=str)


def days(count: int = 3, events: int = 20, **options: Any) -> list[Bundle]:
    """Bundles of a UTC day each, whenever the test runs."""
    return generated_bundles(count, events, **{"until": UNTIL, **options})


def requests_to(sandbox: Sandbox, *endpoints: str) -> list[Request]:
    """The requests so far to these endpoints of the Segment Export API and the storage host."""
    return [request for request in sandbox.requests if _endpoint(request) in endpoints]


def endpoints_asked(sandbox: Sandbox) -> list[str]:
    """Which endpoints the requests so far went to, in order."""
    return [_endpoint(request) for request in sandbox.requests]


def orders(sandbox: Sandbox) -> list[Json]:
    """The exports ordered so far, as they were ordered."""
    return [json.loads(request.body) for request in requests_to(sandbox, "create")]


def _endpoint(request: Request) -> str:
    if request.origin == "storage":
        return "storage"
    ends = {"exports": "create", "results": "results", "cancel": "cancel", "me": "me"}
    return ends.get(request.path.rpartition("/")[2], request.path.split("/")[1].rstrip("s"))
