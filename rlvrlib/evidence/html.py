"""One self-contained HTML page, and what stands on it: tables, claims, figures, mathematics.

A page loads nothing and runs nothing: its content security policy forbids both to the browser.
Mathematics is MathML, figures are part of the page and take its colours, and light or dark follows
the reader's system.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from latex2mathml.converter import convert

from rlvrlib.evidence import claims
from rlvrlib.evidence.figures import inline_svg

_STYLE = Path(__file__).with_name("page.css")
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)


def document(title: str, body: str, style: str = "") -> str:
    """A whole page around a body of HTML, with a style of its own beside that of all pages."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="generator" content="rlvr">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE.read_text(encoding='utf-8')}{style}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def facts_table(facts: Mapping[str, object]) -> str:
    """Names and values, one a row, escaped."""
    rows = (
        f"<tr><th scope='row'>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<div class='wide'><table class='facts'>{''.join(rows)}</table></div>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of escaped texts in which ``$...$`` is typeset."""
    head = "".join(f"<th scope='col'>{typeset(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{typeset(entry)}</td>" for entry in row) + "</tr>" for row in rows
    )
    inside = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f"<div class='wide'><table>{inside}</table></div>"


def claims_table(rows: Iterable[Mapping[str, object]]) -> str:
    """The table of the book."""
    return f"<div class='wide'>{claims.to_html(rows, math)}</div>"


def typeset(text: object) -> str:
    """The text, escaped; ``$...$`` becomes mathematics."""
    return claims.typeset(text, math)


def math(tex: str, display: bool = False) -> str:
    """MathML; the source in its place where it is no LaTeX that can be read."""
    try:
        result = convert(tex, display="block" if display else "inline")
    except Exception:  # its errors have no common class
        result = "\\"
    return f"<code>{html.escape(tex)}</code>" if "\\" in result else result


def figure(svg: str, prefix: str, alt: str, caption: str = "") -> str:
    """An SVG of `rlvrlib.evidence.figures` with its caption (``$...$`` is typeset). The prefix
    keeps its ids apart from other figures'.
    """
    below = f"<figcaption>{typeset(caption)}</figcaption>" if caption else ""
    return f"<figure>{inline_svg(svg, prefix, alt)}{below}</figure>"
