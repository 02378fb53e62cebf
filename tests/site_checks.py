"""What a built page must be, as functions that return what is wrong: from its HTML, and in a
browser.
"""

from __future__ import annotations

import os
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from bs4 import BeautifulSoup

SITE = Path(os.environ.get("BOOK_SITE", Path(__file__).resolve().parent.parent / "_build" / "html"))
# Elements that load something by themselves. A plain link loads nothing until a reader follows it.
LOADING = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "audio": "src",
    "video": "src",
    "embed": "src",
    "object": "data",
    "link": "href",
    "image": "href",
    "use": "href",
}
EXTERNAL = re.compile(r"^(?:[a-z]+:)?//", re.IGNORECASE)
EXTERNAL_IN_CSS = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])(?:https?:)?//[^)'"]+""")
# The inside of a drawing is most of a page's weight and holds neither links nor text; what it loads
# is looked for in the browser.
PARTS = re.compile(r'(<svg [^>]*class="theme-svg"[^>]*>).*?(</svg>)', re.DOTALL)
MIN_FIGURE = 150


@cache
def parsed(path: Path) -> BeautifulSoup:
    """A page without the inside of its drawings. It is read once; nobody may change it."""
    return BeautifulSoup(PARTS.sub(r"\1\2", path.read_text(encoding="utf-8")), "html.parser")


def page_problems(site: Path, name: str, soup: BeautifulSoup | None = None) -> list[str]:
    """What is wrong with one page: external loads, broken links and references, missing pictures
    and alt texts.
    """
    page = soup or parsed(site / name)
    problems = []
    for element in page.find_all(list(LOADING)):
        if "canonical" in element.get(
            "rel", []
        ):  # names the page's public address and loads nothing
            continue
        address = element.get(LOADING[element.name]) or element.get("xlink:href") or ""
        if EXTERNAL.match(address):
            problems.append(f"{element.name} loads {address}")
        elif address and not address.startswith(("data:", "#")):
            problems += _missing(site, name, address)
    for styles in [*page.find_all("style"), *page.find_all(style=True)]:
        if match := EXTERNAL_IN_CSS.search(styles.get("style") or styles.get_text()):
            problems.append(f"style loads {match[0]}")
    for link in page.find_all("a", href=True):
        if not urlsplit(link["href"]).scheme and not EXTERNAL.match(link["href"]):
            problems += _missing(site, name, link["href"])
    for image in page.select("article img, article svg.theme-svg"):
        if not (image.get("alt") or image.get("aria-label") or "").strip():
            problems.append(f"a picture without text: {str(image)[:80]}")
    for broken in page.select(".problematic, .system-message"):
        problems.append(f"unresolved: {broken.get_text()[:80]}")
    for text in page.select("article p, article li, article figcaption"):
        if "??" in text.get_text():
            problems.append(f"unresolved reference in: {text.get_text()[:80]}")
    return problems


def _missing(site: Path, name: str, address: str) -> list[str]:
    target = urlsplit(urljoin(f"/{name}", address))
    file = site / unquote(target.path).lstrip("/")
    file = file / "index.html" if file.is_dir() else file
    if not file.is_file():
        return [f"{address} leads nowhere"]
    if target.fragment and file.suffix == ".html" and unquote(target.fragment) not in _places(file):
        return [f"{address} leads to no place on its page"]
    return []


@cache
def _places(path: Path) -> set[str]:
    """Where a link into a page may lead."""
    page = parsed(path)
    return {str(tag["id"]) for tag in page.find_all(id=True)} | {
        str(tag["name"]) for tag in page.find_all(attrs={"name": True})
    }


