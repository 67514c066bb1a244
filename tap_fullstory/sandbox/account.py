"""GET /me: whose key it is (developer.fullstory.com, operation GET /me)."""

from __future__ import annotations

from .routes import Match, Route
from .wire import Answer, Request, json_answer


class Account:
    """`role` is the key's level: USER, ARCHITECT or ADMIN."""

    def __init__(self, role: str) -> None:
        self._role = role

    def routes(self) -> list[Route]:
        return [Route("me", ("GET",), "/me", self.me)]

    def me(self, request: Request, match: Match) -> Answer:
        return json_answer(
            200, {"email": "owner@example.com", "orgId": "o-SANDBOX-na1", "role": self._role}
        )
