"""What the extensions read: the order of the book, from ``_toc.yml`` alone, and its notebooks."""

from __future__ import annotations

import csv
import re
from functools import lru_cache
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode
from sphinx.environment import BuildEnvironment


def pages(source: Path) -> list[str]:
    """Every page, as the table of contents orders them: ``book/overshoot``, ``notebooks/...``."""
    toc = _contents(source)
    listed = [page for part in toc["parts"] for page in part["chapters"]]
    below = [[page, *page.get("sections", [])] for page in listed]
    return [toc["root"], *(entry["file"] for group in below for entry in group)]


def chapters(source: Path) -> list[str]:
    """The numbered pages of prose, in their order: ``book/overshoot``."""
    numbered = [part for part in _contents(source)["parts"] if part.get("numbered")]
    return [page["file"] for part in numbered for page in part["chapters"]]


def notebooks(source: Path) -> list[str]:
    """The notebooks in their order, without their folder: ``overshoot``."""
    return [name.split("/")[1] for name in pages(source) if name.startswith("notebooks/")]


def _contents(source: Path) -> dict[str, list[dict[str, list[dict[str, str]]]]]:
    return yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))


def results(source: Path) -> dict[str, str]:
    """The label of each result by its name in lower case, as ``book/theorems.md`` lists them."""
    rows = (source / "book" / "theorems.md").read_text(encoding="utf-8")
    return {
        name.lower(): label
        for name, label in re.findall(r"(?m)^\| ([^|]+?) \| \{prf:ref\}`([^`]+)`", rows)
    }


def planted_errors(source: Path) -> list[dict[str, str]]:
    """The wrong lines that were planted in the theory, each with what was noticed; none where the
    book has no table of them.
    """
    folder = source / "notebooks" / "data" / "planted_errors"
    if not (folder / "noticed.csv").is_file():
        return []
    errors, noticed = (
        list(csv.DictReader((folder / name).read_text(encoding="utf-8").splitlines()))
        for name in ("errors.csv", "noticed.csv")
    )
    return [error | found for error, found in zip(errors, noticed, strict=True)]


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
