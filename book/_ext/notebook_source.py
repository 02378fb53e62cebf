"""What the extensions share: where the notebooks are, and how text from one becomes nodes."""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx.environment import BuildEnvironment


def notebook_path(env: BuildEnvironment, stem: str) -> Path:
    """The notebook's file; the page that is being read is built again whenever it changes."""
    path = Path(env.srcdir) / "notebooks" / f"{stem}.ipynb"
    env.note_dependency(str(path))
    return path


def text_and_math(text: object) -> list[nodes.Node]:
    """Plain text with ``$...$`` as mathematics. No other markup is read, so nothing can be smuggled in."""
    pieces = re.split(r"\$([^$]+)\$", str(text))
    made = [nodes.math(piece, piece) if index % 2 else nodes.Text(piece) for index, piece in enumerate(pieces)]
    return [node for node in made if node.astext()]
