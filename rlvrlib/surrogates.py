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
from scipy.special import expit

from rlvrlib.bandits import SoftmaxBandit
from rlvrlib.checks import finite, inside, instance, one_of, whole_number
from rlvrlib.directions import Direction, OnTop, redrawn
from rlvrlib.first_zero import first_zero
from rlvrlib.methods import group_advantages, method_named, multiplier
from rlvrlib.problems import Array, At, Problem

__all__ = ["ClippedSurrogate", "KLPenalty", "kl_gradient"]

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


def kl_pull(log_odds: ArrayLike, start: ArrayLike, order: str = "policy-reference") -> Array:
    """What a KL penalty takes from the multiplier per unit of its weight, shape ``(...)``.

    At a policy that is the reference with its correct responses reweighted by one factor the
    gradient of the divergence is this times the gap: ``J(1-J) (l - l0)`` for ``KL(pi || pi_ref)``,
    ``J - J0`` for ``KL(pi_ref || pi)``.

    Source: the book's chapter on optimizers, KL to the start.

    Parameters
    ----------
    log_odds, start : ``l`` and the log-odds ``l0`` of the reference.
    order : see `kl_gradient`.
    """
    one_of(_ORDERS, order=order)
    log_odds, start = finite(log_odds=log_odds), finite(start=start)
    if order == "reference-policy":
        return expit(log_odds) - expit(start)
    return expit(log_odds) * expit(-log_odds) * (log_odds - start)


def kl_plateau(
    method: str,
    beta: ArrayLike,
    start: ArrayLike,
    order: str = "policy-reference",
    group_size: int | None = None,
) -> Array:
    """First log-odds above the start at which an exact run with a KL penalty rests, where
    ``m(J) = beta`` times `kl_pull`; infinite if there are none up to 60 above; shape ``(...)``.

    Source: the book's chapter on optimizers, KL to the start.

    Parameters
    ----------
    method, group_size : see `methods.multiplier`.
    beta : weight of the penalty, non-negative.
    start : log-odds of the reference, where the run starts.
    order : see `kl_gradient`.
    """
    beta, start = np.broadcast_arrays(inside("[0, inf)", beta=beta), finite(start=start))

    def net(rise: Array) -> Array:
        odds = start + rise
        push = multiplier(method, expit(odds), group_size, failure_rate=expit(-odds))
        return push - beta * kl_pull(odds, start, order)

    return start + first_zero(net, np.ones(beta.shape), np.ones(beta.shape, bool), 60.0)


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
        super().__post_init__()
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
    """Several updates of a method on each batch of the old policy, with its ratios clipped.

    An update is ``E_old[w A s]``, where the method turns ``rho = pi / pi_old`` into the weight
    ``w`` (`methods.Method`). With PPO's, ``rho`` and 0 outside of the interval on the side where
    ``A`` points, it is the gradient of ``E_old min(rho A, clip(rho, 1 - clip, 1 + clip) A)``. One
    step of `ascend` is one update; the batch is renewed every ``num_updates`` steps.

    Parameters
    ----------
    num_updates : updates on one batch, at least 1.
    clip : half-width of the interval around 1, positive, shape ``(...)`` as the runs; infinite for
        no clipping.
    group_size : responses drawn per prompt and batch, at least 2; all responses with their exact
        probabilities where omitted.
    rng : source of the samples, needed with ``group_size``.
    method : a name in `methods.SAMPLED_METHODS`.
    clip_above : half-width above 1 where it is another one (clip-higher); then ``clip`` is that
        below 1, and from 1 on there is no lower end.
    prompts, max_resamples : as in `SampledGradient`.
    length_normalized : whether to divide scores by the length, which is the same for all responses;
        by default where the method's loss is a mean over tokens.
    """

    num_updates: int
    clip: ArrayLike
    group_size: int | None = None
    rng: np.random.Generator | None = None
    method: str = "grpo"
    clip_above: ArrayLike | None = None
    prompts: Problem | None = None
    max_resamples: int = 50
    length_normalized: bool | None = None

    def __post_init__(self) -> None:
        whole_number(1, num_updates=self.num_updates)
        whole_number(0, max_resamples=self.max_resamples)
        if self.prompts is not None:
            instance(Problem, prompts=self.prompts)
        inside("(0, inf]", clip=self.clip)
        inside("(0, inf]", clip_above=self._above)
        method_named(self.method, sampled=True)
        if self.group_size is not None:
            whole_number(2, group_size=self.group_size)
            instance(np.random.Generator, rng=self.rng)

    @property
    def _above(self) -> ArrayLike:
        return self.clip if self.clip_above is None else self.clip_above

    def update(self, at: At, state: Any) -> tuple[Array, Any]:
        problem = _softmax(at.problem if self.prompts is None else self.prompts)
        method, here = method_named(self.method), problem.log_probabilities(at.theta)
        count, old, weights = (0, here, self._batch(problem, here)) if state is None else state
        low, high = 1 - np.asarray(self.clip)[..., None], 1 + np.asarray(self._above)[..., None]
        length = np.asarray(problem.max_length)[..., None]
        # a larger ratio belongs to a response without weight in the batch
        log_ratio = np.minimum(here - old, _LOG_LARGE)
        weighed = weights * method.ratio_weight(log_ratio, length, weights, low, high)
        update = mean_score(problem, at.theta, np.exp(here), weighed)
        mean = method.aggregation == "mean"
        if mean if self.length_normalized is None else self.length_normalized:
            update = update / length
        if self.prompts is not None:
            update = update.mean(axis=-2, keepdims=True)
        return update, (None if count + 1 == self.num_updates else (count + 1, old, weights))

    def _batch(self, problem: SoftmaxBandit, log_probabilities: Array) -> Array:
        """Share of each response in the batch times its advantage, shape ``(..., arms)``."""
        share, rng, size = np.exp(log_probabilities), self.rng, self.group_size
        if size is not None and rng is not None:  # they come together
            chance = share / share.sum(axis=-1, keepdims=True)
            right = problem.rewards.astype(float)
            (share,) = redrawn(
                lambda: (rng.multinomial(size, chance) / size,),
                lambda share: np.vecdot(share, right) * np.vecdot(share, 1 - right) == 0,
                self.max_resamples if method_named(self.method).resamples else 0,
            )
        return share * group_advantages(
            self.method,
            problem.rewards,
            share,
            np.inf if size is None else size,
            batch=self.prompts is not None,
        )


def _softmax(problem: Problem) -> SoftmaxBandit:
    if not isinstance(problem, SoftmaxBandit):
        raise ValueError(f"problem must be a SoftmaxBandit, got {type(problem).__name__}")
    return problem