# Asked of a page once it is typeset. Hidden parts (a closed solution, a tab) have no size and are
# left out.
LOOK = """() => {
  const wrong = [];
  const named = element => element.outerHTML.slice(0, 90);
  const closed = "details:not([open]), .toggle-hidden";
  const shown = element => element.checkVisibility() && !element.closest(closed);
  if (document.documentElement.scrollWidth > innerWidth) {
    const wide = [...document.querySelectorAll("body *")].filter(
      e => shown(e) && e.getBoundingClientRect().right > innerWidth + 1);
    const because = wide.slice(0, 2).map(named);
    wrong.push(
      `scrolls sideways: ${document.documentElement.scrollWidth} px, because of ${because}`);
  }
  for (const element of document.querySelectorAll("article .math:not(svg *)"))
    if (!element.querySelector("mjx-container")) wrong.push(`not typeset: ${named(element)}`);
  for (const element of document.querySelectorAll("article :is(p, td, figcaption)"))
    if (shown(element) && element.innerText.includes("\\\\("))
      wrong.push(`not typeset: ${element.innerText.slice(0, 90)}`);
  for (const element of document.querySelectorAll("mjx-merror, [data-mjx-error]")) {
    const said = element.getAttribute("data-mjx-error") || element.textContent;
    wrong.push(`wrong mathematics: ${said}`);
  }
  const article = document.querySelector("article");
  for (const picture of document.querySelectorAll("article svg.theme-svg image"))
    if (!picture.getAttribute("href")?.startsWith("data:image/png;base64,"))
      wrong.push(`picture in a figure without data: ${named(picture)}`);
  const figures = "article svg.theme-svg, article figure img, article .cell_output img";
  for (const figure of document.querySelectorAll(figures)) {
    if (!shown(figure)) continue;
    const box = figure.getBoundingClientRect();
    if (box.width < MIN || box.height < MIN / 2)
      wrong.push(`figure of ${box.width} x ${box.height}: ${named(figure)}`);
    const frame = figure.closest(".theme-svg-frame") ?? figure;
    if (frame.getBoundingClientRect().right > article.getBoundingClientRect().right + 1)
      wrong.push(`figure wider than its column: ${named(figure)}`);
    if (figure.tagName === "IMG" && !figure.naturalWidth)
      wrong.push(`picture not loaded: ${named(figure)}`);
    const [ink, text] = [figure, article].map(element => getComputedStyle(element).color);
    if (figure.tagName === "svg" && ink !== text)
      wrong.push(`figure without the page's ink: ${named(figure)}`);
  }
  return wrong;
}""".replace("MIN", str(MIN_FIGURE))
WIDTHS = (360, 768, 1440)


AXE = resources.files("axe_playwright_python").joinpath("axe.min.js")
# Of typeset formulas and drawings axe sees the place and the name, of formulas that are links what
# a screen reader would say; not the thousands of parts. Of code it sees each kind of token once, of
# a long table and of the library's reference the first entries: the others are made alike.
PLAIN = """() => {
  for (const spoken of document.querySelectorAll("a mjx-assistive-mml"))
    spoken.parentElement.replaceChildren(spoken.textContent);
  for (const part of document.querySelectorAll("svg.theme-svg, mjx-container"))
    if (part.querySelector("*")) part.replaceChildren();
  const kinds = new Set();
  for (const token of document.querySelectorAll("div.highlight pre span[class]"))
    if (kinds.has(token.className)) token.replaceWith(...token.childNodes);
    else kinds.add(token.className);
  for (const row of document.querySelectorAll("tbody tr:nth-child(n + 61)")) row.remove();
  for (const entry of [...document.querySelectorAll("article dl.py")].slice(60)) entry.remove();
  for (const hidden of document.querySelectorAll("article details")) hidden.open = true;
}"""
# The contrast of a text hangs on its element and all around it: tags, classes, colours. Of the
# texts that are alike in these the first two stay.
TWO_OF_A_KIND = """() => {
  const kinds = new Map(), counts = new Map();
  const kind = element => {
    if (!element) return "";
    if (!kinds.has(element)) {
      const { color, backgroundColor, fontSize, fontWeight } = getComputedStyle(element);
      const look = [color, backgroundColor, fontSize, fontWeight];
      const own = [element.tagName, element.className, element.style.cssText, look];
      kinds.set(element, `${kind(element.parentElement)}/${own}`);
    }
    return kinds.get(element);
  };
  const extra = [];
  for (const element of document.querySelectorAll("body *")) {
    const texts = [...element.childNodes].filter(
      node => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!texts.length || !element.checkVisibility()) continue;
    counts.set(kind(element), (counts.get(kind(element)) ?? 0) + 1);
    if (counts.get(kind(element)) > 2) extra.push(...texts);
  }
  for (const text of extra) text.remove();
  for (const element of document.querySelectorAll("article *"))
    if (!element.textContent.trim() && !element.querySelector("input, select, button"))
      element.remove();
}"""
ACCESSIBLE = """async rules => {
  const found = await axe.run(
    document, { ...rules, resultTypes: ["violations"], preload: false });
  const where = rule => rule.nodes.slice(0, 3).map(node => node.html.slice(0, 90)).join(" | ");
  return found.violations.filter(rule => ["serious", "critical"].includes(rule.impact)).map(
    rule => `${rule.impact}: ${rule.id}: ${where(rule)}`);
}"""
# What scrolls inside itself must be reachable by the keyboard: that is what axe would ask of the
# parts that were taken out.
REACHABLE = """() => [...document.querySelectorAll(
    "article .theme-svg-frame, article mjx-container, article pre")].filter(
  box => box.checkVisibility() && box.scrollWidth > box.clientWidth + 1
    && getComputedStyle(box).overflowX !== "visible" && box.tabIndex < 0
    && !box.closest("[tabindex='0']"))
  .map(box => `scrolls, but not by the keyboard: ${box.outerHTML.slice(0, 90)}`)"""

