"""The site of the documents, as a browser lays it out: on desktops, a tablet and a telephone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from environments import ROOT

TIMEOUT = 240  # seconds
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDEST = "docs/columns/"
SCREENS = ((1920, 1080), (1366, 768), (768, 1024), (375, 667))  # px
DESKTOP, TELEPHONE = SCREENS[1], SCREENS[3]
# Each page in a frame of the screen's size; what it measures becomes the text of this one.
MEASURE = """\
<!doctype html><meta charset="utf-8"><title>measure</title><body><script>
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const box = (element) => {
  const { left, right, top, bottom, width } = element.getBoundingClientRect();
  return { left, right, top, bottom, width };
};
const scroller = (element, view) => {
  for (let at = element; at; at = at.parentElement)
    if (["auto", "scroll"].includes(view.getComputedStyle(at).overflowX)) return at;
};
(async () => {
  const found = [];
  for (const [page, width, height] of ASKED) {
    const frame = document.createElement("iframe");
    frame.style = `width: ${width}px; height: ${height}px; border: 0`;
    frame.src = "/" + page;
    document.body.append(frame);
    await new Promise((resolve) => (frame.onload = resolve));
    await sleep(300);
    const view = frame.contentWindow, { documentElement, body } = view.document;
    const tables = [...body.querySelectorAll("article table")].map((table) => {
      const around = scroller(table.parentElement, view);
      const hidden = around ? around.scrollWidth - around.clientWidth : 0;
      return { ...box(table), hidden, boxRight: around ? box(around).right : box(table).right };
    });
    view.scrollTo(0, body.scrollHeight);
    await sleep(100);
    const scrolled = view.scrollY;
    const searches = [...body.querySelectorAll("header [name=query], header label[for=__search]")];
    found.push({ page, width, height, tables, scrolled, scrollWidth: documentElement.scrollWidth,
                 searches: searches.map(box) });
    frame.remove();
  }
  document.body.textContent = JSON.stringify(found).replaceAll("&", "");
})();
</script>
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def measured(commands: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What a browser measures of each page: of the one with the widest tables on all screens."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium is installed: on Debian, apt-get install chromium")
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [commands.mkdocs, "build", "--strict", "--quiet", "--site-dir", folder / "site"],
        cwd=ROOT, check=True, timeout=TIMEOUT, capture_output=True,
    )  # fmt: skip
    found = sorted((folder / "site").glob("**/index.html"))
    pages = [page.parent.relative_to(folder / "site").as_posix() + "/" for page in found]
    asked = [
        (page.removeprefix("./"), *screen)
        for page in pages
        for screen in (SCREENS if page == WIDEST else (DESKTOP, TELEPHONE))
    ]
    measure = MEASURE.replace("ASKED", json.dumps(asked))
    (folder / "site/measure.html").write_text(measure, "utf-8")
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(folder / "site"))
    ) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        done = subprocess.run(
            [browser, "--headless", "--disable-gpu", "--window-size=2000,1200",
             *(["--no-sandbox"] if os.geteuid() == 0 else []),
             f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=300000", "--dump-dom",
             f"http://127.0.0.1:{server.server_port}/measure.html"],
            env={**os.environ, "HOME": str(folder), "no_proxy": "127.0.0.1"}, check=True,
            timeout=TIMEOUT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        server.shutdown()
    printed = done.stdout
    return json.loads(printed[printed.index("[{") : printed.rindex("}]") + 2])


def test_no_table_is_wider_than_its_page(measured):
    assert len(measured) > 60
    of_columns = [page for page in measured if page["page"] == WIDEST]
    assert [len(page["tables"]) for page in of_columns] == [13] * len(SCREENS)
    for page in measured:
        at = page["page"], page["width"]
        assert page["scrollWidth"] <= page["width"], at
        for table in page["tables"]:
            assert table["boxRight"] <= page["width"], at
            if page["width"] >= DESKTOP[0]:
                assert table["hidden"] == 0, at


def test_the_search_stays_in_view(measured):
    for page in measured:
        assert page["scrolled"] > 0 or page["page"] != WIDEST
        seen = [
            search
            for search in page["searches"]
            if search["width"] > 0
            and 0 <= search["top"] < search["bottom"] <= page["height"]
            and 0 <= search["left"] < search["right"] <= page["width"]
        ]
        assert seen, (page["page"], page["width"])


def test_the_site_loads_nothing_from_elsewhere(commands: Any, tmp_path: Path):
    subprocess.run(
        [commands.mkdocs, "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT, check=True, timeout=TIMEOUT, capture_output=True,
    )  # fmt: skip
    page = (tmp_path / "site/docs/columns/index.html").read_text("utf-8")
    for tag in ("<script src=", "<link rel="):
        assert all("http" not in part.split(">")[0] for part in page.split(tag)[1:]), (
            "a browser would load this from another site"
        )
