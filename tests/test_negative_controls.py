"""Claims that cannot fail are worthless: with a perturbed theorem the claims of its notebook must fail.

The code cells of a notebook run here without a kernel, with one function of the library replaced.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml

import rlvrlib
from rlvrlib import bandits, claims, directions, nonlinear, surrogates, thresholds

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
QUICK = yaml.safe_load((ROOT / "params" / "quick.yml").read_text(encoding="utf-8"))


def verdicts(stem: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Run a notebook's code cells with the quick profile; the verdict of each claim."""
    matplotlib.use("agg")
    shown: list[claims.Claim] = []
    monkeypatch.setattr(claims, "show", lambda *rows: shown.extend(rows))
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    namespace: dict[str, object] = {}
    for cell in json.loads((NOTEBOOKS / f"{stem}.ipynb").read_text(encoding="utf-8"))["cells"]:
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] != "code" or "remove-cell" in tags:
            continue
        exec(compile("".join(cell["source"]), stem, "exec"), namespace)
        if "parameters" in tags:
            namespace |= QUICK.get(stem, {})
    assert shown, f"{stem} shows no claims"
    return {claim.key: claim.verdict for claim in shown}


def times(factor):
    return lambda original: lambda *args, **kwargs: factor * original(*args, **kwargs)


def no_bend(original):
    """Drops the Hessian of the logits."""
    return lambda *args: np.zeros_like(original(*args))


def longer(original):
    """An update that is longer by a fifth; the state is left alone."""

    def update(*args):
        found, state = original(*args)
        return 1.2 * found, state

    return update


# Notebook, object, attribute, what is put in its place, the claims of which at least one must fail.
PERTURBATIONS = [
    ("01_log_odds", bandits.SoftmaxBandit, "gradient_gap", times(-1), {"gap-log-linear", "gap-network"}),
    ("01_log_odds", nonlinear.NetworkBandit, "logit_curvatures", no_bend, {"curvature-network", "hessian-network"}),
    ("02_logistic_law", bandits.LogLinearBandit, "mean_logit_gradient", times(1.05), {"slope-shared", "slope-bound"}),
    ("03_regularity", thresholds, "trajectory", times(1.1), {"sharp-exact", "sharp-forgives"}),
    ("04_convergence", thresholds, "paper", times(1.1), {"sixteen"}),
    ("04_convergence", thresholds, "trajectory", times(1.1), {"sharp-two-sided"}),
    ("04_convergence", thresholds, "trajectory", times(0.9), {"sharp-two-sided"}),
    ("04_convergence", thresholds, "log_linear", times(1.1), {"sharp-log-linear"}),
    ("04_convergence", thresholds, "success_rise", times(1.1), {"sharp-success-rise"}),
    ("05_overshoot", rlvrlib, "critical_step", times(1.001), {"flip", "variance"}),
    ("05_overshoot", thresholds, "log_linear", times(1.1), {"sharp-eight", "bound-below-exact"}),
    ("05_overshoot", bandits.LogLinearBandit, "mean_logit_gradient", times(-1), {"two-cycle", "realizable"}),
    ("06_token_threshold", thresholds, "failure_fall", times(1.1), {"sharp-33", "sharp-limit", "never-below"}),
    ("09_success_rate", directions, "multiplier", times(1.2), {"group-law", "late-reinforce", "grpo-plateau"}),
    ("16_optimizers", directions.Adam, "update", longer, {"sign-length", "adam-attained", "adam-response", "noise-length"}),
    ("16_optimizers", directions.Momentum, "update", longer, {"momentum"}),
    ("16_optimizers", surrogates.ClippedSurrogate, "update", longer, {"one-update", "frozen", "ratio-summit"}),
    ("16_optimizers", directions, "multiplier", times(1.2), {"frozen", "kl-plateau", "kl-return"}),
    ("16_optimizers", surrogates, "kl_gradient", times(1.1), {"kl-plateau", "kl-inverse"}),
    ("16_optimizers", rlvrlib, "kl_gradient", times(-1), {"kl-gradient", "kl-estimator"}),
    ("16_optimizers", rlvrlib, "critical_step", times(1.1), {"clip-below"}),
    ("16_optimizers", thresholds, "log_linear", times(2), {"sign-threshold"}),
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
    found = list(verdicts(stem, monkeypatch).values())
    assert claims.FAILS not in found
    assert found.count(claims.HOLDS) >= 0.8 * len(found)  # a few leave the assumptions when they have few samples
