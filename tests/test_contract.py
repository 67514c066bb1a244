"""What FullStory documents arrives whole, in every form that its schemas, its examples and programs
that read it show.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from catalogs import select_streams
from contract import (
    EVENT,
    INDIVIDUAL,
    LISTS,
    PAGED,
    RECORDS,
    REQUIRED,
    Json,
    as_bytes,
    serving,
)
from msgspec import Raw
from running import run_tap

from tap_fullstory.fullstory.client import Client
from tap_fullstory.records.json_text import decode_members
from tap_fullstory.streams import BUNDLES, STREAMS, RestStream, Stream
from tap_fullstory.sync_rest import pages

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT.*Z")
_DIGITS = re.compile(r"\d+")
_CAMEL = re.compile(rb'"[a-z]+[A-Z]\w+":')
# What is inside them is the customer's, or not documented, so that dates there are just texts.
_FREE = {"details", "results", "properties", "schema", "type_conflicts"}
# What must be there for the record to be one, or for what hangs on it to be found.
_KEPT = {"id", "uid", "eventName", "hasSubcategories", "subcategory", "metadata", "IndvId"}
# In the form "other", what does not fit its property: documented as a number, sent as a text.
_MISMATCHES = {
    "operations": {"estimatePctComplete"},
    "privacy_elements": {"group_id"},
    "privacy_settings": {"elementBlocks", "elementRuleGroups"},
    "privacy_settings_history": {"elementBlocks", "elementRuleGroups"},
}
_REST = [stream for stream in STREAMS if isinstance(stream, RestStream)]


class Form:
    """How FullStory's answers look: `sent` is what it makes of a documented record, `arrives` what
    the tap must make of that.
    """

    name = "documented"
    end: Any = ...  # the last page's token: absent
    total = '"2"'

    def sent(self, record: Json) -> Json:
        return record

    def arrives(self, record: Json) -> Json:
        return self.sent(record)


class Sparse(Form):
    name, end = "sparse", ""

    def sent(self, record: Json) -> Json:
        return {name: value for name, value in record.items() if name in _KEPT}


class Nulls(Form):
    name, end, total = "nulls", None, "null"

    def sent(self, record: Json) -> Json:
        return {name: value if name in _KEPT else None for name, value in record.items()}


class Empty(Form):
    name, end = "empty", "a page without the list"

    def sent(self, record: Json) -> Json:
        return _each(record, lambda value, _: "" if isinstance(value, str) else value)

    def arrives(self, record: Json) -> Json:
        def of_text(value: Any, free: bool) -> Any:
            if not isinstance(value, str):
                return value
            return None if _DATE_TIME.fullmatch(value) and not free else ""

        return _each(record, of_text)


class Other(Form):
    """Numbers as text, digits as numbers, and the names that the schemas of the webhooks have."""

    name, total = "other", "2"

    def sent(self, record: Json) -> Json:
        def swapped(value: Any, free: bool) -> Any:
            if isinstance(value, int) and not isinstance(value, bool):
                return str(value)
            digits = isinstance(value, str) and _DIGITS.fullmatch(value)
            return int(value) if digits and not free else value

        return _each(record, swapped)

    def arrives(self, record: Json) -> Json:
        # What is documented as digits arrives as such.
        def text(value: Any, free: bool) -> Any:
            if isinstance(value, int) and not isinstance(value, bool):
                return str(value)
            return value

        return _each(record, text)


def _as_snake(name: re.Match[bytes]) -> bytes:
    return re.sub(rb"[A-Z]", lambda letter: b"_" + letter[0].lower(), name[0])


FORMS = (Form(), Sparse(), Nulls(), Empty(), Other())


def _each(record: Json, change: Any, free: bool = False) -> Json:
    """A record with each leaf changed that is not kept."""

    def within(value: Any, name: str, free: bool) -> Any:
        if isinstance(value, dict):
            return _each(value, change, free or name in _FREE)
        if isinstance(value, list):
            return [within(item, name, free) for item in value]
        return change(value, free)

    return {
        name: value if name in _KEPT and name != "results" else within(value, name, free)
        for name, value in record.items()
    }


def _path(stream: Stream) -> str:
    (found,) = [p for p in RECORDS if p == stream.path or (p.endswith(stream.path.split("}")[-1])
                and "{" in stream.path)]  # fmt: skip
    return found


def _numbered(path: str, number: int) -> Json:
    """The record of a list's page, none of which has the key of another."""
    record = json.loads(json.dumps(RECORDS[path]))
    if number == 1 or path not in PAGED:
        return record
    for key in ("id", "subcategory"):
        if key in record:
            record[key] += f"-{number}"
    if "metadata" in record and path in LISTS:
        record["metadata"]["lastUpdated"] = "2020-10-01T00:00:00Z"  # older
    return record


