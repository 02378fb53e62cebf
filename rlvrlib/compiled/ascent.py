"""Exact policy gradients on a tabular bandit, with one compiled pass over the arms for each step.

NumPy goes through the arms a dozen times per step. The formulas are those of `bandits`: the
log-odds are ``log sum exp(logit)`` over the right arms less that over the wrong ones, and the gap
holds the arms' chances given success less those given failure.
"""

from __future__ import annotations

from math import factorial

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from rlvrlib import (
    Array,
    Constant,
    Direction,
    PolicyGradient,
    Problem,
    Step,
    TabularBandit,
    Trajectory,
    multiplier,
)
from rlvrlib.checks import finite, whole

try:
    from numba import njit
except ModuleNotFoundError as absent:
    raise ModuleNotFoundError(
        "the compiled ascent needs numba: pip install 'rlvrlib[fast]'", name=absent.name
    ) from None

# So many runs stand side by side in a row of memory. In a loop over them none waits for another, so
# the compiler makes it one of vectors, and a run has the same bits beside any others. It may round
# a product and a sum once (``contract``).
_SIDE = 64

# exp(x) = 2^k exp(r) with |r| <= log(2)/2, where Taylor's polynomial is right to the last digits;
# log(2) in two parts, so that k times the first is exact.
_TAYLOR = tuple(1 / factorial(power) for power in range(13, -1, -1))
_PER_LOG_2, _LOG_2, _REST = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10
# 1.5 * 2^52: a sum with it is rounded to an integer, which its last bits hold.
_ROUND = 6755399441055744.0
# Smaller numbers count as this one, whose exponential, 1e-152, has a square that is no underflow.
_SMALLEST = -350.0


@njit(cache=True, fastmath={"contract"})  # type: ignore[untyped-decorator]
def _exponential(x: float) -> float:
    """``exp(x)`` for ``x`` of at most 0: NumPy's is called for one number at a time."""
    x = x if x > _SMALLEST else _SMALLEST
    rounded = x * _PER_LOG_2 + _ROUND
    k = rounded - _ROUND
    r = (x - k * _LOG_2) - k * _REST
    value = 0.0
    for term in _TAYLOR:
        value = value * r + term
    # k is added to the exponent among the bits of the number
    bits = np.float64(value).view(np.int64) + (np.float64(rounded).view(np.int64) << 52)
    return np.int64(bits).view(np.float64)


@njit(cache=True, fastmath={"contract"})  # type: ignore[untyped-decorator]
def _move_side_by_side(
    theta: Array, weights: Array, factor: Array, log_prior: Array
) -> tuple[Array, Array, Array]:
    top, total, squares = np.full(_SIDE, -np.inf), np.zeros(_SIDE), np.zeros(_SIDE)
    for arm in range(len(log_prior)):
        for run in range(_SIDE):
            theta[arm, run] += factor[run] * weights[arm, run]
        for run in range(_SIDE):
            logit = theta[arm, run] + log_prior[arm]
            top[run] = logit if logit > top[run] else top[run]
    for arm in range(len(log_prior)):
        for run in range(_SIDE):
            weight = _exponential(theta[arm, run] + log_prior[arm] - top[run])
            weights[arm, run] = weight
            total[run] += weight
            squares[run] += weight * weight
    return top, total, squares


@njit(cache=True, nogil=True, fastmath={"contract"})  # type: ignore[untyped-decorator]
def _move(
    theta: Array, weights: Array, factor: Array, log_prior: Array
) -> tuple[Array, Array, Array]:
    """One class of arms, right or wrong, takes the step ``theta += factor * weights``, and gets the
    weights ``exp(logit - top)`` of its new logits.

    ``theta`` and ``weights`` have shape ``(sides, arms, _SIDE)`` and change in place. Gives the
    largest logit ``top``, the sum of the weights and that of their squares, ``(sides, _SIDE)``.
    """
    top, total, squares = np.empty_like(factor), np.empty_like(factor), np.empty_like(factor)
    for side in range(len(theta)):
        top[side], total[side], squares[side] = _move_side_by_side(
            theta[side], weights[side], factor[side], log_prior
        )
    return top, total, squares


def ascend_compiled(
    problem: Problem, theta0: ArrayLike, direction: Direction, step: Step, num_steps: int
) -> Trajectory:
    """`ascend` for a tabular bandit that all runs share, a `PolicyGradient` and one learning rate.

    The same up to rounding; an arm's chance within its class counts as at least 1e-152 of the
    largest.

    Parameters
    ----------
    problem, direction, step, num_steps : as for `ascend`, of the kinds above.
    theta0 : shape ``(runs, arms)``.

    Raises
    ------
    ValueError : another problem, direction or step, or a run that leaves the range of
        floating-point numbers.
    """
    whole(1, num_steps=num_steps)
    if not isinstance(problem, TabularBandit) or problem.rewards.ndim + problem.log_prior.ndim > 2:
        raise ValueError(f"problem must be one TabularBandit, got {type(problem).__name__}")
    if not isinstance(direction, PolicyGradient) or direction.prompts is not None:
        raise ValueError(f"direction must be a PolicyGradient without prompts, got {direction!r}")
    if not isinstance(step, Constant) or np.ndim(step.eta) > 0:
        raise ValueError(f"step must be a Constant of one learning rate, got {step!r}")
    start = finite(theta0=theta0)
    if start.ndim != 2 or start.shape[1] != problem.dim:
        raise ValueError(f"theta0 must have shape (runs, {problem.dim}), got {start.shape}")
    eta, runs = np.asarray(step.eta, dtype=float), len(start)
    right, wrong = problem.rewards, ~problem.rewards
    filled = np.concatenate([start, np.repeat(start[:1], -runs % _SIDE, axis=0)])
    # the same numbers in shape (sides, arms, _SIDE)
    theta = filled.reshape(-1, _SIDE, problem.dim).swapaxes(1, 2)
    right_theta, wrong_theta = (np.ascontiguousarray(theta[:, arms]) for arms in (right, wrong))
    right_weights, wrong_weights = np.zeros_like(right_theta), np.zeros_like(wrong_theta)
    up = down = np.zeros((len(theta), _SIDE))
    log_odds, sizes, alignments = [], [], []
    for k in range(num_steps + 1):
        right_top, right_sum, right_squares = _move(
            right_theta, right_weights, up, problem.log_prior[right]
        )
        wrong_top, wrong_sum, wrong_squares = _move(
            wrong_theta, wrong_weights, down, problem.log_prior[wrong]
        )
        log_odds.append(right_top - wrong_top + np.log(right_sum / wrong_sum))
        if k < num_steps:
            success, failure = expit(log_odds[-1]), expit(-log_odds[-1])
            factor = eta * multiplier(
                direction.method, success, direction.group_size, failure_rate=failure
            )
            up, down = factor / right_sum, -factor / wrong_sum
            # the gap is weights / sum over the right arms, and minus that over the wrong ones
            alignments.append(np.sqrt(right_squares / right_sum**2 + wrong_squares / wrong_sum**2))
            sizes.append(factor * alignments[-1])
    theta[:, right], theta[:, wrong] = right_theta, wrong_theta
    if not np.all(np.isfinite(filled)):
        raise ValueError("step must keep theta within floating-point range: take a smaller one")
    history, lengths, slopes = (
        np.stack(values, axis=-1).reshape(len(filled), -1)[:runs]
        for values in (log_odds, sizes, alignments)
    )
    return Trajectory(history, lengths, slopes, history[:, 1:], filled[:runs])
