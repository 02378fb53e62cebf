"""One self-contained HTML page, and what stands on it: tables, claims, figures, mathematics.

A page loads nothing and runs nothing: its content security policy forbids both to the browser.
Mathematics is MathML, figures are part of the page and take its colours, and light or dark follows
the reader's system.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence

from latex2mathml.converter import convert
from pygments.formatters import HtmlFormatter

from rlvrlib.evidence import claims
from rlvrlib.evidence.figures import inline_svg

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def document(title: str, body: str) -> str:
    """A whole page around a body of HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{html.escape(title)}</title>'
        f"<style>{_style()}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
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
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


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


def _style() -> str:
    light, dark = (
        HtmlFormatter(style=name).get_style_defs("pre") for name in ("xcode", "github-dark")
    )
    keep = re.compile(r"^pre \.\w+ .*$", re.MULTILINE)  # tokens alone; the ground is the page's
    return f"{_CSS}{''.join(keep.findall(light))}@media (prefers-color-scheme: dark) {{{''.join(keep.findall(dark))}}}"


_CSS = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1f24; --muted: #57606a; --line: #d0d7de; --soft: #f5f6f8;
  --holds: #00684a; --fails: #b02a00; --link: #0f5bc9; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181d; --ink: #e2e6eb; --muted: #a0a9b3; --line: #3a424c;
  --soft: #1d232a; --holds: #4fd1a5; --fails: #ff9270; --link: #7ab7ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
main { max-width: 56rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; overflow-wrap: break-word; }
h1, h2, h3 { line-height: 1.25; margin: 1.8em 0 0.6em; } h1 { margin-top: 0.3em; }
a { color: var(--link); }
math { font-size: 1.08em; font-family: "Latin Modern Math", "STIX Two Math", "Cambria Math", math; }
/* Browsers without a mathematical font set scripts too high; the shift is hardly seen with one. */
msub > :nth-child(2), msubsup > :nth-child(2) { position: relative; top: 0.25em; }
msup > :nth-child(2), msubsup > :nth-child(3) { position: relative; top: 0.25em; }
math[display="block"] { overflow-x: auto; overflow-y: hidden; padding: 0.2em 0; }
pre, code { font: 0.85rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 4px; padding: 0.6em 0.8em; overflow-x: auto; }
pre.output { background: none; border-width: 0 0 0 3px; border-radius: 0; }
summary { cursor: pointer; color: var(--muted); }
figure { margin: 1.5em 0; } figcaption, .note, .source { color: var(--muted); font-size: 0.9em; }
figure img { max-width: 100%; height: auto; background: #fefefc; border-radius: 4px; }
svg.theme-svg { display: block; margin: 0 auto; max-width: 100%; height: auto; color: var(--ink); }
.theme-svg-frame, .wide { max-width: 100%; overflow-x: auto; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: 1.2rem; }
.panels figure { margin: 0; } .panels h3 { font-size: 0.95rem; font-weight: 600; margin: 0 0 0.3em; }
table { border-collapse: collapse; font-size: 0.9em; }
th, td { text-align: left; vertical-align: top; padding: 0.35em 0.7em; border-bottom: 1px solid var(--line); }
table.claims { width: 100%; } table.claims .source { display: block; } table.claims td:nth-child(4) { white-space: nowrap; }
td[class*="verdict-"] { font-weight: 600; } td.verdict-holds { color: var(--holds); white-space: nowrap; }
td.verdict-fails { color: var(--fails); } td.verdict-outside { color: var(--muted); }
@media (max-width: 639px) {
  table.claims, table.claims tbody, table.claims tr, table.claims td { display: block; }
  table.claims thead { position: absolute; clip-path: inset(50%); height: 1px; width: 1px; overflow: hidden; }
  table.claims tr { border-bottom: 2px solid var(--line); padding: 0.5em 0; }
  table.claims td { border: 0; padding: 0.1em 0; }
  table.claims td:nth-child(2)::before { content: "Predicted: "; }
  table.claims td:nth-child(3)::before { content: "Measured: "; }
  table.claims td:nth-child(4):not(:empty)::before { content: "Tolerance: "; }
}
"""
