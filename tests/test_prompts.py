"""Batches of prompts: the batch bounds against enumeration, the batch as one problem, the
weightings and the rule that chooses.
"""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from problem_zoo import random_problem
from scipy.optimize import minimize
from scipy.special import expit, logit

from rlvrlib import (
    At,
    BatchMean,
    GuaranteedStep,
    LargestGain,
    LogLinearBandit,
    MiniBatch,
    NetworkBandit,
    PromptWeighted,
    TokenWindow,
    WindowPrompts,
    ascend,
    batches,
    thresholds,
    unit,
)
from rlvrlib.weightings import WEIGHTINGS, min_norm_coefficients

seeds = st.integers(0, 2**32 - 1)


def batch_of_bandits(seed, runs=20, size=5, dim=3):
    """Stack of prompts that share theta, with a shape (runs, 1, dim), and unequal weights."""
    rng = np.random.default_rng(seed)
    stack, theta, _ = random_problem("log_linear", rng, batch=(runs, size), num_arms=4, dim=dim)
    stack.log_prior += 3 * rng.normal(size=(runs, size, 1)) * stack.rewards
    return stack, theta[:, :1], rng.dirichlet(np.ones(size), size=runs)


def windows(seed=0, size=4, dim=6):
    rng = np.random.default_rng(seed)
    length = rng.choice([16, 24, 64], size=size)
    low = np.ceil(length * 0.3)
    return WindowPrompts(
        length,
        low,
        low + np.ceil(length / 3),
        rng.normal(size=(size, dim)),
        rng.uniform(0.05, 0.5, size),
    )


# ---- rates, alignments, steps


def test_batch_quantities_against_their_formulas():
    stack, theta, weights = batch_of_bandits(1)
    direction = unit(np.random.default_rng(2).normal(size=theta.shape))
    log_odds, gap = stack.log_odds_and_gap(theta)
    along, rates = np.sum(direction * gap, axis=-1), expit(log_odds)
    success, failure = batches.mean_rates(log_odds, 7 * weights)
    assert success == pytest.approx(np.sum(weights * rates, axis=-1))
    assert failure == pytest.approx(1 - success)
    pull = weights * rates * (1 - rates)
    slope = batches.batch_alignment(along, log_odds, weights)
    assert slope == pytest.approx(np.sum(pull * along, axis=-1))
    step = 1e-6
    ahead, behind = (
        batches.mean_rates(stack.log_odds(theta + h * direction), weights)[0] for h in (step, -step)
    )
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-5, abs=1e-8)
    mean = slope / pull.sum(axis=-1)
    variance = np.sum(pull * along**2, axis=-1) / pull.sum(axis=-1) - mean**2
    assert batches.alignment_spread(along, log_odds, weights) == pytest.approx(
        variance / mean**2, rel=1e-7
    )


def some_direction(stack, theta, seed):
    """A direction in which most batches gain."""
    log_odds, gap = stack.log_odds_and_gap(theta)
    pull = np.sum(expit(log_odds)[..., None] * gap, axis=-2, keepdims=True)
    return unit(pull + 0.3 * np.random.default_rng(seed).normal(size=theta.shape))


def test_the_guarantee_of_a_batch_is_the_larger_of_the_two_forms():
    stack, theta, weights = batch_of_bandits(3)
    direction = some_direction(stack, theta, 3)
    at, bounds = At.of(stack, theta), stack.regularity(direction)
    along = np.sum(direction * at.gap, axis=-1)
    rise = thresholds.batch_success_rise(along, at.log_odds, bounds.correct_bend, weights)
    widest = bounds.token_range.max(axis=-1)
    fall = thresholds.batch_failure_fall(along, at.log_odds, 1, widest, weights=weights)
    found = thresholds.guaranteed(stack, theta, direction, weights=weights, everywhere=True)
    assert found.step.shape == theta.shape[:-1]
    assert found.step[:, 0] == pytest.approx(np.maximum(rise, fall), rel=1e-12)
    names = np.where(rise >= fall, "batch success-rise", "batch failure-fall")
    assert np.array_equal(found.theorem[:, 0], np.where(rise > 0, names, "none"))


