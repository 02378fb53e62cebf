"""Overshooting theorem: the closed form, the critical step and the bandit with 1 + 2^K arms."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvrlib import (
    Constant,
    LogLinearBandit,
    OvershootInstance,
    PolicyGradient,
    Prescribed,
    ascend,
    collapse_updates,
    critical_step,
    log_odds_gain,
    multiplier,
    thresholds,
)
from rlvrlib.overshoot import log_cosh

# Solved with mpmath at 50 digits.
CRITICAL_STEPS = {
    0.1: 0.201345904375911,
    0.3: 0.639326098514187,
    0.5: 1.21875572687201,
    0.9: 6.93146226867893,
}


@pytest.mark.parametrize(("delta", "step"), CRITICAL_STEPS.items())
def test_critical_step_at_known_values(delta, step):
    assert critical_step(delta) == pytest.approx(step, rel=1e-14)


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.floats(1e-8, 0.999), st.floats(1e-12, 1e-3).map(lambda rest: 1 - rest)))
def test_critical_step_to_full_precision(delta):
    with mp.workdps(60):
        root = mp.findroot(
            lambda eta: mp.log(mp.cosh(eta)) - mp.mpf(delta) * eta,
            mp.mpf(float(critical_step(delta))),
        )
        assert critical_step(delta) == pytest.approx(float(root), rel=2e-15 + 1e-16 / delta)


def test_critical_step_limits_and_shapes():
    assert critical_step(1.0) == np.inf and critical_step(7.0) == np.inf
    assert np.all(np.isfinite(critical_step(np.array([[0.2, 0.4]])))) and critical_step(
        [0.2, 1.0]
    ).shape == (2,)
    assert critical_step([1e-150, 1e-300, 5e-324]) == pytest.approx(
        2 * np.array([1e-150, 1e-300, 5e-324]), abs=0
    )
    assert critical_step(1.0000001e-5) == pytest.approx(critical_step(0.9999999e-5), rel=1e-6)
    assert critical_step(1e-6) == pytest.approx(2e-6, rel=1e-9)
    assert critical_step(1 - 1e-9) == pytest.approx(np.log(2) * 1e9, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    delta=st.floats(0.01, 3),
    success=st.floats(1e-6, 1 - 1e-6),
    steps=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_closed_form_is_the_bandit(delta, success, steps, seed):
    instance, rng = OvershootInstance(delta, success, steps), np.random.default_rng(seed)
    bandit = instance.as_bandit()
    theta, direction = rng.normal(size=(2, 7, steps))
    step = np.exp(rng.uniform(-5, 2, size=7))
    assert instance.log_odds(theta) == pytest.approx(bandit.log_odds(theta), rel=1e-11, abs=1e-11)
    assert instance.gradient_gap(theta) == pytest.approx(
        bandit.gradient_gap(theta), rel=1e-11, abs=1e-11
    )
    assert instance.curvature(theta, direction) == pytest.approx(
        bandit.curvature(theta, direction), rel=1e-10
    )
    gains = [log_odds_gain(problem, theta, direction, step) for problem in (instance, bandit)]
    assert gains[0] == pytest.approx(gains[1], rel=1e-10, abs=1e-11)
    bounds = [problem.regularity(direction).score_bound for problem in (instance, bandit)]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-12)


@pytest.mark.parametrize("delta", CRITICAL_STEPS)
def test_the_exact_step_of_closed_form_and_bandit(delta):
    instance = OvershootInstance(delta, 0.3, 4)
    for problem in (instance, instance.as_bandit()):
        step = thresholds.exact(problem, np.zeros(4), np.eye(4)[1])
        assert step == pytest.approx(critical_step(delta), rel=1e-12)


def test_every_step_gains_below_and_loses_above():
    etas = critical_step(0.3) * np.array([0.999, 1.001])
    path = ascend(
        OvershootInstance(0.3, 0.2, 50),
        np.zeros((2, 50)),
        Prescribed(np.eye(50)),
        Constant(etas),
        50,
    )
    assert np.all(path.alignment == 0.3)  # positive at every step of both runs
    assert np.all(np.diff(path.log_odds[0]) > 0) and np.all(np.diff(path.log_odds[1]) < 0)


def test_curvature_keeps_its_digits_far_out():
    values = OvershootInstance(0.3, 0.2, 1).curvature([[15.0], [-300.0], [1000.0]], [1.0])
    assert values == pytest.approx(
        [4 * np.exp(-30) / (1 + np.exp(-30)) ** 2, 4 * np.exp(-600), 0.0], rel=1e-12, abs=0
    )


def test_log_cosh_where_cosh_overflows_and_where_it_is_one():
    assert log_cosh([1e4, -1e4]) == pytest.approx(1e4 - np.log(2))
    assert log_cosh(1e-9) == pytest.approx(5e-19, rel=1e-9)


def test_the_updates_of_a_collapse_as_printed():
    assert collapse_updates(2.0, 0.1, 3.0, 0.5) == pytest.approx(1 / (0.2 * 9 * (1 + 0.05)))
    assert collapse_updates([1.0, 2.0], 0.1, 1.0, 0.0) == pytest.approx([10.0, 5.0])


def rarely_right(features, prior, success_rate):
    """Bandits of which the first two arms are correct, with this success rate at 0, and bounds on
    the gap and on the curvature along any unit vector.
    """
    right = np.arange(features.shape[-2]) < 2
    shift = LogLinearBandit(features, right, prior).log_odds(np.zeros(features.shape[-1]))
    level = np.log(success_rate / (1 - success_rate))
    bandits = LogLinearBandit(features, right, prior - (shift - level)[..., None] * right)
    across = np.linalg.norm(features[..., None, :] - features[..., None, :, :], axis=-1)
    return bandits, across.max(axis=(-2, -1)), across.max(axis=(-2, -1)) ** 2 / 4


def grown(bandits, method, rate, most):
    """Updates until the success rate has grown by the factor e, as far as they are tried."""
    direction = PolicyGradient(method, length_normalized=False)
    path = ascend(bandits, np.zeros((*rate.shape, bandits.dim)), direction, Constant(rate), most)
    there = path.success_rate >= np.e * path.success_rate[..., :1]
    return np.where(there.any(axis=-1), there.argmax(axis=-1), most + 1)


@pytest.mark.parametrize("method", ["reinforce", "grpo", "log_odds"])
def test_no_run_is_back_before_the_bound_of_a_collapse(method):
    """10,000 random bandits, at rates for which the bound is 1 to 60 updates."""
    rng, size = np.random.default_rng(4), 10_000
    success = 10 ** rng.uniform(-5, -1, size)
    bandits, gap, bend = rarely_right(
        rng.normal(size=(size, 5, 2)), rng.normal(size=(size, 5)), success
    )
    largest = multiplier(method, np.minimum(np.e * success, 0.5))
    rate = 1 / (largest * gap**2) / 10 ** rng.uniform(0, 1.8, size)
    least = collapse_updates(rate, largest, gap, bend)
    needed = grown(bandits, method, rate, 60)
    assert np.all(needed >= np.minimum(least, 61)) and np.sum(needed <= 60) > 1000
    assert np.any(needed < 4 * least)


def test_an_optimizer_finds_no_run_that_is_back_earlier():
    from scipy.optimize import differential_evolution

    def excess(genes):
        features, prior = genes[:8].T.reshape(-1, 4, 2), genes[8:12].T
        success = 10 ** genes[12]
        bandits, gap, bend = rarely_right(features, prior, success)
        largest = multiplier("reinforce", np.minimum(np.e * success, 0.5))
        rate = 1 / (largest * gap**2) / 10 ** genes[13]
        return grown(bandits, "reinforce", rate, 40) / collapse_updates(rate, largest, gap, bend)

    box = [(-2, 2)] * 8 + [(-3, 3)] * 4 + [(-5, -1), (0.5, 1.5)]
    options = {"maxiter": 40, "popsize": 6, "rng": 2, "polish": False}
    found = differential_evolution(excess, box, vectorized=True, updating="deferred", **options)
    assert 1 <= found.fun < 4


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: collapse_updates(0.0, 0.1, 1.0, 1.0), "rate must be positive"),
        (lambda: collapse_updates(1.0, 0.1, 1.0, -1.0), "curvature_bound must be non-negative"),
        (lambda: OvershootInstance(0.0, 0.3, 2), "delta must be positive"),
        (lambda: OvershootInstance(np.inf, 0.3, 2), "delta must be positive and finite"),
        (lambda: OvershootInstance(0.3, 1.0, 2), "initial_success must be in"),
        (
            lambda: OvershootInstance(0.3, 0.3, 2).log_odds([0.0]),
            "theta must have last axis 2",
        ),
        (lambda: OvershootInstance(0.3, 0.3, 1).gradient_gap([np.nan]), "theta must be a number"),
        (lambda: OvershootInstance(0.3, 0.3, 0), "num_steps must be at least 1"),
        (lambda: OvershootInstance(0.3, 0.3, 17).as_bandit(), "num_steps must be at most 16"),
        (lambda: critical_step(-0.1), "delta must be positive"),
        (lambda: critical_step([0.2, np.nan]), "delta must be positive"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
