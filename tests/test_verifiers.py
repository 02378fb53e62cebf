"""Noisy verifiers against sums over all responses, high precision, differences and samples."""

import itertools

import mpmath as mp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from problem_zoo import KINDS, log_odds_along, random_problem
from scipy.special import expit, logit

from rlvrlib import (
    Constant,
    CorrelatedWindow,
    LogLinearBandit,
    MarkovTokens,
    NoisyVerifier,
    PolicyGradient,
    SampledGradient,
    TokenWindow,
    TrainedOn,
    ascend,
    log_odds_gain,
    multiplier,
    noisy_bandit,
    success_rate,
    thresholds,
    unit,
)
from rlvrlib.verifiers import response_noise

RATES = [
    (0.9, 0.1),
    (0.7, 0.6),
    (0.2, 0.7),
    (1.0, 0.3),
    (0.6, 0.0),
    (0.0, 0.4),
    (0.3, 1.0),
    (1.0, 0.0),
    (0.0, 1.0),
    (0.5, 0.5),
]
rate = st.floats(0, 1)


def observed_along(problem, theta, direction, rates):
    """``t -> log(p/(1-p))`` along a line, in mpmath."""
    true, (right, wrong) = log_odds_along(problem, theta, direction), map(mp.mpf, rates)

    def value(t):
        odds = mp.exp(true(t))
        return mp.log((right * odds + wrong) / ((1 - right) * odds + 1 - wrong))

    return value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rates", [pair for pair in RATES if pair != (0.5, 0.5)])
@pytest.mark.parametrize("shift", [0.0, 40.0, -40.0])
def test_log_odds_gap_curvature_and_gain_against_mpmath(kind, rates, shift):
    problem, theta, direction = random_problem(kind, np.random.default_rng(3), shift=shift)
    noisy = NoisyVerifier(problem, *rates)
    with mp.workdps(60):
        along = observed_along(problem, theta, direction, rates)
        value, slope, bend = (float(mp.diff(along, 0, order)) for order in range(3))
        gain = float(along(mp.mpf("1e-6")) - along(0))
    assert noisy.log_odds(theta) == pytest.approx(value, rel=1e-12, abs=1e-14)
    assert noisy.gradient_gap(theta) @ direction == pytest.approx(slope, rel=1e-10)
    # minus the bend; the true curvature and gap cancel in it, so the error is measured against
    # their size
    size = abs(noisy.markedness(theta)) * (
        abs(problem.curvature(theta, direction)) + (problem.gradient_gap(theta) @ direction) ** 2
    )
    assert noisy.curvature(theta, direction) == pytest.approx(-bend, abs=1e-12 * size)
    assert log_odds_gain(noisy, theta, direction, 1e-6) == pytest.approx(gain, rel=1e-8)
    long = log_odds_gain(noisy, theta, direction, 5.0)
    assert long == pytest.approx(
        noisy.log_odds(theta + 5 * direction) - noisy.log_odds(theta), rel=1e-8, abs=1e-12
    )


@pytest.mark.parametrize("log_odds", [-690.0, -300.0, 300.0, 690.0])
@pytest.mark.parametrize("rates", RATES[:-1])
def test_extreme_success_rates_keep_their_digits(log_odds, rates):
    line = LogLinearBandit([[1.0], [0.0]], [1, 0])
    noisy, theta = NoisyVerifier(line, *rates), np.array([log_odds])
    with mp.workdps(400):
        odds, right, wrong = mp.exp(mp.mpf(log_odds)), mp.mpf(rates[0]), mp.mpf(rates[1])
        accepted, rejected = right * odds + wrong, (1 - right) * odds + 1 - wrong
        value, slope = (
            float(mp.log(accepted / rejected)),
            float((right - wrong) * odds / (accepted * rejected)),
        )
    assert noisy.log_odds(theta) == pytest.approx(value, rel=1e-12)
    assert noisy.gradient_gap(theta)[0] == pytest.approx(slope, rel=1e-12)
    assert noisy.markedness(theta) == pytest.approx(slope, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), right=rate, wrong=rate)
