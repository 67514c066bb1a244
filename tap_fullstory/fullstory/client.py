"""FullStory's APIs as typed calls.

The Data Export API lists bundles of events and serves them one by one: developer.fullstory.com,
"List Event Exports" and "Get Event Export". The Segment Export API makes files to order: "Create
Segment Export", "Get Operation", "Get Export Results". The REST APIs answer with JSON objects,
whose members are passed on as the text that FullStory sent.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, BinaryIO
from urllib.parse import quote

import msgspec
from msgspec import Raw

from tap_fullstory.errors import SourceError
from tap_fullstory.exports.bundle import Bundle
from tap_fullstory.fullstory.retry import BRIEF, ONE_TRY, Patience
from tap_fullstory.fullstory.session import HttpSession
from tap_fullstory.fullstory.urls import redact_url
from tap_fullstory.records.json_text import decode_members, repair_surrogates, replace_nul
from tap_fullstory.settings import Config
from tap_fullstory.times import from_epoch

LOGGER = logging.getLogger(__name__)

PAGE_BUNDLES = 20  # "at most 20 results", List Event Exports
# What an expired operation or export answers is not documented; FullStory keeps them for about a
# week, by the example of "Get Operation".
GONE = (400, 404, 410)
CANCEL_TIMEOUT_SECONDS = 5  # a cancellation is a courtesy, and somebody waits for the tap to end


@dataclass(frozen=True)
class Operation:
    """How far an export has got.

    `state` is PENDING, COMPLETED or FAILED by the documentation of "Get Operation"; only it tells
    whether the export is done, since `percent` may be 100 before. `error` says why it failed.
    `result_id` is the id of its results, which is not that of the operation.
    """

    state: str
    error: str
    percent: int
    result_id: str | None


class Client:
    """FullStory's APIs; a context manager that closes the connections."""

    def __init__(
        self, config: Config, http: HttpSession | None = None, patience: Patience = BRIEF
    ) -> None:
        self._http = http or HttpSession(
            config.api_key, config.user_agent, config.request_timeout, patience=patience
        )
        self._exports = f"{config.data_export_url}/api/v1/export"
        self._api = config.api_url
        self._replaces_nul = config.replace_nul

    def __enter__(self) -> Client:
        self._http.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.__exit__(*exc)

    @property
    def throttled_seconds(self) -> float:
        """How long the client has waited so far because FullStory asked for it, all threads'
        seconds together.
        """
        return self._http.throttled_seconds

    @property
    def clock_skew(self) -> timedelta | None:
        """How far FullStory's clock is ahead of ours; None before its first response."""
        return self._http.clock_skew

    def list_bundles(self, after: int) -> list[Bundle]:
        """Return at most 20 bundles whose end is after `after` (Unix seconds), oldest first.

        The documentation's table spells the keys id, start and stop, with digits as text; its
        example, and every client seen, has Id, Start and Stop, as numbers
        (github.com/fullstorydev/hauser at d83a97b8~1, `client/export.go`). Both are read. A list
        that is null, or missing from an empty object, is empty, and so is a response that is null
        or an empty list: Go, which FullStory's servers are written in, encodes a nil one so.

        Raises SourceError if the answer is not such a list; AccessError or NetworkError if there
        is no answer.
        """
        params = {"start": str(after)}
        answer = self._http.get_json(f"{self._exports}/list", params, "list")
        try:
            return [_bundle(item) for item in _member(answer, "exports") or []]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise SourceError(
                f"{redact_url(f'{self._exports}/list', params)} returned JSON that is not a list "
                "of bundles. FullStory may have changed the API: look for a newer version of "
                "this tap."
            ) from None

    def download_bundle(self, bundle: Bundle, sink: BinaryIO) -> None:
        """Write a bundle's file to `sink`, compressed or not, as FullStory sends it.

        FullStory allows two downloads a minute (developer.fullstory.com, "Get Event Export"); more
        get a 429, which is waited out. Raises AccessError, NetworkError or SourceError, and
        SinkError if `sink` is full.
        """
        self._http.download(f"{self._exports}/get", {"id": bundle.id}, sink, "get")

    def create_export(self, request: Mapping[str, Any]) -> str:
        """Create an export, as "Create Segment Export" documents; return the id of its operation.

        Each call starts one: see HttpSession.post_json for when it is retried. Raises BadRequest
        if FullStory refuses the request; AccessError, NetworkError or SourceError otherwise.
        """
        url = f"{self._api}/segments/v1/exports"
        return _text(self._http.post_json(url, request, "create"), "operationId", url)

    def operation(self, operation_id: str) -> Operation:
        """Return how far an operation has got; a missing state is UNKNOWN, the documented default.

        Raises ResourceGone if there is no such operation; AccessError, NetworkError or SourceError
        otherwise.
        """
        url = f"{self._api}/operations/v1/{quote(operation_id, safe='')}"
        answer = self._http.get_json(url, {}, "operation", gone=GONE)
        results, percent = _value(answer, "results"), _value(answer, "estimatePctComplete")
        return Operation(
            state=self._http.excerpt(str(_value(answer, "state") or "UNKNOWN")).upper(),
            error=self._http.excerpt(str(_value(answer, "errorDetails") or "")),
            percent=percent if isinstance(percent, int) else 0,
            result_id=_text(results, "searchExportId", url) if results else None,
        )

    def cancel_operation(self, operation_id: str) -> None:
        """Stop an export ("Cancel Operation"), in one try. Raises TapError if that fails."""
        url = f"{self._api}/operations/v1/{quote(operation_id, safe='')}/cancel"
        self._http.post_once(url, "cancel", CANCEL_TIMEOUT_SECONDS)

    def download_export(self, result_id: str, sink: BinaryIO) -> None:
        """Write the file of a finished export to `sink`, compressed, as FullStory sends it.

        The file's signed URL typically expires after five minutes ("Get Export Results"), so a new
        one is requested before each try. Its `expires` is not read: FullStory writes nine decimals
        there, and only the storage host knows anyway. The URL opens the file by itself, and its
        host must not see the key.

        Raises ResourceGone if the export has expired; AccessError, NetworkError or
        SourceError otherwise.
        """
        url = f"{self._api}/search/v1/exports/{quote(result_id, safe='')}/results"

        def get_signed_url() -> str:
            return _text(self._http.get_json(url, {}, "results", gone=GONE), "location", url)

        self._http.download_signed(get_signed_url, f"the file of {url}", sink, "storage")

    def prove_key(self) -> None:
        """Raise AccessError if FullStory does not accept the key, NetworkError or SourceError if
        it does not say.
        """
        self._http.get_json(f"{self._api}/me", {}, "me")

    def organization(self) -> str:
        """Return the id of the account's organization (developer.fullstory.com, "Me").

        Raises SourceError if the answer has none; AccessError or NetworkError if there is no
        answer.
        """
        url = f"{self._api}/me"
        return _text(self._http.get_json(url, {}, "me"), "orgId", url)

    def datasets(self) -> list[str]:
        """Return the names of the datasets that the API key can read, requested in one try.

        developer.fullstory.com, "List Datasets" (beta). Raises SourceError if the answer is not
        such a list; AccessError or NetworkError if there is no answer.
        """
        url = f"{self._api}/v2beta/datasets"
        answer = self._http.get(url, {}, "datasets", msgspec.json.decode, patience=ONE_TRY)
        try:
            return [str(dataset["name"]) for dataset in answer["datasets"] or []]
        except (KeyError, TypeError):
            raise SourceError(
                f"{url} returned JSON that has no datasets. FullStory may have changed the "
                "API: look for a newer version of this tap."
            ) from None

    def read(self, path: str, params: Mapping[str, str], endpoint: str) -> dict[str, Raw]:
        """Return the members of the JSON object that a GET of `path` returns, as raw JSON; none for
        null or an empty list, which is how Go encodes a list of nothing.

        Lone surrogates, left where FullStory has cut a text, become U+FFFD, and U+0000 if the
        config says so. The connection stays open for the next call, until `close_idle`.

        Raises AccessError, NetworkError or SourceError.
        """
        url = f"{self._api}{path}"
        return self._http.get(url, params, endpoint, self._decode_members, keep_alive=True)

    def _decode_members(self, body: bytes) -> dict[str, Raw]:
        if self._replaces_nul:
            body, nuls = replace_nul(body)
            if nuls:
                LOGGER.warning(
                    "%d characters U+0000 in a response became U+FFFD (replace_nul)",
                    nuls,
                    extra={"code": "nul_replaced"},
                )
        return _decode_members(body)

    def close_idle(self) -> None:
        """Close the connections that `read` has kept open."""
        self._http.close_idle()

    def role(self) -> str:
        """Return the role of the API key, such as USER, ARCHITECT or ADMIN, requested in one try.

        developer.fullstory.com, "Me". Raises SourceError if the answer has none, and as
        HttpSession.get.
        """
        url = f"{self._api}/me"
        answer = self._http.get(url, {}, "me", msgspec.json.decode, patience=ONE_TRY)
        role = answer.get("role") if isinstance(answer, dict) else None
        if not isinstance(role, str):
            raise SourceError(f"{redact_url(url, {})} does not say what role the API key has.")
        return role


