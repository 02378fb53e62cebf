r"""Every theorem on the step size as a function: the supremum of the steps that are guaranteed to
improve. `guaranteed` is the largest that any of them allows.

A step is the length ``eta`` of a move along a unit vector ``w`` whose alignment ``dmu = <w, Gap>``
is given. The bounds that a function takes must hold on the whole segment that the step covers.
Every threshold is 0 where the alignment is not positive and infinite where nothing limits the step.

`paper` is the paper's Theorem 1 (arXiv 2510.08539); the others are this book's, each named as its
box in the book.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit, logit, logsumexp

from rlvrlib.bandits import SoftmaxBandit
from rlvrlib.checks import (
    finite,
    inside,
    instance,
    non_negative,
    numbers,
    prompt_weights,
    whole_number,
)
from rlvrlib.first_zero import exact as exact  # all belong to what a reader looks for here
from rlvrlib.first_zero import failure_law as failure_law
from rlvrlib.first_zero import token_failure_law as token_failure_law
from rlvrlib.problems import Array, At, Problem, Regularity, log_sum_exp, unit

# Beyond these log-odds the rates leave the range of floating-point numbers.
_FAR = 700.0
# How far a segment is searched, in stretches on which probabilities change by up to a quarter.
_REACH = 128.0


def paper(alignment: ArrayLike, score_bound: ArrayLike, score_lipschitz: ArrayLike) -> Array:
    """``[dmu]_+ / (2 (L_o + 8 G_o^2))``: the step condition of the paper's Theorem 1, as printed.

    Parameters
    ----------
    alignment : ``dmu``, any shape.
    score_bound : ``G_o`` of the bounded scores, non-negative, broadcast against ``alignment``.
    score_lipschitz : ``L_o`` of the bounded scores, likewise.
    """
    score, lipschitz = _score_bounds(score_bound, score_lipschitz)
    return _ratio(_positive_part(alignment), 2 * (lipschitz + 8 * score**2))


def trajectory(alignment: ArrayLike, score_bound: ArrayLike, score_lipschitz: ArrayLike) -> Array:
    """``2 dmu / (2 L_o + G_o^2)``: below it the log-odds rise (two-sided bound).

    Up to half of it, the log-odds gain lies between ``eta dmu / 2`` and ``3 eta dmu / 2``.
    Parameters as in `paper`.
    """
    score, lipschitz = _score_bounds(score_bound, score_lipschitz)
    return _ratio(2 * _positive_part(alignment), 2 * lipschitz + score**2)


def log_linear(alignment: ArrayLike, feature_range: ArrayLike) -> Array:
    """``8 dmu / D_-^2``: below it the log-odds of a log-linear policy rise (log-linear
    bound).

    Parameters
    ----------
    alignment : ``dmu``, any shape.
    feature_range : ``D_-``, the range of ``<w, features>`` over the wrong responses, non-negative.
    """
    return _ratio(8 * _positive_part(alignment), non_negative(feature_range=feature_range) ** 2)


def success_rise(alignment: ArrayLike, log_odds: ArrayLike, curvature_bound: ArrayLike) -> Array:
    """``2 (1-J) dmu / a``: below it the success rate rises (success-rise bound).

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
    score_bound: ArrayLike | None = None,
) -> Array:
    """``2 J F dmu / (a_+ F + sigma^2 Phi(F))``: below it the failure rate ``F = 1-J`` falls
    (failure-fall bound).

    ``sigma^2 = T_max R_p^2 / 4`` and ``Phi(F) = min(1, 2 F log(2e/F), G_o^2 F / sigma^2)``; the
    last entry is ``4 T_max F`` where ``score_bound`` is omitted (tail entry).

    Parameters
    ----------
    alignment : ``dmu``, any shape.
    log_odds : ``l``, where the step starts.
    max_length : ``T_max``, cap on the response length in tokens, at least 1.
    token_range : ``R_p``, length of an interval that holds every token score along ``w``.
    curvature_bound : ``a_+``, with ``h_w <= a_+`` on the wrong responses; 0 for logits linear in
        ``theta``.
    score_bound : ``G_o``, bound on ``|s_w|``: ``T_max G_p`` where each token score is at most
        ``G_p`` in size; ``T_max R_p`` where omitted.
    """
    tail = max_length, token_range, score_bound
    return _failure_fall(alignment, log_odds, tail, curvature_bound)


