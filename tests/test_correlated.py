"""Correlated tokens against enumeration and against two other solvers, and the thresholds from
conditional variances.
"""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm
from test_tokens import random_chain, responses

from rlvrlib import CorrelatedWindow, MarkovTokens, TokenWindow, log_odds_gain, thresholds
from rlvrlib.correlated import MECHANISMS, count_spread, limit_step

seeds = st.integers(0, 2**32 - 1)
UP = np.ones(1)


def token_laws(theta, correlation, mechanism):
    """``P(1 | start), P(1 | 0), P(1 | 1)`` as defined; shares no code with the library."""
    fresh = 1 / (1 + np.exp(-theta))
    if mechanism == "copying":
        return fresh, (1 - correlation) * fresh, correlation + (1 - correlation) * fresh
    bias = np.log((1 + correlation) / (1 - correlation))
    return fresh, 1 / (1 + np.exp(-(theta - bias))), 1 / (1 + np.exp(-(theta + bias)))


def enumerated(window, theta):
    """Log-probability of each token of each response, shape (2^T, T), and the responses."""
    laws = token_laws(theta, window.correlation, window.mechanism)
    words = np.array(list(product([0, 1], repeat=window.length)))
    ones = np.where(words[:, :-1] == 1, laws[2], laws[1])
    ones = np.concatenate([np.full((len(words), 1), laws[0]), ones], axis=1)
    return np.log(np.where(words == 1, ones, 1 - ones)), words


def random_window(rng):
    length = int(rng.integers(1, 9))
    low = int(rng.integers(0, length + 1))
    high = int(rng.integers(low, length + 1))
    if high - low == length:
        high -= 1
    return CorrelatedWindow(length, low, high, rng.uniform(0, 0.98), MECHANISMS[rng.integers(2)])


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_log_odds_gap_and_curvature_against_enumeration(seed):
    rng = np.random.default_rng(seed)
    window, theta, h = random_window(rng), rng.normal(), 1e-4

    def log_odds(point):
        logs, words = enumerated(window, point)
        probability, count = np.exp(logs.sum(axis=1)), words.sum(axis=1)
        right = (count >= window.low) & (count <= window.high)
        return np.log(probability[right].sum() / probability[~right].sum())

    at = np.array([theta])
    below, here, above = (log_odds(theta + shift) for shift in (-h, 0, h))
    assert window.log_odds(at) == pytest.approx(here, rel=1e-11, abs=1e-11)
    assert window.gradient_gap(at)[0] == pytest.approx(
        (above - below) / (2 * h), rel=1e-5, abs=1e-5
    )
    assert window.curvature(at, 2 * UP) == pytest.approx(
        -4 * (above - 2 * here + below) / h**2, rel=1e-4, abs=1e-4
    )
    logs, words = enumerated(window, theta)
    law = np.bincount(words.sum(axis=1), np.exp(logs.sum(axis=1)), minlength=window.length + 1)
    assert window.count_law(at) == pytest.approx(law, rel=1e-11)


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_conditional_variance_and_bounds_against_enumeration(seed):
    rng = np.random.default_rng(seed)
    window, theta, h = random_window(rng), rng.normal(), 1e-4
    laws = np.array(
        [token_laws(theta + shift, window.correlation, window.mechanism) for shift in (-h, 0, h)]
    )
    slope = (laws[2] - laws[0]) / (2 * h)
    variance = slope**2 / (
        laws[1] * (1 - laws[1])
    )  # of the token score, after the start, a zero and a one
    _, words = enumerated(window, theta)
    sums = variance[0] + variance[1 + words[:, :-1]].sum(axis=1)
    assert window.conditional_variance(np.array([theta]), UP) == pytest.approx(sums.max(), rel=1e-6)
    low, here, high = (enumerated(window, theta + shift)[0] for shift in (-h, 0, h))
    scores, bends = (high - low) / (2 * h), (high - 2 * here + low) / h**2
    bounds = window.regularity(UP)
    assert np.max(np.abs(scores)) <= bounds.token_range + 1e-6
    assert np.max(np.abs(bends)) <= bounds.token_lipschitz + 1e-5
    for after in slope / laws[1] + slope / (1 - laws[1]):  # the score of a one less that of a zero
        assert after <= bounds.token_range + 1e-6


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_independent_tokens_are_the_token_window(mechanism):
    ours, plain = CorrelatedWindow(300, 140, 170, 0.0, mechanism), TokenWindow(300, 140, 170)
    theta = np.array([[-0.5], [0.0], [0.3]])
    assert ours.log_odds(theta) == pytest.approx(plain.log_odds(theta), rel=1e-11)
    assert ours.gradient_gap(theta) == pytest.approx(plain.gradient_gap(theta), rel=1e-9)
    assert ours.curvature(theta, UP) == pytest.approx(plain.curvature(theta, UP), rel=1e-8)