@pytest.mark.parametrize("everywhere", [False, True])
@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_the_guaranteed_step_of_a_batch(everywhere, seed):
    """Every share of it keeps what the batch bounds promise."""
    stack, theta, weights = batch_of_bandits(seed)
    direction = some_direction(stack, theta, seed)
    log_odds, gap = stack.log_odds_and_gap(theta)
    along = np.sum(direction * gap, axis=-1)
    options = {"weights": weights, "everywhere": everywhere}
    step = thresholds.guaranteed(stack, theta, direction, **options).step
    slope = batches.batch_alignment(along, log_odds, weights)
    assert np.all((step[:, 0] > 0) == (slope > 0))
    for share in (0.2, 0.7, 0.99):
        after = stack.log_odds(theta + share * step[..., None] * direction)
        gain = np.sum(weights * (expit(after) - expit(log_odds)), axis=-1)
        assert np.all(gain >= share * (1 - share) * slope * step[:, 0] * (slope > 0) - 1e-12)


def test_a_network_needs_the_bend_of_its_wrong_responses():
    rng = np.random.default_rng(3)
    rewards = np.tile([1.0, 0, 0], (5, 1))
    net = NetworkBandit(rng.normal(size=(5, 3, 2)), rng.normal(size=(5, 3)), rewards)
    theta = rng.normal(size=(1, net.dim))
    log_odds, gap = net.log_odds_and_gap(theta)
    direction = unit(gap.sum(axis=0, keepdims=True))
    along, bounds = np.sum(direction * gap, axis=-1), net.regularity(direction)
    assert np.all(bounds.wrong_bend > 0)
    fall = {"among": ["batch failure-fall"], "everywhere": True}
    careful = thresholds.guaranteed(net, theta, direction, **fall).step
    widest = np.max(bounds.token_range)
    assert 0 < careful[0] < thresholds.batch_failure_fall(along, log_odds, 1, widest)
    after = net.log_odds(theta + 0.99 * careful[..., None] * direction)
    assert expit(after).mean() > expit(log_odds).mean()


def test_a_prompt_that_is_always_right_counts_in_the_step_alone():
    log_odds, excluded = batches.log_odds_of_rates([0.5, 1.0, 0.0])
    assert excluded == 2 and np.isposinf(log_odds[1]) and np.isneginf(log_odds[2])
    along = [1.0, np.nan, np.nan]  # undefined where the log-odds are infinite, and not read
    assert batches.batch_alignment(along, log_odds) == pytest.approx(0.25 / 3)
    stack = LogLinearBandit([[[1.0], [0.0]]] * 3, [[1, 0]] * 3)  # a = 1/4
    known = {"among": ["batch success-rise"], "everywhere": True}

    def step(which):
        problem = LogLinearBandit(stack.features[which], stack.rewards[which])
        seen = {"alignment": np.array(along)[which], "log_odds": log_odds[which]}
        return thresholds.guaranteed(problem, np.zeros((1, 1)), np.ones(1), **seen, **known).step

    # the right one can lose, the wrong one cannot
    assert step([0, 1, 2]) == pytest.approx(2 * (0.25 / 3) / ((0.5 + 1) / 4 / 3))
    assert step([0, 1, 2]) < step([0, 2])


