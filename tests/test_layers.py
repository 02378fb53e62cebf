"""The library imports downwards only, and its layers are its folders: the theory is flat, and what
is not the subject has a folder of its own.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "rlvrlib"
THEORY = "theory"
# A folder may import the theory and these; the theory imports no folder.
BELOW = {
    THEORY: set(),
    "compiled": {THEORY},
    "evidence": {THEORY},
    "language_model": {THEORY},
    "practice": {THEORY, "evidence"},
    "running": {THEORY, "evidence"},
    "command": {THEORY, "evidence", "practice", "running", "language_model"},
}
MODULES = sorted(
    path.relative_to(LIBRARY).with_suffix("").as_posix().replace("/", ".")
    for path in LIBRARY.rglob("*.py")
    if path.name != "__init__.py"
)


def folder(module: str) -> str:
    """The layer of a module: its folder, or the theory."""
    return module.rpartition(".")[0] or THEORY


def imported_by(module: str) -> set[str]:
    """Modules of the library that one of them imports, wherever in its text."""
    text = (LIBRARY / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    named = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rlvrlib":
            source = (node.module or "").partition(".")[2]
            named |= {source} | {f"{source}.{alias.name}".lstrip(".") for alias in node.names}
        elif isinstance(node, ast.Import):
            named |= {alias.name.partition(".")[2] for alias in node.names}
    return named & set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_what_lies_below(module: str) -> None:
    reached = {folder(other) for other in imported_by(module)} - {folder(module)}
    assert reached <= BELOW[folder(module)]


def test_no_circle() -> None:
    @cache
    def below(module: str, *path: str) -> None:
        assert module not in path, f"circle: {' -> '.join((*path, module))}"
        for other in imported_by(module):
            below(other, *path, module)

    for module in MODULES:
        below(module)


def test_every_folder_is_a_layer() -> None:
    assert {folder(module) for module in MODULES} == set(BELOW)
