"""The built site: every link and reference leads somewhere, nothing loads from another host, every
page reads well.

``make book`` builds the site first; without it these tests are skipped. The browser tests need
Chromium (from the path, or the one that ``CHROMIUM`` names); with ``REQUIRE_BROWSER=1`` its absence
is a failure.
"""

from __future__ import annotations

import gzip
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin

import home
import numpy as np
import pytest
import symbols
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.utils import new_document
from make_pdf import serve
from site_checks import AXE, EXTERNAL_IN_CSS, SITE, look, page_problems, parsed
from sources import chapters, notebooks

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = chapters(ROOT)
NUMBERED = {f"{name}.html" for name in (*CHAPTERS, *(f"notebooks/{n}" for n in notebooks(ROOT)))}
PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if "_static" not in path.parts
)
READ = [
    name for name in PAGES if name.startswith(("book/", "notebooks/"))
]  # written by authors, not generated

pytestmark = pytest.mark.skipif(
    not PAGES, reason=f"no built site in {SITE.name}: run `make book` first"
)


# ---- the files


@pytest.mark.parametrize("name", PAGES)
def test_page(name: str) -> None:
    assert page_problems(SITE, name) == []


def test_style_sheets_load_nothing_from_elsewhere() -> None:
    sheets = {
        path.name: path.read_text(encoding="utf-8") for path in (SITE / "_static").rglob("*.css")
    }
    assert sheets
    assert {
        name: EXTERNAL_IN_CSS.findall(text)
        for name, text in sheets.items()
        if EXTERNAL_IN_CSS.search(text)
    } == {}


def test_every_result_is_in_the_table_of_theorems_by_its_one_name() -> None:
    """The title of a box begins with the name in the table; a box with two results names each."""
    box = re.compile(
        r"(`{3,})\{prf:(?:theorem|proposition|lemma|corollary|assumption)\} "
        r"([^\n]*)\n:label: (\S+)(.*?)\n\1",
        re.DOTALL,
    )
    table = (ROOT / "book" / "theorems.md").read_text(encoding="utf-8")
    names: dict[str, list[str]] = {}
    for name, label in re.findall(r"^\| ([^|]+) \| \{prf:ref\}`([^`]+)`", table, re.MULTILINE):
        names.setdefault(label, []).append(name)
    stated = {
        label: (title, body)
        for chapter in CHAPTERS
        for _, title, label, body in box.findall((ROOT / f"{chapter}.md").read_text("utf-8"))
    }
    assert len(stated) > 50 and set(stated) == set(names)
    assert [
        (name, title)
        for label, (title, body) in stated.items()
        for name in names[label]
        if not (title.startswith(name) or (len(names[label]) > 1 and f"*{name}.*" in body))
    ] == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_every_part(name: str) -> None:
    text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
    assert all(part in text for part in ("**Question.**", "**Answer.**", "## In words"))
    assert re.search(r"where .*not hold", text, re.IGNORECASE)
    assert (
        text.count("{exercise}\n")
        == len(re.findall(r"\{solution\} \S+\n:class: dropdown", text))
        >= 3
    )


def test_pages_are_light() -> None:
    for name in READ:
        assert len(gzip.compress((SITE / name).read_bytes(), 6)) < 600_000, (
            name
        )  # MathJax and the theme add 0.7 MB


def test_the_site_is_light() -> None:
    files = [path for path in SITE.rglob("*") if path.is_file() and path.suffix != ".pdf"]
    assert sum(path.stat().st_size for path in files) < 25_000_000


def test_no_sentence_of_the_reference_is_read_as_a_type() -> None:
    """Of a property whose text holds a colon, napoleon takes what stands before it for a type."""
    terms = parsed(SITE / "book" / "api.html").select("article dl.field-list dt")
    assert terms and not [
        term.find_parent("dl").get_text(" ", strip=True)
        for term in terms
        if term.get_text().startswith("Type")
    ]


def test_sources_are_linked_to_their_lines() -> None:
    """Each link of the library's reference leads to a file of this repository, to the lines where a
    definition begins and ends.
    """
    page = parsed(SITE / "book" / "api.html")
    links = [
        link["href"]
        for link in page.select("article dt a.reference.external")
        if "/blob/" in link["href"]
    ]
    assert len(links) > 150
    for link in links:
        path, first, last = re.search(
            r"/blob/\w+/(rlvrlib/[\w/]+\.py)#L(\d+)-L(\d+)$", link
        ).groups()
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        assert re.match(r"\s*(def|async def|class|@)", lines[int(first) - 1]) and int(first) <= int(
            last
        ) <= len(lines), link


