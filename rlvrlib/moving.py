"""Moving problems: what a step trains on may change from step to step, and may depend on the run
itself.

`ascend` takes a moving problem wherever it takes a problem. Step ``k`` moves on problem ``k``; then
the problem changes and the log-odds jump without a move. `Trajectory` keeps both parts: ``gain``
and ``jump``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rlvrlib.bandits import LogLinearBandit
from rlvrlib.checks import finite, instance, last_axis, positive, whole_number
from rlvrlib.first_zero import zero_between
from rlvrlib.problems import Array, Problem, Regularity, SampledProblem, sampled

__all__ = [
    "Curriculum",
    "MovingProblem",
    "Schedule",
    "Shifted",
    "Steered",
    "following_lag",
    "harder",
    "most_steps_back",
    "steps_back",
]


class MovingProblem(ABC):
    """A problem for each step. The states that it hands out belong to one run of `ascend`, so it
    can be used again.
    """

    @abstractmethod
    def first(self, num_steps: int, theta: Array) -> tuple[Problem, Any]:
        """The problem of step 0 of a run that starts at ``theta``, and a state."""

    @abstractmethod
    def following(
        self, step: int, problem: Problem, theta: Array, log_odds: Array, state: Any
    ) -> tuple[Problem, Any]:
        """The problem of step ``step`` and the next state; the step before has reached ``log_odds``
        on ``problem``.
        """


@dataclass(frozen=True)
class Schedule(MovingProblem):
    """Problems given in advance: step ``k`` trains on ``problems[k]``, and the last one measures
    the end.

    Parameters
    ----------
    problems : one for each step and one for the end, all of one dimension. A problem that stands
        twice in a row rests.
    """

    problems: Sequence[Problem]

    def __post_init__(self) -> None:
        _check_dims(self.problems)

    def first(self, num_steps: int, theta: Array) -> tuple[Problem, None]:
        _check_length("problems", self.problems, num_steps)
        return self.problems[0], None

    def following(
        self, step: int, problem: Problem, theta: Array, log_odds: Array, state: None
    ) -> tuple[Problem, None]:
        return self.problems[step], None


@dataclass(frozen=True)
class Curriculum(MovingProblem):
    """Difficulty that rises with success: a run that reaches ``level`` goes on to a problem that is
    harder by ``rise``.

    Parameters
    ----------
    family : the problems as a function of the difficulty, an array with one entry for each run.
    easiest, hardest : difficulty at the start and at the end.
    rise : added to the difficulty at each promotion, positive, one or one for each run; the last
        one stops at ``hardest``.
    level : log-odds that earn a promotion.
    """

    family: Callable[[Array], Problem]
    easiest: float
    hardest: float
    rise: ArrayLike
    level: float = 0.0

    def __post_init__(self) -> None:
        if not finite(easiest=self.easiest) < finite(hardest=self.hardest):
            raise ValueError(
                f"easiest must be below hardest, got {self.easiest!r} and {self.hardest!r}"
            )
        finite(level=self.level)
        positive(rise=self.rise)

    def first(self, num_steps: int, theta: Array) -> tuple[Problem, Array]:
        difficulty = np.full(theta.shape[:-1], float(self.easiest))
        return self.family(difficulty), difficulty

    def following(
        self, step: int, problem: Problem, theta: Array, log_odds: Array, state: Array
    ) -> tuple[Problem, Array]:
        raised = np.minimum(state + np.asarray(self.rise, dtype=float), self.hardest)
        difficulty = np.where(log_odds >= self.level, raised, state)
        return (
            problem if np.array_equal(difficulty, state) else self.family(difficulty)
        ), difficulty


@dataclass(frozen=True)
class Steered(MovingProblem):
    """Prompts made harder or easier at every step, so that the run meets each one at prescribed
    log-odds.

    Parameters
    ----------
    bandits : one for each step and one for the end, all of one dimension; `harder` shifts their
        log-odds.
    log_odds : shape ``(steps + 1, ...)``, where the run meets them.
    """

    bandits: Sequence[LogLinearBandit]
    log_odds: Array

    def __post_init__(self) -> None:
        _check_dims(self.bandits)
        finite(log_odds=self.log_odds)

    def first(self, num_steps: int, theta: Array) -> tuple[Problem, None]:
        _check_length("bandits", self.bandits, num_steps)
        _check_length("log_odds", self.log_odds, num_steps)
        return self._met(0, theta), None

    def following(
        self, step: int, problem: Problem, theta: Array, log_odds: Array, state: None
    ) -> tuple[Problem, None]:
        return self._met(step, theta), None

    def _met(self, step: int, theta: Array) -> Problem:
        bandit = self.bandits[step]
        return harder(bandit, bandit.log_odds(theta) - self.log_odds[step])


@dataclass(frozen=True)
class Shifted(SampledProblem):
    """A problem whose landscape has moved: ``l(theta - shift)``. A shift of the base logits of a
    policy does this.

    Parameters
    ----------
    problem : any `Problem`.
    shift : shape ``(..., dim)``, finite; leading axes are runs.
    """

    problem: Problem
    shift: Array

    def __post_init__(self) -> None:
        last_axis(self.problem.dim, shift=finite(shift=self.shift))

    @property
    def dim(self) -> int:
        return self.problem.dim

    @property
    def max_length(self) -> Any:
        return self.problem.max_length

    def log_odds(self, theta: Array) -> Array:
        return self.problem.log_odds(theta - self.shift)

    def gradient_gap(self, theta: Array) -> Array:
        return self.problem.gradient_gap(theta - self.shift)

    def log_odds_and_gap(self, theta: Array) -> tuple[Array, Array]:
        return self.problem.log_odds_and_gap(theta - self.shift)

    def log_odds_gain(self, theta: Array, direction: Array, step: Array) -> Array:
        return self.problem.log_odds_gain(theta - self.shift, direction, step)

    def length_normalized_gap(self, theta: Array, gap: Array | None = None) -> Array:
        return self.problem.length_normalized_gap(theta - self.shift, gap)

    def curvature(self, theta: Array, direction: Array) -> Array:
        return self.problem.curvature(theta - self.shift, direction)

    def regularity(self, direction: Array) -> Regularity:
        return self.problem.regularity(direction)

    def local_regularity(self, theta: Array, direction: Array) -> Regularity:
        return self.problem.local_regularity(theta - self.shift, direction)

    def conditional_variance(self, theta: Array, direction: Array) -> Array:
        return self.problem.conditional_variance(theta - self.shift, direction)

    def sample(
        self, theta: Array, group_size: int, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """As the problem samples; only for problems that do."""
        return sampled(self.problem).sample(theta - self.shift, group_size, rng)


def harder(bandit: LogLinearBandit, offset: ArrayLike) -> LogLinearBandit:
    """The bandit with log-odds lower by ``offset`` at every ``theta``: the prior of the correct
    arms falls.

    ``log_prior_a - offset r_a``. The gap, the curvature and the ranges of the features stay what
    they were.

    Parameters
    ----------
    bandit : one prompt or a stack.
    offset : shape ``(...)``, finite; negative makes it easier.
    """
    instance(LogLinearBandit, bandit=bandit)
    prior = bandit.log_prior - finite(offset=offset)[..., None] * bandit.rewards
    return LogLinearBandit(bandit.features, bandit.rewards, prior)


def following_lag(
    speed: Callable[[Array], Array], target_speed: ArrayLike, top_lag: ArrayLike
) -> Array:
    """Lag at which a rule is as fast as a target that moves on, and follows it (critical speed,
    chapter on moving success rates); infinite where the target is too fast.

    Parameters
    ----------
    speed : length of a step at a lag, elementwise; rising from at most 0 to its maximum.
    target_speed : per step, positive, shape ``(...)``.
    top_lag : positive, where the speed has its maximum.
    """
    wanted, top = np.broadcast_arrays(
        positive(target_speed=target_speed), positive(top_lag=top_lag)
    )
    kept = wanted < speed(top)
    lag = zero_between(lambda y: speed(y) - wanted, np.zeros(top.shape), top, kept)
    return np.where(kept, lag, np.inf)


def steps_back(
    speed: Callable[[Array], Array], lag: ArrayLike, until: float, num_points: int = 4001
) -> Array:
    """Steps back from a lag to a smaller one behind a target that rests: the integral of
    ``1 / speed``, by the trapezoidal rule (small steps; recovery, chapter on moving success rates).

    Parameters
    ----------
    speed : length of a step at a lag, elementwise; positive on the way.
    lag : where the way back begins, shape ``(...)``.
    until : where it ends; from a smaller lag the steps are counted negative.
    num_points : of the rule, at least 2.
    """
    whole_number(2, num_points=num_points)
    way = np.linspace(finite(until=until), finite(lag=lag), num_points)
    return np.asarray(np.trapezoid(1 / positive(speed=speed(way)), way, axis=0))[()]


def most_steps_back(
    speed: Callable[[Array], Array], lag: ArrayLike, until: float, num_points: int = 4001
) -> Array:
    """``1 + integral of 1 / speed + log(speed(until) / speed(lag))``, which no way back exceeds if
    no step is shorter than the speed where it starts, and the speed does not fall on the way
    (recovery, chapter on moving success rates; the way back, chapter on the route to collapse).

    Parameters as in `steps_back`.
    """
    start, end = (positive(speed=speed(np.asarray(place, dtype=float))) for place in (lag, until))
    return 1 + steps_back(speed, lag, until, num_points) + np.log(end / start)


def _check_length(name: str, values: Sequence[Any] | Array, num_steps: int) -> None:
    if len(values) != num_steps + 1:
        raise ValueError(
            f"{name} must hold {num_steps + 1} entries, one for each step and one for the end, "
            f"got {len(values)}"
        )


def _check_dims(problems: Sequence[Problem]) -> None:
    dims = sorted({problem.dim for problem in problems})
    if len(dims) != 1:
        raise ValueError(
            f"problems must hold at least one, all of one dimension, got dimensions {dims}"
        )
