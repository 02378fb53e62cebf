"""The table of methods: multipliers against the covariance of advantage and reward, by enumeration;
what each method is off policy and over a batch.
"""

import importlib.util
import itertools

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import log_expit, log_softmax, softmax
from scipy.stats import binom

import rlvrlib
from rlvrlib import (
    METHODS,
    At,
    ClippedSurrogate,
    LogLinearBandit,
    PolicyGradient,
    SampledGradient,
    TabularBandit,
    methods,
    multiplier,
    renamed,
)
from rlvrlib.methods import SAMPLED_METHODS, group_advantages

RATES = np.array([0.0, 1e-12, 0.03, 0.5, 0.9, 1.0])
INSIDE = np.array([1e-12, 0.03, 0.5, 0.9])
BOTH = np.array([1.0, 0.0])
PLUS_PLUS = ("reinforce_plus_plus", "reinforce_plus_plus_baseline")


def test_population_multipliers():
    for method in ("reinforce", "rloo", "dr_grpo"):
        assert multiplier(method, RATES) == pytest.approx(RATES * (1 - RATES))
    roots = ("grpo", "gspo", "dapo", "cispo", *PLUS_PLUS)
    for method in roots:
        assert multiplier(method, RATES) == pytest.approx(np.sqrt(RATES * (1 - RATES)))
    assert multiplier("maxrl", RATES) == pytest.approx(1 - RATES)
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
        "cispo": centred / np.std(rewards),
        "maxrl": [4, -1, -1, -1],
        "reinforce_plus_plus": centred / np.std(rewards),
        "reinforce_plus_plus_baseline": centred / np.std(rewards),
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


def test_reinforce_plus_plus_standardizes_over_the_batch():
    """Two groups of four, with one and with three right."""
    rewards = np.array([[1.0, 0, 0, 0], [1, 1, 1, 0]])
    whole, own = (group_advantages(method, rewards, 1 / 4, 4, batch=True) for method in PLUS_PLUS)
    assert whole == pytest.approx((rewards - 0.5) / 0.5)
    centred = rewards - [[0.25], [0.75]]
    assert own == pytest.approx(centred / np.sqrt(np.mean(centred**2)))
    sample = group_advantages(PLUS_PLUS[0], rewards, 1 / 4, 4, batch=True, ddof=1)
    assert sample == pytest.approx((rewards - 0.5) / np.std(rewards, ddof=1))
    grpo = group_advantages("grpo", rewards, 1 / 4, 4, batch=True)
    assert np.std(grpo, axis=-1) == pytest.approx(1.0)  # every group by itself
    assert np.all(group_advantages(PLUS_PLUS[0], np.ones((2, 10)), 1 / 10, 10, batch=True) == 0)


def test_in_a_batch_prompts_count_as_in_reinforce():
    """One scale for all prompts, where GRPO has one for each."""
    success = np.array([0.05, 0.5, 0.9])
    variance, mean = success * (1 - success), success.mean()
    whole, own = (multiplier(method, success, batch=True) for method in PLUS_PLUS)
    assert whole == pytest.approx(variance / np.sqrt(mean * (1 - mean)))
    assert own == pytest.approx(variance / np.sqrt(variance.mean()))
    assert multiplier("grpo", success, batch=True) == pytest.approx(np.sqrt(variance))
    late = multiplier(PLUS_PLUS[0], np.ones(2), failure_rate=[1e-300, 3e-300], batch=True)
    assert late == pytest.approx(np.array([1e-300, 3e-300]) / np.sqrt(2e-300))
    with pytest.raises(ValueError, match="group_size must be omitted for a batch of prompts"):
        multiplier(PLUS_PLUS[0], success, 8, batch=True)


