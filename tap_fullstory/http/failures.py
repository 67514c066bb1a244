"""Transport failures: errors of requests, urllib3 and the system, translated into the tap's own.

What the environment contributes, proxies and CA bundles, is named by its variable.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.utils import get_environ_proxies, select_proxy

from tap_fullstory.errors import NetworkError, SourceError
from tap_fullstory.http.retry import ResponseLost, TransientError

# In the order in which requests looks for them, then OpenSSL's own.
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")

_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")


def translate(error: Exception, url: str, shown: str) -> NetworkError | SourceError:
    """Return the error to raise for one of requests, urllib3 or the system."""
    cause = deepest_cause(error)
    host = urlsplit(url).hostname
    if isinstance(error, requests.exceptions.InvalidSchema) and "SOCKS" in str(error):
        return NetworkError(
            f"{proxy_in_use(url) or 'The proxy'} is a SOCKS proxy, for which the tap's environment "
            "lacks support: install PySocks beside it (pip install pysocks), or use an HTTP proxy."
        )
    # http.client says no more than this text (HTTPConnection._tunnel).
    _, refused, status = str(cause).partition("Tunnel connection failed: ")
    if refused and status.startswith("4"):
        return proxy_refusal(url, f"HTTP {status}")
    if (problem := ca_bundle_problem()) is not None and isinstance(error, OSError):
        return NetworkError(f"{problem} Correct or unset the variable.")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return NetworkError(
            f"The certificate of {host} cannot be trusted ({cause.verify_message}). Check the URL, "
            "the clock, and the proxy's certificate (REQUESTS_CA_BUNDLE)."
        )
    if isinstance(cause, ssl.SSLError) and cause.reason in _NOT_TLS:
        return NetworkError(
            f"{shown}: {host} does not speak TLS on this port. Check the URL in the config, and "
            "the proxy."
        )
    invalid = (requests.exceptions.InvalidProxyURL, requests.exceptions.InvalidURL)
    if isinstance(error, (*invalid, urllib3.exceptions.LocationParseError, ValueError)):
        if (proxy := proxy_in_use(url)) and not _is_valid_url(_environment_proxy(url)):
            return NetworkError(f"The proxy {proxy} is not a valid URL. Correct the variable.")
        return SourceError(
            f"{shown} is not a valid URL ({type(error).__name__}). Check data_export_url and "
            "api_url in the config."
        )
    kind = TransientError if request_not_sent(error) else ResponseLost
    return kind(describe_error(error), where=shown)


def proxy_refusal(url: str, status: str) -> NetworkError:
    """Return the error for a proxy that answers with `status` instead of connecting to `url`."""
    return NetworkError(
        f"The proxy {proxy_in_use(url) or ''} refuses to connect to {urlsplit(url).hostname}: "
        f"{status}. Check the proxy, and its user name and password."
    )


def ca_bundle_problem() -> str | None:
    """Say which environment variable names a CA bundle that cannot be used, and why; None if all
    are usable, or none is set.
    """
    for variable in _CA_VARIABLES:
        path = os.environ.get(variable)
        if not path:
            continue
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            folder = Path(path).is_dir()
            context.load_verify_locations(**{"capath" if folder else "cafile": path})
        except ssl.SSLError:
            reason = "it holds no certificate in PEM form"
        except OSError as error:
            reason = error.strerror or type(error).__name__
        else:
            continue
        return f"The CA bundle that {variable} names, {path}, cannot be used: {reason}."
    return None


def proxy_in_use(url: str) -> str | None:
    """Name the proxy that the environment gives for `url`, with its variable and without its
    password; None if it gives none.
    """
    proxy = _environment_proxy(url)
    if not proxy:
        return None
    names = [f"{urlsplit(url).scheme}_proxy", "all_proxy"]
    spellings = [spelling for name in names for spelling in (name, name.upper())]
    variable = next((name for name in spellings if os.environ.get(name)), None)
    shown = _without_password(proxy)
    return f"{variable} ({shown})" if variable else shown


def _environment_proxy(url: str) -> str:
    try:
        return select_proxy(url, get_environ_proxies(url)) or ""
    except ValueError:
        return ""


def _is_valid_url(url: str) -> bool:
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _without_password(proxy: str) -> str:
    before, at, host = proxy.rpartition("@")
    if not at:
        return proxy
    scheme = before.partition("//")[0] + "//" if "//" in before else ""
    return f"{scheme}***@{host}"


def request_not_sent(error: BaseException) -> bool:
    """Tell whether the connection was never established, so that the server has seen nothing."""
    inner = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(error, requests.ConnectTimeout) or isinstance(
        inner, urllib3.exceptions.NewConnectionError
    )


def deepest_cause(error: BaseException) -> BaseException:
    """Return the error that requests and urllib3 have wrapped in theirs."""
    deepest = error
    seen = {id(error)}
    while True:
        # urllib3 presents a refused connection as a kind of time-out; its cause says what it was.
        inner = next((arg for arg in deepest.args if isinstance(arg, BaseException)), None)
        inner = getattr(deepest, "reason", inner) or deepest.__cause__
        if not isinstance(inner, BaseException) or id(inner) in seen:
            return deepest
        seen.add(id(inner))
        deepest = inner


def describe_error(error: BaseException) -> str:
    """Say what went wrong, without URLs: the messages of requests and urllib3 quote queries."""
    deepest = deepest_cause(error)
    if isinstance(deepest, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)):
        return "time-out"
    if isinstance(deepest, ssl.SSLError):
        return f"TLS failed ({deepest.reason or 'no reason given'})"
    name = type(deepest).__name__
    return getattr(deepest, "strerror", None) or _DESCRIPTIONS.get(name, name)


_DESCRIPTIONS = {
    "IncompleteRead": "the response broke off",
    "RemoteDisconnected": "the connection was closed without a response",
}