def test_the_youden_identity(seed, right, wrong):
    """The gap as a covariance over pairs of arms, with nothing but the acceptance probabilities."""
    if right == wrong:
        return
    rng = np.random.default_rng(seed)
    problem, theta, _ = random_problem(KINDS[seed % 3], rng)
    chance, q = np.exp(problem.log_probabilities(theta)), np.where(problem.rewards, right, wrong)
    accepted, rejected = chance @ q, chance @ (1 - q)
    if min(accepted, rejected) < 1e-280:
        return
    excess = chance * ((q[:, None] - q) @ chance)
    direct = problem.mean_logit_gradient(theta, excess) / accepted / rejected
    found = NoisyVerifier(problem, right, wrong).gradient_gap(theta)
    # rounding is relative to the terms of the sums, which cancel when correct and wrong arms are
    # alike
    assert found == pytest.approx(direct, rel=1e-10, abs=1e-12 * np.max(np.abs(direct)))


@settings(max_examples=100, deadline=None)
@given(right=rate, wrong=rate, log_odds=st.floats(-50, 50))
@example(right=0.0, wrong=2.2e-309, log_odds=0.0)
def test_the_markedness_is_a_contraction(right, wrong, log_odds):
    if right == wrong:
        return
    noisy = NoisyVerifier(LogLinearBandit([[1.0], [0.0]], [1, 0]), right, wrong)
    factor = noisy.markedness(np.array([log_odds]))
    assert np.sign(factor) in (np.sign(right - wrong), 0)
    assert abs(factor) <= np.tanh(abs(logit(right) - logit(wrong)) / 4) + 1e-12
    p, q = expit(noisy.log_odds(np.array([log_odds]))), expit(-noisy.log_odds(np.array([log_odds])))
    clean = multiplier("grpo", expit(log_odds), failure_rate=expit(-log_odds))
    assert np.sqrt(p * q) * abs(factor) <= clean * (1 + 1e-12)


def test_the_exact_step_is_that_of_the_true_problem():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        problem, theta, _ = random_problem("log_linear", rng)
        true = thresholds.exact(problem, theta, problem.gradient_gap(theta))
        wrong, right = np.sort(rng.uniform(size=2))
        seen = thresholds.exact(
            NoisyVerifier(problem, right, wrong), theta, problem.gradient_gap(theta)
        )
        assert seen == pytest.approx(true, rel=1e-9)
        assert (
            thresholds.exact(
                NoisyVerifier(problem, wrong, right), theta, problem.gradient_gap(theta)
            )
            == 0
        )


def tree():
    rng = np.random.default_rng(5)
    return MarkovTokens(
        rng.normal(size=(4, 3)),
        rng.normal(size=(4, 3, 2)),
        0,
        4,
        rng.integers(0, 2, (2, 3)),
        [True, False],
        accept_at_cap=True,
    ), rng.normal(size=2)


def responses(problem, theta):
    """Probability, score, length and reward of every response."""
    moves, vocabulary = problem.transitions(theta), problem.base.shape[1]
    mean = np.einsum("uv,uvd->ud", moves, problem.features)
    rows = []
    for size in range(1, problem.max_length + 1):
        for tokens in itertools.product(range(vocabulary), repeat=size):
            stops = [token == problem.stop for token in tokens]
            if any(stops[:-1]) or (not stops[-1] and size < problem.max_length):
                continue
            chance, score, state, last = 1.0, np.zeros(problem.dim), 0, vocabulary
            for token in tokens:
                chance *= moves[last, token]
                score = score + problem.features[last, token] - mean[last]
                if token != problem.stop:
                    state, last = problem.automaton[state, token], token
            rows.append(
                (
                    chance,
                    score,
                    size,
                    problem._stopped[0, state] if stops[-1] else problem._cut[0, state],
                )
            )
    chance, score, size, reward = map(np.array, zip(*rows, strict=True))
    return chance, score, size, reward


@pytest.mark.parametrize("rates", [(0.9, 0.1), (0.3, 0.8)])
def test_random_lengths_against_enumeration(rates):
    problem, theta = tree()
    chance, score, size, reward = responses(problem, theta)
    assert chance.sum() == pytest.approx(1, rel=1e-12)
    q = np.where(reward == 1, *rates)
    noisy = NoisyVerifier(problem, *rates)
    for values, gap in (
        (score, noisy.gradient_gap(theta)),
        (score / size[:, None], noisy.length_normalized_gap(theta)),
    ):
        accepted, rejected = chance * q, chance * (1 - q)
        direct = accepted @ values / accepted.sum() - rejected @ values / rejected.sum()
        assert gap == pytest.approx(direct, rel=1e-10)
    assert success_rate(noisy, theta) == pytest.approx(chance @ q, rel=1e-12)


