"""The bounds without the cap, the tail entry, the token failure law and the angle bound for smooth
policies: no violation on 10,000 random trees with linear and 10,000 with network logits, none found
by an optimizer.
"""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import differential_evolution
from scipy.special import log_softmax, logsumexp
from smooth_trees import DEPTH, at, paths, random_trees, widest

from rlvrlib import thresholds
from rlvrlib.first_zero import least_cumulant

TREES, CHUNK = 10_000, 2_000
ROUNDING = 1e-10


@cache
def here(kind):
    """All trees, by chunks, with what is known of them at 0; the line runs uphill."""
    found = []
    for seed in range(TREES // CHUNK):
        trees = random_trees(kind, CHUNK, np.random.default_rng([seed, len(kind)]))
        trees.b *= np.sign(at(trees, 0.0).slope)[:, None, None]
        found.append((trees, at(trees, 0.0)))
    return found


def over_the_bounds(now, linear):
    """What the proofs bound over what bounds it: at most 1."""
    spread = now.success * now.failure
    turn = -now.success * now.success_bend / np.sqrt(spread)
    turn -= np.sqrt(spread) * (2 * now.success - 1) * now.slope**2 / 2
    size = DEPTH, now.token_range
    beta = thresholds.angle_bend(*size, *(() if linear else (now.bend_range, now.correct_bend)))
    # the failure-fall bound's threshold of no bend is 2 J dmu over the moment of the wrong scores
    fall = thresholds.failure_fall(now.slope, now.log_odds, *size, 0.0, now.score_bound)
    moment = 2 * now.success * now.slope / fall
    mean = now.token_range**2 * now.mean_length / 4
    ratios = {
        "tail entry": now.wrong_square / moment,
        "mean length": now.square / mean,
        "angle": turn / beta,
    }
    if linear:
        correct = now.token_range**2 * now.correct_mean_length / 4
        ratios["mean length of the correct"] = -now.log_success_bend / correct
    return ratios


@pytest.mark.parametrize("kind", ["linear", "network"])
def test_what_the_proofs_bound_is_bounded(kind):
    for _, now in here(kind):
        for name, ratio in over_the_bounds(now, kind == "linear").items():
            print(kind, name, np.max(ratio))
            assert np.max(ratio) <= 1 + ROUNDING, name
            assert np.max(ratio) > 0.1, name  # within a factor of 10 on some tree


RULES = {
    "failure-fall": lambda now, b, l: thresholds.failure_fall(
        now, l, DEPTH, b.token_range, b.wrong_bend, b.score_bound
    ),
    "sharper": lambda now, b, l: thresholds.sharper_failure_fall(
        now, l, DEPTH, b.token_range, b.wrong_bend, b.score_bound
    ),
    "mean length falls": lambda now, b, l: thresholds.mean_length_fall(
        now, l, b.mean_length, b.token_range, b.wrong_bend
    ),
    "angle": lambda now, b, l: thresholds.angle(
        now, l, DEPTH, b.token_range, b.bend_range, b.correct_bend
    ),
}


def smallest_gain(trees, start, rule, times=1.0):
    """Smallest gain at a step as long as the bounds on its own segment allow, over its first order;
    segments are looked at on a grid up to what the bounds at the start allow.
    """
    grid = np.linspace(0, 1, 17)[:, None] ** 1.5
    first = rule(start.slope, start, start.log_odds)
    now = at(trees, grid * np.minimum(first, 1e3))
    allowed = rule(start.slope, widest(now), start.log_odds)
    good = np.logical_and.accumulate(grid * first <= allowed, axis=0)
    last = good.sum(axis=0) - 1
    step = np.take_along_axis(np.broadcast_to(grid * first, good.shape), last[None], axis=0)[0]
    shares = times * np.array([[0.3], [0.7], [0.999]])
    gain = at(trees, shares * step).log_odds - start.log_odds
    return np.min(gain / (1 + np.abs(start.log_odds)))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("kind", ["linear", "network"])
def test_below_the_threshold_the_success_rate_rises(kind, name):
    assert min(smallest_gain(*chunk, RULES[name]) for chunk in here(kind)) >= -ROUNDING


def test_the_mean_length_of_the_correct_responses_is_enough_for_linear_logits():
    def rule(slope, bounds, log_odds):
        size = bounds.correct_mean_length, bounds.token_range
        return thresholds.mean_length_rise(slope, log_odds, *size)

    assert min(smallest_gain(*chunk, rule) for chunk in here("linear")) >= -ROUNDING


def test_thresholds_that_are_too_long_are_seen():
    """Negative controls: six times each threshold loses on some tree, and a constant of half the
    size is not a bound.
    """
    for rule in RULES.values():
        assert min(smallest_gain(*here(kind)[0], rule, 6.0) for kind in ("linear", "network")) < 0
    for name, wrong in {
        "tail entry": lambda now: now.wrong_square / (now.score_bound**2 / 2),
        "mean length": lambda now: now.square / (now.token_range**2 * now.mean_length / 8),
    }.items():
        assert max(np.max(wrong(now)) for _, now in here("network")) > 1, name


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("linear", "tail entry"),
        ("linear", "mean length"),
        ("linear", "mean length of the correct"),
        ("network", "tail entry"),
        ("network", "mean length"),
        ("network", "angle"),
    ],
)
def test_an_optimizer_finds_no_violation(kind, name):
    """It sets every weight and which responses are correct, and climbs the ratio to the bound."""
    responses, pairs = paths().shape
    units = 1 if kind == "linear" else 2
    shape = 3, pairs, units

    def ratio(points):
        weights, verdicts = np.split(points.T, [3 * pairs * units], axis=1)
        v, c, b = np.moveaxis(weights.reshape(-1, *shape), 1, 0)
        right = verdicts > 0
        right[:, 0], right[:, -1] = True, False
        trees = SimpleNamespace(kind=kind, v=v, c=3 * c, b=b, right=right)
        now = at(trees, 0.0)
        if np.any(down := now.slope < 0):
            trees.b = np.where(down[:, None, None], -b, b)
            now = at(trees, 0.0)
        return -over_the_bounds(now, kind == "linear")[name]

    found = differential_evolution(
        ratio,
        [(-2, 2)] * (3 * pairs * units + responses),
        maxiter=60,
        popsize=4,
        rng=7,
        polish=False,
        vectorized=True,
        updating="deferred",
    )
    print(kind, name, -found.fun)
    assert 0.4 < -found.fun <= 1 + ROUNDING


