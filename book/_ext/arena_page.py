"""The arena: ``{arena-table} exact updates`` shows one measure of every rule on every family, and
``{arena-table} safety`` what the book's rule costs beside the best constant.

All of it is read from ``notebooks/data/arena``, which ``measurements/arena.py`` wrote.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from writing import table

BOOK = "the book's rule"
ELSEWHERE = "among must name"  # of a bound that is not one for this family
Row = dict[str, str]


def updates(row: Row, horizon: int) -> str:
    """Median updates and their interval."""
    median, low, high = (
        f"{float(row[name]):.3g}" if float(row[name]) < horizon else f"over {horizon}"
        for name in ("median_updates", "median_low", "median_high")
    )
    return median if low == high else f"{median} ({low} to {high})"


def fall(row: Row, _: int) -> str:
    return f"{float(row['worst_fall']):.2g}" if float(row["falls"]) else "0"


def collapses(row: Row, _: int) -> str:
    """Share of the runs, its interval, and the share at four times the constant."""
    low, high = (round(100 * float(row[f"collapsed_{end}"])) for end in ("low", "high"))
    beyond = row["collapsed_at_four_times"]
    more = f"; {float(beyond):.0%}" if beyond else ""
    return f"{float(row['collapsed']):.0%} ({low} to {high}){more}"


def cost(row: Row, _: int) -> str:
    return f"{float(row['microseconds']):.2g}"


SHOWN: dict[str, Callable[[Row, int], str]] = {
    "updates": updates,
    "falls": fall,
    "collapses": collapses,
    "cost": cost,
}


class ArenaTable(SphinxDirective):
    """One measure: rules as rows, families as columns. Or ``safety``, or ``notes``."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        folder = Path(self.env.srcdir) / "notebooks" / "data" / "arena"
        for path in folder.iterdir():
            self.env.note_dependency(str(path))
        lines = (folder / "arena.csv").read_text(encoding="utf-8").splitlines()
        rows = list(csv.DictReader(lines))
        facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        what = self.arguments[0].split()
        if what == ["safety"]:
            return [table(*safety(rows, facts["updates"]))]
        if what == ["notes"]:
            said = [
                ", ".join(row[name] for name in ("rule", "family", "gradients"))
                + f": {row['note'].split(', got')[0]}"
                for row in rows
                if row["note"] and not row["note"].startswith(ELSEWHERE)
            ]
            items = [nodes.list_item("", nodes.paragraph("", text)) for text in said or ["none"]]
            return [nodes.bullet_list("", *items)]
        gradients, name = what
        return [table(*measured(rows, gradients, SHOWN[name], facts["updates"]))]


def measured(
    rows: list[Row], gradients: str, show: Callable[[Row, int], str], horizons: dict[str, int]
) -> tuple[list[str], list[list[str]]]:
    found = {(r["rule"], r["family"]): r for r in rows if r["gradients"] == gradients}
    body = []
    for rule in dict.fromkeys(rule for rule, _ in found):
        here = [(found.get((rule, name)), horizon) for name, horizon in horizons.items()]
        cells = [show(r, horizon) if r and r["median_updates"] else "–" for r, horizon in here]
        if set(cells) != {"–"}:
            knows = next(r["knows"] for r, _ in here if r)
            body.append([rule, knows, *cells])
    return ["Rule", "Knows", *horizons], body


def safety(rows: list[Row], horizons: dict[str, int]) -> tuple[list[str], list[list[str]]]:
    """The rule with a constant that needs the fewest updates and collapses nowhere, beside the
    book's rule.
    """
    body = []
    for name, horizon in horizons.items():
        for gradients in ("exact", "sampled"):
            here = [r for r in rows if (r["family"], r["gradients"]) == (name, gradients)]
            tuned = [r for r in here if r["constant"] and float(r["collapsed"]) == 0]
            best = min(tuned, key=lambda r: float(r["median_updates"]))
            ours = next(r for r in here if r["rule"] == BOOK)
            beyond = best["collapsed_at_four_times"]
            body.append(
                [
                    f"{name}, {gradients}",
                    best["rule"],
                    updates(best, horizon),
                    updates(ours, horizon),
                    fall(best, horizon),
                    fall(ours, horizon),
                    f"{float(beyond):.0%}" if beyond else "–",
                    f"{float(ours['microseconds']) / float(best['microseconds']):.2g}",
                ]
            )
    head = ["Problems", "Best rule with a constant", "Its updates", "Updates of the book's rule"]
    head += ["Its worst fall", "That of the book's rule", "Collapses at four times its constant"]
    return [*head, "Cost of an update of the book's rule, over its"], body


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("arena-table", ArenaTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
