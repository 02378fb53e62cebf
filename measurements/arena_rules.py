"""The step-size rules of the arena: a row of `RULES` for each.

A row needs a name, what the rule has to know, and a function of the setting, the direction for a
method, and an array of constants that gives the direction and the step of the run. Nothing else in
the arena names a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from arena_problems import Setting
from scipy.special import expit

from rlvrlib import (
    Adam,
    Array,
    At,
    BatchMean,
    Constant,
    Direction,
    EstimatedStep,
    FixedLength,
    GuaranteedStep,
    LongStep,
    RateSchedule,
    Step,
)
from rlvrlib.problems import sampled, unit_or_any
from rlvrlib.thresholds import BOUNDS

SHARE = 0.9  # of each bound
GROUP = 16  # responses that a rule draws to measure something
WARM_UP = 20  # updates
LAWS = "failure law", "token failure law"  # known at the start of a step, of bandits alone


@dataclass(frozen=True)
class Entry:
    """What a rule is given: the setting, the direction of a method, the number of updates, a source
    of samples, and one constant or several, whose shape broadcasts against the runs.
    """

    setting: Setting
    gradient: Callable[[str], Direction]
    num_steps: int
    rng: np.random.Generator
    constant: Any


@dataclass(frozen=True)
class Rule:
    """A step-size rule.

    Parameters
    ----------
    knows : what it has to be told beside the direction.
    make : direction and step of a run.
    constants : the grid from which its constant is chosen in hindsight; none where it has none.
    sampled_only : whether it makes sense with sampled gradients alone.
    """

    knows: str
    make: Callable[[Entry], tuple[Direction, Step]]
    constants: tuple[float, ...] = ()
    sampled_only: bool = False


GRID = tuple(2.0 ** np.arange(-8, 9))


def measured_at(entry: Entry, at: At) -> At:
    """Where the run stands, for a batch as one problem."""
    if not entry.setting.batch:
        return at
    return At.of(BatchMean(at.problem), at.theta[..., 0, :])


def like(update: Array, values: Array) -> Array:
    """One value for each run in the shape of the lengths of its update."""
    return values.reshape(update.shape[:-1])


@dataclass(frozen=True)
class Polyak(Step):
    """``(J* - J) / |grad J|^2`` times the gradient of the success rate."""

    entry: Entry

    def length(self, at: At, update: Array, state: None) -> tuple[Array, None]:
        at = measured_at(self.entry, at)
        success, failure = expit(at.log_odds), expit(-at.log_odds)
        slope = success * failure * np.linalg.norm(at.gap, axis=-1)
        missing = np.maximum(self.entry.setting.best - success, 0.0)
        rate = np.divide(missing, slope, out=np.zeros_like(slope), where=slope > 1e-300)
        return like(update, rate), None


@dataclass(frozen=True)
class CurvatureCapped(Step):
    """A constant rate, cut where the quadratic model of the log-odds is highest, ``dmu / kappa_w``:
    after CAPO, which masks tokens by such a model.
    """

    entry: Entry

    def length(self, at: At, update: Array, state: None) -> tuple[Array, None]:
        asked = self.entry.constant * np.sqrt(np.vecdot(update, update))
        along, _ = unit_or_any(update)
        at = measured_at(self.entry, at)
        along = along.reshape(*at.theta.shape[:-1], along.shape[-1])
        slope = np.maximum(np.vecdot(along, at.gap), 0.0)
        bend = at.problem.curvature(at.theta, along)
        top = np.divide(slope, bend, out=np.full(bend.shape, np.inf), where=bend > 0)
        return np.minimum(asked, like(asked[..., None], top)), None


@dataclass(frozen=True)
class DivergenceAdaptive(Step):
    """The rate falls by 1.5 after a move whose Kullback-Leibler divergence, ``eta^2 mean(s_w^2)/2``
    in a group that is drawn, is above twice the target, and rises by 1.5 below half of it.
    """

    entry: Entry

    def initial_state(self, theta: Array) -> Array:
        return np.ones(theta.shape[:-1])

    def length(self, at: At, update: Array, state: Array) -> tuple[Array, Array]:
        along, _ = unit_or_any(update)
        _, _, scores = sampled(at.problem).sample(at.theta, GROUP, self.entry.rng)
        square = np.mean(np.sum(scores * along[..., None, :], axis=-1) ** 2, axis=-1)
        if self.entry.setting.batch:
            square = square.mean(axis=-1, keepdims=True)
        size = state * np.sqrt(np.vecdot(update, update))
        ratio = size**2 * square / 2 / self.entry.constant
        factor = np.where(ratio > 2, 1 / 1.5, np.where(ratio < 0.5, 1.5, 1.0))
        return size, np.clip(state * factor, 1e-8, 1e8)


@dataclass(frozen=True)
class LengthTriggered(Step):
    """A constant rate that is halved whenever the mean length of a group that is drawn is half as
    large again as at the last time, or the start.
    """

    entry: Entry

    def initial_state(self, theta: Array) -> tuple[Array, Array]:
        return np.ones(theta.shape[:-1]), np.full(theta.shape[:-1], np.inf)

    def length(self, at: At, update: Array, state: tuple[Array, Array]) -> tuple[Array, Any]:
        factor, before = state
        _, lengths, _ = sampled(at.problem).sample(at.theta, GROUP, self.entry.rng)
        mean = np.mean(lengths, axis=-1)
        if self.entry.setting.batch:
            mean = mean.mean(axis=-1, keepdims=True)
        before = np.where(np.isinf(before), mean, before)
        grown = mean > 1.5 * before
        factor = np.where(grown, factor / 2, factor)
        size = factor * self.entry.constant * np.sqrt(np.vecdot(update, update))
        return size, (factor, np.where(grown, mean, before))


def constant(method: str, *, per_token: bool = False) -> Callable[[Entry], tuple[Direction, Step]]:
    """A learning rate for a method; over the cap on the length where asked for."""

    def make(entry: Entry) -> tuple[Direction, Step]:
        length = np.max(entry.setting.problem.max_length) if per_token else 1
        return entry.gradient(method), Constant(entry.constant / length)

    return make


def bound(*among: str, everywhere: bool = True) -> Rule:
    """The share of the best of some bounds, by what holds of the policy everywhere or on the
    segment of the step.
    """
    step = GuaranteedStep(SHARE, among or None, everywhere=everywhere)
    return Rule("gap, J, bounds", lambda entry: (entry.gradient("rloo"), step))


def warmed_up(entry: Entry) -> tuple[Direction, Step]:
    factors = np.minimum(1, np.arange(1, entry.num_steps + 1) / WARM_UP)
    return RateSchedule(Adam(entry.gradient("rloo")), factors), Constant(entry.constant)


RULES: dict[str, Rule] = {
    "constant, REINFORCE": Rule("a constant", constant("rloo"), GRID),
    "constant, length-normalized GRPO": Rule("a constant", constant("grpo"), GRID),
    "constant over the cap (1/T)": Rule("a constant", constant("rloo", per_token=True), GRID),
    "constant length": Rule(
        "a constant", lambda entry: (entry.gradient("rloo"), FixedLength(entry.constant)), GRID
    ),
    "Adam": Rule(
        "a constant",
        lambda entry: (Adam(entry.gradient("rloo")), Constant(entry.constant)),
        GRID,
    ),
    "Adam with warm-up": Rule("a constant", warmed_up, GRID),
    "KL-adaptive": Rule(
        "a constant, a group",
        lambda entry: (entry.gradient("rloo"), DivergenceAdaptive(entry)),
        GRID,
    ),
    "decay triggered by length": Rule(
        "a constant, a group",
        lambda entry: (entry.gradient("rloo"), LengthTriggered(entry)),
        GRID,
    ),
    "cut by curvature (CAPO-like)": Rule(
        "a constant, gap, curvature",
        lambda entry: (entry.gradient("rloo"), CurvatureCapped(entry)),
        GRID,
    ),
    "Polyak": Rule("J, gap, best J", lambda entry: (entry.gradient("rloo"), Polyak(entry))),
    "the book's rule": bound(everywhere=False),
    "the book's rule, bounds that hold everywhere": bound(),
    "the book's rule with trials": Rule(
        "gap, J, bounds, trials",
        lambda entry: (entry.gradient("rloo"), LongStep(GuaranteedStep(SHARE))),
    ),
    "the book's rule, estimated": Rule(
        "bounds, a group",
        lambda entry: (entry.gradient("rloo"), EstimatedStep(SHARE, GROUP, entry.rng)),
        sampled_only=True,
    ),
    **{f"bound: {name}": bound(name) for name in BOUNDS if name not in LAWS},
    # a law that does not limit a step leaves it to another bound
    **{f"bound: {law}, else log-linear": bound(law, "log-linear", everywhere=False)
       for law in LAWS},
}
