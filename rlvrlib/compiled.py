r"""Exact policy gradient on a bandit as one compiled loop (extra ``fast``: numba).

NumPy goes through the arms a dozen times per step and calls the C library for every exponential. Here a run stays in the cache for all its
steps, and the exponential is a polynomial that the compiler computes for four arms at a time. The formulas are those of `bandits`: each class
of arms by its own largest logit, log-odds ``log sum_right exp - log sum_wrong exp``, and the gap is the mean of the features over the right arms
less that over the wrong ones.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import float64, int64, njit
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
_ROUND = 6755399441055744.0  # 1.5 * 2^52: added to a number it leaves the nearest integer in the last bits
_SMALLEST = -708.0  # of smaller numbers the exponential counts as that of this one: 3e-308, beside a largest of 1


@njit
def _largest(values):
    """Four at a time, because each maximum waits for the one before."""
    a = b = c = d = values[0]
    even = len(values) // 4 * 4
    for i in range(0, even, 4):
        a = values[i] if values[i] > a else a
        b = values[i + 1] if values[i + 1] > b else b
        c = values[i + 2] if values[i + 2] > c else c
        d = values[i + 3] if values[i + 3] > d else d
    for i in range(even, len(values)):
        a = values[i] if values[i] > a else a
    return max(max(a, b), max(c, d))


@intrinsic
def _bits_of(typing, number):
    """The bits of a number, as an integer."""
    return int64(float64), lambda context, builder, signature, arguments: builder.bitcast(arguments[0], ir.IntType(64))


@intrinsic
def _number_of(typing, bits):
    return float64(int64), lambda context, builder, signature, arguments: builder.bitcast(arguments[0], ir.DoubleType())


@njit(fastmath={"contract"})  # nothing may be reordered: it would undo the rounding by _ROUND
def _exponentials(values, first, top, other_top):
    """``exp(values - top)`` in place for the ``first`` values, ``exp(values - other_top)`` for the others; none is above its top."""
    for i in range(len(values)):
        x = values[i] - (top if i < first else other_top)
        x = x if x > _SMALLEST else _SMALLEST
        rounded = x * _PER_LOG_2 + _ROUND
        k = rounded - _ROUND
        r = (x - k * _LOG_2) - k * _REST
        p = 1 / 6227020800  # Taylor's polynomial of degree 13: its error is below 1e-17
        p = p * r + 1 / 479001600
        p = p * r + 1 / 39916800
        p = p * r + 1 / 3628800
        p = p * r + 1 / 362880
        p = p * r + 1 / 40320
        p = p * r + 1 / 5040
        p = p * r + 1 / 720
        p = p * r + 1 / 120
        p = p * r + 1 / 24
        p = p * r + 1 / 6
        p = p * r + 1 / 2
        p = p * r + 1
        p = p * r + 1
        values[i] = p * _number_of((_bits_of(rounded) + 1023) << 52)  # times 2^k


@njit(fastmath={"contract"})
def _sums(values):
    """Sum, and sum of squares."""
    a = b = c = d = aa = bb = cc = dd = 0.0
    even = len(values) // 4 * 4
    for i in range(0, even, 4):
        v, w, x, y = values[i], values[i + 1], values[i + 2], values[i + 3]
        a, b, c, d = a + v, b + w, c + x, d + y
        aa, bb, cc, dd = aa + v * v, bb + w * w, cc + x * x, dd + y * y
    for i in range(even, len(values)):
        a, aa = a + values[i], aa + values[i] ** 2
    return (a + b) + (c + d), (aa + bb) + (cc + dd)


@njit(fastmath={"contract"})
def _product(one, other):
    a = b = c = d = 0.0
    even = len(one) // 4 * 4
    for i in range(0, even, 4):
        a, b = a + one[i] * other[i], b + one[i + 1] * other[i + 1]
        c, d = c + one[i + 2] * other[i + 2], d + one[i + 3] * other[i + 3]
    for i in range(even, len(one)):
        a += one[i] * other[i]
    return (a + b) + (c + d)


@njit(fastmath={"contract"}, cache=True, nogil=True)
def _runs(thetas, features, tabular, log_prior, num_right, power, eta, num_steps, log_odds, sizes, alignments):
    """All steps of each run, in place; the right arms come first, ``features`` has shape ``(dim, arms)``."""
    num_arms = len(log_prior)
    padded, gap = np.full(-(-num_arms // 16) * 16, -1.0), np.empty(thetas.shape[1])  # whole vectors, four at a time
    weights = padded[:num_arms]
    for run in range(len(thetas)):
        theta = thetas[run]
        for step in range(num_steps + 1):
            if tabular:
                for i in range(num_arms):
                    weights[i] = log_prior[i] + theta[i]
            else:
                for i in range(num_arms):
                    weights[i] = log_prior[i]
                for j in range(0, len(theta) - 1, 2):  # two at a time: half the passes
                    for i in range(num_arms):
                        weights[i] += features[j, i] * theta[j] + features[j + 1, i] * theta[j + 1]
                for j in range(len(theta) // 2 * 2, len(theta)):
                    for i in range(num_arms):
                        weights[i] += features[j, i] * theta[j]
            top_right, top_wrong = _largest(weights[:num_right]), _largest(weights[num_right:])
            _exponentials(padded, num_right, top_right, top_wrong)
            right, right_square = _sums(weights[:num_right])
            wrong, wrong_square = _sums(weights[num_right:])
            log_odds[run, step] = (top_right - top_wrong) + np.log(right / wrong)
            if step == num_steps:
                break
            factor = eta
            if power > 0:  # J(1-J) = e / (1 + e)^2 with e = exp(-|l|)
                e = np.exp(-abs(log_odds[run, step]))
                m = e / (1 + e) ** 2
                factor *= m if power == 1 else np.sqrt(m)
            up, down = 1 / right, -1 / wrong
            if tabular:
                square = right_square * up**2 + wrong_square * down**2
                for i in range(num_right):
                    theta[i] += factor * up * weights[i]
                for i in range(num_right, num_arms):
                    theta[i] += factor * down * weights[i]
            else:
                for i in range(num_right):
                    weights[i] *= up
                for i in range(num_right, num_arms):
                    weights[i] *= down
                for j in range(len(gap)):
                    gap[j] = _product(features[j], weights)
                square = _product(gap, gap)
                for j in range(len(gap)):
                    theta[j] += factor * gap[j]
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
    features = np.zeros((1, 1)) if isinstance(problem, TabularBandit) else np.ascontiguousarray(problem.features[order].T)
    theta = np.array(theta0[:, order] if tabular else theta0, dtype=float, order="C")
    log_odds, sizes, alignments = (np.empty((len(theta), num_steps + extra)) for extra in (1, 0, 0))
    _runs(
        theta, features, tabular, problem.log_prior[order], int(problem.rewards.sum()), _POWERS[direction.method], float(np.asarray(step.eta)),
        num_steps, log_odds, sizes, alignments,
    )  # fmt: skip
    if np.any(np.isnan(log_odds)) or not np.all(np.isfinite(theta)):
        raise ValueError("step must keep theta within floating-point range: take a smaller one")
    if tabular:
        theta[:, order] = theta.copy()
    return Trajectory(log_odds, sizes, alignments, log_odds[:, 1:], theta)
