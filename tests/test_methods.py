"""The table of methods: multipliers against the covariance of advantage and reward, by enumeration;
what each method is off policy and over a batch.
"""

import importlib.util
import itertools

import numpy as np
import pytest
from scipy.stats import binom

import rlvrlib
from rlvrlib import METHODS, methods, multiplier
from rlvrlib.methods import SAMPLED_METHODS, group_advantages

RATES = np.array([0.0, 1e-12, 0.03, 0.5, 0.9, 1.0])
INSIDE = np.array([1e-12, 0.03, 0.5, 0.9])
BOTH = np.array([1.0, 0.0])


def test_population_multipliers():
    for method in ("reinforce", "rloo", "dr_grpo"):
        assert multiplier(method, RATES) == pytest.approx(RATES * (1 - RATES))
    for method in ("grpo", "gspo", "dapo"):
        assert multiplier(method, RATES) == pytest.approx(np.sqrt(RATES * (1 - RATES)))
    assert np.all(multiplier("log_odds", RATES) == 1)


@pytest.mark.parametrize("method", SAMPLED_METHODS)
def test_a_multiplier_is_the_covariance_of_advantage_and_reward(method):
    """``m = E[A (r - J)] = J (1-J) (A(1) - A(0))`` in the population."""
    rates = np.stack([INSIDE, 1 - INSIDE], axis=-1)
    right, wrong = group_advantages(method, BOTH, rates, np.inf).T
    expected = INSIDE * (1 - INSIDE) * (right - wrong)
    assert multiplier(method, INSIDE) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("method", SAMPLED_METHODS)
@pytest.mark.parametrize("size", [2, 3, 6])
@pytest.mark.parametrize("rate", [0.03, 0.5, 0.9])
def test_finite_groups_by_enumeration_of_all_responses(method, size, rate):
    """The mean of ``sum_i A_i (r_i - J) / G`` over all ``2^G`` groups, one response at a time."""
    groups = np.array(list(itertools.product([0.0, 1.0], repeat=size)))
    chance = np.prod(np.where(groups > 0, rate, 1 - rate), axis=-1)
    if METHODS[method].resamples:
        chance = np.where(np.ptp(groups, axis=-1) > 0, chance, 0.0)
        chance = chance / chance.sum()
    advantages = group_advantages(method, groups, 1 / size, size)
    expected = chance @ np.mean(advantages * (groups - rate), axis=-1)
    assert multiplier(method, rate, size) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [2, 3, 8, 64])
def test_closed_forms_of_finite_groups(size):
    counts = np.arange(size + 1)
    for rate in RATES:
        chance = binom.pmf(counts, size, rate)
        spread = np.sqrt(counts / size * (1 - counts / size))
        mean, mixed = chance @ spread, 1 - chance[0] - chance[-1]
        assert multiplier("grpo", rate, size) == pytest.approx(mean, rel=1e-9, abs=1e-14)
        variance = pytest.approx(rate * (1 - rate) * (1 - 1 / size), rel=1e-9, abs=1e-14)
        assert multiplier("dr_grpo", rate, size) == variance
        for method in ("reinforce", "rloo"):
            assert multiplier(method, rate, size) == pytest.approx(rate * (1 - rate))
        if mixed > 1e-6:
            assert multiplier("dapo", rate, size) == pytest.approx(mean / mixed, rel=1e-8)


def test_limits_of_finite_groups():
    # GRPO late in training: linear in 1 - J, not its square root. DAPO: never zero.
    late = multiplier("grpo", 1.0, 16, failure_rate=1e-200)
    assert late == pytest.approx(1e-200 * np.sqrt(15), rel=1e-12)
    for rate in (0.0, 1e-12, 1.0):
        assert multiplier("dapo", rate, 16) == pytest.approx(np.sqrt(15) / 16, rel=1e-9)
    assert multiplier("grpo", 0.3, 20000) == pytest.approx(np.sqrt(0.21), rel=1e-3)
    assert multiplier("reinforce", 1.0, failure_rate=1e-300) == pytest.approx(1e-300)
    assert multiplier("reinforce", 1.0, 8, failure_rate=1e-300) == pytest.approx(1e-300)


