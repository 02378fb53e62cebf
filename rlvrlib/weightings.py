r"""Which prompt counts how much: prompt-adaptive directions for a batch.

Every direction is a combination of the prompts' gaps with coefficients that are not negative, ``u =
sum_q c_q Gap_q``; a *weighting* says which. `LargestGain` chooses among them by the guarantee of
the batch. Shapes as in `rlvrlib.batches`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from rlvrlib.batches import alignment_spread, batch_alignment, batch_of
from rlvrlib.checks import finite, inside, instance, one_of, prompt_weights, whole_number
from rlvrlib.directions import Direction
from rlvrlib.methods import multiplier
from rlvrlib.problems import Array, At, Notes, unit_or_any
from rlvrlib.thresholds import guaranteed

__all__ = ["LargestGain", "MiniBatch", "PromptWeighted"]

WEIGHTINGS = ("uniform", "grpo", "log_odds", "own_step", "max_min")

# The bounds by which a prompt moves on its own.
_OWN_STEP = ("success-rise", "failure-fall")

# A point of the hull this close to 0, over the largest entry of the gaps, is 0 up to rounding.
_ROUNDING = 1e-9


def min_norm_coefficients(gaps: ArrayLike, included: ArrayLike = True) -> Array:
    """Coefficients of the point of the gaps' convex hull that is nearest to 0, shape ``(..., Q)``;
    they sum to one.

    Its direction maximizes the smallest alignment ``min_q <w, Gap_q>``, and that maximum is its
    length. All coefficients are 0 where the hull contains 0 up to rounding: then no direction is
    aligned with every prompt. Minimizing ``norm(sum_q c_q Gap_q)^2 + (sum_q c_q - 1)^2`` over ``c
    >= 0`` gives a multiple of that point: for a given shape of ``c`` the best scale leaves ``x / (1
    + x)``, with ``x`` the squared norm for coefficients that sum to one.

    Parameters
    ----------
    gaps : shape ``(..., Q, dim)``.
    included : shape ``(..., Q)``, the prompts that take part.
    """
    # a third of a second to load, which the command rlvr does not need
    from scipy.optimize import lsq_linear, nnls

    gaps = finite(gaps=gaps)
    if gaps.ndim < 2 or 0 in gaps.shape:
        raise ValueError(f"gaps must have shape (..., prompts, dim), got shape {gaps.shape}")
    members = np.broadcast_to(inside("[0, 1]", included=included).astype(bool), gaps.shape[:-1])
    gaps = np.where(members[..., None], gaps, 0.0)
    size = np.abs(gaps).max(axis=(-2, -1), keepdims=True)
    gaps = np.divide(gaps, size, out=gaps, where=size > 0)
    systems = np.concatenate([np.swapaxes(gaps, -1, -2), members[..., None, :]], axis=-2)
    target = np.eye(1, systems.shape[-2], systems.shape[-2] - 1)[0]
    coefficients, maxiter = np.zeros(members.shape), 100 + 30 * members.shape[-1]
    # SciPy's solver takes one problem at a time
    for index in map(tuple, np.argwhere(size[..., 0, 0])):
        try:
            coefficients[index] = nnls(systems[index], target, maxiter=maxiter)[0]
        except RuntimeError:  # that of SciPy 1.14 gives up on one in a hundred
            fit = lsq_linear(systems[index], target, (0, np.inf), method="bvls", tol=1e-15)
            coefficients[index] = fit.x
    total = coefficients.sum(axis=-1, keepdims=True)
    coefficients = np.divide(coefficients, total, out=coefficients, where=total > 0)
    distance = np.linalg.norm(
        (coefficients[..., None, :] @ gaps)[..., 0, :], axis=-1, keepdims=True
    )
    return np.where(distance > _ROUNDING, coefficients, 0.0)


@dataclass(frozen=True)
class PromptWeighted(Direction):
    """Direction ``u = sum_q p_q c_q Gap_q``, shape ``(..., 1, dim)``.

    ============  ==============================================================================
    weighting     ``c_q``
    ============  ==============================================================================
    ``uniform``   ``J(1-J)``: the gradient of the mean success rate, REINFORCE
    ``grpo``      ``sqrt(J(1-J))``: weights ``1/sqrt(J(1-J))`` on the success rates' gradients
    ``log_odds``  1: weights ``1/(J(1-J))``
    ``own_step``  ``eta_q / norm(Gap_q)``: each prompt moves by its own guaranteed step
    ``max_min``   the point nearest to 0 of the gaps' hull; of ``p_q`` only whether it is 0 counts
    ============  ==============================================================================

    Parameters
    ----------
    weighting : one of the names above.
    weights : ``p_q``, shape ``(Q,)`` or ``(..., Q)``; equal where omitted.
    """

    weighting: str
    weights: ArrayLike | None = None

    def __post_init__(self) -> None:
        one_of(WEIGHTINGS, weighting=self.weighting)
        if self.weights is not None:
            inside("[0, inf)", weights=self.weights)

    def update(self, at: At, state: None) -> tuple[Array, None]:
        gap = np.where(np.isfinite(at.log_odds)[..., None], at.gap, 0.0)
        return np.sum(self.coefficients(at)[..., None] * gap, axis=-2, keepdims=True), None

    def coefficients(self, at: At) -> Array:
        """``p_q c_q``, shape ``(..., Q)``; 0 where the log-odds are infinite."""
        log_odds, share = batch_of(at.log_odds, self.weights)
        informative = np.isfinite(log_odds)
        gap = np.where(informative[..., None], at.gap, 0.0)
        if self.weighting == "max_min":
            return min_norm_coefficients(gap, informative & (share > 0))
        if self.weighting == "own_step":
            along, moving = unit_or_any(gap)
            size = np.linalg.norm(gap, axis=-1)
            rule = guaranteed(
                at.problem,
                at.theta,
                along,
                among=_OWN_STEP,
                alignment=size,
                log_odds=log_odds,
                everywhere=True,
            )
            return share * np.divide(rule.step, size, out=np.zeros_like(size), where=moving)
        method = "reinforce" if self.weighting == "uniform" else self.weighting
        factor = multiplier(method, expit(log_odds), failure_rate=expit(-log_odds))
        return share * informative * factor


@dataclass(frozen=True)
class MiniBatch(Direction):
    """REINFORCE on prompts drawn at random with replacement: ``u`` is the mean of their gradients
    ``J_q (1-J_q) Gap_q``, shape ``(..., 1, dim)``; its expectation is that of the whole batch
    (chapter "Batches of prompts", mini-batches).

    Each update notes as ``spread`` the spread of the alignments of the whole batch along the
    gradient of its mean success rate, shape ``(...)``.

    Parameters
    ----------
    size : prompts in a mini-batch, at least 1.
    rng : source of the draws; it moves on with every update.
    weights : probabilities ``p_q`` of the prompts, shape ``(Q,)`` or ``(..., Q)``; equal where
        omitted.
    """

    size: int
    rng: np.random.Generator
    weights: ArrayLike | None = None

    def __post_init__(self) -> None:
        whole_number(1, size=self.size)
        instance(np.random.Generator, rng=self.rng)
        if self.weights is not None:
            inside("[0, inf)", weights=self.weights)

    def update(self, at: At, state: Any) -> tuple[Array, Array]:
        share = prompt_weights(self.weights, at.log_odds.shape[-1])
        drawn = self.rng.multinomial(self.size, share, size=at.log_odds.shape[:-1])
        along, _ = unit_or_any(PromptWeighted("uniform", share).update(at, None)[0])
        spread = alignment_spread(np.sum(along * at.gap, axis=-1), at.log_odds, share)
        return PromptWeighted("uniform", drawn).update(at, None)[0], spread

    def notes(self, state: Array) -> Notes:
        return {"spread": state}


@dataclass(frozen=True)
class LargestGain(Direction):
    """At each step the weighting whose guaranteed gain in mean success rate is largest: a unit
    direction, shape ``(..., 1, dim)``.

    A step of the share ``c`` of the largest threshold ``eta*`` of the batch raises the mean success
    rate by at least ``c (1-c) D eta*``, so the candidate with the largest ``D eta*`` has the
    largest guarantee, whatever ``c``. Each update notes as ``chosen`` the number of the candidate,
    -1 where none has a positive gain, and as ``squared_gradient`` that of the mean success rate,
    whose sum over a run is bounded; shape ``(...)`` each.

    Parameters
    ----------
    candidates : names of weightings; with ``"uniform"`` among them the rule never stops before the
        mean success rate is stationary.
    weights : as in `PromptWeighted`.
    """

    candidates: tuple[str, ...] = WEIGHTINGS
    weights: ArrayLike | None = None

    def __post_init__(self) -> None:
        if not self.candidates or not set(self.candidates) <= set(WEIGHTINGS):
            raise ValueError(
                f"candidates must be one or more of {', '.join(WEIGHTINGS)}, "
                f"got {self.candidates!r}"
            )
        if self.weights is not None:
            inside("[0, inf)", weights=self.weights)

    def update(self, at: At, state: Any) -> tuple[Array, tuple[np.ndarray, Array]]:
        log_odds, gap = at.log_odds, at.gap
        best = np.zeros((*log_odds.shape[:-1], 1, gap.shape[-1]))
        gain = np.zeros(log_odds.shape[:-1])
        chosen = np.full(gain.shape, -1)
        for number, name in enumerate(self.candidates):
            along, moving = unit_or_any(PromptWeighted(name, self.weights).update(at, None)[0])
            alignment = np.sum(along * gap, axis=-1)
            slope = batch_alignment(alignment, log_odds, self.weights)
            rule = guaranteed(
                at.problem,
                at.theta,
                along,
                alignment=alignment,
                log_odds=log_odds,
                weights=self.weights,
                everywhere=True,
            )
            product = slope * rule.step[..., 0]
            better = moving[..., 0] & (product > gain)
            gain, chosen = np.where(better, product, gain), np.where(better, number, chosen)
            best = np.where(better[..., None, None], along, best)
        gradient = PromptWeighted("uniform", self.weights).update(at, None)[0]
        return best, (chosen, np.sum(gradient**2, axis=(-2, -1)))

    def notes(self, state: tuple[np.ndarray, Array]) -> Notes:
        return dict(zip(("chosen", "squared_gradient"), state, strict=True))
