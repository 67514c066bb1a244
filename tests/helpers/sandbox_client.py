"""A careful client of the sandbox, and bundles made by hand for it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
import requests

from tap_fullstory.sandbox import (
    Bundle,
    Sandbox,
)

DAY = 24 * 60 * 60
UNTIL = datetime(2026, 6, 7, tzinfo=timezone.utc)


class Client:
    """What a careful client of the Data Export API does, and no more."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Basic {sandbox.api_key}"

    def list(self, **parameters: Any) -> list[dict[str, Any]]:
        answer = self.ask("list", **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["exports"]

    def get(self, bundle_id: Any, **headers: str) -> requests.Response:
        return self.ask("get", headers, id=bundle_id)

    def ask(
        self, call: str, headers: dict[str, str] | None = None, **parameters: Any
    ) -> requests.Response:
        return self.session.get(
            f"{self.sandbox.url}/api/v1/export/{call}",
            params=parameters,
            headers=headers,
            allow_redirects=False,
            timeout=60,
        )


@pytest.fixture
def open_client() -> Iterator[Any]:
    clients: list[Client] = []

    def make(*bundles: Bundle, **options: Any) -> Client:
        clients.append(Client(Sandbox(bundles or None, **options)))
        return clients[-1]

    yield make
    for client in clients:
        client.session.close()
        client.sandbox.close()


def events_in(file: bytes) -> Any:
    return json.loads(gzip.decompress(file) if file[:2] == b"\x1f\x8b" else file)


def hand_made(body: Any = b"[]", number: int = 0, **more: Any) -> Bundle:
    start = 1_600_000_000 + number * DAY
    return Bundle(str(number), start, start + DAY, body, **more)
