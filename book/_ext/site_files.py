"""The files of the site that are no pages of the book: ``404.html``, ``sitemap.xml``, ``llms.txt``;
and how to cite.

Addresses begin with ``html_baseurl``, which stands in ``_config.yml``. ``{how-to-cite}`` is written
from ``CITATION.cff``; ``{pdf-link}`` leads to the whole book as PDF where ``make pdf`` made one of
the same sources.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from docutils import nodes
from provenance import read_facts
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)
ASKS = ("Question.", "What this part answers.")

NOT_FOUND = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<base href="{base}">
<title>Page not found - {title}</title>
<link rel="icon" href="_static/favicon.svg">
<style>
  :root {{ color-scheme: light dark; }}
  body {{ margin: 15vh auto; max-width: 36em; padding: 0 1em; }}
  body {{ font: 1.1em/1.5 system-ui, sans-serif; }}
  input, button {{ font: inherit; padding: 0.3em 0.6em; max-width: 100%; }}
</style>
</head>
<body>
<main>
<h1>There is no such page</h1>
<p>It may have moved, or the address has a slip. The book begins <a href="{home}">here</a>.</p>
<form action="search.html" role="search">
<label for="q">Search the book:</label>
<input type="search" id="q" name="q"> <button>Search</button>
</form>
<ul>
{links}
</ul>
</main>
</body>
</html>
"""


def write_files(app: Sphinx, error: Exception | None) -> None:
    """Once the pages are written."""
    if error or app.builder.name != "html":
        return
    base, out = app.config.html_baseurl, Path(app.outdir)
    if not re.fullmatch(r"https?://[^\s]+/", base):
        logger.warning(
            "html: baseurl: in _config.yml must be an address that ends in '/', got %r: "
            "no sitemap, no 404 page, no llms.txt",
            base,
        )
        return
    (out / "sitemap.xml").write_text(sitemap(app, base), encoding="utf-8")
    (out / "llms.txt").write_text(llms(app, base), encoding="utf-8")
    (out / "404.html").write_text(not_found(app, base), encoding="utf-8")


def parts(app: Sphinx) -> Iterator[tuple[str, list[str]]]:
    """Caption and pages of each part of the table of contents; the home page is not among them."""
    tree = app.config.external_site_map

    def below(name: str) -> Iterator[str]:
        yield name
        for subtree in tree[name].subtrees:
            for item in subtree.items:
                yield from below(str(item))

    listed: dict[str, list[str]] = {}
    for subtree in tree.root.subtrees:  # the chapters of a part stand apart from its overview
        caption = subtree.caption or list(listed)[-1]
        pages = [page for item in subtree.items for page in below(str(item))]
        listed.setdefault(caption, []).extend(pages)
    yield from listed.items()


def pages(app: Sphinx) -> list[str]:
    return [app.config.root_doc, *(page for _, names in parts(app) for page in names)]


def sitemap(app: Sphinx, base: str) -> str:
    """Every page of the book. Without dates, so that an unchanged book has an unchanged sitemap."""
    rows = "".join(
        f"<url><loc>{escape(base + app.builder.get_target_uri(page))}</loc></url>\n"
        for page in pages(app)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{rows}</urlset>\n'
    )


def llms(app: Sphinx, base: str) -> str:
    """The book for language models (llmstxt.org): one line for each page, its title and its
    question.
    """
    home = app.env.get_doctree(app.config.root_doc)
    lines = [
        f"# {app.env.titles[app.config.root_doc].astext()}",
        "",
        f"> {_plain(next(home.findall(nodes.emphasis)))}",
        "",
    ]
    for caption, names in parts(app):
        lines += [f"## {caption}", ""]
        for page in names:
            title, address = app.env.titles[page].astext(), app.builder.get_target_uri(page)
            asked = question(app.env.get_doctree(page))
            lines.append(f"- [{title}]({base}{address}){': ' if asked else ''}{asked}")
        lines.append("")
    return "\n".join(lines)


def question(page: nodes.document) -> str:
    """The paragraph that begins with **Question.** or **What this part answers.**; on other pages
    the first paragraph's first sentence; else nothing.
    """
    for paragraph in page.findall(nodes.paragraph):
        first = next((child for child in paragraph.children if child.astext()), None)
        if isinstance(first, nodes.strong) and first.astext() in ASKS:
            return _plain(paragraph).removeprefix(first.astext()).strip()
    return re.split(r"(?<=[.?:])\s", _first_words(page), maxsplit=1)[0].rstrip(":")


