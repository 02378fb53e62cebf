"""What follows from the bounds for whole runs: a best success rate below 1, summable gradients and
one rate for MaxRL, each on 10,000 random bandits and against an optimizer.
"""

import numpy as np
import pytest
from scipy.optimize import differential_evolution
from scipy.special import expit

from rlvrlib import Constant, GuaranteedStep, LogLinearBandit, PolicyGradient, ascend

SIZE = 10_000


def enclosed(half, prior):
    """One correct arm in the middle of pairs of wrong ones: its log-odds are largest at 0."""
    features = np.concatenate([0 * half[..., :1, :], half, -half], axis=-2)
    log_prior = np.concatenate([0 * prior[..., :1], prior, prior], axis=-1)
    return LogLinearBandit(features, np.arange(features.shape[-2]) < 1, log_prior)


def share_of_the_climb(bandits, start, steps):
    """The cumulative alignment at half of the two-sided threshold, over twice the log-odds from the
    start to the best parameter; and the last alignment over the first.
    """
    step = GuaranteedStep(0.5, among=["two-sided"], everywhere=True)
    path = ascend(bandits, start, PolicyGradient("log_odds"), step, steps)
    climb = bandits.log_odds(np.zeros(start.shape[-1])) - path.log_odds[..., 0]
    sums = path.cumulative_alignment[..., -1] / (2 * climb)
    return sums, path.alignment[..., -1] / path.alignment[..., 0]


def test_the_alignment_is_at_most_twice_the_climb_to_the_best_success_rate():
    rng = np.random.default_rng(1)
    bandits = enclosed(rng.normal(size=(SIZE, 2, 2)), rng.normal(size=(SIZE, 2)))
    sums, last = share_of_the_climb(bandits, rng.normal(size=(SIZE, 2)), 100)
    assert np.all(sums <= 1) and np.median(sums) > 0.4 and np.median(last) < 0.2


def test_an_optimizer_finds_no_larger_sum():
    def lacking(genes):
        bandits = enclosed(genes[:4].T.reshape(-1, 2, 2), genes[4:6].T)
        return -share_of_the_climb(bandits, genes[6:8].T, 30)[0]

    box = [(-2, 2)] * 4 + [(-3, 3)] * 2 + [(0.1, 3)] * 2
    options = {"maxiter": 25, "popsize": 6, "rng": 3, "polish": False}
    found = differential_evolution(lacking, box, vectorized=True, updating="deferred", **options)
    assert 0.5 < -found.fun <= 1


def random_bandits(rng):
    """Bandits of five arms, and the largest distance of their features."""
    features, prior = rng.normal(size=(SIZE, 5, 2)), 3 * rng.normal(size=(SIZE, 5))
    spread = np.linalg.norm(features[:, :, None] - features[:, None], axis=-1).max(axis=(1, 2))
    right = np.arange(5) < rng.integers(1, 5, size=(SIZE, 1))
    return LogLinearBandit(features, right, prior), spread


def test_the_squared_gradients_of_reinforce_have_a_finite_sum():
    """J is L-smooth with L = D^2/8, half of the largest bend of the angle for one token."""
    rng = np.random.default_rng(2)
    bandits, spread = random_bandits(rng)
    smooth = spread**2 / 8
    rate = rng.uniform(0.1, 0.99, SIZE) * 2 / smooth
    path = ascend(bandits, np.zeros((SIZE, 2)), PolicyGradient("reinforce"), Constant(rate), 100)
    gradients = path.step_size / rate[:, None]
    allowed = expit(-path.log_odds[:, 0]) / (rate * (1 - smooth * rate / 2))
    assert np.all(np.sum(gradients**2, axis=-1) <= allowed)


@pytest.mark.parametrize("share", [0.3, 0.999])
def test_every_step_of_maxrl_at_its_rate_raises_the_success_rate(share):
    """The success-rise bound with a = D^2/4: the rate is 2/a at every success rate."""
    rng = np.random.default_rng(3)
    bandits, spread = random_bandits(rng)
    rate, start = share * 8 / spread**2, 2 * rng.normal(size=(SIZE, 2))
    path = ascend(bandits, start, PolicyGradient("maxrl"), Constant(rate), 30)
    assert np.min(path.gain) >= -1e-12
    wild = ascend(bandits, start, PolicyGradient("maxrl"), Constant(6 * rate), 30)
    assert np.min(wild.gain) < 0 or share < 0.5