def sharper_failure_fall(
    alignment: ArrayLike,
    log_odds: ArrayLike,
    max_length: ArrayLike,
    token_range: ArrayLike,
    curvature_bound: ArrayLike = 0.0,
    score_bound: ArrayLike | None = None,
) -> Array:
    """The same as `failure_fall` with ``2 F log(2/F)`` as middle entry of ``Phi(F)``: a little
    longer (sharper logarithm).

    Parameters as in `failure_fall`.
    """
    tail = max_length, token_range, score_bound
    return _failure_fall(alignment, log_odds, tail, curvature_bound, sharper=True)


def angle(
    alignment: ArrayLike,
    log_odds: ArrayLike,
    max_length: ArrayLike,
    token_range: ArrayLike,
    bend_range: ArrayLike = 0.0,
    curvature_bound: ArrayLike = 0.0,
) -> Array:
    """``2 sqrt(JF) dmu / B``: below it the success rate rises (angle bound; angle bound for smooth
    policies). ``B`` and its parameters as in `angle_bend`, the others as in `failure_fall`.
    """
    log_odds = finite(log_odds=log_odds)
    spread = np.exp((log_expit(log_odds) + log_expit(-log_odds)) / 2)
    bend = angle_bend(max_length, token_range, bend_range, curvature_bound)
    return _ratio(2 * spread * _positive_part(alignment), bend)


def angle_bend(
    max_length: ArrayLike,
    token_range: ArrayLike,
    bend_range: ArrayLike = 0.0,
    curvature_bound: ArrayLike = 0.0,
) -> Array:
    """``B``: the angle ``2 arcsin sqrt(J)`` bends down by at most this along a unit vector (angle
    bound; angle bound for smooth policies).

    ``max(a, sqrt(sum_{t<T} (R_p^2 sqrt(t) / 2 + R_p^2 / 4 + R_h / 2)^2))``; ``beta_T`` for logits
    linear in ``theta``, where ``R_h`` and ``a`` may be left out. Then GRPO on token sums improves
    at every step for rates below ``2 / beta_T``, REINFORCE below ``4 / beta_T``.

    Parameters
    ----------
    max_length, token_range : ``T`` and ``R_p``, as in `failure_fall`.
    bend_range : ``R_h``, length of an interval that holds every token bend, given the past.
    curvature_bound : ``a``, with ``h_w >= -a`` on the correct responses along the segment.
    """
    slope = non_negative(token_range=token_range) ** 2 / 2
    shift = non_negative(bend_range=bend_range) / 2
    bend = non_negative(curvature_bound=curvature_bound)
    last = np.asarray(inside("[1, inf)", max_length=max_length), dtype=int) - 1
    drift = np.sqrt(np.arange(np.max(last) + 1)) + 0.5
    first, second = np.cumsum(drift)[last], np.cumsum(drift**2)[last]
    variance = slope**2 * second + 2 * slope * shift * first + (last + 1) * shift**2
    return np.maximum(bend, np.sqrt(variance))


