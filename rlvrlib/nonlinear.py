"""Policies whose logits are not linear in ``theta``: here the Hessian terms of the curvature do not
cancel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from rlvrlib.bandits import SoftmaxBandit, inner_products, weighted_sum
from rlvrlib.checks import finite, inside, instance, last_axis, positive, whole_number
from rlvrlib.problems import Array, Problem, Regularity, unit

__all__ = ["NetworkBandit", "QuadraticBandit", "SuccessParabola", "segment_regularity"]

# sup |d^2 tanh(u) / du^2|, reached at tanh(u)^2 = 1/3
_TANH_CURVATURE = 4 / (3 * np.sqrt(3))


class NetworkBandit(SoftmaxBandit):
    """Logits of a small tanh network: ``z_a = sum_h v_h tanh(<theta_h, x_a>)``; not log-linear, so
    ``h_w`` matters.

    Parameters
    ----------
    inputs : ``x``, shape ``(..., N, p)``.
    output_weights : ``v``, shape ``(..., H)``; ``theta`` has length ``H * p``.
    rewards : shape ``(..., N)``, zeros and ones, at least one of each.
    log_prior : shape ``(..., N)``, the logits at ``theta = 0``; zero where omitted.
    """

    def __init__(
        self,
        inputs: ArrayLike,
        output_weights: ArrayLike,
        rewards: ArrayLike,
        log_prior: ArrayLike | None = None,
    ):
        self.inputs = finite(inputs=inputs)
        self.output_weights = finite(output_weights=output_weights)
        if self.inputs.ndim < 2 or self.output_weights.ndim < 1:
            raise ValueError(
                "inputs and output_weights must have shapes (..., arms, p) and (..., units), "
                f"got shapes {self.inputs.shape} and {self.output_weights.shape}"
            )
        super().__init__(rewards, self.output_weights.shape[-1] * self.inputs.shape[-1], log_prior)
        if self.inputs.shape[-2] != self.num_arms:
            raise ValueError(
                f"inputs must have shape (..., {self.num_arms}, p), got shape {self.inputs.shape}"
            )

    def _units(self, theta: Array) -> Array:
        weights = theta.reshape(*theta.shape[:-1], self.output_weights.shape[-1], -1)
        return np.einsum("...np,...hp->...nh", self.inputs, weights)

    def logits(self, theta: Array) -> Array:
        return inner_products(np.tanh(self._units(theta)), self.output_weights)

    def logit_slopes(self, theta: Array, direction: Array) -> Array:
        return inner_products(
            self._units(direction) * _tanh_slope(self._units(theta)), self.output_weights
        )

    def logit_curvatures(self, theta: Array, direction: Array) -> Array:
        units = self._units(theta)
        bend = -2 * np.tanh(units) * _tanh_slope(units)
        return inner_products(bend * self._units(direction) ** 2, self.output_weights)

    def mean_logit_gradient(self, theta: Array, weights: Array) -> Array:
        outer = (
            weights[..., None] * self.output_weights[..., None, :] * _tanh_slope(self._units(theta))
        )
        gradient = np.einsum("...nh,...np->...hp", outer, self.inputs)
        return gradient.reshape(*gradient.shape[:-2], self.dim)

    def regularity(self, direction: ArrayLike) -> Regularity:
        """From ``|tanh'| <= 1`` and ``|tanh''| <= 4/(3 sqrt 3)``; valid everywhere, hence loose
        near most theta.
        """
        units = np.abs(self._units(unit(direction)))
        slope = np.max(inner_products(units, np.abs(self.output_weights)), axis=-1)
        bend = _TANH_CURVATURE * np.max(
            inner_products(units**2, np.abs(self.output_weights)), axis=-1
        )
        lipschitz = 2 * bend + slope**2
        return Regularity(2 * slope, lipschitz, 2 * slope, lipschitz, 1)

    def _logit_change(self, theta: Array, direction: Array, step: Array) -> Array:
        units, move = self._units(theta), self._units(step[..., None] * direction)
        # tanh(a + b) - tanh(a) without subtracting two nearly equal numbers
        change = np.tanh(move) * (1 - np.tanh(units) * np.tanh(units + move))
        return inner_products(change, self.output_weights)


class QuadraticBandit(SoftmaxBandit):
    """Logits ``z_a = <slopes_a, theta> + <bends_a, theta^2> / 2``: the simplest policy that is not
    log-linear.

    Its scores are unbounded over all of ``theta``; measure them along a segment
    (`segment_regularity`).

    Parameters
    ----------
    slopes, bends : shape ``(..., N, d)``.
    rewards : shape ``(..., N)``, zeros and ones, at least one of each.
    log_prior : shape ``(..., N)``, the logits at ``theta = 0``; zero where omitted.
    """

    def __init__(
        self,
        slopes: ArrayLike,
        bends: ArrayLike,
        rewards: ArrayLike,
        log_prior: ArrayLike | None = None,
    ):
        self.slopes, self.bends = np.broadcast_arrays(finite(slopes=slopes), finite(bends=bends))
        if self.slopes.ndim < 2:
            raise ValueError(
                f"slopes must have shape (..., arms, dim), got shape {self.slopes.shape}"
            )
        super().__init__(rewards, self.slopes.shape[-1], log_prior)
        if self.slopes.shape[-2] != self.num_arms:
            raise ValueError(
                "slopes and rewards must have the same number of arms, got shapes "
                f"{self.slopes.shape} and {self.rewards.shape}"
            )

    def logits(self, theta: Array) -> Array:
        return inner_products(self.slopes, theta) + inner_products(self.bends, theta**2) / 2

    def logit_slopes(self, theta: Array, direction: Array) -> Array:
        return inner_products(self.slopes, direction) + inner_products(
            self.bends, theta * direction
        )

    def logit_curvatures(self, theta: Array, direction: Array) -> Array:
        return inner_products(self.bends, direction**2)

    def mean_logit_gradient(self, theta: Array, weights: Array) -> Array:
        return weighted_sum(weights, self.slopes) + weighted_sum(weights, self.bends) * theta

    def _logit_change(self, theta: Array, direction: Array, step: Array) -> Array:
        slopes, bends = self.logit_slopes(theta, direction), self.logit_curvatures(theta, direction)
        return step[..., None] * (slopes + step[..., None] * bends / 2)


@dataclass(frozen=True, eq=False)
class SuccessParabola(Problem):
    """``log J = log J0 + b theta - a theta^2 / 2``: one right and one wrong response, and one
    parameter. The right one has ``h_w = -a`` everywhere, so the success-rise bound is exact.

    Parameters
    ----------
    initial_success : ``J0``, success rate at ``theta = 0``, in (0, 1).
    slope : ``b``, shape ``(...)``: one prompt for each.
    bend : ``a``, positive; large enough that ``log J0 + b^2 / (2a) < 0``.
    """

    initial_success: float
    slope: ArrayLike
    bend: float

    def __post_init__(self) -> None:
        inside("(0, 1)", initial_success=self.initial_success)
        least = np.max(finite(slope=self.slope) ** 2) / (-2 * np.log(self.initial_success))
        if positive(bend=self.bend) <= least:
            raise ValueError(
                f"bend must be above {least:.6g} for this slope, got {self.bend!r}: "
                "the success rate would reach 1"
            )

    @property
    def dim(self) -> int:
        return 1

    def log_odds(self, theta: ArrayLike) -> Array:
        """``log J - log(1-J)``, shape ``(...)``."""
        along = last_axis(1, theta=theta)[..., 0]
        rise = np.asarray(self.slope) * along - self.bend * along**2 / 2
        log_success = np.log(self.initial_success) + rise
        return log_success - np.log(-np.expm1(log_success))

    def gradient_gap(self, theta: ArrayLike) -> Array:
        """``(b - a theta) / (1-J)``, shape ``(..., 1)``."""
        slope = np.asarray(self.slope)[..., None] - self.bend * last_axis(1, theta=theta)
        return slope / expit(-self.log_odds(theta))[..., None]

    def curvature(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``(a / (1-J) - J Gap^2) w^2``, shape ``(...)``."""
        log_odds, gap = self.log_odds(theta), self.gradient_gap(theta)[..., 0]
        bend = self.bend / expit(-log_odds) - expit(log_odds) * gap**2
        return bend * last_axis(1, direction=direction)[..., 0] ** 2

    def regularity(self, direction: ArrayLike) -> Regularity:
        """``a`` bounds how the right response bends down; nothing bounds the scores."""
        return Regularity(np.inf, np.inf, np.inf, np.inf, 1, correct_bend=self.bend)


