r"""Has the mean of a series fallen? A scan of drawdowns, row by row.

The null is that the mean does not fall: a non-decreasing mean with weakly dependent noise, whose
variance may change as the mean does. Only the reward is looked at, so no other quantity can cause a
warning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlvrlib import Array

EARLIER = 20  # rows that must come before a fall
WARNED, FELL = -1.5, 3.5  # levels of `boundary`, calibrated by simulation: measurements/falls.py
_RECENT = 200  # rows whose differences from the 20 before each say how far a row may count, and
# what its variance is at least
_BLOCK = 1000  # rows that are scanned at once
_LAG = 1.2  # what is estimated leaves out the newest sixth of the rows: a fall is no noise
_STRETCH = 40  # rows of a stretch with a level and a rise of its own
_BEGINNING = 5  # rows that are left out where others are enough: runs often rise at first. How far
# noise hangs together is looked for only after the median of the rows has been reached
_DOUBT = 3.0  # standard errors that are added to an autocorrelation, in proportion to it
_FEW = 3.0  # weight of the uncertainty of the correlation time
_QUARTILE = 0.6745  # of the normal distribution
_ALIKE = 1e-9  # rows that differ by less count as equal
# Running sums: of rows, of their differences from the mean of the 20 before and the sizes of
# these, and of what rows count as.
_RAW, _AWAY, _FAR, _COUNTED = range(4)


@dataclass(frozen=True)
class Fall:
    """A fall of the mean that the rows up to ``row`` establish.

    Attributes
    ----------
    row : the row at which the boundary was crossed.
    start : the first of the later rows ``start ... row``; the fall began about here.
    earlier : number of rows before ``start`` that they are compared with.
    before, after : the two means, in the unit of the values.
    statistic, boundary : the difference in standard errors, and what it had to exceed.
    """

    row: int
    start: int
    earlier: int
    before: float
    after: float
    statistic: float
    boundary: float


class Drawdown:
    r"""The state of the scan after each row, for one series or several side by side.

    At every row the mean of the last ``w`` rows is compared with that of the ``u >= w`` rows before
    them, for geometric ``w`` and ``u``,

    .. math:: z = (\bar x_u - \bar x_w) / \sqrt{V\,(1/u + 1/w)} ,

    with the long-run variance ``V`` of the rows before the fall. ``z`` is reduced for a skewed
    distribution and for few rows, and must exceed `boundary`. A row counts at most about as far
    below the 20 before it as the lowest of 400 normal rows would lie. How often a series whose mean
    does not fall ever crosses is measured (diagnose_a_run).

    Parameters
    ----------
    runs : number of series.

    Attributes
    ----------
    rows : number of rows so far.
    falls : by level, the first crossing in each series; None where there is none.
    together : over how many rows the noise of each series hangs together, 1 for independent rows.
    """

    def __init__(self, runs: int = 1):
        self.rows, self.together = 0, np.ones(runs)
        self.falls: dict[float, list[Fall | None]] = {
            level: [None] * runs for level in (WARNED, FELL)
        }
        self._values, self._sums = np.zeros((0, runs)), np.zeros((4, 3, 1, runs))
        self._origin = np.zeros(runs)
        self._drops, self._known, self._next = np.zeros((0, runs)), 0, EARLIER

    @property
    def warning(self) -> Fall | None:
        """The first crossing of the boundary of 5%, in the first series."""
        return self.falls[WARNED][0]

    @property
    def fell(self) -> Fall | None:
        """The first crossing of the boundary of 1%, in the first series."""
        return self.falls[FELL][0]

    def update(self, value: float) -> None:
        """One row of a single series."""
        self.extend([value])

    def extend(self, values: ArrayLike) -> Drawdown:
        """More rows, shape ``(n,)`` or ``(n, runs)``; the same as one at a time, to the last bit.

        Raises
        ------
        ValueError : values that are not finite.
        """
        rows = np.asarray(values, dtype=float)
        rows = rows.reshape(len(rows), len(self.together))
        if not np.all(np.isfinite(rows)):
            raise ValueError(f"values must be finite, got {rows[~np.isfinite(rows)][0]}")
        while len(rows):
            if self.rows == self._next:
                self._estimate()
            count = min(len(rows), self._next - self.rows, _BLOCK)
            self._append(rows[:count])
            rows = rows[count:]
        return self

    def _append(self, rows: Array) -> None:
        old, new = self.rows, self.rows + len(rows)
        if new > len(self._values):
            more = np.zeros((max(new, 1024), rows.shape[1]))
            self._values = np.concatenate([self._values, more])
            self._sums = np.concatenate([self._sums, np.tile(more, (4, 3, 1, 1))], axis=2)
        if not old:
            self._origin = rows[0].copy()
        self._values[old:new], self.rows = rows, new
        rows = rows - self._origin
        self._add(_RAW, old, rows)
        stop = np.arange(old, new)
        mean = self._mean(_RAW, stop, EARLIER)
        self._add(_AWAY, old, rows - mean)
        self._add(_FAR, old, np.abs(rows - mean))
        spread = self._mean(_FAR, stop, _RECENT) * np.sqrt(np.pi / 2)
        count = np.clip(stop, 1, _RECENT)[:, None]
        lowest = mean - np.sqrt(2 * np.log(2 * count)) * spread
        known = (count >= EARLIER) & (spread > _ALIKE * np.abs(mean - rows))
        self._add(_COUNTED, old, np.where(known, np.maximum(rows, lowest), rows))
        if new > EARLIER:
            self._scan(np.arange(max(old, EARLIER) + 1, new + 1))

    def _add(self, which: int, old: int, rows: Array) -> None:
        """Goes on with the running sums of the first three powers, row after row."""
        for power, sums in enumerate(self._sums[which], 1):
            added = np.add.accumulate(np.concatenate([sums[old : old + 1], rows**power]))
            sums[old : old + len(added)] = added

    def _mean(self, which: int, stop: np.ndarray, rows: int) -> Array:
        """Mean of up to ``rows`` rows before each row."""
        start = np.maximum(stop - rows, 0)
        sums = self._sums[which, 0]
        return (sums[stop] - sums[start]) / np.maximum(stop - start, 1)[:, None]

    def _estimate(self) -> None:
        """What is estimated anew whenever the rows have grown by a tenth."""
        self._next = max(self.rows + 1, int(1.1 * self.rows))
        self._known = max(EARLIER, int(self.rows / _LAG))
        past = np.diff(self._sums[_COUNTED, 0, : self._known + 1], axis=0)
        begun = min(max(self._known - _STRETCH, 0), _BEGINNING)
        self._drops = usual_drops(past[begun:])
        reached = np.argmax(past >= np.median(past, axis=0), axis=0)
        starts = np.clip(reached, begun, max(self._known - _STRETCH, begun))
        for start in np.unique(starts):
            self.together[starts == start] = correlation_time(past[start:, starts == start])

    def _scan(self, stops: np.ndarray) -> None:
        later, earlier = _windows(int(stops[-1]))
        later, earlier = later[:, None], earlier[:, None]
        fits = (later + earlier <= stops) & (earlier >= np.minimum(4 * EARLIER, stops / 5))
        middle, first = (np.where(fits, stops - rows, 1) for rows in (later, later + earlier))
        first = np.minimum(first, middle - 1)
        recent = np.maximum(middle - _RECENT, 0)
        w, u = later[..., None], earlier[..., None]
        away, counted = self._sums[_AWAY], self._sums[_COUNTED]
        mean, before = _moments(counted, first, middle)
        level, after = _moments(counted, middle, np.broadcast_to(stops, middle.shape))
        nearby = _moments(away, recent, middle)[1]
        fall = mean - level
        alike = np.maximum(before, nearby) <= _ALIKE * fall**2
        spread = np.maximum((u * before + w * after) / (u + w), nearby)
        spread = np.where(alike, np.maximum(spread, fall**2 / u), spread)
        variance = spread * u / np.maximum(u - self.together, u / 2)
        long_run = self.together * variance
        if len(self._drops):
            scale = np.minimum(np.log2(later[:, 0]).astype(int), len(self._drops)) - 1
            long_run = np.maximum(long_run, self._drops[scale][:, None])
        shown = fits[..., None] & (fall > 0)
        square = np.where(shown, fall**2 / np.where(shown, long_run * (1 / u + 1 / w), 1), 0)
        # Both corrections lower the statistic, so few pairs of windows need them.
        pair, row, run = np.nonzero(square > boundary(stops, WARNED)[:, None] ** 2)
        if not len(pair):
            return
        alike = alike[pair, row, run]
        square, variance, long_run, fall = (
            part[pair, row, run] for part in (square, variance, long_run, fall)
        )
        w, u, stop = later[pair, 0], earlier[pair, 0], stops[row]
        third = np.minimum(
            _third_moment(counted, stop - w - u, stop - w, run),
            _third_moment(away, np.maximum(stop - w - _RECENT, 0), stop - w, run),
        )
        third = np.where(alike, -(fall**3) / u, third)
        hang = long_run / variance
        skewness = np.maximum(-third, 0) / variance**1.5 * np.sqrt(hang * (1 / u + 1 / w))
        tau = self.together[run]
        freedom = 1 / (
            1 / np.maximum(u / hang - 1, 0.5) + _FEW * (tau - 1) ** 2 / (2 * tau * self._known)
        )
        statistic = few_rows(without_skew(np.sqrt(square), skewness), freedom)
        self._record(statistic, stop, w, u, run)

    def _record(
        self, statistic: Array, stop: np.ndarray, w: np.ndarray, u: np.ndarray, run: np.ndarray
    ) -> None:
        for level, falls in self.falls.items():
            bound = boundary(stop, level)
            over = np.flatnonzero(statistic > bound)
            for k in over[np.lexsort((bound[over] - statistic[over], stop[over]))]:
                if falls[run[k]] is None:
                    values, start = self._values[:, run[k]], int(stop[k] - w[k])
                    falls[run[k]] = Fall(
                        int(stop[k]) - 1,
                        start,
                        int(u[k]),
                        float(values[start - u[k] : start].mean()),
                        float(values[start : stop[k]].mean()),
                        float(statistic[k]),
                        float(bound[k]),
                    )


def boundary(rows: ArrayLike, level: float) -> Array:
    r"""What the statistic must exceed after ``rows`` rows:
    :math:`\sqrt{2\log n + 4\log\log n + c}` with ``c`` the ``level``.

    For a normal statistic the chance of a crossing at row ``n`` is then of the order of
    :math:`1/(n\log^2 n)`, whose sum over all rows is finite: one boundary serves runs of any
    length.
    """
    log = np.log(rows)
    return np.asarray(np.sqrt(2 * log + 4 * np.log(log) + level))


def without_skew(z: Array, skewness: Array) -> Array:
    r"""A normal statistic with the tail of a gamma distribution: the root of
    :math:`(8/g^2)(y - \log(1 + y))` with :math:`y = zg/2`, for a mean with skewness ``-g``.

    The exponent is the large-deviation rate of a gamma distribution with this skewness.
    """
    y = np.maximum(z * skewness / 2, 1e-4)
    return np.asarray(z * np.sqrt(2 * (y - np.log1p(y))) / y)


def few_rows(t: Array, freedom: Array) -> Array:
    """The normal statistic with the tail of Student's ``t`` (Wallace 1959)."""
    scale = (8 * freedom + 1) / (8 * freedom + 3)
    return np.asarray(scale * np.sqrt(freedom * np.log1p(t**2 / freedom)))