@pytest.mark.parametrize("method", PLUS_PLUS)
def test_reinforce_plus_plus_sampled_over_prompts_of_different_success_rates(method):
    """Large groups move by the mean that the batch has in the population, not by GRPO's."""
    features = np.stack([np.eye(3), np.zeros((3, 3))], axis=-2)  # one parameter for each prompt
    stack = LogLinearBandit(features, [1, 0], [[4.0, 0.0], [0.0, 0.0], [-3.0, 0.0]])
    theta = np.zeros((600, 1, 3))
    sampled = SampledGradient(method, 400, np.random.default_rng(6), prompts=stack)
    found, _ = sampled.update(At.of(stack, theta), None)
    exact, grpo = (
        PolicyGradient(name, prompts=stack, length_normalized=False).update(
            At.of(stack, theta[0]), None
        )[0]
        for name in (method, "grpo")
    )
    error = 4.5 * found.std(axis=0).max() / np.sqrt(600) + np.abs(exact).max() / 1200
    assert found.mean(axis=0) == pytest.approx(exact, abs=error)
    assert np.abs(grpo - exact).max() > 5 * error


def test_advantages_of_the_population_keep_their_digits():
    rates = np.array([1.0, 1e-300])
    right, wrong = group_advantages("grpo", BOTH, rates, np.inf)
    assert right == pytest.approx(1e-150) and wrong == pytest.approx(-1e150)


@pytest.mark.parametrize("size", [2, 3, 8, 64])
def test_maxrl_has_the_group_law_of_the_mean_score_of_the_correct_responses(size):
    """By enumeration: its estimator, ``(1-J) Gap`` in every group with a correct response, and ours
    with a baseline; the published baseline is that of one response fewer.
    """
    for rate in (1e-12, 0.03, 0.5, 0.9):
        chance, share = binom.pmf(np.arange(size + 1), size, rate), np.arange(size + 1) / size
        law = multiplier("maxrl", rate, size)
        closed = (1 - rate) * -np.expm1(size * np.log1p(-rate))
        assert law == pytest.approx(closed, rel=1e-9)
        assert law == pytest.approx((1 - rate) * chance[1:].sum(), rel=1e-9)
        published = chance[1:] @ (1 - share[1:])  # (r - mean) / mean, zero where all are wrong
        fewer = (1 - rate) * -np.expm1((size - 1) * np.log1p(-rate))
        assert published == pytest.approx(fewer, rel=1e-9)


