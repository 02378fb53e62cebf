"""The paper's contextual bandit: one context per prompt, and weights that the arms have apart or
share.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rlvrlib.bandits import LogLinearBandit, SoftmaxBandit, inner_products
from rlvrlib.checks import finite, instance, number, whole_number, zeros_and_ones
from rlvrlib.problems import Array

__all__ = ["ContextualBandit", "contextual_bandit"]


class ContextualBandit(LogLinearBandit):
    """Contexts with one weight vector per arm: ``z_a = <theta_a, x>``, ``theta`` of length ``arms *
    context_dim``.

    The features would be ``e_a (x) x``; they are never written out. On a single context the policy
    is tabular, since the logits move independently.

    Parameters
    ----------
    contexts : shape ``(..., context_dim)``.
    rewards : shape ``(..., N)``, zeros and ones, at least one of each.
    """

    def __init__(self, contexts: ArrayLike, rewards: ArrayLike):
        self.contexts = finite(contexts=contexts)
        if self.contexts.ndim < 1:
            raise ValueError(
                f"contexts must have shape (..., context_dim), got {self.contexts.shape}"
            )
        num_arms = zeros_and_ones(rewards=rewards).shape[-1]
        SoftmaxBandit.__init__(self, rewards, num_arms * self.contexts.shape[-1])

    def __getitem__(self, index: Any) -> ContextualBandit:
        return ContextualBandit(self.contexts[index], self.rewards[index])

    def each_alone(self, theta: Array) -> tuple[ContextualBandit, Array]:
        """What training on each context alone is from weights ``theta``: tabular, a context of
        length one, ``|x|``, and one weight per arm. The policies, and weights of shape ``(..., N)``
        with the same logits (the chapter on the logistic law: one context is tabular).
        """
        length = np.linalg.norm(self.contexts, axis=-1, keepdims=True)
        return ContextualBandit(length, self.rewards), self.logits(theta) / length

    def curvature_bound(self) -> Array:
        """``|x|^2 / 2`` bounds ``|kappa_w|``; along the gap of a context alone half of it does."""
        return np.sum(self.contexts**2, axis=-1) / 2

    def logits(self, theta: Array) -> Array:
        weights = theta.reshape(*theta.shape[:-1], self.num_arms, -1)
        return inner_products(weights, self.contexts)

    def logit_slopes(self, theta: Array, direction: Array) -> Array:
        return self.logits(direction)

    def mean_logit_gradient(self, theta: Array, weights: Array) -> Array:
        outer = weights[..., :, None] * self.contexts[..., None, :]
        return outer.reshape(*outer.shape[:-2], self.dim)


def contextual_bandit(
    num_contexts: int,
    rng: np.random.Generator,
    *,
    num_arms: int = 100,
    context_dim: int = 10,
    correct_share: float = 0.1,
    shared_features: bool = False,
    realizable: bool = True,
) -> LogLinearBandit:
    """A stack of contexts like the paper's: ``x`` uniform in ``[0,1]^context_dim``, linear scores,
    0/1 rewards.

    The paper's notes fix neither arms nor rewards; the choice here is ours. A hidden policy of the
    same form scores every arm, and an arm is correct where its hidden score is among the top
    ``correct_share`` of that context's arms: the rewards are realizable. Otherwise the same number
    of correct arms is drawn at random, for each context anew. Per-arm weights: ``z_a = <theta_a,
    x>``. Shared features: ``z_a = <theta, x * v_a>`` with Gaussian arm vectors ``v_a`` and
    ``theta`` of length ``context_dim``.

    Raises
    ------
    ValueError : a size below one, or a share that leaves no correct or no wrong arm.
    """
    whole_number(1, num_contexts=num_contexts)
    whole_number(1, context_dim=context_dim)
    whole_number(2, num_arms=num_arms)
    instance(np.random.Generator, rng=rng)
    num_correct = round(number("[0, 1]", correct_share=correct_share) * num_arms)
    if not 0 < num_correct < num_arms:
        raise ValueError(
            f"correct_share must leave at least one correct and one wrong arm of {num_arms}, "
            f"got {correct_share!r}"
        )
    contexts = rng.uniform(size=(num_contexts, context_dim))
    arms = rng.standard_normal((num_arms, context_dim))
    if realizable:
        hidden_scores = contexts @ arms.T  # for shared features the hidden theta is (1, ..., 1)
    else:
        hidden_scores = rng.uniform(size=(num_contexts, num_arms))
    order = np.argsort(-hidden_scores, axis=-1, kind="stable")
    rewards = np.zeros((num_contexts, num_arms))
    np.put_along_axis(rewards, order[:, :num_correct], 1.0, axis=-1)
    if shared_features:
        return LogLinearBandit(contexts[:, None, :] * arms, rewards)
    return ContextualBandit(contexts, rewards)
