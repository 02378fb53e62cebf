"""The search of the site: pagefind's index, chapters before notebooks before reference.

pagefind reads the written pages. What counts how much, and the words by which readers ask for a
page without its using them (``search_words.yml``), is marked in the pages. Where pagefind is absent
or cannot fetch, from a page opened as a file, the theme's own search stays (``_static/search.js``).
"""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
# Of the pages that are not chapters: how much a word on them counts.
WEIGHTS = {
    "notebooks/": 0.1,
    "book/api": 0.1,
    "book/claims": 0.1,
    "book/changelog": 0.1,
    "book/status": 0.1,
    "book/bibliography": 0.1,
    "book/benchmarks": 0.2,
    "book/related_work": 0.4,
    "book/part_": 0.4,
    "book/index": 0.4,
    "book/theorems": 0.6,
    "book/open_questions": 0.6,
}
# No snippet of a result is made of these.
LEFT_OUT = (
    ".math, .headerlink, svg, pre, .provenance, .symbols-here, .reproduce, table.claims, .caption, "
    "dl.py dd"
)
UNUSED = ("*component*", "*modular*", "*highlight*", "pagefind-ui*", "wasm.unknown*")


def mark(page: str, name: str) -> str:
    """The page with what pagefind asks: its body, weights, and words that it is found by."""
    if not name.startswith(("book/", "notebooks/")):  # written by nobody: it is not searched
        return page
    weight = next((value for start, value in WEIGHTS.items() if name.startswith(start)), 1.0)
    attributes = f' data-pagefind-body data-pagefind-weight="{weight}"'
    words = escape(_words().get(name.removeprefix("book/"), ""))
    named = f'<p hidden data-pagefind-meta="words:{words}"></p>'
    page = page.replace(
        '<article class="bd-article">',
        f'<article class="bd-article"{attributes}>{named if words else ""}',
    )
    # The name of a theorem counts as much as a heading.
    title = '<p class="admonition-title">'
    return page.replace(title, f'{title[:-1]} data-pagefind-weight="{5 * weight}">')


@cache
def _words() -> dict[str, str]:
    path = Path(__file__).with_name("search_words.yml")
    found: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def write_index(app: Sphinx, failure: Exception | None) -> None:
    """Once the pages are written."""
    if failure or app.builder.name != "html":
        return
    if not find_spec("pagefind"):
        logger.info("search: there is no pagefind, the theme's own search stays")
        return
    command = [sys.executable, "-m", "pagefind", "--site", str(app.outdir)]
    done = subprocess.run(
        [*command, "--exclude-selectors", LEFT_OUT], capture_output=True, text=True, check=False
    )
    if done.returncode or not re.search(r"Indexed [1-9]\d* pages", done.stdout):
        logger.warning("search: pagefind failed: %s", done.stdout + done.stderr)
    for pattern in UNUSED:
        for file in (Path(app.outdir) / "pagefind").glob(pattern):
            file.unlink()


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", write_index, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
