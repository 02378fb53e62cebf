"""Every theorem on random autoregressive trees, by enumeration: no violation in 2,000.

A response is a path through a tree: every past has logits of its own, linear in theta, over two
tokens and a stop token. Nothing is Markov, nothing is log-linear. The trees run as one stack and
share no code with the library's problems.
"""

from functools import cache

import numpy as np
import pytest
from scipy.special import expit, log_expit, log_softmax, logsumexp

from rlvrlib import thresholds

TREES, DEPTH, DIM = 2000, 4, 3
SHARES = np.array([0.05, 0.3, 0.5, 0.8, 0.999])
ROUNDING = 1e-11


@cache
def paths():
    """Which (node, token) pairs lie on each response, shape ``(responses, nodes, 3)``."""
    nodes, found = {}, []

    def extend(past, used):
        node = nodes.setdefault(past, len(nodes))
        for token in range(3):
            taken = (*used, (node, token))
            if token == 2 or len(past) == DEPTH - 1:
                found.append(taken)
            else:
                extend((*past, token), taken)

    extend((), ())
    table = np.zeros((len(found), len(nodes), 3))
    for row, used in enumerate(found):
        for pair in used:
            table[row][pair] = 1
    return table


@cache
def forest():
    """Features of every token after every past, base logits, rewards, parameters and unit
    directions of all the trees.
    """
    rng = np.random.default_rng(2000)
    responses, nodes, _ = paths().shape
    scale = np.exp(rng.uniform(-1.5, 1.5, size=(TREES, 1, 1, 1)))
    features = scale * rng.normal(size=(TREES, nodes, 3, DIM))
    base = 2 * rng.normal(size=(TREES, nodes, 3))
    rewards = rng.uniform(size=(TREES, responses)) < rng.uniform(0.03, 0.97, size=(TREES, 1))
    rewards[:, 0], rewards[:, -1] = True, False
    rewards = rng.permuted(rewards, axis=1)
    return features, base, rewards, rng.normal(size=(TREES, DIM))


def log_probabilities(theta):
    features, base, _, _ = forest()
    tokens = log_softmax(base + np.einsum("bnvd,...bd->...bnv", features, theta), axis=-1)
    return np.einsum("rnv,...bnv->...br", paths(), tokens)


def log_odds(theta):
    law, right = log_probabilities(theta), forest()[2]
    return logsumexp(np.where(right, law, -np.inf), axis=-1) - logsumexp(
        np.where(right, -np.inf, law), axis=-1
    )


