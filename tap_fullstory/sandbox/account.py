"""GET /me: whose key it is (developer.fullstory.com, GET /me), and what its role allows."""

from __future__ import annotations

from .routes import Handler, Match, Route
from .wire import Answer, Request, error_answer, json_answer

LEVELS = ("USER", "ARCHITECT", "ADMIN")  # roles, each of which may do what those before it may


class Account:
    """`role` is the key's level, one of LEVELS."""

    def __init__(self, role: str) -> None:
        self._role = role

    def routes(self) -> list[Route]:
        return [Route("me", ("GET",), "/me", self.me)]

    def me(self, request: Request, match: Match) -> Answer:
        return json_answer(
            200, {"email": "owner@example.com", "orgId": "o-SANDBOX-na1", "role": self._role}
        )

    def require(self, level: str, answer: Handler) -> Handler:
        """Return `answer`, or what refuses all requests with 403 if the key's level is lower."""
        if LEVELS.index(self._role) >= LEVELS.index(level):
            return answer

        def refuse(request: Request, match: Match) -> Answer:
            return error_answer(403, "forbidden", f"this needs a key of the role {level}")

        return refuse
