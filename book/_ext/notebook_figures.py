"""Figures of the notebooks in the page, in the page's colours, and with controls.

An SVG in an ``<img>`` cannot know the page's colours. In HTML every SVG is therefore put into the
page itself, with the two sentinel colours of ``rlvrlib.evidence.figures`` replaced: ink by
``currentColor``, background by ``none``.

``{notebook-figure} overshoot fig-flip`` shows a figure of a notebook in another page, with its
caption and alternative text; its label there is ``fig-flip-chapter`` unless ``:label:`` says
otherwise. ``{interactive-figure} overshoot fig-flip`` adds the same with controls below it. The
data are those that the executed notebook carries (``rlvrlib.evidence.interactive``). They stand in
the page, so that it works from a file too. Nothing is shown where scripts do not run; the drawing
library (Plotly, served from the book) loads when the figure comes into view.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64decode
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from matplotlib.figure import Figure
from nbformat import NotebookNode
from sources import executed, notebook_path
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

from rlvrlib.evidence import figures
from rlvrlib.evidence.figures import inline_svg
from rlvrlib.evidence.interactive import KEY

logger = logging.getLogger(__name__)


class svg_drawing(nodes.General, nodes.Element):  # type: ignore[misc]
    """An SVG that is read when its page is written: pages are written side by side."""


class InlineSvg(SphinxPostTransform):
    """Replace each SVG image by the SVG itself, for builders that write HTML."""

    default_priority = 400
    formats = ("html",)

    def run(self, **_: Any) -> None:
        for number, image in enumerate(list(self.document.findall(nodes.image))):
            path = Path(self.env.srcdir) / image["uri"]
            if path.suffix == ".svg" and path.is_file():
                image.replace_self(
                    svg_drawing("", path=str(path), prefix=f"f{number}-", alt=image.get("alt", ""))
                )


def write_drawing(translator: HTML5Translator, node: nodes.Element) -> None:
    drawn = translator.document.setdefault("drawn", {})  # by the page's figures so far
    translator.body.append(
        inline_svg(
            Path(node["path"]).read_text(encoding="utf-8"), node["prefix"], node["alt"], drawn
        )
    )
    raise nodes.SkipNode


class NotebookFigure(SphinxDirective):
    """``{notebook-figure} NOTEBOOK FIGURE``: a figure of an executed notebook."""

    required_arguments = 2
    option_spec: ClassVar[dict[str, Any]] = {
        "label": directives.unchanged,
        "caption": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        stem, name = self.arguments
        try:
            cell = figure_cell(notebook_path(self.env, stem), name)
            return [self._figure(cell.metadata["mystnb"], *picture(cell)), *self._controls(cell)]
        except ValueError as error:
            logger.warning("%s: the figure %s %s", stem, name, error, location=self.get_location())
            return []

    def _controls(self, cell: NotebookNode) -> list[nodes.Node]:
        return []

    def _figure(self, about: dict[str, Any], suffix: str, content: bytes) -> nodes.figure:
        stem, name = self.arguments
        # Beside the doctrees, where MyST-NB keeps its images too: never among the sources.
        folder = Path(self.env.app.doctreedir) / "notebook_figures"
        folder.mkdir(parents=True, exist_ok=True)
        # Not the name that MyST-NB gives the same picture: of two of one name the first to be read
        # would keep it.
        file = folder / f"chapter-{hashlib.sha256(content).hexdigest()}{suffix}"
        file.write_bytes(content)
        figure = nodes.figure()
        uri = "/" + Path(os.path.relpath(file, self.env.srcdir)).as_posix()
        figure += nodes.image(uri=uri, alt=about["image"]["alt"])
        caption = self.options.get("caption", about["figure"]["caption"])
        figure += self._parsed(caption, nodes.caption)
        figure += self._parsed(
            f"Made by the notebook {{doc}}`{stem} </notebooks/{stem}>`.", nodes.paragraph
        )
        figure[-1] = nodes.legend("", figure[-1])
        self.options["name"] = self.options.get("label", f"{name}-chapter")
        self.set_source_info(figure)
        self.add_name(figure)
        return figure

    def _parsed(self, text: str, kind: type[nodes.Element]) -> nodes.Element:
        parsed = nodes.Element()
        self.state.nested_parse(
            StringList(text.splitlines(), self.get_location()), self.content_offset, parsed
        )
        return kind("", "", *(child for paragraph in parsed for child in paragraph.children))


class InteractiveFigure(NotebookFigure):
    """``{interactive-figure} NOTEBOOK FIGURE``: a notebook's figure and its interactive form."""

    def _controls(self, cell: NotebookNode) -> list[nodes.Node]:
        about = [output.get("metadata", {}) for output in cell.outputs]
        found = [metadata[KEY] for metadata in about if KEY in metadata]
        if not found:
            raise ValueError("carries no interactive data")
        data = found[0].replace("</", "<\\/")  # a script of data cannot end before its end
        where = escape("/".join(self.arguments))
        script = f'<script type="application/json">{data}</script>'
        play = f'<div class="play" hidden data-play="{where}">{script}</div>'
        return [nodes.raw("", play, format="html")]