def test_length_normalization_of_one_length_and_regularity_pass_through():
    window = TokenWindow(20, 12, 16)
    noisy, theta = NoisyVerifier(window, 0.8, 0.3), np.array([0.4])
    assert noisy.length_normalized_gap(theta) == pytest.approx(
        noisy.gradient_gap(theta) / 20, rel=1e-14
    )
    assert noisy.regularity(np.ones(1)) == window.regularity(np.ones(1))
    assert noisy.dim == 1 and noisy.youden_index == pytest.approx(0.5)


def test_rates_broadcast_against_runs():
    window, theta = TokenWindow(20, 12, 16), np.linspace(-1, 2, 6).reshape(2, 3, 1)
    right, wrong = np.array([[0.9], [0.6]]), np.array([0.1, 0.2, 0.7])
    together = NoisyVerifier(window, right, wrong)
    for i, j in np.ndindex(2, 3):
        alone = NoisyVerifier(window, right[i, 0], wrong[j])
        assert together.gradient_gap(theta)[i, j] == pytest.approx(
            alone.gradient_gap(theta[i, j]), rel=1e-14
        )
        assert together.curvature(theta, np.ones(1))[i, j] == pytest.approx(
            alone.curvature(theta[i, j], np.ones(1)), rel=1e-14
        )
    rewards, lengths, scores = together.sample(theta, 5, np.random.default_rng(0))
    assert rewards.shape == lengths.shape == (2, 3, 5) and scores.shape == (2, 3, 5, 1)


@pytest.mark.parametrize(
    "problem", [TokenWindow(20, 12, 16), tree()[0], LogLinearBandit(np.eye(3), [1, 0, 0])]
)
def test_samples_are_accepted_at_the_right_rates(problem):
    rng, theta = np.random.default_rng(1), np.full(problem.dim, 0.3)
    noisy = NoisyVerifier(problem, 0.8, 0.3)
    rewards, _, scores = noisy.sample(np.broadcast_to(theta, (20_000, problem.dim)), 4, rng)
    chance = success_rate(noisy, theta)
    assert abs(rewards.mean() - chance) < 4.5 * np.sqrt(chance * (1 - chance) / rewards.size)
    products = (rewards[..., None] * scores).reshape(-1, problem.dim)
    predicted = chance * (1 - chance) * noisy.gradient_gap(theta)
    error = products.std(axis=0) / np.sqrt(len(products))
    assert np.all(np.abs(products.mean(axis=0) - predicted) < 4.5 * error)


def test_a_misleading_verifier_reverses_learning_for_every_seed():
    window, steps = TokenWindow(64, 48, 64), 150
    theta = np.array([0.75])
    for seed in range(20):
        for right, wrong, sign in ((0.8, 0.4, 1), (0.4, 0.8, -1)):
            method = TrainedOn(
                NoisyVerifier(window, right, wrong),
                SampledGradient("grpo", 16, np.random.default_rng(seed)),
            )
            path = ascend(window, theta, method, Constant(1.0), steps).log_odds
            assert sign * (path[-1] - path[0]) > 0, (seed, right, wrong)


def test_trained_on_follows_the_proxy_and_measures_the_problem():
    bandit = LogLinearBandit([[1, 0], [0, 0], [2, 1]], [1, 0, 0], np.log([0.2, 0.799, 0.001]))
    proxy = noisy_bandit(bandit, [1, 0, 1])
    run = ascend(bandit, np.zeros(2), TrainedOn(proxy, PolicyGradient("grpo")), Constant(0.1), 30)
    alone = ascend(proxy, np.zeros(2), PolicyGradient("grpo"), Constant(0.1), 30)
    assert run.theta == pytest.approx(alone.theta, rel=1e-12)
    assert run.log_odds[-1] == pytest.approx(bandit.log_odds(alone.theta), rel=1e-12)


