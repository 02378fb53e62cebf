"""An executed notebook as one self-contained page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any
from xml.etree.ElementTree import ParseError

from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from rlvrlib.evidence import claims, html
from rlvrlib.running.execution import Run, installed_versions

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def notebook_page(name: str, run: Run) -> str:
    """An executed notebook as a page: facts of the run, claims first, then the cells.

    Parameters
    ----------
    name : the notebook's name.
    """
    given = ", ".join(f"{name} = {value}" for name, value in run.parameters.items())
    facts = {
        "parameters given": given or "none",
        "run time": f"{run.seconds:.1f} s",
        "versions": installed_versions(),
    }
    cells = "\n".join(_cell(cell, number) for number, cell in enumerate(run.notebook.cells))
    head = [html.facts_table(facts)]
    if run.claims:
        summary = f"<p>{escape(claims.summary(run.claims))}</p>"
        head += [
            "<h2 id='claims'>Claims</h2>",
            summary,
            html.claims_table(run.claims),
            "<h2>The notebook</h2>",
        ]
    return html.document(name, "\n".join(["<header>", *head, "</header>", cells]), _colours())


def _colours() -> str:
    """Of the words of code, for light and for dark; the ground is the page's."""
    light, dark = (
        "".join(re.findall(r"(?m)^pre \.\w+ .*$", HtmlFormatter(style=name).get_style_defs("pre")))
        for name in ("xcode", "github-dark")
    )
    return f"{light}@media (prefers-color-scheme: dark) {{{dark}}}"


# ---- cells


def _cell(cell: NotebookNode, number: int) -> str:
    tags = cell.metadata.get("tags", [])
    if "remove-cell" in tags or not cell.source.strip():
        return ""
    if "claims" in tags:
        return "<p><a href='#claims'>The claims stand at the top.</a></p>"
    if cell.cell_type != "code":
        return _markdown(cell.source) if cell.cell_type == "markdown" else ""
    code = highlight(cell.source, PythonLexer(), HtmlFormatter(nowrap=True))
    block = f"<pre tabindex='0'><code>{code}</code></pre>"
    if "hide-input" in tags:
        block = f"<details><summary>Code</summary>{block}</details>"
    elif "injected-parameters" in tags:
        block = f"<p class='note'>Parameters of this run:</p>{block}"
    about = cell.metadata.get("mystnb", {})
    shown = (
        _output(output, f"c{number}o{index}-", about) for index, output in enumerate(cell.outputs)
    )
    return f"<section>{block}{''.join(shown)}</section>"


def _output(output: NotebookNode, prefix: str, about: Mapping[str, Any]) -> str:
    if output.output_type == "stream":
        return f"<pre class='output' tabindex='0'>{_plain(output.text)}</pre>"
    if output.output_type == "error":
        trace = "\n".join(output.traceback)
        return f"<pre class='output' tabindex='0'>{_plain(trace)}</pre>"
    data = {
        mime: "".join(content) if isinstance(content, list) else content
        for mime, content in output.data.items()
    }
    alt = about.get("image", {}).get("alt", "a figure")
    caption = about.get("figure", {}).get("caption", "")
    if "image/svg+xml" in data:
        try:
            return html.figure(data["image/svg+xml"], prefix, alt, caption)
        except (ParseError, ValueError, IndexError):
            return "<p class='note'>A figure that is no SVG was left out.</p>"
    for kind in ("png", "jpeg"):
        if content := data.get(f"image/{kind}"):
            source = f"data:image/{kind};base64,{escape(content.strip())}"
            below = f"<figcaption>{html.typeset(caption)}</figcaption>" if caption else ""
            return f"<figure><img src='{source}' alt='{escape(alt)}'>{below}</figure>"
    # The notebook's own; the page's policy keeps it from running or loading anything.
    if "text/html" in data:
        return f"<div class='wide'>{data['text/html']}</div>"
    return f"<pre class='output' tabindex='0'>{_plain(str(data.get('text/plain', '')))}</pre>"


def _plain(text: str) -> str:
    return escape(_ANSI.sub("", text))


def _markdown(source: str) -> str:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.use(
        dollarmath_plugin,
        double_inline=True,
        renderer=lambda tex, options: html.math(tex, options["display_mode"]),
    )
    rendered = parser.render(source)
    # Links into the book's folders lead nowhere from here: their text stays.
    return re.sub(r'<a href="(?!https?:|#)[^"]*">(.*?)</a>', r"\1", rendered, flags=re.DOTALL)
