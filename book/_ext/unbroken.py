"""No line begins with the full stop of a formula: a formula and the punctuation after it stay on
one line.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

PUNCTUATION = re.compile("[.,;:!?)\u2019]+")


class Unbroken(SphinxPostTransform):
    default_priority = 350
    formats = ("html",)

    def run(self, **_: Any) -> None:
        for formula in list(self.document.findall(nodes.math)):
            parent = formula.parent
            place = parent.index(formula)
            after = parent[place + 1] if place + 1 < len(parent) else None
            if isinstance(after, nodes.Text) and (mark := PUNCTUATION.match(after)):
                together = nodes.inline("", "", formula, nodes.Text(mark[0]), classes=["unbroken"])
                rest = after[mark.end() :]
                # By place: two texts of a sentence may be equal, a comma and a comma.
                parent[place : place + 2] = [together, *([nodes.Text(rest)] if rest else [])]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_post_transform(Unbroken)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