@cache
def facts():
    """Log-odds, gap, a unit direction that is roughly along it, alignment and token range."""
    features, base, right, theta = forest()
    tokens = np.exp(log_softmax(base + np.einsum("bnvd,bd->bnv", features, theta), axis=-1))
    centred = features - np.einsum("bnv,bnvd->bnd", tokens, features)[:, :, None]
    scores = np.einsum("rnv,bnvd->brd", paths(), centred)
    law = log_probabilities(theta)
    weights = [
        np.exp(law - logsumexp(np.where(side, law, -np.inf), axis=1, keepdims=True)) * side
        for side in (right, ~right)
    ]
    gap = np.einsum("br,brd->bd", weights[0] - weights[1], scores)
    direction = gap / np.linalg.norm(gap, axis=1, keepdims=True)
    direction = direction + 0.7 * np.random.default_rng(1).normal(size=direction.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction *= np.sign(np.sum(direction * gap, axis=1, keepdims=True))
    token_range = np.max(np.ptp(np.einsum("bnvd,bd->bnv", features, direction), axis=2), axis=1)
    return log_odds(theta), gap, direction, np.sum(direction * gap, axis=1), token_range


def gains(steps):
    """Gain in log-odds at each share of the steps, shape ``(shares, trees)``."""
    theta, direction = forest()[3], facts()[2]
    return log_odds(theta + (SHARES[:, None] * steps)[..., None] * direction) - facts()[0]


def test_the_gap_is_the_gradient_of_the_log_odds():
    theta, (_, _, direction, slope, _) = forest()[3], facts()
    difference = (log_odds(theta + 1e-5 * direction) - log_odds(theta - 1e-5 * direction)) / 2e-5
    assert difference == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(
    "threshold",
    [
        lambda l, slope, spread: thresholds.paper(slope, DEPTH * spread, DEPTH * spread**2 / 4),
        lambda l, slope, spread: thresholds.trajectory(
            slope, DEPTH * spread, DEPTH * spread**2 / 4
        ),
        lambda l, slope, spread: thresholds.success_rise(slope, l, DEPTH * spread**2 / 4),
        lambda l, slope, spread: thresholds.failure_fall(slope, l, DEPTH, spread),
        lambda l, slope, spread: thresholds.sharper_failure_fall(slope, l, DEPTH, spread),
        lambda l, slope, spread: thresholds.angle(slope, l, DEPTH, spread),
    ],
    ids=["1", "1'", "4", "3'", "sharper", "angle"],
)
def test_below_a_threshold_the_log_odds_rise(threshold):
    odds, _, _, slope, spread = facts()
    steps = threshold(odds, slope, spread)
    assert np.all(np.isfinite(steps) & (steps > 0))
    assert np.min(gains(steps)) >= -ROUNDING


def test_a_threshold_that_is_too_long_is_seen():
    """Negative control: four times the largest of the theorems loses on some tree."""
    odds, _, _, slope, spread = facts()
    longest = np.maximum(
        thresholds.failure_fall(slope, odds, DEPTH, spread),
        thresholds.success_rise(slope, odds, DEPTH * spread**2 / 4),
    )
    assert np.min(gains(4 * longest)) < -1e-6


def test_the_two_sided_bound_holds_on_both_sides():
    _, _, _, slope, spread = facts()
    half = thresholds.trajectory(slope, DEPTH * spread, DEPTH * spread**2 / 4) / 2
    first_order, gain = SHARES[:, None] * half * slope, gains(half)
    assert np.all(gain >= first_order / 2 - ROUNDING) and np.all(
        gain <= 1.5 * first_order + ROUNDING
    )


def test_failure_fall_and_success_rise_as_printed():
    """The bounds on the rates themselves, and not only their sign."""
    odds, _, _, slope, spread = facts()
    success, failure, variance = expit(odds), expit(-odds), DEPTH * spread**2 / 4
    steps = SHARES[:, None] * thresholds.failure_fall(slope, odds, DEPTH, spread)
    cap = np.minimum(1, 2 * failure * np.log(2 * np.e / failure))
    after = expit(-odds - gains(thresholds.failure_fall(slope, odds, DEPTH, spread)))
    assert np.all(
        after
        <= failure - success * failure * slope * steps + variance * cap * steps**2 / 2 + ROUNDING
    )
    steps = SHARES[:, None] * thresholds.success_rise(slope, odds, variance)
    after = log_expit(odds + gains(thresholds.success_rise(slope, odds, variance)))
    assert np.all(
        after >= np.log(success) + failure * slope * steps - variance * steps**2 / 2 - ROUNDING
    )


@pytest.mark.parametrize("mirror", [False, True])
def test_batch_bounds_on_batches_of_trees(mirror):
    """Trees as prompts, 20 in a batch, each with its own parameters: one vector of all of them, and
    one common direction.
    """
    odds, _, _, slope, spread = (value.reshape(-1, 20, *value.shape[1:]) for value in facts())
    rng = np.random.default_rng(5)
    weights = rng.dirichlet(np.ones(20), size=len(odds))
    part = rng.normal(size=odds.shape)
    part /= np.linalg.norm(
        part, axis=1, keepdims=True
    )  # how the common unit vector splits over the prompts
    signed, width = part * slope, np.abs(part) * spread
    signed *= np.where(np.sum(weights * expit(odds) * expit(-odds) * signed, axis=1) > 0, 1, -1)[
        :, None
    ]
    sign = np.sign(signed * slope) * np.abs(part)
    if mirror:
        steps = thresholds.batch_failure_fall(
            signed, odds, DEPTH, width.max(axis=1), weights=weights
        )
    else:
        steps = thresholds.batch_success_rise(signed, odds, DEPTH * width**2 / 4, weights)
    assert np.all(steps > 0)
    gain = _signed_gains(steps[:, None] * sign)
    change = np.sum(weights * (expit(odds + gain.reshape(-1, *odds.shape)) - expit(odds)), axis=-1)
    assert np.min(change) >= -ROUNDING


def _signed_gains(moves):
    theta, direction = forest()[3], facts()[2]
    moves = SHARES[:, None] * moves.reshape(-1)
    return log_odds(theta + moves[..., None] * direction) - facts()[0]