@pytest.mark.parametrize("rates", RATES)
def test_noisy_bandit_agrees_where_the_noise_depends_on_the_reward(rates):
    problem, theta, direction = random_problem("log_linear", np.random.default_rng(8))
    pairs, noisy = (
        noisy_bandit(problem, np.where(problem.rewards, *rates)),
        NoisyVerifier(problem, *rates),
    )
    for name, arguments in (
        ("log_odds", ()),
        ("gradient_gap", ()),
        ("curvature", (direction,)),
        ("log_odds_gain", (direction, 2.0)),
    ):
        assert getattr(pairs, name)(theta, *arguments) == pytest.approx(
            getattr(noisy, name)(theta, *arguments), rel=1e-10, abs=1e-13
        )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_response_dependent_noise_keeps_the_bound(seed):
    """Item 2 of the theorem, along random directions, and item 1 by finite differences of the
    rates.
    """
    rng = np.random.default_rng(seed)
    problem, theta, w = random_problem("log_linear", rng)
    q = rng.uniform(size=5) if seed % 2 else rng.integers(0, 2, 5).astype(float)
    if len(set(q)) < 2:
        return

    def rates(point):
        chance, right = np.exp(problem.log_probabilities(point)), problem.rewards
        return (
            chance @ right,
            chance @ (q * right) / (chance @ right),
            chance @ (q * ~right) / (chance @ ~right),
        )

    success, hit, alarm = rates(theta)
    pairs = noisy_bandit(problem, q)
    slope = (
        expit(pairs.log_odds(theta))
        * expit(-pairs.log_odds(theta))
        * (pairs.gradient_gap(theta) @ w)
    )
    learned = (hit - alarm) * success * (1 - success) * (problem.gradient_gap(theta) @ w)
    spread = np.exp(problem.log_probabilities(theta)) @ np.abs(
        q - np.where(problem.rewards, hit, alarm)
    )
    along = problem.features @ w
    width = max(np.ptp(along[problem.rewards]), np.ptp(along[~problem.rewards]))
    assert abs(slope - learned) <= spread * width / 2 + 1e-12
    step = 1e-5
    (_, more_hits, more_alarms), (_, less_hits, less_alarms) = (
        rates(theta + step * w),
        rates(theta - step * w),
    )
    turned = success * (more_hits - less_hits) + (1 - success) * (more_alarms - less_alarms)
    assert slope - learned == pytest.approx(
        turned / (2 * step), abs=1e-6 * max(1, np.ptp(along) ** 3)
    )


def test_softmax_samples_of_a_stack_have_the_right_mean():
    rng = np.random.default_rng(2)
    stack = LogLinearBandit(rng.normal(size=(3, 5, 2)), np.tile([1, 1, 0, 0, 0], (3, 1)))
    theta = rng.normal(size=(3, 2))
    rewards, lengths, scores = stack.sample(np.broadcast_to(theta, (20_000, 3, 2)), 4, rng)
    assert rewards.shape == lengths.shape == (20_000, 3, 4) and scores.shape == (20_000, 3, 4, 2)
    assert np.all(lengths == 1)
    success = success_rate(stack, theta)
    predicted = (success * (1 - success))[:, None] * stack.gradient_gap(theta)
    products = rewards[..., None] * scores
    error = products.std(axis=(0, 2)) / np.sqrt(80_000)
    assert np.all(np.abs(products.mean(axis=(0, 2)) - predicted) < 4.5 * error)
    assert np.all(
        np.abs(scores.mean(axis=(0, 2))) < 4.5 * scores.std(axis=(0, 2)) / np.sqrt(80_000)
    )
    with pytest.raises(ValueError, match="group_size"):
        stack.sample(theta, 1, rng)


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan, np.inf, [0.5, 2.0]])
def test_rates_outside_the_unit_interval(bad):
    window = TokenWindow(4, 3, 4)
    with pytest.raises(ValueError, match=r"true_positive_rate must be in \[0, 1\]"):
        NoisyVerifier(window, bad, 0.1)
    with pytest.raises(ValueError, match=r"false_positive_rate must be in \[0, 1\]"):
        NoisyVerifier(window, 0.9, bad)
    with pytest.raises(ValueError, match=r"acceptance must be in \[0, 1\]"):
        noisy_bandit(
            LogLinearBandit(np.eye(3), [1, 0, 0]), [0.5, 0.5, np.max(bad) if np.ndim(bad) else bad]
        )