def _value(answer: Any, name: str) -> Any:
    """Return a member of an answer. FullStory's older APIs document camelCase, and their examples
    have snake_case in places; both are read.
    """
    if not isinstance(answer, dict):
        return None
    names = {key.replace("_", "").lower(): value for key, value in answer.items()}
    return names.get(name.lower())


def _text(answer: Any, name: str, url: str) -> str:
    value = _value(answer, name)
    if isinstance(value, str) and value:
        return value
    raise SourceError(
        f"{url} returned JSON that has no {name}. FullStory may have changed the API: look "
        "for a newer version of this tap."
    )


def _decode_members(body: bytes) -> dict[str, Raw]:
    body.decode()  # raw values are not checked for UTF-8
    if body.split() in ([b"null"], [b"[]"]):
        return {}
    try:
        return decode_members(body)
    except msgspec.DecodeError:
        repaired, repairs = repair_surrogates(body)
        if not repairs:
            raise
        LOGGER.warning(
            "%d lone surrogates in a response were replaced with U+FFFD", repairs,
            extra={"code": "surrogates_replaced"},
        )  # fmt: skip
        return decode_members(repaired)


def _bundle(item: Mapping[str, Any]) -> Bundle:
    keys = {key.lower(): value for key, value in item.items()}
    identity = keys["id"]
    if isinstance(identity, bool) or not isinstance(identity, (str, int)) or identity == "":
        raise ValueError
    start, end = from_epoch(_integer(keys["start"])), from_epoch(_integer(keys["stop"]))
    return Bundle(str(identity), start, end)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError
    return int(value)


def _member(answer: Any, name: str) -> list[Any] | None:
    if answer in (None, [], {}):
        return None
    value = {key.lower(): value for key, value in answer.items()}[name]
    if value is not None and not isinstance(value, list):
        raise TypeError
    return value