def test_strictness_and_bad_rates():
    with pytest.raises(ValueError, match=r"success_rate must be in \(0, 1\), got 2 prompts"):
        batches.log_odds_of_rates([0.5, 1.0, 0.0], strict=True)
    assert batches.log_odds_of_rates([0.5, 0.25], strict=True)[0] == pytest.approx(
        logit([0.5, 0.25])
    )
    assert np.array_equal(batches.log_odds_of_rates([[0.0, 0.5], [0.2, 0.3]])[1], [1, 0])
    for bad in ([-0.1, 0.5], [0.5, 1.1], [np.nan, 0.5], 0.5):
        with pytest.raises(ValueError, match="success_rate must"):
            batches.log_odds_of_rates(bad)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batches.mean_rates([0.0, 1.0], [1.0, -1.0]), "weights must be non-negative"),
        (
            lambda: batches.mean_rates([0.0, 1.0], [0.0, 0.0]),
            "weights must be non-negative, finite and not all zero",
        ),
        (lambda: batches.mean_rates([0.0, 1.0], [1.0]), "weights must have last axis 2"),
        (lambda: batches.mean_rates(0.0), "log_odds must hold prompts"),
        (lambda: batches.mean_rates([np.nan]), "log_odds must be a number"),
        (lambda: batches.batch_alignment([np.nan, 1.0], [0.0, 0.0]), "alignments must be finite"),
        (
            lambda: batches.alignment_spread([1.0], [np.inf]),
            "neither always right nor always wrong",
        ),
        (lambda: PromptWeighted("best"), "weighting must be one of uniform"),
        (lambda: MiniBatch(0, np.random.default_rng(0)), "size must be at least 1 and whole"),
        (lambda: batches.two_groups(np.nan, [[1.0]]), "angle must be finite"),
        (lambda: LargestGain(()), "candidates must be one or more of"),
        (lambda: LargestGain(("uniform", "rloo")), "candidates must be one or more of"),
        (lambda: min_norm_coefficients([1.0, 2.0]), "gaps must have shape"),
        (lambda: min_norm_coefficients([[np.nan, 2.0]]), "gaps must be finite"),
        (lambda: WindowPrompts([8], [0], [3], [[1.0]], [0.1]), "1 <= low <= high < lengths"),
        (lambda: WindowPrompts([8], [3], [8], [[1.0]], [0.1]), "1 <= low <= high < lengths"),
        (
            lambda: WindowPrompts([8.5], [3], [4], [[1.0]], [0.1]),
            "lengths must be at least 1 and whole, got ",
        ),
        (
            lambda: WindowPrompts([8], [3], [4], [[1.0]], [0.9]),
            "initial_success must be above 0 and below",
        ),
        (
            lambda: WindowPrompts([8], [3], [4], [[1.0]], [0.0]),
            "initial_success must be in",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- the batch as one problem


@pytest.mark.parametrize("kind", ["bandits", "windows"])
def test_the_mean_is_a_problem(kind):
    if kind == "bandits":
        batch, theta, weights = batch_of_bandits(5, runs=6)
        theta = theta[:, 0]
    else:
        batch, weights = windows(), [4.0, 1.0, 2.0, 2.0]
        theta = 0.1 * np.random.default_rng(6).normal(size=(3, batch.dim))
    mean = BatchMean(batch, weights)
    direction = unit(np.random.default_rng(7).normal(size=theta.shape))

    def value(h):
        return mean.log_odds(theta + h * direction)

    success, failure = batches.mean_rates(batch.log_odds(theta[:, None]), weights)
    assert mean.log_odds(theta) == pytest.approx(np.log(success / failure))
    slope = np.sum(mean.gradient_gap(theta) * direction, axis=-1)
    assert slope == pytest.approx((value(1e-5) - value(-1e-5)) / 2e-5, rel=1e-6, abs=1e-8)
    bend = (value(1e-4) - 2 * value(0) + value(-1e-4)) / 1e-8
    assert mean.curvature(theta, direction) == pytest.approx(-bend, rel=1e-4, abs=1e-4)
    for step in (1e-3, 0.3, 5.0, 60.0):
        assert mean.log_odds_gain(theta, direction, np.array(step)) == pytest.approx(
            value(step) - value(0), rel=1e-9, abs=1e-11
        )
    tiny = mean.log_odds_gain(theta, direction, np.array(1e-12))
    assert tiny == pytest.approx(1e-12 * slope, rel=1e-6)


@pytest.mark.parametrize("angle", [0.3, [[0.0], [2.0], [np.pi]]])
def test_two_groups_stand_at_the_angle(angle):
    own = 0.2 * unit(np.random.default_rng(8).normal(size=(6, 5)))
    vectors = batches.two_groups(angle, own)
    assert vectors.shape == (*np.shape(angle)[:-1], 6, 7)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0)
    shared, private = unit(vectors[..., :2]), vectors[..., 2:]
    turn = np.asarray(angle)[..., None] * (np.add.outer(range(6), range(6)) % 2)
    cosines = shared @ np.swapaxes(shared, -1, -2)
    np.testing.assert_allclose(cosines, np.cos(turn), atol=1e-12)
    np.testing.assert_allclose(private * np.sqrt(1.04), np.broadcast_to(own, private.shape))


# ---- the weightings


def test_coefficients_of_the_methods():
    stack, theta, weights = batch_of_bandits(8)
    log_odds, gap = stack.log_odds_and_gap(theta)
    rates = expit(log_odds)
    expected = {
        "uniform": rates * (1 - rates),
        "grpo": np.sqrt(rates * (1 - rates)),
        "log_odds": 1.0,
    }
    for name, value in expected.items():
        direction = PromptWeighted(name, weights)
        assert direction.coefficients(At.of(stack, theta)) == pytest.approx(weights * value)
        update, state = direction.update(At.of(stack, theta), None)
        assert update.shape == theta.shape and state is None
        assert update[:, 0] == pytest.approx(np.sum((weights * value)[..., None] * gap, axis=1))


