"""Leave out of the built site what no reader needs: maps of the theme's scripts and styles for its developers, its translations, and
fonts in a form that no browser asks for, since each stands there in a lighter one too.

The notebooks for download lose their outputs: the page shows them, and a run makes them again.
"""

from __future__ import annotations

import functools
import gc
import os
import shutil
from pathlib import Path
from typing import Any

import nbformat
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.search.en import SearchEnglish
from sphinx_proof.domain import ProofDomain  # type: ignore[import-untyped]


def shorten_navigation(app: Sphinx, config: Config) -> None:
    """Chapters and their notebooks are all that the sidebar shows; a greater depth copies the sections of every page into every page."""
    config.html_theme_options["max_navbar_depth"] = 2


def work_side_by_side(app: Sphinx, config: Config) -> None:
    """Read and write pages in several processes. Three extensions are safe for that, but do not say so or lack a method that does nothing."""
    app.parallel = (os.cpu_count() or 1) + 1  # each portion that is read is also taken back
    app.extensions["sphinx_multitoc_numbering"].parallel_read_safe = True  # it numbers after all is read, in the order of the one table of contents
    app.extensions["sphinx_jupyterbook_latex"].parallel_read_safe = True  # it acts on another builder
    ProofDomain.merge_domaindata = lambda self, names, data: None  # the extension keeps its theorems elsewhere, and merges those


def write_small_portions(app: Sphinx, env: BuildEnvironment) -> None:
    """So that none is left over at the end."""
    app.parallel = 4 * (os.cpu_count() or 1) + 1


def lighten(app: Sphinx, failure: Exception | None) -> None:
    gc.freeze()  # or the collector looks at every document once more before the process may end
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
    # Documents live until the build ends: looking for dead ones finds none and takes a third of the time.
    gc.disable()
    # The search would find the stem of every word anew on every page.
    SearchEnglish.stem = functools.cache(SearchEnglish.stem)  # type: ignore[method-assign]
    # Tables of claims are HTML of a notebook: Sphinx does not see their mathematics, and would leave MathJax out of a page without other.
    app.set_html_assets_policy("always")
    app.connect("config-inited", shorten_navigation)
    app.connect("config-inited", work_side_by_side)
    app.connect("env-updated", write_small_portions)
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
