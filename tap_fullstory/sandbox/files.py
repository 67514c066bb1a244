"""Files over HTTP: whole or from a byte on, and the storage host that keeps them.

The storage host stands for the bucket with signed addresses that FullStory's exports lie in: the
address alone opens a file, for a while, and the API key must not go there.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import threading

from .bundles import BundleFile
from .faults import Fault
from .routes import Match, Route
from .wire import Answer, Request, error_answer, part_of, size_of


class FileServer:
    """Answers with a file. With `ranges`, as asked for by Range and If-Range (RFC 9110, 14); else
    always whole and without an ETag. With `changing_etag` no two answers have the same ETag.
    """

    def __init__(self, *, ranges: bool, changing_etag: bool) -> None:
        self._ranges = ranges
        self._changing_etag = changing_etag
        self._answers = itertools.count(1)

    def answer(self, request: Request, file: BundleFile) -> Answer:
        headers = dict(file.headers)
        if not self._ranges:
            return Answer(200, headers, file.body)
        etag = file.etag
        if self._changing_etag:
            etag = f'"{next(self._answers)}-{etag[1:]}'
        headers.update({"ETag": etag, "Accept-Ranges": "bytes"})
        size = size_of(file.body)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if not asked or request.headers.get("if-range", etag) != etag:
            return Answer(200, headers, file.body)
        first = int(asked[1])
        stop = min(size, int(asked[2]) + 1) if asked[2] else size
        if first >= stop:
            return Answer(416, {"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {first}-{stop - 1}/{size}"
        return Answer(206, headers, part_of(file.body, first, stop))


class Storage:
    """Hands out signed addresses at `url`, and the files that they stand for."""

    def __init__(self, files: FileServer) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._signed: dict[str, BundleFile] = {}

    def routes(self) -> list[Route]:
        return [
            Route(
                "storage",
                ("GET",),
                "/sandbox-export/([^/]+)/[^/]+",
                self.file,
                _bundle,
                self.expire,
            )
        ]

    def location(self, url: str, bundle_id: str, file: BundleFile) -> str:
        """A fresh address of the file at the storage host `url`, in the style of signed addresses
        of Google Cloud Storage.
        """
        with self._lock:
            signature = hashlib.blake2b(f"location {next(self._numbers)}".encode()).hexdigest()
            self._signed[signature] = file
        return (
            f"{url}/sandbox-export/{bundle_id}/DataExport.json.gz"
            "?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=sandbox%40example.com"
            "&X-Goog-Expires=300&X-Goog-SignedHeaders=host"
            f"&X-Goog-Signature={signature}"
        )

    def expire(self, request: Request, match: Match) -> None:
        """From now on the address of this request opens nothing."""
        with self._lock:
            self._signed.pop(request.query.get("X-Goog-Signature", ""), None)

    def file(self, request: Request, match: Match) -> Answer:
        if "authorization" in request.headers:
            return error_answer(400, "InvalidArgument", "two ways of authorization in one request")
        with self._lock:
            file = self._signed.get(request.query.get("X-Goog-Signature", ""))
        if file is None:
            return Fault("expired").instead(request)
        return self._files.answer(request, file)


def _bundle(request: Request, match: Match) -> str | None:
    return match[1]
