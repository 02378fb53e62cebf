"""Claims of the executed notebooks, in the appendix and in the prose.

``{claims-table}`` lists every claim of every notebook. The roles ``{measured}`` and ``{predicted}`` put the value of
one claim into a sentence: ``{measured}`05_overshoot:flip` ``. An unknown name is a warning, which fails the build.
"""

from __future__ import annotations

from typing import Any

import nbformat
from docutils import nodes
from notebook_source import notebook_path, text_and_math
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from rlvrlib.claims import collect, summary

logger = logging.getLogger(__name__)

MARKS = {"holds": "✓ holds", "fails": "✗ fails", "outside the assumptions": "– outside the assumptions"}
COLUMNS = {"Claim": 40, "Predicted": 15, "Measured": 15, "Tolerance": 10, "Verdict": 20}


class ClaimsTable(SphinxDirective):
    """All claims, one section for each notebook of the table of contents."""

    def run(self) -> list[nodes.Node]:
        stems = sorted(name.split("/", 1)[1] for name in self.env.found_docs if name.startswith("notebooks/"))
        collected = {stem: collect(notebook_path(self.env, stem)) for stem in stems}
        total = f"{summary(row for rows in collected.values() for row in rows)}."
        return [nodes.paragraph("", total), *(self._section(stem, rows) for stem, rows in collected.items())]

    def _section(self, stem: str, rows: list[dict[str, Any]]) -> nodes.section:
        section = nodes.section("", nodes.title("", "", *text_and_math(_title(self.env.doc2path(f"notebooks/{stem}")))))
        section["ids"] = [f"claims-{stem.replace('_', '-')}"]
        link = addnodes.pending_xref(
            "", nodes.inline("", stem), refdomain="std", reftype="doc", reftarget=f"/notebooks/{stem}",
            refexplicit=True, refwarn=True, refdoc=self.env.docname,
        )  # fmt: skip
        section += nodes.paragraph("", "", nodes.Text("Notebook: "), link)
        section += _table(rows) if rows else nodes.paragraph("", "This notebook states no claim.")
        return section


class ClaimValue(SphinxRole):
    """The predicted or measured value of ``NOTEBOOK:KEY``."""

    def __init__(self, field: str) -> None:
        self.field = field

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        stem, _, key = self.text.partition(":")
        path = notebook_path(self.env, stem)
        rows = collect(path) if path.is_file() else []
        for row in rows:
            if row["key"] == key:
                return [nodes.inline("", "", *text_and_math(row[self.field]), classes=["claim-value"])], []
        known = ", ".join(str(row["key"]) for row in rows) or "none"
        logger.warning("no claim %r in notebook %r (there are: %s)", key, stem, known, location=self.get_location())
        return [nodes.problematic(self.rawtext, self.rawtext)], []


def _title(path: str) -> str:
    """The first heading of a notebook."""
    for cell in nbformat.read(path, as_version=4).cells:
        for line in cell.source.splitlines():
            if cell.cell_type == "markdown" and line.startswith("# "):
                return line[2:].strip()
    return path


def _table(rows: list[dict[str, Any]]) -> nodes.table:
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in COLUMNS.values()), cols=len(COLUMNS))
    group += nodes.thead("", nodes.row("", *(_entry([nodes.Text(name)]) for name in COLUMNS)))
    group += nodes.tbody("", *(_row(row) for row in rows))
    return nodes.table("", group, classes=["claims", "colwidths-given"])


def _row(row: dict[str, Any]) -> nodes.row:
    verdict = str(row["verdict"])
    reason = f": {row['reason']}" if row["reason"] else ""
    source = nodes.inline("", "", *text_and_math(row["source"]), classes=["source"])
    return nodes.row(
        "",
        _entry([*text_and_math(row["statement"]), nodes.Text(" "), source]),
        _entry(text_and_math(_sign(str(row["relation"])) + str(row["predicted_text"]))),
        _entry(text_and_math(row["measured_text"])),
        _entry(text_and_math(row["tolerance_text"])),
        _entry(text_and_math(MARKS[verdict] + reason), f"verdict-{verdict.split()[0]}"),
    )


def _sign(relation: str) -> str:
    return "" if relation == "=" else relation.replace("<=", "≤").replace(">=", "≥") + " "


def _entry(content: list[nodes.Node], *classes: str) -> nodes.entry:
    return nodes.entry("", *([nodes.paragraph("", "", *content)] if content else []), classes=list(classes))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("claims-table", ClaimsTable)
    app.add_role("measured", ClaimValue("measured_text"))
    app.add_role("predicted", ClaimValue("predicted_text"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
