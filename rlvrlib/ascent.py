"""Ascent: a direction times a step is a trajectory, for any problem and many runs at once.

A direction (`rlvrlib.directions`) gives an unnormalized update ``u``, a step rule
(`rlvrlib.steps`) says how far to go along it. The theory speaks of the unit vector
``w = u / norm(u)`` and the length of the move ``eta_k``; a `Trajectory` records both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rlvrlib.checks import finite, instance, last_axis, whole_number
from rlvrlib.directions import Direction
from rlvrlib.moving import MovingProblem
from rlvrlib.problems import Array, At, Notes, Problem, unit_or_zero
from rlvrlib.steps import Step

__all__ = ["Trajectory", "ascend"]


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
    notes : what direction and step have to tell of each step, by name, steps along the last axis.
    """

    log_odds: Array
    step_size: Array
    alignment: Array
    reached: Array
    theta: Array
    notes: Notes = field(default_factory=dict)

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

    def steps_to(self, log_odds: ArrayLike) -> Array:
        """First step at which the log-odds are at least these, shape ``(...)``; infinite where they
        never are.
        """
        there = self.log_odds >= finite(log_odds=log_odds)[..., None]
        return np.where(there.any(axis=-1), there.argmax(axis=-1), np.inf)

    @property
    def first_move(self) -> tuple[Array, Array]:
        """Number of the first step that moves, from 1 on, and its length; infinite and 0 where none
        does. Shape ``(...)``.
        """
        moves = self.step_size > 0
        first = np.argmax(moves, axis=-1)[..., None]
        length = np.take_along_axis(self.step_size, first, axis=-1)[..., 0]
        return np.where(moves.any(axis=-1), first[..., 0] + 1.0, np.inf), length

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
    whole_number(1, num_steps=num_steps)
    theta = np.array(finite(theta0=theta0))
    instance(Direction, direction=direction)
    instance(Step, step=step)
    if isinstance(problem, MovingProblem):
        moving: MovingProblem | None = problem
        now, moment = problem.first(num_steps, theta)
    else:
        moving, now, moment = None, instance(Problem, problem=problem), None
    last_axis(now.dim, theta0=theta)
    direction_state, step_state = direction.initial_state(theta), step.initial_state(theta)
    at = At.of(now, theta)
    history: list[Array] = [at.log_odds]
    sizes: list[Array] = []
    alignments: list[Array] = []
    reached: list[Array] = []
    noted: dict[str, list[NDArray[Any]]] = {}
    for k in range(num_steps):
        update, direction_state = direction.update(at, direction_state)
        unit, moves = unit_or_zero(update)
        size, step_state = step.length(at, update, step_state)
        for name, value in (direction.notes(direction_state) | step.notes(step_state)).items():
            noted.setdefault(name, []).append(value)
        alignments.append(np.vecdot(unit, at.gap))
        sizes.append(np.where(moves, size, 0.0))
        at = At.of(now, at.theta + size[..., None] * unit)
        reached.append(at.log_odds)
        if moving:
            before = now
            now, moment = moving.following(k + 1, now, at.theta, at.log_odds, moment)
            if now is not before:
                at = At.of(now, at.theta)
        history.append(at.log_odds)
    shape = np.broadcast_shapes(history[-1].shape, sizes[-1].shape)
    if np.any(np.isnan(history[-1])) or not np.all(np.isfinite(at.theta)):
        raise ValueError("step must keep theta within floating-point range: take a smaller one")
    return Trajectory(
        _stack(history, shape),
        _stack(sizes, shape),
        _stack(alignments, shape),
        _stack(reached, shape),
        at.theta,
        {name: np.stack(values, axis=-1) for name, values in noted.items()},
    )


def _stack(values: list[Array], shape: tuple[int, ...]) -> Array:
    return np.stack(
        [value if np.shape(value) == shape else np.broadcast_to(value, shape) for value in values],
        axis=-1,
    )


def _cumulative(increments: Array) -> Array:
    zero = np.zeros((*increments.shape[:-1], 1))
    return np.concatenate([zero, np.cumsum(increments, axis=-1)], axis=-1)
