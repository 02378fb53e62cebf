"""A line at the foot of every page: commit, parameters, versions and run time.

``make book`` leaves the facts in ``provenance.json`` beside the sources. A plain ``jupyter-book build .`` finds no such
file and says that it shows the committed outputs.
"""

from __future__ import annotations

import json
import platform
import subprocess
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def read_facts(source: Path) -> dict[str, Any]:
    """What is known about this build."""
    file = source / "provenance.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=source, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    versions = {"Python": platform.python_version()} | {name: version(name) for name in ("rlvrlib", "numpy")}
    return {"commit": commit, "profile": "committed outputs", "versions": versions, "notebooks": {}}


def footer(facts: dict[str, Any], page: str) -> str:
    """The line for one page, as HTML."""
    parts = [f"commit {facts['commit']}{' with local changes' if facts.get('modified') else ''}"]
    parts.append(f"profile: {facts['profile']}")
    run = facts["notebooks"].get(page.removeprefix("notebooks/")) if page.startswith("notebooks/") else None
    if run is not None:
        given = ", ".join(f"{name} = {value}" for name, value in run.get("parameters", {}).items())
        parts.append(f"parameters: {given or 'the defaults above'}")
        parts.append(f"run time: {run['seconds']:.0f} s" if "seconds" in run else "committed outputs")
    parts.append(", ".join(f"{name} {number}" for name, number in facts["versions"].items()))
    return f'<p class="provenance">{escape(" · ".join(parts))}</p>'


def add_footer(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    if doctree is not None:  # pages made from a source, not the index or the search
        context["body"] += footer(app.config.provenance_facts, page)


def setup(app: Sphinx) -> dict[str, Any]:
    # Not part of the environment: another commit alone need not read every page again.
    app.add_config_value("provenance_facts", read_facts(Path(app.srcdir)), "")
    app.connect("html-page-context", add_footer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
