r"""Exact policy gradient on a bandit as one compiled loop (extra ``fast``: numba).

NumPy goes through the arms a dozen times per step and calls the C library for every exponential. Here a run stays in the cache for all its
steps, and the exponential is a polynomial that the compiler computes for four arms at a time. The formulas are those of `bandits`: each class
of arms by its own largest logit, log-odds ``log sum_right exp - log sum_wrong exp``, and the gap is the mean of the features over the right arms
less that over the wrong ones.
"""

from __future__ import annotations

from math import factorial

import numpy as np
from llvmlite import ir
from numba import float64, int64, literal_unroll, njit
from numba.extending import intrinsic

from rlvrlib.ascent import Constant, Step, Trajectory
from rlvrlib.bandits import LogLinearBandit
from rlvrlib.directions import Direction, PolicyGradient
from rlvrlib.problems import Array, Problem
from rlvrlib.tabular import TabularBandit

# The multiplier is a power of J(1-J) where a response is one token and groups are large (`updates.multiplier`).
_POWERS = {"reinforce": 1.0, "rloo": 1.0, "dr_grpo": 1.0, "grpo": 0.5, "gspo": 0.5, "dapo": 0.5, "log_odds": 0.0}

# exp(x) = 2^k exp(r) with |r| <= log(2)/2; log(2) in two parts, so that k times the first is exact.
_PER_LOG_2, _LOG_2, _REST = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10
_ROUND = 6755399441055744.0  # 1.5 * 2^52: added to an integer it leaves it in the last bits
_SMALLEST = -708.0  # of smaller numbers the exponential counts as that of this one: 3e-308, beside a largest of 1


def _exponential_terms(degree: int = 11, taylor: int = 15) -> tuple[float, ...]:
    """Coefficients of a polynomial for ``exp(r)``, the highest first: Taylor's, whose highest terms give way one by one to the Chebyshev
    polynomial of the same degree, which is as small as can be. What is left out is below 1e-17."""
    terms = np.array([1 / factorial(power) for power in range(taylor + 1)])
    for power in range(taylor, degree, -1):
        chebyshev = np.polynomial.chebyshev.cheb2poly([0] * power + [1]) * (2 / np.log(2)) ** np.arange(power + 1)
        terms = (terms - terms[power] / chebyshev[power] * chebyshev)[:power]
    return tuple(terms[::-1])


_TERMS = _exponential_terms()
# Sums may be taken in any order, so that the compiler can take several numbers at a time.
_FAST = {"contract", "reassoc", "nsz"}


@intrinsic
def _nearest(typing, number):
    """The nearest integer. That, and not a sum and a difference, which the compiler would cancel."""
    return float64(float64), lambda context, builder, signature, arguments: builder.call(
        builder.module.declare_intrinsic("llvm.rint", [ir.DoubleType()]), arguments
    )


@intrinsic
def _fma(typing, one, other, more):
    """``one * other + more``, rounded once."""
    return float64(float64, float64, float64), lambda context, builder, signature, arguments: builder.fma(*arguments)


@intrinsic
def _bits_of(typing, number):
    """The bits of a number, as an integer."""
    return int64(float64), lambda context, builder, signature, arguments: builder.bitcast(arguments[0], ir.IntType(64))


@intrinsic
def _number_of(typing, bits):
    return float64(int64), lambda context, builder, signature, arguments: builder.bitcast(arguments[0], ir.DoubleType())


@njit(fastmath=_FAST, inline="always")
def _exponential(x):
    """``exp(x)`` for ``x`` of at most 0."""
    x = x if x > _SMALLEST else _SMALLEST
    k = _nearest(x * _PER_LOG_2)
    r = _fma(k, -_REST, _fma(k, -_LOG_2, x))
    p = _TERMS[0]
    for term in literal_unroll(_TERMS[1:]):
        p = _fma(p, r, term)
    return p * _number_of((_bits_of(k + _ROUND) + 1023) << 52)  # times 2^k


@njit(fastmath=_FAST | {"nnan"})
def _largest(values):
    """Not for NaN: that is seen in the parameters, after the last step."""
    top = values[0]
    for value in values:
        top = max(top, value)
    return top


@njit(fastmath=_FAST)
def _weigh(values, top):
    """``exp(values - top)`` in place, with their sum and the sum of their squares."""
    total = squares = 0.0
    for i in range(len(values)):
        weight = _exponential(values[i] - top)
        values[i] = weight
        total += weight
        squares += weight * weight
    return total, squares


@njit(fastmath=_FAST)
def _logits(weights, log_prior, features, theta):
    """``log_prior + theta @ features``; four parameters at a time, for a quarter of the passes."""
    for i in range(len(weights)):
        weights[i] = log_prior[i]
    for j in range(0, len(theta), 4):
        a, b, c, d = theta[j], theta[j + 1], theta[j + 2], theta[j + 3]
        for i in range(len(weights)):
            weights[i] += (a * features[j, i] + b * features[j + 1, i]) + (c * features[j + 2, i] + d * features[j + 3, i])


