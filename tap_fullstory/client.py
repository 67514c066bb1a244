"""FullStory's APIs as typed calls.

The Data Export API lists bundles of events and hands them out one by one:
developer.fullstory.com, "List Event Exports" and "Get Event Export". The Segment Export API makes
files to order: "Create Segment Export", "Get Operation", "Get Export Results". The REST APIs answer
with JSON objects, whose members go on as the text that FullStory sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO
from urllib.parse import quote

import msgspec
from msgspec import Raw

from tap_fullstory.addresses import show
from tap_fullstory.config import Config
from tap_fullstory.errors import SourceError
from tap_fullstory.http import EXCERPT, Http
from tap_fullstory.json_text import check_depth, decode_members, repair_surrogates
from tap_fullstory.times import format_rfc3339, from_epoch

LOGGER = logging.getLogger(__name__)

PAGE_BUNDLES = 20  # "at most 20 results", List Event Exports
# What an operation or export that has run out answers is not documented; FullStory keeps them for
# about a week, by the example of "Get Operation".
GONE = (400, 404, 410)
CANCEL_TIMEOUT = 5  # seconds: a cancellation is a courtesy, and somebody waits for the tap to end


@dataclass(frozen=True)
class Bundle:
    """One export file: the events from `start` (inclusive) to `end` (exclusive), in UTC.

    `closes` tells whether it is the last that ends there, so that the bookmark may move to its end.
    """

    id: str
    start: datetime
    end: datetime
    closes: bool = field(default=True, compare=False)

    @property
    def period(self) -> str:
        """The period in words, for logs and errors."""
        return f"{format_rfc3339(self.start)} to {format_rfc3339(self.end)}"


# What hears of bundles as they become known, and whether more may follow.
Listed = Callable[[list[Bundle], bool], None]


def ignore_listing(bundles: list[Bundle], more: bool) -> None:
    """For those who do not want to hear of them."""


@dataclass(frozen=True)
class Operation:
    """How far an export has got.

    `state` is PENDING, COMPLETED or FAILED by the documentation of "Get Operation"; only it tells
    whether the export is done, since `percent` may be 100 before. `error` says why it failed.
    `result_id` is the id that its results go by, another one than the operation's.
    """

    state: str
    error: str
    percent: int
    result_id: str | None


class Client:
    """FullStory as a tap sees it; a context manager around its connections."""

    def __init__(self, config: Config, http: Http | None = None) -> None:
        self._http = http or Http(config.api_key, config.user_agent, config.request_timeout)
        self._exports = f"{config.data_export_url}/api/v1/export"
        self._api = config.api_url

    def __enter__(self) -> Client:
        self._http.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.__exit__(*exc)

    def list_bundles(self, after: int) -> list[Bundle]:
        """At most 20 bundles whose end lies after `after` (Unix seconds, exclusive), oldest first.

        The documentation's table spells the keys id, start and stop, as digits in texts; its
        example, and every client seen, has Id, Start and Stop, as numbers
        (github.com/fullstorydev/hauser at d83a97b8~1, `client/export.go`). Both are read.

        Raises SourceError if the answer is neither, and whatever Http.get_json raises.
        """
        params = {"start": str(after)}
        answer = self._http.get_json(f"{self._exports}/list", params, "list")
        try:
            return [_bundle(item) for item in _member(answer, "exports")]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise SourceError(
                f"{show(f'{self._exports}/list', params)} answered with JSON that is no list of "
                "bundles. FullStory may have changed the API: look for a newer version of this tap."
            ) from None

    def download_bundle(self, bundle: Bundle, sink: BinaryIO) -> None:
        """Write a bundle's file to `sink`, compressed or not, as FullStory sends it.

        FullStory allows two downloads a minute (developer.fullstory.com, "Get Event Export"); what
        goes beyond is answered with 429 and waited out. Raises as Http.download.
        """
        self._http.download(f"{self._exports}/get", {"id": bundle.id}, sink, "get")

    def create_export(self, order: Mapping[str, Any]) -> str:
        """Order an export, as "Create Segment Export" documents; the id of its operation.

        Each call starts one: see Http.post_json for when it is tried again. Raises SourceError if
        FullStory refuses the order, and whatever Http.post_json raises.
        """
        url = f"{self._api}/segments/v1/exports"
        return _text(self._http.post_json(url, order, "create"), "operationId", url)

    def operation(self, operation_id: str) -> Operation:
        """How an operation stands. A state that is left out is UNKNOWN, the documented default.

        Raises Gone if there is no such operation, and whatever Http.get_json raises.
        """
        url = f"{self._api}/operations/v1/{quote(operation_id, safe='')}"
        answer = self._http.get_json(url, {}, "operation", gone=GONE)
        results, percent = _value(answer, "results"), _value(answer, "estimatePctComplete")
        return Operation(
            state=str(_value(answer, "state") or "UNKNOWN").upper(),
            error=str(_value(answer, "errorDetails") or "")[:EXCERPT],
            percent=percent if isinstance(percent, int) else 0,
            result_id=_text(results, "searchExportId", url) if results else None,
        )

    def cancel_operation(self, operation_id: str) -> None:
        """Stop an export ("Cancel Operation"), tried once. Raises TapError if that fails."""
        url = f"{self._api}/operations/v1/{quote(operation_id, safe='')}/cancel"
        self._http.post_once(url, "cancel", CANCEL_TIMEOUT)

    def download_export(self, result_id: str, sink: BinaryIO) -> None:
        """Write the file of a finished export to `sink`, compressed, as FullStory sends it.

        The file lies at an address that typically lives for five minutes ("Get Export Results"), so
        it is asked for right before each try. When it runs out is not looked at: FullStory writes
        nine decimals there, and only the storage host knows anyway. The address opens the file by
        itself, and must not see the key.

        Raises Gone if the export has run out, and whatever Http.download_signed raises.
        """
        url = f"{self._api}/search/v1/exports/{quote(result_id, safe='')}/results"

        def locate() -> str:
            return _text(self._http.get_json(url, {}, "results", gone=GONE), "location", url)

        self._http.download_signed(locate, f"the file of {url}", sink, "storage")

    def prove_key(self) -> None:
        """Raises AccessError if FullStory does not accept the API key, and as Http.get_json."""
        self._http.get_json(f"{self._api}/me", {}, "me")

    def read(self, path: str, params: Mapping[str, str], endpoint: str) -> dict[str, Raw]:
        """The members of the JSON object that a GET of `path` answers with, each as it came.

        Halves of surrogate pairs, left where FullStory has cut a text, become U+FFFD. The
        connection stays open for the next call, until `hang_up`. Raises as Http.get.
        """
        url = f"{self._api}{path}"
        return self._http.get(url, params, endpoint, _decode_members, keep_alive=True)

    def hang_up(self) -> None:
        """Close the connections that `read` has left open."""
        self._http.hang_up()

    def role(self) -> str:
        """The role of the API key, such as USER, ARCHITECT or ADMIN, asked for once.

        developer.fullstory.com, "Me". Raises SourceError if the answer tells none, and as Http.get.
        """
        url = f"{self._api}/me"
        answer = self._http.get(url, {}, "me", msgspec.json.decode, tries=1)
        role = answer.get("role") if isinstance(answer, dict) else None
        if not isinstance(role, str):
            raise SourceError(f"{show(url, {})} does not say what role the API key has.")
        return role


def _value(answer: Any, name: str) -> Any:
    """A member of an answer. FullStory's older APIs document camelCase, and print snake_case in
    places; both are read.
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
        f"{url} answered with JSON that has no {name}. FullStory may have changed the API: look "
        "for a newer version of this tap."
    )


def _decode_members(body: bytes) -> dict[str, Raw]:
    body.decode()  # what stays undecoded may hold anything
    check_depth(body)
    try:
        return decode_members(body)
    except msgspec.DecodeError:
        repaired, repairs = repair_surrogates(body)
        if not repairs:
            raise
        LOGGER.warning("%d halves of surrogate pairs in an answer became U+FFFD", repairs)
        return decode_members(repaired)


def _bundle(item: Mapping[str, Any]) -> Bundle:
    keys = {key.lower(): value for key, value in item.items()}
    identity = keys["id"]
    if isinstance(identity, bool) or not isinstance(identity, (str, int)) or identity == "":
        raise ValueError
    start, end = from_epoch(_whole(keys["start"])), from_epoch(_whole(keys["stop"]))
    return Bundle(str(identity), start, end)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError
    return int(value)


def _member(answer: Mapping[str, Any], name: str) -> list[Any]:
    value = {key.lower(): value for key, value in answer.items()}[name]
    if not isinstance(value, list):
        raise TypeError
    return value
