"""The order of the book stands in ``_toc.yml`` and nowhere else."""

from __future__ import annotations

from pathlib import Path

import yaml


def pages(source: Path) -> list[str]:
    """Every page, as the table of contents orders them: ``book/overshoot``, ``notebooks/...``."""
    toc = _read(source)
    listed = [page for part in toc["parts"] for page in part["chapters"]]
    below = [[page, *page.get("sections", [])] for page in listed]
    return [toc["root"], *(entry["file"] for group in below for entry in group)]


def chapters(source: Path) -> list[str]:
    """The numbered pages of prose, in their order: ``book/overshoot``."""
    numbered = [part for part in _read(source)["parts"] if part.get("numbered")]
    return [page["file"] for part in numbered for page in part["chapters"]]


def notebooks(source: Path) -> list[str]:
    """The notebooks in their order, without their folder: ``overshoot``."""
    return [name.split("/")[1] for name in pages(source) if name.startswith("notebooks/")]


def _read(source: Path) -> dict[str, list[dict[str, list[dict[str, str]]]]]:
    return yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))
