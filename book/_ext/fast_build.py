"""Build the site faster: in several processes that always have something to do, and without work
that is thrown away. The pages stay the same.
"""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Sequence
from copy import copy
from typing import Any

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


def work_side_by_side(app: Sphinx, config: Config) -> None:
    """Read and write pages in several processes. Three extensions are safe for that, but do not say
    so or lack a method that does nothing.
    """
    app.parallel = os.cpu_count() or 1
    app.extensions[
        "sphinx_multitoc_numbering"
    ].parallel_read_safe = (
        True  # it numbers after all is read, in the order of the one table of contents
    )
    app.extensions[
        "sphinx_jupyterbook_latex"
    ].parallel_read_safe = True  # it acts on another builder
    ProofDomain.merge_domaindata = lambda self, names, data: (
        None
    )  # the extension keeps its theorems elsewhere, and merges those


def read_the_longest_first(app: Sphinx, env: BuildEnvironment, names: list[str]) -> None:
    """The reference of the library takes as long as half of the other pages."""
    names.sort(key=lambda name: (name != "book/api", name))
    sphinx.builders.make_chunks = portions_to_read  # type: ignore[attr-defined, assignment]


def write_small_portions_first(app: Sphinx, builder: Builder) -> None:
    app.parallel = 2 * (os.cpu_count() or 1) + 1  # so that none waits at the end
    sphinx.builders.make_chunks = portions_to_write  # type: ignore[attr-defined, assignment]
    PythonLexer()  # its tables are made once, and not in every process


def keep_sidebars_short(app: Sphinx, builder: Builder) -> None:
    """For each page Sphinx copies the contents of all pages, and drops the sections afterwards: it
    is given the titles alone.
    """
    short = copy(app.env)
    short.tocs = {name: contents.deepcopy() for name, contents in app.env.tocs.items()}
    for contents in short.tocs.values():
        for entry in contents.children:
            if len(entry.children) > 1:
                entry[1][:] = list(entry.findall(addnodes.toctree))
    sphinx.builders.html.global_toctree_for_doc = lambda env, *page, **options: (  # type: ignore[attr-defined]
        global_toctree_for_doc(short, *page, **options)
    )


def portions_to_read(names: Sequence[str], processes: int, largest: int = 0) -> list[Sequence[str]]:
    """One page alone, the others in few portions, because with each of them the whole environment
    comes back.
    """
    return without_empty([names[:1], *mixtures(names[1:], 2 * processes - 1)])


def portions_to_write(
    names: Sequence[str], processes: int, largest: int = 0
) -> list[Sequence[str]]:
    """Small ones first, so that the other processes soon have something to do."""
    return without_empty([names[:1], names[1:3], names[3:6], *mixtures(names[6:], 2 * processes)])


def mixtures(names: Sequence[str], count: int) -> list[Sequence[str]]:
    """Portions of pages with something of everything."""
    return [names[start::count] for start in range(count)]


def without_empty(portions: list[Sequence[str]]) -> list[Sequence[str]]:
    return [portion for portion in portions if portion]


def leave_memory(app: Sphinx, failure: Exception | None) -> None:
    """Or Python's collector would look at every document once more before the process may end."""
    gc.freeze()


def setup(app: Sphinx) -> dict[str, Any]:
    # Documents live until the build ends: looking for dead ones finds none and takes a third of the
    # time.
    gc.disable()
    # The search would find the stem of every word anew on every page.
    SearchEnglish.stem = functools.cache(SearchEnglish.stem)  # type: ignore[method-assign]
    # Bibliographies would look through all installed packages for each reference.
    pybtex.plugin._load_entry_point = functools.cache(pybtex.plugin._load_entry_point)
    # No notebook uses the commands that IPython adds to Python, and to look for them takes as long
    # as all the rest.
    app.add_lexer("ipython3", PythonLexer)
    app.connect("config-inited", work_side_by_side)
    app.connect("env-before-read-docs", read_the_longest_first)
    app.connect("write-started", write_small_portions_first)
    app.connect("write-started", keep_sidebars_short)
    app.connect("build-finished", leave_memory)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
