"""``{library-reference} rlvrlib``: every module of a package through autodoc, so that a new module
is never forgotten: what the package hands on, in its order, then the rest, folder by folder and
folded.

The source of each function is a link to its lines in the repository.
"""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
import re
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective


class LibraryReference(SphinxDirective):
    """One section for each public module; those of folders are folded."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        package = importlib.import_module(self.arguments[0])
        names = [
            module.name
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
            if not module.ispkg and not module.name.rpartition(".")[2].startswith("_")
        ]
        own = [module.__name__ for module in package.__dict__["_FROM"]]
        inside = [name for name in names if name.count(".") > 1]
        flat = sorted(set(names) - set(inside), key=lambda n: (own.index(n) if n in own else 99, n))
        made: list[nodes.Node] = [self._section(name) for name in flat]
        for folder, found in groupby(sorted(inside), key=lambda name: name.rpartition(".")[0]):
            head = f"<details><summary>The modules of <code>{folder}</code></summary>"
            made.append(nodes.raw("", head, format="html"))
            made += [self._section(name) for name in found]
            made.append(nodes.raw("", "</details>", format="html"))
        return made

    def _section(self, name: str) -> nodes.section:
        section = nodes.section(
            "",
            nodes.title("", "", nodes.literal("", name)),
            ids=[f"module-page-{name.replace('.', '-')}"],
        )
        lines = [
            "```{eval-rst}",
            f".. automodule:: {name}",
            f"   :members: {', '.join(own_names(name))}",
            "   :show-inheritance:",
            "```",
        ]
        self.state.nested_parse(
            StringList(lines, self.get_location()), self.content_offset, section
        )
        return section


def own_names(module: str) -> list[str]:
    """What a module's source defines, in its order. Where no names are given, autodoc reads the
    source of all that the module imports.
    """
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin
    names: list[str] = []
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def describe(
    app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]
) -> None:
    """The docstrings say ``name : meaning`` in one line; numpydoc reads a type there, and a meaning
    only below.
    """
    described: list[str] = []
    listing = False
    for number, line in enumerate(lines):
        if re.fullmatch("-{3,}", lines[number + 1] if number + 1 < len(lines) else ""):
            listing = line in ("Parameters", "Attributes", "Raises")
        parts = re.fullmatch(r"(\S[^:]*) : (.+)", line) if listing else None
        described += [parts[1], f"    {parts[2]}"] if parts else [line]
    lines[:] = described


def skip_field(
    app: Sphinx, what: str, name: str, found: object, skip: bool, options: object
) -> bool | None:
    """The fields of a named tuple: its docstring says what they mean."""
    return True if str(found.__doc__).startswith("Alias for field number") else None


def source_lines(repository: str, branch: str, domain: str, info: dict[str, str]) -> str | None:
    """The address of an object's source; None for what has no lines, such as a constant or an
    attribute.
    """
    try:
        kind, first, last = ModuleAnalyzer.for_module(info["module"]).find_tags()[info["fullname"]]
    except (PycodeError, KeyError):
        return None
    return (
        f"{repository}/blob/{branch}/{info['module'].replace('.', '/')}.py#L{first}-L{last}"
        if kind != "other"
        else None
    )


def address_of_source(app: Sphinx, config: Config) -> None:
    theme = config.html_theme_options
    config.linkcode_resolve = partial(
        source_lines, theme["repository_url"], theme.get("repository_branch", "main")
    )


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("config-inited", address_of_source)
    app.connect("autodoc-process-docstring", describe, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", skip_field)
    app.add_directive("library-reference", LibraryReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