@pytest.mark.parametrize("size", [1, 3])
def test_mini_batches_are_right_on_average(size):
    stack, theta, weights = batch_of_bandits(9, runs=1)
    at = At.of(stack, theta)
    gradients = (expit(at.log_odds) * expit(-at.log_odds))[0, :, None] * at.gap[0]
    whole = weights[0] @ gradients
    variance = np.sum(weights[0] @ (gradients - whole) ** 2) / size
    batch, drawn = MiniBatch(size, np.random.default_rng(10), weights), []
    for _ in range(4000):
        update, state = batch.update(at, None)
        drawn.append(update[0, 0])
    if size == 1:  # one prompt at a time
        distance = np.abs(np.array(drawn)[:, None] - gradients).max(axis=-1).min(axis=-1)
        assert distance.max() < 1e-15
    errors = np.sum((drawn - whole) ** 2, axis=-1)
    assert errors.mean() == pytest.approx(variance, rel=0.1)
    assert np.sum((np.mean(drawn, axis=0) - whole) ** 2) < 9 * variance / 4000
    along = at.gap[0] @ unit(whole)
    spread = batches.alignment_spread(along, at.log_odds[0], weights[0])
    assert batch.notes(state)["spread"] == pytest.approx(np.atleast_1d(spread))


def test_the_own_step_of_a_prompt_is_its_longest_threshold():
    stack, theta, _ = batch_of_bandits(9)
    log_odds, gap = stack.log_odds_and_gap(theta)
    along = unit(gap)
    size, bounds = np.linalg.norm(gap, axis=-1), stack.regularity(along)
    rise = thresholds.success_rise(size, log_odds, bounds.score_lipschitz)
    fall = thresholds.failure_fall(size, log_odds, 1, bounds.token_range)
    own = PromptWeighted("own_step").coefficients(At.of(stack, theta))
    assert own * size == pytest.approx(np.maximum(rise, fall) / 5)
    after = np.stack(
        [
            stack.log_odds(theta + 0.99 * (5 * own * size)[:, [q], None] * along[:, [q]])[:, q]
            for q in range(5)
        ],
        axis=1,
    )
    assert np.all(after > log_odds)


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
@example(seed=5460)  # SciPy 1.15 stopped before the optimum here
def test_max_min_is_the_nearest_point_of_the_hull(seed):
    rng = np.random.default_rng(seed)
    size, dim = rng.integers(2, 9), rng.integers(2, 7)
    gaps = rng.normal(size=(size, dim)) * np.exp(rng.normal(size=(size, 1))) + rng.uniform(
        0, 3
    ) * unit(rng.normal(size=dim))
    weights = min_norm_coefficients(gaps)
    softmax = minimize(  # an independent solver on the simplex
        lambda c: np.sum((c @ gaps) ** 2),
        np.full(size, 1 / size),
        jac=lambda c: 2 * gaps @ (c @ gaps),
        method="SLSQP",
        bounds=[(0, 1)] * size,
        constraints={"type": "eq", "fun": lambda c: c.sum() - 1, "jac": np.ones_like},
        options={"maxiter": 500, "ftol": 1e-14},
    )
    nearest = np.sqrt(softmax.fun)
    if not weights.any():
        assert nearest < 1e-4
        return
    assert np.all(weights >= 0) and weights.sum() == pytest.approx(1)
    point = weights @ gaps
    distance = np.linalg.norm(point)
    assert distance <= nearest * (1 + 1e-6) + 1e-9
    assert np.min(gaps @ point) >= distance**2 * (1 - 1e-6) - 1e-12


