"""Transport failures: errors of requests, urllib3 and the system, translated into the tap's own.

What the environment contributes, proxies and CA bundles, is named by its variable.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import requests
import urllib3.exceptions
from requests.utils import get_environ_proxies, select_proxy

from tap_fullstory.errors import NetworkError, SourceError
from tap_fullstory.fullstory.connections import MAX_HEADER_BYTES, MAX_HEADERS, TooManyHeaders
from tap_fullstory.fullstory.retry import MAX_BROKEN_TRIES, ResponseLost, TransientError

# In the order in which requests looks for them; the first that is set is the one it uses.
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
# http.client says no more than this of a proxy that does not connect (HTTPConnection._tunnel).
_TUNNEL_REFUSED = re.compile("Tunnel connection failed: ([0-9]{3})")


def translate(error: Exception, url: str, shown: str) -> NetworkError | SourceError:
    """Return the error to raise for one of requests, urllib3 or the system, which a request to
    `url` has met.
    """
    cause = deepest_cause(error)
    if broken := _broken_response(error, shown):
        return broken
    refused = _TUNNEL_REFUSED.match(str(cause))
    if refused and refused[1].startswith("4"):
        return proxy_refusal(url, f"HTTP {refused[1]}")
    if isinstance(error, requests.exceptions.InvalidSchema) and "SOCKS" in str(error):
        return NetworkError(
            f"{proxy_in_use(url) or 'The proxy'} is a SOCKS proxy, but SOCKS support is not "
            "installed. Install PySocks beside the tap (pip install pysocks), or use an HTTP proxy."
        )
    if isinstance(error, OSError):
        problem = _ca_bundle_problem(url) or _key_log_problem(cause)
        if problem is not None:
            return NetworkError(f"{problem} Correct or unset the variable.")
    if isinstance(cause, ssl.SSLError) and (failure := _tls_failure(error, cause, url, shown)):
        return failure
    invalid = (requests.exceptions.InvalidURL, urllib3.exceptions.LocationParseError, ValueError)
    if isinstance(error, invalid):
        return _invalid_url(error, shown)
    kind = TransientError if request_not_sent(error) else ResponseLost
    what = describe_error(error)
    if isinstance(error, requests.exceptions.ProxyError):
        what = f"the proxy {proxy_in_use(url) or ''}: {what}"
    return kind(what, where=shown)


def _broken_response(error: BaseException, shown: str) -> ResponseLost | None:
    """Return the error for a response whose headers cannot be used; None for any other error."""
    chain = list(_causes(error))
    if any(isinstance(each, TooManyHeaders) for each in chain):
        reason = (
            f"the response has more than {MAX_HEADERS} headers, or more than "
            f"{MAX_HEADER_BYTES >> 10} kB of them"
        )
    elif any(isinstance(each, urllib3.exceptions.InvalidHeader) for each in chain):
        reason = "the response has two Content-Length headers that differ"
    else:
        return None
    failure = SourceError(
        f"{shown} cannot be read: {reason}. Check the URL in the config and anything between here "
        "and FullStory, such as a proxy."
    )
    return ResponseLost(reason, where=shown, failure=failure, max_tries=MAX_BROKEN_TRIES)


def proxy_refusal(url: str, status: str) -> NetworkError:
    """Return the error for a proxy that answers with `status` instead of connecting to `url`."""
    return NetworkError(
        f"The proxy {proxy_in_use(url) or ''} refuses to connect to {urlsplit(url).hostname}: "
        f"{status}. Check the proxy, and its user name and password."
    )


def _tls_failure(
    error: Exception, cause: ssl.SSLError, url: str, shown: str
) -> NetworkError | None:
    """Return the error for a TLS handshake that would fail again; None if it may not."""
    host = urlsplit(url).hostname
    if isinstance(cause, ssl.SSLCertVerificationError):
        variable, path = _ca_bundle()
        trusted = (
            f"It was checked against {path} (from {variable}); for a directory, run `openssl "
            "rehash` on it first. "
            if variable
            else ""
        )
        return NetworkError(
            f"The certificate of {host} cannot be trusted ({cause.verify_message}). {trusted}Check "
            "the URL, the clock, and the proxy's certificate (REQUESTS_CA_BUNDLE)."
        )
    if cause.reason not in _NOT_TLS:
        return None
    if isinstance(error, requests.exceptions.ProxyError):
        return NetworkError(
            f"The proxy {proxy_in_use(url) or ''} does not speak TLS. If it is an HTTP proxy, as "
            "most are, begin its URL with http:// in the variable."
        )
    return NetworkError(
        f"{shown}: {host} does not speak TLS on this port. Check the URL in the config, and the "
        "proxy."
    )


def invalid_proxy(url: str) -> NetworkError | None:
    """Return the error for a proxy whose URL is not valid; None if it is, or there is none."""
    if (proxy := proxy_in_use(url)) and not _is_valid_proxy(_environment_proxy(url)):
        return NetworkError(f"The proxy {proxy} is not a valid URL. Correct the variable.")
    return None


def _invalid_url(error: Exception, shown: str) -> SourceError:
    return SourceError(
        f"{shown} is not a valid URL ({type(error).__name__}). Check data_export_url and api_url "
        "in the config."
    )


def _ca_bundle() -> tuple[str, str]:
    """Return the environment variable that names a CA bundle, and its value, or two empty texts."""
    found = ((name, os.environ.get(name, "")) for name in _CA_VARIABLES)
    return next(((name, path) for name, path in found if path), ("", ""))


def _ca_bundle_problem(url: str) -> str | None:
    """Say which environment variable names a CA bundle that cannot be used for `url`, and why;
    None if it can be, or none is named.
    """
    variable, path = _ca_bundle()
    if not path or urlsplit(url).scheme != "https":
        return None
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        folder = Path(path).is_dir()
        context.load_verify_locations(**{"capath" if folder else "cafile": path})
    except ssl.SSLError:
        reason = "it has no certificate in PEM form"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
    else:
        return None
    return f"The CA bundle {path} (from {variable}) cannot be used: {reason}."


def _key_log_problem(cause: BaseException) -> str | None:
    """Say why the file to which TLS secrets are to be logged cannot be used, if that is `cause`.

    urllib3 gives its path to OpenSSL with each new connection.
    """
    path = os.environ.get("SSLKEYLOGFILE")
    if not path or not isinstance(cause, OSError) or cause.filename != path:
        return None
    return f"The file {path} (from SSLKEYLOGFILE) cannot be written: {cause.strerror}."


def environment_in_use(url: str) -> list[str]:
    """Return what the environment contributes to requests to `url`: a proxy, a CA bundle.

    Raises NetworkError if it cannot be used.
    """
    if problem := _ca_bundle_problem(url):
        raise NetworkError(f"{problem} Correct or unset the variable.")
    if (invalid := invalid_proxy(url)) is not None:
        raise invalid
    variable, path = _ca_bundle()
    bundle = f"the CA bundle {path} (from {variable})" if variable else None
    proxy = proxy_in_use(url)
    return [found for found in (proxy and f"the proxy {proxy}", bundle) if found]


def proxy_in_use(url: str) -> str | None:
    """Name the proxy that the environment gives for `url`, with its variable and without its
    password; None if it gives none.
    """
    proxy = _environment_proxy(url)
    if not proxy:
        return None
    names = [f"{urlsplit(url).scheme}_proxy", "all_proxy"]
    spellings = [spelling for name in names for spelling in (name, name.upper())]
    variable = next((name for name in spellings if os.environ.get(name, "").strip()), None)
    shown = _without_password(proxy)
    return f"{variable} ({shown})" if variable else shown


def proxies_for(url: str) -> dict[str, str]:
    """Return the proxies that the environment gives for `url`, by scheme, as requests takes them:
    without the whitespace that a line break at the end of a value leaves around it.
    """
    proxies = {scheme: proxy.strip() for scheme, proxy in getproxies().items()}
    no_proxy = proxies.pop("no", "")
    changed = no_proxy if no_proxy != getproxies().get("no", "") else None
    if not get_environ_proxies(url, no_proxy=changed):
        proxies = {}
    # An empty one keeps requests from reading the variable itself.
    found = {scheme: proxy or proxies.get("all", "") for scheme, proxy in proxies.items()}
    return found if changed is None else {**found, "no_proxy": changed}


def _environment_proxy(url: str) -> str:
    try:
        return select_proxy(url, proxies_for(url)) or ""
    except ValueError:
        return ""


def _is_valid_proxy(url: str) -> bool:
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        host = parts.hostname or ""
        host.encode("idna")
        valid = bool(host) and not re.search(r"[\s\"']", host)
        return valid and parts.port != 0 and parts.scheme in _PROXY_SCHEMES
    except ValueError:
        return False


def _without_password(proxy: str) -> str:
    before, at, host = proxy.rpartition("@")
    if at:
        scheme = before.partition("//")[0] + "//" if "//" in before else ""
        return f"{scheme}***@{host}"
    # `name:password`, perhaps, whose host has been forgotten.
    return re.sub(r":(?![0-9]*/*$)[^/]*/*$", ":***", proxy)


def request_not_sent(error: BaseException) -> bool:
    """Tell whether the connection was never established, so that the server has seen nothing."""
    never = (
        requests.ConnectTimeout,
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
    )
    chain = list(_causes(error))
    return any(isinstance(each, never) for each in chain) or bool(
        _TUNNEL_REFUSED.match(str(chain[-1]))
    )


def deepest_cause(error: BaseException) -> BaseException:
    """Return the error that requests and urllib3 have wrapped in theirs."""
    return list(_causes(error))[-1]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error`, then what it wraps, and so on."""
    seen: set[int] = set()
    inner: object = error
    while isinstance(inner, BaseException) and id(inner) not in seen:
        seen.add(id(inner))
        yield inner
        # urllib3 presents a refused connection as a kind of time-out; its cause says what it was.
        wrapped = next((arg for arg in inner.args if isinstance(arg, BaseException)), None)
        inner = getattr(inner, "reason", wrapped) or inner.__cause__


def describe_error(error: BaseException) -> str:
    """Say what went wrong, without URLs: the messages of requests and urllib3 quote queries."""
    deepest = deepest_cause(error)
    if any(isinstance(each, urllib3.exceptions.DecodeError) for each in _causes(error)):
        return "the response is not valid gzip"
    if isinstance(deepest, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)):
        return "time-out"
    if isinstance(deepest, ssl.SSLError):
        return f"TLS failed ({deepest.reason or 'no reason given'})"
    if refused := _TUNNEL_REFUSED.match(str(deepest)):
        return f"it returned HTTP {refused[1]} instead of connecting"
    name = type(deepest).__name__
    return getattr(deepest, "strerror", None) or _DESCRIPTIONS.get(name, name)


_DESCRIPTIONS = {
    "BadStatusLine": "the response is not HTTP",
    "IncompleteRead": "the response broke off",
    "InvalidChunkLength": "the response broke off",
    "RemoteDisconnected": "the connection was closed without a response",
    "TooManyInterimResponses": "endless interim (1xx) responses",
}
