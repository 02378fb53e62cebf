"""``{rlvr-output} plan --lr 1e-6 ...``: what the command ``rlvr`` prints, run when the page is
built; and ``{install-line}``, which installs it.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from typer.testing import CliRunner

from rlvrlib.command.app import app as command

logger = logging.getLogger(__name__)


class RlvrOutput(SphinxDirective):
    """The command line and its output; ``:file:`` is a log of the repository that it reads, shown
    in the line as ``:as:``.
    """

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {
        "file": directives.unchanged,
        "as": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        words, shown = shlex.split(self.arguments[0]), f"rlvr {self.arguments[0]}"
        if file := self.options.get("file"):
            path = Path(self.env.srcdir) / file
            self.env.note_dependency(str(path))
            words, shown = [*words, str(path)], f"{shown} {self.options['as']}"
        wide = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
        result = CliRunner().invoke(command, words, env=wide)
        if result.exit_code not in (0, 10):  # 10 says that a log has a warning or a fall
            logger.warning("%s: %s", shown, result.output, location=self.get_location())
        said = result.output.strip()
        if file:
            said = said.replace(path.name, self.options["as"])
        block = nodes.literal_block("", f"$ {shown}\n{said}", classes=["command-output"])
        block["language"] = "text"
        return [block]


class InstallLine(SphinxDirective):
    """How to install the command alone, from the repository that ``_config.yml`` names."""

    def run(self) -> list[nodes.Node]:
        address = self.config.html_theme_options["repository_url"]
        block = nodes.literal_block("", f'pip install "rlvrlib[practice] @ git+{address}"')
        block["language"] = "bash"
        return [block]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("rlvr-output", RlvrOutput)
    app.add_directive("install-line", InstallLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
