"""The built site: every link and reference leads somewhere, nothing loads from another host, every page reads well.

``make book`` builds the site first; without it these tests are skipped. The browser tests need Chromium (from the path,
or the one that ``CHROMIUM`` names); with ``REQUIRE_BROWSER=1`` its absence is a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from site_checks import EXTERNAL_IN_CSS, look, page_problems, serve

ROOT = Path(__file__).resolve().parent.parent
SITE = Path(os.environ.get("BOOK_SITE", ROOT / "_build" / "html"))
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if "_static" not in path.parts)
READ = [name for name in PAGES if name.startswith(("book/", "notebooks/"))]  # written by authors, not generated

pytestmark = pytest.mark.skipif(not PAGES, reason=f"no built site in {SITE.name}: run `make book` first")


# ---- the files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_page(name: str) -> None:
    assert page_problems(SITE, name) == []


def test_style_sheets_load_nothing_from_elsewhere() -> None:
    sheets = {path.name: path.read_text(encoding="utf-8") for path in (SITE / "_static").rglob("*.css")}
    assert sheets
    assert {name: EXTERNAL_IN_CSS.findall(text) for name, text in sheets.items() if EXTERNAL_IN_CSS.search(text)} == {}


def test_every_page_tells_where_it_comes_from() -> None:
    for name in READ:
        page = BeautifulSoup((SITE / name).read_text(encoding="utf-8"), "html.parser")
        assert "commit" in page.select_one("p.provenance").get_text(), name


@pytest.mark.parametrize(
    "fault",
    [
        '<script src="https://example.org/x.js"></script>',
        '<link rel="stylesheet" href="//example.org/x.css">',
        '<img alt="x" src="http://example.org/x.png">',
        '<style>@font-face { src: url("https://example.org/x.woff") }</style>',
        '<a href="nowhere.html">broken</a>',
        '<a href="#no-such-place">broken</a>',
        '<img src="../_static/logo.svg">',
        '<p>see Theorem ??</p>',
        '<span class="problematic">{ref}`x`</span>',
    ],
)
def test_a_fault_is_found(fault: str) -> None:
    name = "book/index.html"
    page = BeautifulSoup((SITE / name).read_text(encoding="utf-8"), "html.parser")
    page.select_one("article").append(BeautifulSoup(fault, "html.parser"))
    assert page_problems(SITE, name, page) != []


# ---- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if not path:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER=1, and there is no Chromium")
        pytest.skip("no Chromium: the pages were not looked at in a browser")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with serve(SITE) as address:
        yield address


@pytest.mark.parametrize("name", READ)
def test_page_in_a_browser(browser: Any, base: str, name: str) -> None:
    assert look(browser, base, name) == []


def test_mathematics_is_there(browser: Any, base: str) -> None:
    page = browser.new_page()
    page.goto(f"{base}/{next(name for name in READ if name.startswith('book/0'))}")
    page.wait_for_selector("mjx-container mjx-math")
    page.close()


def test_search_finds_a_theorem(browser: Any, base: str) -> None:
    titles = [
        title.get_text().split("(", 1)[1].rstrip(") ")
        for name in READ
        for title in BeautifulSoup((SITE / name).read_text(encoding="utf-8"), "html.parser").select(".theorem p.admonition-title")
        if "(" in title.get_text()
    ]
    assert titles, "the book states no theorem with a title"
    page = browser.new_page()
    page.goto(f"{base}/search.html?q={titles[0]}")
    page.wait_for_selector("#search-results ul.search li a", timeout=20_000)
    page.close()


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ('<img alt="x" src="http://127.0.0.2/x.png">', "asks http://127.0.0.2"),
        ('<div style="width: 500px">wide</div>', "scrolls sideways"),
        ("<script>console.error('broken')</script>", "console: broken"),
        ('<span class="math">x^2</span>', "not typeset"),
        ('<svg class="theme-svg" width="20" height="20"></svg>', "figure of 20"),
    ],
)
def test_a_fault_is_seen(browser: Any, tmp_path: Path, fault: str, found: str) -> None:
    head = '<!doctype html><link rel="icon" href="data:,"><meta name="viewport" content="width=device-width">'
    (tmp_path / "x.html").write_text(f"{head}<article>{fault}</article>", encoding="utf-8")
    with serve(tmp_path) as address:
        assert any(found in problem for problem in look(browser, address, "x.html"))
