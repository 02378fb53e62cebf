"""What all thresholds share: which arguments are allowed, and products and quotients in which
nothing is undefined.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rlvrlib.problems import Array


def positive_part(alignment: ArrayLike) -> Array:
    return np.maximum(finite(alignment=alignment), 0.0)


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Array:
    """0 for a zero numerator, infinite for a zero denominator alone."""
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, float), np.asarray(denominator, float)
    )
    unlimited = np.where(numerator > 0, np.inf, 0.0)
    with np.errstate(over="ignore"):
        return np.divide(numerator, denominator, out=unlimited.copy(), where=denominator > 0)[()]


def product(bound: Array, factor: Array) -> Array:
    """Product in which a zero factor wins over an infinite one: no variance, no limit; no weight,
    no limit.
    """
    bound, factor = np.broadcast_arrays(bound, factor)
    return np.multiply(bound, factor, out=np.zeros(bound.shape), where=(bound > 0) & (factor > 0))


def finite(**named: ArrayLike) -> Array:
    ((name, values),) = named.items()
    array = np.asarray(values, dtype=float)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, got {values!r}")
    return array


def non_negative(**named: ArrayLike) -> Array:
    ((name, values),) = named.items()
    array = np.asarray(values, dtype=float)
    if not np.all(array >= 0):
        raise ValueError(f"{name} must be non-negative, got {values!r}")
    return array


def prompt_weights(weights: ArrayLike | None, num_prompts: int) -> Array:
    """Weights of a batch of prompts, scaled to sum to one; equal where omitted.

    Raises
    ------
    ValueError : a wrong number, a weight that is negative or not finite, or weights that are all
        zero.
    """
    if weights is None:
        return np.full(num_prompts, 1 / num_prompts)
    array = np.asarray(weights, dtype=float)
    if array.shape[-1:] != (num_prompts,):
        raise ValueError(
            f"weights must have {num_prompts} prompts along the last axis, got shape {array.shape}"
        )
    if not (np.all(np.isfinite(array) & (array >= 0)) and np.all(array.sum(axis=-1) > 0)):
        raise ValueError(f"weights must be non-negative, finite and not all zero, got {weights!r}")
    return array / array.sum(axis=-1, keepdims=True)
