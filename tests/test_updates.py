"""Multipliers of the methods, in the population and over finite groups."""

import numpy as np
import pytest
from scipy.stats import binom

from rlvrlib import updates

RATES = np.array([0.0, 1e-12, 0.03, 0.5, 0.9, 1.0])


def test_population_multipliers():
    for method in ("reinforce", "rloo", "dr_grpo"):
        assert updates.multiplier(method, RATES) == pytest.approx(RATES * (1 - RATES))
    for method in ("grpo", "gspo", "dapo"):
        assert updates.multiplier(method, RATES) == pytest.approx(np.sqrt(RATES * (1 - RATES)))
    assert np.all(updates.multiplier("log_odds", RATES) == 1)


@pytest.mark.parametrize("size", [2, 3, 8, 64])
def test_finite_groups_by_enumeration(size):
    counts = np.arange(size + 1)
    for rate in RATES:
        chance = binom.pmf(counts, size, rate)
        spread = np.sqrt(counts / size * (1 - counts / size))
        mean, mixed = chance @ spread, 1 - chance[0] - chance[-1]
        assert updates.multiplier("grpo", rate, size) == pytest.approx(mean, rel=1e-9, abs=1e-14)
        assert updates.multiplier("dr_grpo", rate, size) == pytest.approx(chance @ spread**2, rel=1e-9, abs=1e-14)
        assert updates.multiplier("reinforce", rate, size) == pytest.approx(rate * (1 - rate))
        if mixed > 1e-6:
            assert updates.multiplier("dapo", rate, size) == pytest.approx(mean / mixed, rel=1e-8)


def test_limits_of_finite_groups():
    # GRPO late in training: linear in 1 - J, not its square root. DAPO: never zero.
    assert updates.multiplier("grpo", 1.0, 16, failure_rate=1e-200) == pytest.approx(1e-200 * np.sqrt(15), rel=1e-12)
    for rate in (0.0, 1e-12, 1.0):
        assert updates.multiplier("dapo", rate, 16) == pytest.approx(np.sqrt(15) / 16, rel=1e-9)
    large = updates.multiplier("grpo", 0.3, 20000)
    assert large == pytest.approx(np.sqrt(0.21), rel=1e-3)
    assert updates.multiplier("reinforce", 1.0, failure_rate=1e-300) == pytest.approx(1e-300)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ppo", 0.5), "method must be one of"),
        (("grpo", 0.5, 1), "group_size must be at least 2"),
        (("grpo", 1.2), "success_rate and failure_rate must be in"),
        (("grpo", np.nan), "success_rate and failure_rate must be in"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        updates.multiplier(*arguments)
