"""Notebooks that need an extra (``"requires": ["torch"]`` in their metadata) are skipped where it is absent."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path

import pytest


@cache
def missing(notebook: Path) -> list[str]:
    requires = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("requires", [])
    return [name for name in requires if importlib.util.find_spec(name) is None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.suffix == ".ipynb" and missing(item.path):
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing(item.path))}"))
