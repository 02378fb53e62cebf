"""The whole book as one PDF: what ``make pdf`` runs.

The sources that ``make book`` staged become one HTML page, and Chromium prints it: mathematics,
figures, bookmarks and open solutions. The file appears whole or not at all, with the key of what it
was made from beside it; ``make book`` puts it into the site, and a link to it, as long as the book
is still the same.

    _build/pdf/the-safe-step.pdf, _build/PROFILE/pdf/the-safe-step.pdf
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from book_execution import BookError
from book_site import PDF_NAME, current_pdf, pdf_path
from make_book import exit_status, lock, make_book
from pypdf import PdfWriter
from pypdf.generic import NameObject, TextStringObject

HERE = Path(__file__).resolve().parent
MINUTES = 15  # that the mathematics and the printing may take

# What only a screen needs is left out, as are the long cells that draw the figures; everything that
# is folded is open.
PRINT_STYLE = """
@page { size: A4; }
html { font-size: 10pt !important; }
.bd-header, .bd-header-announcement, .bd-sidebar-primary, .bd-sidebar-secondary,
.bd-header-article, .prev-next-footer, .bd-footer, form.claims-filter, .header-article-items,
.headerlink, .copybtn, .toggle-button, .play, #pst-back-to-top, .skip-link, p.provenance,
#print-main-content, details.hide.above-input, details.hide.above-input + .cell_input,
dt > a.reference.external:has(.viewcode-link) {
  display: none !important; }
html, body, .bd-container, .bd-container__inner, .bd-main, .bd-content, .bd-article-container,
.bd-article {
  display: block !important; width: auto !important; min-width: 0 !important;
  max-width: none !important; margin: 0 !important; padding: 0 !important;
  overflow: visible !important; }
/* The page breaks before the anchor of a chapter, so that links lead to the page of its heading. */
.toctree-wrapper > section, .toctree-wrapper > span { break-before: page; }
.toctree-wrapper > span { display: block; }
.toctree-wrapper > span + section { break-before: auto; }
section > :last-child { margin-bottom: 0 !important; }
h1, h2, h3, h4, .admonition-title, .rubric { break-after: avoid; break-inside: avoid; }
div.math { break-before: avoid; }
figure, table tr, .math-wrapper, mjx-container[display="true"], div.exercise {
  break-inside: avoid; }
