"""What a network, a proxy or a CA bundle does wrong: what the tap retries, and what it says."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import requests
from faults import bundle, events, record
from raw_server import CERTIFICATE, TLS_ALERT, raw_server, response
from running import Run, counted, run_tap

from tap_fullstory.errors import NetworkError, SourceError
from tap_fullstory.fullstory.session import HttpSession
from tap_fullstory.sandbox import Sandbox

# A reserved name: the tap must not get further than the proxy (RFC 6761, 6.4).
HOST = "https://export.invalid"
CONFIG = {"api_key": "na1.some-key", "start_date": "2026-06-01T00:00:00Z", "data_export_url": HOST}
NO_BUNDLES = response({"exports": []})


VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def no_proxy_and_no_ca_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def environment(**variables: str) -> dict[str, str]:
    """The environment of a tap that uses a proxy even for this machine."""
    return {"NO_PROXY": "", "no_proxy": "", **variables}


@pytest.fixture
def http() -> Iterator[HttpSession]:
    """A session that does not wait between its tries."""
    with HttpSession("na1.some-key", "agent", 9, lambda _: None) as http:
        yield http


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def change(**variables: str) -> None:
        for name, value in environment(**variables).items():
            monkeypatch.setenv(name, value)

    return change


def tries(run: Run) -> int:
    return run.log.count("; try ")


# --- no server ---


def test_refused_connection_is_retried_then_named(http, environ) -> None:
    environ()
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/list"
        with pytest.raises(NetworkError, match="failed 8 times, most recently: Connection refused"):
            http.get_json(url, {"start": "7"}, "list")


def test_any_other_error_of_the_system_has_its_own_words(http, requests_mock) -> None:
    requests_mock.get(f"{HOST}/list", exc=OSError(24, "Too many open files"))
    with pytest.raises(NetworkError, match="failed 8 times, most recently: Too many open files"):
        http.get_json(f"{HOST}/list", {}, "list")
    requests_mock.get(f"{HOST}/list", exc=requests.exceptions.InvalidHeader("x"))
    with pytest.raises(SourceError, match=r"is not a valid URL \(InvalidHeader\)"):
        http.get_json(f"{HOST}/list", {}, "list")


def test_a_response_that_is_not_http_is_named(http, environ) -> None:
    environ()
    with (
        raw_server(b"220 mail.example.com ESMTP\r\n") as server,
        pytest.raises(NetworkError, match="most recently: the response is not HTTP"),
    ):
        http.get_json(f"{server.url}/list", {}, "list")


# --- TLS ---


def test_tls_alert_is_retried_and_plain_http_is_named() -> None:
    with raw_server(TLS_ALERT, b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        url = server.url.replace("http", "https")
        run = run_tap({**CONFIG, "data_export_url": url}, env=environment())
    assert run.code == 1
    (warning,) = run.logged("WARNING")
    assert warning.startswith(f"{url}/api/v1/export/list?start=")
    assert ": TLS failed (" in warning
    assert "INTERNAL_ERROR); try 2 of 8" in warning
    assert "127.0.0.1 does not speak TLS on this port" in run.critical


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_certificate_in_the_named_ca_bundle_is_trusted(variable: str) -> None:
    with raw_server(NO_BUNDLES, tls=True) as server:
        run = run_tap(server.config(), env=environment(**{variable: str(CERTIFICATE)}))
    assert run.code == 0, run.log


def test_an_untrusted_certificate_is_named_and_not_retried() -> None:
    with raw_server(NO_BUNDLES, tls=True) as server:
        run = run_tap(server.config(), env=environment())
    assert (run.code, tries(run)) == (1, 0)
    assert "The certificate of 127.0.0.1 cannot be trusted (self" in run.critical


CA_BUNDLES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "missing.pem", "No such file or directory"),
    "unreadable": (lambda folder: folder / "empty.pem" / "x", "Not a directory"),
    "empty": (lambda folder: folder / "empty.pem", "it has no certificate in PEM form"),
    "not-pem": (lambda folder: folder / "text.pem", "it has no certificate in PEM form"),
}


@pytest.mark.parametrize("kind", CA_BUNDLES)
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_unusable_ca_bundle_is_named_with_its_variable(
    variable: str, kind: str, tmp_path: Path
) -> None:
    (tmp_path / "empty.pem").touch()
    (tmp_path / "text.pem").write_text("certificates are elsewhere\n")
    locate, reason = CA_BUNDLES[kind]
    path = locate(tmp_path)
    with raw_server(NO_BUNDLES, tls=True) as server:
        run = run_tap(server.config(), env=environment(**{variable: str(path)}))
    assert (run.code, tries(run)) == (1, 0)
    assert f"The CA bundle {path} (from {variable}) cannot be used: {reason}." in run.critical


@pytest.mark.parametrize(
    ("name", "reason"), [("missing/keys", "No such file or directory"), ("", "Is a directory")]
)
def test_a_key_log_that_cannot_be_written_is_named_with_its_variable(
    name: str, reason: str, tmp_path: Path
) -> None:
    path = str(tmp_path / name)
    with raw_server(NO_BUNDLES, tls=True) as server:
        given = environment(REQUESTS_CA_BUNDLE=str(CERTIFICATE), SSLKEYLOGFILE=path)
        run = run_tap(server.config(), env=given)
    assert (run.code, tries(run)) == (1, 0)
    assert f"The file {path} (from SSLKEYLOGFILE) cannot be written: {reason}." in run.critical


def test_a_folder_without_certificates_is_named_with_its_variable(tmp_path: Path) -> None:
    with raw_server(NO_BUNDLES, tls=True) as server:
        run = run_tap(server.config(), env=environment(CURL_CA_BUNDLE=str(tmp_path)))
    assert (run.code, tries(run)) == (1, 0)
    assert "cannot be trusted" in run.critical
    assert (
        f"It was checked against {tmp_path} (from CURL_CA_BUNDLE); for a directory" in run.critical
    )


def test_a_ca_bundle_that_is_not_used_is_not_blamed(tmp_path: Path) -> None:
    """REQUESTS_CA_BUNDLE has precedence, and http needs none."""
    missing = str(tmp_path / "missing.pem")
    with raw_server(response(b"", "403 No"), tls=True) as server:
        env = environment(REQUESTS_CA_BUNDLE=str(CERTIFICATE), CURL_CA_BUNDLE=missing)
        assert "HTTP 403" in run_tap(server.config(), env=env).critical
    with raw_server(b"", b"", response(b"", "403 No")) as server:
        run = run_tap(server.config(), env=environment(REQUESTS_CA_BUNDLE=missing))
    assert "HTTP 403" in run.critical
    assert tries(run) == 2


# --- proxies ---


def test_a_proxy_that_refuses_is_named_without_its_password() -> None:
    refusal = response(b"", "407 Sign in\x1b[31m")
    with raw_server(refusal) as proxy:
        url = f"http://me:s3cret@127.0.0.1:{proxy.port}"
        run = run_tap(CONFIG, env=environment(HTTPS_PROXY=url))
        # Over http the proxy answers in the server's place.
        plain = {**CONFIG, "data_export_url": "http://127.0.0.1:9"}
        over_http = run_tap(plain, env=environment(http_proxy=url))
    for each, host, variable in (
        (run, "export.invalid", "HTTPS_PROXY"),
        (over_http, "127.0.0.1", "http_proxy"),
    ):
        assert (each.code, tries(each)) == (1, 0)
        assert (
            f"The proxy {variable} (http://***@127.0.0.1:{proxy.port}) refuses to connect to "
            f"{host}: HTTP 407. Check the proxy" in each.critical
        )
        assert "s3cret" not in each.log
        assert "\x1b" not in each.log


def test_a_proxy_that_fails_is_retried_and_named(http, environ) -> None:
    with raw_server(response(b"", "503 Busy")) as proxy:
        environ(HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(NetworkError) as failure:
            http.get_json(f"{HOST}/list", {}, "list")
        assert len(proxy.requests) == 8
    assert (
        f"most recently: the proxy HTTPS_PROXY (http://127.0.0.1:{proxy.port}): it returned HTTP "
        "503 instead of connecting" in str(failure.value)
    )


def test_a_request_that_no_proxy_has_passed_on_is_not_taken_for_lost(http, environ) -> None:
    with raw_server(response(b"", "503 Busy")) as proxy:
        for url in (f"http://127.0.0.1:{proxy.port}", "http://127.0.0.1:1"):
            environ(HTTPS_PROXY=url)
            with pytest.raises(NetworkError, match="failed 8 times"):
                http.post_json(f"{HOST}/segments/v1/exports", {}, "create")


def test_a_proxy_that_does_not_speak_tls_is_named(http, environ) -> None:
    with raw_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as proxy:
        environ(HTTPS_PROXY=f"https://127.0.0.1:{proxy.port}")
        with pytest.raises(NetworkError, match=r"The proxy HTTPS_PROXY .* does not speak TLS"):
            http.get_json(f"{HOST}/list", {}, "list")


def test_whitespace_around_a_proxy_variable_is_dropped(http, environ) -> None:
    with raw_server(response(b"{}")) as proxy:
        environ(http_proxy=f" http://127.0.0.1:{proxy.port}\n")
        assert http.get_json("http://export.invalid/list", {}, "list") == {}
        assert proxy.requests[0].startswith(b"GET http://export.invalid/list ")
    with raw_server(response(b"{}")) as server:
        environ(http_proxy="http://127.0.0.1:1", NO_PROXY="127.0.0.1\n", no_proxy="127.0.0.1\n")
        assert http.get_json(f"{server.url}/list", {}, "list") == {}
        environ(http_proxy=" \n", all_proxy="\t")
        assert http.get_json(f"{server.url}/list", {}, "list") == {}


def test_a_connection_is_closed_unless_more_calls_follow(http, environ) -> None:
    environ()
    with raw_server(response(b"{}")) as server:
        http.get_json(f"{server.url}/list", {}, "list")
        http.get(f"{server.url}/v2/users", {}, "users", bytes, keep_alive=True)
        closed, kept = server.requests
    assert b"\r\nConnection: close\r\n" in closed
    assert b"close" not in kept


def test_headers_are_limited_by_number_and_by_size(http, environ) -> None:
    environ()
    few, many = [f"X-{number}: y" for number in range(998)], ["X: y"] * 1000
    long, longer = [f"X: {'y' * 200_000}"], [f"X-{n}: {'y' * 90_000}" for n in range(3)]
    for headers, is_taken in ((few, True), (long, True), (many, False), (longer, False)):
        with raw_server(response(b"{}", "200 OK", *headers)) as server:
            if is_taken:
                assert http.get_json(f"{server.url}/list", {}, "list") == {}
                continue
            with pytest.raises(SourceError, match="more than 1000 headers, or more than 256 kB"):
                http.get_json(f"{server.url}/list", {}, "list")


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("http://", "http://"),
        ("http://proxy:port", "http://proxy:***"),
        ("http://me:s3cret", "http://me:***"),
        ("http://me:s3cret@", "http://***@"),
        ("http://me:s3cret@proxy:99999", "http://***@proxy:99999"),
        ("ftp://proxy:1", "ftp://proxy:1"),
        ("http://pro xy:1", "http://pro xy:1"),
        ('"http://proxy:1"', '"http://proxy:***'),
        ("http://a..b:1", "http://a..b:1"),
        ("http://[::1", "http://[:***"),
    ],
)
def test_a_proxy_that_is_not_a_valid_url_is_named(proxy: str, shown: str) -> None:
    run = run_tap(CONFIG, env=environment(HTTPS_PROXY=proxy))
    assert (run.code, tries(run)) == (1, 0)
    message = f"The proxy HTTPS_PROXY ({shown}) is not a valid URL. Correct the variable."
    assert message in run.critical
    assert "s3cret" not in run.log


def test_a_socks_proxy_without_support_is_named() -> None:
    run = run_tap(CONFIG, env=environment(ALL_PROXY="socks5://127.0.0.1:1"))
    assert (run.code, tries(run)) == (1, 0)
    assert "ALL_PROXY (socks5://127.0.0.1:1) is a SOCKS proxy" in run.critical
    assert "pip install pysocks" in run.critical


# --- interim responses ---


def test_interim_responses_are_passed_over_on_a_kept_connection(http, environ) -> None:
    environ()
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3
    answers = [interim + response(b'{"a": 1}'), response(b'{"a": 2}')]
    with raw_server(*answers, keep_alive=True) as server:
        for number in (1, 2):
            body = http.get(f"{server.url}/v2/users", {}, "users", bytes, keep_alive=True)
            assert body == b'{"a": %d}' % number


def test_interim_responses_without_end_are_named(http, environ) -> None:
    environ()
    with (
        raw_server(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 25) as server,
        pytest.raises(NetworkError, match="endless interim"),
    ):
        http.get_json(f"{server.url}/list", {}, "list")


# --- which URL failed ---


@pytest.mark.parametrize("fault", ["503", "reset", "cut,after=9", "429,retry-after=1"])
def test_a_failure_after_a_redirect_names_where_it_led(fault: str) -> None:
    with Sandbox([bundle(0, events(9))], redirect=True, faults=[f"storage:{fault}"]) as sandbox:
        run = run_tap(sandbox.config())
        assert counted(run.records) == counted(map(record, events(9)))
    level = "INFO" if fault.startswith("429") else "WARNING"
    (line,) = [line for line in run.logged(level) if "; try" in line]
    assert line.startswith(f"{sandbox.storage_url}/")
    assert "?" not in line


def statuses(run: Run) -> list[tuple[str, int, str]]:
    lines = [line.partition("METRIC: ")[2] for line in run.logged("INFO") if "METRIC" in line]
    metrics: list[Mapping[str, Mapping[str, object]]] = [json.loads(line) for line in lines]
    return [
        (tags["endpoint"], tags["http_status_code"], tags["status"])  # type: ignore[misc]
        for tags in (metric["tags"] for metric in metrics)
        if "endpoint" in tags and "http_status_code" in tags
    ]


def test_the_metric_of_an_error_says_failed_and_a_request_costs_one_line() -> None:
    with Sandbox([bundle(0, events(9))], faults=["list:503", "get:403"]) as sandbox:
        run = run_tap(sandbox.config())
    assert statuses(run) == [
        ("list", 503, "failed"),
        ("list", 200, "succeeded"),
        ("get", 403, "failed"),
    ]
    assert not any(line.startswith("GET") for line in run.logged("INFO"))
