"""Where to go: the exact and the sampled update of each method, and optimizers on top of them.

A direction gives an unnormalized update ``u``; `ascend` moves by a step along it. It carries its
own state from step to step; many need none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from rlvrlib.checks import finite, inside, instance, last_axis, non_negative, positive, whole_number
from rlvrlib.methods import group_advantages, method_named, multiplier
from rlvrlib.problems import Array, At, Notes, Problem, sampled

__all__ = [
    "Adam",
    "Clipped",
    "Direction",
    "Momentum",
    "PolicyGradient",
    "Prescribed",
    "RateSchedule",
    "SampledGradient",
    "TrainedOn",
    "Turned",
]


class Direction(ABC):
    """Where to go from where a run stands."""

    def initial_state(self, theta: Array) -> Any:
        """What the direction remembers before the first step: by default nothing."""
        return None

    @abstractmethod
    def update(self, at: At, state: Any) -> tuple[Array, Any]:
        """Unnormalized update, shape ``(..., dim)``, and the next state."""

    def notes(self, state: Any) -> Notes:
        """What the update that led to this state has to tell: goes into `Trajectory.notes`."""
        return {}


@dataclass(frozen=True)
class OnTop(Direction):
    """A direction on top of another one, whose state comes first in its own."""

    direction: Direction

    def __post_init__(self) -> None:
        instance(Direction, direction=self.direction)

    def initial_state(self, theta: Array) -> tuple[Any, ...]:
        return (self.direction.initial_state(theta),)

    def notes(self, state: Any) -> Notes:
        return self.direction.notes(state[0])


@dataclass(frozen=True)
class PolicyGradient(Direction):
    """Exact update of a method: ``m(J) Gap``, or ``m(J) Gap_len`` for GRPO and GSPO.

    Parameters
    ----------
    method : a name in `methods.METHODS`; ``"log_odds"`` is ascent on the log-odds
        themselves.
    group_size : mean update over groups of this size; the population limit where omitted.
    prompts : train on the mean over this stack of prompts, its last axis, with one shared ``theta``
        of shape ``(..., 1, dim)``; train on the problem itself where omitted.
    length_normalized : whether to divide scores by the length; by default as the method does.
    """

    method: str = "reinforce"
    group_size: int | None = None
    prompts: Problem | None = None
    length_normalized: bool | None = None

    def __post_init__(self) -> None:
        method_named(self.method)
        if self.group_size is not None:
            whole_number(2, group_size=self.group_size)
        if self.prompts is not None:
            instance(Problem, prompts=self.prompts)

    def update(self, at: At, state: None) -> tuple[Array, None]:
        if self.prompts is not None:
            at = At.of(self.prompts, at.theta)
        log_odds, gap = at.log_odds, at.gap
        shorten = (
            method_named(self.method).length_normalized
            if self.length_normalized is None
            else self.length_normalized
        )
        if shorten:
            gap = at.problem.length_normalized_gap(at.theta, gap)
        factor = multiplier(
            self.method,
            expit(log_odds),
            self.group_size,
            failure_rate=expit(-log_odds),
            batch=self.prompts is not None,
        )
        update = factor[..., None] * gap
        return (update if self.prompts is None else update.mean(axis=-2, keepdims=True)), None


@dataclass(frozen=True)
class SampledGradient(Direction):
    """Update of a method from sampled responses, one group for each run or for each prompt of a
    batch: what a trainer really does.

    ``sum_i A_i s_i / G`` with the advantages ``A_i`` of the group (`methods.METHODS`); ``s_i`` is
    divided by the length of the response, or the sum by the mean length, as the method does. The
    problem must be a `SampledProblem`. The state is the group that was drawn: its rewards and
    lengths.

    Parameters
    ----------
    method : a name in `methods.SAMPLED_METHODS`.
    group_size : ``G``, at least 2.
    rng : source of the samples; it moves on with every update.
    ddof : 0 for the population standard deviation (the theory's law), 1 for the sample one (TRL and
        verl).
    max_resamples : how often a group without spread is drawn again, by methods that do so (DAPO).
    prompts : train on the mean over this stack of prompts, one group each, as in `PolicyGradient`;
        a method that standardizes over the batch does so over all their groups.
    """

    method: str
    group_size: int
    rng: np.random.Generator
    ddof: int = 0
    max_resamples: int = 50
    prompts: Problem | None = None

    def __post_init__(self) -> None:
        method_named(self.method, sampled=True)
        whole_number(2, group_size=self.group_size)
        instance(np.random.Generator, rng=self.rng)
        whole_number(0, ddof=self.ddof)
        whole_number(0, max_resamples=self.max_resamples)
        if self.prompts is not None:
            instance(Problem, prompts=self.prompts)

    def update(self, at: At, state: Any) -> tuple[Array, tuple[Array, Array]]:
        method = method_named(self.method)
        problem = sampled(at.problem if self.prompts is None else self.prompts)
        rewards, lengths, scores = redrawn(
            lambda: problem.sample(at.theta, self.group_size, self.rng),
            lambda rewards, *_: np.ptp(rewards, axis=-1) == 0,
            self.max_resamples if method.resamples else 0,
        )
        weights = group_advantages(
            self.method,
            rewards,
            1 / self.group_size,
            self.group_size,
            batch=self.prompts is not None,
            ddof=self.ddof,
        )
        if method.length_normalized:
            weights = weights / lengths
        elif method.aggregation == "mean":
            batch = -1 if self.prompts is None else (-2, -1)
            weights = weights / lengths.mean(axis=batch, keepdims=True)
        update = np.mean(weights[..., None] * scores, axis=-2)
        if self.prompts is not None:
            update = update.mean(axis=-2, keepdims=True)
        return update, (rewards, lengths)


def redrawn(
    draw: Callable[[], tuple[Array, ...]], flat: Callable[..., np.ndarray], times: int
) -> tuple[Array, ...]:
    """What ``draw`` gives; where it is ``flat``, it is drawn again, up to so many times."""
    arrays = draw()
    for _ in range(times):
        again = flat(*arrays)
        if not again.any():
            break
        arrays = tuple(
            np.where(again.reshape(again.shape + (1,) * (old.ndim - again.ndim)), new, old)
            for new, old in zip(draw(), arrays, strict=True)
        )
    return arrays


@dataclass(frozen=True)
class Prescribed(Direction):
    """A given sequence of directions, one per step: shape ``(steps, ..., dim)``."""

    vectors: Array

    def initial_state(self, theta: Array) -> int:
        return 0

    def update(self, at: At, state: int) -> tuple[Array, int]:
        if state >= len(self.vectors):
            raise ValueError(f"vectors must hold one direction per step, got {len(self.vectors)}")
        return np.broadcast_to(self.vectors[state], at.theta.shape), state + 1


@dataclass(frozen=True)
class Turned(OnTop):
    """Another direction in the plane, turned to the left by a given angle at each step.

    Parameters
    ----------
    direction : what is turned; ``theta`` has two entries.
    cosines : of the angles, in [-1, 1], shape ``(steps,)``.
    """

    cosines: Array

    def __post_init__(self) -> None:
        super().__post_init__()
        inside("[-1, 1]", cosines=self.cosines)

    def initial_state(self, theta: Array) -> tuple[Any, int]:
        last_axis(2, theta=theta)
        return self.direction.initial_state(theta), 0

    def update(self, at: At, state: tuple[Any, int]) -> tuple[Array, tuple[Any, int]]:
        inner, count = state
        if count >= len(self.cosines):
            raise ValueError(f"cosines must hold one per step, got {len(self.cosines)}")
        update, inner = self.direction.update(at, inner)
        across, cosine = np.stack([-update[..., 1], update[..., 0]], axis=-1), self.cosines[count]
        return cosine * update + np.sqrt(1 - cosine**2) * across, (inner, count + 1)


@dataclass(frozen=True)
class RateSchedule(OnTop):
    """A learning-rate schedule on top of another direction: update number ``k`` is multiplied by
    ``factors[k]``.

    Parameters
    ----------
    direction : what is multiplied.
    factors : shape ``(steps, ...)``, non-negative and finite, one for each step, and for each run
        where they differ.
    """

    factors: Array

    def __post_init__(self) -> None:
        super().__post_init__()
        if np.ndim(inside("[0, inf)", factors=self.factors)) < 1:
            raise ValueError(f"factors must have shape (steps, ...), got {self.factors!r}")

    def initial_state(self, theta: Array) -> tuple[Any, int]:
        return self.direction.initial_state(theta), 0

    def update(self, at: At, state: Any) -> tuple[Array, Any]:
        inner, count = state
        if count >= len(self.factors):
            raise ValueError(f"factors must hold one number per step, got {len(self.factors)}")
        update, inner = self.direction.update(at, inner)
        return np.asarray(self.factors[count])[..., None] * update, (inner, count + 1)


@dataclass(frozen=True)
class TrainedOn(Direction):
    """Another direction, computed on ``problem`` instead of on the one that is measured: a proxy
    for what is wanted.

    With a noisy verifier as ``problem`` the run follows the verdicts, and its trajectory records
    the true success rate.
    """

    problem: Problem
    direction: Direction

    def __post_init__(self) -> None:
        instance(Problem, problem=self.problem)
        instance(Direction, direction=self.direction)

    def initial_state(self, theta: Array) -> Any:
        return self.direction.initial_state(theta)

    def update(self, at: At, state: Any) -> tuple[Array, Any]:
        return self.direction.update(At.of(self.problem, at.theta), state)

    def notes(self, state: Any) -> Notes:
        return self.direction.notes(state)


@dataclass(frozen=True)
class Adam(OnTop):
    """Adam on top of another direction: ``mean / (sqrt(square) + epsilon)``, both moments
    bias-corrected.

    ``beta1 = beta2 = 0`` with ``epsilon = 0`` is the sign of the update; weight decay is left out.

    Parameters
    ----------
    memory : a gradient that both moments hold at the start, as after one update; broadcasts with
        ``theta``.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    memory: ArrayLike | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        inside("[0, 1)", beta1=self.beta1)
        inside("[0, 1)", beta2=self.beta2)
        non_negative(epsilon=self.epsilon)
        if self.memory is not None:
            finite(memory=self.memory)

    def initial_state(self, theta: Array) -> tuple[Any, int, Array, Array]:
        met = np.zeros_like(theta) if self.memory is None else np.asarray(self.memory, dtype=float)
        mean, square = (1 - self.beta1) * met, (1 - self.beta2) * met**2
        return self.direction.initial_state(theta), int(self.memory is not None), mean, square

    def update(self, at: At, state: Any) -> tuple[Array, Any]:
        inner, count, mean, square = state
        gradient, inner = self.direction.update(at, inner)
        mean = self.beta1 * mean + (1 - self.beta1) * gradient
        square = self.beta2 * square + (1 - self.beta2) * gradient**2
        count += 1
        scale = np.sqrt(square / (1 - self.beta2**count)) + self.epsilon
        update = np.divide(
            mean / (1 - self.beta1**count), scale, out=np.zeros_like(mean), where=scale > 0
        )
        return update, (inner, count, mean, square)


@dataclass(frozen=True)
class Momentum(OnTop):
    """Heavy ball on top of another direction: ``velocity <- beta * velocity + u``."""

    beta: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        inside("[0, 1)", beta=self.beta)

    def initial_state(self, theta: Array) -> tuple[Any, Array]:
        return self.direction.initial_state(theta), np.zeros_like(theta)

    def update(self, at: At, state: Any) -> tuple[Array, Any]:
        inner, velocity = state
        gradient, inner = self.direction.update(at, inner)
        velocity = self.beta * velocity + gradient
        return velocity, (inner, velocity)


@dataclass(frozen=True)
class Clipped(OnTop):
    """Another direction, shortened to ``max_norm`` where it is longer."""

    max_norm: float

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(max_norm=self.max_norm)

    def update(self, at: At, state: Any) -> tuple[Array, Any]:
        update, inner = self.direction.update(at, state[0])
        norm = np.linalg.norm(update, axis=-1, keepdims=True)
        return update * np.minimum(1, self.max_norm / np.maximum(norm, self.max_norm)), (inner,)
