"""What the extensions write with: texts with mathematics, references and tables as nodes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from docutils import nodes
from sphinx import addnodes
from sphinx.environment import BuildEnvironment

from rlvrlib.evidence import claims

Cell: TypeAlias = str | Sequence[nodes.Node] | nodes.entry


def text_and_math(text: object) -> list[nodes.Node]:
    """Plain text with ``$...$`` as mathematics."""
    return [
        nodes.math(piece, piece) if is_math else nodes.Text(piece)
        for piece, is_math in claims.text_and_math(text)
    ]


def number_and_math(text: object) -> list[nodes.Node]:
    """A value of the claims table: `text_and_math`, and numbers in e-notation as a power of ten."""
    number = r"(?:1|(\d+(?:\.\d+)?))e([+−-])0?(\d+)(?![\d$])"
    return text_and_math(re.sub(number, _power_of_ten, str(text)))


def _power_of_ten(found: re.Match[str]) -> str:
    factor, sign, power = found.groups()
    times = f"{factor}\\times " if factor else ""
    return f"${times}10^{{{sign.strip('+').replace('−', '-')}{power}}}$"


def reference(
    env: BuildEnvironment, kind: str, target: str, *content: nodes.Node, domain: str | None = "std"
) -> addnodes.pending_xref:
    """A reference that Sphinx resolves later; without content its text is the target's title."""
    return addnodes.pending_xref(
        "",
        nodes.inline("", "", *content),
        refdomain=domain,
        reftype=kind,
        reftarget=target,
        refexplicit=bool(content),
        refwarn=True,
        refdoc=env.docname,
    )


def table(
    columns: Sequence[str] | Mapping[str, int], rows: Iterable[Sequence[Cell]], *classes: str
) -> nodes.table:
    """A table with a head. A mapping gives the widths of the columns; a cell is a text, nodes, or
    an `entry` of them with attributes.
    """
    given = isinstance(columns, Mapping)
    widths = columns.values() if isinstance(columns, Mapping) else [1] * len(columns)
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in widths), cols=len(widths))
    group += [nodes.thead("", _row(list(columns))), nodes.tbody("", *map(_row, rows))]
    return nodes.table("", group, classes=["colwidths-given"] * given + list(classes))


def _row(cells: Sequence[Cell]) -> nodes.row:
    return nodes.row("", *(c if isinstance(c, nodes.entry) else entry(c) for c in cells))


def entry(content: str | Sequence[nodes.Node], **attributes: list[str]) -> nodes.entry:
    """A cell, with ``ids`` or ``classes``; nothing stands in it where there is no content."""
    inside = [nodes.Text(content)] if isinstance(content, str) else content
    return nodes.entry("", *[nodes.paragraph("", "", *inside)] * bool(content), **attributes)