def correlation_time(values: Array) -> Array:
    """Over how many rows the noise of each column hangs together: long-run variance over variance.

    From the autocorrelations within stretches of 40 rows, each with a level and a rise of its own,
    corrected for what these take away: the larger of that of an autoregression of order one and of
    the sum of the first autocorrelations that are clear of their noise. Where rows hang together it
    is rather too large than too small.
    """
    rows, runs = values.shape
    length = rows // max(1, round(rows / _STRETCH))
    parts = values[rows % length :].reshape(-1, length, runs)
    noise = parts - parts.mean(axis=1, keepdims=True)
    place = np.arange(length) - (length - 1) / 2
    rise = np.maximum(np.einsum("i,kir->kr", place, noise) / (place @ place), 0)
    noise = noise - place[:, None] * rise[:, None]
    spectrum = np.abs(np.fft.rfft(noise, 2 * length, axis=1)) ** 2
    products = np.fft.irfft(spectrum, axis=1)[:, : length // 4 + 1].sum(axis=0)
    largest = np.abs(values).max(axis=0)
    varies = products[0] > 1e-12 * rows * largest**2
    seen = np.where(varies, products[1:] / np.where(varies, products[0], 1), 0)
    time = np.ones(runs)
    for _ in range(3):
        true = seen + varies * (1 - seen) * np.minimum(2 * time / length, 0.5)
        first = np.clip(true[0] * (1 + _DOUBT / np.sqrt(rows)), 0, 0.97)
        clear = np.logical_and.accumulate(true > 1 / np.sqrt(rows), axis=0)
        time = np.maximum((1 + first) / (1 - first), 1 + 2 * np.sum(true * clear, axis=0))
    return np.asarray(time)

def usual_drops(values: Array) -> Array:
    """The long-run variance that the drops between neighbouring blocks of 2, 4, 8, ... rows show,
    shape ``(scales, runs)``: from their upper quartile, which a single fall does not move, less the
    uncertainty of a variance from so few blocks.

    It sees what an autocorrelation within 40 rows does not: slow drift, seasons, epochs.
    """
    rows, runs = values.shape
    sums = np.concatenate([np.zeros((1, runs)), np.cumsum(values, axis=0)])
    scales, size = [], 2
    while 16 * size <= rows:
        means = (sums[size:] - sums[:-size]) / size
        drop = np.quantile(means[:-size] - means[size:], 0.75, axis=0) / _QUARTILE
        scales.append(size / 2 * np.maximum(drop, 0) ** 2 * (1 - np.sqrt(size / rows)))
        size *= 2
    return np.array(scales).reshape(-1, runs)


def _moments(sums: Array, start: np.ndarray, stop: np.ndarray) -> tuple[Array, Array]:
    """Mean and variance of the rows ``start ... stop - 1`` of every series."""
    count = np.maximum(stop - start, 1)[..., None]
    mean, square = ((power[stop] - power[start]) / count for power in sums[:2])
    return mean, np.maximum(square - mean**2, 0)


def _third_moment(sums: Array, start: np.ndarray, stop: np.ndarray, run: np.ndarray) -> Array:
    """Third central moment of the rows ``start ... stop - 1`` of the series ``run``."""
    mean, square, cube = (
        (power[stop, run] - power[start, run]) / (stop - start) for power in sums
    )
    return np.asarray(cube - 3 * mean * square + 2 * mean**3)


def _windows(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of later and earlier rows: 2, 3, 4, 6, 8, 12, ... and 20, 40, 80, ..."""
    later = np.array([size << k for k in range(rows.bit_length()) for size in (2, 3)])
    earlier = EARLIER << np.arange(rows.bit_length())
    w, u = (grid.ravel() for grid in np.meshgrid(later, earlier, indexing="ij"))
    fits = (w <= u) & (w + u <= rows)
    return w[fits], u[fits]
