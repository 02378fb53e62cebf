"""Overshooting theorem: the closed form, the critical step and the bandit with 1 + 2^K arms."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvrlib import (
    Constant,
    OvershootInstance,
    Prescribed,
    ascend,
    critical_step,
    log_odds_gain,
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


@pytest.mark.parametrize(
    ("build", "message"),
    [
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