@pytest.mark.parametrize("name", READ)
def test_figures_have_a_number_and_a_caption(name: str) -> None:
    page = parsed(SITE / name)
    for picture in page.select("article svg.theme-svg, article figure img"):
        assert picture.find_parent("figure") and picture.find_parent("figure").select_one(
            "figcaption .caption-text"
        )
        if name in NUMBERED:
            assert picture.find_parent("figure").select_one("figcaption .caption-number"), name


@pytest.mark.parametrize("name", READ)
def test_no_mark_is_doubled(name: str) -> None:
    """As by a text that was replaced in another's place."""
    article = parsed(SITE / name).select_one("article")
    text = "".join(
        piece
        for piece in article.strings
        if not piece.find_parent(["pre", "code", "svg", "script"])
    )
    assert re.findall(r".{0,30}(?:,,|;;|(?<!\.)\.\.(?!\.)).{0,10}", text) == []


def test_symbols_of_a_chapter_are_mathematics_and_links() -> None:
    chapters = [f"{name}.html" for name in CHAPTERS if f"{name}.html" in READ]
    lists = {name: parsed(SITE / name).select("details.symbols-here li") for name in chapters}
    assert sum(map(len, lists.values())) > 200
    assert [
        (name, item.get_text())
        for name, items in lists.items()
        for item in items
        if not item.select_one("a[href*='#symbol-'] .math")
    ] == []


def test_a_term_on_two_lines_is_found() -> None:
    paragraph = nodes.paragraph("", "", *map(nodes.Text, ("the failure", "\n", "rate ")))
    paragraph += [nodes.math("", "F"), nodes.Text(" falls")]
    document = new_document("a page")
    document += paragraph
    symbols._join_lines(document)
    assert [part.astext() for part in paragraph] == ["the failure rate ", "F", " falls"]


def test_every_sidebar_lists_the_whole_book() -> None:
    files = set(
        re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    )
    assert len(files) > 60
    for name in READ:
        links = parsed(SITE / name).select("nav.bd-docs-nav a.reference")
        assert {urljoin(name, link["href"]).partition("#")[0] or name for link in links} == {
            f"{file}.html" for file in files
        }, name
        assert all(
            re.match(r"[0-9]", link.get_text(strip=True))
            for link in links
            if urljoin(name, link["href"]).removesuffix(".html") in CHAPTERS
        )


def test_every_page_tells_where_it_comes_from() -> None:
    for name in READ:
        page = parsed(SITE / name)
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
        "<p>see Theorem ??</p>",
        '<span class="problematic">{ref}`x`</span>',
    ],
)
def test_a_fault_is_found(fault: str) -> None:
    name = "book/index.html"
    page = BeautifulSoup((SITE / name).read_text(encoding="utf-8"), "html.parser")
    page.select_one("article").append(BeautifulSoup(fault, "html.parser"))
    assert page_problems(SITE, name, page) != []


def test_every_page_describes_itself_and_brings_no_script_of_all_icons() -> None:
    for name in READ:
        page = parsed(SITE / name)
        assert len(page.select_one("meta[name=description]")["content"]) > 10, name
        picture = page.select_one("meta[property='og:image']")["content"].rpartition("/_static/")[2]
        assert (SITE / "_static" / picture).is_file()
        text = (SITE / name).read_text(encoding="utf-8")
        assert "fontawesome" not in text and not page.select("i[class*='fa-']"), name
        drawn = {use["href"][1:] for use in page.select("svg.svg-inline--fa use")}
        assert drawn and drawn <= {path["id"] for path in page.select("svg path[id]")}, name
    assert not list(SITE.rglob("fontawesome*.js"))


def test_next_leads_from_the_overview_of_a_part_through_its_chapters() -> None:
    def after(name: str) -> str:
        link = parsed(SITE / f"{name}.html").select_one(".prev-next-area a.right-next")
        return urljoin(name, link["href"]).removesuffix(".html") if link else ""

    way = ["book/index"]
    while following := after(way[-1]):
        way.append(following)
    chapters_met = [name for name in way if name in CHAPTERS]
    assert chapters_met == CHAPTERS and not [name for name in way if "notebooks" in name]
    assert way[1].startswith("book/part_") and way[2] == CHAPTERS[0]


# ---- in a browser


SAMPLE = ("book/index.html", "book/overshoot.html", "notebooks/overshoot.html", "book/claims.html")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in SAMPLE else pytest.mark.thorough) for name in READ],
)
def test_page_in_a_browser(tab: Any, base: str, name: str) -> None:
    assert look(tab, base, name) == []


