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
from rlvrlib.practice.pressure import aggregation_of, success_factor

OPTIMIZERS = ("gradient", "adam")


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
    """The safe rate is multiplied by ``value`` because of ``name``; ``reason`` is the theorem,
    ``unknown`` what it leaves open.
    """

    name: str
    value: float
    reason: str
    unknown: str


@dataclass(frozen=True)
class Plan:
    """Factors of the safe rate from one setting to another; ``total`` is their product.

    ``rate`` is as safe in the second setting as the reference rate was in the first; None without a
    reference rate.
    """

    factors: tuple[Factor, ...]
    total: float
    rate: float | None


def plan(
    before: Setting, after: Setting, rate: float | None = None, optimizer: str = "gradient"
) -> Plan:
    """How the safe rate changes from ``before`` to ``after``.

    Parameters
    ----------
    rate : the learning rate of a run in the setting ``before`` that stayed stable.
    optimizer : ``gradient`` for moves that are proportional to the gradient; ``adam`` for moves of
        a fixed length (Adam whose second moment has adapted): the loss's divisor and the multiplier
        of the method cancel there.

    Raises
    ------
    ValueError : a rate that is not positive and finite, an unknown optimizer.
    """
    if rate is not None:
        positive(rate=rate)
    one_of(OPTIMIZERS, optimizer=optimizer)
    length = before.length / after.length
    if optimizer == "adam":
        success = float(
            thresholds.longest_guarantee(after.success_rate)
            / thresholds.longest_guarantee(before.success_rate)
        )
        factors: tuple[Factor, ...] = (
            Factor("length", length, _LENGTH, _ALIGNMENT),
            Factor(
                "success rate",
                success,
                "threshold over alignment: success-rise, failure-fall and angle bound",
                _ALIGNMENT,
            ),
        )
    else:
        start = _pull(before.success_rate, before.method, before.group_size)
        method = _pull(before.success_rate, after.method, before.group_size)
        group = _pull(before.success_rate, after.method, after.group_size)
        end = _pull(after.success_rate, after.method, after.group_size)
        factors = (
            Factor(
                "length",
                length,
                _LENGTH,
                "the range of the token scores, taken as the same; lengths far below the cap",
            ),
            Factor(
                "loss divisor",
                after.divisor / before.divisor,
                "a loss that divides by the length makes shorter moves",
                "how the lengths scatter: the cap stands for all of them",
            ),
            Factor(
                "method",
                start / method,
                "multiplier m(J) of the family of methods",
                "the length bias, where the divisor is each response's own length",
            ),
            Factor(
                "group size",
                method / group,
                "law of finite groups: mean multiplier",
                "the noise of the update, which shrinks with the group and is in no theorem here",
            ),
            Factor(
                "success rate",
                group / end,
                "m(J) over the longest of success-rise, failure-fall and angle bound",
                "how the success rate differs between prompts; the range of the scores of rare "
                "wrong responses",
            ),
        )
    total = float(np.prod([factor.value for factor in factors]))
    return Plan(factors, total, None if rate is None else rate * total)


_LENGTH = "the threshold falls like 1/T at a given alignment (failure-fall bound)"
_ALIGNMENT = "the alignment with the gap, taken as the same, and the range of the token scores"


def _pull(success_rate: float, method: str, group_size: int | None) -> float:
    return float(success_factor(success_rate, method, group_size))
