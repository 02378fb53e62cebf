"""When did a run change? Segments of constant level, found after the run by a permutation test, so
that a threshold is a probability and not a taste. What can be said during a run is in `drawdown`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from rlvrlib import Array

MIN_ROWS = 20  # a reference needs that many rows
_SHORTEST = 5  # rows of a segment
_MAX_BLOCKS = 400
CLEARLY = 0.75  # of a level: what lies below it has fallen by at least a quarter


@dataclass(frozen=True)
class Segment:
    """Rows ``start ... stop - 1`` with their mean and its standard error."""

    start: int
    stop: int
    mean: float
    error: float

    @property
    def low(self) -> float:
        """Two standard errors below the mean."""
        return self.mean - 2 * self.error

    @property
    def high(self) -> float:
        """Two standard errors above the mean."""
        return self.mean + 2 * self.error


def segment(values: ArrayLike, start: int, stop: int, *, spread: float = 0.0) -> Segment:
    """Mean of ``values[start:stop]``; the standard error is at least that of rows with the standard
    deviation ``spread``.
    """
    rows = np.asarray(values, dtype=float)[start:stop]
    deviation = max(float(rows.std(ddof=1)) if len(rows) > 1 else spread, spread)
    return Segment(start, stop, float(rows.mean()), deviation / np.sqrt(len(rows)))


def segments(
    values: ArrayLike, rng: np.random.Generator, *, level: float = 0.01, permutations: int = 199
) -> list[Segment]:
    """Segments of constant mean by binary segmentation.

    A segment is split where the difference of the two means, in standard errors, is largest, if at
    most a share ``level`` of random orders of its rows has one as large: a test without assumptions
    on the noise, except that rows of one level are exchangeable. Long series are averaged in blocks
    first.

    Parameters
    ----------
    values : shape ``(n,)``, finite.
    rng : source of the random orders.
    level : the chance of a split where there is none, in [1 / (permutations + 1), 1).
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not len(values) or not np.all(np.isfinite(values)):
        raise ValueError(f"values must be a list of finite numbers, got shape {values.shape}")
    if not 1 / (permutations + 1) <= level < 1:
        raise ValueError(f"level must be in [1 / (permutations + 1), 1), got {level!r}")
    size = -(-len(values) // _MAX_BLOCKS)
    edges = np.append(np.arange(0, len(values) - size + 1, size), len(values))
    blocks = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
    smallest = max(2, _SHORTEST // size)
    cuts, waiting = [0, len(blocks)], [(0, len(blocks))]
    while waiting:
        start, stop = waiting.pop()
        cut = _split(blocks[start:stop], smallest, rng, level, permutations)
        if cut is not None:
            cuts.append(start + cut)
            waiting += [(start, start + cut), (start + cut, stop)]
    places = edges[sorted(cuts)]
    return [segment(values, int(a), int(b)) for a, b in pairwise(places)]


def standard_errors_apart(before: Segment, after: Segment) -> float:
    """Difference of the means in standard errors; 0 where both are exactly the same."""
    error = float(np.hypot(before.error, after.error))
    difference = after.mean - before.mean
    return (
        difference / error if error > 0 else (np.sign(difference) * np.inf if difference else 0.0)
    )


def clearly_below(part: Segment, peak: Segment) -> bool:
    """Significantly lower, and by at least a quarter."""
    return standard_errors_apart(peak, part) < -3 and part.mean < CLEARLY * peak.mean


def lower_mean(values: Array) -> float:
    """The lower end of the mean of a stretch, as of a `Segment`."""
    return segment(values, 0, len(values)).low


def lower_share(shares: Array) -> float:
    """A 95% lower bound of the mean of shares; where all are alike, by the rule of three."""
    if not len(shares):
        return 0.0
    return float(shares.mean() - max(2 * shares.std() / np.sqrt(len(shares)), 3 / len(shares)))


def _split(
    rows: Array, smallest: int, rng: np.random.Generator, level: float, permutations: int
) -> int | None:
    if len(rows) < 2 * smallest or np.ptp(rows) == 0:
        return None
    orders = np.concatenate([rows[None], rng.permuted(np.tile(rows, (permutations, 1)), axis=1)])
    sums = np.cumsum(orders - rows.mean(), axis=1)[:, :-1]
    left = np.arange(1, len(rows))
    # The largest difference of two means in standard errors, up to a factor that all orders share.
    statistic = np.abs(sums) / np.sqrt(left * (len(rows) - left))
    statistic = statistic[:, smallest - 1 : len(rows) - smallest]
    largest = statistic.max(axis=1)
    if np.mean(largest >= largest[0] * (1 - 1e-12)) > level:
        return None
    return int(statistic[0].argmax()) + smallest


def halved(success: ArrayLike, width: int = 25) -> int | None:
    """First row at which the mean of the last ``width`` rows is below half of its largest value so
    far; ``None`` if at none.
    """
    success = np.asarray(success, dtype=float)
    if len(success) < width:
        return None
    sums = np.concatenate([[0.0], np.cumsum(success)])
    means = (sums[width:] - sums[:-width]) / width
    low = np.flatnonzero(means < np.maximum.accumulate(means) / 2 - 1e-12)
    return int(low[0]) + width - 1 if len(low) else None
