"""Claims of the executed notebooks, in the appendix and in the prose.

``{claims-table}`` lists every claim of every notebook. The roles ``{measured}`` and ``{predicted}``
put the value of one claim into a sentence: ``{measured}`overshoot:flip` ``. An unknown name is a
warning, which fails the build.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from notebook_source import executed, notebook_path, number_and_math, text_and_math
from reading_order import notebooks
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from rlvrlib.evidence.claims import rows_of, summary

logger = logging.getLogger(__name__)

MARKS = {
    "holds": "✓ holds",
    "fails": "✗ fails",
    "outside the assumptions": "– outside the assumptions",
}
COLUMNS = {
    "Claim": 30,
    "Theorem": 12,
    "Predicted": 9,
    "Measured": 9,
    "Tolerance": 8,
    "Verdict": 8,
    "Notebook": 10,
    "Parameters": 9,
    "Seed": 5,
}


class ClaimsTable(SphinxDirective):
    """All claims in one table, which ``book.js`` lets a reader sort and filter."""

    def run(self) -> list[nodes.Node]:
        found = self.env.found_docs
        order = notebooks(Path(self.env.srcdir))
        stems = [stem for stem in order if f"notebooks/{stem}" in found]
        collected = {stem: rows_of(executed(notebook_path(self.env, stem))) for stem in stems}
        total = f"{summary(row for rows in collected.values() for row in rows)}."
        group = nodes.tgroup(
            "", *(nodes.colspec(colwidth=width) for width in COLUMNS.values()), cols=len(COLUMNS)
        )
        group += nodes.thead("", nodes.row("", *(_entry([nodes.Text(name)]) for name in COLUMNS)))
        body = nodes.tbody()
        for stem, rows in collected.items():
            given, seed = run_parameters(notebook_path(self.env, stem))
            for row in rows:
                body += _row(row, [self._link(stem), given, seed])
        group += body
        return [
            nodes.paragraph("", total),
            nodes.table("", group, classes=["claims", "evidence", "colwidths-given"]),
        ]

    def _link(self, stem: str) -> addnodes.pending_xref:
        return addnodes.pending_xref(
            "",
            nodes.inline("", stem),
            refdomain="std",
            reftype="doc",
            reftarget=f"/notebooks/{stem}",
            refexplicit=True,
            refwarn=True,
            refdoc=self.env.docname,
        )


def run_parameters(path: Path) -> tuple[str, str]:
    """What a run changed of a notebook's parameters, and its seed: ``defaults`` and ``none`` where
    there is nothing.
    """
    known: dict[str, str] = {}
    given: dict[str, str] = {}
    for cell in executed(path).cells:
        for tag, values in (("parameters", known), ("injected-parameters", given)):
            if tag in cell.metadata.get("tags", []):
                values |= dict(
                    re.findall(
                        r"^(\w+)(?::[^=\n]+)? = (.+?)(?:  #.*)?$", cell.source, flags=re.MULTILINE
                    )
                )
    changed = ", ".join(f"{name} = {value}" for name, value in given.items()) or "defaults"
    return changed, (known | given).get("seed", "none")


class ClaimValue(SphinxRole):
    """The predicted or measured value of ``NOTEBOOK:KEY``."""

    def __init__(self, field: str) -> None:
        self.field = field

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        stem, _, key = self.text.partition(":")
        path = notebook_path(self.env, stem)
        rows = rows_of(executed(path)) if path.is_file() else []
        for row in rows:
            if row["key"] == key:
                return [
                    nodes.inline("", "", *number_and_math(row[self.field]), classes=["claim-value"])
                ], []
        known = ", ".join(str(row["key"]) for row in rows) or "none"
        logger.warning(
            "no claim %r in notebook %r (there are: %s)",
            key,
            stem,
            known,
            location=self.get_location(),
        )
        return [nodes.problematic(self.rawtext, self.rawtext)], []


def _row(row: dict[str, Any], run: list[Any]) -> nodes.row:
    verdict = str(row["verdict"])
    reason = f": {row['reason']}" if row["reason"] else ""
    link, given, seed = run
    return nodes.row(
        "",
        _entry(text_and_math(row["statement"])),
        _entry(text_and_math(row["source"])),
        _entry(number_and_math(_sign(str(row["relation"])) + str(row["predicted_text"]))),
        _entry(number_and_math(row["measured_text"])),
        _entry(number_and_math(row["tolerance_text"])),
        _entry(text_and_math(MARKS[verdict] + reason), f"verdict-{verdict.split()[0]}"),
        _entry([link]),
        _entry([nodes.Text(given)]),
        _entry([nodes.Text(seed)]),
    )


def _sign(relation: str) -> str:
    return "" if relation == "=" else relation.replace("<=", "≤").replace(">=", "≥") + " "


def _entry(content: list[nodes.Node], *classes: str) -> nodes.entry:
    return nodes.entry(
        "", *([nodes.paragraph("", "", *content)] if content else []), classes=list(classes)
    )


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("claims-table", ClaimsTable)
    app.add_role("measured", ClaimValue("measured_text"))
    app.add_role("predicted", ClaimValue("predicted_text"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
