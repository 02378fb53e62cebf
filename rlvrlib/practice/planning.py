r"""How the safe learning rate moves when a setting changes: ratios, each with its theorem and with
what it does not know.

A learning rate is safe where its step stays below the threshold. The theorems give the threshold up
to constants that no log and no configuration shows. They cancel between two settings as far as they
stay the same, so a plan starts from a run that is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlvrlib import thresholds
from rlvrlib.checks import inside, one_of, positive
from rlvrlib.practice.pressure import OPTIMIZERS, aggregation_of, success_factor

LARGE = 8.0  # a factor beyond this, or below its inverse, carries a warning
# What is asked most and has no factor: what is known, and where.
BESIDE = {
    "mini_batches": (
        "every update is a step of its own; the first on a batch of responses is on policy, the "
        "later ones are not, and only updates on the whole batch are treated",
        "Optimizers, Several updates on each batch",
    ),
    "epochs": (
        "in exact expectations the number E of updates on one batch does not move the "
        "rate at which a summit loses its stability; for the noise of sampled groups, E updates at "
        "a rate are about one at E times the rate, in a linear recursion. To divide the rate by E "
        "is the cautious reading, not a guarantee",
        "Optimizers, Several updates on each batch",
    ),
    "lora_rank": (
        "not in the theory, which knows neither layers nor adapters; nothing was measured here",
        "Related work, Where in the network, for what others report",
    ),
    "beta": (
        "a KL penalty can lower the critical rate at a summit, bounds the level that is "
        "reached, and shortens the way back after a step that was too long",
        "Optimizers, A KL penalty to the start",
    ),
    "clip_range": (
        "with one update on each batch the clip of the ratio does nothing; with several "
        "it bounds what is learned from the noise of one batch and does not move the rate at which "
        "a summit loses its stability. The ratio of GSPO is one per response and per token, so its "
        "range is not that of GRPO",
        "Optimizers, Several updates on each batch",
    ),
    "max_grad_norm": (
        "a move is at most the rate times the clip, for plain gradients; whether that is safe "
        "depends on the gap, which the clip does not know. In front of Adam a clip that is always "
        "active changes nothing but the response to growing gradients",
        "Optimizers, Gradient clipping",
    ),
    "batch_size": (
        "more prompts a step reduce the noise, which permits a larger rate; how much "
        "larger hangs on how the gradients of the prompts differ, and no log shows that",
        "Batches of prompts, Spread and instability",
    ),
}


@dataclass(frozen=True)
class Setting:
    """What a plan compares.

    Parameters
    ----------
    length : cap on the response length in tokens, at least 1; where responses stay far below it,
        their typical length.
    success_rate : ``J``, strictly between 0 and 1.
    method : of `methods.SAMPLED_METHODS`.
    group_size : ``G``, at least 2; the population limit where omitted.
    aggregation : ``sum``, ``cap`` or ``mean``: what the loss divides the sum over tokens by; by
        default as the method does.
    """

    length: float
    success_rate: float
    method: str = "grpo"
    group_size: int | None = None
    aggregation: str | None = None

    def __post_init__(self) -> None:
        inside("[1, inf)", length=self.length)
        object.__setattr__(self, "aggregation", aggregation_of(self.method, self.aggregation))
        success_factor(
            self.success_rate, self.method, self.group_size
        )  # its errors name the argument

    @property
    def divisor(self) -> float:
        """The number that the loss divides by, which is 1 or the length."""
        return 1.0 if self.aggregation == "sum" else self.length


@dataclass(frozen=True)
class Factor:
    """The safe rate is multiplied by ``value`` because of ``name``, if that ``changed``; ``reason``
    is the theorem, ``unknown`` what it leaves open.
    """

    name: str
    changed: bool
    value: float
    reason: str
    unknown: str


@dataclass(frozen=True)
class Plan:
    """Factors of the safe rate from one setting to another; ``total`` is their product.

    ``rate`` is as safe in the second setting as the reference rate was in the first; None without a
    reference rate. ``optimizer`` is what the factors hold for, ``warnings`` name those that are
    large.
    """

    factors: tuple[Factor, ...]
    total: float
    rate: float | None
    optimizer: str
    warnings: tuple[str, ...]


def plan(
    before: Setting, after: Setting, rate: float | None = None, optimizer: str = "adamw"
) -> Plan:
    """How the safe rate changes from ``before`` to ``after``.

    Parameters
    ----------
    rate : the learning rate of a run in the setting ``before`` that stayed stable.
    optimizer : ``adamw`` or ``adam`` for moves of a fixed length (its second moment has adapted):
        the loss's divisor and the multiplier of the method cancel there; ``sgd`` or ``gradient``
        for moves that are proportional to the gradient.

    Raises
    ------
    ValueError : a rate that is not positive and finite, an unknown optimizer.
    """
    if rate is not None:
        positive(rate=rate)
    one_of(tuple(OPTIMIZERS), optimizer=optimizer)
    fixed = OPTIMIZERS[optimizer]
    divisor = 1.0 if fixed else after.divisor / before.divisor
    start = _pull(before.success_rate, before.method, before.group_size, fixed)
    method = _pull(before.success_rate, after.method, before.group_size, fixed)
    group = _pull(before.success_rate, after.method, after.group_size, fixed)
    end = _pull(after.success_rate, after.method, after.group_size, fixed)
    factors = (
        Factor(
            "length",
            before.length != after.length,
            before.length / after.length,
            "the threshold falls like 1/T at a given alignment (failure-fall bound)",
            f"{_ALIGNMENT}; lengths far below the cap",
        ),
        Factor(
            "loss divisor",
            before.divisor != after.divisor,
            divisor,
            _CANCELS if fixed else "a loss that divides by the length makes shorter moves",
            "how the lengths scatter: the cap stands for all of them",
        ),
        Factor(
            "method",
            before.method != after.method,
            start / method,
            _CANCELS if fixed else "multiplier m(J) of the family of methods",
            "the length bias, where the divisor is each response's own length",
        ),
        Factor(
            "group size",
            before.group_size != after.group_size,
            method / group,
            _CANCELS if fixed else "law of finite groups: the mean step grows with the group",
            "the noise of the update, which is in no factor here. It shrinks with the group, and "
            "where noise is what throws a run off, a larger group permits a larger rate: the sign "
            "is not settled",
        ),
        Factor(
            "success rate",
            before.success_rate != after.success_rate,
            group / end,
            "threshold over alignment: the longest of success-rise, failure-fall and angle bound"
            if fixed
            else "m(J) over the longest of success-rise, failure-fall and angle bound",
            f"{_ALIGNMENT}; how the success rate differs between prompts; rare wrong responses "
            "with huge scores",
        ),
    )
    total = float(np.prod([factor.value for factor in factors]))
    named = [(factor.name, factor.value) for factor in factors]
    warnings = tuple(
        f"{name}: {value:.3g} is a factor above {LARGE:g} in one direction, and no run of this "
        "book has tested so large a change. Go there in several changes, each with a short run"
        for name, value in (*named, ("in all", total))
        if max(value, 1 / value) > LARGE * (1 + 1e-12)
    )
    return Plan(factors, total, None if rate is None else rate * total, optimizer, warnings)


_ALIGNMENT = "the alignment with the gap and the range of the token scores, taken as the same"
_CANCELS = "a constant factor of the gradient cancels in Adam's quotient"


def _pull(success_rate: float, method: str, group_size: int | None, fixed: bool) -> float:
    """The step over the longest guaranteed one, as a function of the success rate."""
    if fixed:
        return 1 / float(thresholds.longest_guarantee(success_rate))
    return float(success_factor(success_rate, method, group_size))
