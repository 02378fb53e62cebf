"""Responses made of tokens, solved exactly: a window of i.i.d. tokens. `MarkovTokens` are in
`rlvrlib.markov_tokens`.

A `Problem` (theory section 5). Every response has the length ``T``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, expit, gammaln

from rlvrlib.bandits import SoftmaxBandit
from rlvrlib.problems import Array, Regularity, check_group_size, log_sum_exp, unit

# A smaller success or failure rate is computed as a logarithm, by summing over its counts: SciPy's
# incomplete beta function can lose all its digits below 1e-250. The curvature from rates loses a
# factor of 2 log(1/rate) to cancellation, so it changes over sooner.
_TINY, _SMALL = 1e-200, 1e-20
_FAR = 650.0


class TokenWindow(SoftmaxBandit):
    """``T`` i.i.d. tokens with ``P(1) = expit(theta)``; correct iff ``low <= number of ones <=
    high``; ``dim = 1``.

    A softmax policy over the number of ones ``k`` with logits ``log C(T, k) + k theta``. The logits
    are kept as the log-probabilities of the binomial law by its saddle point, right to about 1e-13
    up to a million tokens, where the binomial coefficient by itself would lose nine digits.

    Parameters
    ----------
    length : ``T``, at least 1.
    low, high : the window of counts that are correct, within 0 and ``T``; neither empty nor
        everything.
    """

    def __init__(self, length: int, low: int, high: int):
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length!r}")
        counts = np.arange(length + 1)
        rewards = (counts >= low) & (counts <= high)
        if not rewards.any() or rewards.all():
            raise ValueError(
                f"low and high must leave correct and wrong counts from 0 to {length}, got {low!r} and {high!r}"
            )
        super().__init__(rewards, 1)
        self.length = self.max_length = length
        self.low, self.high = low, high
        self._counts = counts.astype(float)
        self._log_ways = _log_ways(length, self._counts)

    def logits(self, theta: Array) -> Array:
        return self._log_law(theta, slice(None))

    def log_odds(self, theta: ArrayLike) -> Array:
        return self.log_odds_and_gap(theta)[0]

    def log_odds_and_gap(self, theta: ArrayLike) -> tuple[Array, Array]:
        """Both from the tails of the binomial law, at a cost that hardly grows with ``T``."""
        theta = self._theta(theta)
        success, failure, slope, _ = self._rates(theta)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_odds, gap = (
                np.asarray(np.log(success) - np.log(failure)),
                slope / (success * failure),
            )
        gap = np.asarray(gap)[..., None]
        for sign, rate, rare in ((1, success, self.rewards), (-1, failure, ~self.rewards)):
            far = rate <= _TINY
            if np.any(far):
                log_rate, mean, _ = self._rare_law(theta[far], rare)
                log_odds[far], gap[far] = (
                    sign * log_rate[..., 0],
                    sign * (mean - self.length * expit(theta[far])),
                )
        return log_odds[()], gap

    def curvature(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``(1-2J) Gap^2 - J'' / (J(1-J))``, which is ``-l''``, times the square of the direction."""
        theta, direction = self._theta(theta), self._theta(direction, "direction")
        success, failure, slope, bend = self._rates(theta)
        with np.errstate(divide="ignore", invalid="ignore"):
            gap, bend = slope / (success * failure), bend / (success * failure)
            value = np.asarray((failure - success) * gap**2 - bend)
        for sign, rate, rare in ((1, success, self.rewards), (-1, failure, ~self.rewards)):
            far = rate <= _SMALL
            if np.any(far):
                variance = (
                    self.length * expit(theta[far]) * expit(-theta[far])
                    - self._rare_law(theta[far], rare)[2]
                )
                value[far] = sign * variance[..., 0]
        return value * direction[..., 0] ** 2

    def _rates(self, theta: Array) -> tuple[Array, Array, Array, Array]:
        """``J``, ``1-J``, ``dJ/dtheta`` and ``d^2 J/dtheta^2``."""
        length, low, high = self.length, self.low, self.high
        ones, zeros = np.asarray(expit(theta[..., 0])), np.asarray(expit(-theta[..., 0]))
        below = betainc(length - low + 1, low, zeros) if low > 0 else np.zeros_like(ones)
        above = betainc(high + 1, length - high, ones) if high < length else np.zeros_like(ones)
        success = np.asarray(1 - below - above)
        rare = (
            success < 0.1
        )  # there the difference keeps its digits only between the two tails that are shorter
        if np.any(rare):
            from_low = betainc(low, length - low + 1, ones[rare]) if low > 0 else 1.0
            to_high = betainc(length - high, high + 1, zeros[rare]) if high < length else 1.0
            passed = 2 * length * ones[rare] > low + high
            success[rare] = np.where(passed, to_high - below[rare], from_low - above[rare])
        # dP(N >= k)/dtheta = (1-p) k P(N = k): what flows in over the lower edge less what flows
        # out over the upper one
        law = np.exp(self._log_law(theta, [low, high]))
        flow = np.stack([zeros * low, ones * (high - length)], axis=-1) * law
        drift = np.array([low, high + 1]) - (length + 1) * ones[..., None]
        return success, below + above, flow.sum(axis=-1), np.sum(flow * drift, axis=-1)

    def _rare_law(self, theta: Array, rare: np.ndarray) -> tuple[Array, Array, Array]:
        """Log-probability of the counts in ``rare``; mean and variance of the count given that;
        shape ``(..., 1)`` each.

        For where the other counts have probability 1, so that their mean and variance are those of
        the binomial law.
        """
        counts = self._counts[rare]
        law = self._log_law(theta, rare)
        total = log_sum_exp(law)[..., None]
        weights = np.exp(law - total)
        mean = np.sum(weights * counts, axis=-1, keepdims=True)
        return total, mean, np.sum(weights * (counts - mean) ** 2, axis=-1, keepdims=True)

    def _log_law(self, theta: Array, which: slice | list[int] | np.ndarray) -> Array:
        """Log-probability of the counts that ``which`` picks, shape ``(..., counts)``."""
        length, counts = float(self.length), self._counts[which]
        rest = length - counts
        beyond = theta - np.clip(
            theta, -_FAR, _FAR
        )  # there expit underflows and the law is exponential in theta
        ones, zeros = expit(theta - beyond), expit(beyond - theta)  # shape (..., 1)
        deviance = _deviance(
            np.stack([counts, rest]), length * np.stack([ones, zeros], axis=-2)
        ).sum(axis=-2)
        inner = (
            self._log_ways[which]
            - deviance
            - rest * np.maximum(beyond, 0)
            - counts * np.maximum(-beyond, 0)
        )
        if np.all(counts * rest):
            return inner
        edge = np.where(
            counts == 0, -length * np.logaddexp(0, theta), -length * np.logaddexp(0, -theta)
        )
        return np.where((counts == 0) | (rest == 0), edge, inner)

    def logit_slopes(self, theta: Array, direction: Array) -> Array:
        return direction * self._counts

    def logit_curvatures(self, theta: Array, direction: Array) -> Array:
        return np.zeros(self.num_arms)

    def mean_logit_gradient(self, theta: Array, weights: Array) -> Array:
        return np.sum(weights * self._counts, axis=-1, keepdims=True)

    def regularity(self, direction: ArrayLike) -> Regularity:
        """Token scores ``x_t - p`` lie in an interval of length 1, with variance at most 1/4."""
        direction = unit(direction)
        one = np.ones(direction.shape[:-1])
        return Regularity(self.length * one, self.length / 4 * one, one, one / 4, self.length)

    def sample(
        self, theta: ArrayLike, group_size: int, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Rewards and lengths, shape ``(..., G)``, and scores, shape ``(..., G, 1)``, of
        ``group_size`` responses.
        """
        check_group_size(group_size)
        theta = self._theta(theta)
        chance = expit(theta)
        ones = rng.binomial(self.length, chance, size=(*theta.shape[:-1], group_size))
        rewards = ((ones >= self.low) & (ones <= self.high)).astype(float)
        return (
            rewards,
            np.full(ones.shape, float(self.length)),
            (ones - self.length * chance)[..., None],
        )

    def _logit_change(self, theta: Array, direction: Array, step: Array) -> Array:
        return step[..., None] * direction * self._counts


def _log_ways(length: int, counts: Array) -> Array:
    """``log(C(T, k) (k/T)^k (1 - k/T)^(T-k))``, the law of a count at its own mean; not for ``k =
    0`` and ``k = T``.
    """
    rest = length - counts
    with np.errstate(divide="ignore"):
        entropy = 0.5 * np.log(length / (2 * np.pi * counts * rest))
    return _stirling_error(length) - _stirling_error(counts) - _stirling_error(rest) + entropy


def _deviance(counts: Array, mean: Array) -> Array:
    """``k log(k / m) - k + m``, without cancellation where ``k`` is near ``m``."""
    excess = (counts - mean) / mean
    ratio = excess / (2 + excess)
    square = ratio**2
    series = 2 * ratio * square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square / 9)))
    near = np.abs(excess) < 0.01
    plain = counts * np.log1p(np.where(counts > 0, excess, 0.0)) - (counts - mean)
    # k log(k/m) = m (1+x) log(1+x), and log(1+x) = 2 atanh(x/(2+x))
    return np.where(near, mean * ((1 + excess) * series + excess * ratio), plain)


def _stirling_error(count: ArrayLike) -> Array:
    """``log n! - (log(2 pi n)/2 + n log n - n)``; 0 for ``n = 0``, which the caller treats apart."""
    count = np.asarray(count, dtype=float)
    n = np.maximum(count, 1.0)
    plain = gammaln(n + 1) - (0.5 * np.log(2 * np.pi * n) + n * np.log(n) - n)
    inverse = 1 / n**2
    series = (
        1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse * (1 / 1680 - inverse / 1188)))
    ) / n
    return np.where(count > 15, series, np.where(count > 0, plain, 0.0))