def test_search_and_a_page_pass_whole(browser: Any, base: str) -> None:
    """What the other pages leave out for speed is looked at once: typeset formulas and drawings
    with all their parts.
    """
    page = browser.new_page()
    for name in ("search.html", "book/glossary.html"):
        page.goto(f"{base}/{name}")
        page.evaluate(AXE.read_text(encoding="utf-8"))
        assert (
            page.evaluate("""async () => (await axe.run({ resultTypes: ["violations"] })).violations
            .filter(rule => ["serious", "critical"].includes(rule.impact)).map(rule => rule.id)""")
            == []
        )
    page.close()


def test_claims_are_sorted_and_filtered_by_the_keyboard(browser: Any, base: str) -> None:
    page = browser.new_page()
    page.goto(f"{base}/book/claims.html")
    all_rows = page.locator("table.evidence tbody tr").count()
    assert page.locator("details.claims-of[open]").count() == 0
    page.locator("details.claims-of summary").first.press("Enter")
    table = page.locator("table.evidence").first
    head = table.locator("th", has_text="Claim")
    for order, sign in (("ascending", 1), ("descending", -1)):
        head.locator("button").press("Enter")
        assert head.get_attribute("aria-sort") == order
        initials = [text.strip()[0].lower() for text in table.locator(CLAIMS).all_text_contents()]
        letters = [letter for letter in initials if letter.isalpha()]
        assert letters == sorted(letters, reverse=sign < 0) and len(set(letters)) > 1
    page.locator("form.claims-filter input").fill("overshooting")
    shown = page.locator("table.evidence tbody tr:not([hidden])")
    assert 0 < shown.count() < all_rows and "vershooting" in shown.first.text_content()
    assert shown.first.is_visible()
    page.close()


CLAIMS = "tbody td:first-child"

def test_the_home_page_is_light_and_its_step_moves(browser: Any, base: str) -> None:
    page = browser.new_page()
    sizes: list[int] = []
    page.on("requestfinished", lambda request: sizes.append(_size(request.url, base)))
    page.goto(f"{base}/book/index.html")
    slider, play = page.locator(".home-play input"), page.locator(".home-play")
    for key in ("Home", "End"):
        slider.press(key)
        size, end = (float(play.get_attribute(f"data-{name}")) for name in ("size", "end"))
        assert end == pytest.approx(float(home.success_rates(np.array([size]))[0]), abs=1e-12)
    assert "above" in page.locator(".home-says").text_content()
    page.wait_for_load_state("networkidle")
    assert 200_000 < sum(sizes) < 1_200_000
    page.close()


def _size(url: str, base: str) -> int:
    path = SITE / url.removeprefix(f"{base}/").partition("?")[0]
    return path.stat().st_size if path.is_file() else 0


def test_the_keyboard_starts_at_the_content(browser: Any, base: str) -> None:
    page = browser.new_page()
    page.goto(f"{base}/book/overshoot.html")
    page.keyboard.press("Tab")
    assert "main content" in page.evaluate("() => document.activeElement.textContent").lower()
    assert page.evaluate("() => document.activeElement.matches(':focus-visible')")
    page.close()


def test_without_scripts_nothing_is_lost(browser: Any, base: str) -> None:
    context = browser.new_context(
        java_script_enabled=False, viewport={"width": 720, "height": 450}
    )  # 1440 px at 200 %
    page = context.new_page()
    page.goto(f"{base}/book/overshoot.html")
    assert page.locator("article svg.theme-svg").first.is_visible()
    assert (
        page.locator("article .solution").first.is_visible()
        and page.locator("article .math").first.is_visible()
    )
    page.goto(f"{base}/book/claims.html")
    page.locator("details.claims-of summary").last.click()
    assert page.locator("table.evidence tbody tr").last.is_visible()
    context.close()


def test_mathematics_is_there(browser: Any, base: str) -> None:
    page = browser.new_page()
    page.goto(f"{base}/{CHAPTERS[0]}.html")
    page.wait_for_selector("mjx-container mjx-math")
    page.close()


def test_search_finds_theorems(browser: Any, base: str) -> None:
    """By the name of the first theorem of each chapter its chapter is found."""
    named = {}
    for chapter in CHAPTERS:
        text = (ROOT / f"{chapter}.md").read_text(encoding="utf-8")
        if found := re.search(r"\{prf:theorem\} ([^$(\n]+)", text):
            named[f"{chapter}.html"] = found[1].strip()
    assert len(named) > 10
    page = browser.new_page()
    for name, title in named.items():
        page.goto(f"{base}/search.html?{urlencode({'q': title})}")
        page.locator(f"#search-results li a[href*='{name}']").first.wait_for(timeout=30_000)
    page.close()


