"""Responses made of i.i.d. tokens, solved exactly: windows of the number of ones, one or a stack of
them, and windows as prompts that share parameters. `MarkovTokens` are in `rlvrlib.markov_tokens`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, expit, gammaln, log_ndtr, logit, ndtr

from rlvrlib.bandits import LogLinearBandit
from rlvrlib.checks import finite, inside, instance, positive, whole, whole_number
from rlvrlib.first_zero import zero_between
from rlvrlib.problems import Array, Problem, Regularity, log_sum_exp, unit

__all__ = ["NormalWindow", "TokenWindow", "WindowPrompts"]

# A smaller success or failure rate is computed as a logarithm, by summing over its counts: SciPy's
# incomplete beta function can lose all its digits below 1e-250. The curvature from rates loses a
# factor of 2 log(1/rate) to cancellation, so it changes over sooner.
_TINY, _SMALL = 1e-200, 1e-20
# Beyond this expit underflows, and the law of the ones is exponential in theta.
_FAR = 650.0
# The logit of a count that cannot occur.
_NEVER = -1e300


class TokenWindow(LogLinearBandit):
    """``T`` i.i.d. tokens with ``P(1) = expit(theta)``; correct iff ``low <= number of ones <=
    high``; ``dim = 1``.

    A softmax policy over the number of ones ``k`` with logits ``log C(T, k) + k theta``. The logits
    are kept as the log-probabilities of the binomial law by its saddle point, right to about 1e-13
    up to a million tokens, where the binomial coefficient by itself would lose nine digits.

    Parameters
    ----------
    length : ``T``, whole, at least 1.
    low, high : the window of counts that are correct, whole; it leaves correct and wrong counts
        from 0 to ``T``. Arrays make a stack of windows: the three broadcast, and so do their shape
        and that of the runs.
    """

    def __init__(self, length: ArrayLike, low: ArrayLike, high: ArrayLike):
        length, low = whole(1, length=length), whole(-np.inf, low=low)
        high = whole(-np.inf, high=high)
        counts = np.arange(np.max(length) + 1)
        rewards = (counts >= low[..., None]) & (counts <= np.minimum(high, length)[..., None])
        total = rewards.sum(axis=-1)
        bad = (total == 0) | (total > length)
        if np.any(bad):
            sizes = np.broadcast_arrays(length, low, high)
            first = [size[bad].flat[0] for size in sizes]
            raise ValueError(
                "low and high must leave correct and wrong counts from 0 to {}, got {} and "
                "{}".format(*first)
            )
        super().__init__(counts[:, None], rewards)
        self.length, self.low, self.high = map(_plain, (length, low, high))
        self._size = length[..., None].astype(float)
        edges = np.stack(np.broadcast_arrays(low, high), axis=-1)
        self._edges = edges.astype(float), _log_ways(self._size, edges.astype(float))
        self._counts = counts.astype(float), _log_ways(self._size, counts.astype(float))

    @classmethod
    def around(cls, length: ArrayLike, center: ArrayLike, half_width: ArrayLike) -> TokenWindow:
        """The counts less than ``half_width sqrt(T)`` from ``center T``, as far as they are between
        1 and ``T - 1``; arrays make a stack.
        """
        middle, half = np.multiply(center, length), np.multiply(half_width, np.sqrt(length))
        low, high = np.floor(middle - half) + 1, np.ceil(middle + half) - 1
        return cls(length, np.maximum(low, 1), np.minimum(high, np.subtract(length, 1)))

    @classmethod
    def holding(cls, length: int, center: float, count: int) -> TokenWindow:
        """``count`` whole numbers from ``center T - count/2`` on, as far as they are below T."""
        low = int(np.ceil(round(center * length - count / 2, 9)))  # where it is whole, as such
        return cls(length, low, min(low + count, length) - 1)

    def __getitem__(self, index: Any) -> TokenWindow:
        sizes = np.broadcast_arrays(self.length, self.low, self.high)
        return TokenWindow(*(size[index] for size in sizes))

    @property
    def max_length(self) -> Any:
        return self.length

    @property
    def middle(self) -> Array:
        """``theta`` at which the mean share of ones is that of the middle of the window."""
        return logit((np.asarray(self.low) + self.high + 1) / (2 * np.asarray(self.length) + 2))

    @property
    def summit(self) -> Array:
        """``theta`` with the largest success rate, where what flows in over the lower edge is what
        flows out over the upper one; infinite where there is one edge.
        """
        length, low, high = np.asarray(self.length), np.asarray(self.low), np.asarray(self.high)
        log_low, log_high = (gammaln(k + 1) + gammaln(length - k + 1) for k in (low, high))
        with np.errstate(divide="ignore"):
            inflow, outflow = np.log(low) - log_low, np.log(length - high) - log_high
        return (inflow - outflow) / (high + 1 - low)

    @property
    def limit(self) -> NormalWindow:
        """What long responses tend to in natural units, as they grow with the width in proportion
        to ``sqrt(T)``. It is the `NormalWindow` of the same middle and number of counts.
        """
        share = (self.low + self.high) / (2 * self.length)
        spread = np.sqrt(share * (1 - share))
        return NormalWindow(
            (self.high - self.low + 1) / (2 * np.sqrt(self.length) * spread), spread
        )

    def natural(self, x: ArrayLike, origin: ArrayLike | None = None) -> Array:
        """``theta`` at a place in natural units, ``sqrt(T) (theta - origin) = x``, shape
        ``(..., 1)``; the origin is the summit where omitted.
        """
        start = self.summit if origin is None else np.asarray(origin)
        return np.asarray(start + np.asarray(x) / np.sqrt(self.length))[..., None]

    def reaching(self, log_odds: ArrayLike, side: int) -> Array:
        """``theta`` with these log-odds, below the summit (side -1) or above it (1), shape ``(...,
        1)``.

        Raises
        ------
        ValueError : log-odds that are not below those of the summit, or the side of a window with
            one edge on which they are not attained.
        """
        wanted, summit = np.broadcast_arrays(finite(log_odds=log_odds), self.summit)
        inner = np.isfinite(summit)

        def excess(theta: Array) -> Array:
            return self.log_odds(theta[..., None]) - wanted

        if np.any(np.where(inner, excess(np.where(inner, summit, 0.0)) <= 0, side * summit > 0)):
            raise ValueError(
                "log_odds must be below those of the summit, on a side of it on which they are "
                f"attained, got up to {np.max(wanted):.4g}"
            )
        near = np.where(inner, summit, self.middle)  # and towards a summit that is infinite
        reach = -side * np.ones(wanted.shape)
        while np.any(below := ~inner & (excess(near) <= 0)):
            near, reach = np.where(below, near + reach, near), np.where(below, 2 * reach, reach)
        far = side * np.ones(wanted.shape)
        while np.any(above := excess(near + far) > 0):
            far = np.where(above, 2 * far, far)
        return zero_between(excess, near, near + far, np.ones(wanted.shape, bool))[..., None]

    def logits(self, theta: Array) -> Array:
        return self._log_law(theta, self._size, *self._counts)

    def log_odds(self, theta: ArrayLike) -> Array:
        return self.log_odds_and_gap(theta)[0]

    def log_odds_and_gap(self, theta: ArrayLike) -> tuple[Array, Array]:
        """Both from the tails of the binomial law, at a cost that hardly grows with ``T``."""
        theta = self._theta(theta)
        success, failure, slope, _ = self._rates(theta)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_odds = np.asarray(np.log(success) - np.log(failure))
            gap = np.asarray(slope / (success * failure))
        for sign, rate, rare in ((1, success, self.rewards), (-1, failure, ~self.rewards)):
            far = rate <= _TINY
            if np.any(far):
                log_rate, mean, _, whole = self._rare_law(theta, far, rare)
                log_odds[far], gap[far] = sign * log_rate, sign * (mean - whole)
        return log_odds[()], gap[..., None]

    def curvature(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``(1-2J) Gap^2 - J'' / (J(1-J))``, that is ``-l''``, times the direction squared."""
        theta, direction = self._theta(theta), self._direction(direction)
        success, failure, slope, bend = self._rates(theta)
        with np.errstate(divide="ignore", invalid="ignore"):
            gap, bend = slope / (success * failure), bend / (success * failure)
            value = np.asarray((failure - success) * gap**2 - bend)
        for sign, rate, rare in ((1, success, self.rewards), (-1, failure, ~self.rewards)):
            far = rate <= _SMALL
            if np.any(far):
                _, _, variance, whole = self._rare_law(theta, far, rare)
                chance = np.broadcast_to(theta[..., 0], far.shape)[far]
                value[far] = sign * (whole * expit(-chance) - variance)
        return value * direction[..., 0] ** 2

    def wrong_feature_range(self, direction: ArrayLike) -> Array:
        """``D_-``, the range of the wrong counts, times the size of the direction's one entry."""
        length, low, high = np.asarray(self.length), np.asarray(self.low), np.asarray(self.high)
        width = np.where(high < length, length, low - 1) - np.where(low > 0, 0, high + 1)
        return width * np.ones(unit(direction).shape[:-1])

    def regularity(self, direction: ArrayLike) -> Regularity:
        """Token scores ``x_t - p`` lie in an interval of length 1, with variance at most 1/4."""
        one = np.ones(unit(direction).shape[:-1])
        length = np.asarray(self.length)
        return Regularity(length * one, length / 4 * one, one, one / 4, self.length, True)

    def local_regularity(self, theta: ArrayLike, direction: ArrayLike) -> Regularity:
        """With ``p`` the chance of a one: token scores ``1 - p`` and ``-p``, of variance
        ``p (1-p)``.
        """
        ones, zeros = expit(self._theta(theta)[..., 0]), expit(-self._theta(theta)[..., 0])
        one = np.ones(unit(direction).shape[:-1])
        length, bend = np.asarray(self.length), ones * zeros * one
        farthest = length * np.maximum(ones, zeros) * one
        return Regularity(
            farthest, length * bend, one, bend, self.length, True, variance=length * bend
        )

    def token_spread(self, theta: ArrayLike, direction: ArrayLike) -> tuple[Any, Array, Array]:
        """``T`` tokens: the largest fall of a score is ``p``, or ``1-p`` for a direction towards
        fewer ones, times the size of the direction; the variance ``p (1-p)`` times its square.
        """
        size, theta = self._direction(direction)[..., 0], self._theta(theta)[..., 0]
        ones, zeros = expit(theta), expit(-theta)
        drop = np.abs(size) * np.where(size > 0, ones, zeros)
        return self.length, drop, ones * zeros * size**2

    def conditional_variance(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``T p (1-p)`` times the square of the direction, shape ``(...)``."""
        size = self._direction(direction)[..., 0] ** 2
        theta = self._theta(theta)[..., 0]
        return self.length * expit(theta) * expit(-theta) * size

    def sample(
        self, theta: ArrayLike, group_size: int, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Rewards and lengths, shape ``(..., G)``, and scores, shape ``(..., G, 1)``, of
        ``group_size`` responses.
        """
        whole_number(2, group_size=group_size)
        instance(np.random.Generator, rng=rng)
        theta = self._theta(theta)
        shape = np.broadcast_shapes(theta.shape[:-1], self.rewards.shape[:-1])
        chance, length = expit(theta), self._size.astype(int)
        ones = rng.binomial(length, chance, size=(*shape, group_size))
        low, high = np.asarray(self.low)[..., None], np.asarray(self.high)[..., None]
        rewards = ((ones >= low) & (ones <= high)).astype(float)
        lengths = np.broadcast_to(self._size, ones.shape)
        return rewards, lengths.copy(), (ones - length * chance)[..., None]

    def _rates(self, theta: Array) -> tuple[Array, Array, Array, Array]:
        """``J``, ``1-J``, ``dJ/dtheta`` and ``d^2 J/dtheta^2``."""
        length, low, high = (np.asarray(size) for size in (self.length, self.low, self.high))
        ones, zeros = np.asarray(expit(theta[..., 0])), np.asarray(expit(-theta[..., 0]))
        up, down = np.maximum(low, 1), np.maximum(length - high, 1)
        below = np.where(low > 0, betainc(length - low + 1, up, zeros), 0.0)
        above = np.where(high < length, betainc(high + 1, down, ones), 0.0)
        success = np.asarray(1 - below - above)
        if np.any(success < 0.1):
            # there the difference keeps its digits only between the two tails that are shorter
            from_low = np.where(low > 0, betainc(up, length - low + 1, ones), 1.0)
            to_high = np.where(high < length, betainc(down, high + 1, zeros), 1.0)
            passed = 2 * length * ones > low + high
            shorter = np.where(passed, to_high - below, from_low - above)
            success = np.where(success < 0.1, shorter, success)
        # dP(N >= k)/dtheta = (1-p) k P(N = k): what flows in over the lower edge less what flows
        # out over the upper one
        law = np.exp(self._log_law(theta, self._size, *self._edges))
        inflow, outflow = zeros * low * law[..., 0], ones * (length - high) * law[..., 1]
        mean = (length + 1) * ones
        bend = inflow * (low - mean) - outflow * (high + 1 - mean)
        return success, below + above, inflow - outflow, bend

    def _rare_law(
        self, theta: Array, far: np.ndarray, rare: np.ndarray
    ) -> tuple[Array, Array, Array, Array]:
        """Log-probability of the counts in ``rare``; mean and variance of the count given that; and
        its mean over all counts; at the places ``far`` alone.

        For where the other counts have probability 1, so that their mean and variance are those of
        the binomial law.
        """

        def at(values: np.ndarray) -> np.ndarray:
            return np.broadcast_to(values, (*far.shape, values.shape[-1]))[far]

        some = rare.reshape(-1, rare.shape[-1]).any(axis=0)  # of the stack
        size, ways = at(self._size), at(self._counts[1][..., some])
        counts, rare = self._counts[0][some], at(rare[..., some])
        law = np.where(rare, self._log_law(at(theta), size, counts, ways), -np.inf)
        total = log_sum_exp(law)
        weights = np.exp(law - total[..., None])
        mean = weights @ counts
        variance = np.sum(weights * (counts - mean[..., None]) ** 2, axis=-1)
        return total, mean, variance, (size * expit(at(theta)))[..., 0]

    @staticmethod
    def _log_law(theta: Array, length: Array, counts: Array, log_ways: Array) -> Array:
        """Log-probability of the counts, shape ``(..., counts)``."""
        rest = np.maximum(length - counts, 0)
        beyond = theta - np.clip(theta, -_FAR, _FAR)
        ones, zeros = expit(theta - beyond), expit(beyond - theta)  # shape (..., 1)
        deviance = _deviance(counts, length * ones) + _deviance(rest, length * zeros)
        inner = log_ways - deviance - rest * np.maximum(beyond, 0) - counts * np.maximum(-beyond, 0)
        if np.all(counts * rest):
            return inner
        edge = -length * np.logaddexp(0, np.where(counts == 0, theta, -theta))
        law = np.where((counts == 0) | (rest == 0), edge, inner)
        return np.where(counts > length, _NEVER, law)


class NormalWindow(Problem):
    """The limit of a `TokenWindow` for long responses: a normal number within a half-width ``u`` of
    its target, ``J = Phi(u - s x) - Phi(-u - s x)``; ``dim = 1``.

    For ``T`` tokens with a share ``r`` of ones in the middle of a window of ``2 w sqrt(T)`` counts,
    ``x = sqrt(T) (theta - middle)``, ``s = sqrt(r (1-r))`` and ``u = w / s``.

    Parameters
    ----------
    half_width, spread : ``u`` and ``s``, positive.
    """

    dim = 1

    def __init__(self, half_width: float, spread: float = 1.0):
        positive(half_width=half_width)
        positive(spread=spread)
        self.half_width, self.spread = half_width, spread

    def log_odds(self, theta: ArrayLike) -> Array:
        log_success, log_failure, _, _ = self._parts(theta)
        return log_success - log_failure

    def gradient_gap(self, theta: ArrayLike) -> Array:
        return self._slope_and_bend(theta)[0][..., None]

    def curvature(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``(1-2J) Gap^2 - J'' / (J(1-J))`` times the square of the direction."""
        gap, bend = self._slope_and_bend(theta)
        lean = -np.tanh(self.log_odds(theta) / 2)  # 1 - 2J
        return (lean * gap**2 - bend) * finite(direction=direction)[..., 0] ** 2

    def _parts(self, theta: ArrayLike) -> tuple[Array, Array, Array, Array]:
        """Logarithms of ``J`` and ``1-J``, the place of the nearer edge, and by how much smaller
        the density at the farther one is.
        """
        away = self.spread * np.abs(finite(theta=theta)[..., 0])
        near, other = self.half_width - away, -self.half_width - away
        log_near = log_ndtr(near)
        log_success = log_near + np.log1p(-np.exp(log_ndtr(other) - log_near))
        return log_success, np.log(ndtr(-near) + ndtr(other)), near, -2 * self.half_width * away

    def _slope_and_bend(self, theta: ArrayLike) -> tuple[Array, Array]:
        """``J' / (J(1-J))`` and ``J'' / (J(1-J))``."""
        log_success, log_failure, near, smaller = self._parts(theta)
        density = np.exp(-(near**2) / 2 - log_success - log_failure) / np.sqrt(2 * np.pi)
        sign = np.sign(finite(theta=theta)[..., 0])
        bend = near + (2 * self.half_width - near) * np.exp(smaller)
        return self.spread * sign * density * np.expm1(smaller), -(self.spread**2) * density * bend


class WindowPrompts(Problem):
    """A batch of token windows that share parameters, in which every angle between the gaps can be
    set.

    Prompt ``q`` asks for ``T_q`` i.i.d. tokens with ``P(1) = expit(b_q + <v_q, theta>)`` and
    accepts ``low_q`` to ``high_q`` ones, so its gap is a multiple of ``v_q``. The offsets ``b_q``
    are such that ``theta = 0`` has the given success rates, below the windows' summits.

    Parameters
    ----------
    lengths, low, high : whole numbers, shape ``(..., Q)``, with ``1 <= low <= high < lengths``.
    directions : ``v_q``, shape ``(..., Q, dim)``; neither normalized nor independent by need.
    initial_success : shape ``(..., Q)``, in (0, 1), below the best success rate of each window.

    Attributes
    ----------
    best_log_odds : the summit of each window, shape ``(..., Q)``. With independent ``v_q`` all are
        reached at one ``theta``.
    """

    def __init__(
        self,
        lengths: ArrayLike,
        low: ArrayLike,
        high: ArrayLike,
        directions: ArrayLike,
        initial_success: ArrayLike,
    ):
        self.directions = np.atleast_1d(finite(directions=directions))
        start = inside("(0, 1)", initial_success=initial_success)
        sizes = whole(1, lengths=lengths), whole(0, low=low), whole(0, high=high)
        shape = self.directions.shape[:-1]
        start = np.broadcast_to(start, shape)
        self.lengths, low, high = (np.broadcast_to(size, shape) for size in sizes)
        self._windows = TokenWindow(self.lengths, low, high)
        if np.any(one_edged := ~np.isfinite(self._windows.summit)):
            raise ValueError(
                "low and high must leave wrong counts on both sides, 1 <= low <= high < lengths, "
                f"got {low[one_edged][0]} and {high[one_edged][0]} of {self.lengths[one_edged][0]}"
            )
        self.best_log_odds = self._at(self._windows.summit)[0]
        best = expit(self.best_log_odds)
        if not np.all((start > 0) & (start < best)):
            raise ValueError(
                "initial_success must be above 0 and below the best success rate of its window, "
                f"got rates from {start.min():.4g} to {start.max():.4g} where the lowest best rate "
                f"is {best.min():.4g}"
            )
        self.offsets = self._windows.reaching(logit(start), -1)[..., 0]

    @property
    def dim(self) -> int:
        return self.directions.shape[-1]

    @property
    def max_length(self) -> Any:
        return self.lengths

    def log_odds(self, theta: ArrayLike) -> Array:
        return self.log_odds_and_gap(theta)[0]

    def gradient_gap(self, theta: ArrayLike) -> Array:
        return self.log_odds_and_gap(theta)[1]

    def log_odds_and_gap(self, theta: ArrayLike) -> tuple[Array, Array]:
        log_odds, slope = self._at(self._logit(theta))
        return log_odds, slope[..., None] * self.directions

    def curvature(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        bend = self._windows.curvature(self._logit(theta)[..., None], np.ones(1))
        return bend * self._along(finite(direction=direction)) ** 2

    def regularity(self, direction: ArrayLike) -> Regularity:
        """Token scores along ``w`` lie in an interval of length ``|<v_q, w>|``; each entry has
        shape ``(..., Q)``.
        """
        width = np.abs(self._along(unit(direction)))
        bend = width**2 / 4
        return Regularity(
            self.lengths * width, self.lengths * bend, width, bend, self.lengths, True
        )

    def local_regularity(self, theta: ArrayLike, direction: ArrayLike) -> Regularity:
        """Those of the windows, scaled by the width ``|<v_q, w>|``."""
        width = np.abs(self._along(unit(direction)))
        window = self._windows.local_regularity(self._logit(theta)[..., None], np.ones(1))
        bend = window.score_lipschitz * width**2
        return Regularity(
            window.score_bound * width,
            bend,
            width,
            window.token_lipschitz * width**2,
            self.lengths,
            linear_logits=True,
            variance=bend,
        )

    def conditional_variance(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``T_q p (1-p) <v_q, w>^2``, shape ``(..., Q)``."""
        one = self._windows.conditional_variance(self._logit(theta)[..., None], np.ones(1))
        return one * self._along(finite(direction=direction)) ** 2

    def _at(self, logits: Array) -> tuple[Array, Array]:
        log_odds, slope = self._windows.log_odds_and_gap(logits[..., None])
        return log_odds, slope[..., 0]

    def _logit(self, theta: ArrayLike) -> Array:
        return self.offsets + self._along(finite(theta=theta))

    def _along(self, vector: Array) -> Array:
        return np.sum(self.directions * vector, axis=-1)


def _plain(values: np.ndarray) -> Any:
    """One number as such."""
    return values if values.ndim else int(values)


def _log_ways(length: Array, counts: Array) -> Array:
    """``log(C(T, k) (k/T)^k (1 - k/T)^(T-k))``, the law of a count at its own mean; not for ``k =
    0`` and ``k = T``, nor beyond.
    """
    rest = np.maximum(length - counts, 0)
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
    """``log n! - (log(2 pi n)/2 + n log n - n)``; 0 for ``n = 0``, a case of the caller's."""
    count = np.asarray(count, dtype=float)
    n = np.maximum(count, 1.0)
    plain = gammaln(n + 1) - (0.5 * np.log(2 * np.pi * n) + n * np.log(n) - n)
    inverse = 1 / n**2
    series = (
        1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse * (1 / 1680 - inverse / 1188)))
    ) / n
    return np.where(count > 15, series, np.where(count > 0, plain, 0.0))
