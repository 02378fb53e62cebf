"""What the extensions share: the notebooks, and how text from one becomes nodes."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import nbformat
from docutils import nodes
from nbformat import NotebookNode
from sphinx.environment import BuildEnvironment


def notebook_path(env: BuildEnvironment, stem: str) -> Path:
    """The notebook's file; the page that is being read is built again whenever it changes."""
    path = Path(env.srcdir) / "notebooks" / f"{stem}.ipynb"
    env.note_dependency(str(path))
    return path


def executed(path: Path) -> NotebookNode:
    """The notebook in a file. It is read once, however many figures and claims of it are quoted;
    nobody may change it.
    """
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, changed: int) -> NotebookNode:
    return nbformat.v4.reads(path.read_text(encoding="utf-8"))  # it was checked when it was written


def text_and_math(text: object) -> list[nodes.Node]:
    """Plain text with ``$...$`` as mathematics. No other markup is read, so nothing can be smuggled
    in.
    """
    pieces = re.split(r"\$([^$]+)\$", str(text))
    made = [
        nodes.math(piece, piece) if index % 2 else nodes.Text(piece)
        for index, piece in enumerate(pieces)
    ]
    return [node for node in made if node.astext()]


def number_and_math(text: object) -> list[nodes.Node]:
    """A value of the claims table: `text_and_math`, and numbers in e-notation as a power of ten."""
    return text_and_math(
        re.sub(r"(?:1|(\d+(?:\.\d+)?))e([+−-])0?(\d+)(?![\d$])", _power_of_ten, str(text))
    )


def _power_of_ten(found: re.Match[str]) -> str:
    factor, sign, power = found.groups()
    return (
        "$"
        + (f"{factor}\\times " if factor else "")
        + f"10^{{{sign.strip('+').replace('−', '-')}{power}}}$"
    )
