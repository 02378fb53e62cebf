"""``{rate-calculator}``: what ``rlvr plan`` computes, as a form in the page.

The form's script has the formulas; methods, reasons and warnings come from the library. Nothing
leaves the page.
"""

from __future__ import annotations

import json
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from rlvrlib.methods import METHODS, SAMPLED_METHODS
from rlvrlib.practice.planning import LARGE, Setting, plan
from rlvrlib.practice.pressure import OPTIMIZERS

# The case of the practitioner's guide.
BEFORE: dict[str, Any] = {"length": 500, "success": 0.4, "method": "grpo", "group": 8}
AFTER = {**BEFORE, "length": 2000}
RATE = 1e-6


def facts() -> dict[str, Any]:
    """What the script needs beside its formulas."""
    before, after = (
        Setting(one["length"], one["success"], one["method"], one["group"])
        for one in (BEFORE, AFTER)
    )
    return {
        "before": BEFORE,
        "after": AFTER,
        "rate": RATE,
        "large": LARGE,
        "methods": {
            name: {"law": _law(name), "aggregation": METHODS[name].aggregation}
            for name in SAMPLED_METHODS
        },
        "optimizers": {
            name: {
                "fixed": fixed,
                "reasons": {
                    factor.name: factor.reason
                    for factor in plan(before, after, optimizer=name).factors
                },
            }
            for name, fixed in OPTIMIZERS.items()
        },
    }


def _law(method: str) -> str:
    """The multiplier's formula, by its name in the script."""
    row = METHODS[method]
    if method == "dr_grpo":
        return "centred"
    if row.powers == (0.5, 0.5):
        return "redrawn" if row.resamples else "deviation"
    return "rare" if row.powers == (0, 1) else "product"


class RateCalculator(SphinxDirective):
    """The place of the form; nothing where no script runs."""

    def run(self) -> list[nodes.Node]:
        data = json.dumps(facts()).replace("</", "<\\/")
        script = f'<script type="application/json">{data}</script>'
        return [nodes.raw("", f'<div class="rate-plan" hidden>{script}</div>', format="html")]


def add_script(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """The script, on the pages that have the form."""
    if doctree is None or app.builder.name != "html":
        return
    if any('class="rate-plan"' in node.astext() for node in doctree.findall(nodes.raw)):
        app.add_js_file("rate_calculator.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("rate-calculator", RateCalculator)
    app.connect("html-page-context", add_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
