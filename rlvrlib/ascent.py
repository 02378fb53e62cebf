"""Ascent: a direction times a step is a trajectory, for any problem and many runs at once.

A direction (`rlvrlib.directions`) gives an unnormalized update ``u``, a step rule says how far to
go along it. The theory speaks of the unit vector ``w = u / norm(u)`` and the length of the move
``eta_k``; a `Trajectory` records both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from rlvrlib.directions import Direction
from rlvrlib.moving import MovingProblem
from rlvrlib.problems import Array, Problem, log_odds_and_gap, log_odds_gain


class Step(Protocol):
    """How far to go."""

    def length(
        self,
        problem: Problem,
        theta: Array,
        update: Array,
        unit: Array,
        log_odds: Array,
        gap: Array,
    ) -> Array:
        """Length ``eta_k`` of the move along ``unit``, shape ``(...)``."""


@dataclass(frozen=True)
class Constant:
    """Learning rate: the move is ``eta * u``."""

    eta: ArrayLike

    def __post_init__(self) -> None:
        _check_positive("eta", self.eta)

    def length(
        self,
        problem: Problem,
        theta: Array,
        update: Array,
        unit: Array,
        log_odds: Array,
        gap: Array,
    ) -> Array:
        return np.asarray(self.eta) * np.sqrt(np.vecdot(update, update))


@dataclass(frozen=True)
class FixedLength:
    """Every move has the length ``eta``, whatever the update."""

    eta: ArrayLike

    def __post_init__(self) -> None:
        _check_positive("eta", self.eta)

    def length(
        self,
        problem: Problem,
        theta: Array,
        update: Array,
        unit: Array,
        log_odds: Array,
        gap: Array,
    ) -> Array:
        return np.broadcast_to(np.asarray(self.eta, dtype=float), unit.shape[:-1])


@dataclass(frozen=True)
class ThresholdStep:
    """A share of the largest guaranteed step: no learning rate to tune (theory section 4).

    Parameters
    ----------
    share : in (0, 1).
    threshold : function of ``(problem, theta, unit, alignment, log_odds)`` that gives the largest
        guaranteed step.
    """

    share: float
    threshold: Callable[[Problem, Array, Array, Array, Array], Array]

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share must be in (0, 1), got {self.share!r}")

    def length(
        self,
        problem: Problem,
        theta: Array,
        update: Array,
        unit: Array,
        log_odds: Array,
        gap: Array,
    ) -> Array:
        alignment = np.sum(unit * gap, axis=-1)
        moving = np.any(
            unit, axis=-1, keepdims=True
        )  # a run whose update is zero stays; its direction only fills the place
        any_direction = np.eye(1, unit.shape[-1])[0]
        eta = self.share * self.threshold(
            problem, theta, np.where(moving, unit, any_direction), alignment, log_odds
        )
        eta = np.where(moving[..., 0], eta, 0.0)
        if not np.all(np.isfinite(eta)):
            raise ValueError(
                "threshold must be finite: where nothing limits the step there is no share of it"
            )
        return eta


@dataclass(frozen=True)
class LongStep:
    """A longer step than the guaranteed one, kept only if the log-odds rose enough: an Armijo test
    with a safe end.

    The lengths ``factor * safe`` are tried in turn. The first one whose gain is at least ``rise *
    length * alignment`` is taken; if none is, the safe step, which needs no trial. So no step loses
    where none of the safe rule's does.

    Parameters
    ----------
    safe : rule of the guaranteed step, such as `ThresholdStep`.
    factors : multiples of the safe length, each above 1, in the order in which they are tried.
    rise : share of the first-order gain that a longer step must reach, in (0, 1).
    trials : every step appends how many lengths each run tried, shape ``(...)``: one evaluation of
        the log-odds each.
    """

    safe: Step
    factors: tuple[float, ...] = (16.0, 4.0)
    rise: float = 0.1
    trials: list[Array] = field(default_factory=list, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.factors or not all(1 < factor < np.inf for factor in self.factors):
            raise ValueError(
                f"factors must be one or more finite numbers above 1, got {self.factors!r}"
            )
        if not 0 < self.rise < 1:
            raise ValueError(f"rise must be in (0, 1), got {self.rise!r}")

    def length(
        self,
        problem: Problem,
        theta: Array,
        update: Array,
        unit: Array,
        log_odds: Array,
        gap: Array,
    ) -> Array:
        safe = self.safe.length(problem, theta, update, unit, log_odds, gap)
        alignment = np.sum(unit * gap, axis=-1)
        chosen, waiting = safe, (alignment > 0) & (safe > 0)
        tried = np.zeros(waiting.shape, dtype=int)
        for factor in self.factors:
            if not waiting.any():
                break
            tried = tried + waiting
            gain = log_odds_gain(problem, theta, unit, factor * safe)
            kept = waiting & (gain >= self.rise * factor * safe * alignment)
            chosen, waiting = np.where(kept, factor * safe, chosen), waiting & ~kept
        self.trials.append(tried)
        return chosen


@dataclass(frozen=True)
class Trajectory:
    """What happened. Leading axes are runs (or prompts); the last axis is time.

    Attributes
    ----------
    log_odds : ``l_k``, shape ``(..., steps + 1)``.
    step_size : ``eta_k``, length of the move, shape ``(..., steps)``.
    alignment : ``<u / norm(u), Gap>``, shape ``(..., steps)``; 0 where the update is 0.
    reached : log-odds after the move, before the problem changes, shape ``(..., steps)``;
        ``l_{k+1}`` where it does not change.
    theta : where the run ended, shape ``(..., dim)``.
    """

    log_odds: Array
    step_size: Array
    alignment: Array
    reached: Array
    theta: Array

    @property
    def gain(self) -> Array:
        """What each step added to the log-odds of its own problem, shape ``(..., steps)``."""
        return self.reached - self.log_odds[..., :-1]

    @property
    def jump(self) -> Array:
        """What each change of the problem added to the log-odds, shape ``(..., steps)``; 0 where it
        rests.
        """
        return self.log_odds[..., 1:] - self.reached

    @property
    def success_rate(self) -> Array:
        """``J_k``, shape ``(..., steps + 1)``."""
        return expit(self.log_odds)

    @property
    def failure_rate(self) -> Array:
        """``1 - J_k``, shape ``(..., steps + 1)``."""
        return expit(-self.log_odds)

    @property
    def cumulative_alignment(self) -> Array:
        """``M(k) = sum_{j<k} [alignment_j]_+ eta_j``, shape ``(..., steps + 1)``, from ``M(0) =
        0``.
        """
        return _cumulative(np.maximum(self.alignment, 0) * self.step_size)

    @property
    def signed_alignment(self) -> Array:
        """``sum_{j<k} alignment_j eta_j``, shape ``(..., steps + 1)``."""
        return _cumulative(self.alignment * self.step_size)


def ascend(
    problem: Problem | MovingProblem,
    theta0: ArrayLike,
    direction: Direction,
    step: Step,
    num_steps: int,
) -> Trajectory:
    """``theta_{k+1} = theta_k + eta_k w_k``, for ``num_steps`` steps.

    Parameters
    ----------
    problem : what is measured, the same for all steps or a `MovingProblem`; a direction may train
        on others.
    theta0 : shape ``(..., dim)``; leading axes are runs and broadcast against the problem's stack.
    direction, step : see `Direction` and `Step`.
    num_steps : at least 1.

    Raises
    ------
    ValueError : bad arguments, or a trajectory that left the range of floating-point numbers.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps!r}")
    theta = np.array(theta0, dtype=float)
    if isinstance(problem, MovingProblem):
        moving: MovingProblem | None = problem
        now, moment = problem.first(num_steps, theta)
    else:
        moving, now, moment = None, problem, None
    if not np.all(np.isfinite(theta)) or theta.shape[-1:] != (now.dim,):
        raise ValueError(f"theta0 must be finite with last axis {now.dim}, got shape {theta.shape}")
    state = direction.initial_state(theta)
    log_odds, gap = log_odds_and_gap(now, theta)
    history: list[Array] = [log_odds]
    sizes: list[Array] = []
    alignments: list[Array] = []
    reached: list[Array] = []
    for k in range(num_steps):
        update, state = direction.update(now, theta, log_odds, gap, state)
        unit, moves = _unit_or_zero(update)
        size = step.length(now, theta, update, unit, log_odds, gap)
        alignments.append(np.vecdot(unit, gap))
        theta = theta + size[..., None] * unit
        log_odds, gap = log_odds_and_gap(now, theta)
        reached.append(log_odds)
        if moving:
            before = now
            now, moment = moving.following(k + 1, now, theta, log_odds, moment)
            if now is not before:
                log_odds, gap = log_odds_and_gap(now, theta)
        sizes.append(np.where(moves, size, 0.0))
        history.append(log_odds)
    shape = np.broadcast_shapes(history[-1].shape, sizes[-1].shape)
    if np.any(np.isnan(history[-1])) or not np.all(np.isfinite(theta)):
        raise ValueError("step must keep theta within floating-point range: take a smaller one")
    return Trajectory(
        _stack(history, shape),
        _stack(sizes, shape),
        _stack(alignments, shape),
        _stack(reached, shape),
        theta,
    )