def _first_words(page: nodes.document) -> str:
    """The first paragraph that stands directly in a section."""
    for paragraph in page.findall(nodes.paragraph):
        if isinstance(paragraph.parent, nodes.section):
            return _plain(paragraph)
    return ""


def _plain(node: nodes.Node) -> str:
    return " ".join(node.astext().split())


def not_found(app: Sphinx, base: str) -> str:
    """A page without style sheets or scripts of its own: it is served in place of pages at any
    depth.
    """
    links = []
    for caption, (page, *_) in parts(app):
        title, address = app.env.titles[page].astext(), app.builder.get_target_uri(page)
        text = title if title.startswith(caption) else f"{caption}: {title}"
        links.append(f'<li><a href="{address}">{escape(text)}</a></li>')
    home = app.builder.get_target_uri(app.config.root_doc)
    return NOT_FOUND.format(
        base=escape(urlsplit(base).path),
        title=escape(app.config.project),
        home=home,
        links="\n".join(links),
    )


class HowToCite(SphinxDirective):
    """Text and BibTeX for this book and the paper, from ``CITATION.cff``."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / "CITATION.cff"
        self.env.note_dependency(str(path))
        cff = yaml.safe_load(path.read_text(encoding="utf-8"))
        made: list[nodes.Node] = [nodes.paragraph("", cff["message"])]
        own = {
            **cff,
            "url": self.config.html_baseurl,
            "key": "the-safe-step",
            "type": "misc",
            "note": f"Version {cff['version']}",
        }
        for work in (own, *cff.get("references", [])):
            made.append(nodes.paragraph("", "", *in_words(work)))
            code = nodes.literal_block("", bibtex(work))
            code["language"] = "bibtex"
            made.append(code)
        return made


def _names(work: dict[str, Any], pattern: str) -> list[str]:
    return [
        pattern.format(family=author["family-names"], given=author["given-names"])
        if "family-names" in author
        else author["name"]
        for author in work["authors"]
    ]


def _identifier(work: dict[str, Any]) -> str:
    return ", ".join(found["value"] for found in work.get("identifiers", []))


def in_words(work: dict[str, Any]) -> list[nodes.Node]:
    """One work as a sentence."""
    authors = " and ".join(_names(work, "{given} {family}"))
    year = f" ({work['year']})" if "year" in work else ""
    tail = [text for text in (work.get("note", ""), _identifier(work), work.get("url", "")) if text]
    return [
        nodes.Text(f"{authors[0].upper()}{authors[1:]}{year}. "),
        nodes.emphasis("", work["title"]),
        nodes.Text(f". {', '.join(tail)}"),
    ]


def bibtex(work: dict[str, Any]) -> str:
    """One work as a BibTeX entry."""
    people = [
        name if "family-names" in author else f"{{{name}}}"
        for name, author in zip(_names(work, "{family}, {given}"), work["authors"], strict=True)
    ]
    key = work.get("key") or f"{work['authors'][0]['family-names'].lower()}{work['year']}"
    fields = {
        "title": f"{{{work['title']}}}",
        "author": " and ".join(people),
        "year": work.get("year"),
        "url": work.get("url"),
        "note": work.get("note"),
    }
    if arxiv := [
        i["value"].removeprefix("arXiv:")
        for i in work.get("identifiers", [])
        if i["value"].startswith("arXiv:")
    ]:
        fields |= {"eprint": arxiv[0], "archiveprefix": "arXiv"}
    rows = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
    return f"@misc{{{key},\n{rows}\n}}"


class PdfLink(SphinxDirective):
    """A link to the PDF that belongs to these pages, or how to make it."""

    def run(self) -> list[nodes.Node]:
        name = read_facts(Path(self.env.srcdir)).get("pdf")
        if name and self.env.app.builder.name == "html":
            address = "../" * self.env.docname.count("/") + name
            link = f'<a href="{escape(address)}">{escape(name)}</a>'
            text = f"<p>{link}, made from the same sources as these pages.</p>"
            return [nodes.raw("", text, format="html")]
        rest = nodes.Text(" makes the whole book as one PDF; it needs Chromium.")
        return [nodes.paragraph("", "", nodes.literal("", "make pdf"), rest)]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("how-to-cite", HowToCite)
    app.add_directive("pdf-link", PdfLink)
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
