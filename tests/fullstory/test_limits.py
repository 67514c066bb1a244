"""What an answer may cost: its size, unpacked or not, and how deep it is nested."""

from __future__ import annotations

import gzip
import re
import sys

import pytest
from faults import loud
from raw_server import Answer, endless, raw_server, response
from running import Run, discover, run_tap

from tap_fullstory.fullstory.responses import MAX_ANSWER_BYTES
from tap_fullstory.sandbox import Fault, Sandbox

MB = 1024 * 1024
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")


def peak_memory(run: Run) -> float:
    """In MB, as tests/helpers/loud has a tap say at its end."""
    (kilobytes,) = re.findall(r"^DEBUG VmHWM:\s+(\d+) kB$", run.log, re.MULTILINE)
    return int(kilobytes) / 1024


def large(status: str, *headers: str) -> Answer:
    """A response that does not end until the client hangs up."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {1 << 40}", *headers, "", ""]
    return endless("\r\n".join(head).encode(), b"[" + b" " * 65_535)


def packed(levels: int) -> Answer:
    """A small response that unpacks to more than an answer may have."""
    body = b" " * (MAX_ANSWER_BYTES + MB)
    for _ in range(levels):
        body = gzip.compress(body, 6)
    codings = ", ".join(["gzip"] * levels)
    return response(body, "200 OK", f"Content-Encoding: {codings}")


@linux
@pytest.mark.parametrize(
    ("answer", "words", "megabytes"),
    [
        (large("400 Bad Request"), "HTTP 400 from http", 100),
        (large("403 Forbidden"), "HTTP 403 from http", 100),
        (large("200 OK"), "returned more than 64 MB", 250),
        (packed(1), "returned more than 64 MB", 250),
        (packed(2), "returned more than 64 MB", 250),
    ],
    ids=["400", "403", "list", "gzip", "gzip-in-gzip"],
)
def test_memory_is_bounded_whatever_is_answered(answer: Answer, words: str, megabytes: int) -> None:
    with raw_server(answer) as server:
        run = run_tap(server.config(), env={**loud(), "NO_PROXY": "127.0.0.1"})
    assert run.code == 1
    assert words in run.critical
    assert peak_memory(run) < megabytes


@pytest.mark.parametrize("deep", [501, 900, 100_000])
def test_an_answer_that_is_nested_too_deeply_is_refused(deep: int) -> None:
    body = b'{"endpoints": [' + b"[" * deep + b"]" * deep + b"]}"
    fault = Fault("status", "webhook_endpoints", status=200, body=body)
    with Sandbox([], faults=[fault]) as sandbox:
        catalog = discover(sandbox.config())
        for entry in catalog["streams"]:
            wanted = entry["tap_stream_id"] == "webhook_endpoints"
            entry["metadata"][0]["metadata"]["selected"] = wanted
        run = run_tap(sandbox.config(), catalog=catalog)
    assert run.code == 1
    assert f"{sandbox.url}/webhooks/v1/endpoints?" in run.critical
    assert f"(nested deeper than 500 levels; application/json, {len(body)} bytes). Check" in (
        run.critical
    )
