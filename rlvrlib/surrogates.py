r"""Other objectives than the success rate: the clipped ratio of PPO over several updates, and a KL
penalty to the start.

Both are directions for a `SoftmaxBandit`: one response is one action, so the ratio is that of the
whole response.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rlvrlib.bandits import SoftmaxBandit
from rlvrlib.checks import inside, one_of, whole
from rlvrlib.directions import Direction, OnTop
from rlvrlib.problems import Array, At, Problem

_LOG_LARGE = 700.0
_ORDERS = ("policy-reference", "reference-policy")


def mean_score(problem: SoftmaxBandit, theta: Array, chance: Array, weights: Array) -> Array:
    """``sum_a weights_a s(a)`` with the scores ``s = grad log pi`` and ``chance = pi(a)`` at theta,
    shape ``(..., dim)``.
    """
    return problem.mean_logit_gradient(
        theta, weights - weights.sum(axis=-1, keepdims=True) * chance
    )


def kl_gradient(
    problem: SoftmaxBandit, theta: Array, reference: Array, order: str = "policy-reference"
) -> Array:
    """Gradient in ``theta`` of a KL divergence between the policy and the one at ``reference``,
    shape ``(..., dim)``.

    ``"policy-reference"`` is ``KL(pi || pi_ref)``: ``E_pi[s log(pi / pi_ref)]``.
    ``"reference-policy"`` is ``KL(pi_ref || pi)``: ``-E_ref[s]``, which is also the mean gradient
    of the estimator ``q - log q - 1``, ``q = pi_ref / pi``, on samples of ``pi``.

    Raises
    ------
    ValueError : unknown order.
    """
    one_of(_ORDERS, order=order)
    here, there = problem.log_probabilities(theta), problem.log_probabilities(reference)
    chance = np.exp(here)
    weights = -np.exp(there) if order == "reference-policy" else chance * (here - there)
    return mean_score(problem, theta, chance, weights)


@dataclass(frozen=True)
class KLPenalty(OnTop):
    """Another direction minus ``beta`` times the exact gradient of the KL divergence to a
    reference.

    Parameters
    ----------
    direction : the update without the penalty.
    beta : weight of the penalty, non-negative, shape ``(...)`` as the runs.
    reference : parameters of the reference policy, shape ``(..., dim)``; where the run starts if
        omitted.
    order : see `kl_gradient`.
    """

    beta: ArrayLike
    reference: Array | None = None
    order: str = "policy-reference"

    def __post_init__(self) -> None:
        inside("[0, inf)", beta=self.beta)
        one_of(_ORDERS, order=self.order)

    def initial_state(self, theta: Array) -> tuple[Any, Array]:
        reference = theta if self.reference is None else np.asarray(self.reference, dtype=float)
        return self.direction.initial_state(theta), reference

    def update(self, at: At, state: Any) -> tuple[Array, Any]:
        inner, reference = state
        update, inner = self.direction.update(at, inner)
        weight = np.asarray(self.beta, dtype=float)[..., None]
        pull = weight * kl_gradient(_softmax(at.problem), at.theta, reference, self.order)
        return update - pull, (inner, reference)


@dataclass(frozen=True)
class ClippedSurrogate(Direction):
    """Gradient of PPO's clipped surrogate, for several updates on each batch of the old policy.

    The surrogate is ``E_old min(rho A, clip(rho, 1 - clip, 1 + clip) A)`` with ``rho = pi /
    pi_old``. Its gradient is ``E_old[rho A s]`` over the responses that are not clipped: those
    without ``A > 0, rho > 1 + clip`` and without ``A < 0, rho < 1 - clip``. One step of `ascend` is
    one update; the batch is renewed every ``num_updates`` steps.

    Parameters
    ----------
    num_updates : updates on one batch, at least 1.
    clip : half-width of the interval around 1, positive, shape ``(...)`` as the runs; infinite for
        no clipping.
    group_size : responses drawn per batch, at least 2; all responses with their exact probabilities
        where omitted.
    rng : source of the samples, needed with ``group_size``.
    normalized : ``A`` is ``(r - mean) / std`` over the batch (GRPO), or ``r - mean`` (Dr. GRPO).
    """

    num_updates: int
    clip: ArrayLike
    group_size: int | None = None
    rng: np.random.Generator | None = None
    normalized: bool = True

    def __post_init__(self) -> None:
        whole(1, num_updates=self.num_updates)
        inside("(0, inf]", clip=self.clip)
        if self.group_size is not None:
            whole(2, group_size=self.group_size)
            if self.rng is None:
                raise ValueError("rng must come with group_size, got None")

    def update(self, at: At, state: Any) -> tuple[Array, Any]:
        problem, theta = _softmax(at.problem), at.theta
        here = problem.log_probabilities(theta)
        count, old, weights = (0, here, self._batch(problem, here)) if state is None else state
        ratio = np.exp(
            np.minimum(here - old, _LOG_LARGE)
        )  # beyond, the response has no weight in the batch
        width = np.asarray(self.clip, dtype=float)[..., None]
        clipped = np.where(weights > 0, ratio > 1 + width, ratio < 1 - width)
        update = mean_score(problem, theta, np.exp(here), np.where(clipped, 0.0, weights * ratio))
        return update, (None if count + 1 == self.num_updates else (count + 1, old, weights))

    def _batch(self, problem: SoftmaxBandit, log_probabilities: Array) -> Array:
        """Share of each response in the batch times its advantage, shape ``(..., arms)``."""
        share = np.exp(log_probabilities)
        if self.group_size is not None and self.rng is not None:  # they come together
            share = (
                self.rng.multinomial(self.group_size, share / share.sum(axis=-1, keepdims=True))
                / self.group_size
            )
        success = np.sum(share * problem.rewards, axis=-1, keepdims=True)
        failure = np.sum(share * ~problem.rewards, axis=-1, keepdims=True)
        advantage = np.where(problem.rewards, failure, -success)
        if self.normalized:
            spread = np.sqrt(success) * np.sqrt(failure)
            advantage = np.divide(advantage, spread, out=np.zeros_like(advantage), where=spread > 0)
        return share * advantage


def _softmax(problem: Problem) -> SoftmaxBandit:
    if not isinstance(problem, SoftmaxBandit):
        raise ValueError(f"problem must be a SoftmaxBandit, got {type(problem).__name__}")
    return problem
