"""The exact problems on which the step-size rules of the arena run, and how a run is judged.

Every family is a list of settings: a stack of random problems with its starts. `best` is the
largest success rate that can be reached, exactly known but for networks and brackets, where it is
the highest of a long run of the book's rule with trials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from rlvrlib import (
    Array,
    GuaranteedStep,
    LogLinearBandit,
    LongStep,
    NetworkBandit,
    PolicyGradient,
    Problem,
    TokenWindow,
    ascend,
    bracket_chain,
    stopping_start,
    stopping_walk,
)
from rlvrlib.batches import mean_rates

RUNS = 24  # random problems, or starts, of a family
SEED = 41


@dataclass(frozen=True)
class Setting:
    """A stack of problems, where their runs start, shape ``(runs, ..., dim)``, the best attainable
    success rates, shape ``(runs,)``, and whether the last axis of the stack is a batch of prompts.
    """

    problem: Problem
    start: Array
    best: ArrayLike = 1.0
    batch: bool = False

    def log_odds(self, path: Array) -> Array:
        """Log-odds of what is measured, runs along the last axis but time: those of the mean over
        the prompts of a batch.
        """
        if not self.batch:
            return path
        success, failure = mean_rates(np.moveaxis(path, -2, -1))
        with np.errstate(divide="ignore"):
            return np.log(success) - np.log(failure)


def bandits(rng: np.random.Generator) -> list[Setting]:
    """Log-linear, 16 arms and 4 features of very different scales; a teacher tells right from
    wrong.
    """
    features, rewards = _taught(rng, (RUNS,), 16, 4, 1)
    scale = np.exp(rng.uniform(-1, 1, size=(RUNS, 1, 1)))
    prior = rng.normal(size=rewards.shape)
    problem = LogLinearBandit(scale * features, rewards, prior)
    return [Setting(problem, np.zeros((RUNS, 4)))]


def windows(rng: np.random.Generator) -> list[Setting]:
    """Token windows of 16, 64 and 256 tokens, started outside or inside."""
    found, count = [], RUNS // 3
    for length in (16, 64, 256):
        centre, half = rng.uniform(0.2, 0.8, count), rng.uniform(0.3, 2.0, count)
        problem = TokenWindow.around(length, centre, half)
        below = rng.uniform(size=count) < 0.5
        edge = np.clip(np.where(below, problem.low, problem.high) / length, 0.02, 0.98)
        away = rng.uniform(-0.5, 2.5, count) / np.sqrt(length * edge * (1 - edge))
        start = (logit(edge) + np.where(below, -away, away))[:, None]
        best = expit(problem.log_odds(problem.summit[:, None]))
        found.append(Setting(problem, start, best))
    return found


def chains(rng: np.random.Generator) -> list[Setting]:
    """Markov tokens that choose when to stop: walks of at most 8 and 24 tokens, and brackets."""
    found, count = [], RUNS // 3
    for half, cap in ((1, 8), (2, 24)):
        tilt = rng.uniform(0.5, 2.0, count) * rng.choice([-1, 1], count)
        start = stopping_start(cap / 2, cap, 0.5, 1.5) + np.eye(1, 4) * tilt[:, None]
        found.append(Setting(stopping_walk(half, cap), start))  # to stop at once is right
    start = rng.choice([-1, 1], (count, 1)) * rng.uniform(0.5, 1.5, (count, 1))
    found.append(_explored(bracket_chain(24), start))
    return found


def batches(rng: np.random.Generator) -> list[Setting]:
    """Eight log-linear prompts that share 6 parameters and one teacher."""
    features, rewards = _taught(rng, (RUNS, 8), 8, 6, 1)
    problem = LogLinearBandit(features, rewards, rng.normal(size=rewards.shape))
    return [Setting(problem, np.zeros((RUNS, 1, 6)), batch=True)]


def networks(rng: np.random.Generator) -> list[Setting]:
    """Tanh networks of 6 units on 12 arms with 3 inputs."""
    inputs, rewards = _taught(rng, (RUNS,), 12, 3, 2)
    problem = NetworkBandit(inputs, 4 * rng.normal(size=(RUNS, 6)), rewards)
    return [_explored(problem, 0.3 * rng.normal(size=(RUNS, problem.dim)))]


FAMILIES: dict[str, tuple[Callable[[np.random.Generator], list[Setting]], int]] = {
    "bandits": (bandits, 60),
    "windows": (windows, 30),
    "chains": (chains, 30),
    "batches": (batches, 60),
    "networks": (networks, 40),
}


@cache
def family(name: str) -> tuple[list[Setting], int]:
    """The settings of a family, the same at every call, and how many updates a run has."""
    make, num_steps = FAMILIES[name]
    return make(np.random.default_rng([SEED, list(FAMILIES).index(name)])), num_steps


def _taught(
    rng: np.random.Generator, shape: tuple[int, ...], arms: int, dim: int, right: int
) -> tuple[Array, Array]:
    """Features and rewards: the arms are right that a random vector ranks first, so that a long
    multiple of it has the success rate 1. The prompts of a run share the vector.
    """
    features, teacher = rng.normal(size=(*shape, arms, dim)), rng.normal(size=(shape[0], dim))
    teacher = teacher.reshape(shape[0], *[1] * len(shape), dim)
    ranks = np.argsort(np.argsort(-np.sum(features * teacher, axis=-1), axis=-1), axis=-1)
    return features, ranks < right


def _explored(problem: Problem, start: Array) -> Setting:
    run = ascend(problem, start, PolicyGradient("log_odds"), LongStep(GuaranteedStep(0.9)), 40)
    return Setting(problem, start, expit(run.log_odds.max(axis=-1)))
