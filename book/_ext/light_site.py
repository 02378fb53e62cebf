"""Leave out of the built site what no reader needs: maps of the theme's scripts and styles for its developers, its translations, and
fonts in a form that no browser asks for, since each stands there in a lighter one too.

The notebooks for download lose their outputs: the page shows them, and a run makes them again.
"""

from __future__ import annotations

import functools
import gc
import os
import shutil
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import nbformat
import pybtex.plugin  # type: ignore[import-untyped]
import sphinx.builders.html
from pygments.lexers.python import PythonLexer
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.builders import Builder
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.environment.adapters.toctree import global_toctree_for_doc
from sphinx.search.en import SearchEnglish
from sphinx_proof.domain import ProofDomain  # type: ignore[import-untyped]


def shorten_navigation(app: Sphinx, config: Config) -> None:
    """Chapters and their notebooks are all that the sidebar shows; a greater depth copies the sections of every page into every page."""
    config.html_theme_options["max_navbar_depth"] = 2


def work_side_by_side(app: Sphinx, config: Config) -> None:
    """Read and write pages in several processes. Three extensions are safe for that, but do not say so or lack a method that does nothing."""
    app.parallel = os.cpu_count() or 1
    app.extensions["sphinx_multitoc_numbering"].parallel_read_safe = True  # it numbers after all is read, in the order of the one table of contents
    app.extensions["sphinx_jupyterbook_latex"].parallel_read_safe = True  # it acts on another builder
    ProofDomain.merge_domaindata = lambda self, names, data: None  # the extension keeps its theorems elsewhere, and merges those


def read_the_longest_first(app: Sphinx, env: BuildEnvironment, names: list[str]) -> None:
    """The reference of the library takes as long as half of the other pages."""
    names.sort(key=lambda name: (name != "book/api", name))
    sphinx.builders.make_chunks = portions_to_read  # type: ignore[attr-defined, assignment]


def write_small_portions_first(app: Sphinx, builder: Builder) -> None:
    app.parallel = 2 * (os.cpu_count() or 1) + 1  # so that none waits at the end
    sphinx.builders.make_chunks = portions_to_write  # type: ignore[attr-defined, assignment]
    PythonLexer()  # its tables are made once, and not in every process


def keep_sidebars_short(app: Sphinx, builder: Builder) -> None:
    """For each page Sphinx copies the contents of all pages, and drops the sections afterwards: it is given the titles alone."""
    short = copy(app.env)
    short.tocs = {name: contents.deepcopy() for name, contents in app.env.tocs.items()}
    for contents in short.tocs.values():
        for entry in contents.children:
            if len(entry.children) > 1:
                entry[1][:] = list(entry.findall(addnodes.toctree))
    sphinx.builders.html.global_toctree_for_doc = lambda env, *page, **options: global_toctree_for_doc(short, *page, **options)  # type: ignore[attr-defined]


def portions_to_read(names: Sequence[str], processes: int, largest: int = 0) -> list[Any]:
    """One page alone, the others in few portions, because with each of them the whole environment comes back."""
    return [names[:1], *mixtures(names[1:], 2 * processes - 1)]


def portions_to_write(names: Sequence[str], processes: int, largest: int = 0) -> list[Any]:
    """Small ones first, so that the other processes soon have something to do."""
    return [names[:1], names[1:3], names[3:6], *mixtures(names[6:], 2 * processes)]


def mixtures(names: Sequence[str], count: int) -> list[Sequence[str]]:
    """Portions of pages with something of everything."""
    return [portion for start in range(count) if (portion := names[start::count])]


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
    # Bibliographies would look through all installed packages for each reference.
    pybtex.plugin._load_entry_point = functools.cache(pybtex.plugin._load_entry_point)
    # No notebook uses the commands that IPython adds to Python, and to look for them takes as long as all the rest.
    app.add_lexer("ipython3", PythonLexer)
    # Tables of claims are HTML of a notebook: Sphinx does not see their mathematics, and would leave MathJax out of a page without other.
    app.set_html_assets_policy("always")
    app.connect("config-inited", shorten_navigation)
    app.connect("config-inited", work_side_by_side)
    app.connect("env-before-read-docs", read_the_longest_first)
    app.connect("write-started", write_small_portions_first)
    app.connect("write-started", keep_sidebars_short)
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
