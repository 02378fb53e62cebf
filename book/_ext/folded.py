"""What is folded: ``{prf:proof}`` as a ``<details>`` of its own, so that the statement stands open
and the proof one click below it; and the text of a chapter that stands open.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FENCE = re.compile(r"(`{3,}|:{3,})(.*)")
FOLDED = ("{prf:proof}", "{solution}", "{dropdown}")
READ_ON_THE_PAGE = ("{prf:", "{exercise}", "{admonition}", "{note}", "{important}")
FORMULA = re.compile(r"\$\$.+?\$\$|\$[^$]+\$", re.DOTALL)


class FoldedProof(SphinxDirective):
    """``{prf:proof}``, with words behind *Proof* where they are given: ``of the constant``."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        title = " ".join(("Proof", *self.arguments))
        head = f'<details class="proof"><summary>{title}</summary>'
        return [
            nodes.raw("", head, format="html"),
            *self.parse_content_to_nodes(),
            nodes.raw("", "</details>", format="html"),
        ]


def open_text(markdown: str) -> str:
    """What a reader sees of a page before anything is unfolded: no proofs, solutions and dropdowns,
    no code, and of directives that draw something their line alone.
    """
    shown: list[str] = []
    inside: list[tuple[str, str]] = []  # the fences around a line, and their directives
    for line in markdown.splitlines():
        if fence := FENCE.match(line):
            marks, head = fence.groups()
            if inside and not head.strip() and marks[0] == inside[-1][0][0]:
                if len(marks) >= len(inside[-1][0]):
                    inside.pop()
                continue
            inside.append((marks, head))
            if not any(head.startswith(FOLDED) for _, head in inside):
                shown.append(head if "figure}" in head else head.partition("}")[2])
        elif all(
            head.startswith(READ_ON_THE_PAGE) and not head.startswith(FOLDED) for _, head in inside
        ) and not (inside and re.match(r":\w+:", line)):
            shown.append(line)
    if inside:
        raise ValueError(f"markdown must close every fence, {inside[-1][1]!r} is open at its end")
    return "\n".join(shown)


def words(markdown: str) -> int:
    """The number of words; a formula counts as one."""
    text = FORMULA.sub("formula", markdown)
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive_to_domain("prf", "proof", FoldedProof, override=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
