"""At the foot of every page: the command that makes its figures again, commit, parameters, versions
and run time.
``{build-status}`` lists the same for the whole book.

``make book`` leaves the facts in ``provenance.json`` beside the sources. A plain ``jupyter-book
build .`` finds no such file and says that it shows the committed outputs.
"""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from docutils import nodes
from sources import notebooks
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from writing import table


def read_facts(source: Path) -> dict[str, Any]:
    """What is known about this build."""
    file = source / "provenance.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=source,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    versions = {"Python": platform.python_version()} | {
        name: version(name) for name in ("rlvrlib", "numpy")
    }
    return {"commit": commit, "profile": "committed outputs", "versions": versions, "notebooks": {}}


def footer(facts: dict[str, Any], page: str) -> str:
    """The line for one page, as HTML."""
    parts = [f"commit {facts['commit']}{' with local changes' if facts.get('modified') else ''}"]
    parts.append(f"profile: {facts['profile']}")
    run = (
        facts["notebooks"].get(page.removeprefix("notebooks/"))
        if page.startswith("notebooks/")
        else None
    )
    if run is not None:
        given = ", ".join(f"{name} = {value}" for name, value in run.get("parameters", {}).items())
        parts.append(f"parameters: {given or 'the defaults above'}")
        parts.append(
            f"run time: {run['seconds']:.0f} s" if "seconds" in run else "committed outputs"
        )
    parts.append(", ".join(f"{name} {number}" for name, number in facts["versions"].items()))
    return f'<p class="provenance">{escape(" · ".join(parts))}</p>'


def reproduce(source: Path, facts: dict[str, Any], page: str) -> str:
    """The exact command that makes the figures of a chapter or notebook again, and the notebook
    itself.
    """
    stem = page.rpartition("/")[2]
    if not (source / "notebooks" / f"{stem}.ipynb").is_file():
        return ""
    given = facts["notebooks"].get(stem, {}).get("parameters", {})
    options = "".join(f" -p {name} {shlex.quote(str(value))}" for name, value in given.items())
    command = escape(f"rlvr run notebooks/{stem}.ipynb{options}")
    return (
        '<aside class="reproduce" aria-label="Reproduce">'
        "<p>The figures of this page again, with these parameters "
        f'(<a href="../_sources/notebooks/{stem}.ipynb" download>the notebook</a>; '
        "the whole book: <code>make book</code>):</p>"
        '<div class="highlight-bash notranslate"><div class="highlight">'
        f"<pre>{command}\n</pre></div></div></aside>"
    )


class BuildStatus(SphinxDirective):
    """Commit, machine and versions of this build, and the run time of each notebook."""

    def run(self) -> list[nodes.Node]:
        facts = self.config.provenance_facts
        about = {
            "commit": facts["commit"] + (" with local changes" if facts.get("modified") else "")
        }
        about |= {
            "profile": facts["profile"],
            "machine": facts.get("machine", "not recorded"),
        } | facts["versions"]
        page = [table(("What", "Value"), [(name, str(value)) for name, value in about.items()])]
        if not facts["notebooks"]:
            text = (
                "This site was built from the committed outputs, without executing: there are no "
                "run times. make book records them."
            )
            return [*page, nodes.paragraph("", text)]
        order = notebooks(Path(self.env.srcdir))
        rows = [
            [stem, f"{run['seconds']:.1f} s" if "seconds" in run else "committed outputs"]
            for stem, run in sorted(
                facts["notebooks"].items(), key=lambda item: order.index(item[0])
            )
        ]
        return [*page, table(("Notebook", "Run time"), rows)]


def add_footer(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    if doctree is not None:  # pages made from a source, not the index or the search
        facts = app.config.provenance_facts
        context["body"] += reproduce(Path(app.srcdir), facts, page) + footer(facts, page)


def setup(app: Sphinx) -> dict[str, Any]:
    # Not part of the environment: another commit alone need not read every page again.
    app.add_config_value("provenance_facts", read_facts(Path(app.srcdir)), "")
    app.add_directive("build-status", BuildStatus)
    app.connect("html-page-context", add_footer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
