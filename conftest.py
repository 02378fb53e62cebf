"""How pytest treats the notebooks (``pytest --nbval notebooks``), from whatever folder it is
called.
"""

from __future__ import annotations

import importlib.util
import json
import signal
from functools import cache
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts its background jobs with SIGINT ignored, and their children inherit that: the
    # tests that interrupt a process would wait in vain.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # As an option in pyproject.toml the path would be looked for in the current folder.
    if getattr(config.option, "nbval_sanitize_with", "") is None:
        config.option.nbval_sanitize_with = str(config.rootpath / "tests" / "nbval.cfg")


@cache
def missing(notebook: Path) -> list[str]:
    requires = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("requires", [])
    return [name for name in requires if importlib.util.find_spec(name) is None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A notebook that needs an extra ("requires": ["torch"] in its metadata) is skipped where that
    # is absent.
    for item in items:
        if item.path.suffix == ".ipynb" and missing(item.path):
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing(item.path))}"))
