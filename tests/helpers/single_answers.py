"""Calls of an HTTP session whose answers requests-mock gives."""

from __future__ import annotations

import io
from typing import Any

from tap_fullstory.fullstory.session import HttpSession

KEY = "na1.a2V5OndpdGgvYWxsKy1jaGFyYWN0ZXJz=="
HOST = "https://export.example.com"
LIST, GET = f"{HOST}/api/v1/export/list", f"{HOST}/api/v1/export/get"
ONE: dict[str, list[Any]] = {"exports": []}


def listed(http: HttpSession, start: int = 0) -> Any:
    return http.get_json(LIST, {"start": str(start)}, "list")


def download(http: HttpSession) -> bytes:
    sink = io.BytesIO()
    http.download(GET, {"id": "156453120048"}, sink, "get")
    return sink.getvalue()
