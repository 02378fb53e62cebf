"""Every theorem as an executable assertion, with the perturbed theorems that must fail it."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from problem_zoo import KINDS, random_problem
from scipy.optimize import brentq
from scipy.special import expit, gammaln, log_expit
from test_tokens import random_chain

from rlvrlib import (
    CorrelatedWindow,
    LogLinearBandit,
    NetworkBandit,
    NoisyVerifier,
    OvershootInstance,
    Problem,
    QuadraticBandit,
    SuccessParabola,
    TabularBandit,
    TokenWindow,
    WindowPrompts,
    log_odds_gain,
    segment_regularity,
    thresholds,
    unit,
)
from rlvrlib.first_zero import _lowest
from rlvrlib.problems import alignment as gap_alignment

seeds = st.integers(0, 2**32 - 1)
SHARES = np.array([0.05, 0.3, 0.5, 0.8, 0.999])


def census(kind, seed, size=500, num_arms=None):
    """Many random problems whose direction has a positive alignment."""
    rng = np.random.default_rng(seed)
    problem, theta, direction = random_problem(
        kind, rng, batch=(size,), num_arms=num_arms or int(rng.integers(2, 8)), dim=2
    )
    slope = gap_alignment(problem, theta, direction)
    return problem, theta, direction * np.where(slope < 0, -1, 1)[:, None], np.abs(slope)


def measured_on_segment(problem, theta, direction, slope, rule):
    """Largest step with ``step <= rule(slope, G, L)``, ``G`` and ``L`` measured on the very segment
    it covers.

    No longer than four times the scale on which the probabilities change: a grid of points would
    miss a spike of ``h``.
    """
    change = np.ptp(problem.logit_slopes(theta, direction), axis=-1)
    change = change + np.sqrt(np.ptp(problem.logit_curvatures(theta, direction), axis=-1))
    low, high = np.zeros(slope.shape), 4 / change
    for _ in range(30):
        middle = (low + high) / 2
        allowed = middle <= rule(slope, *segment_regularity(problem, theta, direction, middle, 33))
        low, high = np.where(allowed, middle, low), np.where(allowed, high, middle)
    return low


def gains(problem, theta, direction, steps):
    """Gain at each share of the steps, and the rounding error to allow for it."""
    values = np.stack([log_odds_gain(problem, theta, direction, share * steps) for share in SHARES])
    return values, 1e-12 * (1 + np.abs(problem.log_odds(theta)))


def violations(rule, kind="log_linear", seed=0):
    """How often the log-odds fail to rise below the threshold, or miss the two-sided band below
    half of it.
    """
    problem, theta, direction, slope = census(kind, seed)
    if kind == "quadratic":
        steps = measured_on_segment(problem, theta, direction, slope, rule)
    else:
        bounds = problem.regularity(direction)
        steps = rule(slope, bounds.score_bound, bounds.score_lipschitz)
    gain, rounding = gains(problem, theta, direction, steps)
    linear = SHARES[:, None] * steps * slope
    fallen = np.sum(gain < -rounding)
    below_half = SHARES <= 0.5
    outside = (gain < linear / 2 - rounding) | (gain > 3 * linear / 2 + rounding)
    return fallen + np.sum(outside[below_half])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_two_sided_bound(kind, seed):
    assert violations(thresholds.trajectory, kind, seed) == 0


@pytest.mark.parametrize("kind", ["log_linear", "network"])
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_the_step_of_the_paper(kind, seed):
    assert violations(thresholds.paper, kind, seed) == 0


def sharp_for_trajectory(alignment, score_bound=1.0, score_lipschitz=0.5):
    """The two-sided bound with equality as the alignment goes to 0: s = 0, h = -L on O+; s = ±G,
    h = L on O-.
    """
    success = (score_lipschitz + score_bound**2) / (
        2 * score_lipschitz + score_bound**2
    )  # so that E[h + s^2] = 0
    slopes = [[alignment], [score_bound], [-score_bound]]
    bends = [[-score_lipschitz], [score_lipschitz], [score_lipschitz]]
    return QuadraticBandit(
        slopes, bends, [1, 0, 0], np.log([success, (1 - success) / 2, (1 - success) / 2])
    )


def exact_over_threshold(rule, alignment):
    """On the sharp instance, with the bounds measured on the segment up to the exact step."""
    problem, theta, direction = sharp_for_trajectory(alignment), np.zeros(1), np.ones(1)
    step = thresholds.exact(problem, theta, direction)
    return step / rule(alignment, *segment_regularity(problem, theta, direction, step))


def test_the_two_sided_bound_is_sharp():
    ratios = [
        exact_over_threshold(thresholds.trajectory, alignment) for alignment in (1e-1, 1e-2, 1e-3)
    ]
    assert np.all(np.diff(ratios) < 0) and 1 <= ratios[-1] < 1.01


def test_a_threshold_ten_per_cent_too_long_is_seen():
    """Negative control: the sharp instance turns down before 1.1 times the threshold."""
    assert exact_over_threshold(lambda *bounds: 1.1 * thresholds.trajectory(*bounds), 1e-3) < 1


def test_a_wrong_constant_or_exponent_is_seen():
    """Negative controls for the census and the sharp instance together."""
    for wrong in (
        lambda slope, score, lipschitz: 2 * slope / (lipschitz + score**2),  # L instead of 2 L
        lambda slope, score, lipschitz: 2 * slope / (2 * lipschitz + score**2 / 2),
        lambda slope, score, lipschitz: 2 * np.sqrt(slope) / (2 * lipschitz + score**2),
    ):
        assert exact_over_threshold(wrong, 1e-3) < 0.95
    assert violations(lambda slope, score, lipschitz: 4 * slope / score, "log_linear") > 0


def test_a_flipped_gap_is_seen(monkeypatch):
    """Negative control: with the sign of the gap flipped the direction descends."""
    original = LogLinearBandit.gradient_gap
    monkeypatch.setattr(LogLinearBandit, "gradient_gap", lambda self, theta: -original(self, theta))
    assert violations(thresholds.trajectory) > 0


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_log_linear_bound(seed):
    problem, theta, direction, slope = census("log_linear", seed)
    steps = thresholds.log_linear(slope, problem.wrong_feature_range(direction))
    steps = np.where(np.isfinite(steps), steps, 100 * slope)  # equal wrong features: no limit
    gain, rounding = gains(problem, theta, direction, steps)
    assert np.all(gain >= -rounding)
    half = SHARES <= 0.5
    assert np.all(gain[half] >= SHARES[half, None] * steps * slope / 2 - rounding)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_success_rise_bound(kind, seed):
    problem, theta, direction, slope = census(kind, seed)
    log_odds = problem.log_odds(theta)
    if kind == "quadratic":
        bound = measured_on_segment(
            problem,
            theta,
            direction,
            slope,
            lambda a, _, bend: thresholds.success_rise(a, log_odds, bend),
        )
        curvature = segment_regularity(problem, theta, direction, bound, 129)[1]
        steps = np.minimum(bound, thresholds.success_rise(slope, log_odds, curvature))
    else:
        curvature = problem.regularity(direction).score_lipschitz
        steps = thresholds.success_rise(slope, log_odds, curvature)
    gain, rounding = gains(problem, theta, direction, steps)
    assert np.all(gain >= -rounding)
    eta = SHARES[:, None] * steps
    rise = log_expit(log_odds + gain) - log_expit(log_odds)
    promised = eta * np.exp(log_expit(-log_odds)) * slope - curvature * eta**2 / 2
    assert np.all(rise >= promised - 1e-10)


@pytest.mark.parametrize("kind", ["log_linear", "network"])
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_failure_fall_bound_on_one_token(kind, seed):
    problem, theta, direction, slope = census(kind, seed)
    bounds = problem.regularity(direction)
    above = 0.0 if kind == "log_linear" else bounds.token_lipschitz
    steps = thresholds.failure_fall(slope, problem.log_odds(theta), 1, bounds.token_range, above)
    gain, rounding = gains(problem, theta, direction, np.minimum(steps, 1e6))
    assert np.all(gain >= -rounding)
    assert np.all(thresholds.reinforce_rate(1, bounds.token_range, None, above) > 0)


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
@example(seed=1309)  # an alignment of 1e-5: the gain at the threshold is near rounding
def test_the_failure_law_lies_between_the_log_linear_bound_and_the_exact_step(seed):
    problem, theta, direction, slope = census("log_linear", seed)
    law, exact = (
        thresholds.failure_law(problem, theta, direction),
        thresholds.exact(problem, theta, direction),
    )
    assert np.all(law <= exact * (1 + 1e-9))
    assert np.all(
        law >= thresholds.log_linear(slope, problem.wrong_feature_range(direction)) * (1 - 1e-9)
    )


def test_the_failure_law_of_one_correct_response_is_the_exact_step():
    rng = np.random.default_rng(0)
    problem = LogLinearBandit(rng.normal(size=(50, 6, 3)), np.eye(1, 6)[0])
    theta = rng.normal(size=(50, 3))
    gap = problem.gradient_gap(theta)
    law, exact = thresholds.failure_law(problem, theta, gap), thresholds.exact(problem, theta, gap)
    assert np.count_nonzero(np.isfinite(exact)) > 20 and law == pytest.approx(exact, rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_below_the_token_failure_law_the_success_rate_rises(seed):
    problem, theta, direction, _ = census("log_linear", seed)
    steps = thresholds.token_failure_law(problem, theta, direction)
    gain, rounding = gains(problem, theta, direction, np.minimum(steps, 1e3))
    assert np.all(gain >= -rounding)


def test_the_token_failure_law_of_windows_is_the_exact_step():
    """Their tokens have two values."""
    for window in (TokenWindow(16, 6, 9), TokenWindow(64, 20, 50), TokenWindow(300, 1, 4)):
        theta, along = np.linspace(-2, 2, 9)[:, None], np.ones(1)
        for way in (along, -2 * along):
            exact = thresholds.exact(window, theta, way)
            found = thresholds.token_failure_law(window, theta, way)
            kept = found > 0  # where the success rate is not below rounding
            assert found[kept] == pytest.approx(exact[kept], rel=1e-6)
    bandit = LogLinearBandit([[1.0], [0.0]], [1, 0])
    assert thresholds.token_failure_law(bandit, [0.0], [1.0]) == np.inf
    assert thresholds.token_failure_law(bandit, [0.0], [-1.0]) == 0
    with pytest.raises(ValueError, match="bandit must be log-linear"):
        thresholds.token_failure_law(QuadraticBandit([[1.0], [0.0]], 1.0, [1, 0]), [0.0], [1.0])


def test_the_failure_law_by_a_solver_of_its_own():
    features, law, rewards = (
        np.array([0.4, -1.0, 2.0, 0.1]),
        np.array([0.5, 0.3, 0.05, 0.15]),
        np.array([1, 0, 0, 1]),
    )
    bandit = LogLinearBandit(features[:, None], rewards, np.log(law))
    ahead = (0.5 * 0.4 + 0.15 * 0.1) / 0.65

    def lost(eta):
        return (0.3 * np.exp(eta * (-1.0 - ahead)) + 0.05 * np.exp(eta * (2.0 - ahead))) / 0.35 - 1

    expected = brentq(lost, 0.1, 5, xtol=1e-14)
    assert thresholds.failure_law(bandit, [0.0], [2.0]) == pytest.approx(expected, rel=1e-12)
    assert thresholds.failure_law(bandit, [0.0], [-1.0]) == 0  # against the gap
    harmless = LogLinearBandit(
        features[:, None], [1, 0, 1, 1], np.log(law)
    )  # no wrong response scores above the right ones
    assert thresholds.failure_law(harmless, [0.0], [1.0]) == np.inf


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_the_sharper_logarithm_and_the_angle_theorem_on_one_token(seed):
    problem, theta, direction, slope = census("log_linear", seed)
    bounds, log_odds = problem.regularity(direction), problem.log_odds(theta)
    plain = thresholds.failure_fall(slope, log_odds, 1, bounds.token_range)
    longer = thresholds.sharper_failure_fall(slope, log_odds, 1, bounds.token_range)
    assert np.all(longer == plain)  # of one token the tail entry is the smaller one
    several = slope, log_odds, 8, bounds.token_range
    ratio = thresholds.sharper_failure_fall(*several) / thresholds.failure_fall(*several)
    assert np.all(ratio >= 1) and np.any(ratio > 1)
    for steps in (longer, thresholds.angle(slope, log_odds, 1, bounds.token_range)):
        gain, rounding = gains(problem, theta, direction, np.minimum(steps, 1e6))
        assert np.all(gain >= -rounding)


def test_the_bend_of_the_angle_as_printed():
    assert thresholds.angle_bend(1, 1.0) == pytest.approx(0.25)  # sigma^2
    printed = [2 * 4 / t * np.sqrt(sum((np.sqrt(i) + 0.5) ** 2 for i in range(t))) for t in (4, 64)]
    assert thresholds.angle_bend([4, 64], [2.0, 0.5]) == pytest.approx(
        printed
    )  # sigma^2 is 4 in both
    squares = [(0.5 * np.sqrt(t) + 0.25 + 0.3) ** 2 for t in range(5)]
    assert thresholds.angle_bend(5, 1.0, 0.6) == pytest.approx(np.sqrt(sum(squares)))
    assert thresholds.angle_bend(5, 1.0, 0.6, 9.0) == 9.0


def test_the_ladder_is_ordered():
    for seed in range(3):
        problem, theta, direction, slope = census("log_linear", seed, size=100)
        bounds, log_odds = problem.regularity(direction), problem.log_odds(theta)
        exact = thresholds.exact(problem, theta, direction) * (1 + 1e-9)
        paper = thresholds.paper(slope, bounds.score_bound, bounds.score_lipschitz)
        ours = thresholds.trajectory(slope, bounds.score_bound, bounds.score_lipschitz)
        assert np.all(paper <= ours) and np.all(ours <= exact)
        assert np.all(thresholds.success_rise(slope, log_odds, bounds.score_lipschitz) <= exact)
        assert np.all(thresholds.failure_fall(slope, log_odds, 1, bounds.token_range) <= exact)
        assert np.all(thresholds.log_linear(slope, problem.wrong_feature_range(direction)) <= exact)


@pytest.mark.parametrize("mirror", [False, True])
@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_batch_bounds(mirror, seed):
    rng = np.random.default_rng(seed)
    stack, theta, _ = random_problem("log_linear", rng, batch=(30, 6), num_arms=4)
    stack.log_prior += 4 * rng.normal(size=(30, 6, 1)) * stack.rewards
    theta, weights = theta[:, :1], rng.dirichlet(np.ones(6), size=30)
    log_odds, gap = stack.log_odds_and_gap(theta)
    pull = np.exp(log_expit(log_odds) + log_expit(-log_odds)) * weights
    direction = np.sum(pull[..., None] * gap, axis=1, keepdims=True) + 0.3 * rng.normal(
        size=(30, 1, 3)
    )
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    slopes, bounds = np.sum(direction * gap, axis=-1), stack.regularity(direction)
    if mirror:
        widest = bounds.token_range.max(axis=-1)
        steps = thresholds.batch_failure_fall(slopes, log_odds, 1, widest, weights=weights)
    else:
        steps = thresholds.batch_success_rise(slopes, log_odds, bounds.score_lipschitz, weights)
    assert np.any(steps > 0)
    for share in SHARES:
        after = stack.log_odds(theta + (share * steps)[:, None, None] * direction)
        change = np.sum(weights * (np.exp(log_expit(after)) - np.exp(log_expit(log_odds))), axis=-1)
        assert np.all(change >= -1e-12)


def test_a_batch_of_one_prompt_is_the_prompt():
    slope, log_odds, bound = 0.7, -2.0, 3.0
    single = thresholds.batch_success_rise([slope], [log_odds], [bound], [5.0])
    assert single == pytest.approx(thresholds.success_rise(slope, log_odds, bound))
    single = thresholds.batch_failure_fall([slope], [log_odds], 64, 0.5, 0.1)
    assert single == pytest.approx(thresholds.failure_fall(slope, log_odds, 64, 0.5, 0.1))


def test_what_is_common_to_the_prompts_may_be_given_once():
    alignments = [1.0, 2.0, 3.0]
    rise = thresholds.batch_success_rise(alignments, [0.5] * 3, [2.0] * 3)
    for log_odds in (0.5, [0.5]):
        assert thresholds.batch_success_rise(alignments, log_odds, [2.0]) == pytest.approx(rise)
        fall = thresholds.batch_failure_fall(alignments, log_odds, 8, 1.0)
        assert fall == pytest.approx(thresholds.batch_failure_fall(alignments, [0.5] * 3, 8, 1.0))


def test_without_a_bound_there_is_no_rate():
    for log_odds in (None, 0.0, 800.0):  # at 800 the failure rate vanishes in floating point
        assert thresholds.reinforce_rate(8, 1.0, log_odds, np.inf) == 0
        assert thresholds.reinforce_rate(8, np.inf, log_odds) == 0


def test_averaging_the_bounds_without_the_success_weights_is_wrong():
    """Batch bounds: the guarantee needs a_q weighted by the success rate."""
    log_odds, bounds, slopes = np.array([5.0, -8.0]), np.array([10.0, 0.0]), np.array([1.0, 1.0])
    rise = thresholds.batch_success_rise(slopes, log_odds, bounds)
    success = np.exp(log_expit(log_odds))
    unweighted = (
        2
        * np.sum(success * np.exp(log_expit(-log_odds)) * slopes)
        / np.sum(bounds * success.mean())
    )
    assert rise < unweighted * 0.6


@pytest.mark.parametrize("log_odds", [-690.0, -5.0, 0.0, 5.0, 690.0])
def test_the_printed_formulas(log_odds):
    success, failure = np.exp(log_expit(log_odds)), np.exp(log_expit(-log_odds))
    assert thresholds.paper(0.6, 2.0, 3.0) == pytest.approx(0.6 / (2 * (3 + 8 * 4)))
    assert thresholds.trajectory(0.6, 2.0, 3.0) == pytest.approx(2 * 0.6 / (2 * 3 + 4))
    assert thresholds.log_linear(0.6, 2.0) == pytest.approx(8 * 0.6 / 4)
    assert thresholds.success_rise(0.6, log_odds, 3.0) == pytest.approx(2 * failure * 0.6 / 3)
    variance = 64 * 0.5**2 / 4
    phi = min(1.0, 2 * failure * np.log(2 * np.e / failure), 4 * 64 * failure)
    expected = 2 * success * failure * 0.6 / (0.1 * failure + variance * phi)
    assert thresholds.failure_fall(0.6, log_odds, 64, 0.5, 0.1) == pytest.approx(
        expected, rel=1e-12
    )
    expected = 2 / (0.1 * failure + variance * phi)
    assert thresholds.reinforce_rate(64, 0.5, log_odds, 0.1) == pytest.approx(expected, rel=1e-12)
    assert thresholds.reinforce_rate(64, 0.5) == pytest.approx(8 / (64 * 0.25))
    phi = min(phi, 6.0**2 * failure / variance)  # no score above 6
    tail = {"curvature_bound": 0.1, "score_bound": 6.0}
    expected = 2 / (0.1 * failure + variance * phi)
    assert thresholds.reinforce_rate(64, 0.5, log_odds, **tail) == pytest.approx(expected)
    assert thresholds.failure_fall(0.6, log_odds, 64, 0.5, **tail) == pytest.approx(
        success * failure * 0.6 * expected
    )
    fall = 2 * success * failure * 0.6 / (0.1 * failure + 9 * 0.5**2 / 4)
    assert thresholds.mean_length_fall(0.6, log_odds, 9, 0.5, 0.1) == pytest.approx(fall)
    rise = 2 * failure * 0.6 / (7 * 0.5**2 / 4)
    assert thresholds.mean_length_rise(0.6, log_odds, 7, 0.5) == pytest.approx(rise)
    assert thresholds.local(0.6, 2.0) == pytest.approx(0.6)


def test_thresholds_of_no_alignment_are_zero_and_of_no_limit_infinite():
    for slope in (0.0, -1.0):
        assert thresholds.paper(slope, 1, 1) == thresholds.trajectory(slope, 0, 0) == 0
        assert thresholds.log_linear(slope, 0.0) == thresholds.success_rise(slope, 0.0, 0.0) == 0
        assert thresholds.failure_fall(slope, 0.0, 8, 1.0) == thresholds.local(slope, -1.0) == 0
        assert thresholds.batch_success_rise([slope], [0.0], [1.0]) == 0
        assert thresholds.batch_failure_fall([slope], [0.0], 8, 1.0) == 0
    assert thresholds.trajectory(1.0, 0, 0) == thresholds.log_linear(1.0, 0.0) == np.inf
    assert thresholds.local(1.0, -0.5) == thresholds.success_rise(1.0, 0.0, 0.0) == np.inf
    assert thresholds.failure_fall(1.0, 0.0, 8, 0.0) == thresholds.reinforce_rate(8, 0.0) == np.inf


@pytest.mark.parametrize("kind", KINDS)
def test_exact_is_the_first_zero(kind):
    problem, theta, direction, slope = census(kind, 11, size=60, num_arms=8)
    exact = thresholds.exact(problem, theta, direction)
    assert np.all(exact > 0) and thresholds.exact(problem, theta, -direction).max() == 0
    found = np.isfinite(exact)
    assert found.sum() > 5
    at_zero = log_odds_gain(problem, theta, direction, np.where(found, exact, 1.0))
    assert np.all(np.abs(at_zero[found]) < 1e-9 * (1 + exact * slope)[found])
    for share in np.linspace(0.001, 0.999, 300):
        gain = log_odds_gain(problem, theta, direction, np.where(found, share * exact, 1.0))
        assert np.all(gain[found] > 0)


def test_exact_of_a_slope_whose_square_vanishes_is_infinite_without_curvature():
    assert (
        thresholds.exact(LogLinearBandit([[1e-200], [0.0]], [1, 0]), np.zeros(1), np.ones(1))
        == np.inf
    )


def test_exact_sees_an_arm_whose_probability_vanishes():
    bandit = LogLinearBandit(
        [[0.5], [0.0], [1.0]], [1, 0, 0], [0.0, 0.0, -800.0]
    )  # gain eta/2 - log(1 + e^(eta - 800))
    assert thresholds.exact(bandit, np.zeros(1), np.ones(1)) == pytest.approx(1600, rel=1e-12)


def test_the_success_parabola_meets_its_bound_exactly():
    problem = SuccessParabola(0.3, np.array([0.05, 0.6]), 0.9)
    theta, ahead, small = np.array([[-0.4], [0.2]]), np.ones((2, 1)), 1e-4
    line = theta[:, 0]
    parabola = np.log(0.3) + np.array([0.05, 0.6]) * line - 0.45 * line**2
    assert log_expit(problem.log_odds(theta)) == pytest.approx(parabola, rel=1e-14)
    below, here, above = (problem.log_odds(theta + shift) for shift in (-small, 0, small))
    assert problem.gradient_gap(theta)[:, 0] == pytest.approx((above - below) / 2 / small, rel=1e-6)
    bend = (2 * here - above - below) / small**2
    assert problem.curvature(theta, ahead) == pytest.approx(bend, rel=1e-5)
    assert problem.curvature(theta, 2 * ahead) == pytest.approx(4 * bend, rel=1e-5)
    rise = {"among": ["success-rise"], "everywhere": True}
    allowed = thresholds.guaranteed(problem, 0 * theta, ahead, **rise).step
    assert allowed == pytest.approx(2 * np.array([0.05, 0.6]) / 0.9, rel=1e-12)
    assert thresholds.exact(problem, 0 * theta, ahead) == pytest.approx(allowed, rel=1e-9)


def test_exact_sees_a_dip_between_two_rises():
    """The gain dips below 0 around 1 and rises again: the first zero counts."""

    class Dip(Problem):
        dim = 1

        def __init__(self, depth):
            self.depth = depth

        def log_odds(self, theta):
            x = theta[..., 0]
            return x * ((np.log(np.maximum(x, 1e-300))) ** 2 - self.depth)

        def gradient_gap(self, theta):
            return np.ones_like(theta)

        def curvature(self, theta, direction):
            return np.zeros(theta.shape[:-1])

    for depth in (1e-4, 1e-6):
        step = thresholds.exact(Dip(depth), np.zeros(1), np.ones(1))
        assert step == pytest.approx(np.exp(-np.sqrt(depth)), rel=1e-9)
    assert thresholds.exact(Dip(-1e-4), np.zeros(1), np.ones(1)) == np.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: thresholds.trajectory(np.nan, 1, 1), "alignment must be finite"),
        (lambda: SuccessParabola(0.5, [0.1, 1.0], 0.7), "bend must be above 0.721348"),
        (lambda: thresholds.trajectory(1, -1, 1), "score_bound must be non-negative"),
        (lambda: thresholds.paper(1, 1, np.nan), "score_lipschitz must be non-negative"),
        (lambda: thresholds.log_linear(1, -2.0), "feature_range must be non-negative"),
        (lambda: thresholds.success_rise(1, np.inf, 1), "log_odds must be finite"),
        (lambda: thresholds.failure_fall(1, 0, 0.5, 1), "max_length must be at least 1"),
        (lambda: thresholds.angle(1, 0, 0, 1), "max_length must be at least 1"),
        (
            lambda: thresholds.failure_law(
                QuadraticBandit([[1.0], [2.0]], [[1.0], [0.0]], [1, 0]), [0.0], [1.0]
            ),
            "log-linear",
        ),
        (lambda: thresholds.local(1, np.nan), "curvature must be finite"),
        (
            lambda: thresholds.batch_success_rise([1, 1], [0, 0], [1, 1], [1, -1]),
            "weights must be non-negative",
        ),
        (
            lambda: thresholds.batch_failure_fall([1, 1], [0, 0], 8, 1.0, weights=[1.0]),
            "weights must have last axis 2",
        ),
        (
            lambda: thresholds.batch_success_rise(1.0, 0.0, 1.0),
            "must hold prompts along the last axis",
        ),
        (
            lambda: thresholds.batch_failure_fall([1, 1], [0, 0], 8, 1, 0, [0, 0]),
            "weights must be non-negative",
        ),
        (
            lambda: thresholds.exact(LogLinearBandit(np.eye(2), [1, 0]), np.zeros(2), np.zeros(2)),
            "direction must be",
        ),
        (
            lambda: thresholds.exact(
                LogLinearBandit(np.eye(2), [1, 0]), np.zeros(2), np.ones(2), reach=0.1
            ),
            "reach",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_lowest_point_between_two_steps_is_found_for_each_problem():
    centre, depth = np.array([1.3, 1.6, 1.0]), np.array([-0.1, 0.2, 0.0])
    bottom, lowest = _lowest(lambda step: (step - centre) ** 2 + depth, np.ones(3), np.full(3, 2.0))
    assert bottom == pytest.approx(centre, abs=1e-4) and lowest == pytest.approx(depth, abs=1e-8)


# ---- the largest guaranteed step

SINGLE = [name for name in thresholds.BOUNDS if not name.startswith("batch")]


def some_problem(name, seed):
    """Problem, theta and a direction of positive alignment, for several runs."""
    rng = np.random.default_rng(seed)
    if name in KINDS:
        shift = 8 * rng.normal()
        problem, theta, _ = random_problem(name, rng, batch=(50,), num_arms=6, shift=shift)
    elif name == "chain":
        problem, _, _ = random_chain(rng)
        theta = rng.normal(size=(20, problem.dim))
    elif name == "windows of a batch":
        problem = WindowPrompts([16, 64], [3, 20], [7, 40], rng.normal(size=(2, 3)), [0.1, 0.5])
        theta = 0.3 * rng.normal(size=(20, 1, 3))
    elif name == "overshooting":
        problem = OvershootInstance(0.3, 0.2, 4)
        theta = rng.normal(size=(50, 4))
    else:
        length = int(rng.integers(2, 40))
        low = int(rng.integers(1, length))
        window = length, low, int(rng.integers(low, length))
        problem = {
            "window": lambda: TokenWindow(*window),
            "persistence": lambda: CorrelatedWindow(*window, 0.6),
            "copying": lambda: CorrelatedWindow(*window, 0.6, "copying"),
            "noisy": lambda: NoisyVerifier(TokenWindow(*window), 0.9, 0.2),
        }[name]()
        theta = rng.normal(size=(30, 1))
    gap = problem.gradient_gap(theta)  # of each prompt, where several share theta
    direction = unit(rng.normal(size=gap.shape) + unit(gap))
    slope = np.sum(direction * gap, axis=-1)
    return problem, theta, direction * np.where(slope < 0, -1.0, 1.0)[..., None]


FAMILIES = (*KINDS, "window", "windows of a batch", "persistence", "copying", "noisy", "chain")
FAMILIES += ("overshooting",)


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=12, deadline=None)
@given(seed=seeds)
def test_no_guaranteed_step_loses(family, everywhere, seed):
    problem, theta, direction = some_problem(family, seed)
    found = thresholds.guaranteed(problem, theta, direction, everywhere=everywhere, finite=True)
    assert found.step.shape == direction.shape[:-1] and np.all(np.isfinite(found.step))
    rounding = 1e-9 * (1 + np.abs(problem.log_odds(theta)))
    for share in SHARES:
        gain = log_odds_gain(problem, theta, direction, share * found.step)
        assert np.all(gain >= -rounding)


@pytest.mark.parametrize("family", FAMILIES)
def test_among_restricts_and_all_together_are_the_largest(family):
    problem, theta, direction = some_problem(family, 5)
    whole = thresholds.guaranteed(problem, theta, direction)
    alone = {}
    for name in SINGLE:
        try:
            alone[name] = thresholds.guaranteed(problem, theta, direction, among=[name])
        except ValueError as error:  # it does not apply
            assert "among must name a bound for this" in str(error)
    assert {"two-sided", "success-rise", "failure-fall"} <= alone.keys()
    for name, one in alone.items():
        assert set(np.unique(one.theorem)) <= {name, "none"}
        assert np.all(one.step <= whole.step * (1 + 1e-9))
    # a segment that several bounds share has its points elsewhere than one of its own
    largest = np.max([one.step for one in alone.values()], axis=0)
    close = (whole.step >= 0.9 * largest) | np.isinf(whole.step)
    assert np.all(close)
    for name, one in alone.items():
        mine = whole.theorem == name
        assert np.all(one.step[mine] > 0)


@pytest.mark.parametrize("name", ["paper", "two-sided", "success-rise", "failure-fall"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_satisfies_the_bounds_of_its_own_segment(kind, name):
    problem, theta, direction = some_problem(kind, 7)
    found = thresholds.guaranteed(problem, theta, direction, among=[name])
    slope, odds = gap_alignment(problem, theta, direction), problem.log_odds(theta)
    bounds = found.bounds
    allowed = {
        "paper": lambda: thresholds.paper(slope, bounds.score_bound, bounds.score_lipschitz),
        "two-sided": lambda: thresholds.trajectory(
            slope, bounds.score_bound, bounds.score_lipschitz
        ),
        "success-rise": lambda: thresholds.success_rise(slope, odds, bounds.correct_bend),
        "failure-fall": lambda: thresholds.failure_fall(
            slope, odds, 1, bounds.token_range, bounds.wrong_bend, bounds.score_bound
        ),
    }[name]()
    assert np.all(found.step <= allowed * (1 + 1e-12)) and np.all(found.step > 0)
    for share in np.linspace(0, 1, 40):
        here = problem.local_regularity(theta + share * found.step[:, None] * direction, direction)
        for bound in ("score_bound", "score_lipschitz", "token_range", "variance"):
            assert np.all(getattr(here, bound) <= 1.3 * getattr(bounds, bound) + 1e-12)


def test_the_bounds_at_the_start_alone_are_not_enough():
    """The network of the chapter on regularity: its bounds grow along the segment."""
    pair, along = NetworkBandit([[1.0], [0.0]], [1.0, -3.0], [1, 0]), unit([5.0, 1.0])
    theta, here = np.zeros(2), NetworkBandit.local_regularity
    slope, bounds = gap_alignment(pair, theta, along), here(pair, theta, along)
    local = thresholds.trajectory(slope, bounds.score_bound, bounds.score_lipschitz)
    assert log_odds_gain(pair, theta, along, local) < 0
    safe = thresholds.guaranteed(pair, theta, along, among=["two-sided"])
    assert 0 < safe.step < local and log_odds_gain(pair, theta, along, safe.step) > 0


@pytest.mark.parametrize("everywhere", [False, True])
def test_the_mean_of_a_batch_of_windows_rises(everywhere):
    """Few tokens and many, so that one prompt has the variance and another the rare failures."""
    rng = np.random.default_rng(8)
    problem = WindowPrompts([9, 64, 6], [1, 1, 1], [8, 63, 5], rng.normal(size=(3, 4)), 0.9)
    theta = 2 * rng.normal(size=(400, 1, 4))
    log_odds, gap = problem.log_odds_and_gap(theta)
    pull = np.exp(log_expit(log_odds) + log_expit(-log_odds))
    direction = unit(np.sum(pull[..., None] * gap, axis=-2, keepdims=True))
    found = thresholds.guaranteed(problem, theta, direction, everywhere=everywhere)
    assert set(found.theorem.ravel()) == {"batch success-rise", "batch failure-fall"}
    for share in SHARES:
        after = problem.log_odds(theta + (share * found.step)[..., None] * direction)
        assert np.all(np.mean(expit(-after) - expit(-log_odds), axis=-1) <= 1e-15)


def test_a_response_that_only_a_long_step_brings_up_is_seen():
    """A wrong arm of probability 1e-4 takes over at a distance: the variance peaks there."""
    bandit = LogLinearBandit([[0.1], [0.0], [1.0]], [1, 0, 0], [0.0, 0.0, -8.0])
    theta, along = np.zeros(1), np.ones(1)
    step = thresholds.guaranteed(bandit, theta, along, among=["success-rise"]).step
    start, slope = bandit.log_odds(theta), gap_alignment(bandit, theta, along)
    far = thresholds.success_rise(slope, start, bandit.conditional_variance(theta, along))
    path = np.linspace(0, 1, 400)[:, None] * step
    largest = bandit.conditional_variance(path * along, along).max()
    assert step <= 1.2 * thresholds.success_rise(slope, start, largest) < far / 3


def test_nothing_limits_a_tabular_policy_along_its_gap():
    bandit, theta = TabularBandit([1, 0, 0]), np.array([0.0, 0.5, -0.5])
    found = thresholds.guaranteed(bandit, theta, bandit.gradient_gap(theta))
    assert np.isinf(found.step) and found.theorem == "failure law"
    limited = thresholds.guaranteed(bandit, theta, bandit.gradient_gap(theta), finite=True)
    assert 0 < limited.step < np.inf and limited.theorem != "failure law"


def test_bounds_that_hold_everywhere_give_the_printed_formulas():
    problem, theta, direction = some_problem("window", 3)
    slope, odds = gap_alignment(problem, theta, direction), problem.log_odds(theta)
    size = problem.length
    formulas = {
        "paper": thresholds.paper(slope, size, size / 4),
        "two-sided": thresholds.trajectory(slope, size, size / 4),
        "success-rise": thresholds.success_rise(slope, odds, size / 4),
        "failure-fall": thresholds.failure_fall(slope, odds, size, 1.0),
        "sharper logarithm": thresholds.sharper_failure_fall(slope, odds, size, 1.0),
        "angle": thresholds.angle(slope, odds, size, 1.0),
        "mean length": thresholds.mean_length_rise(slope, odds, size, 1.0),
        "conditional variance": thresholds.variance_local(slope, odds, size / 4, 1.0),
        "log-linear": thresholds.log_linear(slope, problem.wrong_feature_range(direction)),
    }
    for name, formula in formulas.items():
        found = thresholds.guaranteed(problem, theta, direction, among=[name], everywhere=True)
        assert found.step == pytest.approx(formula, rel=1e-12), name
    whole = thresholds.guaranteed(problem, theta, direction, everywhere=True)
    assert whole.step == pytest.approx(np.max(list(formulas.values()), axis=0), rel=1e-12)


def test_estimates_take_the_place_of_alignment_and_log_odds():
    problem, theta, direction = some_problem("window", 4)
    known = {"alignment": np.full(30, 0.7), "log_odds": np.full(30, 1.5), "everywhere": True}
    found = thresholds.guaranteed(problem, theta, direction, among=["failure-fall"], **known)
    expected = thresholds.failure_fall(0.7, 1.5, problem.length, 1.0)
    assert found.step == pytest.approx(np.full(30, expected))
    lost = thresholds.guaranteed(problem, theta, direction, **known | {"alignment": -1.0})
    assert np.all(lost.step == 0) and np.all(lost.theorem == "none")


def test_a_perturbed_theorem_is_the_one_that_guarantees(monkeypatch):
    """Negative control: the rule calls the theorems, so that a wrong one is felt."""
    problem, theta, direction = some_problem("network", 11)
    monkeypatch.setattr(thresholds, "trajectory", lambda slope, *bounds: 50 * slope)
    found = thresholds.guaranteed(problem, theta, direction, among=["two-sided"])
    gain = log_odds_gain(problem, theta, direction, 0.999 * found.step)
    assert np.any(gain < 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"among": []}, "among must be one or more of paper, two-sided, .*, got \\[\\]"),
        ({"among": ["two sided"]}, "among must be one or more of .*, got \\['two sided'\\]"),
        ({"among": "two-sided"}, "among must be one or more of .*, got 'two-sided'"),
        ({"among": ["log-linear"]}, "among must name a bound for this NetworkBandit: one or more"),
        ({"num_points": 1}, "num_points must be at least 2"),
        ({"direction": [0.0, 0.0]}, "direction must be finite and of positive length"),
    ],
)
def test_what_guaranteed_cannot_take(options, message):
    pair, theta = NetworkBandit([[1.0], [0.0]], [1.0, -3.0], [1, 0]), np.zeros(2)
    arguments = {"direction": [1.0, 0.0]} | options
    with pytest.raises(ValueError, match=message) as caught:
        thresholds.guaranteed(pair, theta, **arguments)
    assert "\n" not in str(caught.value)


def test_random_lengths():
    """All responses of one length: the best mu is 2 log(2/F) / T and V = R^2 T log(2/F)."""
    log_odds, length, width = 5.0, 12, 0.7
    law = np.eye(length)[-1]
    failure = expit(-log_odds)
    step = thresholds.random_length(0.3, log_odds, law, width)
    expected = 2 * expit(log_odds) * 0.3 / (width**2 * length * np.log(2 / failure))
    assert step == pytest.approx(expected, rel=1e-6)
    assert thresholds.random_length([0.3, -0.1, 0.6], log_odds, law, width) == pytest.approx(
        [expected, 0, 2 * expected], rel=1e-6
    )
    # the cap does not matter where lengths have thin tails: here those of a Poisson law
    counts = np.arange(1, 81)
    poisson = np.exp(counts * np.log(4) - 4 - gammaln(counts + 1))
    long, short = (thresholds.random_length(1.0, 3.0, poisson[:n], 1.0) for n in (80, 50))
    assert long == pytest.approx(short, rel=1e-9) and long > 0
    assert thresholds.random_length(1.0, 0.5, poisson, 1.0) == 0  # F is above 2/e^2
