"""How far to go: rules for the length of a move.

A step rule gives the length ``eta_k`` of the move along ``w = u / norm(u)``, the direction of the
update ``u``. It carries its own state from step to step; most rules need none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rlvrlib.checks import inside, positive
from rlvrlib.problems import Array, At, Notes, Problem, unit_or_any
from rlvrlib.thresholds import guaranteed

__all__ = ["Constant", "FixedLength", "GuaranteedStep", "LongStep", "Step", "ThresholdStep"]


class Step(ABC):
    """How far to go from where a run stands."""

    def initial_state(self, theta: Array) -> Any:
        """What the rule remembers before the first step: by default nothing."""
        return None

    @abstractmethod
    def length(self, at: At, update: Array, state: Any) -> tuple[Array, Any]:
        """Length ``eta_k`` of the move along the update, shape ``(...)``, and the next state."""

    def notes(self, state: Any) -> Notes:
        """What the step that led to this state has to tell: goes into `Trajectory.notes`."""
        return {}


@dataclass(frozen=True)
class Constant(Step):
    """Learning rate: the move is ``eta * u``."""

    eta: ArrayLike

    def __post_init__(self) -> None:
        positive(eta=self.eta)

    def length(self, at: At, update: Array, state: None) -> tuple[Array, None]:
        return np.asarray(self.eta) * np.sqrt(np.vecdot(update, update)), None


@dataclass(frozen=True)
class FixedLength(Step):
    """Every move has the length ``eta``, whatever the update."""

    eta: ArrayLike

    def __post_init__(self) -> None:
        positive(eta=self.eta)

    def length(self, at: At, update: Array, state: None) -> tuple[Array, None]:
        return np.broadcast_to(np.asarray(self.eta, dtype=float), update.shape[:-1]), None


@dataclass(frozen=True)
class ThresholdStep(Step):
    """A share of the largest guaranteed step: no learning rate to tune.

    Parameters
    ----------
    share : in (0, 1).
    threshold : function of ``(problem, theta, unit, alignment, log_odds)`` that gives the largest
        guaranteed step.
    """

    share: float
    threshold: Callable[[Problem, Array, Array, Array, Array], Array]

    def __post_init__(self) -> None:
        inside("(0, 1)", share=self.share)

    def length(self, at: At, update: Array, state: None) -> tuple[Array, None]:
        # a run whose update is zero stays; its direction only fills the place
        along, moves = unit_or_any(update)
        alignment = np.where(moves, np.sum(along * at.gap, axis=-1), 0.0)
        eta = self.share * self.threshold(at.problem, at.theta, along, alignment, at.log_odds)
        eta = np.where(moves, eta, 0.0)
        if not np.all(np.isfinite(eta)):
            raise ValueError(
                "threshold must be finite: where nothing limits the step there is no share of it"
            )
        return eta, None


@dataclass(frozen=True)
class GuaranteedStep(Step):
    """A share of the largest step that any theorem allows (`thresholds.guaranteed`): the rule of
    this book.

    Where nothing limits the step by one theorem, the largest finite one by the others counts. Each
    step notes as ``theorem`` which one it was, shape ``(...)``. Parameters are those of
    `guaranteed`; the share is in (0, 1).
    """

    share: float
    among: Sequence[str] | None = None
    weights: ArrayLike | None = None
    everywhere: bool = False

    def __post_init__(self) -> None:
        inside("(0, 1)", share=self.share)
        if self.weights is not None:
            inside("[0, inf)", weights=self.weights)

    def length(self, at: At, update: Array, state: Any) -> tuple[Array, Any]:
        along, moves = unit_or_any(update)
        allowed = guaranteed(
            at.problem,
            at.theta,
            along,
            among=self.among,
            alignment=np.sum(along * at.gap, axis=-1),
            log_odds=at.log_odds,
            weights=self.weights,
            everywhere=self.everywhere,
            finite=True,
        )
        theorem = np.where(moves, allowed.theorem, "none")
        return np.where(moves, self.share * allowed.step, 0.0), theorem

    def notes(self, state: Any) -> Notes:
        return {"theorem": state}


@dataclass(frozen=True)
class LongStep(Step):
    """A longer step than the guaranteed one, kept only if the log-odds rose enough: an Armijo test
    with a safe end.

    The lengths ``factor * safe`` are tried in turn. The first one whose gain is at least ``rise *
    length * alignment`` is taken; if none is, the safe step, which needs no trial. So no step loses
    where none of the safe rule's does. Each step notes as ``trials`` how many lengths each run
    tried, shape ``(...)``: one evaluation of the log-odds each.

    Parameters
    ----------
    safe : rule of the guaranteed step, such as `ThresholdStep`.
    factors : multiples of the safe length, each above 1, in the order in which they are tried.
    rise : share of the first-order gain that a longer step must reach, in (0, 1).
    """

    safe: Step
    factors: tuple[float, ...] = (16.0, 4.0)
    rise: float = 0.1

    def __post_init__(self) -> None:
        if not self.factors or not all(1 < factor < np.inf for factor in self.factors):
            raise ValueError(
                f"factors must be one or more finite numbers above 1, got {self.factors!r}"
            )
        inside("(0, 1)", rise=self.rise)

    def initial_state(self, theta: Array) -> tuple[Any, None]:
        return self.safe.initial_state(theta), None

    def length(self, at: At, update: Array, state: Any) -> tuple[Array, Any]:
        safe, inner = self.safe.length(at, update, state[0])
        along, moves = unit_or_any(update)
        alignment = np.where(moves, np.sum(along * at.gap, axis=-1), 0.0)
        chosen, waiting = safe, (alignment > 0) & (safe > 0)
        tried = np.zeros(waiting.shape, dtype=int)
        for factor in self.factors:
            if not waiting.any():
                break
            tried = tried + waiting
            gain = at.problem.log_odds_gain(at.theta, along, factor * safe)
            kept = waiting & (gain >= self.rise * factor * safe * alignment)
            chosen, waiting = np.where(kept, factor * safe, chosen), waiting & ~kept
        return chosen, (inner, tried)

    def notes(self, state: Any) -> Notes:
        inner, tried = state
        return {**self.safe.notes(inner), "trials": tried}
