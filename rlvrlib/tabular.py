"""The tabular softmax policy: one parameter for each arm."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rlvrlib.bandits import SoftmaxBandit
from rlvrlib.problems import Array, Regularity, unit


class TabularBandit(SoftmaxBandit):
    """``pi(a) ~ exp(log_prior_a + theta_a)``: one parameter for each arm (theory, Proposition 1);
    ``dim`` is the number of arms.

    What `LogLinearBandit` is with the unit vectors as features, without a product with them.

    Parameters
    ----------
    rewards : shape ``(..., N)``, zeros and ones, at least one of each.
    log_prior : shape ``(..., N)``, the logits at ``theta = 0``; zero where omitted.
    """

    def __init__(self, rewards: ArrayLike, log_prior: ArrayLike | None = None):
        if np.ndim(rewards) < 1:
            raise ValueError(f"rewards must have shape (..., arms), got {rewards!r}")
        super().__init__(rewards, np.shape(rewards)[-1], log_prior)

    def logits(self, theta: Array) -> Array:
        return theta

    def logit_slopes(self, theta: Array, direction: Array) -> Array:
        return direction

    def logit_curvatures(self, theta: Array, direction: Array) -> Array:
        return np.zeros(self.num_arms)

    def mean_logit_gradient(self, theta: Array, weights: Array) -> Array:
        return weights

    def regularity(self, direction: ArrayLike) -> Regularity:
        """As for `LogLinearBandit`, with ``D`` the range of the direction's entries."""
        spread = np.ptp(unit(self._theta(direction, "direction")), axis=-1)
        return Regularity(spread, spread**2 / 4, spread, spread**2 / 4, 1)
