"""Thresholds that are found and not bounded: the first zero of the gain itself, or of a law of the
wrong responses.

Both are functions of a `Problem`, where those of `rlvrlib.thresholds` take numbers; `thresholds`
has them under the same names.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rlvrlib.bandits import SoftmaxBandit, log_mean_exp
from rlvrlib.first_zero import first_zero, zero_between
from rlvrlib.problems import Array, Problem, log_odds_gain, log_sum_exp, unit
from rlvrlib.problems import alignment as gap_alignment
from rlvrlib.threshold_arithmetic import positive_part


def exact(problem: Problem, theta: ArrayLike, direction: ArrayLike, *, reach: float = 1e6) -> Array:
    """First positive zero of ``l(theta + eta w) - l(theta)`` in ``eta``, shape ``(...)``.

    0 where the alignment is not positive, infinite where the gain stays positive up to ``reach``
    natural scales ``dmu / (|kappa| + dmu^2)``. The search is that of `rlvrlib.first_zero`: a dip
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
    if not reach >= 1:
        raise ValueError(f"reach must be at least 1, got {reach!r}")
    theta, direction = np.asarray(theta, dtype=float), unit(direction)
    slope = positive_part(gap_alignment(problem, theta, direction))
    bend = np.broadcast_to(np.abs(problem.curvature(theta, direction)), slope.shape)
    rising = slope > 0
    speed = np.maximum(bend + slope**2, np.finfo(float).tiny)  # the square may vanish
    scale = np.where(rising, slope / np.where(rising, speed, 1.0), 1.0)

    def gain(step: Array) -> Array:
        values = log_odds_gain(problem, theta, direction, step)
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
    theta, direction = np.asarray(theta, dtype=float), unit(direction)
    if np.any(bandit.logit_curvatures(theta, direction)):
        raise ValueError(
            f"bandit must be log-linear, got {type(bandit).__name__}: the law of its scores does not bound the gain"
        )
    law, scores = bandit.log_probabilities(theta), bandit.scores(theta, direction)
    right, wrong = np.where(bandit.rewards, law, -np.inf), np.where(bandit.rewards, -np.inf, law)
    right, wrong = (part - log_sum_exp(part)[..., None] for part in (right, wrong))
    excess = scores - np.sum(np.exp(right) * scores, axis=-1, keepdims=True)
    slope = -np.sum(np.exp(wrong) * excess, axis=-1)  # the alignment
    excess = np.where(
        np.isfinite(wrong), excess, 0.0
    )  # of the wrong responses; the correct ones have no weight
    wanted = (slope > 0) & np.any(excess > 0, axis=-1)

    def gain(step: Array) -> Array:
        return -log_mean_exp(np.exp(wrong), law, ~bandit.rewards, step[..., None] * excess)

    spread = np.max(excess, axis=-1) - np.min(np.where(np.isfinite(wrong), excess, np.inf), axis=-1)
    low = np.where(
        wanted, 4 * slope / np.where(wanted, spread, 1.0) ** 2, 0.0
    )  # half of Theorem 1'': there it is positive
    high = 2 * low
    while np.any(rising := wanted & (gain(high) >= 0)):
        low, high = np.where(rising, high, low), np.where(rising, 2 * high, high)
    return np.where(
        wanted, zero_between(gain, low, high, wanted), np.where(slope > 0, np.inf, 0.0)
    )[()]
