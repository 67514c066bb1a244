"""Ways for the sandbox to misbehave, declared rather than programmed.

A `Fault` says which requests it takes and what becomes of their answers. `parse_fault` reads the
form that the command line takes; `FAULT_SYNTAX` describes it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from textwrap import wrap

from .wire import Answer, Delivery, Request, error_answer, part_of, size_of

# By the names of the streams that taps make of them.
REST_ENDPOINTS = tuple(
    """
    users sessions segments webhook_endpoints webhook_event_types webhook_event_subcategories
    organization_quotas extraction_rules privacy_elements operations
    block_rules block_rules_history domain_settings domain_settings_history
    recording_features recording_features_history geo_settings geo_settings_history
    privacy_settings privacy_settings_history target_rule target_rule_history
    """.split()
)
EXPORT_ENDPOINTS = ("create", "operation", "results", "cancel")
ENDPOINTS = ("list", "get", *EXPORT_ENDPOINTS, "me", "datasets", "storage", *REST_ENDPOINTS, "any")

KINDS = {
    "status": "answers `status` with `body`; a number as KIND is short for it",
    "html": "answers 200 (or `status`) with a web page where JSON should be",
    "reset": "resets the connection before the answer",
    "silence": "says nothing at all for `seconds`, then closes the connection",
    "cut": "declares the whole length, sends `after` body bytes, then `end`s: close or reset",
    "chunked": "declares no length, sends `after` body bytes, then `end`s: close, reset, or clean",
    "stall": "sends `after` body bytes, then nothing for `seconds`, then the rest",
    "slow": "sends `rate` bytes a second",
    "flip": "sends the body with one bit of byte `after` wrong",
    "mislabelled": "sends the body in chunks, with `length` as its Content-Length",
    "lengths": "sends two Content-Lengths, the second of `length`",
    "unpacked": "says Content-Encoding: gzip of a body that is not gzipped",
    "headers": "sends `count` headers more",
    "clock": "sends a Date that is `seconds` off",
    "empty": "answers 200 with an empty body",
    "null": "answers 200 with the JSON null",
    "object": "answers 200 with a JSON object that is not what was asked for",
    "interim": "sends 103 Early Hints before the answer",
    "truncate": "sends only the first `after` bytes as though they were the whole file",
    "redirect": "sends to `location` (`loop`: back to itself) with `status`, 302 by default",
    "expired": "storage: this location is and stays expired, a fresh one works; results: this "
    "export is",
    "failed": "operation: this export has failed",
}

FAULT_SYNTAX = "\n".join(
    [
        "SPEC of --fault is [ENDPOINT[/BUNDLE]:]KIND[,NAME=VALUE...]",
        "",
        "ENDPOINT: any (the default), list, get, me, datasets, storage, or a REST API:",
        *wrap(", ".join(REST_ENDPOINTS), 78, initial_indent="  ", subsequent_indent="  "),
        "KIND:",
        *(f"  {kind:<12}{meaning}" for kind, meaning in KINDS.items()),
        "NAME: those quoted above, and",
        "  times       how many requests it takes, or `always`; default: 1",
        "  skip        how many requests it lets pass before; default: 0",
        "  retry-after sent as it is, or `date+SECONDS` for an HTTP date",
        "A negative `after` counts from the end of the body.",
        "",
        "Examples: get:503,times=2   get:429,retry-after=3   list:html",
        "          get/156453120048:cut,after=-8,times=always",
    ]
)

_PAGE = b"<!DOCTYPE html>\n<html><head><title>Sorry</title></head><body>Back soon.</body></html>\n"
_EXPIRED = (
    b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>ExpiredToken</Code>"
    b"<Message>The provided token has expired.</Message></Error>"
)


@dataclass(frozen=True)
class Fault:
    """What goes wrong (`kind`, a key of KINDS, where the other fields are explained), and when.

    It takes the first `times` requests (None: all of them) to `endpoint`, of `bundle` if given,
    after the first `skip` of these.
    """

    kind: str
    endpoint: str = "any"
    bundle: str | None = None
    skip: int = 0
    times: int | None = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    retry_after: str | int | None = None
    after: int = 0
    end: str = "close"
    seconds: float = 1
    rate: float = 1000
    location: str = "loop"
    length: int = 10
    count: int = 150

    def __post_init__(self) -> None:
        """Raises ValueError if a field's value means nothing."""
        if self.kind not in KINDS:
            raise ValueError(f"fault kind is {self.kind!r}, not one of {', '.join(KINDS)}")
        if self.endpoint not in ENDPOINTS:
            raise ValueError(f"endpoint is {self.endpoint!r}, not of {', '.join(ENDPOINTS)}")
        if self.kind == "failed" and self.endpoint != "operation":
            raise ValueError("a fault of kind failed is of the endpoint operation")
        if self.kind == "status" and self.status is None:
            raise ValueError("a fault of kind status needs its status")
        ends = ("close", "reset", "clean") if self.kind == "chunked" else ("close", "reset")
        if self.end not in ends:
            raise ValueError(f"end of {self.kind} is {self.end!r}, not of {', '.join(ends)}")

    def invalidates(self) -> bool:
        """Whether what was asked for is invalid from now on, as the usual answer then says."""
        return self.kind in ("expired", "failed")

    def alters(self) -> bool:
        """Whether the usual answer is sent `altered`; if not, another is sent `instead`."""
        return self.kind in ("truncate", "unpacked", "headers") or self.kind in _DELIVERIES

    def altered(self, answer: Answer) -> Answer:
        """What goes out of `answer`."""
        size = size_of(answer.body)
        place = min(self.after, size) if self.after >= 0 else max(0, size + self.after)
        if self.kind == "truncate":
            return replace(answer, body=part_of(answer.body, 0, place))
        if self.kind == "unpacked":
            return replace(answer, headers={**answer.headers, "Content-Encoding": "gzip"})
        if self.kind == "headers":
            more = {f"X-More-{number}": "x" for number in range(self.count)}
            return replace(answer, headers={**answer.headers, **more})
        return replace(answer, delivery=_DELIVERIES[self.kind](self, place))

    def instead(self, request: Request) -> Answer:
        """What goes out in place of an answer."""
        if self.kind == "reset":
            return Answer(0, {}, delivery=Delivery(refused=True, end="reset"))
        if self.kind == "silence":
            return Answer(0, {}, delivery=Delivery(refused=True, seconds=self.seconds))
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = _retry_after(str(self.retry_after))
        if self.kind == "html":
            headers = {"Content-Type": "text/html; charset=utf-8", **headers}
            return Answer(self.status or 200, headers, _PAGE if self.body is None else self.body)
        if self.kind in _BODIES:
            return Answer(200, {"Content-Type": "application/json", **headers}, _BODIES[self.kind])
        if self.kind == "expired":
            return Answer(403, {"Content-Type": "application/xml", **headers}, _EXPIRED)
        if self.kind == "redirect":
            location = request.target if self.location == "loop" else self.location
            # Its bytes as UTF-8, which a header line is not decoded as.
            as_sent = location.encode().decode("latin-1")
            return Answer(self.status or 302, {"Location": as_sent, **headers})
        status = self.status or 500
        if self.body is None:
            return error_answer(status, "sandbox_fault", f"fault: status {status}", headers)
        return Answer(status, {"Content-Type": "application/json", **headers}, self.body)


