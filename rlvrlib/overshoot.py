r"""The overshooting instance: perfect sign of the gap at every step, and yet collapse above a sharp
step (overshooting theorem).

With probability ``J0`` the one correct response, whose features are ``delta`` in each of ``K``
coordinates; otherwise a wrong response whose features are independent fair signs. Then
``l(theta) = l0 + sum_k (delta theta_k - log cosh theta_k)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit

from rlvrlib.bandits import LogLinearBandit
from rlvrlib.checks import finite, inside, last_axis, non_negative, positive, whole
from rlvrlib.problems import Array, Problem, Regularity, find_root, unit

__all__ = ["OvershootInstance", "collapse_updates", "critical_step"]

# Below this delta the first two terms of the critical step are all its digits.
_SERIES = 1e-5


@dataclass(frozen=True)
class OvershootInstance(Problem):
    """Closed form of the instance of the overshooting theorem, with ``dim = num_steps``.

    Parameters
    ----------
    delta : alignment of a step from ``theta_k = 0``, in (0, inf).
    initial_success : ``J0``, success rate at ``theta = 0``, in (0, 1).
    num_steps : ``K``, number of coordinates, one for each step.
    """

    delta: float
    initial_success: float
    num_steps: int

    def __post_init__(self) -> None:
        positive(delta=self.delta)
        inside("(0, 1)", initial_success=self.initial_success)
        whole(1, num_steps=self.num_steps)

    @property
    def dim(self) -> int:
        return self.num_steps

    def log_odds(self, theta: ArrayLike) -> Array:
        """``l0 + sum_k (delta theta_k - log cosh theta_k)``, shape ``(...)``."""
        theta = self._theta(theta)
        return logit(self.initial_success) + np.sum(self.delta * theta - log_cosh(theta), axis=-1)

    def gradient_gap(self, theta: ArrayLike) -> Array:
        """``delta - tanh theta_k``, shape ``(..., K)``."""
        return self.delta - np.tanh(self._theta(theta))

    def curvature(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``sum_k w_k^2 / cosh^2 theta_k``, shape ``(...)``: the score variance of the wrong
        responses alone.
        """
        # 1 / cosh^2 without overflow; 1 - tanh^2 would lose its digits far out
        return np.sum(
            finite(direction=direction) ** 2 * np.exp(-2 * log_cosh(self._theta(theta))),
            axis=-1,
        )

    def log_odds_gain(self, theta: ArrayLike, direction: ArrayLike, step: ArrayLike) -> Array:
        """``sum_k (delta m_k - log(cosh(theta_k + m_k) / cosh theta_k))`` for the move ``m = step *
        direction``.
        """
        theta = self._theta(theta)
        move = finite(step=step)[..., None] * finite(direction=direction)
        bounded = np.clip(move, -1, 1)
        short = np.log1p(2 * np.sinh(bounded / 2) ** 2 + np.tanh(theta) * np.sinh(bounded))
        long = log_cosh(theta + move) - log_cosh(theta)
        return np.sum(self.delta * move - np.where(np.abs(move) < 1, short, long), axis=-1)

    def regularity(self, direction: ArrayLike) -> Regularity:
        """The features along ``w``: ``delta sum w_k`` for the correct response, within ``±sum
        |w_k|`` for the wrong ones.
        """
        direction = unit(direction)
        reach = np.sum(np.abs(direction), axis=-1)
        correct = self.delta * np.sum(direction, axis=-1)
        spread = np.maximum(reach, correct) - np.minimum(-reach, correct)
        return Regularity(spread, spread**2 / 4, spread, spread**2 / 4, 1, linear_logits=True)

    def as_bandit(self) -> LogLinearBandit:
        """The same problem as a bandit with ``1 + 2^K`` arms; the first one is correct."""
        if self.num_steps > 16:
            raise ValueError(
                f"num_steps must be at most 16 for a bandit of 1 + 2^K arms, got {self.num_steps}"
            )
        signs = np.array(list(product((-1.0, 1.0), repeat=self.num_steps)))
        features = np.vstack([np.full(self.num_steps, self.delta), signs])
        wrong = np.log1p(-self.initial_success) - self.num_steps * np.log(2)
        log_prior = np.r_[np.log(self.initial_success), np.full(len(signs), wrong)]
        return LogLinearBandit(features, np.r_[1.0, np.zeros(len(signs))], log_prior)

    def _theta(self, theta: ArrayLike) -> Array:
        return inside("[-inf, inf]", theta=last_axis(self.dim, theta=theta))


def critical_step(delta: ArrayLike) -> Array:
    """``eta_c(delta)``, the positive solution of ``log cosh eta = delta eta``; infinite for ``delta
    >= 1``.

    Below it the log-odds rise at every step, above it they fall at every step (overshooting
    theorem).
    ``eta_c = 2 delta + O(delta^3)`` for small ``delta`` and ``~ log 2 / (1 - delta)`` as ``delta ->
    1``.

    Raises
    ------
    ValueError : ``delta`` is not positive.
    """
    delta = inside("(0, inf]", delta=delta)
    ordinary = np.where((delta < 1) & (delta > _SERIES), delta, 0.5)

    def excess(eta: Array, delta: Array) -> Array:
        # Both lines are log cosh(eta) - delta eta; each keeps its digits where the other loses
        # them.
        small = np.log1p(2 * np.sinh(np.minimum(eta, 1) / 2) ** 2) - delta * eta
        large = (1 - delta) * eta - np.log(2) + np.log1p(np.exp(-2 * eta))
        return np.where(eta < 1, small, large)

    # eta^2/2 >= log cosh eta >= eta - log 2 puts the root between 2 delta and log 2 / (1 - delta).
    bracket = (ordinary, 1.1 * np.log(2) / (1 - ordinary))
    root, _ = find_root(excess, bracket, args=(ordinary,), relative=4e-16)
    tiny = np.minimum(delta, _SERIES)  # its square may vanish; the next term is below rounding
    return np.where(
        delta < 1, np.where(delta > _SERIES, root, 2 * tiny * (1 + 2 * tiny**2 / 3)), np.inf
    )[()]


def collapse_updates(
    rate: ArrayLike, largest_multiplier: ArrayLike, gap_bound: ArrayLike, curvature_bound: ArrayLike
) -> Array:
    """``1 / (eta m g^2 (1 + C eta m / 2))``: exact updates that it takes at least until a success
    rate ``J0`` has grown by the factor ``e`` (collapse).

    Each of them raises the log-odds by at most one over this number.

    Parameters
    ----------
    rate : ``eta``, positive.
    largest_multiplier : ``m``, the largest multiplier at success rates up to ``e J0``, positive.
    gap_bound : ``g``, positive, with ``norm(Gap) <= g`` there.
    curvature_bound : ``C``, with ``|kappa_w| <= C`` along every step, non-negative.
    """
    push = positive(rate=rate) * positive(largest_multiplier=largest_multiplier)
    bend = non_negative(curvature_bound=curvature_bound)
    return 1 / (push * positive(gap_bound=gap_bound) ** 2 * (1 + bend * push / 2))


def log_cosh(values: ArrayLike) -> Array:
    """``log cosh``, without overflow and without cancellation near 0."""
    size = np.abs(inside("[-inf, inf]", values=values))
    return np.where(
        size < 1,
        np.log1p(2 * np.sinh(np.minimum(size, 1) / 2) ** 2),
        size - np.log(2) + np.log1p(np.exp(-2 * size)),
    )