def test_max_min_where_no_direction_suits_all():
    assert not min_norm_coefficients([[1.0, 0.0], [-2.0, 0.0]]).any()
    assert not min_norm_coefficients(np.zeros((3, 2))).any()
    assert min_norm_coefficients([[1.0, 0.0], [-2.0, 0.0]], [True, False]) == pytest.approx([1, 0])


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_prompts_without_a_gap_are_left_out(name):
    stack, theta, weights = batch_of_bandits(10)
    log_odds, gap = stack.log_odds_and_gap(theta)
    known = LogLinearBandit(stack.features[:, 1:], stack.rewards[:, 1:], stack.log_prior[:, 1:])
    alone, _ = PromptWeighted(name, weights[:, 1:]).update(At.of(known, theta), None)
    log_odds[:, 0], gap[:, 0] = np.inf, np.nan
    direction = PromptWeighted(name, weights)
    at = At(stack, theta, log_odds, gap)
    assert np.all(direction.coefficients(at)[:, 0] == 0)
    update, _ = direction.update(at, None)
    moving = np.any(alone, axis=-1)[:, 0]  # max-min stays where the hull of the gaps holds 0
    assert moving.any() and np.array_equal(moving, np.any(update, axis=-1)[:, 0])
    assert unit(update[moving]) == pytest.approx(unit(alone[moving]), abs=1e-9)


# ---- the largest guaranteed gain


def test_the_rule_takes_the_largest_guarantee():
    stack, theta, weights = batch_of_bandits(11)
    log_odds, gap = stack.log_odds_and_gap(theta)
    rule = LargestGain(weights=weights)
    taken, state = rule.update(At.of(stack, theta), None)
    chosen = rule.notes(state)["chosen"]

    def guarantee(update):
        direction = unit(update)
        along = np.sum(direction * gap, axis=-1)
        rule = thresholds.guaranteed(stack, theta, direction, weights=weights, everywhere=True)
        return batches.batch_alignment(along, log_odds, weights) * rule.step[:, 0]

    offers = []
    for name in WEIGHTINGS:
        update, _ = PromptWeighted(name, weights).update(At.of(stack, theta), None)
        still = ~np.any(update, axis=-1)[:, 0]
        update[still] = 1.0
        offers.append(np.where(still, 0.0, guarantee(update)))
    assert guarantee(taken) == pytest.approx(np.max(offers, axis=0))
    assert np.array_equal(chosen, np.argmax(offers, axis=0))
    assert len(np.unique(chosen)) > 1


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_the_mean_never_falls_and_its_gradients_have_a_finite_sum(seed):
    stack, theta, weights = batch_of_bandits(seed)
    share, rule = 0.8, LargestGain(weights=weights)
    path = ascend(stack, theta, rule, GuaranteedStep(share, weights=weights, everywhere=True), 25)
    success = np.sum(weights[..., None] * path.success_rate, axis=1)
    assert np.all(np.diff(success, axis=-1) >= -1e-12)
    squares = path.notes["squared_gradient"]
    rates = expit(path.log_odds[..., 0])
    slopes = (weights * rates * (1 - rates))[..., None] * stack.gradient_gap(theta)
    assert squares[:, 0] == pytest.approx(np.sum(slopes.sum(axis=1) ** 2, axis=-1))
    # no a_q is larger, in any direction
    widest = np.ptp(stack.features, axis=-2).max() ** 2 * 3 / 4
    assert np.all(np.diff(success) >= 2 * share * (1 - share) * squares / widest - 1e-12)
    budget = widest * (1 - success[:, 0]) / (2 * share * (1 - share))
    assert np.all(squares.sum(axis=-1) <= budget)


def test_a_batch_without_an_ascent_direction_stays():
    stack = LogLinearBandit(
        [[[1.0], [0.0]], [[0.0], [1.0]]], [[1, 0], [1, 0]]
    )  # opposite gaps, J = 1/2 both
    rule = LargestGain()
    path = ascend(stack, np.zeros((1, 1)), rule, GuaranteedStep(0.9, everywhere=True), 2)
    assert np.all(path.step_size == 0) and np.all(path.theta == 0)
    assert np.all(path.notes["chosen"] == -1)


# ---- windows that share parameters


