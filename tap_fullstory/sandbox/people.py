"""The sandbox's people: who they are, and the browsers and phones they come with.

One crowd serves all of the sandbox's APIs, so that an event's user is also found in the list of
users. Everybody is invented: addresses are of example.com, IPs of the blocks kept for
documentation (RFC 5737, RFC 3849).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from types import MappingProxyType
from typing import Any

from .steps import Fields

PEOPLE = 57  # with pages of ten users: five full ones and a short one

EXAMPLE_INDV_ID = 6606828898126528473
EXAMPLE_USER_ID = 6606828898126528473
EXAMPLE_SESSION_ID = 5320771273179136001

_FIRST_NAMES = (
    "Ada", "Zoë", "Łukasz", "Nuria", "太郎", "Amélie", "Igor", "Priya", "José", "Fatima",
    "Søren", "Mei", "Kwame", "Oksana", "Liam", "Chidi", "Björk", "Aiko", "Noor",
)  # fmt: skip
_LAST_NAMES = ("Ångström", "山田", "Okafor", "García", "O'Neil", "Schmidt", "Нагорна", "Silva")


@dataclass(frozen=True)
class Visitor:
    """One UserId, that is one person on one device.

    `fields` are those that every event of this visitor carries, but for UserCreated. A visitor of
    long standing was created `age` before the sandbox's first bundle.
    """

    platform: str  # "web" or "app"
    user_id: int
    age: timedelta
    fields: Mapping[str, Any]

    @property
    def plan(self) -> str:
        return str(self.fields.get("user_plan_str", "guest"))

    @property
    def slowness(self) -> float:
        """How many times as long as usual pages take to load, by device and distance."""
        by_device = {"Mobile": 1.7, "Tablet": 1.3}.get(self.fields["PageDevice"], 1.0)
        return by_device * (1.6 if self.fields.get("PageLatLong") in _FAR_AWAY else 1.0)


@dataclass(frozen=True)
class Person:
    """`app_key` and `email` are "" for the anonymous, as in real exports."""

    indv_id: int
    app_key: str
    name: str
    email: str
    variables: Mapping[str, Any]
    visitors: tuple[Visitor, ...]


def _browser(
    agent: str, browser: str, version: str, device: str, system: str, screen: tuple[int, int]
) -> Fields:
    width, height = screen
    return {
        "PageAgent": agent,  # what bundles call it, and only some the newer name as well
        **({"PageUserAgent": agent} if browser == "Firefox" else {}),
        "PageBrowser": browser,
        "PageBrowserVersion": version,
        "PageDevice": device,
        "PagePlatform": "Web",
        "PageOperatingSystem": system,
        "PageScreenWidth": width,
        "PageScreenHeight": height,
        "PageViewportWidth": width,
        "PageViewportHeight": height - 120,
    }


def _phone(vendor: str, model: str, system: str, version: str, screen: tuple[int, int]) -> Fields:
    width, height = screen
    return {
        "AppName": "Example Shop",
        "AppPackageName": "com.example.shop",
        "AppVersion": "4.12.0",
        "AppDeviceVendor": vendor,
        "AppDeviceModel": model,
        "AppOsVersion": version,
        "PageBrowser": "Mobile App",
        "PageDevice": "Mobile",
        "PagePlatform": "Native Mobile",
        "PageOperatingSystem": system,
        "PageScreenWidth": width,
        "PageScreenHeight": height,
        "PageViewportWidth": width,
        "PageViewportHeight": height,
    }


_MOZILLA = "Mozilla/5.0 "
_BROWSERS = (
    _browser(
        _MOZILLA + "(Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
        " Version/17.4 Safari/605.1.15",
        "Safari", "17.4", "Desktop", "OS X", (1440, 900),
    ),
    _browser(
        _MOZILLA + "(Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
        " Chrome/126.0.0.0 Safari/537.36",
        "Chrome", "126.0.0.0", "Desktop", "Windows", (1920, 1080),
    ),
    _browser(
        _MOZILLA + "(X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
        "Firefox", "127.0", "Desktop", "Linux", (2560, 1440),
    ),
    _browser(
        _MOZILLA + "(iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15"
        " (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
        "Safari", "17.5", "Mobile", "iOS", (390, 844),
    ),
    _browser(
        _MOZILLA + "(iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15"
        " (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
        "Safari", "17.5", "Tablet", "iOS", (820, 1180),
    ),
)  # fmt: skip
_PHONES = (
    _phone("Google", "Pixel 8", "Android", "14", (412, 915)),
    _phone("Apple", "iPhone15,2", "iOS", "17.5.1", (393, 852)),
)
_PLANS = ("free", "plus", "crème 🍦")
_PLACES = (
    ("", ""),  # an account may switch the recording of addresses off
    ("192.0.2.17", "39.9526,-75.1652"),
    ("198.51.100.64", "52.5200,13.4050"),
    ("203.0.113.9", "35.6762,139.6503"),
    ("2001:db8::5eed", "-23.5505,-46.6333"),
)
_FAR_AWAY = ("35.6762,139.6503", "-23.5505,-46.6333")


def people(seed: int = 0) -> tuple[Person, ...]:
    """The same PEOPLE persons for the same seed; the first is the example's, whatever the seed."""
    rng = Random(f"people/{seed}")
    return (_example_person(), *(_person(rng, number) for number in range(1, PEOPLE)))