@njit(fastmath=_FAST)
def _products(gap, features, weights):
    """``features @ weights``, four at a time."""
    for j in range(0, len(gap), 4):
        a = b = c = d = 0.0
        for i in range(len(weights)):
            a, b = a + features[j, i] * weights[i], b + features[j + 1, i] * weights[i]
            c, d = c + features[j + 2, i] * weights[i], d + features[j + 3, i] * weights[i]
        gap[j], gap[j + 1], gap[j + 2], gap[j + 3] = a, b, c, d


@njit(fastmath=_FAST)
def _add(target, weights, factor):
    for i in range(len(target)):
        target[i] += factor * weights[i]


@njit(fastmath={"contract"}, cache=True, nogil=True)
def _runs(thetas, features, tabular, log_prior, num_right, power, eta, num_steps, log_odds, sizes, alignments):
    """All steps of each run, in place; the right arms come first, ``features`` has shape ``(dim, arms)``, its ``dim`` a multiple of 4."""
    weights, gap = np.empty(len(log_prior)), np.empty(thetas.shape[1])
    right_weights, wrong_weights = weights[:num_right], weights[num_right:]
    for run in range(len(thetas)):
        theta = thetas[run]
        right_theta, wrong_theta = theta[:num_right], theta[num_right:]
        for step in range(num_steps + 1):
            if tabular:
                for i in range(len(weights)):
                    weights[i] = log_prior[i] + theta[i]
            else:
                _logits(weights, log_prior, features, theta)
            right_top, wrong_top = _largest(right_weights), _largest(wrong_weights)
            right, right_square = _weigh(right_weights, right_top)
            wrong, wrong_square = _weigh(wrong_weights, wrong_top)
            ahead = right_top - wrong_top
            log_odds[run, step] = ahead + np.log(right / wrong)
            if step == num_steps:
                break
            factor = eta
            if power > 0:
                behind = np.exp(-abs(ahead))
                success, failure = (right, wrong * behind) if ahead > 0 else (right * behind, wrong)
                spread = success * failure / (success + failure) ** 2  # J(1-J)
                factor *= spread if power == 1 else np.sqrt(spread)
            up, down = 1 / right, -1 / wrong
            if tabular:
                square = right_square * up**2 + wrong_square * down**2
                _add(right_theta, right_weights, factor * up)
                _add(wrong_theta, wrong_weights, factor * down)
            else:
                for i in range(len(right_weights)):
                    right_weights[i] *= up
                for i in range(len(wrong_weights)):
                    wrong_weights[i] *= down
                _products(gap, features, weights)
                square = 0.0
                for part in gap:
                    square += part * part
                _add(theta, gap, factor)
            alignments[run, step] = np.sqrt(square)
            sizes[run, step] = factor * alignments[run, step]


def ascend_compiled(problem: Problem, theta0: Array, direction: Direction, step: Step, num_steps: int) -> Trajectory:
    """`ascend` for a bandit that all runs share, a `PolicyGradient` in the limit of large groups and one constant learning rate.

    The same up to rounding; alignments below 1e-150 count as 0.

    Parameters
    ----------
    theta0 : shape ``(runs, dim)``.

    Raises
    ------
    ValueError : another problem, direction or step, or a run that leaves the range of floating-point numbers.
    """
    if not isinstance(problem, (TabularBandit, LogLinearBandit)) or problem.rewards.ndim > 1 or problem.log_prior.ndim > 1:
        raise ValueError(f"problem must be one TabularBandit or LogLinearBandit for the compiled loop, got {type(problem).__name__}")
    if not isinstance(direction, PolicyGradient) or direction.prompts is not None or direction.group_size is not None:
        raise ValueError("direction must be a PolicyGradient without group_size and prompts for the compiled loop")
    if not isinstance(step, Constant) or np.ndim(step.eta) > 0:
        raise ValueError("step must be a Constant of one learning rate for the compiled loop")
    if isinstance(problem, LogLinearBandit) and problem.features.ndim > 2:
        raise ValueError(f"problem must have one matrix of features for the compiled loop, got shape {problem.features.shape}")
    if np.ndim(theta0) != 2 or np.shape(theta0)[1] != problem.dim or num_steps < 1:
        raise ValueError(f"theta0 must have shape (runs, {problem.dim}) and num_steps be at least 1, got {np.shape(theta0)} and {num_steps!r}")
    order = np.argsort(~problem.rewards, kind="stable")
    tabular = isinstance(problem, TabularBandit)
    features, theta = np.zeros((1, 1)), np.array(theta0[:, order] if tabular else theta0, dtype=float, order="C")
    if isinstance(problem, LogLinearBandit):
        missing = -problem.dim % 4
        features, theta = np.pad(problem.features[order].T, ((0, missing), (0, 0))), np.pad(theta, ((0, 0), (0, missing)))
    log_odds, sizes, alignments = (np.empty((len(theta), num_steps + extra)) for extra in (1, 0, 0))
    _runs(
        theta, features, tabular, problem.log_prior[order], int(problem.rewards.sum()), _POWERS[direction.method], float(np.asarray(step.eta)),
        num_steps, log_odds, sizes, alignments,
    )  # fmt: skip
    if np.any(np.isnan(log_odds)) or not np.all(np.isfinite(theta)):
        raise ValueError("step must keep theta within floating-point range: take a smaller one")
    if tabular:
        theta[:, order] = theta.copy()
    return Trajectory(log_odds, sizes, alignments, log_odds[:, 1:], theta[:, : problem.dim])
