"""Random problems of every kind, and the same problems in high precision, written independently of
the library.
"""

from __future__ import annotations

import mpmath as mp
import numpy as np

from rlvrlib import LogLinearBandit, NetworkBandit, QuadraticBandit, unit

KINDS = ("log_linear", "network", "quadratic")


def random_rewards(rng, shape):
    """0/1 rewards with at least one of each."""
    rewards = rng.uniform(size=shape) < rng.uniform(0.1, 0.9)
    rewards[..., 0], rewards[..., -1] = True, False
    return rng.permuted(rewards, axis=-1).astype(float)


def random_problem(kind, rng, *, batch=(), num_arms=5, dim=3, shift=0.0):
    """Problem, theta and unit direction; ``shift`` is added to the log-odds of the prior."""
    rewards = random_rewards(rng, (*batch, num_arms))
    prior = rng.normal(size=rewards.shape) + shift * rewards
    scale = np.exp(rng.uniform(-1.5, 1.5, size=(*batch, 1, 1)))
    if kind == "log_linear":
        problem = LogLinearBandit(scale * rng.normal(size=(*rewards.shape, dim)), rewards, prior)
    elif kind == "network":
        inputs, outputs = rng.normal(size=(*rewards.shape, dim)), rng.normal(size=(*batch, 3))
        problem = NetworkBandit(scale * inputs, outputs * scale[..., 0], rewards, prior)
    else:
        slopes, bends = rng.normal(size=(2, *rewards.shape, dim))
        problem = QuadraticBandit(scale * slopes, scale * bends, rewards, prior)
    theta = rng.normal(size=(*batch, problem.dim))
    return problem, theta, unit(rng.normal(size=(*batch, problem.dim)))


def _logit(problem, arm, theta):
    """Logit of one arm in mpmath, for one problem without batch axes."""
    if isinstance(problem, LogLinearBandit):
        value = mp.fsum(mp.mpf(x) * t for x, t in zip(problem.features[arm], theta, strict=True))
    elif isinstance(problem, NetworkBandit):
        inputs, outputs = problem.inputs[arm], problem.output_weights
        width = len(inputs)
        value = mp.fsum(
            mp.mpf(v)
            * mp.tanh(
                mp.fsum(mp.mpf(x) * t for x, t in zip(inputs, theta[i * width :], strict=False))
            )
            for i, v in enumerate(outputs)
        )
    else:
        value = mp.fsum(
            mp.mpf(b) * t + mp.mpf(c) * t**2 / 2
            for b, c, t in zip(problem.slopes[arm], problem.bends[arm], theta, strict=True)
        )
    return value + mp.mpf(problem.log_prior[arm])


def log_odds_along(problem, theta, direction):
    """``t -> l(theta + t w)`` in mpmath, by summing probabilities."""

    def value(t):
        point = [mp.mpf(x) + t * mp.mpf(w) for x, w in zip(theta, direction, strict=True)]
        weights = [mp.exp(_logit(problem, arm, point)) for arm in range(problem.num_arms)]
        right = mp.fsum(
            weight for weight, reward in zip(weights, problem.rewards, strict=True) if reward
        )
        wrong = mp.fsum(
            weight for weight, reward in zip(weights, problem.rewards, strict=True) if not reward
        )
        return mp.log(right / wrong)

    return value
