"""URLs: what of one may be logged, and where a redirect or a signed URL may lead."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import quote, urlencode, urljoin, urlsplit

from tap_fullstory.errors import SourceError

# They identify people, or are made of URLs that may hold a secret, as tokens of webhooks are.
_PRIVATE_PARAMETERS = ("uid", "email", "page_token", "pagination_token", "paginationToken")


def redact_url(url: str, params: Mapping[str, str]) -> str:
    """Return `url` as it may be logged: keep our own `params` except user identifiers and page
    tokens; drop any other query, and a user name or password before the host.
    """
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    shown = {key: "..." if key in _PRIVATE_PARAMETERS else params[key] for key in params}
    return f"{bare}?{urlencode(shown)}" if shown else bare


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port: the API key goes to one origin only. Raises ValueError if host
    or port is not valid.
    """
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def percent_encode(location: bytes) -> str:
    """Return a URL with the bytes beyond ASCII percent-encoded as they came, and without the
    whitespace around it. What is encoded already stays so.
    """
    return quote(location.strip(), safe="".join(map(chr, range(128))))


def resolve_redirect(url: str, location: str) -> str:
    """Return where a redirect from `url` leads. Raises SourceError if that is not a valid http(s)
    URL, or steps down from https to http.
    """
    try:
        target = urljoin(url, percent_encode(location.encode("latin-1")))
        scheme, host, _ = origin_of(target)
    except ValueError:  # a UnicodeError is one
        target, scheme, host = "", "", None
    if scheme not in ("https", "http") or not host:
        raise SourceError(f"{redact_url(url, {})} redirects to something that is not a valid URL.")
    if scheme == "http" and urlsplit(url).scheme == "https":
        raise SourceError(
            f"{redact_url(url, {})} redirects from https to http, which the tap does not follow. "
            "Check data_export_url and api_url in the config, and the proxy."
        )
    return target


def require_https(location: str, shown: str) -> str:
    """Return `location`, a URL to download `shown` from. Raises SourceError unless it is https, or
    on loopback.
    """
    location = percent_encode(location.encode("utf-8", "surrogatepass"))
    try:
        scheme, host, _ = origin_of(location)
    except ValueError:
        scheme, host = "", None
    if host and (scheme == "https" or (scheme == "http" and is_loopback(host))):
        return location
    raise SourceError(
        f"FullStory did not give an https URL for {shown}, and the tap downloads from no other. "
        "Check api_url in the config, and anything between here and FullStory, such as a proxy."
    )


def is_loopback(host: str) -> bool:
    """Tell whether `host` is this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
