r"""Exact policy gradient on a bandit as one compiled loop (extra ``fast``: numba).

NumPy goes through the arms a dozen times per step. Here one pass takes the step, the new logits,
their exponentials and the sums. Eight runs go through all their steps side by side, each number of
theirs a vector of eight: an arm is a row of shape ``(8,)``, and no sum changes its order. So a run
has the same bits beside any others. The formulas are those of `bandits`: each class of arms
relative to a logit of its own, log-odds ``log sum_right exp - log sum_wrong exp``, and the gap is
the mean of the features over the right arms less that over the wrong ones.
"""

from __future__ import annotations

import operator
from math import factorial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import literal_unroll, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from rlvrlib.ascent import Trajectory
from rlvrlib.bandits import LogLinearBandit, TabularBandit
from rlvrlib.directions import Direction, PolicyGradient
from rlvrlib.problems import Array, Problem
from rlvrlib.steps import Constant, Step

# The multiplier is a power of J(1-J) where a response is one token and groups are large
# (`updates.multiplier`).
_POWERS = {
    "reinforce": 1.0,
    "rloo": 1.0,
    "dr_grpo": 1.0,
    "grpo": 0.5,
    "gspo": 0.5,
    "dapo": 0.5,
    "log_odds": 0.0,
}

# exp(x) = 2^k exp(r) with |r| <= log(2)/2; log(2) in two parts, so that k times the first is exact.
_PER_LOG_2, _LOG_2, _REST = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10
# 1.5 * 2^52: a sum with it is rounded to an integer, which its last bits hold
_ROUND = 6755399441055744.0
# of smaller numbers the exponential counts as that of this one, 1e-152: the square of that is no
# underflow, which is slow
_SMALLEST = -350.0
# Weights are relative to the largest logit of the step before. Where logits move by no more,
# weights and their squares stay in range.
_FARTHEST = 300.0


def _exponential_terms(degree: int = 11, taylor: int = 15) -> tuple[float, ...]:
    """Coefficients of a polynomial for ``exp(r)``, the highest first: Taylor's, whose highest terms
    give way one by one to the Chebyshev
    polynomial of the same degree, which is as small as can be. What is left out is below 1e-17."""
    terms = np.array([1 / factorial(power) for power in range(taylor + 1)])
    for power in range(taylor, degree, -1):
        chebyshev = np.polynomial.chebyshev.cheb2poly([0] * power + [1]) * (
            2 / np.log(2)
        ) ** np.arange(power + 1)
        terms = (terms - terms[power] / chebyshev[power] * chebyshev)[:power]
    return tuple(terms[::-1])


_TERMS = _exponential_terms()

# A vector holds the same number of eight runs. LLVM has such vectors on every processor, in as many
# registers as it needs.
_WIDTH = 8
_DOUBLES, _INTEGERS = ir.VectorType(ir.DoubleType(), _WIDTH), ir.VectorType(ir.IntType(64), _WIDTH)


class _Vector(types.Type):  # type: ignore[misc]
    """Numba's type for such a vector."""


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _DOUBLES)


_VECTOR = _Vector("vector of eight")


def _operator(function: Any, instruction: str) -> None:
    @intrinsic
    def emit(typing, one, other):
        return _VECTOR(_VECTOR, _VECTOR), lambda context, builder, signature, values: getattr(
            builder, instruction
        )(*values)

    @overload(function)
    def typed(one, other):
        return (lambda one, other: emit(one, other)) if one is other is _VECTOR else None


for _pair in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _operator(*_pair)


def _call(builder: Any, name: str, *values: Any) -> Any:
    """One of LLVM's functions of vectors, such as ``llvm.sqrt``."""
    kind = ir.FunctionType(_DOUBLES, [_DOUBLES] * len(values))
    return builder.call(
        cgutils.get_or_insert_function(builder.module, kind, f"{name}.v{_WIDTH}f64"), values
    )


