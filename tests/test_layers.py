"""The library imports downwards only: the theory knows nothing of logs, logs nothing of the command."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parent.parent / "rlvrlib"
# From the lowest to the highest.
LAYERS = {
    "evidence": {"claims", "figures", "interactive", "page"},
    "theory": {
        "problems", "first_zero", "bandits", "contextual", "correlated", "directions", "nonlinear", "overshoot", "scaling", "schedules", "tabular",
        "threshold_arithmetic", "threshold_searches", "thresholds", "tokens", "markov_tokens",
        "updates", "verifiers", "window_prompts", "ascent", "compiled", "many_runs", "prompts", "surrogates", "weightings",
    },
    "language model": {"parameter_vectors", "language_model", "sampled_gap"},
    "logs": {
        "log_formats", "run_log", "run_signals", "change_points", "pressure", "planning", "verdicts", "sampled_runs", "diagnosis", "report",
    },
    "command": {"parameters", "execution", "overview", "sweep", "calculator", "rerun", "cli", "warm_kernels", "__main__"},
}  # fmt: skip
MODULES = sorted(path.stem for path in LIBRARY.glob("*.py") if path.stem != "__init__")


def imported_by(module: str) -> set[str]:
    """Modules of the library that one of them imports, wherever in its text."""
    found = set()
    for node in ast.walk(ast.parse((LIBRARY / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "rlvrlib":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rlvrlib."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("rlvrlib.")}
    return found & set(MODULES)


def level(module: str) -> int:
    levels = [number for number, modules in enumerate(LAYERS.values()) if module in modules]
    assert len(levels) == 1, f"{module} must stand in exactly one layer"
    return levels[0]


@pytest.mark.parametrize("module", MODULES)
def test_no_upward_import(module: str) -> None:
    assert {other for other in imported_by(module) if level(other) > level(module)} == set()


def test_no_circle() -> None:
    @cache
    def below(module: str, *path: str) -> None:
        assert module not in path, f"circle: {' -> '.join((*path, module))}"
        for other in imported_by(module):
            below(other, *path, module)

    for module in MODULES:
        below(module)


def test_every_module_is_placed() -> None:
    assert set().union(*LAYERS.values()) == set(MODULES)
