"""The notation page, and what links to it and to the glossary.

``{symbol-table}`` lists ``book/symbols.yml`` by the letters: each symbol, its meaning, and where it
is defined. Every chapter opens with a collapsed list of the symbols that its
mathematics uses, each linked to that table, and the first use of each term of ``book/glossary.md``
in a chapter's prose is linked to the glossary.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import yaml
from docutils import nodes
from sources import chapters
from sphinx.application import Sphinx
from sphinx.domains.std import StandardDomain
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from writing import entry, reference, table, text_and_math


@cache
def read_symbols(file: Path) -> list[dict[str, str]]:
    """The entries of ``symbols.yml``: ``id``, ``symbol``, ``pattern`` (of LaTeX source),
    ``meaning``, ``defined``.
    """
    return yaml.safe_load(file.read_text(encoding="utf-8"))


@cache
def read_terms(file: Path) -> tuple[str, ...]:
    """The terms of the glossary, longest first, so that ``cumulative gap alignment`` is found
    before ``gap``.
    """
    block = re.search(r"```\{glossary\}\n(.*?)```", file.read_text(encoding="utf-8"), re.DOTALL)
    lines = block[1].splitlines() if block else []
    return tuple(
        sorted((line for line in lines if line and line[0] not in " :"), key=len, reverse=True)
    )


def used(symbols: list[dict[str, str]], mathematics: str) -> list[dict[str, str]]:
    """The symbols that occur in LaTeX source."""
    return [symbol for symbol in symbols if re.search(symbol["pattern"], mathematics)]


def spoken(symbol: dict[str, str]) -> tuple[str, str]:
    """A symbol's place in the alphabet: by its first letter, spelled out where it is Greek."""
    letters = re.search(r"[A-Za-z]+", symbol["symbol"].replace("\\mathrm", ""))
    return (letters[0].lower() if letters else "", symbol["symbol"])


class SymbolTable(SphinxDirective):
    """Every symbol of the book."""

    def run(self) -> list[nodes.Node]:
        source, std = Path(self.env.srcdir), cast(StandardDomain, self.env.get_domain("std"))
        file = source / "book" / "symbols.yml"
        self.env.note_dependency(str(file))
        rows = []
        for symbol in sorted(read_symbols(file), key=spoken):
            anchor = f"symbol-{symbol['id']}"
            std.anonlabels[anchor] = (self.env.docname, anchor)
            rows.append(
                (
                    entry(text_and_math(f"${symbol['symbol']}$"), ids=[anchor]),
                    text_and_math(symbol["meaning"]),
                    [reference(self.env, "doc", f"/book/{symbol['defined']}")],
                )
            )
        return [table({"Symbol": 18, "Meaning": 57, "Where": 25}, rows, "symbols")]


def prepare_chapter(app: Sphinx, doctree: nodes.document) -> None:
    """Add the list of symbols to a chapter, and link the first use of each term."""
    if app.env.docname not in chapters(Path(app.srcdir)):
        return
    book = Path(app.srcdir) / "book"
    for file in (book / "symbols.yml", book / "glossary.md"):
        app.env.note_dependency(str(file))
    _link_terms(app.env, doctree, read_terms(book / "glossary.md"))
    mathematics = " ; ".join(
        node.astext() for kind in (nodes.math, nodes.math_block) for node in doctree.findall(kind)
    )
    page = next(iter(doctree.findall(nodes.section)))
    first = next(
        (index for index, node in enumerate(page) if isinstance(node, nodes.section)), len(page)
    )
    if symbols := used(read_symbols(book / "symbols.yml"), mathematics):
        page.insert(first, _symbol_list(app.env, symbols))


def _symbol_list(env: BuildEnvironment, symbols: list[dict[str, str]]) -> list[nodes.Node]:
    items = nodes.bullet_list()
    for symbol in symbols:
        target = reference(
            env,
            "myst",  # of "ref" only the letters are kept
            f"symbol-{symbol['id']}",
            *text_and_math(f"${symbol['symbol']}$"),
            domain=None,
        )
        items += nodes.list_item(
            "", nodes.paragraph("", "", target, nodes.Text(" "), *text_and_math(symbol["meaning"]))
        )
    opening = '<details class="symbols-here"><summary>Symbols on this page</summary>'
    return [
        nodes.raw("", opening, format="html"),
        items,
        nodes.raw("", "</details>", format="html"),
    ]


def _link_terms(env: BuildEnvironment, doctree: nodes.document, terms: tuple[str, ...]) -> None:
    waiting = list(terms)
    _join_lines(doctree)
    for text in list(doctree.findall(nodes.Text)):
        if not isinstance(text.parent, (nodes.paragraph, nodes.strong)) or not waiting:
            continue
        if not isinstance(text.parent, nodes.paragraph) and not isinstance(
            text.parent.parent, nodes.paragraph
        ):
            continue
        pieces, rest = [], text.astext()
        while match := re.search(
            "|".join(rf"\b{re.escape(term)}\b" for term in waiting), rest, re.IGNORECASE
        ):
            term = next(name for name in waiting if name.lower() == match[0].lower())
            waiting.remove(term)
            pieces += [nodes.Text(rest[: match.start()])] if match.start() else []
            pieces.append(reference(env, "term", term, nodes.Text(match[0])))
            rest = rest[match.end() :]
            if not waiting:
                break
        if pieces:
            text.parent.replace(text, [*pieces, *([nodes.Text(rest)] if rest else [])])


def _join_lines(doctree: nodes.document) -> None:
    """MyST makes a text of every line of a paragraph: one text again, for a term on two lines."""
    for parent in list(doctree.findall(nodes.TextElement)):
        if isinstance(parent, (nodes.paragraph, nodes.strong)):
            children = parent.children
            parent.clear()
            for lines, run in groupby(children, lambda node: isinstance(node, nodes.Text)):
                parts = list(run)
                parent += nodes.Text("".join(parts).replace("\n", " ")) if lines else parts


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("symbol-table", SymbolTable)
    app.connect("doctree-read", prepare_chapter)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
