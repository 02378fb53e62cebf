"""No line begins with the full stop of a formula: a formula and the punctuation after it stay on
one line, as do a sign and its number.

Primes of names such as Theorem 3\' are primes, not quotation marks.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

PRIMES = {"\u2019": "\u2032", "\u2019\u2019": "\u2033", "\u201d": "\u2033"}


class Unbroken(SphinxPostTransform):
    default_priority = 350
    formats = ("html",)

    def run(self, **_: Any) -> None:
        for formula in list(self.document.findall(nodes.math)):
            after = formula.next_node(descend=False, siblings=True)
            mark = (
                re.match("[.,;:!?)\u2019]+", after.astext())
                if isinstance(after, nodes.Text) and after.parent is formula.parent
                else None
            )
            if mark:
                rest = after.astext()[mark.end() :]
                after.parent.replace(after, [nodes.Text(rest)] if rest else [])
                formula.replace_self(
                    nodes.inline(
                        "", "", formula.deepcopy(), nodes.Text(mark[0]), classes=["unbroken"]
                    )
                )
        for text in list(self.document.findall(nodes.Text)):
            if isinstance(
                text.parent,
                (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw),
            ):
                continue
            tidy = re.sub(
                "(?<=[A-Za-z] \\d)(\u2019{1,2}|\u201d)(?![\\w])",
                lambda found: PRIMES[found[1]],
                text,
            ).replace("\u00b1 ", "\u00b1\u00a0")
            if tidy != text:
                text.parent.replace(text, nodes.Text(tidy))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_post_transform(Unbroken)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
