r"""Batches of prompts that share ``theta``: rates and alignments of the mean, and the batch as one
problem. The guaranteed steps of a batch are in `rlvrlib.thresholds`.

Prompts stand along the last axis of log-odds and alignments, along the last axis but one of gaps,
and ``theta`` has shape ``(..., 1, dim)``. ``p_q`` are the batch's weights: the mean success rate is
``Jbar = sum_q p_q J_q``. Weights are scaled to sum to one.

A prompt that is always right or always wrong has infinite log-odds and no gap. It is left out of
every direction. In the step an always right one still counts: it cannot gain, but it can lose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, log_expit, logit

from rlvrlib.checks import finite, inside, instance, numbers, prompt_weights, shown
from rlvrlib.problems import Array, Problem, unit

__all__ = ["BatchMean"]


def log_odds_of_rates(success_rate: ArrayLike, *, strict: bool = False) -> tuple[Array, Array]:
    """Log-odds of estimated success rates, and how many prompts have none.

    Parameters
    ----------
    success_rate : shape ``(..., Q)``, in [0, 1].
    strict : raise if some rate is 0 or 1.

    Returns
    -------
    Log-odds, infinite for rates of 0 and 1, and the number of these prompts, shape ``(...)``.

    Raises
    ------
    ValueError : a rate outside [0, 1], or one of 0 or 1 where ``strict``.
    """
    rates = inside("[0, 1]", success_rate=success_rate)
    if rates.ndim < 1:
        raise ValueError(f"success_rate must hold prompts along its last axis, got {rates}")
    excluded = np.count_nonzero((rates == 0) | (rates == 1), axis=-1)
    if strict and np.any(excluded):
        raise ValueError(
            f"success_rate must be in (0, 1), got {np.sum(excluded)} prompts that are always right "
            "or always wrong: sample them again, or pass strict=False to leave them out"
        )
    return logit(rates), excluded


def two_groups(angle: ArrayLike, own: ArrayLike) -> Array:
    """Unit vectors for prompts in two alternating groups at an angle: ``(1, 0, own_q)`` and
    ``(cos, sin, own_q)``, scaled, shape ``(..., Q, 2 + d)``.

    Parameters
    ----------
    angle : between the groups in radians, shape ``(..., 1)`` or one for all.
    own : the part that no other prompt shares, shape ``(..., Q, d)``.

    Raises
    ------
    ValueError : an angle or a part that is not finite.
    """
    own = finite(own=own)
    turn = finite(angle=angle) * (np.arange(own.shape[-2]) % 2)
    plane = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    shape = np.broadcast_shapes(plane.shape[:-1], own.shape[:-1])
    parts = [np.broadcast_to(part, (*shape, part.shape[-1])) for part in (plane, own)]
    return unit(np.concatenate(parts, axis=-1))


def mean_rates(log_odds: ArrayLike, weights: ArrayLike | None = None) -> tuple[Array, Array]:
    """``sum_q p_q J_q`` and ``sum_q p_q (1 - J_q)``, shape ``(...)`` each; weights are scaled to
    sum to one.
    """
    log_odds, share = batch_of(log_odds, weights)
    return np.sum(share * expit(log_odds), axis=-1), np.sum(share * expit(-log_odds), axis=-1)


def batch_alignment(
    alignments: ArrayLike, log_odds: ArrayLike, weights: ArrayLike | None = None
) -> Array:
    """``D = sum_q p_q J_q (1-J_q) dmu_q``: slope of the mean success rate along the
    direction, shape ``(...)``.
    """
    log_odds, share = batch_of(log_odds, weights)
    return np.sum(share * rate_variance(log_odds) * _where_finite(log_odds, alignments), axis=-1)


def alignment_spread(
    alignments: ArrayLike, log_odds: ArrayLike, weights: ArrayLike | None = None
) -> Array:
    """Variance of the alignment over the batch divided by its squared mean, shape ``(...)``.

    Both with the weights ``p_q J_q (1-J_q)``. Infinite where the mean is 0.

    Raises
    ------
    ValueError : no prompt of a batch has finite log-odds.
    """
    log_odds, share = batch_of(log_odds, weights)
    pull, alignments = share * rate_variance(log_odds), _where_finite(log_odds, alignments)
    total = np.sum(pull, axis=-1, keepdims=True)
    if not np.all(total > 0):
        raise ValueError(
            "log_odds must leave a prompt in each batch "
            "that is neither always right nor always wrong"
        )
    pull = pull / total
    mean = np.sum(pull * alignments, axis=-1)
    variance = np.sum(pull * (alignments - mean[..., None]) ** 2, axis=-1)
    return np.where(mean == 0, np.inf, variance / np.where(mean == 0, 1.0, mean) ** 2)


@dataclass(frozen=True)
class BatchMean(Problem):
    """A batch as one `Problem`: its log-odds are those of the mean success rate, so its gap is
    parallel to the gradient of that.

    ``theta`` has shape ``(..., dim)`` here. It has no `Regularity` of its own: the guaranteed steps
    of a batch are those of its stack of prompts.

    Parameters
    ----------
    prompts : a stack of prompts, the last axis of its log-odds.
    weights : ``p_q``; equal where omitted.
    """

    prompts: Problem
    weights: ArrayLike | None = None

    def __post_init__(self) -> None:
        instance(Problem, prompts=self.prompts)
        if self.weights is not None:
            inside("[0, inf)", weights=self.weights)

    @property
    def dim(self) -> int:
        return self.prompts.dim

    @property
    def max_length(self) -> Any:
        return np.max(self.prompts.max_length)

    def log_odds(self, theta: ArrayLike) -> Array:
        success, failure = mean_rates(self.prompts.log_odds(_shared(theta)), self.weights)
        return np.log(success) - np.log(failure)

    def gradient_gap(self, theta: ArrayLike) -> Array:
        """``sum_q p_q J_q (1-J_q) Gap_q / (Jbar (1-Jbar))``."""
        log_odds, gap = self.prompts.log_odds_and_gap(_shared(theta))
        share = prompt_weights(self.weights, log_odds.shape[-1]) * rate_variance(log_odds)
        success, failure = mean_rates(log_odds, self.weights)
        return np.sum(share[..., None] * gap, axis=-2) / (success * failure)[..., None]

    def log_odds_gain(self, theta: ArrayLike, direction: ArrayLike, step: ArrayLike) -> Array:
        """From the gains of the prompts, which keep their digits for a short step."""
        theta, direction = _shared(theta), finite(direction=direction)[..., None, :]
        gain = self.prompts.log_odds_gain(
            theta, direction, finite(step=step)[..., None]
        )
        before = self.prompts.log_odds(theta)
        # J' - J = J (1-J) (e^g - 1) / (1-J + J e^g), numerator and denominator over e^g where g > 0
        shrunk = np.exp(-np.abs(gain))
        size = expit(before) * np.where(gain > 0, 1.0, shrunk) + expit(-before) * np.where(
            gain > 0, shrunk, 1.0
        )
        share = prompt_weights(self.weights, before.shape[-1]) * rate_variance(before)
        change = np.sum(share * -np.sign(gain) * np.expm1(-np.abs(gain)) / size, axis=-1)
        success, failure = mean_rates(before, self.weights)
        near = (change > -success / 2) & (change < failure / 2)
        change = np.where(near, change, 0.0)
        close = np.log1p(change / success) - np.log1p(-change / failure)
        if np.all(near):
            return close
        after_success, after_failure = mean_rates(before + gain, self.weights)
        return np.where(
            near, close, np.log(after_success / success) - np.log(after_failure / failure)
        )

    def curvature(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``(1-2 Jbar) dmu^2 - Jbar'' / (Jbar (1-Jbar))``, with ``J'' = J(1-J) ((1-2J) dmu_q^2 -
        kappa_q)`` for each prompt.
        """
        theta, direction = _shared(theta), finite(direction=direction)[..., None, :]
        log_odds, gap = self.prompts.log_odds_and_gap(theta)
        share = prompt_weights(self.weights, log_odds.shape[-1]) * rate_variance(log_odds)
        slopes = np.sum(gap * direction, axis=-1)
        bends = (expit(-log_odds) - expit(log_odds)) * slopes**2 - self.prompts.curvature(
            theta, direction
        )
        success, failure = mean_rates(log_odds, self.weights)
        slope, bend = (
            np.sum(share * values, axis=-1) / (success * failure) for values in (slopes, bends)
        )
        return (failure - success) * slope**2 - bend


def _shared(theta: ArrayLike) -> Array:
    return finite(theta=theta)[..., None, :]


def rate_variance(log_odds: Array) -> Array:
    """``J (1-J)``, shape ``(...)``."""
    return np.exp(log_expit(log_odds) + log_expit(-log_odds))


def _where_finite(log_odds: Array, values: ArrayLike) -> Array:
    # a prompt without a gap may have any
    return finite(alignments=np.where(np.isfinite(log_odds), numbers(alignments=values), 0.0))


def batch_of(log_odds: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array]:
    """Log-odds, which may be infinite, and weights that sum to one."""
    log_odds = inside("[-inf, inf]", log_odds=log_odds)
    if log_odds.ndim < 1 or log_odds.shape[-1] == 0:
        raise ValueError(
            f"log_odds must hold prompts along the last axis, got {shown(log_odds)}"
        )
    return log_odds, prompt_weights(weights, log_odds.shape[-1])