def add_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """The script and the style, on the pages that have such a figure and on no other."""
    if doctree is None or app.builder.name != "html":
        return
    if any('class="play"' in node.astext() for node in doctree.findall(nodes.raw)):
        app.add_css_file("interactive/interactive.css")
        app.add_js_file("interactive/interactive.js", loading_method="defer")


def drawn(
    directive: SphinxDirective, draw: Callable[[], tuple[Figure, str]], prefix: str, caption: str
) -> list[nodes.Node]:
    """The figure that ``draw`` gives, with its text alternative, in the place of a directive."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    with mpl.rc_context():
        figures.use_style()
        figure, alt = draw()
        svg = figures.to_svg(figure)
        plt.close(figure)
    node = nodes.figure("", nodes.raw("", inline_svg(svg, prefix, alt), format="html"))
    node += nodes.caption("", caption)
    directive.set_source_info(node)
    directive.add_name(node)
    return [node]


class FigureLegend(SphinxDirective):
    """``{figure-legend}``: the looks of ``rlvrlib.evidence.figures``, drawn from it."""

    option_spec: ClassVar[dict[str, Any]] = {"name": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        return drawn(
            self,
            self.draw,
            "legend-",
            "The legend of the book: single quantities, then the members of a family in order.",
        )

    def draw(self) -> tuple[Figure, str]:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(6.4, 4.2))
        looks = [(name, look) for name, look in figures.ROLES.items()]
        looks += [(f"curve {number + 1}", look) for number, look in enumerate(figures.SERIES)]
        for row, (_, look) in enumerate(looks):
            axes.plot([0, 0.5, 1], [-row] * 3, **look)
        axes.set_yticks([-row for row in range(len(looks))], [name for name, _ in looks])
        axes.set_xticks([])
        axes.grid(False)
        axes.spines[:].set_visible(False)
        return figure, "One line for each look. " + "; ".join(
            f"{name}: {_in_words(look)}" for name, look in looks
        ) + "."


def _in_words(look: dict[str, Any]) -> str:
    colours = {
        getattr(figures, name): name.lower()
        for name in ("BLUE", "VERMILLION", "GREEN", "PURPLE", "OCHRE", "GREY", "INK")
    }
    lines = {"-": "solid", "--": "dashed", "-.": "dashes and dots", ":": "dotted"}
    return f"{colours[look['color']]}, {lines.get(str(look['linestyle']), 'a pattern of dashes')}"


def figure_cell(path: Path, name: str) -> NotebookNode:
    """The cell that draws the figure ``name``.

    Raises
    ------
    ValueError : no such notebook or figure, or one without a caption or text alternative.
    """
    if not path.is_file():
        raise ValueError("is of no notebook")
    for cell in executed(path).cells:
        about = cell.metadata.get("mystnb", {})
        if about.get("figure", {}).get("name") == name:
            if not about.get("image", {}).get("alt") or not about["figure"].get("caption"):
                raise ValueError("needs a caption and an alt text")
            return cell
    raise ValueError("is not in it")


def picture(cell: NotebookNode) -> tuple[str, bytes]:
    """Suffix and bytes of the picture that a cell shows.

    Raises
    ------
    ValueError : it shows none.
    """
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/svg+xml" in data:
            return ".svg", data["image/svg+xml"].encode()
        if "image/png" in data:
            return ".png", b64decode(data["image/png"])
    raise ValueError("holds no image; was the notebook executed?")


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_node(svg_drawing, html=(write_drawing, None))
    app.add_post_transform(InlineSvg)
    app.add_directive("notebook-figure", NotebookFigure)
    app.add_directive("interactive-figure", InteractiveFigure)
    app.add_directive("figure-legend", FigureLegend)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