def some_id(rng: Random) -> int:
    """An id as FullStory has them: 16 to 19 digits, below 2^63, most of them above 2^53."""
    digits = rng.randrange(16, 20)
    return rng.randrange(10 ** (digits - 1), min(10**digits, 2**63))


def _example_person() -> Person:
    name, email = "Jane Example", "jane@example.com"
    variables = _variables(Random("example"))
    fields = {
        "IndvId": EXAMPLE_INDV_ID,
        "UserId": EXAMPLE_USER_ID,
        "UserAppKey": "customer-1001",
        "UserDisplayName": name,
        "UserEmail": email,
        "PageIp": "192.0.2.42",
        "PageLatLong": "39.9526,-75.1652",
        **_BROWSERS[0],
        "PageUserAgent": _BROWSERS[0]["PageAgent"],
        **variables,
    }
    age = timedelta(days=436, hours=8, minutes=50, seconds=33, milliseconds=465)
    visitor = Visitor("web", EXAMPLE_USER_ID, age, MappingProxyType(fields))
    shown = MappingProxyType(variables)
    return Person(EXAMPLE_INDV_ID, "customer-1001", name, email, shown, (visitor,))


def _person(rng: Random, number: int) -> Person:
    indv_id = some_id(rng)
    app_key, name, email = "", f"User {rng.randrange(10**4, 10**5)}", ""
    variables: Fields = {}
    if number % 3:  # the rest never said who they are
        first = _FIRST_NAMES[number % len(_FIRST_NAMES)]
        name = f"{first} {_LAST_NAMES[number % len(_LAST_NAMES)]}"
        app_key, email = f"customer-{1001 + number}", f"customer-{1001 + number}@example.com"
        if number % 12 == 1:
            variables = _variables(rng) | {"user_plan_str": _PLANS[number // 12 % len(_PLANS)]}
    visitors = tuple(
        _visitor(rng, platform, {"IndvId": indv_id}, (app_key, name, email), variables)
        for platform in (("web", "app") if number % 2 else ("web",))
    )
    return Person(indv_id, app_key, name, email, MappingProxyType(variables), visitors)


def _variables(rng: Random) -> Fields:
    """One user variable of every type that FullStory has (`user_NAME_TYPE`)."""
    return {
        "user_plan_str": rng.choice(_PLANS),
        "user_orders_int": rng.randrange(40),
        "user_lifetime_value_real": rng.choice((0, 250, 99.95, 1204.5)),
        "user_newsletter_bool": rng.random() < 0.5,
        "user_signed_up_date": f"20{rng.randrange(17, 20)}-05-{rng.randrange(10, 29)}T08:30:00Z",
        "user_favourite_colours_strs": ["red", "türkis"],
        "user_address.city_str": rng.choice(("Philadelphia", "Zürich", "東京")),
    }


def _visitor(
    rng: Random, platform: str, ids: Fields, names: tuple[str, str, str], variables: Fields
) -> Visitor:
    user_id = some_id(rng)
    app_key, name, email = names
    page_ip, lat_long = rng.choice(_PLACES)
    age = timedelta(days=rng.randrange(15, 900), milliseconds=rng.randrange(24 * 60 * 60 * 1000))
    fields = {
        **ids,
        "UserId": user_id,
        "UserAppKey": app_key,
        "UserDisplayName": name,
        "UserEmail": email,
        "PageIp": page_ip,
        **({"PageLatLong": lat_long} if lat_long else {}),
        **rng.choice(_BROWSERS if platform == "web" else _PHONES),
        **variables,
    }
    return Visitor(platform, user_id, age, MappingProxyType(fields))