@pytest.mark.parametrize("same", [0, 1])
def test_one_verdict_for_all(same):
    with pytest.raises(ValueError, match="must not both be"):
        NoisyVerifier(TokenWindow(4, 3, 4), same, same)
    with pytest.raises(ValueError, match="must leave accepted and rejected"):
        noisy_bandit(LogLinearBandit(np.eye(3), [1, 0, 0]), [same] * 3)


def test_other_bad_input():
    stack = LogLinearBandit(np.ones((2, 3, 1)), np.tile([1, 0, 0], (2, 1)))
    for bandit, q in (
        (stack, [0.5, 0.5, 0.5]),
        (LogLinearBandit(np.eye(3), [1, 0, 0]), [0.5, 0.5]),
    ):
        with pytest.raises(ValueError, match="one rate for each arm"):
            noisy_bandit(bandit, q)

    window = CorrelatedWindow(4, 1, 2, 0.5)
    with pytest.raises(ValueError, match="problem must have a method sample"):
        NoisyVerifier(window, 0.9, 0.1).sample(np.zeros(1), 4, np.random.default_rng(0))


def test_no_better_than_chance_has_no_gap():
    problem, theta, direction = random_problem("network", np.random.default_rng(4))
    noisy = NoisyVerifier(problem, 0.3, 0.3)
    assert np.all(noisy.gradient_gap(theta) == 0) and noisy.log_odds(theta) == pytest.approx(
        logit(0.3), rel=1e-12
    )
    assert noisy.curvature(theta, unit(direction)) == 0 and log_odds_gain(
        noisy, theta, direction, 3.0
    ) == pytest.approx(0, abs=1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_response_noise_against_differences_and_its_bound(seed):
    problem, theta, _ = random_problem(KINDS[seed % 3], np.random.default_rng(seed))
    rates = np.random.default_rng(seed).uniform(size=problem.num_arms)
    found, along = response_noise(problem, theta, rates), unit(problem.gradient_gap(theta))

    def accepted(point):
        return np.exp(problem.log_probabilities(point)) @ rates

    ends = [accepted(theta + sign * 1e-5 * along) for sign in (-1, 1)]
    assert found.slope == pytest.approx((ends[1] - ends[0]) / 2e-5, abs=1e-8)
    assert found.slope >= found.learned - found.lost
    plain = response_noise(problem, theta, np.where(problem.rewards, 0.8, 0.3))
    observed = NoisyVerifier(problem, 0.8, 0.3)
    accepted_rate = expit(observed.log_odds(theta))
    observed_gap = np.linalg.norm(observed.gradient_gap(theta))
    assert plain.lost == pytest.approx(0, abs=1e-12) and plain.youden_index == pytest.approx(0.5)
    assert plain.slope == pytest.approx(plain.learned, rel=1e-9)
    assert plain.slope == pytest.approx(
        accepted_rate * (1 - accepted_rate) * observed_gap, rel=1e-9
    )


@pytest.mark.parametrize(("success", "distance", "share"), [(0.3, 4.0, 0.05), (0.2, 8.0, 0.3)])
def test_the_bound_on_response_noise_is_sharp(success, distance, share):
    chances = np.log([success, 1 - success - share, share])
    bandit = LogLinearBandit([[1.0], [0.0], [-distance]], [1, 0, 0], chances)
    found = response_noise(bandit, np.zeros(1), [1.0, 0.0, 1.0])
    assert found.slope == pytest.approx(found.learned - found.lost, rel=1e-12)
    accepted = success + share
    assert found.slope == pytest.approx((success - share * distance) * (1 - accepted), rel=1e-9)


@pytest.mark.parametrize("rates", [[0.5, 1.2, 0.5], [0.5, 0.5]])
def test_bad_rates_of_response_noise(rates):
    with pytest.raises(ValueError, match="acceptance must"):
        response_noise(LogLinearBandit(np.eye(3), [1, 0, 0]), np.zeros(3), rates)