class FullStory:
    """Answers every call that the documentation has; what else is asked is noted in `unknown`."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.url = ""
        self.unknown: list[str] = []

    def answer(self, method: str, path: str, query: Mapping[str, str]) -> bytes | None:
        if path in RECORDS:
            if REQUIRED.get(path, set()) <= set(query):
                answer = as_bytes(self._rest(path, query))
                webhooks = path.startswith("/webhooks") and isinstance(self.form, Other)
                return _CAMEL.sub(_as_snake, answer) if webhooks else answer
        elif found := self._export(method, path, query):
            return found
        self.unknown.append(f"{method} {path} {dict(query)}")
        return None

    def _rest(self, path: str, query: Mapping[str, str]) -> Json:
        if path not in LISTS:
            return self.form.sent(RECORDS[path])
        parameter, token = PAGED.get(path, ("", ""))
        number = int(query.get(parameter, "1"))
        answer: Json = {LISTS[path]: [self.form.sent(_numbered(path, number))]}
        if path in ("/v2/users", "/v2beta/privacy/elements"):
            answer["total_records"] = json.loads(self.form.total)
        last = 3 if isinstance(self.form, Empty) else 2
        if number == 3:
            del answer[LISTS[path]]
        if token and number < last:
            answer[token] = str(number + 1)
        elif token and isinstance(self.form.end, str | None) and last == 2:
            answer[token] = self.form.end
        return answer

    def _export(self, method: str, path: str, query: Mapping[str, str]) -> bytes | None:
        day = 1780272000  # 2026-06-01T00:00:00Z
        if path == "/api/v1/export/list":
            listed: Json = {"Id": 178027200048, "Start": day, "Stop": day + 86400}
            if isinstance(self.form, Other):
                listed = {name.lower(): str(value) for name, value in listed.items()}
            return as_bytes({"exports": [listed] if int(query["start"]) < day + 86400 else None})
        if path == "/api/v1/export/get":
            return as_bytes([self.form.sent(EVENT)])
        if (method, path) == ("POST", "/segments/v1/exports"):
            return as_bytes({"operationId": "op:1"})
        if path == "/operations/v1/op%3A1":
            results = {"searchExportId": "ex", "expires": "2026-06-09T10:11:12.345Z"}
            return as_bytes({"id": "op:1", "state": "COMPLETED", "results": results})
        if path == "/search/v1/exports/ex/results":
            return as_bytes({"location": f"{self.url}/file", "expires": "2026-06-02T00:00:00.1Z"})
        return gzip.compress(as_bytes([self.form.sent(INDIVIDUAL)])) if path == "/file" else None


def expected(stream: Stream, form: Form) -> Iterator[tuple[Json, Json, Json]]:
    """For each record: what FullStory sends, what must arrive, and what the tap adds."""
    if not isinstance(stream, RestStream):
        record = EVENT if stream.name == "events" else INDIVIDUAL
        yield form.sent(record), form.arrives(record), {}
        return
    path = _path(stream)
    for part in stream.parts or (None,):
        for number in (1, 2) if path in PAGED else (1,):
            record = _numbered(path, number)
            added: Json = {} if part is None else {stream.part_name: part}
            if stream.promoted:
                added["lastUpdated"] = record["metadata"]["lastUpdated"]
            yield form.sent(record), form.arrives(record), added


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_value_that_fullstory_documents_arrives(form):
    fullstory = FullStory(form)
    with serving(fullstory.answer) as url:
        fullstory.url = url
        config = {
            "api_key": "na1.contract-key",
            "start_date": "2026-06-01T00:00:00Z",
            "data_export_url": url,
            "api_url": url,
        }
        run = run_tap(config, catalog=select_streams(*(stream.name for stream in STREAMS)))
    assert run.code == 0, run.log
    assert not fullstory.unknown
    for stream in STREAMS:
        if stream is BUNDLES:
            continue  # the tap makes its rows: see test_bundles.py
        rows = [
            message["record"]
            for message in run.messages
            if message["type"] == "RECORD" and message["stream"] == stream.name
        ]
        wanted = list(expected(stream, form))
        if stream.name == "sessions":  # of two users
            user = {"user_id": RECORDS["/v2/users"]["id"], "uid": RECORDS["/v2/users"]["uid"]}
            second = {**user, "user_id": f"{user['user_id']}-2"}
            wanted = [(*wanted[0][:2], one) for one in (user, second)]
        elif stream.name == "webhook_event_subcategories":
            name = {"eventName": RECORDS["/webhooks/v1/event-types"]["eventName"]}
            wanted = [(sent, arrives, name) for sent, arrives, _ in wanted]
        assert len(rows) == len(wanted), stream.name
        for row, (sent, arrives, added) in zip(rows, wanted, strict=True):
            check(stream, form, row, sent, {**arrives, **added})


def check(stream: Stream, form: Form, row: Json, sent: Json, wanted: Json) -> None:
    """Each value is in its column, or where that has another type, in the overflow as it came."""
    overflow = row.pop(stream.overflow, {})
    own = {name for name in overflow if not re.match("user_|evt_", name)}
    if stream.overflow == "extra" or not isinstance(form, Other):
        mismatches = _MISMATCHES.get(stream.name, set()) if isinstance(form, Other) else set()
        assert own == mismatches, stream.name
    assert "Uid" not in overflow  # a number or text, as the reader of the export has it
    for name, value in overflow.items():
        assert value == sent[name], name
        assert row.pop(name, None) is None, name
    assert row == {name: value for name, value in wanted.items() if name not in overflow}


# --- lists of nothing ---


class Answering:
    """A client that FullStory answers one thing."""

    def __init__(self, *answers: str) -> None:
        self._answers = iter(answers)

    def read(self, *_: Any) -> dict[str, Raw]:
        return decode_members(next(self._answers).encode())


@pytest.mark.parametrize("stream", [s for s in _REST if s.records], ids=lambda s: s.name)
def test_a_list_of_nothing_is_empty_in_every_spelling(stream):
    tokens = stream.paging.tokens if stream.paging else ()
    beside = [f'"{name}": 0' for name in stream.beside]
    texts = ["{}", f'{{"{stream.records}": null}}', f'{{"{stream.records}": []}}']
    texts += [f'{{"{token}": {end}}}' for token in tokens for end in ('""', "null")]
    texts += [f"{{{', '.join(beside)}}}", f"{{{', '.join(beside)}}}".replace("0", '"0"')]
    for text in texts:
        assert list(pages(cast(Client, Answering(text)), stream, {})) == [[]], text