SETTLED = """async () => {
  for (let wait = 0; wait < 40 && (REACHABLE)().length; wait++)
    await new Promise(resolve => setTimeout(resolve, 50));
}"""


def look(page: Any, base: str, name: str) -> list[str]:
    """What is wrong with a page in a browser: at three widths, in the light theme and after a
    switch to the dark one.

    The page is loaded and typeset once; typesetting is most of the time.

    Parameters
    ----------
    page : a tab of the browser, which may have shown other pages: a new tab takes Chromium a second
        or two.
    """
    problems: list[str] = []
    listeners = {
        "console": lambda message: (
            problems.append(f"console: {message.text}") if message.type == "error" else None
        ),
        "pageerror": lambda error: problems.append(f"script error: {error}"),
        "request": lambda request: (
            problems.append(f"asks {request.url}") if _foreign(request.url, base) else None
        ),
    }
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    for event, listener in listeners.items():
        page.on(event, listener)
    page.goto(f"{base}/{name}", wait_until="load")
    page.evaluate("() => window.MathJax?.startup?.promise.then(() => true)")
    page.evaluate("() => document.fonts.ready.then(() => true)")
    for scheme, widths in (("light", WIDTHS), ("dark", WIDTHS[::-1])):
        _switch(page, scheme)
        for width in widths:
            page.set_viewport_size({"width": width, "height": 900})
            problems += [f"{scheme}, {width} px: {problem}" for problem in page.evaluate(LOOK)]
    # The theme looks again at what scrolls a moment after the last change of the width.
    page.evaluate(SETTLED.replace("REACHABLE", REACHABLE))
    problems += page.evaluate(REACHABLE)
    # What happens to the page from here on is no fault of its scripts.
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    # A colour that is on its way has the contrast of neither theme.
    page.add_style_tag(content="* { transition: none !important }")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    page.evaluate(PLAIN)
    problems += page.evaluate(ACCESSIBLE, {"rules": {"color-contrast": {"enabled": False}}})
    page.evaluate(TWO_OF_A_KIND)
    # A phone, and a desktop with all that stands beside a page.
    for scheme, width in (("dark", WIDTHS[0]), ("light", WIDTHS[-1])):
        _switch(page, scheme)
        page.set_viewport_size({"width": width, "height": 900})
        problems += [
            f"{scheme}: {problem}"
            for problem in page.evaluate(ACCESSIBLE, {"runOnly": ["color-contrast"]})
        ]
    # Or its scripts stumble over what was taken out while the next page is listened to.
    page.goto("about:blank")
    return problems


def _switch(page: Any, scheme: str) -> None:
    """Ask for a theme, and wait until the page has followed and two frames are drawn. A page
    without themes has none to wait for.
    """
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(
        "scheme => [undefined, scheme].includes(document.documentElement.dataset.theme)", arg=scheme
    )
    page.wait_for_timeout(100)
    page.evaluate(
        "() => new Promise(done => "
        "requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
    )


def _foreign(url: str, base: str) -> bool:
    return not url.startswith((base, "data:", "blob:", "about:"))