def test_persistence_is_a_markov_chain():
    length, low, high, correlation = 40, 16, 27, 0.7
    window = CorrelatedWindow(length, low, high, correlation)
    bias = np.log((1 + correlation) / (1 - correlation))
    base = np.array(
        [[0.0, -bias, -np.inf], [0.0, bias, -np.inf], [0.0, 0.0, 0.0], [0.0, 0.0, -np.inf]]
    )
    features = np.zeros((4, 3, 1))
    features[:, 1] = 1.0
    counting = np.minimum(np.arange(length + 1)[:, None] + [0, 1, 0], length)
    accepting = (np.arange(length + 1) >= low) & (np.arange(length + 1) <= high)
    chain = MarkovTokens(base, features, 2, length, counting, accepting, accept_at_cap=True)
    for theta in (np.array([-0.4]), np.array([0.1])):
        assert window.log_odds(theta) == pytest.approx(chain.log_odds(theta), rel=1e-11)
        assert window.gradient_gap(theta) == pytest.approx(chain.gradient_gap(theta), rel=1e-9)
        assert window.curvature(theta, UP) == pytest.approx(chain.curvature(theta, UP), rel=1e-8)
        assert window.conditional_variance(theta, UP) == pytest.approx(
            chain.conditional_variance(theta, UP), rel=1e-12
        )
        assert window.transitions(theta) == pytest.approx(
            chain.transitions(theta)[[0, 1, 3], :2], rel=1e-12
        )


def test_tails_keep_their_digits():
    """All 500 tokens ones: one response, whose probability is known."""
    theta, correlation = np.array([-0.3]), 0.2
    window = CorrelatedWindow(500, 500, 500, correlation)
    start, _, after_one = token_laws(theta[0], correlation, "persistence")
    assert window.log_odds(theta) == pytest.approx(
        np.log(start) + 499 * np.log(after_one), rel=1e-12
    )


