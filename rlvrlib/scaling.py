"""Power laws from measurements that may be censored: the exponent of a median, with its
uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlvrlib.checks import Array, inside, instance, positive, shown, whole_number


@dataclass(frozen=True)
class PowerLaw:
    """``median value ~ constant * size^exponent``.

    Attributes
    ----------
    exponent, constant : of the line through the medians, both axes logarithmic, by least squares.
    low, high : percentile interval of the exponent, from resampled rows.
    sizes, medians : the points that the line was fitted to.
    """

    exponent: float
    constant: float
    low: float
    high: float
    sizes: Array
    medians: Array


def median_exponent(
    sizes: ArrayLike,
    values: ArrayLike,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    num_resamples: int = 2000,
) -> PowerLaw:
    """Fit a power law to the medians over the rows.

    A value that was only found to lie beyond the end of the search is infinite (censored on the
    right). A median needs only its rank, so it is not biased as long as it is finite; sizes at
    which it is infinite are left out.

    Parameters
    ----------
    sizes : shape ``(sizes,)``, positive, all different.
    values : shape ``(rows, sizes)``, positive; infinite where censored. Rows (prompts, say) are
        resampled as wholes.
    rng : of the resamples.
    level : of the interval, in (0, 1).
    num_resamples : number of bootstrap resamples.

    Raises
    ------
    ValueError : shapes that do not fit, values that are not positive, or fewer than two finite
        medians.
    """
    sizes, values = positive(sizes=sizes), inside("(0, inf]", values=values)
    instance(np.random.Generator, rng=rng)
    whole_number(1, num_resamples=num_resamples)
    if (
        values.ndim != 2
        or sizes.shape != values.shape[1:]
        or len(np.unique(sizes)) < len(sizes)
    ):
        raise ValueError(
            "values must have one column for each of the different sizes, "
            f"got {values.shape} and {shown(sizes)}"
        )
    inside("(0, 1)", level=level)
    medians = np.median(values, axis=0)
    kept = np.isfinite(medians)
    if kept.sum() < 2:
        raise ValueError(
            f"values must have finite medians at two sizes or more, got {shown(medians)}"
        )
    exponent, constant = np.polyfit(np.log(sizes[kept]), np.log(medians[kept]), 1)
    rows = rng.integers(len(values), size=(num_resamples, len(values)))
    slopes = [
        _slope(sizes[kept], medians) for medians in np.median(values[rows][:, :, kept], axis=1)
    ]
    low, high = np.nanquantile(slopes, [(1 - level) / 2, (1 + level) / 2])
    return PowerLaw(
        float(exponent),
        float(np.exp(constant)),
        float(low),
        float(high),
        sizes[kept],
        medians[kept],
    )


def _slope(sizes: Array, medians: Array) -> float:
    """Least-squares slope over the finite medians of one resample; NaN where only one is left."""
    finite = np.isfinite(medians)
    x, y = np.log(sizes[finite]), np.log(medians[finite])
    return float(np.polyfit(x, y, 1)[0]) if len(x) > 1 else np.nan