/* The theme keeps these whole, at the price of half-empty pages. */
.bd-main .bd-content table, div.proof.admonition, div.solution, div.cell_input,
div[class*="highlight-"], div.highlight, pre { break-inside: auto !important; }
p, li, pre { orphans: 3; widows: 3; }
thead, dt, div.exercise { break-after: avoid; }
.admonition { box-shadow: none !important; margin-bottom: 0.8em !important; }
details > summary { list-style: none; }
/* Chromium prints everything smaller if one thing is wider than the page. */
.unbroken { white-space: normal !important; }
dl.field-list > * { min-width: 0; overflow-wrap: anywhere; }
figcaption, figcaption p { color: #333 !important; }
svg.theme-svg { max-width: 100% !important; min-width: 0 !important; }
pre { white-space: pre-wrap !important; overflow-wrap: anywhere; }
table { font-size: 8.5pt; display: table !important; overflow: visible !important; }
table.evidence {
  font-size: 7pt; table-layout: fixed; width: 100% !important; overflow-wrap: anywhere; }
table.evidence :is(th, td) { padding: 0.4em 0.25em; }
table.evidence col:nth-child(1) { width: 36% !important; }
table.evidence col:nth-child(2) { width: 18% !important; }
table.evidence col:nth-child(6) { width: 10% !important; }
/* What scrolls goes to the next page whole, and nothing scrolls on paper. */
mjx-container:is([display], :not([display])), .pst-scrollable-table-container,
div.cell_output .output { overflow: visible !important; }
a { text-decoration: none !important; }
"""
OPEN_EVERYTHING = """() => {
  const all = selector => document.querySelectorAll(selector);
  for (const folded of all("details:not(.above-input)")) folded.open = true;
  for (const hidden of all(".toggle-hidden")) hidden.classList.remove("toggle-hidden");
  for (const button of all("table.evidence th button")) button.replaceWith(...button.childNodes);
  // On one page another element has the same name.
  for (const citation of all("span.bibtex-citation")) citation.removeAttribute("id");
  document.documentElement.dataset.theme = "light";
}"""
WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
  [...document.querySelectorAll("article *")]
    .filter(element => element.getBoundingClientRect().right > innerWidth + 1)
    .slice(0, 3).map(element => element.outerHTML.slice(0, 90))"""
# Only what is wider than the column is made smaller, as much as it needs.
FIT = """() => {
  const width = document.querySelector("article").clientWidth;
  for (const wide of document.querySelectorAll('mjx-container[display="true"], article table'))
    if (wide.scrollWidth > width) wide.style.zoom = width / wide.scrollWidth;
  for (const cell of document.querySelectorAll("article :is(td, th)"))
    if (cell.scrollWidth > cell.clientWidth + 4) // farther than into the padding of the next cell
      cell.style.fontSize = `${cell.clientWidth / cell.scrollWidth}em`;
}"""
# What takes less than a third of a page is not broken.
KEEP_TOGETHER = """() => {
  const boxes = "div.proof, div.solution, div.cell_input, div[class*='highlight-']";
  for (const box of document.querySelectorAll(boxes))
    if (box.offsetHeight < 330) box.style.setProperty("break-inside", "avoid", "important");
}"""
HEADINGS = """() => [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")]
  .filter(heading => heading.checkVisibility())
  .map(heading => heading.innerText.replace(/\\s+/g, " ").trim())"""
UNSET = """() => [...document.querySelectorAll('article .math:not(svg *)')]
  .filter(formula => !formula.querySelector('mjx-container')).length"""
FOOTER = """<div style="width: 100%; font-size: 8px; text-align: center; color: #555">
<span class="pageNumber"></span> / <span class="totalPages"></span></div>"""


def find_chromium() -> str:
    name = os.environ.get("CHROMIUM", "chromium")
    path = shutil.which(name)
    if not path:
        raise BookError(
            f"the PDF needs Chromium, and there is no {name!r}: "
            "install it, or name it: make pdf CHROMIUM=path"
        )
    return path


def one_page(work: Path) -> Path:
    """The staged book as a single HTML page."""
    out = work / "single"
    shutil.rmtree(out, ignore_errors=True)
    command = [
        str(Path(sys.executable).with_name("jupyter-book")),
        "build",
        str(work / "source"),
        "--path-output",
        str(out),
        "--builder",
        "singlehtml",
    ]
    result = subprocess.run(
        [*command, "-n", "--keep-going", "--all", "-q"],
        cwd=work / "source",
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    folder = out / "_build" / "singlehtml"
    contents = yaml.safe_load((work / "source" / "_toc.yml").read_text(encoding="utf-8"))
    page = folder / f"{contents['root']}.html"
    if result.returncode != 0 or not page.is_file():
        raise BookError(f"the book as one page has errors:\n{result.stdout}")
    # Links within the page would lead to another.
    text = page.read_text(encoding="utf-8").replace(
        f'href="{page.relative_to(folder).as_posix()}#', 'href="#'
    )
    page.unlink()
    # Its addresses begin there, wherever the first page of the book is.
    page = folder / "index.html"
    page.write_text(text, encoding="utf-8")
    return page


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """A folder as a site on a free port of this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def print_page(folder: Path, page: Path, target: Path, chromium: str) -> None:
    """Print one HTML page below ``folder`` to a PDF with bookmarks and tags.

    Raises
    ------
    BookError : Chromium failed, or some mathematics was not typeset.
    """
    from playwright.sync_api import Error, sync_playwright

    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".part-{target.name}")
    try:
        with serve(folder) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=flags)
            # The width of the printed column, 180 mm, so that what is wider is seen before
            # printing.
            tab = browser.new_page(viewport={"width": 680, "height": 1000}, color_scheme="light")
            tab.set_default_timeout(60_000 * MINUTES)
            tab.emulate_media(media="print")
            tab.goto(f"{address}/{page.relative_to(folder).as_posix()}", wait_until="load")
            tab.add_style_tag(content=PRINT_STYLE)
            tab.evaluate(OPEN_EVERYTHING)
            tab.evaluate("() => window.MathJax?.startup?.promise")
            tab.evaluate("() => document.fonts.ready")
            if missing := tab.evaluate(UNSET):
                raise BookError(f"{missing} formulas were not typeset")
            tab.evaluate(FIT)
            if wide := tab.evaluate(WIDE):
                raise BookError(
                    f"wider than the printed page, which would make all of it smaller: {wide}"
                )
            tab.evaluate(KEEP_TOGETHER)
            tab.pdf(
                path=part,
                format="A4",
                outline=True,
                tagged=True,
                print_background=True,
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=FOOTER,
                margin={"top": "16mm", "bottom": "16mm", "left": "15mm", "right": "15mm"},
            )
            headings = tab.evaluate(HEADINGS)
            browser.close()
        name_bookmarks(part, headings)
        part.replace(target)
    except Error as error:
        raise BookError(f"Chromium did not print the book: {str(error).splitlines()[0]}") from None
    finally:
        part.unlink(missing_ok=True)


def name_bookmarks(path: Path, headings: list[str]) -> None:
    """Chromium joins the lines of a heading without a space, and repeats those that it moved to the
    next page.

    Raises
    ------
    BookError : the bookmarks are not the headings.
    """
    writer = PdfWriter(clone_from=path)
    bookmarks = list(_in_order(writer.root_object["/Outlines"].get_object()))
    if len(bookmarks) != len(headings):
        raise BookError(f"Chromium made {len(bookmarks)} bookmarks of {len(headings)} headings")
    for bookmark, heading in zip(bookmarks, headings, strict=True):
        bookmark[NameObject("/Title")] = TextStringObject(heading)
    writer.write(path)


def _in_order(bookmark: Any) -> Iterator[Any]:
    below = bookmark.get("/First")
    while below is not None:
        yield below.get_object()
        yield from _in_order(below.get_object())
        below = below.get_object().get("/Next")


def make_pdf(root: Path, profile: str = "default") -> int:
    """Bring the book up to date, print it, and put it into the site."""
    chromium = find_chromium()  # before anything that takes minutes
    if status := make_book(root, profile):
        return status
    work, target = root / "_build" / ".books" / profile, pdf_path(root, profile)
    with lock(root / "_build" / ".books"):  # what is staged stays as it is
        content = (work / "content.key").read_text()
        fresh = current_pdf(root, profile, content) is None
        if fresh:
            start = time.monotonic()
            page = one_page(work)
            print_page(work / "single" / "_build" / "singlehtml", page, target, chromium)
            target.with_suffix(".key").write_text(content)
            print(f"{PDF_NAME}: printed in {time.monotonic() - start:.0f} s")
    if fresh:
        make_book(root, profile)  # now with a link to it
    print(target)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="default", help="parameters from params/PROFILE.yml")
    parser.add_argument("--root", type=Path, default=HERE.parent, help=argparse.SUPPRESS)
    options = parser.parse_args()
    return exit_status(lambda: make_pdf(options.root.resolve(), options.profile))


if __name__ == "__main__":
    sys.exit(main())