def _row(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    """Pointer to a row of an array of shape ``(rows, 8)``."""
    data = context.make_array(signature.args[0])(context, builder, values[0]).data
    return builder.bitcast(
        builder.gep(data, [builder.mul(values[1], ir.Constant(values[1].type, _WIDTH))]),
        _DOUBLES.as_pointer(),
    )


@intrinsic
def _load(typing, rows, i):
    return _VECTOR(rows, types.intp), lambda context, builder, signature, values: builder.load(
        _row(context, builder, signature, values), align=8
    )


@intrinsic
def _store(typing, rows, i, vector):
    def emit(context, builder, signature, values):
        builder.store(values[2], _row(context, builder, signature, values), align=8)
        return context.get_dummy_value()

    return types.void(rows, types.intp, _VECTOR), emit


@intrinsic
def _all(typing, number):
    """Eight times the same number."""

    def emit(context, builder, signature, values):
        first = builder.insert_element(
            ir.Constant(_DOUBLES, ir.Undefined), values[0], ir.Constant(ir.IntType(32), 0)
        )
        return builder.shuffle_vector(
            first, first, ir.Constant(ir.VectorType(ir.IntType(32), _WIDTH), [0] * _WIDTH)
        )

    return _VECTOR(types.float64), emit


@intrinsic
def _fma(typing, one, other, more):
    """``one * other + more``, rounded once."""
    return _VECTOR(_VECTOR, _VECTOR, _VECTOR), lambda context, builder, signature, values: _call(
        builder, "llvm.fma", *values
    )


@intrinsic
def _larger(typing, one, other):
    """The larger of two; where they cannot be compared, the second."""
    return _VECTOR(_VECTOR, _VECTOR), lambda context, builder, signature, values: builder.select(
        builder.fcmp_ordered(">", *values), *values
    )


@intrinsic
def _root(typing, number):
    return _VECTOR(_VECTOR), lambda context, builder, signature, values: _call(
        builder, "llvm.sqrt", *values
    )


@intrinsic
def _times_power(typing, number, shifted):
    """``2^k * number`` where ``shifted = k + _ROUND``: the last bits of that are ``k``, and go to
    the exponent.
    """

    def emit(context, builder, signature, values):
        number, shifted = (builder.bitcast(value, _INTEGERS) for value in values)
        return builder.bitcast(
            builder.add(number, builder.shl(shifted, ir.Constant(_INTEGERS, [52] * _WIDTH))),
            _DOUBLES,
        )

    return _VECTOR(_VECTOR, _VECTOR), emit


@njit
def _exponential(x):
    """``exp(x)`` for ``x`` of at most 700."""
    x = _larger(x, _all(_SMALLEST))
    shifted = _fma(x, _all(_PER_LOG_2), _all(_ROUND))
    k = shifted - _all(_ROUND)
    r = _fma(k, _all(-_REST), _fma(k, _all(-_LOG_2), x))
    p = _all(_TERMS[0])
    for term in literal_unroll(_TERMS[1:]):
        p = _fma(p, r, _all(term))
    return _times_power(p, shifted)


@njit
def _step_tabular(theta, weights, factor, log_prior, reference):
    """``theta += factor * weights``, then the weights of the new logits ``log_prior + theta``;
    gives the largest, and the sums of weights and squares.
    """
    top, total, squares = _all(-np.inf), _all(0.0), _all(0.0)
    for arm in range(len(log_prior)):
        moved = _fma(factor, _load(weights, arm), _load(theta, arm))
        logit = moved + _all(log_prior[arm])
        weight = _exponential(logit - reference)
        _store(theta, arm, moved)
        _store(weights, arm, weight)
        top, total, squares = _larger(top, logit), total + weight, _fma(weight, weight, squares)
    return top, total, squares


@njit
def _weigh(theta, weights, features, log_prior, reference):
    """The weights of the logits ``log_prior + features @ theta``; gives the largest, and the sum of
    the weights.
    """
    top, total = _all(-np.inf), _all(0.0)
    for arm in range(len(log_prior)):
        logit = _all(log_prior[arm])
        for j in range(len(theta)):
            logit = _fma(_all(features[arm, j]), _load(theta, j), logit)
        weight = _exponential(logit - reference)
        _store(weights, arm, weight)
        top, total = _larger(top, logit), total + weight
    return top, total


@njit
def _add(rows, i, vector):
    _store(rows, i, _load(rows, i) + vector)


@njit
def _add_mean(gap, features, weights, factor):
    """``gap += factor * (weights @ features)``: four parameters at a time, whose sums do not wait
    for each other.
    """
    for j in range(0, len(gap), 4):
        a = b = c = d = _all(0.0)
        for arm in range(len(features)):
            weight = _load(weights, arm)
            a, b = (
                _fma(_all(features[arm, j]), weight, a),
                _fma(_all(features[arm, j + 1]), weight, b),
            )
            c, d = (
                _fma(_all(features[arm, j + 2]), weight, c),
                _fma(_all(features[arm, j + 3]), weight, d),
            )
        for i, total in enumerate((a, b, c, d)):
            _add(gap, j + i, factor * total)


@njit(cache=True, nogil=True)
def _runs(
    thetas,
    order,
    features,
    tabular,
    log_prior,
    num_right,
    power,
    eta,
    num_steps,
    ahead,
    ratios,
    sizes,
    alignments,
):
    """All steps, in place. The right arms come first in ``order``, ``log_prior`` and ``features``,
    of shape ``(arms, multiple of 4)``.
    """
    right_prior, wrong_prior, right_features, wrong_features = (
        log_prior[:num_right],
        log_prior[num_right:],
        features[:num_right],
        features[num_right:],
    )
    found, zero, minus_half, one = np.empty((2, _WIDTH)), _all(0.0), _all(-0.5), _all(1.0)
    for first in range(0, len(thetas), _WIDTH):
        here = min(_WIDTH, len(thetas) - first)
        theta, gap, weights = (
            np.zeros((len(order), _WIDTH)),
            np.empty((len(order), _WIDTH)),
            np.zeros((len(log_prior), _WIDTH)),
        )
        right_theta, wrong_theta, right_weights, wrong_weights = (
            theta[:num_right],
            theta[num_right:],
            weights[:num_right],
            weights[num_right:],
        )
        for run in range(here):
            for i in range(len(order)):
                theta[i, run] = thetas[first + run, order[i]]
        up = down = right_squares = wrong_squares = zero
        right_top = wrong_top = _all(np.inf)
        for step in range(-1, num_steps + 1):  # the first time for the largest logits alone
            right_reference, wrong_reference = right_top, wrong_top
            if tabular:
                right_top, right, right_squares = _step_tabular(
                    right_theta, right_weights, up, right_prior, right_reference
                )
                wrong_top, wrong, wrong_squares = _step_tabular(
                    wrong_theta, wrong_weights, down, wrong_prior, wrong_reference
                )
            else:
                right_top, right = _weigh(
                    theta, right_weights, right_features, right_prior, right_reference
                )
                wrong_top, wrong = _weigh(
                    theta, wrong_weights, wrong_features, wrong_prior, wrong_reference
                )
            if step < 0:
                continue
            lead, up, down = right_reference - wrong_reference, one / right, one / wrong
            _store(found, 0, lead)
            _store(found, 1, right * down)
            for run in range(here):
                ahead[first + run, step], ratios[first + run, step] = found[0, run], found[1, run]
            if step == num_steps:
                break
            behind, before = (
                _exponential(minus_half * _larger(zero - lead, zero)),
                _exponential(minus_half * _larger(lead, zero)),
            )
            success, failure = right * behind * behind, wrong * before * before
            per_whole = one / (success + failure)
            spread = (success * per_whole) * (failure * per_whole)  # J(1-J)
            factor = _all(eta) * (spread if power == 1 else _root(spread) if power > 0 else one)
            if tabular:
                square = right_squares * up * up + wrong_squares * down * down
                up, down = factor * up, zero - factor * down
            else:
                gap[:] = 0.0
                _add_mean(gap, right_features, right_weights, up)
                _add_mean(gap, wrong_features, wrong_weights, zero - down)
                square = zero
                for j in range(len(gap)):
                    part = _load(gap, j)
                    square = _fma(part, part, square)
                    _add(theta, j, factor * part)
            _store(found, 0, _root(square))
            _store(found, 1, factor * _root(square))
            for run in range(here):
                alignments[first + run, step], sizes[first + run, step] = (
                    found[0, run],
                    found[1, run],
                )
        for run in range(here):
            for i in range(len(order)):
                thetas[first + run, order[i]] = theta[i, run]


def ascend_compiled(
    problem: Problem, theta0: Array, direction: Direction, step: Step, num_steps: int
) -> Trajectory:
    """`ascend` for a bandit that all runs share, a `PolicyGradient` in the limit of large groups
    and one constant learning rate.

    The same up to rounding; alignments below 1e-150 count as 0, and an arm's chance within its
    class as at least 1e-152 of the largest.

    Parameters
    ----------
    theta0 : shape ``(runs, dim)``.

    Raises
    ------
    ValueError : another problem, direction or step, a learning rate that could move a logit by more
        than 300, or a run that leaves the range of floating-point numbers.
    """
    if (
        not isinstance(problem, (TabularBandit, LogLinearBandit))
        or problem.rewards.ndim > 1
        or problem.log_prior.ndim > 1
    ):
        raise ValueError(
            f"problem must be one TabularBandit or LogLinearBandit for the compiled loop, got {type(problem).__name__}"
        )
    if (
        not isinstance(direction, PolicyGradient)
        or direction.prompts is not None
        or direction.group_size is not None
    ):
        raise ValueError(
            "direction must be a PolicyGradient without group_size and prompts for the compiled loop"
        )
    if not isinstance(step, Constant) or np.ndim(step.eta) > 0:
        raise ValueError("step must be a Constant of one learning rate for the compiled loop")
    if isinstance(problem, LogLinearBandit) and problem.features.ndim > 2:
        raise ValueError(
            f"problem must have one matrix of features for the compiled loop, got shape {problem.features.shape}"
        )
    if np.ndim(theta0) != 2 or np.shape(theta0)[1] != problem.dim or num_steps < 1:
        raise ValueError(
            f"theta0 must have shape (runs, {problem.dim}) and num_steps be at least 1, got {np.shape(theta0)} and {num_steps!r}"
        )
    tabular = isinstance(problem, TabularBandit)
    eta, arms, features = (
        float(np.asarray(step.eta)),
        np.argsort(~problem.rewards, kind="stable"),
        np.zeros((problem.num_arms, 1)),
    )
    theta, order, per_eta = np.array(theta0, dtype=float, order="C"), arms, 1.0
    if isinstance(problem, LogLinearBandit):
        features = np.pad(problem.features[arms], ((0, 0), (0, -problem.dim % 4)))
        theta, order = np.pad(theta, ((0, 0), (0, -problem.dim % 4))), np.arange(features.shape[1])
        per_eta = 2 * float(
            np.max(np.sum(features**2, axis=1))
        )  # features times gap, which is at most twice as long as the longest features
    if eta * per_eta > _FARTHEST:
        raise ValueError(
            f"step must have a learning rate of at most {_FARTHEST / per_eta:.6g} for the compiled loop, got {eta!r}"
        )
    log_odds, ratios, sizes, alignments = (
        np.empty((len(theta), num_steps + extra)) for extra in (1, 1, 0, 0)
    )
    _runs(
        theta,
        order,
        features,
        tabular,
        problem.log_prior[arms],
        int(problem.rewards.sum()),
        _POWERS[direction.method],
        eta,
        num_steps,
        log_odds,
        ratios,
        sizes,
        alignments,
    )
    log_odds += np.log(ratios, out=ratios)
    if not (np.all(np.isfinite(log_odds)) and np.all(np.isfinite(theta))):
        raise ValueError("step must keep theta within floating-point range: take a smaller one")
    return Trajectory(log_odds, sizes, alignments, log_odds[:, 1:], theta[:, : problem.dim])