def failure_over_its_law(trees, eta):
    """``F`` after a step over what the token failure law allows, shape ``(trees,)``; each past has
    a variance and a largest fall of its own.
    """
    tokens = log_softmax((trees.v * trees.c)[..., 0].reshape(len(trees.v), -1, 3), axis=-1)
    slope = (trees.v * trees.b)[..., 0].reshape(tokens.shape)
    score = slope - np.sum(np.exp(tokens) * slope, axis=-1, keepdims=True)
    variance = np.sum(np.exp(tokens) * score**2, axis=-1)
    brake = least_cumulant(eta[:, None], np.max(-score, axis=-1), variance)
    tilt = (eta[:, None, None] * score - brake[..., None] + tokens).reshape(len(eta), -1)
    allowed = logsumexp(np.where(trees.right, -np.inf, tilt @ paths().T), axis=-1)
    after = at(trees, eta)
    return np.log(after.failure) - allowed


def test_the_failure_rate_is_below_the_token_failure_law():
    """At steps of every length, whether they gain or lose; sharp where tokens have two values."""
    rng = np.random.default_rng(12)
    for trees, start in here("linear"):
        eta = 10 ** rng.uniform(-2, 1.5, CHUNK) / start.token_range
        excess = failure_over_its_law(trees, eta)
        assert np.max(excess) <= 1e-9 and np.min(excess) < -0.1
        pair = np.array(trees.v)
        pair.reshape(CHUNK, -1, 3, 1)[:, :, 1] = pair.reshape(CHUNK, -1, 3, 1)[:, :, 0]
        two = SimpleNamespace(**vars(trees) | {"v": pair})
        for name in ("c", "b"):  # the first two tokens of a past are alike
            value = np.array(getattr(trees, name))
            value.reshape(CHUNK, -1, 3, 1)[:, :, 1] = value.reshape(CHUNK, -1, 3, 1)[:, :, 0]
            setattr(two, name, value)
        assert np.max(np.abs(failure_over_its_law(two, eta))) < 1e-6


def test_an_optimizer_finds_no_failure_rate_above_the_token_failure_law():
    responses, pairs = paths().shape

    def lacking(points):
        weights, verdicts, last = np.split(points.T, [2 * pairs, 2 * pairs + responses], axis=1)
        c, b = np.moveaxis(weights.reshape(-1, 2, pairs, 1), 1, 0)
        right = verdicts > 0
        right[:, 0], right[:, -1] = True, False
        trees = SimpleNamespace(kind="linear", v=1 + 0 * c, c=2 * c, b=b, right=right)
        return -failure_over_its_law(trees, 10 ** last[:, 0])

    box = [(-2, 2)] * (2 * pairs + responses) + [(-1, 1)]
    options = {"maxiter": 60, "popsize": 4, "rng": 1, "polish": False}
    found = differential_evolution(lacking, box, vectorized=True, updating="deferred", **options)
    assert -1e-9 <= found.fun < 0.1


def test_a_smaller_cumulant_than_the_least_is_none():
    """The least one by a linear program over the laws on a grid."""
    from scipy.optimize import linprog

    for step, drop, variance in ((1.0, 0.5, 0.3), (3.0, 1.0, 0.05), (0.4, 2.0, 1.5)):
        # the grid holds both values of the extreme law
        values = np.r_[np.linspace(-drop, 6 * drop, 400), variance / drop]
        moments = np.stack([np.ones_like(values), values, values**2])
        least = linprog(np.exp(step * values), A_eq=moments, b_eq=[1, 0, variance])
        bound = least_cumulant(np.array(step), np.array(drop), np.array(variance))
        assert np.log(least.fun) == pytest.approx(float(bound), abs=1e-6)
