r"""What every theorem takes: a problem is its log-odds.

With success rate :math:`J` and log-odds :math:`l = \log(J/(1-J))`, the Gradient Gap is the gradient
of :math:`l`, the success and failure rates are ``expit(l)`` and ``expit(-l)``, and the curvature
along a unit vector ``w`` is minus the second derivative of :math:`l`. A problem gives these four,
and nothing else in the library needs to know its policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Regularity:
    """Bounds that hold for every theta, along one direction ``w`` of length one.

    Parameters
    ----------
    score_bound : ``G_o``, bound on ``|<w, grad log pi(o)>|``.
    score_lipschitz : ``L_o``, bound on ``|w' grad^2 log pi(o) w|``.
    token_range : ``R_p``, length of an interval that holds every token score.
    token_lipschitz : ``L_p``, bound on the second derivative of a token's log-probability.
    max_length : ``T_max``, cap on the response length in tokens.
    """

    score_bound: Any
    score_lipschitz: Any
    token_range: Any
    token_lipschitz: Any
    max_length: Any


class Problem(Protocol):
    """One prompt, or a stack of prompts, with a policy over responses and a 0/1 reward.

    Leading axes are batch axes and broadcast: ``theta`` has shape ``(..., dim)``.
    Three optional methods: ``log_odds_and_gap(theta)`` and ``log_odds_gain(theta, direction,
    step)`` save work or digits, ``length_normalized_gap(theta)`` is for random lengths; the
    functions of the same names below use them. The attribute ``max_length`` is optional too: it
    saves asking for all the bounds.
    """

    @property
    def dim(self) -> int: ...

    def log_odds(self, theta: Array) -> Array:
        """``l(theta)``, shape ``(...)``."""

    def gradient_gap(self, theta: Array) -> Array:
        """``grad l(theta)``, shape ``(..., dim)``."""

    def curvature(self, theta: Array, direction: Array) -> Array:
        """``kappa_w = -w' (grad^2 l) w``, shape ``(...)``; positive where a long step overshoots."""

    def regularity(self, direction: Array) -> Regularity:
        """Bounds along ``direction`` that hold for every theta."""


def success_rate(problem: Problem, theta: ArrayLike) -> Array:
    """``J = expit(l)``, shape ``(...)``."""
    return expit(problem.log_odds(np.asarray(theta, dtype=float)))


def failure_rate(problem: Problem, theta: ArrayLike) -> Array:
    """``1 - J = expit(-l)``, right to full relative precision where ``J`` rounds to 1."""
    return expit(-problem.log_odds(np.asarray(theta, dtype=float)))


def alignment(problem: Problem, theta: ArrayLike, direction: ArrayLike) -> Array:
    """Gap alignment ``<w, Gap>``, shape ``(...)`` (theory section 1)."""
    theta, direction = np.asarray(theta, dtype=float), np.asarray(direction, dtype=float)
    return np.sum(direction * problem.gradient_gap(theta), axis=-1)


def log_odds_and_gap(problem: Problem, theta: Array) -> tuple[Array, Array]:
    """Log-odds and gap at once; problems that share work between the two say so by a method of this
    name.
    """
    combined = getattr(problem, "log_odds_and_gap", None)
    return combined(theta) if combined else (problem.log_odds(theta), problem.gradient_gap(theta))


def length_normalized_gap(problem: Problem, theta: Array, gap: Array) -> Array:
    """``E[s/|o| | r=1] - E[s/|o| | r=0]``; a problem without a method of this name has responses of
    one length.
    """
    own = getattr(problem, "length_normalized_gap", None)
    if own:
        return own(theta)
    length = getattr(problem, "max_length", None)
    return gap / (problem.regularity(np.ones(problem.dim)).max_length if length is None else length)


def log_odds_gain(
    problem: Problem, theta: ArrayLike, direction: ArrayLike, step: ArrayLike
) -> Array:
    """``l(theta + step * direction) - l(theta)``, shape ``(...)``.

    A problem may offer a method of this name that does not subtract two nearly equal numbers.
    """
    theta, direction = np.asarray(theta, dtype=float), np.asarray(direction, dtype=float)
    step = np.asarray(step, dtype=float)
    own = getattr(problem, "log_odds_gain", None)
    if own:
        return own(theta, direction, step)
    return problem.log_odds(theta + step[..., None] * direction) - problem.log_odds(theta)


def unit(direction: ArrayLike) -> Array:
    """The direction scaled to length one along the last axis.

    Raises
    ------
    ValueError : a direction has length zero or is not finite.
    """
    direction = np.asarray(direction, dtype=float)
    scale = np.max(
        np.abs(direction), axis=-1, keepdims=True
    )  # first, so that squares neither overflow nor vanish
    if not np.all(np.isfinite(scale) & (scale > 0)):
        raise ValueError(
            f"direction must be finite and of positive length, got {direction!r}: a zero direction has no alignment"
        )
    scaled = direction / scale
    return scaled / np.linalg.norm(scaled, axis=-1, keepdims=True)


def check_group_size(group_size: int) -> None:
    """Raise a ValueError unless a group holds two responses or more: one alone has no mean to be
    compared with.
    """
    if group_size < 2:
        raise ValueError(f"group_size must be at least 2, got {group_size!r}")


def log_sum_exp(values: Array) -> Array:
    """``log sum_a exp(values_a)`` over the last axis. SciPy's ``logsumexp`` is general and takes
    several times as long for small arrays.
    """
    top = np.max(values, axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.sum(np.exp(values - top), axis=-1)) + top[..., 0]