def segment_regularity(
    bandit: SoftmaxBandit,
    theta: ArrayLike,
    direction: ArrayLike,
    step: ArrayLike,
    num_points: int = 65,
) -> tuple[Array, Array]:
    """Largest ``|s_w|`` and ``|h_w|`` over all arms on the segment from ``theta`` to ``theta + step
    * direction``.

    The measured counterpart of `regularity`, on ``num_points`` evenly spaced points. Both have
    shape ``(...)``.
    """
    instance(SoftmaxBandit, bandit=bandit)
    whole_number(1, num_points=num_points)
    theta, direction = finite(theta=theta), finite(direction=direction)
    reach = finite(step=step)[..., None] * direction
    axes = max(reach.ndim, bandit.log_odds(theta).ndim + 1)  # a stack may share one theta
    shares = np.linspace(0, 1, num_points).reshape(-1, *(1,) * axes)
    points = theta + shares * reach
    score, derivative = (
        bandit.scores(points, direction),
        bandit.score_derivatives(points, direction),
    )
    return np.max(np.abs(score), axis=(0, -1)), np.max(np.abs(derivative), axis=(0, -1))


def _tanh_slope(units: Array) -> Array:
    """``1 / cosh(u)^2``, without overflow."""
    decay = np.exp(-2 * np.abs(units))
    return 4 * decay / (1 + decay) ** 2
