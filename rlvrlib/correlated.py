r"""Tokens with a controlled correlation, from independent to copying, solved exactly.

Two ways to correlate the tokens of `TokenWindow` that leave the law of a single token alone. At
``theta = 0`` both give the same responses with the same probabilities; they differ in how ``theta``
enters.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, exprel, log_ndtr

from rlvrlib.checks import finite, inside, last_axis, non_negative, one_of, whole, whole_number
from rlvrlib.problems import Array, Problem, Regularity, find_root, unit

__all__ = ["CorrelatedWindow"]

MECHANISMS = ("persistence", "copying")


class CorrelatedWindow(Problem):
    """``T`` binary tokens of a Markov chain; correct iff ``low <= number of ones <= high``.

    One parameter: ``dim = 1``. The first token is a one with probability ``expit(theta)``. After a
    token ``u`` the next one is a one with probability

    - ``"persistence"``: ``expit(theta + (2u - 1) 2 artanh(rho))``. Logits are linear in ``theta``;
      at ``theta = 0`` each token is fair and tokens at a distance ``k`` have the correlation
      ``rho^k``.
    - ``"copying"``: ``rho u + (1 - rho) expit(theta)``: a token repeats the last one with
      probability ``rho`` and is drawn anew otherwise. Each token is a one with probability
      ``expit(theta)``, whatever ``theta`` and ``rho``, and tokens at a distance ``k`` have the
      correlation ``rho^k``. Logits are not linear in ``theta``.

    Parameters
    ----------
    length : ``T``, at least 1.
    low, high : the window of counts that are correct, within 0 and ``T``; neither empty nor
        everything.
    correlation : ``rho``, in [0, 1): 0 gives independent tokens, 1 would be a response of copies.
    mechanism : one of the two names above.
    """

    dim = 1

    def __init__(
        self, length: int, low: int, high: int, correlation: float, mechanism: str = "persistence"
    ):
        whole_number(1, length=length)
        whole_number(0, low=low)
        whole_number(0, high=high)
        if not (0 <= low <= high <= length and high - low < length):
            raise ValueError(
                f"low and high must leave correct and wrong counts from 0 to {length}, "
                f"got {low!r} and {high!r}"
            )
        inside("[0, 1)", correlation=correlation)
        one_of(MECHANISMS, mechanism=mechanism)
        self.length, self.low, self.high = length, low, high
        self.correlation, self.mechanism = correlation, mechanism

    @classmethod
    def around(
        cls,
        length: int,
        correlation: float,
        mechanism: str,
        half_width: float,
        offset: float = 0.0,
    ) -> CorrelatedWindow:
        """The counts within ``half_width`` of a centre that is ``offset`` beside ``T/2``, both in
        standard deviations of the count of fair tokens (`count_spread`).

        Raises
        ------
        ValueError : a window without a count, or one that leaves none from 0 to ``T`` below or
            above it.
        """
        whole_number(1, length=length)
        ends = np.multiply([-1, 1], non_negative(half_width=half_width)) + finite(offset=offset)
        low, high = length / 2 + ends * count_spread(length, correlation)
        if low <= 0 or high >= length or np.ceil(low) > np.floor(high):
            raise ValueError(
                "half_width and offset must leave correct counts, and wrong ones on both sides: "
                f"of 0 to {length} they leave {low:g} to {high:g}"
            )
        return cls(length, int(np.ceil(low)), int(np.floor(high)), correlation, mechanism)

    @property
    def max_length(self) -> int:
        return self.length

    def transitions(self, theta: ArrayLike) -> Array:
        """``P(v | u)``, shape ``(..., 3, 2)``; the last row is the start."""
        return self._moves(last_axis(1, theta=theta))[0]

    def log_odds(self, theta: ArrayLike) -> Array:
        """Shape ``(...)``. Both rates are sums of positive terms, so both keep their digits."""
        ((right, wrong),) = self._rates(theta, 1)
        return np.log(right) - np.log(wrong)

    def gradient_gap(self, theta: ArrayLike) -> Array:
        """``l'``, shape ``(..., 1)``."""
        (right, wrong), (right_slope, wrong_slope) = self._rates(theta, 2)
        return (right_slope / right - wrong_slope / wrong)[..., None]

    def curvature(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``-l''`` times the square of the direction, shape ``(...)``."""
        rates, slopes, bends = self._rates(theta, 3)
        right, wrong = bends / rates - (slopes / rates) ** 2
        return (wrong - right) * last_axis(1, direction=direction)[..., 0] ** 2

    def regularity(self, direction: ArrayLike) -> Regularity:
        """Token scores lie in an interval of length 1 and their derivatives between -1/4 and 1/4,
        for both mechanisms.
        """
        one = np.ones(unit(last_axis(1, direction=direction)).shape[:-1])
        linear = self.mechanism == "persistence"
        size = self.length
        return Regularity(size * one, size / 4 * one, one, one / 4, size, linear)

    def local_regularity(self, theta: ArrayLike, direction: ArrayLike) -> Regularity:
        """As `regularity`, with the conditional variance at ``theta``."""
        along = unit(last_axis(1, direction=direction))
        return replace(self.regularity(along), variance=self.conditional_variance(theta, along))

    def conditional_variance(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``V``: largest sum over a response of the variances of its token scores given the past,
        shape ``(...)``.

        Along a unit direction it is ``T p (1-p)`` for ``rho = 0``. At ``theta = 0`` it is ``(1 +
        (T-1)(1 - rho^2)) / 4`` with persistence and ``(1 + (T-1)(1 - rho)/(1 + rho)) / 4`` with
        copying, whatever the past.
        """
        moves = self._moves(last_axis(1, theta=theta))
        variance = np.sum(moves[1] ** 2 / moves[0], axis=-1)
        largest = variance[..., 2] + (self.length - 1) * np.max(variance[..., :2], axis=-1)
        return largest * last_axis(1, direction=direction)[..., 0] ** 2

    def count_law(self, theta: ArrayLike) -> Array:
        """``P(number of ones = k)`` for ``k = 0 ... T``, shape ``(..., T + 1)``."""
        return self._laws(theta, 1)[0]

    def _moves(self, theta: Array) -> Array:
        """``P(v | u)`` and its first two derivatives in ``theta``, shape ``(3, ..., 3, 2)``."""
        rho = self.correlation
        shift = (
            2 * np.arctanh(rho) * np.array([-1.0, 1.0, 0.0])
            if self.mechanism == "persistence"
            else np.zeros(3)
        )
        ones, zeros = expit(theta + shift), expit(-theta - shift)
        slope = ones * zeros
        bend = slope * (zeros - ones)
        moves = np.stack(
            [
                np.stack([zeros, ones], -1),
                np.stack([-slope, slope], -1),
                np.stack([-bend, bend], -1),
            ]
        )
        if self.mechanism == "copying":
            moves[..., :2, :] *= 1 - rho
            moves[0, ..., :2, :] += rho * np.eye(2)
        return moves

    def _rates(self, theta: ArrayLike, orders: int) -> Array:
        """Success and failure rates, and derivatives, shape ``(orders, 2, ...)``."""
        laws = self._laws(theta, orders)
        inside = slice(self.low, self.high + 1)
        right = laws[..., inside].sum(axis=-1)
        wrong = laws[..., : self.low].sum(axis=-1) + laws[..., self.high + 1 :].sum(axis=-1)
        return np.stack([right, wrong], axis=1)

    def _laws(self, theta: ArrayLike, orders: int) -> Array:
        theta = last_axis(1, theta=theta)
        moves = self._moves(theta)[:orders]
        laws = np.empty((orders, *theta.shape[:-1], self.length + 1))
        for index in np.ndindex(theta.shape[:-1]):
            laws[(slice(None), *index)] = _law_of_ones(moves[(slice(None), *index)], self.length)
        return laws


def count_spread(length: ArrayLike, correlation: ArrayLike) -> Array:
    """Standard deviation of the number of ones of ``T`` fair tokens whose correlation at a distance
    ``k`` is ``rho^k``: the root of ``T (1+rho) / (1-rho) - 2 rho (1 - rho^T) / (1-rho)^2``, over 2.
    """
    rho, tokens = inside("[0, 1)", correlation=correlation), whole(1, length=length)
    gap = 1 - rho
    return np.sqrt(tokens * (1 + rho) / gap - 2 * rho * (1 - rho**tokens) / gap**2) / 2


def limit_step(failure_rate: ArrayLike, offset: ArrayLike = 0.0) -> Array:
    """``2 delta / l'``: exact critical step from fair tokens per unit of alignment, times the
    conditional variance ``V``, in the limit of many decisions; shape ``(...)``.

    There the count less ``delta`` is normal, correct within ``u``, and the log-odds have the slope
    ``l' = (phi(delta - u) - phi(delta + u)) / (J F)``. At the summit, ``delta = 0``, it is
    ``J F / (u phi(u))``. Source: the book's chapter on correlated tokens, correlated limit.

    Parameters
    ----------
    failure_rate : ``F``, in (0, 1), which gives the half-width ``u``.
    offset : ``delta``, of the window beside the mean, in standard deviations of the count.
    """
    failure = inside("(0, 1)", failure_rate=failure_rate)
    failure, delta = np.broadcast_arrays(failure, np.abs(finite(offset=offset)))

    def excess(u: Array, failure: Array, delta: Array) -> Array:
        return np.logaddexp(log_ndtr(delta - u), log_ndtr(-delta - u)) - np.log(failure)

    bracket = np.zeros(delta.shape), delta + 40.0  # where F is 1, and where it underflows
    u, _ = find_root(excess, bracket, args=(failure, delta))
    density = np.exp(-((delta - u) ** 2) / 2) / np.sqrt(2 * np.pi)
    # (phi(delta - u) - phi(delta + u)) / delta, also for delta = 0
    pull = 2 * u * density * exprel(-2 * delta * u)
    return (2 * failure * (1 - failure) / pull)[()]


def _law_of_ones(moves: Array, length: int) -> Array:
    """Law of the number of ones of ``length`` tokens and its derivatives, shape ``(orders, length +
    1)``.

    Transitions are polynomials in a mark of the ones; the power of their matrix is found by
    squaring, so that all terms of the law itself are positive: no digits are lost in its tails.
    """
    orders = len(moves)
    marked = np.zeros((orders, 3, 2, 2))  # order, last token, token, its ones
    marked[..., 0, 0], marked[..., 1, 1] = moves[..., 0], moves[..., 1]
    law, power, rest = marked[:, 2:], marked[:, :2], length - 1
    while rest:
        if rest % 2:
            law = _chained(law, power)
        rest //= 2
        if rest:
            power = _chained(power, power)
    return law.sum(axis=(1, 2))


def _chained(first: Array, second: Array) -> Array:
    """Product of two matrices of polynomials, with its derivatives by Leibniz' rule."""
    orders, rows, _, size = first.shape
    result = np.zeros((orders, rows, 2, size + second.shape[-1] - 1))
    for order in range(orders):
        for part in range(order + 1):
            factor = 2.0 if 0 < part < order else 1.0  # binomial coefficients up to the second row
            for row, middle, column in product(range(rows), range(2), range(2)):
                term = np.convolve(first[part, row, middle], second[order - part, middle, column])
                result[order, row, column] += factor * term
    return result
