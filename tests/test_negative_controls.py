"""Claims that cannot fail are worthless: with a perturbed theorem the claims of its notebook must fail.

The code cells of a notebook run here without a kernel, with one function of the library replaced.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import pytest

import rlvrlib
from rlvrlib import bandits, claims, thresholds

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def verdicts(stem: str, monkeypatch: pytest.MonkeyPatch, **parameters: object) -> dict[str, str]:
    """Run a notebook's code cells and return the verdict of each claim; figures are not drawn."""
    matplotlib.use("agg")
    shown: list[claims.Claim] = []
    monkeypatch.setattr(claims, "show", lambda *rows: shown.extend(rows))
    namespace: dict[str, object] = {}
    for cell in json.loads((NOTEBOOKS / f"{stem}.ipynb").read_text(encoding="utf-8"))["cells"]:
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] != "code" or "remove-cell" in tags or "figure" in cell["metadata"].get("mystnb", {}):
            continue
        exec(compile("".join(cell["source"]), stem, "exec"), namespace)
        if "parameters" in tags:
            namespace |= parameters
    assert shown, f"{stem} shows no claims"
    return {claim.key: claim.verdict for claim in shown}


def times(factor):
    return lambda original: lambda *args, **kwargs: factor * original(*args, **kwargs)


# Notebook, object, attribute, what is put in its place, the claims of which at least one must fail.
PERTURBATIONS = [
    ("05_overshoot", rlvrlib, "critical_step", times(1.001), {"flip", "variance"}),
    ("05_overshoot", thresholds, "log_linear", times(1.1), {"sharp-eight", "bound-below-exact"}),
    ("05_overshoot", thresholds, "log_linear", times(0.9), {"sharp-eight"}),
    ("05_overshoot", bandits.LogLinearBandit, "mean_logit_gradient", times(-1), {"two-cycle", "geometric", "realizable"}),
]


@pytest.mark.parametrize(("stem", "owner", "name", "perturb", "must_fail"), PERTURBATIONS)
def test_a_perturbed_theorem_fails_its_claims(stem, owner, name, perturb, must_fail, monkeypatch):
    monkeypatch.setattr(owner, name, perturb(getattr(owner, name)))
    found = verdicts(stem, monkeypatch)
    assert must_fail <= found.keys(), f"{stem} has no such claims"
    assert any(found[key] == claims.FAILS for key in must_fail), found


@pytest.mark.parametrize("stem", sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
def test_the_unperturbed_claims_hold(stem, monkeypatch):
    """The positive control of this file: the same run without a perturbation."""
    assert set(verdicts(stem, monkeypatch).values()) == {claims.HOLDS}
