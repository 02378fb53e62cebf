"""The laws of Adam's update against `Adam` itself, driven by given gradients."""

import numpy as np
import pytest

from rlvrlib import Adam, Constant, LogLinearBandit, PolicyGradient, Prescribed, ascend
from rlvrlib.optimizers import adam_bound, adam_noise, adam_pace, adam_response, adam_travel

LINE = LogLinearBandit([[1.0], [0.0]], [1, 0])  # log-odds theta, gap 1


def updates(gradients, beta1=0.9, beta2=0.99):
    """Sizes of Adam's updates on gradients of shape (steps, runs)."""
    adam = Adam(Prescribed(gradients[..., None]), beta1, beta2, epsilon=0.0)
    start = np.zeros((gradients.shape[1], 1))
    return ascend(LINE, start, adam, Constant(1e-6), len(gradients)).step_size / 1e-6


def test_the_bound_holds_and_is_attained():
    rng = np.random.default_rng(0)
    wild = np.exp(rng.normal(size=(80, 50)).cumsum(axis=0)) * rng.choice([-1, 1], size=(80, 50))
    assert np.max(updates(wild)) < adam_bound(0.9, 0.99)
    worst = (0.99 / 0.9) ** np.arange(-2000.0, 0)[:, None]
    assert updates(worst)[0, -1] == pytest.approx(adam_bound(0.9, 0.99), rel=1e-6)
    assert adam_response(0.99 / 0.9, 0.9, 0.99) == pytest.approx(adam_bound(0.9, 0.99), rel=1e-12)


@pytest.mark.parametrize("factor", [0.996, 1.0, 1.02, 1.3])
def test_response_after_some_steps_and_in_the_limit(factor):
    sizes = updates(factor ** np.arange(400.0)[:, None])[0]
    assert sizes[-1] == pytest.approx(adam_response(factor, 0.9, 0.99, 400), rel=1e-6)
    late, limit = adam_response(factor, 0.9, 0.99, 10**5), adam_response(factor, 0.9, 0.99)
    assert late == pytest.approx(limit, rel=1e-12)


def test_response_to_gradients_that_fall_fast_is_0():
    assert adam_response(0.98, 0.9, 0.99) == 0


def test_pace_is_that_of_a_run_and_below_the_limit():
    rates = np.array([0.01, 0.05, 0.5])
    for method, power in (("reinforce", 1.0), ("grpo", 0.5)):
        adam = Adam(PolicyGradient(method), 0.9, 0.95, epsilon=0.0)
        log_odds = ascend(LINE, np.zeros((3, 1)), adam, Constant(rates), 1500).log_odds
        pace = adam_pace(rates, power, 0.9, 0.95)
        assert (log_odds[:, -1] - log_odds[:, -101]) / 100 == pytest.approx(pace, rel=1e-2)
        assert np.all(pace < -np.log(0.95) / (2 * power))


def test_noise_of_fair_signs():
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=(40, 20000))
    found = np.mean(updates(signs) ** 2, axis=0)
    assert found == pytest.approx(adam_noise(np.arange(1, 41), 0.9), rel=0.05)
    assert adam_noise(1, 0.9) == pytest.approx(1)


def test_travel_from_one_gradient():
    gradients = np.zeros((70, 1))
    gradients[30] = 2.5
    assert updates(gradients).sum() == pytest.approx(adam_travel(30, 40, 0.9, 0.99), rel=1e-9)
    whole = (1 - 0.9) / np.sqrt(1 - 0.999) / (1 - 0.9 / np.sqrt(0.999))
    assert adam_travel([10**6], 500, 0.9, 0.999) == pytest.approx([whole], rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adam_bound(0.9, 0.8), "beta2 must be above"),
        (lambda: adam_bound(1.0, 0.8), "beta1 must be"),
        (lambda: adam_response(0.8, 0.9, 0.99), "factor must be above"),
        (lambda: adam_pace(0.0, 1.0, 0.9, 0.99), "rate must be"),
        (lambda: adam_noise(0, 0.9), "num_steps must be"),
        (lambda: adam_travel(-1, 5, 0.9, 0.99), "waited must be"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