def test_advantages_of_a_group_by_hand():
    rewards = np.array([1.0, 0.0, 0.0, 0.0])
    centred = rewards - 0.25
    expected = {
        "reinforce": rewards,
        "rloo": [1, -1 / 3, -1 / 3, -1 / 3],
        "dr_grpo": centred,
        "grpo": centred / np.std(rewards),
        "gspo": centred / np.std(rewards),
        "dapo": centred / np.std(rewards),
    }
    for method, values in expected.items():
        assert group_advantages(method, rewards, 1 / 4, 4) == pytest.approx(np.asarray(values))
    sample = group_advantages("grpo", rewards, 1 / 4, 4, ddof=1)
    assert sample == pytest.approx(centred / np.std(rewards, ddof=1))


@pytest.mark.parametrize("method", SAMPLED_METHODS)
def test_a_group_without_spread_moves_by_its_baseline_alone(method):
    """Ten shares of a tenth do not add up to one in floating point: still no spread."""
    for reward in (0.0, 1.0):
        found = group_advantages(method, np.full(10, reward), 1 / 10, 10)
        assert np.all(found == (reward if method == "reinforce" else 0.0))


def test_advantages_of_the_population_keep_their_digits():
    rates = np.array([1.0, 1e-300])
    right, wrong = group_advantages("grpo", BOTH, rates, np.inf)
    assert right == pytest.approx(1e-150) and wrong == pytest.approx(-1e150)


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_what_a_ratio_counts(advantage):
    """PPO's surrogate is flat outside the interval on the side where the advantage points."""
    ratios = np.array([0.5, 0.9, 1.0, 1.1, 2.0])
    arguments = np.log(ratios), 1, np.full(5, advantage), np.array(0.8), np.array(1.2)
    kept = ratios <= 1.2 if advantage > 0 else ratios >= 0.8
    assert methods.importance_ratio(*arguments) == pytest.approx(ratios)
    assert methods.clipped_surrogate(*arguments) == pytest.approx(np.where(kept, ratios, 0))
    assert methods.sequence_surrogate(*arguments) == pytest.approx(np.where(kept, ratios, 0))


def test_the_sequence_ratio_is_the_ratio_per_token():
    log_ratio, ends = np.array([8 * np.log(1.1)]), (np.array(0.8), np.array(1.2))
    assert methods.clipped_surrogate(log_ratio, 8, np.ones(1), *ends) == 0
    assert methods.sequence_surrogate(log_ratio, 8, np.ones(1), *ends) == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ppo", 0.5), "method must be one of"),
        (("grpo", 0.5, 1), "group_size must be at least 2"),
        (("grpo", 0.5, 2.5), "group_size must be at least 2 and whole"),
        (("grpo", 1.2), "success_rate must be in"),
        (("grpo", np.nan), "success_rate must be in"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        multiplier(*arguments)


def test_rates_that_contradict_each_other_are_named():
    with pytest.raises(ValueError, match="failure_rate must be 1 - success_rate"):
        multiplier("reinforce", 0.2, failure_rate=0.2)


def test_what_is_not_sampled_has_no_advantages():
    with pytest.raises(ValueError, match="method must be one of reinforce"):
        group_advantages("log_odds", BOTH, [0.5, 0.5], np.inf)


def test_an_old_name_says_where_its_content_is():
    with pytest.raises(ImportError, match=r"rlvrlib\.updates is now rlvrlib\.methods and"):
        from rlvrlib import updates  # noqa: F401
    with pytest.raises(ImportError, match=r"rlvrlib\.prompts is now rlvrlib\.batches"):
        _ = rlvrlib.prompts
    with pytest.raises(AttributeError, match="no attribute 'sise'"):
        _ = rlvrlib.sise


@pytest.mark.parametrize(("old", "new"), rlvrlib._MOVED.items())
def test_the_new_home_of_an_old_name_exists(old, new):
    assert importlib.util.find_spec(f"rlvrlib.{new.split()[0]}")
    assert importlib.util.find_spec(f"rlvrlib.{old}") is None
