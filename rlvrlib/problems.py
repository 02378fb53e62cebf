r"""What every theorem takes: a problem is its log-odds.

With success rate :math:`J` and log-odds :math:`l = \log(J/(1-J))`, the Gradient Gap is the gradient
of :math:`l`, the success and failure rates are ``expit(l)`` and ``expit(-l)``, and the curvature
along a unit vector ``w`` is minus the second derivative of :math:`l`. A problem gives these, and
nothing else in the library needs to know its policy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rlvrlib.checks import Array as Array
from rlvrlib.checks import finite, instance, shown

__all__ = [
    "Array",
    "At",
    "Problem",
    "Regularity",
    "SampledProblem",
    "alignment",
    "failure_rate",
    "log_odds_gain",
    "success_rate",
    "unit",
]

# What a direction or a step tells of one step: see `Trajectory`.
Notes: TypeAlias = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Regularity:
    """Bounds along one direction ``w`` of length one: what the theorems assume of a policy.

    Parameters
    ----------
    score_bound : ``G_o``, bound on ``|s_w|``, the score ``<w, grad log pi(o)>``.
    score_lipschitz : ``L_o``, bound on ``|h_w|``, its derivative ``w' grad^2 log pi(o) w``.
    token_range : ``R_p``, length of an interval that holds every token score, given the past.
    token_lipschitz : ``L_p``, bound on the second derivative of a token's log-probability.
    max_length : ``T_max``, cap on the response length in tokens.
    linear_logits : whether the logits of every token are linear in ``theta``; then ``h_w <= 0``.
    correct_bend : ``a``, with ``h_w >= -a`` on the correct responses; ``L_o`` where omitted.
    wrong_bend : ``a_+``, with ``h_w <= a_+`` on the wrong ones; 0 for linear logits, else ``L_o``.
    variance : ``V``, bound on the sum over a response of the variances of its token scores given
        the past; ``sigma^2 = T_max R_p^2 / 4`` where omitted.
    bend_range : ``R_h``, length of an interval that holds every token bend, given the past; 0 for
        linear logits, else ``2 L_p``.
    mean_length, correct_mean_length : ``Lbar`` and ``Lbar_+``, bounds on the mean length of the
        responses and of the correct ones; ``T_max`` where omitted.
    """

    score_bound: Any
    score_lipschitz: Any
    token_range: Any
    token_lipschitz: Any
    max_length: Any
    linear_logits: bool = False
    correct_bend: Any = None
    wrong_bend: Any = None
    variance: Any = None
    bend_range: Any = None
    mean_length: Any = None
    correct_mean_length: Any = None

    def __post_init__(self) -> None:
        defaults = {
            "correct_bend": self.score_lipschitz,
            "wrong_bend": 0.0 if self.linear_logits else self.score_lipschitz,
            "variance": self.max_length * np.asarray(self.token_range) ** 2 / 4,
            "bend_range": 0.0 if self.linear_logits else 2 * np.asarray(self.token_lipschitz),
            "mean_length": self.max_length,
            "correct_mean_length": self.max_length,
        }
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    def widened(self, other: Regularity, where: ArrayLike = True) -> Regularity:
        """Bounds that hold where these do and, in the runs of ``where``, where the others do."""
        names = [field.name for field in fields(self) if field.name != "linear_logits"]
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in names}
        wider = {name: np.where(where, np.maximum(*pair), pair[0]) for name, pair in pairs.items()}
        return replace(self, **wider)


class Problem(ABC):
    """One prompt, or a stack of prompts, with a policy over responses and a 0/1 reward.

    Leading axes are batch axes and broadcast: ``theta`` has shape ``(..., dim)``. A problem says
    how many parameters it has and gives its log-odds, their gradient and their curvature; the
    other methods follow from these, and a problem that can do better replaces them.
    """

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number of parameters."""

    @abstractmethod
    def log_odds(self, theta: Array) -> Array:
        """``l(theta)``, shape ``(...)``."""

    @abstractmethod
    def gradient_gap(self, theta: Array) -> Array:
        """``grad l(theta)``, shape ``(..., dim)``."""

    @abstractmethod
    def curvature(self, theta: Array, direction: Array) -> Array:
        """``kappa_w = -w' (grad^2 l) w``, shape ``(...)``; where positive, long steps overshoot."""

    @property
    def max_length(self) -> Any:
        """``T_max``, cap on the response length in tokens; by default a response is one token."""
        return 1

    def regularity(self, direction: Array) -> Regularity:
        """Bounds along ``direction`` that hold for every theta; by default there are none."""
        return Regularity(np.inf, np.inf, np.inf, np.inf, self.max_length)

    def local_regularity(self, theta: Array, direction: Array) -> Regularity:
        """Bounds along ``direction`` that hold at ``theta``; by default those for every theta."""
        return self.regularity(direction)

    def conditional_variance(self, theta: Array, direction: Array) -> Array:
        """``V`` at ``theta`` along ``direction``: largest sum over a response of the variances of
        its token scores given the past, shape ``(...)``; by default that for every theta.
        """
        return self.regularity(direction).variance

    def log_odds_and_gap(self, theta: Array) -> tuple[Array, Array]:
        """Log-odds and gap at once, for problems that share work between the two."""
        return self.log_odds(theta), self.gradient_gap(theta)

    def log_odds_gain(self, theta: Array, direction: Array, step: Array) -> Array:
        """``l(theta + step * direction) - l(theta)``, shape ``(...)``; a problem may know a way
        that does not subtract two nearly equal numbers.
        """
        return self.log_odds(theta + step[..., None] * direction) - self.log_odds(theta)

    def length_normalized_gap(self, theta: Array, gap: Array | None = None) -> Array:
        """``E[s/|o| | r=1] - E[s/|o| | r=0]``, shape ``(..., dim)``; by default for responses of
        one length. ``gap`` is the gap at ``theta`` where it is known.
        """
        gap = self.gradient_gap(theta) if gap is None else gap
        return gap / np.asarray(self.max_length)[..., None]