def mean_length_fall(
    alignment: ArrayLike,
    log_odds: ArrayLike,
    mean_length: ArrayLike,
    token_range: ArrayLike,
    curvature_bound: ArrayLike = 0.0,
) -> Array:
    """``2 J F dmu / (a_+ F + R_p^2 Lbar / 4)``: below it the failure rate falls, whatever the cap
    (mean length).

    Parameters
    ----------
    mean_length : ``Lbar``, with ``E[|o|] <= Lbar`` along the segment, at least 1.
    alignment, log_odds, token_range, curvature_bound : as in `failure_fall`.
    """
    log_odds, bend = finite(log_odds=log_odds), non_negative(curvature_bound=curvature_bound)
    variance = _score_variance(token_range, mean_length=mean_length)
    with np.errstate(over="ignore"):
        brake = bend + _product(variance, np.exp(-log_expit(-log_odds)))
    return _ratio(2 * np.exp(log_expit(log_odds)) * _positive_part(alignment), brake)


def mean_length_rise(
    alignment: ArrayLike, log_odds: ArrayLike, mean_length: ArrayLike, token_range: ArrayLike
) -> Array:
    """``2 F dmu / (R_p^2 Lbar_+ / 4)``: below it the success rate rises, whatever the cap, for
    logits linear in ``theta`` (mean length).

    Parameters
    ----------
    mean_length : ``Lbar_+``, with ``E[|o| | r=1] <= Lbar_+`` along the segment, at least 1.
    alignment, log_odds, token_range : as in `failure_fall`.
    """
    return success_rise(alignment, log_odds, _score_variance(token_range, mean_length=mean_length))


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


def random_length(
    alignment: ArrayLike, log_odds: float, length_law: ArrayLike, token_range: float
) -> Array:
    """``2 J dmu / V(F)``: below it the failure rate falls, whatever the cap, for logits linear in
    ``theta`` (random lengths).

    ``V(F) = R_p^2 / (2 mu) (log(2/F) + log E[e^(mu |o|)] / 2)^2`` with the best ``mu``. Stated for
    ``F <= 2/e^2``; 0 above.

    Parameters
    ----------
    alignment : ``dmu``, any shape.
    log_odds : ``l``, where the step starts, a number.
    length_law : probabilities of the lengths 1, 2, ..., shape ``(T_max,)``; the moment must not
        grow along the segment.
    token_range : ``R_p``, as in `failure_fall`.
    """
    from scipy.optimize import minimize_scalar  # slow to load

    nats = np.log(2) - log_expit(-finite(log_odds=log_odds))
    law, times = non_negative(length_law=length_law), np.arange(1, np.size(length_law) + 1)

    def brake(log_mu: float) -> float:
        mu = np.exp(log_mu)
        return float((nats + logsumexp(mu * times, b=law) / 2) ** 2 / (2 * mu))

    if nats < 2:
        return np.zeros_like(_positive_part(alignment))
    least = minimize_scalar(brake, bounds=(-8, 2), method="bounded").fun
    falling = 2 * expit(log_odds) * _positive_part(alignment)
    return _ratio(falling, least * non_negative(token_range=token_range) ** 2)


