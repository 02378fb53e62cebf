"""Identities 1 to 3 on every kind of bandit, against high precision and against the definitions."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problem_zoo import KINDS, log_odds_along, random_problem
from scipy.special import expit

from rlvrlib import (
    Constant,
    ContextualBandit,
    LogLinearBandit,
    NetworkBandit,
    PolicyGradient,
    QuadraticBandit,
    TabularBandit,
    ascend,
    contextual_bandit,
    failure_rate,
    log_odds_gain,
    segment_regularity,
    success_rate,
    unit,
)
from rlvrlib.bandits import diameter

seeds = st.integers(0, 2**32 - 1)
# From J = 1e-300 to 1 - J = 1e-300: both tails of the log-odds.
shifts = st.floats(-690, 690)
problems = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize("kind", KINDS)
@problems
@given(seed=seeds, shift=shifts)
def test_log_odds_gap_and_curvature_to_ten_digits(kind, seed, shift):
    problem, theta, direction = random_problem(kind, np.random.default_rng(seed), shift=shift)
    with mp.workdps(60):
        value, slope, bend = mp.taylor(log_odds_along(problem, theta, direction), 0, 2)
        slope, bend = float(slope), float(-2 * bend)
        log_odds = float(value)
    gap = problem.gradient_gap(theta)
    # The scale of each quantity is that of its terms: near a zero of a sum no relative error is
    # small.
    slope_scale = np.max(np.abs(problem.logit_slopes(theta, direction)))
    bend_scale = slope_scale**2 + np.max(np.abs(problem.logit_curvatures(theta, direction)))
    assert problem.log_odds(theta) == pytest.approx(log_odds, rel=1e-12, abs=1e-12)
    assert abs(gap @ direction - slope) <= 1e-12 * slope_scale + 1e-10 * abs(slope)
    assert abs(problem.curvature(theta, direction) - bend) <= 1e-12 * bend_scale + 1e-10 * abs(bend)


@pytest.mark.parametrize("log_odds", [-690.7755, -36.8, -1.0, 0.0, 1.0, 36.8, 690.7755])
def test_both_rates_keep_their_digits(log_odds):
    bandit = LogLinearBandit([[1.0], [0.0]], [1, 0], [log_odds, 0.0])
    with mp.workdps(60):
        success = 1 / (1 + mp.exp(-mp.mpf(log_odds)))
        assert success_rate(bandit, [0.0]) == pytest.approx(float(success), rel=1e-13)
        assert failure_rate(bandit, [0.0]) == pytest.approx(
            float(success * mp.exp(-mp.mpf(log_odds))), rel=1e-13
        )


@pytest.mark.parametrize("kind", KINDS)
@problems
@given(seed=seeds)
def test_identity_1_from_the_scores(kind, seed):
    problem, theta, direction = random_problem(kind, np.random.default_rng(seed))
    probabilities, scores = (
        np.exp(problem.log_probabilities(theta)),
        problem.scores(theta, direction),
    )
    success, failure = (
        np.sum(probabilities * problem.rewards),
        np.sum(probabilities * ~problem.rewards),
    )
    right = np.sum(probabilities * problem.rewards * scores) / success
    wrong = np.sum(probabilities * ~problem.rewards * scores) / failure
    alignment = problem.gradient_gap(theta) @ direction
    scale = np.max(np.abs(scores)) + 1e-300
    assert abs(np.sum(probabilities * scores)) < 1e-12 * scale  # E[s] = 0
    assert abs(right - wrong - alignment) < 1e-10 * scale
    assert abs(right - failure * alignment) < 1e-10 * scale
    assert abs(wrong + success * alignment) < 1e-10 * scale


@pytest.mark.parametrize("kind", KINDS)
@problems
@given(seed=seeds, shift=shifts)
def test_conditional_means_are_those_of_each_class_however_rare_it_is(kind, seed, shift):
    even, theta, direction = random_problem(kind, np.random.default_rng(seed))
    rare, *_ = random_problem(kind, np.random.default_rng(seed), shift=shift)
    values = even.logit_slopes(theta, direction)
    chances = np.exp(even.log_probabilities(theta))
    expected = [np.average(values[c], weights=chances[c]) for c in (even.rewards, ~even.rewards)]
    scale = 1e-10 * np.max(np.abs(values))
    assert rare.conditional_means(theta, values) == pytest.approx(expected, rel=0, abs=scale)
    with pytest.raises(ValueError, match="values must"):
        even.conditional_means(theta, values[1:])


def curvature_from_scores(problem, theta, direction, *, with_derivatives=True):
    """Identity 2 from the scores; without the Hessian terms it is wrong for policies that are not
    log-linear.
    """
    probabilities, scores = (
        np.exp(problem.log_probabilities(theta)),
        problem.scores(theta, direction),
    )
    derivatives = (
        problem.score_derivatives(theta, direction) if with_derivatives else np.zeros_like(scores)
    )
    total = 0.0
    for chosen, sign in ((problem.rewards, -1.0), (~problem.rewards, 1.0)):
        weights = probabilities * chosen / np.sum(probabilities * chosen)
        mean = np.sum(weights * scores)
        total += sign * (np.sum(weights * (scores - mean) ** 2) + np.sum(weights * derivatives))
    return total


@pytest.mark.parametrize("kind", KINDS)
@problems
@given(seed=seeds)
def test_identity_2_from_the_scores(kind, seed):
    problem, theta, direction = random_problem(kind, np.random.default_rng(seed))
    scale = np.max(np.abs(problem.scores(theta, direction))) ** 2
    scale += np.max(np.abs(problem.score_derivatives(theta, direction)))
    difference = curvature_from_scores(problem, theta, direction) - problem.curvature(
        theta, direction
    )
    assert abs(difference) < 1e-10 * scale


def test_a_dropped_hessian_term_is_seen():
    """Negative control: without E[h|-] - E[h|+] identity 2 fails on the network and holds on
    log-linear policies.
    """
    errors = dict.fromkeys(KINDS, 0.0)
    for kind in KINDS:
        for seed in range(20):
            problem, theta, direction = random_problem(kind, np.random.default_rng(seed))
            dropped = curvature_from_scores(problem, theta, direction, with_derivatives=False)
            errors[kind] = max(errors[kind], abs(dropped - problem.curvature(theta, direction)))
    assert errors["log_linear"] < 1e-10
    assert min(errors["network"], errors["quadratic"]) > 0.1


@problems
@given(seed=seeds, step=st.floats(1e-9, 1e3))
def test_identity_3_is_exact(seed, step):
    problem, theta, direction = random_problem("log_linear", np.random.default_rng(seed))
    with mp.workdps(60):
        along = log_odds_along(problem, theta, direction)
        gain = float(along(mp.mpf(step)) - along(mp.mpf(0)))
    scale = step * np.max(np.abs(problem.logit_slopes(theta, direction)))
    assert abs(log_odds_gain(problem, theta, direction, step) - gain) < 1e-13 * scale + 1e-12 * abs(
        gain
    )


@pytest.mark.parametrize("kind", KINDS)
@problems
@given(seed=seeds)
def test_regularity_bounds_hold_everywhere(kind, seed):
    rng = np.random.default_rng(seed)
    problem, theta, direction = random_problem(kind, rng, batch=(20,))
    bounds = problem.regularity(direction)
    score, derivative = segment_regularity(
        problem, 3 * theta, direction, np.full(20, 2.0), num_points=9
    )
    assert np.all(score <= bounds.score_bound * (1 + 1e-12))
    assert np.all(derivative <= bounds.score_lipschitz * (1 + 1e-12))
    scores = problem.scores(theta, direction)
    assert np.all(np.ptp(scores, axis=-1) <= bounds.token_range * (1 + 1e-12))
    if kind == "log_linear":
        assert np.all(problem.score_derivatives(theta, direction) <= 0)
        assert np.all(problem.wrong_feature_range(direction) <= bounds.token_range * (1 + 1e-12))


def test_a_stack_of_prompts_is_its_prompts():
    rng = np.random.default_rng(3)
    stack, theta, direction = random_problem("log_linear", rng, batch=(4,))
    for index in range(4):
        single = LogLinearBandit(
            stack.features[index], stack.rewards[index], stack.log_prior[index]
        )
        shared = stack.log_odds(theta[:1])[index], stack.gradient_gap(theta[:1])[index]
        assert shared[0] == pytest.approx(single.log_odds(theta[0]), rel=1e-13)
        assert shared[1] == pytest.approx(single.gradient_gap(theta[0]), rel=1e-12, abs=1e-14)
        assert stack.curvature(theta, direction)[index] == pytest.approx(
            single.curvature(theta[index], direction[index]), rel=1e-12, abs=1e-13
        )


def test_segment_regularity_of_a_stack_that_shares_theta():
    rng = np.random.default_rng(6)
    stack, theta, direction = random_problem("log_linear", rng, batch=(5,))
    tiled = segment_regularity(
        stack, np.tile(theta[0], (5, 1)), np.tile(direction[0], (5, 1)), np.ones(5)
    )
    for shared in (theta[0], theta[:1]):
        values = segment_regularity(stack, shared, direction[0], 1.0)
        assert np.array(values) == pytest.approx(np.array(tiled), rel=1e-12)


def test_the_gain_sees_an_arm_whose_probability_vanishes():
    bandit = LogLinearBandit([[0.0], [0.0], [1.0]], [1, 0, 0], [0.0, 0.0, -800.0])
    assert bandit.log_odds_gain([0.0], [1.0], [1000.0, 1e6]) == pytest.approx(
        [-200, 800 - 1e6], rel=1e-14
    )
    swapped = LogLinearBandit([[0.0], [0.0], [1.0]], [0, 1, 1], [0.0, 0.0, -800.0])
    assert swapped.log_odds_gain([0.0], [1.0], [1000.0, 1.0, 1e-9]) == pytest.approx(
        [200, 0, 0], rel=1e-14
    )


def test_per_arm_weights_equal_their_features_written_out():
    rng = np.random.default_rng(4)
    bandit = contextual_bandit(3, rng, num_arms=6, context_dim=2, correct_share=0.3)
    assert isinstance(bandit, ContextualBandit)
    features = np.einsum("ab,cd->cabd", np.eye(6), bandit.contexts).reshape(3, 6, 12)
    plain = LogLinearBandit(features, bandit.rewards)
    theta, direction = rng.normal(size=(2, 3, 12))
    assert bandit.log_odds(theta) == pytest.approx(plain.log_odds(theta), rel=1e-12)
    assert bandit.gradient_gap(theta) == pytest.approx(
        plain.gradient_gap(theta), rel=1e-12, abs=1e-14
    )
    assert bandit.curvature(theta, direction) == pytest.approx(
        plain.curvature(theta, direction), rel=1e-12
    )
    assert bandit.regularity(direction).score_bound == pytest.approx(
        plain.regularity(direction).score_bound
    )


def test_prompts_of_a_stack_are_those_of_an_array():
    rng = np.random.default_rng(6)
    features, rewards = rng.normal(size=(6, 2)), np.array([[1, 0] * 3, [0, 1] * 3, [1, 1, 0] * 2])
    shared, prior = LogLinearBandit(features, rewards, rng.normal(size=6)), rng.normal(size=(3, 6))
    own = LogLinearBandit(rng.normal(size=(3, 6, 2)), rewards[0], prior)
    per_arm = ContextualBandit(rng.normal(size=(3, 2)), rewards)
    for stack in (shared, own, per_arm):
        theta = rng.normal(size=(3, stack.dim))
        for index in (1, slice(1, 3), np.array([2, 0])):
            expected = stack.log_odds_and_gap(theta)
            for part, whole in zip(
                stack[index].log_odds_and_gap(theta[index]), expected, strict=True
            ):
                assert part == pytest.approx(whole[index], rel=1e-13)
    with pytest.raises(IndexError):
        shared[3]


def test_one_context_is_tabular():
    rng = np.random.default_rng(7)
    bandit = contextual_bandit(4, rng, num_arms=5, context_dim=3, correct_share=0.4)
    theta = rng.normal(size=bandit.dim)
    run = PolicyGradient("reinforce"), Constant(0.7), 6
    full = ascend(bandit, np.tile(theta, (4, 1)), *run)
    alone = ascend(*bandit.each_alone(theta), *run)
    assert alone.theta.shape == (4, 5)
    assert alone.log_odds == pytest.approx(full.log_odds, rel=1e-12)
    assert alone.step_size == pytest.approx(full.step_size, rel=1e-12)


def test_curvature_bounds_are_attained_and_not_passed():
    rng = np.random.default_rng(8)
    spread = LogLinearBandit([[-1.0], [1.0], [0.0]], [0, 0, 1])
    assert spread.curvature([0.0], [1.0]) == spread.curvature_bound() == 1
    one = ContextualBandit([[0.6, 0.8]], [0, 0, 1])
    along = np.array([0.6, 0.8, -0.6, -0.8, 0, 0]) / np.sqrt(2)
    assert one.curvature(np.zeros(6), along) == pytest.approx([0.5])
    assert one.curvature_bound() == pytest.approx([0.5])
    for shared in (False, True):
        stack = contextual_bandit(30, rng, num_arms=6, correct_share=0.5, shared_features=shared)
        theta, along = rng.normal(size=(2, 100, 1, stack.dim))
        bend = stack.curvature(3 * theta, along / np.linalg.norm(along, axis=-1, keepdims=True))
        assert np.all(np.abs(bend) <= stack.curvature_bound())


def test_contextual_bandit_is_realizable_with_the_share_asked_for():
    bandit = contextual_bandit(
        50, np.random.default_rng(5), correct_share=0.1, shared_features=True
    )
    assert np.all(bandit.rewards.sum(axis=-1) == 10)
    assert np.all(expit(bandit.log_odds(np.full(10, 1e4))) > 0.999)  # the hidden policy, turned up


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: LogLinearBandit(np.eye(3), [1, 1, 1]),
            "rewards must contain at least one 0 and one 1",
        ),
        (
            lambda: LogLinearBandit(np.eye(3), [0, 0, 0]),
            "rewards must contain at least one 0 and one 1",
        ),
        (
            lambda: LogLinearBandit(np.eye(3), [0.5, 0, 1]),
            "rewards must be an array of zeros and ones",
        ),
        (
            lambda: LogLinearBandit(np.eye(3), [np.nan, 0, 1]),
            "rewards must be an array of zeros and ones",
        ),
        (lambda: LogLinearBandit(np.eye(3), 1), "rewards must be an array"),
        (lambda: LogLinearBandit(np.full((3, 2), np.nan), [1, 0, 0]), "features must be finite"),
        (lambda: LogLinearBandit(np.ones(3), [1, 0, 0]), "features must have shape"),
        (lambda: LogLinearBandit(np.eye(4), [1, 0, 0]), "same number of arms"),
        (
            lambda: LogLinearBandit(np.eye(3), [1, 0, 0], [0.0, 0.0]),
            "log_prior must have last axis 3",
        ),
        (
            lambda: LogLinearBandit(np.eye(3), [1, 0, 0]).log_odds(np.zeros(2)),
            "theta must have last axis 3",
        ),
        (
            lambda: LogLinearBandit(np.eye(3), [1, 0, 0]).regularity(np.zeros(3)),
            "direction must be finite",
        ),
        (
            lambda: LogLinearBandit(np.eye(3), [1, 0, 0]).log_odds([0.0, np.nan, 0.0]),
            "theta must be finite",
        ),
        (
            lambda: LogLinearBandit(np.eye(3), [1, 0, 0]).log_probabilities([0.0, np.nan, 0.0]),
            "theta must be finite",
        ),
        (lambda: ContextualBandit([1.0, 2.0], 1), "rewards must be an array of zeros and ones"),
        (
            lambda: QuadraticBandit(np.ones((1, 2)), np.ones((1, 2)), [1, 0, 0]),
            "same number of arms",
        ),
        (lambda: QuadraticBandit(np.ones(3), np.ones(3), [1, 0, 0]), "slopes must have shape"),
        (
            lambda: NetworkBandit(np.ones((3, 2)), 1.0, [1, 0, 0]),
            "inputs and output_weights must have shapes",
        ),
        (lambda: NetworkBandit(np.ones((4, 2)), np.ones(3), [1, 0, 0]), "inputs must have shape"),
        (lambda: contextual_bandit(0, np.random.default_rng(0)), "num_contexts must be at least 1"),
        (
            lambda: contextual_bandit(5, np.random.default_rng(0), correct_share=0.0),
            "correct_share must leave",
        ),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_tabular_bandit_is_log_linear_with_unit_vectors():
    rng = np.random.default_rng(11)
    prior, rewards = rng.normal(size=6), [1, 0, 0, 1, 0, 0]
    tabular, plain = TabularBandit(rewards, prior), LogLinearBandit(np.eye(6), rewards, prior)
    theta, direction, step = rng.normal(size=(4, 6)), rng.normal(size=(4, 6)), np.full(4, 0.3)
    for of in (
        lambda b: b.log_odds(theta),
        lambda b: b.gradient_gap(theta),
        lambda b: b.curvature(theta, direction),
        lambda b: b.log_odds_gain(theta, direction, step),
        lambda b: b.scores(theta, direction),
        lambda b: b.regularity(direction).score_bound,
        lambda b: b.regularity(direction).score_lipschitz,
    ):
        assert of(tabular) == pytest.approx(of(plain), rel=1e-12, abs=1e-14)


def test_a_rare_class_beside_common_ones_keeps_its_digits():
    bandit, shifts = TabularBandit([1, 1, 0, 0]), np.array([0.0, 300.0, -600.0, 5000.0, 0.5])
    theta = np.array([0.3, -0.2, 0.1, 0.4]) + shifts[:, None] * np.array([1, 1, 0, 0])
    log_odds, gap = bandit.log_odds_and_gap(theta)
    level = np.logaddexp(0.3, -0.2) - np.logaddexp(0.1, 0.4)
    assert log_odds == pytest.approx(level + shifts, rel=1e-14)
    assert gap == pytest.approx(
        np.broadcast_to(gap[0], gap.shape), rel=1e-12
    )  # shares within the classes do not move
    assert [bandit.log_odds(row) for row in theta] == list(
        log_odds
    )  # and no run depends on the others


def test_diameter_is_the_widest_range():
    features = np.random.default_rng(3).normal(size=(4, 6, 3))
    widest = diameter(features)
    for index in range(4):
        rows = features[index]
        pair = max(np.linalg.norm(a - b) for a in rows for b in rows)
        assert widest[index] == pytest.approx(pair)
        along = unit(np.random.default_rng(index).normal(size=(200, 3)))
        assert np.all(np.ptp(along @ rows.T, axis=-1) <= widest[index] + 1e-12)
