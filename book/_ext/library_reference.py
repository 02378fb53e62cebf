"""``{library-reference} rlvrlib``: every module of a package through autodoc, so that a new module is never forgotten."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class LibraryReference(SphinxDirective):
    """One section for each public module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        package = importlib.import_module(self.arguments[0])
        names = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")]
        return [self._section(f"{package.__name__}.{name}") for name in sorted(names)]

    def _section(self, name: str) -> nodes.section:
        section = nodes.section("", nodes.title("", "", nodes.literal("", name)), ids=[f"module-page-{name.replace('.', '-')}"])
        lines = ["```{eval-rst}", f".. automodule:: {name}", "   :members:", "   :show-inheritance:", "```"]
        self.state.nested_parse(StringList(lines, self.get_location()), self.content_offset, section)
        return section


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("library-reference", LibraryReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