class SampledProblem(Problem):
    """A problem from which responses can be drawn."""

    @abstractmethod
    def sample(
        self, theta: Array, group_size: int, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Rewards and lengths, shape ``(..., G)``, and scores, shape ``(..., G, dim)``, of
        ``group_size`` responses.
        """


@dataclass(frozen=True, slots=True)
class At:
    """Where a run stands: a problem, ``theta``, and the log-odds and the gap there."""

    problem: Problem
    theta: Array
    log_odds: Array
    gap: Array

    @classmethod
    def of(cls, problem: Problem, theta: ArrayLike) -> At:
        """With log-odds and gap from one pass."""
        theta = finite(theta=theta)
        return cls(problem, theta, *problem.log_odds_and_gap(theta))


def sampled(problem: Problem) -> SampledProblem:
    """The problem, if responses can be drawn from it.

    Raises
    ------
    ValueError : the problem has no method ``sample``.
    """
    if not isinstance(problem, SampledProblem):
        raise ValueError(
            f"problem must have a method sample, and {type(problem).__name__} has none"
        )
    return problem


def success_rate(problem: Problem, theta: ArrayLike) -> Array:
    """``J = expit(l)``, shape ``(...)``."""
    return expit(instance(Problem, problem=problem).log_odds(finite(theta=theta)))


def failure_rate(problem: Problem, theta: ArrayLike) -> Array:
    """``1 - J = expit(-l)``, right to full relative precision where ``J`` rounds to 1."""
    return expit(-instance(Problem, problem=problem).log_odds(finite(theta=theta)))


def alignment(problem: Problem, theta: ArrayLike, direction: ArrayLike) -> Array:
    """Gap alignment ``dmu = <w, Gap>``, shape ``(...)``."""
    theta, direction = finite(theta=theta), finite(direction=direction)
    gap = instance(Problem, problem=problem).gradient_gap(theta)
    return np.sum(direction * gap, axis=-1)


def angle_curvature(problem: Problem, theta: ArrayLike, direction: ArrayLike) -> Array:
    """Minus the second derivative of ``2 arcsin sqrt(J)``, the angle of the success rate, along the
    direction, shape ``(...)``.

    ``sqrt(J(1-J)) (kappa_w + (2J-1) dmu^2 / 2)``; `thresholds.angle_bend` bounds it along a unit
    vector.

    Source: the book's chapter on the success rate, angle bound and angle bound for smooth policies.
    """
    theta, direction = finite(theta=theta), finite(direction=direction)
    slope, log_odds = alignment(problem, theta, direction), problem.log_odds(theta)
    turned = problem.curvature(theta, direction) + np.tanh(log_odds / 2) / 2 * slope**2
    return np.sqrt(expit(log_odds) * expit(-log_odds)) * turned


def log_odds_gain(
    problem: Problem, theta: ArrayLike, direction: ArrayLike, step: ArrayLike
) -> Array:
    """``l(theta + step * direction) - l(theta)``, shape ``(...)``."""
    theta, direction = finite(theta=theta), finite(direction=direction)
    instance(Problem, problem=problem)
    return problem.log_odds_gain(theta, direction, finite(step=step))


def unit(direction: ArrayLike) -> Array:
    """The direction scaled to length one along the last axis.

    Raises
    ------
    ValueError : a direction has length zero or is not finite.
    """
    direction = np.atleast_1d(finite(direction=direction))
    # the largest entry first, so that squares neither overflow nor vanish
    scale = np.max(np.abs(direction), axis=-1, keepdims=True, initial=0)
    if not np.all(scale > 0):
        raise ValueError(
            f"direction must be finite and of positive length, got {shown(direction)}: "
            "a zero direction has no alignment"
        )
    scaled = direction / scale
    return scaled / np.linalg.norm(scaled, axis=-1, keepdims=True)


def unit_or_zero(update: Array) -> tuple[Array, NDArray[np.bool_]]:
    """The direction of each update, and whether it has one: an update of zero has none.

    Raises
    ------
    ValueError : an update that is not finite.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        square = np.asarray(np.vecdot(update, update))
        along = update / np.sqrt(square)[..., None]
    moves, extreme = np.ones(square.shape, dtype=bool), ~((square > 1e-200) & (square < 1e200))
    # scaled first: an update of 1e-200 has a direction too, though its square vanishes
    if extreme.any():
        rows = update[extreme]
        if not np.all(np.isfinite(rows)):
            raise ValueError(f"direction must give finite updates, got {shown(rows)}")
        scale = np.max(np.abs(rows), axis=-1, keepdims=True)
        scaled = np.divide(rows, scale, out=np.zeros_like(rows), where=scale > 0)
        norm = np.linalg.norm(scaled, axis=-1, keepdims=True)
        along[extreme] = np.divide(scaled, norm, out=scaled, where=norm > 0)
        moves[extreme] = norm[..., 0] > 0
    return along, moves


def unit_or_any(update: Array) -> tuple[Array, NDArray[np.bool_]]:
    """As `unit_or_zero`, with the first axis in place of the direction that a zero has not."""
    along, moves = unit_or_zero(update)
    return np.where(moves[..., None], along, np.eye(1, update.shape[-1])[0]), moves


def find_root(
    function: Callable[..., Array],
    bracket: tuple[Array, Array],
    args: tuple[NDArray[Any], ...] = (),
    relative: float = 1e-15,
) -> tuple[Array, NDArray[np.bool_]]:
    """Root of each element of ``function`` inside its ``bracket``, and whether it was found:
    Chandrupatla's method of SciPy, to a ``relative`` width of the bracket.
    """
    try:  # a third of a second to load, which the command rlvr does not need
        from scipy.optimize.elementwise import find_root as chandrupatla
    except ImportError:  # SciPy 1.14, the newest that a browser has: the same, before it was public
        from scipy.optimize._chandrupatla import _chandrupatla

        root = _chandrupatla(function, *bracket, args=args, xatol=0, xrtol=relative, fatol=0)
    else:
        tolerances = {"xrtol": relative, "fatol": 0}
        root = chandrupatla(function, bracket, args=args, tolerances=tolerances)
    return root.x, root.success


def log_sum_exp(values: Array) -> Array:
    """``log sum_a exp(values_a)`` over the last axis. SciPy's ``logsumexp`` is general and takes
    several times as long for small arrays.
    """
    top = np.max(values, axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.sum(np.exp(values - top), axis=-1)) + top[..., 0]