def batch_success_rise(
    alignments: ArrayLike,
    log_odds: ArrayLike,
    curvature_bounds: ArrayLike,
    weights: ArrayLike | None = None,
) -> Array:
    """``2 D / sum_q p_q a_q J_q`` with ``D = sum_q p_q J_q (1-J_q) dmu_q``: below it the mean
    success rate rises (batch success-rise bound).

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
    score_bound: ArrayLike | None = None,
) -> Array:
    """``2 D / (a_+ Fbar + sigma^2 Phi(Fbar))``: below it the mean failure rate falls (batch
    failure-fall bound).

    Parameters
    ----------
    alignments : ``dmu_q``, prompts along the last axis.
    log_odds : ``l_q``, where the step starts, likewise.
    max_length, token_range, curvature_bound, score_bound : bounds common to all prompts, as in
        `failure_fall`.
    weights : ``p_q``, non-negative, scaled to sum to one; equal where omitted.
    """
    bend = non_negative(curvature_bound=curvature_bound)
    alignments, log_odds, weights = _prompts(alignments, log_odds, weights)
    with np.errstate(divide="ignore"):
        log_mean_failure = log_sum_exp(log_expit(-log_odds) + np.log(weights))[..., None]
    relative_failure = np.exp(log_expit(-log_odds) - log_mean_failure)  # F_q / Fbar
    gain = np.sum(weights * relative_failure * np.exp(log_expit(log_odds)) * alignments, axis=-1)
    wrong = _wrong_moment(log_mean_failure[..., 0], max_length, token_range, score_bound)
    return _ratio(2 * _positive_part(gain), bend + wrong)


def reinforce_rate(
    max_length: ArrayLike,
    token_range: ArrayLike,
    log_odds: ArrayLike | None = None,
    curvature_bound: ArrayLike = 0.0,
    score_bound: ArrayLike | None = None,
) -> Array:
    """``2 / (a_+ F + sigma^2 Phi(F))``: learning rates of exact REINFORCE below it improve
    (corollary of the failure-fall bound).

    Without ``log_odds`` the rate that is safe at every success rate, ``2 / (a_+ + sigma^2)``: ``8 /
    (T_max R_p^2)`` for logits linear in ``theta``; ``max_length`` may then be a mean length that
    holds along every step (mean length). Parameters as in `failure_fall`.
    """
    bend = non_negative(curvature_bound=curvature_bound)
    if log_odds is None:
        return _ratio(2.0, bend + _score_variance(token_range, max_length=max_length))
    log_failure = log_expit(-finite(log_odds=log_odds))
    brake = bend + _wrong_moment(log_failure, max_length, token_range, score_bound)
    brake = np.where(np.isinf(brake), np.inf, _product(brake, np.exp(log_failure)))
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


@dataclass(frozen=True)
class Guarantee:
    """The largest step that is guaranteed to improve, and why.

    Attributes
    ----------
    step : the supremum of the guaranteed steps, shape ``(...)``.
    theorem : which of `BOUNDS` allows it, shape ``(...)``; ``"none"`` where the step is 0.
    bounds : what that theorem was given.
    """

    step: Array
    theorem: NDArray[np.str_]
    bounds: Regularity


def guaranteed(
    problem: Problem,
    theta: ArrayLike,
    direction: ArrayLike,
    *,
    among: Sequence[str] | None = None,
    alignment: ArrayLike | None = None,
    log_odds: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    everywhere: bool = False,
    finite: bool = False,
    num_points: int = 33,
) -> Guarantee:
    """The largest step that any theorem allows from ``theta``: the maximum of valid thresholds.

    Below it the success rate rises. Prompts that share ``theta`` are a batch: then the mean success
    rate rises, by the batch bounds. Bounds that are given hold on the segment that the step covers:
    step and bounds are found together by `segment_step`.

    Parameters
    ----------
    problem : any `Problem`; what is known of its bounds decides which theorems apply.
    theta, direction : shape ``(..., dim)``; the direction is scaled to length one.
    among : names from `BOUNDS`; all that apply where omitted.
    alignment, log_odds : where they are known or estimated; those of the problem where omitted.
    weights : of the prompts of a batch; equal where omitted.
    everywhere : take the bounds that hold for every theta, and search no segment.
    finite : leave out a bound where it does not limit the step.
    num_points : as in `segment_step`.

    Raises
    ------
    ValueError : a direction of zero length, unknown names, or none that applies to the problem.
    """
    instance(Problem, problem=problem)
    theta, along = inside("(-inf, inf)", theta=theta), unit(direction)
    if alignment is not None:
        alignment = numbers(alignment=alignment)
    if log_odds is not None:
        log_odds = inside("[-inf, inf]", log_odds=log_odds)
    shape = np.broadcast_shapes(theta.shape, along.shape)[:-1]
    if alignment is None or log_odds is None:
        at = At.of(problem, theta)
        alignment, log_odds = np.sum(along * at.gap, axis=-1), at.log_odds
    # a prompt that is always right or always wrong has no gap
    slope = inside("[-inf, inf]", alignment=np.where(np.isfinite(log_odds), alignment, 0.0))
    odds = np.clip(log_odds, -_FAR, _FAR)
    batch = np.broadcast_shapes(slope.shape, odds.shape) != shape
    bounds = problem.regularity(along) if everywhere else problem.local_regularity(theta, along)
    at_start: dict[str, Callable[[], Array]] = {}
    if not batch and bounds.linear_logits:
        variance = bounds.variance if everywhere else problem.conditional_variance(theta, along)
        size = bounds.max_length, bounds.token_range
        at_start["angle"] = lambda: angle(slope, odds, *size)
        at_start["conditional variance"] = lambda: variance_local(slope, odds, variance, size[1])
        if isinstance(problem, SoftmaxBandit):
            width = problem.wrong_feature_range(along)
            at_start["log-linear"] = lambda: log_linear(slope, width)
            if not everywhere:
                at_start["failure law"] = lambda: failure_law(problem, theta, along)
                at_start["token failure law"] = lambda: token_failure_law(problem, theta, along)
    on_segment = _BATCH if batch else {k: v for k, v in _SINGLE.items() if k not in at_start}
    chosen = _chosen(among, [*on_segment, *at_start], problem)
    names = np.array(["none", *(n for n in (*at_start, *on_segment) if n in chosen)])

    def best(steps: dict[str, Array]) -> tuple[Array, NDArray[np.str_]]:
        table = np.zeros((len(names), *shape))
        for row, name in enumerate(names):
            if name in steps:
                step = np.asarray(steps[name]).reshape(shape)
                table[row] = np.where(np.isinf(step), 0.0, step) if finite else step
        return table.max(axis=0)[()], names[table.argmax(axis=0)]

    step, theorem = best({name: rule() for name, rule in at_start.items() if name in chosen})
    rules = {name: rule for name, rule in on_segment.items() if name in chosen}
    if not rules:
        return Guarantee(step, theorem, bounds)

    def longer(bounds: Regularity) -> Array:
        """What the bounds allow, where that is more than the start alone allows; otherwise 0."""
        allowed, _ = best(
            {name: rule(bounds, slope, odds, weights) for name, rule in rules.items()}
        )
        return np.where(allowed > step, allowed, 0.0)

    if everywhere:
        reached = longer(bounds)
    else:
        reached, bounds = segment_step(longer, problem, theta, along, num_points=num_points)
    _, other = best({name: rule(bounds, slope, odds, weights) for name, rule in rules.items()})
    theorem = np.where(reached > step, other, theorem)
    return Guarantee(np.maximum(step, reached), theorem[()], bounds)


def segment_step(
    threshold: Callable[[Regularity], Array],
    problem: Problem,
    theta: ArrayLike,
    direction: ArrayLike,
    *,
    num_points: int = 33,
) -> tuple[Array, Regularity]:
    """A step that the bounds on its own segment allow, and these bounds (bounds along one segment,
    chapter on regularity).

    A segment from ``theta`` grows until ``threshold``, given the bounds on it, is no longer than
    the segment. They are measured at ``num_points`` points, closer to each other near the start,
    and at more where scores may change faster: a peak between two points is missed, but
    probabilities cannot change by more than a quarter between them. A segment ends at ``32 / (R_p +
    sqrt(L_p))``, and so does the step.

    Parameters
    ----------
    threshold : the step that bounds allow, shape ``(...)`` of ``theta`` and the direction; it does
        not grow with the bounds.
    theta, direction : shape ``(..., dim)``; the direction is scaled to length one.
    num_points : at least 2.
    """
    whole_number(2, num_points=num_points)
    theta, along = finite(theta=theta), unit(direction)
    shares = np.linspace(0, 1, num_points) ** 2
    bounds = here = problem.local_regularity(theta, along)
    allowed = threshold(bounds)
    limit = _REACH * _stretch(here, allowed.shape)
    reach = np.minimum(allowed, limit)
    end, passed = np.zeros(reach.shape), np.zeros(reach.shape, dtype=int)
    growing = end < reach
    while growing.any():
        goal = shares[np.minimum(passed + 1, num_points - 1)] * reach
        end = np.where(growing, np.minimum(goal, end + _stretch(here, reach.shape)), end)
        here = problem.local_regularity(theta + end[..., None] * along, along)
        bounds = bounds.widened(here, growing)
        allowed = threshold(bounds)
        passed += end >= goal
        growing &= (allowed > end) & (end < reach)
    return np.minimum(allowed, limit), bounds


def longest_guarantee(success_rate: ArrayLike, max_length: ArrayLike = np.inf) -> Array:
    """``g(J)``: the largest guaranteed step in units of ``dmu / sigma^2``, from success rate and
    length alone.

    For logits linear in ``theta``: the largest of ``2F`` (success-rise bound), ``2JF / Phi(F)``
    (sharper logarithm) and ``2 sqrt(JF) sigma^2 / beta_T`` (angle bound), ``F = 1-J``.

    Parameters
    ----------
    success_rate : ``J``, in (0, 1), any shape.
    max_length : ``T_max``, broadcast against ``success_rate``; the limit of long responses where
        omitted: no tail entry, and ``beta_T = sqrt(2) sigma^2``.
    """
    log_odds = logit(inside("(0, 1)", success_rate=success_rate))
    length = np.ceil(inside("[1, inf]", max_length=max_length))
    short = np.where(np.isinf(length), 1, length)
    limit = np.sqrt(expit(log_odds) * expit(-log_odds) * 2)
    turn = np.where(np.isinf(length), limit, angle(1.0, log_odds, short, 2 / np.sqrt(short)))
    long = np.minimum(length, 1e300)  # sigma^2 = T R_p^2 / 4 = 1
    fall = sharper_failure_fall(1.0, log_odds, long, 2 / np.sqrt(long))
    return np.maximum(np.maximum(success_rise(1.0, log_odds, 1.0), fall), turn)


_Rule = Callable[[Regularity, Array, Array, ArrayLike | None], Array]

# What each theorem takes of the bounds on a segment, beside alignment and log-odds.
_SINGLE: dict[str, _Rule] = {
    "paper": lambda b, dmu, l, _: paper(dmu, b.score_bound, b.score_lipschitz),
    "two-sided": lambda b, dmu, l, _: trajectory(dmu, b.score_bound, b.score_lipschitz),
    "success-rise": lambda b, dmu, l, _: success_rise(dmu, l, b.correct_bend),
    "failure-fall": lambda b, dmu, l, _: failure_fall(
        dmu, l, b.max_length, b.token_range, b.wrong_bend, b.score_bound
    ),
    "sharper logarithm": lambda b, dmu, l, _: sharper_failure_fall(
        dmu, l, b.max_length, b.token_range, b.wrong_bend, b.score_bound
    ),
    "angle": lambda b, dmu, l, _: angle(
        dmu, l, b.max_length, b.token_range, b.bend_range, b.correct_bend
    ),
    "mean length": lambda b, dmu, l, _: np.maximum(
        mean_length_fall(dmu, l, b.mean_length, b.token_range, b.wrong_bend),
        # the rise needs bends that are variances
        mean_length_rise(dmu, l, b.correct_mean_length, b.token_range) if b.linear_logits else 0.0,
    ),
    "conditional variance": lambda b, dmu, l, _: variance_fall(
        dmu, l, b.variance, b.token_range, b.wrong_bend
    ),
}
_BATCH: dict[str, _Rule] = {
    "batch success-rise": lambda b, dmu, l, p: batch_success_rise(dmu, l, b.correct_bend, p),
    # one token with the largest score variance and score of the prompts stands for all of them
    "batch failure-fall": lambda b, dmu, l, p: batch_failure_fall(
        dmu,
        l,
        1,
        2 * np.sqrt(_largest(_score_variance(b.token_range, max_length=b.max_length), dmu)),
        _largest(b.wrong_bend, dmu),
        p,
        _largest(b.score_bound, dmu),
    ),
}
# The names of the bounds that `guaranteed` knows, as in the book.
BOUNDS = (*_SINGLE, "log-linear", "failure law", "token failure law", *_BATCH)


def _chosen(among: Sequence[str] | None, applicable: Sequence[str], problem: Problem) -> set[str]:
    names = set(applicable if among is None else among)
    if not names or not names <= set(BOUNDS):
        raise ValueError(f"among must be one or more of {', '.join(BOUNDS)}, got {among!r}")
    if names.isdisjoint(applicable):
        raise ValueError(
            f"among must name a bound for this {type(problem).__name__}: one or more of "
            f"{', '.join(applicable)}, got {among!r}"
        )
    return names


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
    tail: tuple[ArrayLike, ArrayLike, ArrayLike | None],
    curvature_bound: ArrayLike,
    sharper: bool = False,
) -> Array:
    log_odds, bend = finite(log_odds=log_odds), non_negative(curvature_bound=curvature_bound)
    # Numerator and denominator divided by F, which may underflow.
    brake = bend + _wrong_moment(log_expit(-log_odds), *tail, sharper)
    return _ratio(2 * np.exp(log_expit(log_odds)) * _positive_part(alignment), brake)


def _wrong_moment(
    log_failure: Array,
    max_length: ArrayLike,
    token_range: ArrayLike,
    score_bound: ArrayLike | None,
    sharper: bool = False,
) -> Array:
    """``sigma^2 Phi(F) / F``, which ``E[s_w^2 | r=0]`` cannot exceed: the least of ``sigma^2 / F``,
    ``2 sigma^2 log(2e/F)`` (with the sharper logarithm ``log(2/F)``) and ``G_o^2``.
    """
    variance = _score_variance(token_range, max_length=max_length)
    if score_bound is None:
        square = 4 * _product(variance, np.asarray(max_length, dtype=float))  # of T_max R_p
    else:
        square = non_negative(score_bound=score_bound) ** 2
    with np.errstate(over="ignore"):
        tail = np.minimum(np.exp(-log_failure), 2 * (np.log(2) - log_failure + (not sharper)))
        return np.minimum(_product(variance, tail), square)


def _variance_factor(log_failure: Array, variance: ArrayLike, token_range: ArrayLike) -> Array:
    """``Phi_V(F) / F = min(V/F, (sqrt(2 V L) + R_p L / 3)^2)`` with ``L = log(2/F)``."""
    variance, spread = non_negative(variance=variance), non_negative(token_range=token_range)
    level = np.log(2) - log_failure
    with np.errstate(over="ignore"):
        plain = _product(variance, np.exp(-log_failure))
    return np.minimum(plain, (np.sqrt(2 * variance * level) + spread * level / 3) ** 2)


def _score_variance(token_range: ArrayLike, **length: ArrayLike) -> Array:
    """``sigma^2 = T_max R_p^2 / 4`` (Azuma-Hoeffding); the length has the name of the argument."""
    return _product(
        inside("[1, inf]", **length), non_negative(token_range=token_range) ** 2 / 4
    )


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


def _largest(values: ArrayLike, alignments: Array) -> Array:
    """The largest over the prompts, the last axis of the alignments."""
    return np.max(
        np.broadcast_to(values, np.broadcast_shapes(np.shape(values), alignments.shape)), axis=-1
    )


def _stretch(bounds: Regularity, shape: tuple[int, ...]) -> Array:
    """``1 / (4 (R_p + sqrt(L_p)))``, shape ``(...)``; the shortest of prompts that share theta."""
    speed = np.asarray(bounds.token_range + np.sqrt(bounds.token_lipschitz))
    if np.broadcast_shapes(speed.shape, shape) != shape:
        speed = speed.max(axis=-1).reshape(shape)
    return _ratio(0.25, speed)