@pytest.mark.parametrize("correlation", [0.0, 0.4, 0.9])
def test_marginals_and_correlations_are_as_promised(correlation):
    for mechanism, theta in (("copying", 0.8), ("copying", 0.0), ("persistence", 0.0)):
        logs, words = enumerated(CorrelatedWindow(7, 3, 4, correlation, mechanism), theta)
        probability = np.exp(logs.sum(axis=1))
        mean = probability @ words
        assert mean == pytest.approx(expit(theta), rel=1e-12)
        covariance = (
            (words - mean).T
            @ ((words - mean) * probability[:, None])
            / (expit(theta) * expit(-theta))
        )
        distance = np.abs(np.subtract.outer(np.arange(7), np.arange(7)))
        assert covariance == pytest.approx(correlation**distance, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_longest_path_of_a_chain_against_enumeration(seed):
    chain, theta, direction = random_chain(np.random.default_rng(seed))
    moves = chain.transitions(theta)
    along = chain.features @ direction
    mean = np.sum(moves * along, axis=1)
    variance = np.sum(moves * (along - mean[:, None]) ** 2, axis=1)

    def longest(last, length):
        if length == chain.max_length:
            return 0.0
        after = [token for token in range(moves.shape[1]) if np.isfinite(chain.base[last, token])]
        return variance[last] + max(
            0.0 if token == chain.stop else longest(token, length + 1) for token in after
        )

    assert chain.conditional_variance(theta, direction) == pytest.approx(
        longest(moves.shape[1], 0), rel=1e-12
    )
    probability, score, _, _ = responses(chain, theta)
    assert probability @ (score @ direction) ** 2 <= chain.conditional_variance(
        theta, direction
    ) * (1 + 1e-12)


@settings(max_examples=200, deadline=None)
@given(seed=seeds)
def test_every_step_below_the_local_threshold_improves(seed):
    """On random chains with a stop token, whose tokens have several parameters."""
    chain, theta, direction = random_chain(np.random.default_rng(seed))
    slope = float(chain.gradient_gap(theta) @ direction)
    direction, slope = direction * np.sign(slope or 1), abs(slope)
    variance, spread = (
        chain.conditional_variance(theta, direction),
        chain.regularity(direction).token_range,
    )
    step = thresholds.variance_local(slope, chain.log_odds(theta), variance, spread)
    if np.isfinite(step):
        for share in (0.1, 0.5, 0.9, 0.999):
            assert log_odds_gain(chain, theta, direction, share * step) >= -1e-10


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_conditional_variances_grow_at_most_exponentially(seed):
    """The lemma behind the local threshold: ``V(theta + t w) <= exp(R_p t) V(theta)`` for linear
    logits.
    """
    rng = np.random.default_rng(seed)
    chain, theta, direction = random_chain(rng)
    time, spread = rng.exponential(), chain.regularity(direction).token_range
    grown = chain.conditional_variance(theta + time * direction, direction)
    assert grown <= np.exp(spread * time) * chain.conditional_variance(theta, direction) * (
        1 + 1e-12
    )


@settings(max_examples=100, deadline=None)
@given(seed=seeds)
def test_second_moment_on_a_rare_event(seed):
    """``E[1_A s^2] <= Phi_V(P(A))`` for the worst event: the responses with the largest squared
    scores.
    """
    rng = np.random.default_rng(seed)
    chain, theta, direction = random_chain(rng)
    probability, score, _, _ = responses(chain, theta)
    square = (score @ direction) ** 2
    order = np.argsort(-square)
    mass, moment = np.cumsum(probability[order]), np.cumsum((probability * square)[order])
    mass = np.minimum(mass, 1.0)
    variance, spread = (
        chain.conditional_variance(theta, direction),
        chain.regularity(direction).token_range,
    )
    level = np.log(2 / mass)
    bound = np.minimum(variance, mass * (np.sqrt(2 * variance * level) + spread * level / 3) ** 2)
    assert np.all(moment <= bound * (1 + 1e-10) + 1e-12)


@pytest.mark.parametrize("correlation", [0.0, 0.4, 0.9])
def test_windows_around_the_mean(correlation):
    length, counts = 40, np.arange(41)
    for mechanism in MECHANISMS:
        window = CorrelatedWindow.around(length, correlation, mechanism, 0.7, 0.3)
        unit = np.sqrt(window.count_law([0.0]) @ (counts - 20) ** 2)
        inside = np.abs(counts - 20 - 0.3 * unit) <= 0.7 * unit
        assert counts[inside][[0, -1]].tolist() == [window.low, window.high]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("offset", [0.0, 0.4])
def test_limit_of_the_exact_step_of_many_decisions(mechanism, offset):
    """On a long response, with the failure rate and the offset that the window has itself."""
    window = CorrelatedWindow.around(4000, 0.5, mechanism, 1.5, offset)
    log_odds, variance = window.log_odds([0.0]), window.conditional_variance([0.0], UP)
    aside = (window.low + window.high - 4000) / 2 / count_spread(4000, 0.5)
    step = (
        thresholds.exact(window, [0.0], UP) / window.gradient_gap([0.0])[0]
        if offset
        else 2 / window.curvature([0.0], UP)
    )
    assert step * variance == pytest.approx(limit_step(expit(-log_odds), aside), rel=0.01)


def test_limit_step_by_hand():
    """The summit has the curvature ``2 u phi(u) / (J F)``; an offset has a sign to choose."""
    u = 1.7
    failure = 2 * norm.sf(u)
    summit = failure * (1 - failure) / (u * norm.pdf(u))
    assert limit_step(failure) == pytest.approx(summit, rel=1e-9)
    assert limit_step(failure, 1e-6) == pytest.approx(summit, rel=1e-9)
    failure = norm.sf(u - 0.3) + norm.sf(u + 0.3)
    slope = (norm.pdf(0.3 - u) - norm.pdf(0.3 + u)) / (failure * (1 - failure))
    assert limit_step([failure], [0.3, -0.3]) == pytest.approx([0.6 / slope] * 2, rel=1e-9)
    assert limit_step(1e-300) > 0


def test_variance_thresholds_by_hand():
    """The formulas written out, at a large, a middle and a small failure rate."""
    for failure in (0.6, 0.1, 1e-9):
        log_odds, level = np.log1p(-failure) - np.log(failure), np.log(2 / failure)
        for variance, spread, bend in ((3.0, 1.0, 0.0), (0.2, 2.0, 0.7)):
            phi = min(variance, failure * (np.sqrt(2 * variance * level) + spread * level / 3) ** 2)
            fall = 2 * (1 - failure) * failure * 1.5 / (bend * failure + phi)
            assert thresholds.variance_fall(1.5, log_odds, variance, spread, bend) == pytest.approx(
                fall, rel=1e-12
            )
            inner = 2 * failure * 1.5 * max(1 / variance, (1 - failure) / phi)
            local = np.log(1 + spread * inner) / spread
            assert thresholds.variance_local(1.5, log_odds, variance, spread) == pytest.approx(
                local, rel=1e-12
            )


def test_limits_of_the_variance_thresholds():
    assert (
        thresholds.variance_fall(-1.0, 0.0, 1.0, 1.0)
        == thresholds.variance_local(-1.0, 0.0, 1.0, 1.0)
        == 0
    )
    assert thresholds.variance_local(1.0, 0.0, 0.0, 0.0) == np.inf
    assert thresholds.variance_local(1.0, 0.0, 2.0, 0.0) == pytest.approx(0.5)  # 2 F dmu / V
    assert thresholds.variance_local(1.0, 2000.0, 1.0, 1.0) > 0  # a failure rate that underflows
    assert (
        thresholds.variance_local(1.0, 0.0, np.inf, 1.0)
        == thresholds.variance_local(1.0, 0.0, 1.0, np.inf)
        == 0
    )
    assert (
        thresholds.variance_local(1.0, 0.0, 0.0, 1.0)
        == thresholds.variance_fall(1.0, 0.0, 0.0, 0.0)
        == np.inf
    )
    small = thresholds.variance_local(1e-9, 1.0, 2.0, 1.0)
    assert small == pytest.approx(
        max(thresholds.variance_fall(1e-9, 1.0, 2.0, 1.0), thresholds.success_rise(1e-9, 1.0, 2.0)),
        rel=1e-8,
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CorrelatedWindow(0, 0, 0, 0.5), "length must be at least 1"),
        (lambda: CorrelatedWindow(8, 5, 4, 0.5), "low and high must leave"),
        (lambda: CorrelatedWindow(8, 0, 8, 0.5), "low and high must leave"),
        (lambda: CorrelatedWindow(8, -1, 3, 0.5), "low must be at least 0"),
        (lambda: CorrelatedWindow(8, 2, 4, 1.0), "correlation must be in"),
        (lambda: CorrelatedWindow(8, 2, 4, -0.1), "correlation must be in"),
        (
            lambda: CorrelatedWindow(8, 2, 4, 0.5, "common"),
            "mechanism must be one of persistence, copying",
        ),
        (
            lambda: CorrelatedWindow(8, 2, 4, 0.5).log_odds(np.zeros(2)),
            "theta must have last axis 1",
        ),
        (
            lambda: CorrelatedWindow.around(8, 0.5, "copying", 3.0),
            "half_width and offset must leave correct counts, and wrong ones",
        ),
        (
            lambda: CorrelatedWindow.around(9, 0.0, "copying", 0.1),
            "half_width and offset must leave correct counts, and wrong ones",
        ),
        (lambda: limit_step(0.0), "failure_rate must be in"),
        (lambda: limit_step(0.5, np.inf), "offset must be finite"),
        (lambda: thresholds.variance_fall(1.0, 0.0, -1.0, 1.0), "variance must be non-negative"),
        (
            lambda: thresholds.variance_local(1.0, 0.0, 1.0, -1.0),
            "token_range must be non-negative",
        ),
        (lambda: thresholds.variance_local(1.0, np.inf, 1.0, 1.0), "log_odds must be finite"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("mechanism", ["persistence", "copying"])
def test_the_spread_of_the_number_of_ones(mechanism):
    for length, correlation in ((1, 0.3), (7, 0.0), (12, 0.8)):
        law = CorrelatedWindow(length, 0, 0, correlation, mechanism).count_law([0.0])
        counts = np.arange(length + 1)
        variance = law @ counts**2 - (law @ counts) ** 2
        assert count_spread(length, correlation) == pytest.approx(np.sqrt(variance))
    assert count_spread([4, 9], 0.0) == pytest.approx([1.0, 1.5])
