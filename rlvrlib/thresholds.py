r"""Every theorem on the step size as a function: the supremum of the steps that are guaranteed to improve.

A step is the length ``eta`` of a move along a unit vector ``w`` whose alignment ``dmu = <w, Gap>`` is given. The bounds that
a function takes must hold on the whole segment that the step covers. Every threshold is 0 where the alignment is not
positive and infinite where nothing limits the step.

``theory`` is the reference of the book; Theorem 1 is the paper's (arXiv 2510.08539), the others are this book's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import elementwise
from scipy.special import log_expit, logsumexp

from rlvrlib.problems import Array, Problem, log_odds_gain, unit
from rlvrlib.problems import alignment as gap_alignment

# The search for the exact threshold: first point in natural scales, ratio of neighbouring points.
_FIRST, _RATIO = 1e-4, 1.05


def paper(alignment: ArrayLike, score_bound: ArrayLike, score_lipschitz: ArrayLike) -> Array:
    """``[dmu]_+ / (2 (L_o + 8 G_o^2))``: the step condition of Theorem 1 as the paper prints it.

    Parameters
    ----------
    alignment : ``dmu``, any shape.
    score_bound : ``G_o`` of Assumption A1, non-negative, broadcast against ``alignment``.
    score_lipschitz : ``L_o`` of Assumption A1, likewise.
    """
    score_bound, score_lipschitz = _bound(score_bound=score_bound), _bound(score_lipschitz=score_lipschitz)
    return _ratio(_positive_part(alignment), 2 * (score_lipschitz + 8 * score_bound**2))


def trajectory(alignment: ArrayLike, score_bound: ArrayLike, score_lipschitz: ArrayLike) -> Array:
    """``2 dmu / (2 L_o + G_o^2)``: below it the log-odds rise (Theorem 1', two-sided trajectory bound).

    Up to half of it, the log-odds gain lies between ``eta dmu / 2`` and ``3 eta dmu / 2``. Parameters as in `paper`.
    """
    score_bound, score_lipschitz = _bound(score_bound=score_bound), _bound(score_lipschitz=score_lipschitz)
    return _ratio(2 * _positive_part(alignment), 2 * score_lipschitz + score_bound**2)


def log_linear(alignment: ArrayLike, feature_range: ArrayLike) -> Array:
    """``8 dmu / D_-^2``: below it the log-odds of a log-linear policy rise (Theorem 1'').

    Parameters
    ----------
    alignment : ``dmu``, any shape.
    feature_range : ``D_-``, the range of ``<w, features>`` over the wrong responses, non-negative.
    """
    return _ratio(8 * _positive_part(alignment), _bound(feature_range=feature_range) ** 2)


def success_rise(alignment: ArrayLike, log_odds: ArrayLike, curvature_bound: ArrayLike) -> Array:
    """``2 (1-J) dmu / a``: below it the success rate rises (Theorem 4).

    Parameters
    ----------
    alignment : ``dmu``, any shape.
    log_odds : ``l``, where the step starts.
    curvature_bound : ``a``, with ``h_w >= -a`` on the correct responses along the segment; non-negative.
    """
    failure = np.exp(log_expit(-_finite(log_odds=log_odds)))
    return _ratio(2 * failure * _positive_part(alignment), _bound(curvature_bound=curvature_bound))


def failure_fall(
    alignment: ArrayLike, log_odds: ArrayLike, max_length: ArrayLike, token_range: ArrayLike,
    curvature_bound: ArrayLike = 0.0,
) -> Array:  # fmt: skip
    """``2 J F dmu / (a_+ F + sigma^2 Phi(F))``: below it the failure rate ``F = 1-J`` falls (Theorem 3').

    ``sigma^2 = T_max R_p^2 / 4`` and ``Phi(F) = min(1, 2 F log(2e/F))``.

    Parameters
    ----------
    alignment : ``dmu``, any shape.
    log_odds : ``l``, where the step starts.
    max_length : ``T_max``, cap on the response length in tokens, at least 1.
    token_range : ``R_p``, length of an interval that holds every token score along ``w``.
    curvature_bound : ``a_+``, with ``h_w <= a_+`` on the wrong responses; 0 for logits linear in ``theta``.
    """
    log_odds, bend = _finite(log_odds=log_odds), _bound(curvature_bound=curvature_bound)
    variance = _score_variance(max_length, token_range)
    # Numerator and denominator divided by F, which may underflow.
    return _ratio(
        2 * np.exp(log_expit(log_odds)) * _positive_part(alignment),
        bend + _times(variance, _tail_factor(log_expit(-log_odds))),
    )


def batch_success_rise(
    alignments: ArrayLike, log_odds: ArrayLike, curvature_bounds: ArrayLike, weights: ArrayLike | None = None
) -> Array:
    """``2 D / sum_q p_q a_q J_q`` with ``D = sum_q p_q J_q (1-J_q) dmu_q``: below it the mean success rate rises (Theorem 5).

    Parameters
    ----------
    alignments : ``dmu_q``, prompts along the last axis.
    log_odds : ``l_q``, where the step starts, likewise.
    curvature_bounds : ``a_q``, with ``h_w >= -a_q`` on the correct responses along the segment, likewise.
    weights : ``p_q``, non-negative; equal where omitted.
    """
    bounds = _bound(curvature_bounds=curvature_bounds)
    alignments, log_odds, weights = _prompts(alignments, log_odds, weights)
    bounds = np.broadcast_to(bounds, np.broadcast_shapes(bounds.shape, alignments.shape[-1:]))
    # The common factor max J cancels; without it success rates of 1e-320 would lose their digits.
    top = np.max(log_expit(log_odds), axis=-1, keepdims=True)
    success = weights * np.exp(log_expit(log_odds) - top)
    gain = np.sum(success * np.exp(log_expit(-log_odds)) * alignments, axis=-1)
    return _ratio(2 * _positive_part(gain), np.sum(_times(bounds, success), axis=-1))


def batch_failure_fall(
    alignments: ArrayLike, log_odds: ArrayLike, max_length: ArrayLike, token_range: ArrayLike,
    curvature_bound: ArrayLike = 0.0, weights: ArrayLike | None = None,
) -> Array:  # fmt: skip
    """``2 D / (a_+ Fbar + sigma^2 Phi(Fbar))``: below it the mean failure rate falls (Theorem 5, mirrored).

    Parameters
    ----------
    alignments : ``dmu_q``, prompts along the last axis.
    log_odds : ``l_q``, where the step starts, likewise.
    max_length, token_range, curvature_bound : bounds common to all prompts, as in `failure_fall`.
    weights : ``p_q``, non-negative, scaled to sum to one; equal where omitted.
    """
    bend = _bound(curvature_bound=curvature_bound)
    alignments, log_odds, weights = _prompts(alignments, log_odds, weights)
    variance = _score_variance(max_length, token_range)
    with np.errstate(divide="ignore"):
        log_mean_failure = logsumexp(log_expit(-log_odds) + np.log(weights), axis=-1, keepdims=True)
    relative_failure = np.exp(log_expit(-log_odds) - log_mean_failure)  # F_q / Fbar
    gain = np.sum(weights * relative_failure * np.exp(log_expit(log_odds)) * alignments, axis=-1)
    return _ratio(2 * _positive_part(gain), bend + _times(variance, _tail_factor(log_mean_failure[..., 0])))


def reinforce_rate(
    max_length: ArrayLike, token_range: ArrayLike, log_odds: ArrayLike | None = None, curvature_bound: ArrayLike = 0.0
) -> Array:
    """``2 / (a_+ F + sigma^2 Phi(F))``: learning rates of exact REINFORCE below it improve (corollary of Theorem 3').

    Without ``log_odds`` the rate that is safe at every success rate, ``2 / (a_+ + sigma^2)``: ``8 / (T_max R_p^2)`` for
    logits linear in ``theta``. Parameters as in `failure_fall`.
    """
    bend, variance = _bound(curvature_bound=curvature_bound), _score_variance(max_length, token_range)
    if log_odds is None:
        return _ratio(2.0, bend + variance)
    log_failure = log_expit(-_finite(log_odds=log_odds))
    failure = np.exp(log_failure)
    tail = np.where(failure > 0, failure * np.minimum(_tail_factor(log_failure), np.finfo(float).max), 0.0)
    brake = np.where(np.isinf(bend + variance), np.inf, _times(bend, failure) + _times(variance, tail))
    return _ratio(2.0, brake)


def local(alignment: ArrayLike, curvature: ArrayLike) -> Array:
    """``2 dmu / kappa_w``: where the quadratic model of the log-odds comes back to its start. A model, not a bound.

    Parameters
    ----------
    alignment : ``dmu``, any shape.
    curvature : ``kappa_w``; where it is not positive the model never turns and the step is infinite.
    """
    return _ratio(2 * _positive_part(alignment), np.maximum(_finite(curvature=curvature), 0.0))


def exact(problem: Problem, theta: ArrayLike, direction: ArrayLike, *, reach: float = 1e6) -> Array:
    """First positive zero of ``l(theta + eta w) - l(theta)`` in ``eta``, shape ``(...)``.

    The gain is scanned on a geometric grid around the natural scale of the problem, every dip of the grid is searched, and
    SciPy's root finder takes the first bracket. 0 where the alignment is not positive, infinite where the gain stays positive
    up to ``reach`` natural scales ``dmu / (|kappa| + dmu^2)``. A dip narrower than a thousandth of its position can be missed.

    Parameters
    ----------
    problem : any `Problem`.
    theta, direction : shape ``(..., dim)``; the direction is scaled to length one.
    reach : how far the search goes, at least 1.

    Raises
    ------
    ValueError : a direction of zero length, or a gain lost in rounding.
    """
    if not reach >= 1:
        raise ValueError(f"reach must be at least 1, got {reach!r}")
    theta, direction = np.asarray(theta, dtype=float), unit(direction)
    slope = _positive_part(gap_alignment(problem, theta, direction))
    bend = np.broadcast_to(np.abs(problem.curvature(theta, direction)), slope.shape)
    rising = slope > 0
    speed = np.maximum(bend + slope**2, np.finfo(float).tiny)  # the square may vanish
    scale = np.where(rising, slope / np.where(rising, speed, 1.0), 1.0)

    def gain(step: Array) -> Array:
        values = log_odds_gain(problem, theta, direction, step)
        return np.broadcast_to(values, np.broadcast_shapes(values.shape, slope.shape))

    low, high = _first_bracket(gain, scale, reach, rising)
    found = rising & np.isfinite(high)
    if not np.any(found):
        return np.where(rising, np.inf, 0.0)[()]
    low, high = np.where(found, low, 0.0), np.where(found, high, 0.0)

    def gain_of(step: Array, index: Array) -> Array:
        steps = low.copy().reshape(-1)  # SciPy drops elements that have converged; the problem needs all of them
        steps[index] = step
        return gain(steps.reshape(slope.shape)).reshape(-1)[index]

    index = np.flatnonzero(found)
    bracket = (low.reshape(-1)[index], high.reshape(-1)[index])
    root = elementwise.find_root(gain_of, bracket, args=(index,), tolerances={"xrtol": 1e-15, "fatol": 0})
    if not np.all(root.success):
        raise ValueError("theta and direction give a gain that is lost in rounding: no step has a measurable gain")
    result = np.where(rising, np.inf, 0.0).reshape(-1)
    result[index] = root.x
    return result.reshape(slope.shape)[()]


def _first_bracket(
    gain: Callable[[Array], Array], scale: Array, reach: float, wanted: Array
) -> tuple[Array, Array]:  # fmt: skip
    """Steps around the first sign change of the gain: positive at the lower end; the upper end infinite if none."""
    grid = np.geomspace(_FIRST, reach, int(np.ceil(np.log(reach / _FIRST) / np.log(_RATIO))))
    low, high = np.zeros(scale.shape), np.where(wanted, np.inf, 0.0)
    older = previous = np.zeros(scale.shape)
    for index, point in enumerate(grid):
        value = gain(scale * point)
        crossed = np.isinf(high) & ~(value > 0)
        low = np.where(crossed, scale * grid[max(index - 1, 0)] * (1.0 if index else _FIRST), low)
        high = np.where(crossed, scale * point, high)
        # A convex dip goes no lower than the secants through its sides, prolonged: only then is a closer look needed.
        depth = previous - _RATIO * (np.maximum(older, value) - previous)
        dipped = np.isinf(high) & (previous < older) & (previous <= value) & (depth <= 0)
        if np.any(dipped):
            bottom, depth = _lowest(gain, scale * grid[index - 2], scale * point)
            crossed = dipped & ~(depth > 0)
            low, high = np.where(crossed, scale * grid[index - 2], low), np.where(crossed, bottom, high)
        if np.all(np.isfinite(high)):
            break
        older, previous = previous, value
    return low, high


def _lowest(gain: Callable[[Array], Array], left: Array, right: Array) -> tuple[Array, Array]:
    """Where the gain is lowest between two steps, by three rounds of zooming in, and its value there."""
    for _ in range(3):
        points = left + (right - left) * np.linspace(0, 1, 33).reshape(-1, *(1,) * left.ndim)
        values = gain(points)
        best = np.argmin(values, axis=0)[None]
        width = (right - left) / 32
        bottom, depth = np.take_along_axis(points, best, 0)[0], np.take_along_axis(values, best, 0)[0]
        left, right = np.maximum(bottom - width, left), np.minimum(bottom + width, right)
    return bottom, depth


def _tail_factor(log_failure: Array) -> Array:
    """``Phi(F) / F = min(1/F, 2 log(2e/F))``."""
    with np.errstate(over="ignore"):
        return np.minimum(np.exp(-log_failure), 2 * (1 + np.log(2) - log_failure))


def _score_variance(max_length: ArrayLike, token_range: ArrayLike) -> Array:
    """``sigma^2 = T_max R_p^2 / 4`` (Azuma-Hoeffding)."""
    length = _bound(max_length=max_length)
    if not np.all(length >= 1):
        raise ValueError(f"max_length must be at least 1, got {max_length!r}")
    return length * _bound(token_range=token_range) ** 2 / 4


def _positive_part(alignment: ArrayLike) -> Array:
    return np.maximum(_finite(alignment=alignment), 0.0)


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> Array:
    """0 for a zero numerator, infinite for a zero denominator alone."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    unlimited = np.where(numerator > 0, np.inf, 0.0)
    with np.errstate(over="ignore"):
        return np.divide(numerator, denominator, out=unlimited.copy(), where=denominator > 0)[()]


def _times(bound: Array, factor: Array) -> Array:
    """Product in which a zero factor wins over an infinite one: no variance, no limit; no weight, no limit."""
    bound, factor = np.broadcast_arrays(bound, factor)
    return np.multiply(bound, factor, out=np.zeros(bound.shape), where=(bound > 0) & (factor > 0))


def _finite(**named: ArrayLike) -> Array:
    ((name, values),) = named.items()
    array = np.asarray(values, dtype=float)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, got {values!r}")
    return array


def _bound(**named: ArrayLike) -> Array:
    ((name, values),) = named.items()
    array = np.asarray(values, dtype=float)
    if not np.all(array >= 0):
        raise ValueError(f"{name} must be non-negative, got {values!r}")
    return array


def _prompts(alignments: ArrayLike, log_odds: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array, Array]:
    """Alignments, log-odds and weights that sum to one, each with all the prompts along its last axis."""
    alignments, log_odds = np.broadcast_arrays(_finite(alignments=alignments), _finite(log_odds=log_odds))
    prompts = alignments.shape[-1:]
    if prompts in ((), (0,)):
        raise ValueError(f"alignments and log_odds must hold prompts along the last axis, got shape {alignments.shape}")
    if weights is None:
        return alignments, log_odds, np.full(prompts, 1 / prompts[0])
    array = np.asarray(weights, dtype=float)
    if array.shape[-1:] != prompts:
        raise ValueError(f"weights must have {prompts[0]} prompts along the last axis, got shape {array.shape}")
    if not (np.all(np.isfinite(array) & (array >= 0)) and np.all(array.sum(axis=-1) > 0)):
        raise ValueError(f"weights must be non-negative, finite and not all zero, got {weights!r}")
    return alignments, log_odds, array / array.sum(axis=-1, keepdims=True)
