"""Thresholds that are found and not bounded: the first zero of the gain of a step, or of a law of
the wrong responses.

`exact` and `failure_law` are functions of a `Problem`, where those of `rlvrlib.thresholds` take
numbers; `thresholds` has both under the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlvrlib.bandits import SoftmaxBandit, log_mean_exp
from rlvrlib.checks import finite, instance, number
from rlvrlib.problems import Array, Problem, alignment, find_root, log_sum_exp, unit

# The scan: its first point in natural scales, and the ratio of neighbouring points.
_FIRST, _RATIO = 1e-4, 1.05
# Points of the scan that are evaluated at once: as many as one call does in the time of a few, not
# so many that most are of no use.
_AT_ONCE, _VALUES = 32, 4096


def exact(problem: Problem, theta: ArrayLike, direction: ArrayLike, *, reach: float = 1e6) -> Array:
    """First positive zero of ``l(theta + eta w) - l(theta)`` in ``eta``, shape ``(...)``.

    0 where the alignment is not positive, infinite where the gain stays positive up to ``reach``
    natural scales ``dmu / (|kappa| + dmu^2)``. The search is that of `first_zero`: a dip
    narrower than a thousandth of its position can be missed.

    Parameters
    ----------
    problem : any `Problem`.
    theta, direction : shape ``(..., dim)``; the direction is scaled to length one.
    reach : how far the search goes, at least 1.

    Raises
    ------
    ValueError : a direction of zero length, or a gain lost in rounding.
    """
    instance(Problem, problem=problem)
    number("[1, inf)", reach=reach)
    theta, direction = finite(theta=theta), unit(direction)
    slope = np.maximum(finite(alignment=alignment(problem, theta, direction)), 0.0)
    bend = np.broadcast_to(np.abs(problem.curvature(theta, direction)), slope.shape)
    rising = slope > 0
    speed = np.maximum(bend + slope**2, np.finfo(float).tiny)  # the square may vanish
    scale = np.where(rising, slope / np.where(rising, speed, 1.0), 1.0)

    def gain(step: Array) -> Array:
        values = problem.log_odds_gain(theta, direction, step)
        return np.broadcast_to(values, np.broadcast_shapes(values.shape, slope.shape))

    return first_zero(gain, scale, rising, reach)


def failure_law(bandit: SoftmaxBandit, theta: ArrayLike, direction: ArrayLike) -> Array:
    """Zero of ``log E[exp(eta (s_w - E[s_w | r=1])) | r=0]``: below it the log-odds of a log-linear
    policy rise (failure law).

    It needs the law of the wrong scores, not only a bound on them; with one correct response it is
    the exact threshold. Infinite where no wrong response scores above the mean of the correct ones.
    Shape ``(...)``.

    Parameters
    ----------
    bandit : a log-linear policy over arms.
    theta, direction : shape ``(..., dim)``; the direction is scaled to length one.

    Raises
    ------
    ValueError : a policy that is not log-linear, or a direction of zero length.
    """
    instance(SoftmaxBandit, bandit=bandit)
    theta, direction = finite(theta=theta), unit(direction)
    _log_linear(bandit, theta, direction)
    law, scores = bandit.log_probabilities(theta), bandit.scores(theta, direction)
    right, wrong = np.where(bandit.rewards, law, -np.inf), np.where(bandit.rewards, -np.inf, law)
    right, wrong = (part - log_sum_exp(part)[..., None] for part in (right, wrong))
    excess = scores - np.sum(np.exp(right) * scores, axis=-1, keepdims=True)
    slope = -np.sum(np.exp(wrong) * excess, axis=-1)  # the alignment
    # of the wrong responses; the correct ones have no weight
    excess = np.where(np.isfinite(wrong), excess, 0.0)
    wanted = (slope > 0) & np.any(excess > 0, axis=-1)

    def gain(step: Array) -> Array:
        return -log_mean_exp(np.exp(wrong), law, ~bandit.rewards, step[..., None] * excess)

    spread = np.max(excess, axis=-1) - np.min(np.where(np.isfinite(wrong), excess, np.inf), axis=-1)
    # half of the log-linear bound: there it is positive
    low = np.where(wanted, 4 * slope / np.where(wanted, spread, 1.0) ** 2, 0.0)
    high = 2 * low
    while np.any(rising := wanted & (gain(high) >= 0)):
        low, high = np.where(rising, high, low), np.where(rising, 2 * high, high)
    return np.where(
        wanted, zero_between(gain, low, high, wanted), np.where(slope > 0, np.inf, 0.0)
    )[()]


def token_failure_law(bandit: SoftmaxBandit, theta: ArrayLike, direction: ArrayLike) -> Array:
    """First zero of ``log E[exp(eta s_w) | r=0] - T B(eta)``: below it the failure rate falls
    (token failure law).

    ``B`` is the least cumulant that a token's score can have, `least_cumulant`: it needs the law of
    the wrong scores, and of the tokens variance and range alone. Infinite where there is no zero,
    0 where the alignment is not positive or, against the scores, below rounding. Shape ``(...)``.

    Parameters
    ----------
    bandit : a log-linear policy over arms; `SoftmaxBandit.token_spread` tells of its tokens.
    theta, direction : shape ``(..., dim)``; the direction is scaled to length one.

    Raises
    ------
    ValueError : a policy that is not log-linear, or a direction of zero length.
    """
    instance(SoftmaxBandit, bandit=bandit)
    theta, direction = finite(theta=theta), unit(direction)
    _log_linear(bandit, theta, direction)
    law, scores = bandit.log_probabilities(theta), bandit.scores(theta, direction)
    wrong = np.where(bandit.rewards, -np.inf, law)
    wrong = np.exp(wrong - log_sum_exp(wrong)[..., None])
    fall, square = -np.sum(wrong * scores, axis=-1), np.sum(wrong * scores**2, axis=-1)
    count, drop, variance = bandit.token_spread(theta, direction)

    def gain(step: Array) -> Array:
        moment = log_mean_exp(wrong, law, ~bandit.rewards, step[..., None] * scores)
        return count * least_cumulant(step, drop, variance) - moment

    # a smaller one is lost in rounding
    rising = fall > 1e-9 * np.sqrt(square)
    near = np.where(rising, fall, 1.0) / np.where(rising, square, 1.0)
    slope, bend = alignment(bandit, theta, direction), bandit.curvature(theta, direction)
    far = np.where(rising, slope / np.maximum(np.abs(bend) + slope**2, np.finfo(float).tiny), 1.0)
    return first_zero(gain, near, rising, 1e6 * max(1.0, float(np.max(far / near))))


def least_cumulant(step: Array, drop: Array, variance: Array) -> Array:
    """Least ``log E[exp(eta X)]`` of a variable with mean 0, this variance ``v`` and ``X >= -g``
    (token failure law).

    That of the variable with two values: ``log((c e^a + a e^-c) / (a + c))`` with ``c = eta g`` and
    ``a = eta v / g``.

    Parameters
    ----------
    step : ``eta``, non-negative.
    drop : ``g``, non-negative.
    variance : ``v``, non-negative; 0 where ``g`` is.
    """
    low = step * drop
    high = step * np.divide(variance, drop, out=np.zeros(np.shape(drop)), where=drop > 0)
    share = np.divide(high, low + high, out=np.zeros(np.shape(low)), where=low > 0)
    return high + np.log1p(share * np.expm1(-low - high))


def _log_linear(bandit: SoftmaxBandit, theta: Array, direction: Array) -> None:
    if np.any(bandit.logit_curvatures(theta, direction)):
        raise ValueError(
            f"bandit must be log-linear, got {type(bandit).__name__}: "
            "the law of its scores does not bound the gain"
        )


def first_zero(
    gain: Callable[[Array], Array], scale: Array, wanted: NDArray[np.bool_], reach: float
) -> Array:
    """First positive zero of each ``gain``, shape ``(...)``: infinite if there is none up to
    ``reach * scale``.

    The gain is scanned on a geometric grid, every dip of the grid is searched, and SciPy's root
    finder takes the first bracket. A dip narrower than a thousandth of its position can be missed.

    Parameters
    ----------
    gain : maps steps, with any leading axes before shape ``(...)``, to gains that are positive for
        small steps.
    scale : natural scale of each step, positive, shape ``(...)``.
    wanted : whether to search, shape ``(...)``; elsewhere the result is 0.
    reach : how far to search, in natural scales, at least 1.

    Raises
    ------
    ValueError : a gain that is lost in rounding.
    """
    low, high = _first_bracket(gain, scale, reach, wanted)
    found = wanted & np.isfinite(high)
    return np.where(found, zero_between(gain, low, high, found), np.where(wanted, np.inf, 0.0))[()]


def zero_between(
    gain: Callable[[Array], Array], low: Array, high: Array, wanted: NDArray[np.bool_]
) -> Array:
    """Zero of each ``gain`` between ``low`` and ``high``, where it has opposite signs; 0 where it
    is not ``wanted``.

    Raises
    ------
    ValueError : a gain that is lost in rounding.
    """
    index = np.flatnonzero(wanted)
    result = np.zeros(wanted.size)
    if not len(index):
        return result.reshape(wanted.shape)
    start = np.where(wanted, low, 0.0).reshape(-1)

    def gain_of(step: Array, index: Array) -> Array:
        # SciPy drops elements that have converged; the gain needs all of them
        steps = start.copy()
        steps[index] = step
        return gain(steps.reshape(wanted.shape)).reshape(-1)[index]

    bracket = start[index], np.where(wanted, high, 0.0).reshape(-1)[index]
    root, found = find_root(gain_of, bracket, args=(index,))
    if not np.all(found):
        raise ValueError(
            "theta and direction must give a measurable gain, got one that is lost in rounding"
        )
    result[index] = root
    return result.reshape(wanted.shape)


def _first_bracket(
    gain: Callable[[Array], Array], scale: Array, reach: float, wanted: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Steps around the first sign change of the gain: positive at the lower end; the upper end
    infinite if none.
    """
    grid = np.geomspace(_FIRST, reach, int(np.ceil(np.log(reach / _FIRST) / np.log(_RATIO))))
    low, high = np.zeros(scale.shape), np.where(wanted, np.inf, 0.0)
    older = previous = np.zeros(scale.shape)
    for index, (point, value) in enumerate(_scan(gain, scale, grid)):
        crossed = np.isinf(high) & ~(value > 0)
        low = np.where(crossed, scale * grid[max(index - 1, 0)] * (1.0 if index else _FIRST), low)
        high = np.where(crossed, scale * point, high)
        # A convex dip goes no lower than the secants through its sides, prolonged: only then is a
        # closer look needed.
        depth = previous - _RATIO * (np.maximum(older, value) - previous)
        dipped = np.isinf(high) & (previous < older) & (previous <= value) & (depth <= 0)
        if np.any(dipped):
            bottom, depth = _lowest(gain, scale * grid[index - 2], scale * point)
            crossed = dipped & ~(depth > 0)
            low, high = (
                np.where(crossed, scale * grid[index - 2], low),
                np.where(crossed, bottom, high),
            )
        if np.all(np.isfinite(high)):
            break
        older, previous = previous, value
    return low, high


def _scan(
    gain: Callable[[Array], Array], scale: Array, grid: Array
) -> Iterator[tuple[float, Array]]:
    """The points of the grid, each with the gains there."""
    size = min(max(_VALUES // max(scale.size, 1), 1), _AT_ONCE)
    for first in range(0, len(grid), size):
        points = grid[first : first + size]
        yield from zip(points, gain(np.multiply.outer(points, scale)), strict=True)


def _lowest(gain: Callable[[Array], Array], left: Array, right: Array) -> tuple[Array, Array]:
    """Where the gain is lowest between two steps, by three rounds of zooming in, and its value
    there.
    """
    for _ in range(3):
        points = left + (right - left) * np.linspace(0, 1, 33).reshape(-1, *(1,) * left.ndim)
        values = gain(points)
        best = np.argmin(values, axis=0)[None]
        width = (right - left) / 32
        bottom, depth = (
            np.take_along_axis(points, best, 0)[0],
            np.take_along_axis(values, best, 0)[0],
        )
        left, right = np.maximum(bottom - width, left), np.minimum(bottom + width, right)
    return bottom, depth
