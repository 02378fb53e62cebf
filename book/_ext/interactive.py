"""``{interactive-figure} overshoot fig-flip``: a figure of a notebook, and below it the same with
controls.

The data are those that the executed notebook carries (``rlvrlib.evidence.interactive``). They stand
in the page, so that it works from a file too. Nothing is shown where scripts do not run; the
drawing library (Plotly, served from the book) loads when the figure comes into view.
"""

from __future__ import annotations

from html import escape
from typing import Any

from docutils import nodes
from sources import executed, notebook_path
from sphinx.application import Sphinx
from sphinx.util import logging
from theme_svg import NotebookFigure

from rlvrlib.evidence.interactive import KEY

logger = logging.getLogger(__name__)


class InteractiveFigure(NotebookFigure):
    """A notebook's figure and its interactive form."""

    def run(self) -> list[nodes.Node]:
        stem, name = self.arguments
        made = super().run()
        data = find_data(notebook_path(self.env, stem), name) if made else None
        if made and data is None:
            logger.warning(
                "%s: the figure %s carries no interactive data",
                stem,
                name,
                location=self.get_location(),
            )
        if data is not None:
            # A script of data cannot end before its end: no `</` in it.
            script = data.replace("</", "<\\/")
            where = escape(f"{stem}/{name}")
            made.append(
                nodes.raw(
                    "",
                    f'<div class="play" hidden data-play="{where}"><script type="application/json">{script}</script></div>',
                    format="html",
                )
            )
        return made


def find_data(path: Any, name: str) -> str | None:
    """The JSON that the figure's output carries, or None."""
    for cell in executed(path).cells:
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == name:
            for output in cell.get("outputs", []):
                if KEY in output.get("metadata", {}):
                    return str(output["metadata"][KEY])
    return None


def add_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """The script and the style, on the pages that have such a figure and on no other."""
    if doctree is None or app.builder.name != "html":
        return
    if any('class="play"' in node.astext() for node in doctree.findall(nodes.raw)):
        app.add_css_file("interactive/interactive.css")
        app.add_js_file("interactive/interactive.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("interactive-figure", InteractiveFigure)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
