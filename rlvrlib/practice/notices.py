"""What else moved: a quantity that has left the range of its first rows, before any level of the
reward is known or after. A notice is no warning, and does not change one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rlvrlib import Array
from rlvrlib.practice.drawdown import EARLIER

# How many times as large or as small a quantity has become.
FACTORS = {"length": 2.0, "gradient_norm": 4.0, "entropy": 4.0, "loss": 4.0, "kl": 4.0}
_FEWEST = 5  # rows that are compared with
_IN_TURN = 2  # rows that must say so
_SPREADS = 4.0  # and how far they must lie outside, in robust standard deviations
_UNLIKELY = 2.7  # of the count of pairs in order, in standard deviations


@dataclass(frozen=True)
class Notice:
    """A quantity that moved.

    Attributes
    ----------
    row : the row at which it was known.
    quantity : a key of `FACTORS`, or ``reward`` for a fall that began with the first rows.
    before, after : the median of the reference and the mean of the last two rows.
    """

    row: int
    quantity: str
    before: float
    after: float

    @property
    def factor(self) -> float:
        """How many times as large it has become."""
        return self.after / self.before if self.before else np.inf


@dataclass
class _Course:
    """The rows of one quantity, and the range that its reference leaves."""

    logs: list[float] = field(default_factory=list)
    centre: float = np.nan
    reach: float = np.inf
    next: int = _FEWEST
    seen: set[bool] = field(default_factory=set)

    def refresh(self, factor: float) -> None:
        count = len(self.logs)
        earlier = np.array(self.logs[count // 8 : max(count // 2, _FEWEST)])
        self.centre = float(np.median(earlier))
        spread = 1.4826 * float(np.median(np.abs(earlier - self.centre)))
        self.reach = max(float(np.log(factor)), _SPREADS * spread)
        self.next = max(count + 1, int(1.1 * count))


class Notices:
    """The state of the notices of one log, row by row.

    A quantity is noticed, once in each direction, where two rows in turn are larger or smaller than
    the median of the reference by its factor and by four robust standard deviations, all in
    logarithms of the absolute value. The reference is the first half of the rows so far, without
    the first eighth. A reward is noticed within the first 20 rows where the earlier of two rows is
    the larger one so often that the sign of their order is 2.7 standard deviations off (Kendall).

    Attributes
    ----------
    found : the notices so far.
    """

    def __init__(self) -> None:
        self.found: list[Notice] = []
        self._courses = {quantity: _Course() for quantity in FACTORS}
        self._rewards: list[float] = []
        self._rows = 0

    def update(self, row: Mapping[str, float]) -> list[Notice]:
        """The notices that one more row gives. Absent, infinite and missing numbers say nothing."""
        new = [
            notice
            for quantity, course in self._courses.items()
            if (notice := self._moved(quantity, course, abs(row.get(quantity, np.nan))))
        ]
        if np.isfinite(reward := row.get("reward", np.nan)) and len(self._rewards) < EARLIER:
            self._rewards.append(reward)
            if falling(self._rewards) and not any(one.quantity == "reward" for one in self.found):
                new.append(
                    Notice(
                        self._rows,
                        "reward",
                        float(np.median(self._rewards[:_FEWEST])),
                        float(np.mean(self._rewards[-_IN_TURN:])),
                    )
                )
        self._rows += 1
        self.found += new
        return new

    def _moved(self, quantity: str, course: _Course, size: float) -> Notice | None:
        if not 0 < size < np.inf:
            return None
        if len(course.logs) == course.next:
            course.refresh(FACTORS[quantity])
        course.logs.append(float(np.log(size)))
        last = [value - course.centre for value in course.logs[-_IN_TURN:]]
        grown = last[0] > 0
        if grown in course.seen or not all(
            abs(value) >= course.reach and (value > 0) == grown for value in last
        ):
            return None
        course.seen.add(grown)
        before, after = course.centre, course.centre + sum(last) / _IN_TURN
        return Notice(self._rows, quantity, float(np.exp(before)), float(np.exp(after)))


def notices(columns: Mapping[str, Array]) -> list[Notice]:
    """The notices of columns of one length, as row by row."""
    state, names = Notices(), [name for name in (*FACTORS, "reward") if name in columns]
    lists = [np.asarray(columns[name], dtype=float).tolist() for name in names]
    for row in zip(*lists, strict=True):
        state.update(dict(zip(names, row, strict=True)))
    return state.found


def falling(values: list[float]) -> bool:
    """Whether the values fall: Kendall's count of pairs in order, with a correction for ties and
    for continuity.
    """
    count = len(values)
    if count < _FEWEST:
        return False
    array = np.array(values)
    order = np.sign(array[:, None] - array)[np.triu_indices(count, 1)].sum()  # earlier - later
    ties = np.unique(array, return_counts=True)[1]
    variance = sum(
        k * (k - 1) * (2 * k + 5) * sign for k, sign in [(count, 1), *((t, -1) for t in ties)]
    ) / 18
    return bool(order - 1 > _UNLIKELY * np.sqrt(variance))
