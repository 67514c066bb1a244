"""What journeys are made of: sessions, their pages, the steps on a page."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

Fields = dict[str, Any]


@dataclass(frozen=True)
class Product:
    name: str
    slug: str
    category: str
    price: float


@dataclass(frozen=True)
class Source:
    """Where a visit comes from: the page with the link, and what the link adds to an address."""

    referer: str = ""
    query: str = ""


@dataclass(frozen=True)
class Visit:
    """What the steps of one session draw on.

    Pages take `slowness` times as long to load as on a fast computer near the server.
    """

    rng: Random
    product: Product
    order_number: int
    items: int
    plan: str
    slowness: float


Vary = Callable[[Visit], Fields]


@dataclass(frozen=True)
class Step:
    """One event.

    `gap` is about how many milliseconds it comes after the one before; 0 is exactly the same
    millisecond. `{name}` in `text` becomes the name of the visit's product. `more` are further
    fields, `vary` makes those that differ from one visit to the next.
    """

    kind: str
    gap: int
    text: str | None = None
    target: str | None = None  # a CSS path
    more: Mapping[str, Any] = field(default_factory=dict)
    vary: Vary | None = None

    @cached_property  # a bundle of 400,000 events takes each step thousands of times
    def fields(self) -> Mapping[str, Any]:
        """What is the same whenever somebody takes this step."""
        fields: Fields = {"EventType": self.kind, **self.more}
        if self.text is not None:
            fields["EventTargetText"] = self.text
        if self.target is not None:
            fields["EventTargetSelector"] = self.target
            fields["EventTargetSelectorTok"] = selector_tokens(self.target)
        return MappingProxyType(fields)


@dataclass(frozen=True)
class Page:
    """One page load, or one screen of the app, which has neither name nor address.

    `{slug}` in `url` becomes the visit's product. `more` and `vary` are as those of a Step, for
    all events on the page.
    """

    name: str
    url: str
    cluster: int
    steps: tuple[Step, ...]
    more: Mapping[str, Any] = field(default_factory=dict)
    vary: Vary | None = None


@dataclass(frozen=True)
class Journey:
    """A session."""

    platform: str  # "web" or "app"
    pages: tuple[Page, ...]
    product: Product | None = None  # any, if None
    known: bool = False  # taken only by visitors with user variables, such as a plan
    from_outside: bool = False  # may begin with a link on another site or in an e-mail

    @cached_property
    def steps(self) -> tuple[tuple[Page, Step], ...]:
        """Each step with its page, in order."""
        return tuple((page, step) for page in self.pages for step in page.steps)


def selector_tokens(css: str) -> str:
    """FullStory's older form of a CSS path: tokens with blanks between, non-alphanumerics
    percent-encoded, attributes as `=name=value` (public sample: testing/testdata/raw.json of
    github.com/fullstorydev/hauser).
    """
    tokens = []
    for match in re.finditer(r'\[([\w-]+)="([^"]*)"\]|([.#]?)([\w-]+)', css):
        name, value, sign, word = match.groups()
        tokens.append(f"={_encoded(name)}={_encoded(value)}" if name else sign + _encoded(word))
    return " ".join(tokens)


def _encoded(text: str) -> str:
    return quote(text, safe="").replace("-", "%2D").replace("_", "%5F").replace(".", "%2E")
