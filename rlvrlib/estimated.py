"""Threshold rules for a run that sees samples only: alignment and success rate are estimates, the
bounds of the policy those that hold everywhere.

The steps are guaranteed for the estimates, not for the truth. What is taken off is ``caution``
standard errors of the alignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlvrlib.checks import finite, inside, instance, non_negative, whole_number
from rlvrlib.directions import Direction
from rlvrlib.problems import Array, At, sampled, unit_or_any
from rlvrlib.steps import Step
from rlvrlib.thresholds import guaranteed

__all__ = ["EstimatedMove", "EstimatedStep"]


def estimate(rewards: ArrayLike, scores: ArrayLike) -> tuple[Array, Array, Array]:
    """Alignment, its standard error, and log-odds, from one group of responses.

    The alignment is the mean score of the correct responses less that of the wrong ones, 0 where
    one kind is missing; its error has one variance for both, with ``G - 2`` degrees of freedom. The
    log-odds are ``log((k + 1/2) / (G - k + 1/2))`` with ``k`` correct ones.

    Parameters
    ----------
    rewards : zeros and ones, shape ``(..., G)``, with ``G`` at least 3.
    scores : ``s_w`` along a unit vector, shape ``(..., G)``.
    """
    rewards, scores = finite(rewards=rewards), finite(scores=scores)
    whole_number(3, group_size=rewards.shape[-1])
    right, wrong = rewards.sum(axis=-1), (1 - rewards).sum(axis=-1)
    ahead = np.sum(rewards * scores, axis=-1) / np.maximum(right, 1)
    behind = np.sum((1 - rewards) * scores, axis=-1) / np.maximum(wrong, 1)
    means = np.where(rewards == 1, ahead[..., None], behind[..., None])
    variance = np.sum((scores - means) ** 2, axis=-1) / (rewards.shape[-1] - 2)
    error = np.sqrt(variance * (1 / np.maximum(right, 1) + 1 / np.maximum(wrong, 1)))
    alignment = np.where((right > 0) & (wrong > 0), ahead - behind, 0.0)
    return alignment, error, np.log((right + 0.5) / (wrong + 0.5))


@dataclass(frozen=True)
class EstimatedStep(Step):
    """A share of the guaranteed step along the update, estimated from a group of its own.

    Parameters
    ----------
    share : of the step that is guaranteed for the estimates, in (0, 1).
    group_size : responses that are drawn for each step, at least 3.
    rng : source of the samples; it moves on with every step.
    caution : standard errors that are taken off the alignment, non-negative.
    among : as in `guaranteed`.
    """

    share: float
    group_size: int
    rng: np.random.Generator
    caution: float = 1.0
    among: Sequence[str] | None = None

    def __post_init__(self) -> None:
        inside("(0, 1)", share=self.share)
        whole_number(3, group_size=self.group_size)
        instance(np.random.Generator, rng=self.rng)
        non_negative(caution=self.caution)

    def length(self, at: At, update: Array, state: None) -> tuple[Array, None]:
        along, moves = unit_or_any(update)
        return np.where(moves, self.allowed(at, along, *self.group(at)), 0.0), None

    def group(self, at: At) -> tuple[Array, Array]:
        """Rewards, shape ``(..., G)``, and scores, shape ``(..., G, dim)``, of new responses."""
        rewards, _, scores = sampled(at.problem).sample(at.theta, self.group_size, self.rng)
        return rewards, scores

    def allowed(self, at: At, along: Array, rewards: Array, scores: Array) -> Array:
        """The step along a unit vector for the estimates from a group, shape ``(...)``."""
        seen, error, log_odds = estimate(rewards, np.sum(scores * along[..., None, :], axis=-1))
        sure = np.maximum(seen - self.caution * error, 0.0)
        allowed = guaranteed(
            at.problem,
            at.theta,
            along,
            among=self.among,
            alignment=sure,
            log_odds=log_odds,
            everywhere=True,
            finite=True,
        )
        return self.share * allowed.step


@dataclass(frozen=True)
class EstimatedMove(Direction):
    """The whole move from one group: along its gap, as far as ``rule`` allows for the same group;
    for ``Constant(1.0)``.

    With more than one parameter, samples are better aligned with their own gap than new ones are.
    """

    rule: EstimatedStep

    def update(self, at: At, state: None) -> tuple[Array, None]:
        rewards, scores = self.rule.group(at)
        gap, _, _ = estimate(rewards[..., None, :], np.swapaxes(scores, -1, -2))
        along, moves = unit_or_any(gap)
        step = np.where(moves, self.rule.allowed(at, along, rewards, scores), 0.0)
        return step[..., None] * along, None
