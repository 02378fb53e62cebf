"""What the whole book as one page needs, from which ``make pdf`` prints the PDF."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def complete_handlers(app: Sphinx) -> None:
    """sphinx-exercise registers its nodes for ``singlehtml``; Sphinx then forgets what all others
    registered for ``html``.
    """
    handlers = app.registry.translation_handlers
    if app.builder.name == "singlehtml" and "singlehtml" in handlers:
        handlers["singlehtml"] = {**handlers["html"], **handlers["singlehtml"]}


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", complete_handlers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
