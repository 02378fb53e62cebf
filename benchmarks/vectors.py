"""A contender: vectors of eight written by hand, below what numba offers in Python.

Eight runs go through all their steps side by side, each number of theirs a vector of eight that the
compiler LLVM has on every processor, in as many registers as it needs. One pass over a class of
arms takes the step, the new logits, their exponentials and the sums of these. For that the weights
are relative to the largest logit of the step before, which is known when the pass begins; so a
learning rate that could move a logit by more than 300 would leave the range.
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

# exp(x) = 2^k exp(r) with |r| <= log(2)/2; log(2) in two parts, so that k times the first is exact.
PER_LOG_2, LOG_2, REST = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10
# 1.5 * 2^52: a sum with it is rounded to an integer, which its last bits hold
ROUND = 6755399441055744.0
# Smaller numbers count as this one, whose exponential has a square that is no underflow.
SMALLEST = -350.0
TAYLOR = tuple(1 / factorial(power) for power in range(13, -1, -1))

WIDTH = 8
DOUBLES, INTEGERS = ir.VectorType(ir.DoubleType(), WIDTH), ir.VectorType(ir.IntType(64), WIDTH)


class Vector(types.Type):
    """Numba's type for such a vector."""


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, DOUBLES)


VECTOR = Vector("vector of eight")


def arithmetic(function: Any, instruction: str) -> None:
    """Give an operator of Python its instruction for vectors."""

    @intrinsic
    def emit(typing, one, other):
        return VECTOR(VECTOR, VECTOR), lambda context, builder, signature, values: getattr(
            builder, instruction
        )(*values)

    @overload(function)
    def typed(one, other):
        return (lambda one, other: emit(one, other)) if one is other is VECTOR else None


for pair in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    arithmetic(*pair)


def pointer(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    """To a row of an array of shape ``(rows, 8)``."""
    data = context.make_array(signature.args[0])(context, builder, values[0]).data
    offset = builder.mul(values[1], ir.Constant(values[1].type, WIDTH))
    return builder.bitcast(builder.gep(data, [offset]), DOUBLES.as_pointer())


@intrinsic
def load(typing, rows, i):
    return VECTOR(rows, types.intp), lambda context, builder, signature, values: builder.load(
        pointer(context, builder, signature, values), align=8
    )


@intrinsic
def store(typing, rows, i, vector):
    def emit(context, builder, signature, values):
        builder.store(values[2], pointer(context, builder, signature, values), align=8)
        return context.get_dummy_value()

    return types.void(rows, types.intp, VECTOR), emit


@intrinsic
def all_of(typing, number):
    """Eight times the same number."""

    def emit(context, builder, signature, values):
        none, zeros = ir.Constant(DOUBLES, ir.Undefined), ir.VectorType(ir.IntType(32), WIDTH)
        first = builder.insert_element(none, values[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, first, ir.Constant(zeros, [0] * WIDTH))

    return VECTOR(types.float64), emit


@intrinsic
def fma(typing, one, other, more):
    """``one * other + more``, rounded once."""

    def emit(context, builder, signature, values):
        kind = ir.FunctionType(DOUBLES, [DOUBLES] * 3)
        name = f"llvm.fma.v{WIDTH}f64"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)

    return VECTOR(VECTOR, VECTOR, VECTOR), emit


@intrinsic
def larger(typing, one, other):
    return VECTOR(VECTOR, VECTOR), lambda context, builder, signature, values: builder.select(
        builder.fcmp_ordered(">", *values), *values
    )


@intrinsic
def times_power(typing, number, shifted):
    """``2^k * number`` where ``shifted = k + ROUND``: the last bits of that are ``k``, and go to
    the exponent.
    """

    def emit(context, builder, signature, values):
        number, shifted = (builder.bitcast(value, INTEGERS) for value in values)
        k = builder.shl(shifted, ir.Constant(INTEGERS, [52] * WIDTH))
        return builder.bitcast(builder.add(number, k), DOUBLES)

    return VECTOR(VECTOR, VECTOR), emit


@njit
def exponential(x):
    x = larger(x, all_of(SMALLEST))
    shifted = fma(x, all_of(PER_LOG_2), all_of(ROUND))
    k = shifted - all_of(ROUND)
    r = fma(k, all_of(-REST), fma(k, all_of(-LOG_2), x))
    p = all_of(TAYLOR[0])
    for term in literal_unroll(TAYLOR[1:]):
        p = fma(p, r, all_of(term))
    return times_power(p, shifted)


@njit
def move(theta, weights, factor, reference):
    """``theta += factor * weights``, then the weights of the new logits; gives the largest logit
    and the sum of the weights.
    """
    top, total = all_of(-np.inf), all_of(0.0)
    for arm in range(len(theta)):
        logit = fma(factor, load(weights, arm), load(theta, arm))
        weight = exponential(logit - reference)
        store(theta, arm, logit)
        store(weights, arm, weight)
        top, total = larger(top, logit), total + weight
    return top, total


@njit(nogil=True)
def reinforce(ends, success, num_right, eta):
    """All steps, in place, the right arms first; ``success`` has shape ``(runs, steps + 1)``."""
    rates, zero, half = np.empty((1, WIDTH)), all_of(0.0), all_of(-0.5)
    num_arms, num_steps = ends.shape[1], success.shape[1] - 1
    for first in range(0, len(ends), WIDTH):
        here = min(WIDTH, len(ends) - first)
        theta, weights = np.zeros((num_arms, WIDTH)), np.zeros((num_arms, WIDTH))
        theta[:, :here] = ends[first : first + here].T
        up = down = zero
        right_top = wrong_top = all_of(np.inf)
        for step in range(-1, num_steps + 1):  # the first time for the largest logits alone
            lead = right_top - wrong_top
            right_top, right = move(theta[:num_right], weights[:num_right], up, right_top)
            wrong_top, wrong = move(theta[num_right:], weights[num_right:], down, wrong_top)
            if step < 0:
                continue
            behind = exponential(half * larger(zero - lead, zero))
            before = exponential(half * larger(lead, zero))
            good, bad = right * behind * behind, wrong * before * before
            rate = good / (good + bad)
            store(rates, 0, rate)
            success[first : first + here, step] = rates[0, :here]
            factor = all_of(eta) * rate * (bad / (good + bad))
            up, down = factor / right, zero - factor / wrong
        ends[first : first + here] = theta[:, :here].T
