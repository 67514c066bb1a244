"""Addresses: what a log may hold of one, and where a redirect or a location may lead."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlencode, urljoin, urlsplit

from tap_fullstory.errors import SourceError

# They name people, or are made of addresses that may hold a secret, as tokens of webhooks are.
_PRIVATE_PARAMETERS = ("uid", "email", "page_token", "pagination_token", "paginationToken")


def show(url: str, params: Mapping[str, str]) -> str:
    """An address as a log may hold it: `params` are ours and shown, save for people's names and
    page tokens; any other query is a secret, and a user before the host.
    """
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    shown = {key: "..." if key in _PRIVATE_PARAMETERS else params[key] for key in params}
    return f"{bare}?{urlencode(shown)}" if shown else bare


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port: the API key goes to one origin only. Raises ValueError if `url` has a
    port or host that is none.
    """
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def next_hop(url: str, location: str) -> str:
    """Where a redirect from `url` leads. Raises SourceError if it leads nowhere, or to http from
    https anywhere but on this machine.
    """
    try:
        target = urljoin(url, location)
        scheme, host, _ = origin_of(target)
    except ValueError:
        target, scheme, host = "", "", None
    if scheme not in ("https", "http") or not host:
        raise SourceError(f"{show(url, {})} redirects to something that is no web address.")
    if scheme == "http" and urlsplit(url).scheme == "https" and not is_loopback(host):
        raise SourceError(
            f"{show(url, {})} redirects from https to http, which the tap does not follow. Check "
            "the addresses in the config and the proxy."
        )
    return target


def safe_address(location: str, shown: str) -> str:
    """`location`, an address to download from, named `shown` in errors.

    Raises SourceError unless it is https, or on this machine.
    """
    try:
        scheme, host, _ = origin_of(location)
    except ValueError:
        scheme, host = "", None
    if host and (scheme == "https" or (scheme == "http" and is_loopback(host))):
        return location
    raise SourceError(
        f"FullStory gave no https address for {shown}, and the tap downloads from no other. Check "
        "api_url in the config and what stands between here and FullStory, such as a proxy."
    )


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine itself."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
