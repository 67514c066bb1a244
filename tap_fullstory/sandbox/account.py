"""GET /me: whose key it is, and what its role allows; GET /v2beta/datasets: what it can read.

developer.fullstory.com, "Me" and "List Datasets".
"""

from __future__ import annotations

from .routes import Handler, Match, Route
from .wire import Answer, Request, error_answer, json_answer

LEVELS = ("USER", "ARCHITECT", "ADMIN")  # roles, each of which may do what those before it may


class Account:
    """`role` is the key's level, one of LEVELS."""

    def __init__(self, role: str) -> None:
        self._role = role

    def routes(self) -> list[Route]:
        return [
            Route("me", ("GET",), "/me", self.me),
            Route("datasets", ("GET",), "/v2beta/datasets", self.datasets),
        ]

    def me(self, request: Request, match: Match) -> Answer:
        return json_answer(
            200, {"email": "owner@example.com", "orgId": "o-SANDBOX-na1", "role": self._role}
        )

    def datasets(self, request: Request, match: Match) -> Answer:
        found = {"id": "1000001", "name": "All Data", "description": "Everything captured"}
        return json_answer(200, {"datasets": [found]})

    def require(self, level: str, answer: Handler) -> Handler:
        """Return `answer`, or what refuses all requests with 403 if the key's level is lower."""
        if LEVELS.index(self._role) >= LEVELS.index(level):
            return answer

        def refuse(request: Request, match: Match) -> Answer:
            return error_answer(403, "forbidden", f"this needs a key of the role {level}")

        return refuse
