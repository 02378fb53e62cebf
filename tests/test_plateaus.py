"""Noise, pull and what they leave against enumeration, simulation and the exact law of a group."""

import itertools

import numpy as np
import pytest
from scipy.special import expit

from rlvrlib import NoisyVerifier, PolicyGradient, TokenWindow
from rlvrlib.plateaus import (
    inverse_failure_growth,
    mean_square_distance,
    mean_square_distances,
    noise_and_pull,
)
from rlvrlib.problems import At


@pytest.mark.parametrize(("hit", "alarm"), [(1.0, 0.0), (0.9, 0.2), (1.0, 0.3), (0.7, 0.0)])
@pytest.mark.parametrize("normalized", [True, False])
def test_noise_is_the_variance_over_all_groups(hit, alarm, normalized):
    window, size = TokenWindow(6, 2, 4), 3
    theta = np.array([window.summit])
    chances = np.exp(window.log_probabilities(theta))
    scores = window.scores(theta, np.ones(1)) / (6 if normalized else 1)
    accepts = np.where(window.rewards, hit, alarm)
    outcomes = [
        (chance * rate, verdict, score)
        for chance, accept, score in zip(chances, accepts, scores, strict=True)
        for verdict, rate in ((1, accept), (0, 1 - accept))
    ]
    moments = np.zeros(2)
    for group in itertools.product(outcomes, repeat=size):
        probability = np.prod([outcome[0] for outcome in group])
        verdicts = np.array([outcome[1] for outcome in group])
        if np.ptp(verdicts):
            advantages = (verdicts - verdicts.mean()) / verdicts.std()
            update = np.mean(advantages * [outcome[2] for outcome in group])
            moments += probability * np.array([update, update**2])
    noise, _ = noise_and_pull(window, theta, size, hit, alarm, length_normalized=normalized)
    assert moments[0] == pytest.approx(0, abs=1e-12)
    assert noise == pytest.approx(moments[1], rel=1e-9)


@pytest.mark.parametrize("normalized", [True, False])
def test_pull_is_the_slope_of_the_mean_update(normalized):
    window, rates = TokenWindow(24, 8, 14), (np.array([1.0, 0.9]), np.array([0.0, 0.2]))
    theta = np.array([window.summit])
    direction = PolicyGradient("grpo", 8, length_normalized=normalized)
    _, pull = noise_and_pull(window, theta, 8, *rates, length_normalized=normalized)
    for index, pair in enumerate(zip(*rates, strict=True)):
        noisy = NoisyVerifier(window, *pair)
        ends = [direction.update(At.of(noisy, theta + h), None)[0][0] for h in (-1e-4, 1e-4)]
        assert pull[index] == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_mean_square_distance_solves_the_recursion(momentum):
    rate, noise, pull = 0.3, 2.0, 1.5
    # x and m as one linear map: its stationary covariance
    keep = np.array([[1 - rate * pull, -rate * momentum], [pull, momentum]])
    kick = np.array([-rate, 1.0])
    covariance = np.linalg.solve(
        np.eye(4) - np.kron(keep, keep), noise * np.outer(kick, kick).ravel()
    )
    found = mean_square_distance(rate, noise, pull, momentum)
    assert found == pytest.approx(covariance[0], rel=1e-10)


def test_mean_square_distances_settle():
    found = mean_square_distances(np.full(400, 0.2), 3.0, 0.7)
    assert found[0] == 0 and found[1] == pytest.approx(0.04 * 3)
    assert found[-1] == pytest.approx(mean_square_distance(0.2, 3.0, 0.7), rel=1e-12)


@pytest.mark.parametrize(("hit", "alarm"), [(1.0, 0.0), (0.8, 0.3)])
def test_inverse_failure_growth_over_all_groups(hit, alarm):
    size, length, rate, theta = 3, 2, 1.5, 14.0
    window = TokenWindow(length, length, length)
    wrong = expit(-window.log_odds(np.array([theta])))
    growth = 0.0
    for rewards, verdicts in itertools.product(itertools.product((0, 1), repeat=size), repeat=2):
        accept = np.where(rewards, hit, alarm)
        chance = np.prod(np.where(rewards, 1 - wrong, wrong)) * np.prod(
            np.where(verdicts, accept, 1 - accept)
        )
        if np.ptp(verdicts):
            advantages = (np.array(verdicts) - np.mean(verdicts)) / np.std(verdicts)
            scores = np.array(rewards) - 1.0  # late a wrong response has one wrong token
            move = rate * np.mean(advantages * scores) / length
            growth += chance * (1 / expit(-window.log_odds(np.array([theta + move]))) - 1 / wrong)
    assert inverse_failure_growth(rate / length, size, hit, alarm) == pytest.approx(
        growth, rel=1e-4
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_square_distance(4.0, 1.0, 0.5), "rate must be below"),
        (lambda: mean_square_distance(0.1, 1.0, 0.5, 1.0), "momentum must be"),
        (lambda: noise_and_pull(TokenWindow(8, 3, 5), [0.0], 1), "group_size must be"),
        (lambda: noise_and_pull(TokenWindow(8, 3, 5), [0.0], 4, 1.1), "true_positive_rate must be"),
        (lambda: inverse_failure_growth(1.0, 4, 0.9, -0.1), "false_positive_rate must be"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