def _stack(values: list[Array], shape: tuple[int, ...]) -> Array:
    return np.stack(
        [value if np.shape(value) == shape else np.broadcast_to(value, shape) for value in values],
        axis=-1,
    )


def _cumulative(increments: Array) -> Array:
    zero = np.zeros((*increments.shape[:-1], 1))
    return np.concatenate([zero, np.cumsum(increments, axis=-1)], axis=-1)


def _unit_or_zero(update: Array) -> tuple[Array, np.ndarray]:
    """The direction of each update, and whether it has one: an update of zero has none."""
    square = np.asarray(np.vecdot(update, update))
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = update / np.sqrt(square)[..., None]
    moves, extreme = np.ones(square.shape, dtype=bool), ~((square > 1e-200) & (square < 1e200))
    if (
        extreme.any()
    ):  # scaled first: an update of 1e-200 has a direction too, though its square vanishes
        rows = update[extreme]
        scale = np.max(np.abs(rows), axis=-1, keepdims=True)
        scaled = np.divide(rows, scale, out=np.zeros_like(rows), where=scale > 0)
        norm = np.linalg.norm(scaled, axis=-1, keepdims=True)
        unit[extreme] = np.divide(scaled, norm, out=scaled, where=norm > 0)
        moves[extreme] = norm[..., 0] > 0
    return unit, moves


def _check_positive(name: str, value: ArrayLike) -> None:
    if not np.all((np.asarray(value) > 0) & np.isfinite(value)):
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
