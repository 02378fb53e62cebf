"""Leave out of the built site what no reader needs: maps of the theme's scripts and styles for its
developers, its translations, and
fonts in a form that no browser asks for, since each stands there in a lighter one too.

The notebooks for download lose their outputs: the page shows them, and a run makes them again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nbformat
from sphinx.application import Sphinx
from sphinx.config import Config


def shorten_navigation(app: Sphinx, config: Config) -> None:
    """Chapters and their notebooks are all that the sidebar shows; a greater depth copies the
    sections of every page into every page.
    """
    config.html_theme_options["max_navbar_depth"] = 2


def lighten(app: Sphinx, failure: Exception | None) -> None:
    if failure or app.builder.format != "html":
        return
    site = Path(app.outdir)
    for path in (site / "_static").rglob("*.map"):
        path.unlink()
    for path in (site / "_static" / "vendor").rglob("*.ttf"):
        if path.with_suffix(".woff2").exists():
            path.unlink()
    if app.config.language == "en":
        shutil.rmtree(site / "_static" / "locales", ignore_errors=True)
    for path in (site / "_sources").rglob("*.ipynb"):
        notebook = nbformat.v4.reads(path.read_text(encoding="utf-8"))
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        path.write_text(nbformat.v4.writes(notebook) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    # Tables of claims are HTML of a notebook: Sphinx does not see their mathematics, and would
    # leave MathJax out of a page without other.
    app.set_html_assets_policy("always")
    app.connect("config-inited", shorten_navigation)
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
