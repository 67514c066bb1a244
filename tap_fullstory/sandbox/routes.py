"""Which of the sandbox's rooms answers which address."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .wire import Answer, Request

Match = re.Match[str]
"""Of a request's path with its route's pattern: the groups are the path's variables."""

Handler = Callable[[Request, Match], Answer]


def _none(request: Request, match: Match) -> str | None:
    return None


@dataclass(frozen=True)
class Route:
    """`name` is what faults call it, `path` a regular expression for the whole path, `bundle`
    returns the id of the bundle that a request is about. `invalidate` makes what a request asks
    for unavailable for good.
    """

    name: str
    methods: tuple[str, ...]
    path: str
    answer: Handler
    bundle: Callable[[Request, Match], str | None] = _none
    invalidate: Callable[[Request, Match], None] | None = None


def find(routes: Iterable[Route], request: Request) -> tuple[Route, Match] | None:
    for route in routes:
        match = re.fullmatch(route.path, request.path)
        if match and request.method in route.methods:
            return route, match
    return None
