"""HTTP over single answers: where the key goes, and what a status means."""

from __future__ import annotations

import re

import pytest
from singer import metrics
from single_answers import GET, HOST, KEY, LIST, ONE, download, listed

from tap_fullstory.errors import AccessError, SourceError, TapError
from tap_fullstory.fullstory.responses import BadRequest
from tap_fullstory.logs.metrics import configure_metrics

STORAGE = "https://storage.example.net/bucket/export.json.gz"
SIGNED = f"{STORAGE}?X-Goog-Signature=signed-secret"


# --- where the key goes ---


def test_a_netrc_file_is_not_read(http, requests_mock, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    requests_mock.get(GET, status_code=302, headers={"Location": SIGNED})
    requests_mock.get(STORAGE, content=b"[]")
    download(http)
    asked, redirected = requests_mock.request_history
    assert asked.headers["Authorization"] == f"Basic {KEY}"
    assert "Authorization" not in redirected.headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_storage_gets_no_key_and_is_named_without_its_query(http, requests_mock, log, status):
    requests_mock.get(GET, status_code=status, headers={"Location": SIGNED})
    requests_mock.get(STORAGE, content=b"[]")
    assert download(http) == b"[]"
    assert requests_mock.last_request.url == SIGNED
    assert "Authorization" not in requests_mock.last_request.headers
    assert f"DEBUG GET {STORAGE}" in log
    assert "signed-secret" not in str(log)


@pytest.mark.parametrize(
    ("location", "with_key"),
    [
        ("/elsewhere", True),
        (f"{HOST}:443/elsewhere", True),
        ("https://EXPORT.example.com/elsewhere", True),
        (f"{HOST}:8443/elsewhere", False),
        ("https://export.example.com.example.net/elsewhere", False),
        ("https://export.example.com@example.net/elsewhere", False),
        ("//example.net/elsewhere", False),
    ],
)
def test_the_key_goes_to_its_own_origin_alone(http, requests_mock, location, with_key):
    requests_mock.get(LIST, status_code=302, headers={"Location": location})
    requests_mock.get(re.compile("/elsewhere$"), json=ONE)
    listed(http)
    assert ("Authorization" in requests_mock.last_request.headers) is with_key


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://export.example.com/elsewhere", "from https to http"),
        ("http://storage.example.net/elsewhere", "from https to http"),
        ("ftp://storage.example.net/elsewhere", "not a valid URL"),
        ("https://[::1/elsewhere", "not a valid URL"),
        ("https://storage.example.net:port/elsewhere", "not a valid URL"),
        (LIST, "redirects more than 10 times"),
    ],
)
def test_unsafe_and_endless_redirects_are_refused(http, requests_mock, location, words):
    requests_mock.get(LIST, status_code=302, headers={"Location": location})
    with pytest.raises(SourceError, match=words):
        listed(http)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b'{"exports": [', b"\xff\xfe", b"[" * 100_000, b"NaN"],
    ids=["empty", "html", "truncated", "not-utf-8", "deep", "nan"],
)
def test_an_answer_that_is_not_json_is_refused(http, requests_mock, body):
    requests_mock.get(LIST, content=body)
    with pytest.raises(SourceError, match="a body that is not the expected JSON") as failure:
        listed(http, 7)
    assert f"{LIST}?start=7 returned HTTP 200" in str(failure.value)
    assert len(str(failure.value)) < 800


# --- what refusals mean ---

MEANINGS = [
    (401, AccessError, "does not accept the API key"),
    (403, AccessError, "level Architect or higher"),
    (404, AccessError, "data_export_url"),
    (410, AccessError, "closed this API"),
    (400, BadRequest, "HTTP 400"),
    (405, SourceError, "HTTP 405"),
    (204, SourceError, "HTTP 204"),
    (304, SourceError, "HTTP 304"),
]


@pytest.mark.parametrize(("status", "kind", "words"), MEANINGS)
@pytest.mark.parametrize("call", ["list", "get"])
def test_each_refusal_says_what_it_means(http, requests_mock, waits, status, kind, words, call):
    requests_mock.get({"list": LIST, "get": GET}[call], status_code=status, text=f"no: {KEY}")
    with pytest.raises(TapError) as failure:
        listed(http, 7) if call == "list" else download(http)
    assert type(failure.value) is kind
    assert failure.value.exit_code == 1
    assert words in str(failure.value)
    assert f"HTTP {status} from {HOST}/api/v1/export/{call}?" in str(failure.value)
    assert KEY not in str(failure.value)
    assert (waits, requests_mock.call_count) == ([], 1)


def test_the_text_of_an_undocumented_refusal_is_quoted(http, requests_mock):
    requests_mock.get(LIST, status_code=400, text=f"start\n  is   wrong {KEY} {'x' * 1000}")
    with pytest.raises(SourceError, match=r"'start is wrong \*\*\* x{181}'"):
        listed(http, 7)


@pytest.mark.parametrize("status", [401, 404, 410, 418])
def test_a_refusal_of_storage_is_not_blamed_on_the_key(http, requests_mock, status):
    requests_mock.get(GET, status_code=302, headers={"Location": SIGNED})
    requests_mock.get(STORAGE, status_code=status, text="<Error>of storage</Error>")
    with pytest.raises(SourceError) as failure:
        download(http)
    assert f"HTTP {status} from {STORAGE}" in str(failure.value)
    assert "signed-secret" not in str(failure.value)
    assert "api_key" not in str(failure.value)


@pytest.mark.parametrize("status", [400, 403])
def test_an_expired_signed_url_is_requested_again(http, requests_mock, waits, status):
    requests_mock.get(GET, status_code=302, headers={"Location": SIGNED})
    requests_mock.get(STORAGE, [{"status_code": status}, {"content": b"[]"}])
    assert download(http) == b"[]"
    asked = [request.hostname for request in requests_mock.request_history]
    assert asked == 2 * ["export.example.com", "storage.example.net"]


# --- the log ---


def test_no_metric_reconfigures_logging(http, requests_mock, monkeypatch):
    """Meanwhile what other threads log is lost, and the end of the run may hang."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("logging.config.fileConfig", fail)
    monkeypatch.setattr(metrics, "get_logger", metrics.get_logger)  # as it was, after this test
    configure_metrics()
    requests_mock.get(LIST, json=ONE)
    with metrics.record_counter("events"):
        assert listed(http) == ONE
