"""How the site is built: pages side by side, and nothing in it that no reader needs."""

from __future__ import annotations

import gc
import os
import re
import shutil
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from site_files import question
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx_proof.domain import ProofDomain  # type: ignore[import-untyped]


class Proofs(ProofDomain):  # type: ignore[misc]
    """Theorems of pages that are read side by side: the extension keeps them elsewhere, and merges
    those.
    """

    def merge_domaindata(self, docnames: Any, otherdata: Any) -> None:
        pass


def work_side_by_side(app: Sphinx, config: Config) -> None:
    """Read and write pages in several processes. Two extensions are safe for that and do not say
    so: one numbers after all is read, one acts on another builder.
    """
    app.parallel = os.cpu_count() or 1
    for name in ("sphinx_multitoc_numbering", "sphinx_jupyterbook_latex"):
        app.extensions[name].parallel_read_safe = True


def leave_memory(app: Sphinx, failure: Exception | None) -> None:
    """Documents live until the build ends: looking for dead ones finds none, and takes half of the
    time. Nor need they be looked at once more before the process may end.
    """
    gc.freeze()


def shorten_navigation(app: Sphinx, config: Config) -> None:
    """Chapters and their notebooks are all that the sidebar shows; a greater depth copies the
    sections of every page into every page.
    """
    config.html_theme_options["max_navbar_depth"] = 2


def leave_out_notebooks(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """*Previous* and *next* lead from chapter to chapter, and from a notebook to its chapter."""
    builder: Any = app.builder
    relations = builder.relations if builder.name == "html" else {}
    for side, place in (("prev", 1), ("next", 2)):
        other = relations.get(page, (None, None, None))[place]
        while other and other.startswith("notebooks/"):
            other = relations[other][place]
        title = builder.render_partial(app.env.titles[other])["title"] if other else ""
        uri = builder.get_relative_uri(page, other) if other else ""
        context[side] = {"link": uri, "title": title} if other else None


def describe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """What a search engine or a shared link shows of a page: its question, and a picture."""
    if doctree is None or app.builder.name != "html":
        return
    base = app.config.html_baseurl
    text = question(doctree) or app.env.titles[page].astext()
    facts = {
        "og:title": app.env.titles[page].astext(),
        "og:description": text,
        "og:type": "article",
        "og:url": base + app.builder.get_target_uri(page),
        "og:image": f"{base}_static/preview.png",
    }
    rows = [f'<meta name="description" content="{escape(text)}">']
    rows += [f'<meta property="{k}" content="{escape(v)}">' for k, v in facts.items()]
    context["metatags"] = "\n".join([context.get("metatags", ""), *rows])


def spare_mathjax(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """A page without a formula is a page without the script that sets them."""
    if not re.search(r"\\[(\[]", context.get("body", "")):
        scripts = context.get("script_files", [])
        context["script_files"] = [s for s in scripts if "mathjax" not in str(s)]


def complete_handlers(app: Sphinx) -> None:
    """For the PDF, the whole book as one page: sphinx-exercise registers its nodes for this
    builder, and Sphinx then forgets what all others registered for HTML. A builder of another name
    would not do, because Sphinx asks for the name to number sections and formulas.
    """
    handlers = app.registry.translation_handlers
    if app.builder.name == "singlehtml" and "singlehtml" in handlers:
        handlers["singlehtml"] = {**handlers["html"], **handlers["singlehtml"]}


def prune(app: Sphinx, failure: Exception | None) -> None:
    """Take out maps of scripts and styles for those who mend the theme, its translations, and fonts
    that stand there in a lighter form too.

    The notebooks for download lose their outputs: the page shows them, and a run makes them again.
    """
    if failure or app.builder.format != "html":
        return
    static, sources = Path(app.outdir) / "_static", Path(app.outdir) / "_sources"
    heavier = [font for font in static.rglob("*.ttf") if font.with_suffix(".woff2").exists()]
    for path in [*static.rglob("*.map"), *heavier]:
        path.unlink()
    if app.config.language == "en":
        shutil.rmtree(static / "locales", ignore_errors=True)
    for path in sources.rglob("*.ipynb"):
        notebook = nbformat.v4.reads(path.read_text(encoding="utf-8"))
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        path.write_text(nbformat.v4.writes(notebook) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    # Tables of claims are HTML of a notebook: Sphinx does not see their mathematics, and would
    # leave MathJax out of a page without other.
    app.set_html_assets_policy("always")
    app.connect("html-page-context", spare_mathjax, priority=900)
    app.add_domain(Proofs, override=True)
    app.connect("config-inited", work_side_by_side)
    app.connect("config-inited", shorten_navigation)
    app.connect("html-page-context", leave_out_notebooks)
    app.connect("html-page-context", describe)
    app.connect("builder-inited", complete_handlers)
    app.connect("build-finished", prune)
    gc.disable()
    app.connect("build-finished", leave_memory)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
