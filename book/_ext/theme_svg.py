"""Figures that follow the page's theme.

An SVG in an ``<img>`` cannot know the page's colours. In HTML every SVG is therefore put into the
page itself, with the two sentinel colours of ``rlvrlib.evidence.figures`` replaced: ink by
``currentColor``, background by ``none``.

``{notebook-figure} overshoot fig-flip`` shows a figure of a notebook in another page, with its
caption and alternative text; its label there is ``fig-flip-chapter`` unless ``:label:`` says
otherwise.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from matplotlib.figure import Figure
from sources import executed, notebook_path
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

from rlvrlib.evidence import figures
from rlvrlib.evidence.figures import inline_svg

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
        path = notebook_path(self.env, stem)
        try:
            cell, mime, content = find_figure(path, name)
        except ValueError as error:
            logger.warning("%s", error, location=self.get_location())
            return []
        # Beside the doctrees, where MyST-NB keeps its images too: never among the sources.
        folder = Path(self.env.app.doctreedir) / "notebook_figures"
        folder.mkdir(parents=True, exist_ok=True)
        # Not the name that MyST-NB gives the same picture: of two of one name the first to be read
        # would keep it.
        file = (
            folder
            / f"chapter-{hashlib.sha256(content).hexdigest()}{'.svg' if 'svg' in mime else '.png'}"
        )
        file.write_bytes(content)
        figure = nodes.figure()
        uri = "/" + Path(os.path.relpath(file, self.env.srcdir)).as_posix()
        figure += nodes.image(uri=uri, alt=cell["image"]["alt"])
        caption = self.options.get("caption", cell["figure"]["caption"])
        figure += self._parsed(caption, nodes.caption)
        figure += self._parsed(
            f"Made by the notebook {{doc}}`{stem} </notebooks/{stem}>`.", nodes.paragraph
        )
        figure[-1] = nodes.legend("", figure[-1])
        self.options["name"] = self.options.get("label", f"{name}-chapter")
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure]

    def _parsed(self, text: str, kind: type[nodes.Element]) -> nodes.Element:
        parsed = nodes.Element()
        self.state.nested_parse(
            StringList(text.splitlines(), self.get_location()), self.content_offset, parsed
        )
        return kind("", "", *(child for paragraph in parsed for child in paragraph.children))


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


def find_figure(path: Path, name: str) -> tuple[dict[str, Any], str, bytes]:
    """The ``mystnb`` metadata, MIME type and bytes of the figure ``name``.

    Raises
    ------
    ValueError : no such notebook or figure, a figure without an image, or one without text
        alternative.
    """
    if not path.is_file():
        raise ValueError(f"there is no notebook {path.stem}")
    for cell in executed(path).cells:
        metadata = cell.metadata.get("mystnb", {})
        if metadata.get("figure", {}).get("name") != name:
            continue
        if not metadata.get("image", {}).get("alt") or not metadata["figure"].get("caption"):
            raise ValueError(f"{path.stem}: the figure {name} needs a caption and an alt text")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/svg+xml" in data:
                return metadata, "image/svg+xml", data["image/svg+xml"].encode()
            if "image/png" in data:
                return metadata, "image/png", b64decode(data["image/png"])
        raise ValueError(
            f"{path.stem}: the figure {name} holds no image; was the notebook executed?"
        )
    raise ValueError(f"{path.stem} has no figure named {name}")


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_node(svg_drawing, html=(write_drawing, None))
    app.add_post_transform(InlineSvg)
    app.add_directive("notebook-figure", NotebookFigure)
    app.add_directive("figure-legend", FigureLegend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