def test_maxrl_by_hand():
    groups = np.array([[0.0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
    expected = [[0, 0, 0, 0], [4, -1, -1, -1], [1, 1, -1, -1], [0, 0, 0, 0]]
    assert group_advantages("maxrl", groups, 1 / 4, 4) == pytest.approx(np.array(expected))


def test_maxrl_is_ascent_on_the_logarithm_of_the_success_rate():
    rng = np.random.default_rng(7)
    problem = LogLinearBandit(rng.normal(size=(6, 3)), [1, 1, 0, 0, 0, 0])
    theta = rng.normal(size=3)
    slope = approx_fprime(theta, lambda point: log_expit(problem.log_odds(point)), 1e-7)
    update, _ = PolicyGradient("maxrl").update(At.of(problem, theta), None)
    assert update == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_what_a_ratio_counts(advantage):
    """PPO's surrogate is flat outside the interval on the side where the advantage points."""
    ratios = np.array([0.5, 0.9, 1.0, 1.1, 2.0])
    arguments = np.log(ratios), 1, np.full(5, advantage), np.array(0.8), np.array(1.2)
    kept = ratios <= 1.2 if advantage > 0 else ratios >= 0.8
    assert methods.importance_ratio(*arguments) == pytest.approx(ratios)
    assert methods.clipped_surrogate(*arguments) == pytest.approx(np.where(kept, ratios, 0))
    assert methods.sequence_surrogate(*arguments) == pytest.approx(np.where(kept, ratios, 0))
    assert methods.clipped_weight(*arguments) == pytest.approx([0.8, 0.9, 1.0, 1.1, 1.2])


def test_the_sequence_ratio_is_the_ratio_per_token():
    log_ratio, ends = np.array([8 * np.log(1.1)]), (np.array(0.8), np.array(1.2))
    assert methods.clipped_surrogate(log_ratio, 8, np.ones(1), *ends) == 0
    assert methods.sequence_surrogate(log_ratio, 8, np.ones(1), *ends) == pytest.approx(1.1)


def off_policy(method, theta, clip=0.2, **more):
    """Second update on a batch from theta = 0: a correct response and two wrong ones."""
    problem, direction = TabularBandit([1, 0, 0]), ClippedSurrogate(2, clip, method=method, **more)
    _, state = direction.update(At.of(problem, np.zeros(3)), None)
    return direction.update(At.of(problem, theta), state)[0]


def test_cispo_counts_what_the_surrogate_drops():
    """All ratios are outside, each on the side where its advantage points."""
    theta = np.array([2.0, 0.0, 0.0])
    chance = softmax(theta)
    assert 3 * chance[0] > 1.2 and 3 * chance[1] < 0.8
    for method in ("grpo", "dr_grpo", "dapo", "gspo"):
        assert np.all(off_policy(method, theta) == 0)
    mean, spread = 1 / 3, np.sqrt(2) / 3
    weights = np.array([1.2, 0.8, 0.8]) * (np.array([1, 0, 0]) - mean) / spread / 3
    expected = weights - weights.sum() * chance  # sum_a weights_a grad log pi(a)
    assert off_policy("cispo", theta) == pytest.approx(expected)
    assert np.abs(off_policy("cispo", theta)).max() > 0.1


def test_cispo_is_the_gradient_of_its_definition():
    """``E_old sg(clip(rho)) A log pi``, here as published: without a lower end."""
    theta, spread = np.array([1.5, 0.2, -0.4]), np.sqrt(2) / 3
    advantage = (np.array([1, 0, 0]) - 1 / 3) / spread
    stopped = np.minimum(3 * softmax(theta), 1.3)

    def value(point):
        return np.sum(stopped * advantage * log_softmax(point)) / 3

    found = off_policy("cispo", theta, clip=1.0, clip_above=0.3)
    assert found == pytest.approx(approx_fprime(theta, value, 1e-7), abs=1e-6)
    assert stopped[0] == 1.3 and stopped[2] < 0.5


def test_cispo_inside_the_interval_is_the_surrogate():
    theta = np.array([0.05, 0.0, -0.05])
    assert off_policy("cispo", theta) == pytest.approx(off_policy("grpo", theta))


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


@pytest.mark.parametrize(("old", "new"), renamed.MOVED.items())
def test_the_new_home_of_an_old_name_exists(old, new):
    assert importlib.util.find_spec(f"rlvrlib.{new.split()[0]}")
    assert importlib.util.find_spec(f"rlvrlib.{old}") is None


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_mean_update_of_groups_climbs_a_bernstein_polynomial_of_the_success_rate(size):
    """Finite-group law: over all ``3^G`` groups of responses the mean of ``sum_i A_i s_i / G`` is
    ``h_G'(J)`` times the gradient of ``J``, with the polynomial of the chapter.
    """
    bandit = LogLinearBandit([[0.3, -1.0], [1.2, 0.4], [-0.7, 0.9]], [1, 0, 0], [0.1, -0.4, 0.6])
    theta = np.array([0.2, -0.5])
    law, scores = np.exp(bandit.log_probabilities(theta)), bandit.scores(theta, np.eye(2))
    groups = np.array(list(itertools.product(range(3), repeat=size)))
    advantages = group_advantages("grpo", bandit.rewards[groups], 1 / size, size)
    # scores of each response along both axes
    updates = np.einsum("gi,dgi->gd", advantages, scores[:, groups]) / size
    mean = np.prod(law[groups], axis=1) @ updates
    success = law @ bandit.rewards
    k = np.arange(1, size)
    derivative = np.sum(binom.pmf(k - 1, size - 2, success) * (size - 1) / np.sqrt(k * (size - k)))
    slope = approx_fprime(theta, lambda at: np.exp(bandit.log_probabilities(at)) @ bandit.rewards)
    assert mean == pytest.approx(derivative * slope, abs=1e-6)
    assert mean == pytest.approx(derivative * success * (1 - success) * bandit.gradient_gap(theta))
    assert multiplier("grpo", success, size) == pytest.approx(derivative * success * (1 - success))