_BODIES = {"empty": b"", "null": b"null", "object": b'{"message": "try again later"}'}
# Each made of the fault and the place in the body that its `after` means.
_DELIVERIES: dict[str, Callable[[Fault, int], Delivery]] = {
    "cut": lambda fault, place: Delivery(cut=place, end=fault.end),
    "chunked": lambda fault, place: Delivery(cut=place, end=fault.end, chunked=True),
    "stall": lambda fault, place: Delivery(stall=place, seconds=fault.seconds),
    "slow": lambda fault, _: Delivery(rate=fault.rate),
    "flip": lambda _, place: Delivery(flip=place),
    "mislabelled": lambda fault, _: Delivery(chunked=True, length=fault.length),
    "lengths": lambda fault, _: Delivery(second_length=fault.length),
    "clock": lambda fault, _: Delivery(clock_seconds=fault.seconds),
    "interim": lambda *_: Delivery(interim=True),
}


class Faults:
    """The faults in force, in the order given. Thread-safe.

    A request is offered to one after the other; the first that takes it has it, and those behind
    do not count it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._waiting.append(_Waiting(fault, fault.skip, fault.times))

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def take(self, endpoint: str, bundle: str | None) -> Fault | None:
        with self._lock:
            for waiting in self._waiting:
                if waiting.takes(endpoint, bundle):
                    return waiting.fault
        return None


@dataclass
class _Waiting:
    fault: Fault
    skip: int
    times: int | None

    def takes(self, endpoint: str, bundle: str | None) -> bool:
        fault = self.fault
        if fault.endpoint not in ("any", endpoint) or fault.bundle not in (None, bundle):
            return False
        if self.times == 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


def parse_fault(spec: str) -> Fault:
    """The Fault that `spec` describes, see FAULT_SYNTAX. Raises ValueError if it is none."""
    where, colon, what = spec.partition(":")
    if not colon:
        where, what = "any", spec
    endpoint, _, bundle = where.partition("/")
    kind, *settings = what.split(",")
    fields: dict[str, object] = {"kind": kind, "endpoint": endpoint, "bundle": bundle or None}
    if kind.isdecimal():
        fields.update(kind="status", status=int(kind))
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in _VALUES:
            raise ValueError(
                f"{setting!r} in the fault {spec!r} is not NAME=VALUE with NAME one of "
                + ", ".join(_VALUES)
            )
        fields[name.replace("-", "_")] = _VALUES[name](value)
    return Fault(**fields)  # type: ignore[arg-type]  # _VALUES made each of its field's type


_VALUES: dict[str, Callable[[str], object]] = {
    "skip": int,
    "times": lambda text: None if text == "always" else int(text),
    "status": int,
    "body": str.encode,
    "retry-after": str,
    "after": int,
    "end": str,
    "seconds": float,
    "rate": float,
    "location": str,
    "length": int,
    "count": int,
}


def _retry_after(text: str) -> str:
    if not text.startswith("date+"):
        return text
    moment = datetime.now(timezone.utc) + timedelta(seconds=float(text.removeprefix("date+")))
    return format_datetime(moment, usegmt=True)