def test_window_prompts_are_token_windows():
    batch = windows(3)
    theta = 0.2 * np.random.default_rng(4).normal(size=batch.dim)
    direction = unit(np.random.default_rng(5).normal(size=batch.dim))
    log_odds, gap = batch.log_odds_and_gap(theta)
    bend = batch.curvature(theta, direction)
    for q in range(4):
        low = int(np.ceil(batch.lengths[q] * 0.3))
        window = TokenWindow(int(batch.lengths[q]), low, low + int(np.ceil(batch.lengths[q] / 3)))
        point, along = (
            np.array([batch.offsets[q] + batch.directions[q] @ theta]),
            batch.directions[q] @ direction,
        )
        assert log_odds[q] == pytest.approx(window.log_odds(point), rel=1e-9)
        assert gap[q] == pytest.approx(window.gradient_gap(point) * batch.directions[q], rel=1e-9)
        assert bend[q] == pytest.approx(window.curvature(point, np.ones(1)) * along**2, rel=1e-8)
        top = minimize(
            lambda x, window=window: -window.log_odds(x),
            [0.0],
            method="Nelder-Mead",
            options={"xatol": 1e-9},
        )
        assert batch.best_log_odds[q] == pytest.approx(-top.fun, rel=1e-9)
        bounds = batch.regularity(direction)
        assert bounds.token_range[q] == pytest.approx(abs(along))
        assert bounds.score_lipschitz[q] == pytest.approx(batch.lengths[q] * along**2 / 4)


def test_window_prompts_start_where_they_are_told():
    wanted = np.array([1e-9, 0.01, 0.5, 0.75])
    batch = WindowPrompts(
        [16, 64, 256, 1024], [6, 24, 110, 490], [10, 40, 146, 534], np.eye(4), wanted
    )
    assert expit(batch.log_odds(np.zeros(4))) == pytest.approx(wanted, rel=1e-9)
    assert np.all(
        np.sum(batch.directions * batch.gradient_gap(np.zeros(4)), axis=-1) > 0
    )  # below the summits


def test_batch_bounds_in_high_precision():
    """The two bounds with mpmath, for two prompts whose rates differ by ten orders of magnitude."""
    size, offsets, weights, w = [1.5, 0.7], [-12.0, 11.0], [0.3, 0.7], [1.0, -0.2]

    def success(
        q, t
    ):  # one correct arm with the feature w_q, two wrong ones with plus and minus size_q
        return 1 / (1 + mp.exp(-offsets[q] - w[q] * t) * mp.cosh(size[q] * t))

    stack = LogLinearBandit(
        [[[w[q]], [size[q]], [-size[q]]] for q in range(2)],
        [[1, 0, 0]] * 2,
        [[offsets[q], -np.log(2), -np.log(2)] for q in range(2)],
    )
    log_odds, gap = stack.log_odds_and_gap(np.zeros((1, 1)))
    bends = stack.regularity(np.ones(1)).score_lipschitz
    slope = batches.batch_alignment(gap[:, 0], log_odds, weights)
    with mp.workdps(40):
        exact = mp.fsum(weights[q] * mp.diff(lambda t, q=q: success(q, t), 0) for q in range(2))
        assert slope == pytest.approx(float(exact), rel=1e-10)
        direction = np.sign(slope)
        along = direction * gap[:, 0], log_odds
        rise = thresholds.batch_success_rise(*along, bends, weights)
        fall = thresholds.batch_failure_fall(*along, 1, 2 * np.sqrt(bends.max()), weights=weights)
        step = np.maximum(rise, fall)
        start = mp.fsum(weights[q] * success(q, 0) for q in range(2))
        for share in (0.1, 0.5, 0.999):
            after = mp.fsum(
                weights[q] * success(q, mp.mpf(float(direction * share * step))) for q in range(2)
            )
            assert after - start >= share * (1 - share) * abs(slope) * step * (1 - 1e-9)


def test_the_spread_of_a_stack_of_batches_is_that_of_each():
    rng = np.random.default_rng(4)
    alignments, log_odds = rng.normal(1, 1, size=(2, 3, 5)), rng.normal(size=(2, 3, 5))
    stacked = batches.alignment_spread(alignments, log_odds)
    single = [
        [batches.alignment_spread(alignments[i, j], log_odds[i, j]) for j in range(3)]
        for i in range(2)
    ]
    np.testing.assert_allclose(stacked, single, rtol=1e-14)


def test_the_rule_chooses_for_each_run_of_a_grid_of_runs():
    stack, rule = windows(), LargestGain()
    theta = np.random.default_rng(6).normal(size=(2, 3, 1, stack.dim))
    taken, (chosen, squares) = rule.update(At.of(stack, theta), None)
    for index in np.ndindex(2, 3):
        expected, (alone, square) = rule.update(At.of(stack, theta[index]), None)
        np.testing.assert_allclose(taken[index], expected, rtol=1e-10)
        assert chosen[index] == alone and squares[index] == pytest.approx(square)
