"""The museum of collapses: ``{museum}`` makes a section of each entry of ``book/museum.yml``.

What the diagnosis says of an entry with a log comes from ``notebooks/data/museum``, which
``measurements/museum.py`` wrote; an entry whose log has another SHA-256 there is a warning.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)


class Museum(SphinxDirective):
    """A section for each entry: its source, what happened, what was said and what would have been
    seen when.
    """

    def run(self) -> list[nodes.Node]:
        source = Path(self.env.srcdir)
        listed, table = (
            source / "book" / "museum.yml",
            source / "notebooks" / "data" / "museum" / "diagnosed.csv",
        )
        for path in (listed, table):
            self.env.note_dependency(str(path))
        lines = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
        known = {line["name"]: line for line in lines}
        found = yaml.safe_load(listed.read_text(encoding="utf-8"))
        return [self.entry(entry, known.get(entry["name"])) for entry in found]

    def entry(self, entry: dict[str, str], line: dict[str, str] | None) -> nodes.section:
        if "log" in entry and (line is None or line["sha256"] != entry["sha256"]):
            logger.warning("museum: %s has no diagnosis of its log", entry["name"])
        address = nodes.reference("", entry["address"].split("/blob/")[0], refuri=entry["address"])
        rows: list[tuple[str, list[nodes.Node]]] = [("Where", [address])]
        if "log" in entry:
            said = f"{entry['file']}, commit {entry['commit'][:12]}, licence {entry['licence']}"
            rows.append(("File", [nodes.Text(said)]))
            rows.append(("SHA-256", [nodes.literal("", entry["sha256"][:16])]))
        rows.append(("Setting", [nodes.Text(entry["setting"])]))
        rows.append(("What happened", [nodes.Text(entry["happened"])]))
        rows.append(("What the maintainers say", [nodes.Text(entry.get("said", "Not known."))]))
        rows += [(name, [nodes.Text(text)]) for name, text in diagnosis(line)]
        fields = [
            nodes.field("", nodes.field_name("", name), nodes.field_body("", _paragraph(content)))
            for name, content in rows
        ]
        title = nodes.title("", entry["name"])
        section = nodes.section("", title, nodes.field_list("", *fields))
        section["names"].append(nodes.fully_normalize_name(entry["name"]))
        self.state.document.note_implicit_target(section, section)
        return section


def diagnosis(line: dict[str, str] | None) -> list[tuple[str, str]]:
    """What the book says of a log, and what was there to see, in the order of the steps."""
    if line is None:
        return [("The book's diagnosis", "None: no log is at hand.")]
    rows = [("The book's diagnosis", f"{line['verdict']}, from {line['rows']} rows.")]
    seen = [f"{notice.strip()}" for notice in line["notices"].split(";") if notice.strip()]
    for name, what in (
        ("warning", "the warning: a fall was established"),
        ("halved", "the mean of the last 25 rows was below half of its largest value"),
    ):
        if line[name]:
            seen.append(f"{what}, known at step {float(line[name]):g}")
    seen.sort(key=lambda text: float(text.rsplit(" ", 1)[1]))
    return [*rows, ("What would have been seen", "; ".join(seen) + ".")] if seen else rows


def _paragraph(content: list[nodes.Node]) -> nodes.paragraph:
    return nodes.paragraph("", "", *content)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("museum", Museum)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
