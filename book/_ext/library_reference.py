"""``{library-reference} rlvrlib``: every module of a package through autodoc, so that a new module is never forgotten.

The source of each function is a link to its lines in the repository.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import partial, reduce
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.config import Config
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


def source_lines(repository: str, branch: str, domain: str, info: dict[str, str]) -> str | None:
    """The address of an object's source; None for what has no lines, such as a constant or an attribute."""
    found: Any = None
    try:
        found = reduce(getattr, info["fullname"].split("."), importlib.import_module(info["module"]))
        found = getattr(found, "fget", found)  # of a property
        found = inspect.unwrap(found)
        lines, first = inspect.getsourcelines(found)
    except (AttributeError, TypeError, ValueError, OSError):
        return None
    return f"{repository}/blob/{branch}/{found.__module__.replace('.', '/')}.py#L{first}-L{first + len(lines) - 1}"


def address_of_source(app: Sphinx, config: Config) -> None:
    theme = config.html_theme_options
    config.linkcode_resolve = partial(source_lines, theme["repository_url"], theme.get("repository_branch", "main"))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("config-inited", address_of_source)
    app.add_directive("library-reference", LibraryReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
