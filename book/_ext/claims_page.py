"""Claims of the executed notebooks, in the appendix and in the prose.

``{claims-table}`` lists every prediction and every record, notebook by notebook and folded; the
same rows are in ``claims.csv``. The roles
``{measured}``, ``{predicted}`` and ``{uncertainty}`` (of a record, "± 0.1") put a value of one of
them into a sentence: ``{measured}`overshoot:flip` ``. An unknown name is a warning, which fails the
build.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sources import executed, notebook_path, notebooks, results
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole
from writing import Cell, entry, number_and_math, reference, table, text_and_math

from rlvrlib.evidence.claims import cells, rows_of, summary, verdict_class
from rlvrlib.running.parameters import cell_source, read

logger = logging.getLogger(__name__)

COLUMNS = {
    "Claim": 38,
    "Theorem": 18,
    "Predicted": 12,
    "Measured": 12,
    "Tolerance": 10,
    "Verdict": 10,
}
FIELDS = ("key", "statement", "source", "relation", "predicted", "measured", "tolerance", "verdict")


class ClaimsTable(SphinxDirective):
    """A folded table for each notebook, which ``book.js`` lets a reader sort and filter."""

    def run(self) -> list[nodes.Node]:
        collected = {stem: rows for stem, rows in collect(self.env) if rows}
        total = f"{summary(row for rows in collected.values() for row in rows)}."
        made: list[nodes.Node] = [nodes.paragraph("", total)]
        for stem, rows in collected.items():
            changed, seed = run_parameters(notebook_path(self.env, stem))
            facts = f"{summary(rows)}. Parameters: {changed}; seed: {seed}."
            title = chapter_title(Path(self.env.srcdir), stem)
            head = f"<details class='claims-of'><summary><b>{escape(title)}</b>: "
            made += [
                nodes.raw("", f"{head}{escape(facts)}</summary>", format="html"),
                nodes.paragraph("", "Computed by the notebook ", self._link(stem), nodes.Text(".")),
                table(COLUMNS, map(self._cells, rows), "claims", "evidence"),
                nodes.raw("", "</details>", format="html"),
            ]
        return made

    def _link(self, stem: str) -> nodes.Node:
        return reference(self.env, "doc", f"/notebooks/{stem}", nodes.Text(stem))

    def _cells(self, row: dict[str, Any]) -> list[Cell]:
        said = cells(row)
        return [
            text_and_math(said.statement),
            self._source(str(row["source"])),
            number_and_math(said.sign + said.predicted),
            number_and_math(said.measured),
            number_and_math(said.tolerance),
            entry(text_and_math(said.verdict), classes=[verdict_class(row)]),
        ]

    def _source(self, source: str) -> list[nodes.Node]:
        """The results by name, each with a link to its box, and the citations."""
        labels, found = results(Path(self.env.srcdir)), list[nodes.Node]()
        for piece in source.split("; "):
            found += [nodes.Text("; ")] * bool(found)
            if piece.startswith("@"):
                found.append(reference(self.env, "t", piece[1:], domain="cite"))
            elif label := labels.get(piece.lower()):
                found.append(reference(self.env, "ref", label, nodes.Text(piece), domain="prf"))
            else:
                found += text_and_math(piece)
        return found


def chapter_title(source: Path, stem: str) -> str:
    """The heading of a notebook's chapter."""
    page = source / "book" / f"{stem}.md"
    lines = page.read_text(encoding="utf-8").splitlines() if page.is_file() else []
    return next((line[2:] for line in lines if line.startswith("# ")), stem)


def collect(env: BuildEnvironment) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Each notebook of the book with its rows."""
    for stem in notebooks(Path(env.srcdir)):
        if f"notebooks/{stem}" in env.found_docs:
            yield stem, list(rows_of(executed(Path(env.srcdir) / "notebooks" / f"{stem}.ipynb")))


def write_csv(app: Sphinx, failure: Exception | None) -> None:
    """All rows with their unrounded numbers, beside the page."""
    if failure or app.builder.name != "html":
        return
    with (Path(app.outdir) / "claims.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["notebook", *FIELDS])
        for stem, rows in collect(app.env):
            writer.writerows([stem, *(row.get(field, "") for field in FIELDS)] for row in rows)


def run_parameters(path: Path) -> tuple[str, str]:
    """What a run changed of a notebook's parameters, and its seed: ``defaults`` and ``none`` where
    there is nothing.
    """
    notebook = executed(path)
    values = [
        {name: str(parameter.default) for name, parameter in read(source).items()}
        for source in (cell_source(notebook), cell_source(notebook, "injected-parameters"))
    ]
    known, given = values
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
            if row["key"] == key and row[self.field]:  # nothing is predicted of a record
                said = number_and_math(row[self.field])
                return [nodes.inline("", "", *said, classes=["claim-value"])], []
        known = ", ".join(str(row["key"]) for row in rows) or "none"
        logger.warning(
            "no %s of a claim %r in notebook %r (there are: %s)",
            self.field.removesuffix("_text"),
            key,
            stem,
            known,
            location=self.get_location(),
        )
        return [nodes.problematic(self.rawtext, self.rawtext)], []


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("claims-table", ClaimsTable)
    app.connect("build-finished", write_csv)
    app.add_role("measured", ClaimValue("measured_text"))
    app.add_role("predicted", ClaimValue("predicted_text"))
    app.add_role("uncertainty", ClaimValue("tolerance_text"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