# What readers of the site typed, and the pages that answer.
QUERIES = {
    "GRPO learning rate": ("plan_a_step_size", "practitioners_guide", "success_rate"),
    "length normalization": ("length_bias", "length"),
    "Dr. GRPO": ("success_rate",),
    "collapse": ("route_to_collapse", "diagnose_a_run", "overshoot"),
    "Adam": ("optimizers",),
    "KL": ("optimizers",),
    "entropy": ("diagnose_a_run", "blind_spots"),
    "Theorem 2": ("overshoot", "theorems"),
    "Theorem 1'": ("convergence", "theorems"),
    "clip": ("optimizers",),
    "batch size": ("prompt_batches",),
    "warm-up": ("practitioners_guide", "optimizers"),
    "warmup": ("practitioners_guide", "optimizers"),
    "group size": ("success_rate", "practitioners_guide"),
    "Gradient Gap": ("log_odds",),
    "step size too large": ("overshoot", "route_to_collapse"),
    "rerun": ("rerun_and_sweep",),
    "diagnose": ("diagnose_a_run",),
    "loss_type": ("practitioners_guide", "length_bias"),
    "reward hacking": ("blind_spots",),
    "Colab": ("rerun_and_sweep",),
    "learning rate": ("plan_a_step_size", "practitioners_guide"),
    "lr": ("plan_a_step_size",),
    "max_completion_length": ("practitioners_guide", "plan_a_step_size"),
    "failure-fall bound": ("token_threshold",),
    "nbval": ("rerun_and_sweep",),
}


@pytest.mark.skipif(not find_spec("pagefind"), reason="pagefind is not installed")
def test_search_answers_while_typing_and_fetches_little(browser: Any, base: str) -> None:
    places = {}
    for query, wanted in QUERIES.items():
        page = browser.new_page()
        page.goto(f"{base}/book/part_practice.html")
        page.wait_for_load_state("networkidle")
        sizes: list[int] = []
        page.on("requestfinished", lambda request, to=sizes: to.append(_size(request.url, base)))
        page.keyboard.press("Control+k")
        # At once: how many beginnings of a word are asked for hangs on who types.
        page.locator("#pst-search-dialog input").fill(query)
        page.locator("#pst-search-dialog .search-hits li").first.wait_for(timeout=20_000)
        page.wait_for_load_state("networkidle")
        links = page.locator(".search-hits a").evaluate_all("found => found.map(a => a.href)")
        names = [link.partition("/book/")[2].partition(".html")[0] for link in links]
        places[query] = next((n for n, name in enumerate(names, 1) if name in wanted), 99)
        assert sum(sizes) < 300_000, query
        page.close()
    assert sum(place == 1 for place in places.values()) >= 20, places
    assert sum(place <= 3 for place in places.values()) >= 25, places


@pytest.mark.skipif(not find_spec("pagefind"), reason="pagefind is not installed")
def test_search_for_nonsense_says_so(browser: Any, base: str) -> None:
    page = browser.new_page()
    page.goto(f"{base}/search.html?q=xqzvwk")
    page.locator(".search-said", has_text="No page").wait_for(timeout=20_000)
    page.close()


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ('<img alt="x" src="http://127.0.0.2/x.png">', "asks http://127.0.0.2"),
        ('<div style="width: 500px">wide</div>', "scrolls sideways"),
        ("<script>console.error('broken')</script>", "console: broken"),
        ('<span class="math">x^2</span>', "not typeset"),
        ("<table><td>\\(\\theta\\)</td></table>", "not typeset"),
        ('<svg class="theme-svg" width="20" height="20"></svg>', "figure of 20"),
        (
            '<svg class="theme-svg" width="200" height="200"><image href="#ata:image/png"/></svg>',
            "picture in a figure without data",
        ),
        (
            '<div class="theme-svg-frame" style="width: 90px; overflow: auto">'
            '<p style="width: 300px">wide</p></div>',
            "not by the keyboard",
        ),
        ("<button></button>", "critical: button-name"),
        ('<p style="color: #aaa; background: #fff">pale</p>', "serious: color-contrast"),
        (
            "<style>p { background: #fff } p:last-child { color: #aaa }</style>"
            "<p>one</p><p>two</p><p>three</p><p>four</p>",
            "serious: color-contrast",
        ),
    ],
)
def test_a_fault_is_seen(tab: Any, tmp_path: Path, fault: str, found: str) -> None:
    head = (
        '<!doctype html><link rel="icon" href="data:,">'
        '<meta name="viewport" content="width=device-width">'
    )
    (tmp_path / "x.html").write_text(f"{head}<article>{fault}</article>", encoding="utf-8")
    with serve(tmp_path) as address:
        assert any(found in problem for problem in look(tab, address, "x.html"))
