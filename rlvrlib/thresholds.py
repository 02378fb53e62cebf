r"""Every theorem on the step size as a function: the supremum of the steps that are guaranteed to
improve.

A step is the length ``eta`` of a move along a unit vector ``w`` whose alignment ``dmu = <w, Gap>``
is given. The bounds that a function takes must hold on the whole segment that the step covers.
Every threshold is 0 where the alignment is not positive and infinite where nothing limits the step.

``theory`` is the reference of the book; Theorem 1 is the paper's (arXiv 2510.08539), the others are
this book's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_expit

from rlvrlib.checks import finite, inside, non_negative, prompt_weights
from rlvrlib.first_zero import exact as exact  # both belong to what a reader looks for here
from rlvrlib.first_zero import failure_law as failure_law
from rlvrlib.problems import Array, log_sum_exp


def paper(alignment: ArrayLike, score_bound: ArrayLike, score_lipschitz: ArrayLike) -> Array:
    """``[dmu]_+ / (2 (L_o + 8 G_o^2))``: the step condition of Theorem 1 as the paper prints it.

    Parameters
    ----------
    alignment : ``dmu``, any shape.
    score_bound : ``G_o`` of Assumption A1, non-negative, broadcast against ``alignment``.
    score_lipschitz : ``L_o`` of Assumption A1, likewise.
    """
    score, lipschitz = _score_bounds(score_bound, score_lipschitz)
    return _ratio(_positive_part(alignment), 2 * (lipschitz + 8 * score**2))


def trajectory(alignment: ArrayLike, score_bound: ArrayLike, score_lipschitz: ArrayLike) -> Array:
    """``2 dmu / (2 L_o + G_o^2)``: below it the log-odds rise (Theorem 1', two-sided trajectory
    bound).

    Up to half of it, the log-odds gain lies between ``eta dmu / 2`` and ``3 eta dmu / 2``.
    Parameters as in `paper`.
    """
    score, lipschitz = _score_bounds(score_bound, score_lipschitz)
    return _ratio(2 * _positive_part(alignment), 2 * lipschitz + score**2)


def log_linear(alignment: ArrayLike, feature_range: ArrayLike) -> Array:
    """``8 dmu / D_-^2``: below it the log-odds of a log-linear policy rise (Theorem 1'').

    Parameters
    ----------
    alignment : ``dmu``, any shape.
    feature_range : ``D_-``, the range of ``<w, features>`` over the wrong responses, non-negative.
    """
    return _ratio(8 * _positive_part(alignment), non_negative(feature_range=feature_range) ** 2)


def success_rise(alignment: ArrayLike, log_odds: ArrayLike, curvature_bound: ArrayLike) -> Array:
    """``2 (1-J) dmu / a``: below it the success rate rises (Theorem 4).

    Parameters
    ----------
    alignment : ``dmu``, any shape.
    log_odds : ``l``, where the step starts.
    curvature_bound : ``a``, with ``h_w >= -a`` on the correct responses along the segment;
        non-negative.
    """
    failure = np.exp(log_expit(-finite(log_odds=log_odds)))
    return _ratio(
        2 * failure * _positive_part(alignment), non_negative(curvature_bound=curvature_bound)
    )


def failure_fall(
    alignment: ArrayLike,
    log_odds: ArrayLike,
    max_length: ArrayLike,
    token_range: ArrayLike,
    curvature_bound: ArrayLike = 0.0,
) -> Array:
    """``2 J F dmu / (a_+ F + sigma^2 Phi(F))``: below it the failure rate ``F = 1-J`` falls
    (Theorem 3').

    ``sigma^2 = T_max R_p^2 / 4`` and ``Phi(F) = min(1, 2 F log(2e/F))``.

    Parameters
    ----------
    alignment : ``dmu``, any shape.
    log_odds : ``l``, where the step starts.
    max_length : ``T_max``, cap on the response length in tokens, at least 1.
    token_range : ``R_p``, length of an interval that holds every token score along ``w``.
    curvature_bound : ``a_+``, with ``h_w <= a_+`` on the wrong responses; 0 for logits linear in
        ``theta``.
    """
    return _failure_fall(
        alignment, log_odds, max_length, token_range, curvature_bound, sharper=False
    )


def sharper_failure_fall(
    alignment: ArrayLike,
    log_odds: ArrayLike,
    max_length: ArrayLike,
    token_range: ArrayLike,
    curvature_bound: ArrayLike = 0.0,
) -> Array:
    """The same as `failure_fall` with ``min(1, 2 F log(2/F))`` for ``Phi(F)``: a little longer
    (sharper logarithm).

    Parameters as in `failure_fall`.
    """
    return _failure_fall(
        alignment, log_odds, max_length, token_range, curvature_bound, sharper=True
    )


def angle(
    alignment: ArrayLike, log_odds: ArrayLike, max_length: ArrayLike, token_range: ArrayLike
) -> Array:
    """``2 sqrt(JF) dmu / beta_T``: below it the success rate rises, for logits linear in ``theta``
    (angle theorem).

    Parameters as in `failure_fall`.
    """
    log_odds = finite(log_odds=log_odds)
    spread = np.exp((log_expit(log_odds) + log_expit(-log_odds)) / 2)
    return _ratio(2 * spread * _positive_part(alignment), angle_bend(max_length, token_range))


def angle_bend(max_length: ArrayLike, token_range: ArrayLike) -> Array:
    """``beta_T``: the angle ``2 arcsin sqrt(J)`` bends down by at most this along a unit vector
    (angle theorem).

    ``(2 sigma^2 / T) sqrt(sum_{t<T} (sqrt(t) + 1/2)^2)`` with ``sigma^2 = T_max R_p^2 / 4``: GRPO
    on token sums improves at every step for rates below ``2 / beta_T``, REINFORCE below ``4 /
    beta_T``. Parameters as in `failure_fall`.
    """
    variance, lengths = _score_variance(max_length, token_range), np.asarray(max_length, dtype=int)
    squares = np.cumsum((np.sqrt(np.arange(np.max(lengths))) + 0.5) ** 2)
    return 2 * variance / lengths * np.sqrt(squares[lengths - 1])


def variance_fall(
    alignment: ArrayLike,
    log_odds: ArrayLike,
    variance: ArrayLike,
    token_range: ArrayLike,
    curvature_bound: ArrayLike = 0.0,
) -> Array:
    """``2 J F dmu / (a_+ F + Phi_V(F))``: below it the failure rate falls (conditional variance,
    part 1).

    ``Phi_V(F) = min(V, F (sqrt(2 V L) + R_p L / 3)^2)`` with ``L = log(2/F)``.

    Parameters
    ----------
    alignment : ``dmu``, any shape.
    log_odds : ``l``, where the step starts.
    variance : ``V``, with ``sum_t Var(s_t | past) <= V`` for every response, along the segment;
        non-negative.
    token_range : ``R_p`` along the segment, as in `failure_fall`.
    curvature_bound : ``a_+`` along the segment, as in `failure_fall`.
    """
    log_odds, bend = finite(log_odds=log_odds), non_negative(curvature_bound=curvature_bound)
    brake = bend + _variance_factor(log_expit(-log_odds), variance, token_range)
    return _ratio(2 * np.exp(log_expit(log_odds)) * _positive_part(alignment), brake)


def variance_local(
    alignment: ArrayLike, log_odds: ArrayLike, variance: ArrayLike, token_range: ArrayLike
) -> Array:
    """``log(1 + R_p B) / R_p``: below it the success rate rises (conditional variance, part 2).

    ``B = 2 F dmu max(1/V, J/Phi_V(F))``. For logits linear in ``theta``. Parameters as in
    `variance_fall`, with ``variance`` where the step starts only.
    """
    log_odds, variance, spread = (
        finite(log_odds=log_odds),
        non_negative(variance=variance),
        non_negative(token_range=token_range),
    )
    slope, failure = 2 * _positive_part(alignment), np.exp(log_expit(-log_odds))
    falling = slope * np.exp(log_expit(log_odds))
    frozen = np.maximum(
        _ratio(slope * failure, variance),
        _ratio(falling, _variance_factor(log_expit(-log_odds), variance, spread)),
    )
    bounded = np.where(np.isinf(spread), 0.0, spread)
    step = np.where(bounded > 0, _ratio(np.log1p(_product(bounded, frozen)), bounded), frozen)
    return np.where(np.isinf(spread), 0.0, step)[()]


def batch_success_rise(
    alignments: ArrayLike,
    log_odds: ArrayLike,
    curvature_bounds: ArrayLike,
    weights: ArrayLike | None = None,
) -> Array:
    """``2 D / sum_q p_q a_q J_q`` with ``D = sum_q p_q J_q (1-J_q) dmu_q``: below it the mean
    success rate rises (Theorem 5).

    Parameters
    ----------
    alignments : ``dmu_q``, prompts along the last axis.
    log_odds : ``l_q``, where the step starts, likewise.
    curvature_bounds : ``a_q``, with ``h_w >= -a_q`` on the correct responses along the segment,
        likewise.
    weights : ``p_q``, non-negative; equal where omitted.
    """
    bounds = non_negative(curvature_bounds=curvature_bounds)
    alignments, log_odds, weights = _prompts(alignments, log_odds, weights)
    bounds = np.broadcast_to(bounds, np.broadcast_shapes(bounds.shape, alignments.shape[-1:]))
    # The common factor max J cancels; without it success rates of 1e-320 would lose their digits.
    top = np.max(log_expit(log_odds), axis=-1, keepdims=True)
    success = weights * np.exp(log_expit(log_odds) - top)
    gain = np.sum(success * np.exp(log_expit(-log_odds)) * alignments, axis=-1)
    return _ratio(2 * _positive_part(gain), np.sum(_product(bounds, success), axis=-1))


def batch_failure_fall(
    alignments: ArrayLike,
    log_odds: ArrayLike,
    max_length: ArrayLike,
    token_range: ArrayLike,
    curvature_bound: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
) -> Array:
    """``2 D / (a_+ Fbar + sigma^2 Phi(Fbar))``: below it the mean failure rate falls (Theorem 5,
    mirrored).

    Parameters
    ----------
    alignments : ``dmu_q``, prompts along the last axis.
    log_odds : ``l_q``, where the step starts, likewise.
    max_length, token_range, curvature_bound : bounds common to all prompts, as in `failure_fall`.
    weights : ``p_q``, non-negative, scaled to sum to one; equal where omitted.
    """
    bend = non_negative(curvature_bound=curvature_bound)
    alignments, log_odds, weights = _prompts(alignments, log_odds, weights)
    variance = _score_variance(max_length, token_range)
    with np.errstate(divide="ignore"):
        log_mean_failure = log_sum_exp(log_expit(-log_odds) + np.log(weights))[..., None]
    relative_failure = np.exp(log_expit(-log_odds) - log_mean_failure)  # F_q / Fbar
    gain = np.sum(weights * relative_failure * np.exp(log_expit(log_odds)) * alignments, axis=-1)
    return _ratio(
        2 * _positive_part(gain), bend + _product(variance, _tail_factor(log_mean_failure[..., 0]))
    )


def reinforce_rate(
    max_length: ArrayLike,
    token_range: ArrayLike,
    log_odds: ArrayLike | None = None,
    curvature_bound: ArrayLike = 0.0,
) -> Array:
    """``2 / (a_+ F + sigma^2 Phi(F))``: learning rates of exact REINFORCE below it improve
    (corollary of Theorem 3').

    Without ``log_odds`` the rate that is safe at every success rate, ``2 / (a_+ + sigma^2)``: ``8 /
    (T_max R_p^2)`` for logits linear in ``theta``. Parameters as in `failure_fall`.
    """
    bend, variance = (
        non_negative(curvature_bound=curvature_bound),
        _score_variance(max_length, token_range),
    )
    if log_odds is None:
        return _ratio(2.0, bend + variance)
    log_failure = log_expit(-finite(log_odds=log_odds))
    failure = np.exp(log_failure)
    tail = np.where(
        failure > 0, failure * np.minimum(_tail_factor(log_failure), np.finfo(float).max), 0.0
    )
    brake = np.where(
        np.isinf(bend + variance), np.inf, _product(bend, failure) + _product(variance, tail)
    )
    return _ratio(2.0, brake)


def local(alignment: ArrayLike, curvature: ArrayLike) -> Array:
    """``2 dmu / kappa_w``: where the quadratic model of the log-odds comes back to its start. A
    model, not a bound.

    Parameters
    ----------
    alignment : ``dmu``, any shape.
    curvature : ``kappa_w``; where it is not positive the model never turns and the step is
        infinite.
    """
    return _ratio(2 * _positive_part(alignment), np.maximum(finite(curvature=curvature), 0.0))


def _positive_part(alignment: ArrayLike) -> Array:
    return np.maximum(finite(alignment=alignment), 0.0)


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> Array:
    """0 for a zero numerator, infinite for a zero denominator alone."""
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, float), np.asarray(denominator, float)
    )
    unlimited = np.where(numerator > 0, np.inf, 0.0)
    with np.errstate(over="ignore"):
        return np.divide(numerator, denominator, out=unlimited.copy(), where=denominator > 0)[()]


def _product(bound: Array, factor: Array) -> Array:
    """Product in which a zero factor wins over an infinite one: no variance, no limit; no weight,
    no limit.
    """
    bound, factor = np.broadcast_arrays(bound, factor)
    return np.multiply(bound, factor, out=np.zeros(bound.shape), where=(bound > 0) & (factor > 0))


def _failure_fall(
    alignment: ArrayLike,
    log_odds: ArrayLike,
    max_length: ArrayLike,
    token_range: ArrayLike,
    curvature_bound: ArrayLike,
    sharper: bool,
) -> Array:
    log_odds, bend = finite(log_odds=log_odds), non_negative(curvature_bound=curvature_bound)
    variance = _score_variance(max_length, token_range)
    # Numerator and denominator divided by F, which may underflow.
    return _ratio(
        2 * np.exp(log_expit(log_odds)) * _positive_part(alignment),
        bend + _product(variance, _tail_factor(log_expit(-log_odds), sharper)),
    )


def _tail_factor(log_failure: Array, sharper: bool = False) -> Array:
    """``Phi(F) / F = min(1/F, 2 log(2e/F))``, or with the sharper logarithm ``min(1/F, 2
    log(2/F))``.
    """
    with np.errstate(over="ignore"):
        return np.minimum(np.exp(-log_failure), 2 * (np.log(2) - log_failure + (not sharper)))


def _variance_factor(log_failure: Array, variance: ArrayLike, token_range: ArrayLike) -> Array:
    """``Phi_V(F) / F = min(V/F, (sqrt(2 V L) + R_p L / 3)^2)`` with ``L = log(2/F)``."""
    variance, spread = non_negative(variance=variance), non_negative(token_range=token_range)
    level = np.log(2) - log_failure
    with np.errstate(over="ignore"):
        plain = _product(variance, np.exp(-log_failure))
    return np.minimum(plain, (np.sqrt(2 * variance * level) + spread * level / 3) ** 2)


def _score_variance(max_length: ArrayLike, token_range: ArrayLike) -> Array:
    """``sigma^2 = T_max R_p^2 / 4`` (Azuma-Hoeffding)."""
    length = inside("[1, inf]", max_length=max_length)
    return length * non_negative(token_range=token_range) ** 2 / 4


def _score_bounds(score_bound: ArrayLike, score_lipschitz: ArrayLike) -> tuple[Array, Array]:
    return non_negative(score_bound=score_bound), non_negative(score_lipschitz=score_lipschitz)


def _prompts(
    alignments: ArrayLike, log_odds: ArrayLike, weights: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """Alignments, log-odds and weights that sum to one, each with all the prompts along its last
    axis.
    """
    alignments, log_odds = np.broadcast_arrays(
        finite(alignments=alignments), finite(log_odds=log_odds)
    )
    prompts = alignments.shape[-1:]
    if prompts in ((), (0,)):
        raise ValueError(
            "alignments and log_odds must hold prompts along the last axis, "
            f"got shape {alignments.shape}"
        )
    return alignments, log_odds, prompt_weights(weights, prompts[0])
