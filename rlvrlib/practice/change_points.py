r"""When did a run change? Segments of constant level, found after the run, and a warning that uses
only what came before.

Both ask for evidence as a likelihood ratio or a permutation level, so that a threshold is a
probability and not a taste.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy

from rlvrlib import Array

MIN_ROWS = 20  # a reference needs that many rows
_SHORTEST = 5  # rows of a segment
_MAX_BLOCKS = 400
_CLIP = 2.0  # the most a single row of a driver may say, in nats: robust against single wild rows
_MOST = 5.0  # the most a single row may say about the success rate
_SILENT = 0.9  # share of the rows without any success that a lost run is expected to have
_FLOOR = 1e-3  # the least variance of a row: a level is never known better than to 0.03 per row


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
    return standard_errors_apart(peak, part) < -3 and part.mean < 0.75 * peak.mean


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


def reached_level(success: ArrayLike) -> Array:
    """What level the rows *before* each row have shown, shape ``(n,)``: a lower confidence bound,
    ``-inf`` at the start.

    The largest of ``mean - 2 standard errors`` over all windows of 20, 40, 80, ... earlier rows. A
    long stretch counts for more than a lucky short one.
    """
    success = np.asarray(success, dtype=float)
    count = len(success)
    sums, squares = (np.concatenate([[0.0], np.cumsum(power)]) for power in (success, success**2))
    best, width = np.full(count + 1, -np.inf), MIN_ROWS
    while width <= count:
        mean = (sums[width:] - sums[:-width]) / width
        variance = (
            np.maximum((squares[width:] - squares[:-width]) / width - mean**2, 0)
            * width
            / (width - 1)
        )
        # The second term is the error of a mean of rows that happen to be all alike.
        best[width:] = np.maximum(
            best[width:], mean - 2 * np.sqrt(variance / width + 0.25 / width**2)
        )
        width *= 2
    return np.maximum.accumulate(best)[:-1]


def driver_evidence(scale: ArrayLike, factor: float) -> Array:
    """Log likelihood ratio of each row for "grown by ``factor``" against "as in the first half of
    what came before".

    For a positive quantity that rises when a run leaves its safe range (length, gradient norm,
    entropy, size of the loss). The reference is the median and the median absolute deviation of its
    logarithm; a row says at most 2 nats; absent rows say 0.
    """
    scale = np.asarray(scale, dtype=float)
    logs = np.log(np.where(scale > 0, scale, np.nan))
    evidence, now, shift = np.zeros(len(logs)), MIN_ROWS, np.log(factor)
    while now < len(logs):
        after = max(now + 1, int(1.1 * now))
        earlier = logs[now // 8 : max(now // 2, MIN_ROWS)]
        earlier = earlier[np.isfinite(earlier)]
        if len(earlier) >= MIN_ROWS // 2:
            centre = np.median(earlier)
            spread = max(1.4826 * float(np.median(np.abs(earlier - centre))), 0.1)
            ratio = shift / spread**2 * (logs[now:after] - centre - shift / 2)
            evidence[now:after] = np.nan_to_num(np.clip(ratio, -_CLIP, _CLIP))
        now = after
    return evidence


def first_warning(
    success: ArrayLike, drivers: Sequence[ArrayLike] = (), *, alpha: float = 0.05
) -> int | None:
    """First row at which a fall of the success rate is established, from the rows up to it;
    ``None`` if at none.

    The statistic is Page's: the largest sum, over starts ``s``, of the log likelihood ratios of the
    rows from ``s`` on, "the level has halved" against "it is what the run had reached". It must
    exceed ``log(s (s + 1) / alpha)``. It is computed alone, with the mean evidence of the drivers
    where there are any, because a run may fall without them. For a known level, known normal noise
    and independent rows a stable run then ever gives a warning with probability at most ``alpha``,
    at any length: by Ville's inequality at most ``alpha / (s (s + 1))`` for each start, and these
    sum to ``alpha``. A row says at most 5 nats, which keeps the inequality and keeps single wild
    rows from deciding. Level and noise are estimated here, rates are not normal, and drivers follow
    success: so this is a guide, and how often it errs is measured (diagnose_a_run). A run may fall
    before any level is known: `silence_evidence` is a further witness. Each witness has the same
    part of ``alpha``.

    Parameters
    ----------
    success : shape ``(n,)``, in [0, 1].
    drivers : `driver_evidence` of each quantity, shape ``(n,)`` each.
    alpha : in (0, 1).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha!r}")
    success = np.asarray(success, dtype=float)
    if not np.all((success >= 0) & (success <= 1)):
        raise ValueError("success must hold rates between 0 and 1")
    count = np.maximum(np.arange(len(success)), 1)  # of the rows before
    mean = (np.cumsum(success) - success) / count
    variance = np.maximum((np.cumsum(success**2) - success**2) / count - mean**2, _FLOOR)
    level = reached_level(success)
    known = level > 0
    fall = np.where(known, level, 0) / 2
    evidence = np.where(known, np.minimum(fall / variance * (1.5 * fall - success), _MOST), -np.inf)
    accounts = [evidence]
    if drivers:
        accounts.append(evidence + np.mean(np.asarray(drivers, dtype=float), axis=0))
    part = alpha / (1 + len(accounts))
    silence = np.flatnonzero(silence_evidence(success) > np.log(1 / part))
    rows = [*silence[:1].tolist(), *(_page(account, part) for account in accounts)]
    return min((row for row in rows if row is not None), default=None)


def _page(evidence: Array, alpha: float) -> int | None:
    """First row at which the sum from some start on exceeds its bound."""
    total, start = 0.0, 1
    for row, value in enumerate(evidence.tolist()):
        total += value
        if total <= 0:
            total, start = 0.0, row + 2
        elif total > np.log(start * (start + 1) / alpha):
            return row
    return None


def silence_evidence(success: ArrayLike) -> Array:
    r"""Evidence that rows without a single right answer have become the rule, shape ``(n,)``.

    The logarithm of ``sum_s w_s Q(x_1 ... x_{s-1}) q(x_s) ... q(x_k) / max_p P_p(x_1 ... x_k)``
    with ``w_s = 1 / (s (s + 1))``. The rows ``x`` are silent or not; ``Q`` is the predictive
    distribution of Krichevsky and Trofimov, ``q`` says silent with probability 0.9, and ``P_p``
    says so with probability ``p`` in every row. If that is the truth for any ``p``, the evidence
    ever exceeds ``log(1 / alpha)`` with probability at most ``alpha``: the numerator is at most a
    mixture of distributions, and Ville's inequality holds.
    """
    silent = np.asarray(success, dtype=float) <= 0
    rows, so_far = np.arange(len(silent)), np.cumsum(silent)
    share = (so_far - silent + 0.5) / (rows + 1)
    as_before, lost = (np.log(np.where(silent, p, 1 - p)) for p in (share, _SILENT))
    starts = (
        np.cumsum(as_before)
        - as_before
        - (np.cumsum(lost) - lost)
        - np.log((rows + 1) * (rows + 2.0))
    )
    best = xlogy(so_far, so_far / (rows + 1)) + xlogy(rows + 1 - so_far, 1 - so_far / (rows + 1))
    return np.asarray(np.logaddexp.accumulate(starts) + np.cumsum(lost) - best)


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
