"""Checks of arguments: a `ValueError` of one line names the argument, its value and what is
allowed.

Each check takes one argument under its own name, as in ``positive(eta=eta)``, and gives it back:
numbers as an array of floats.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.float64]


# Intervals that are said in words.
_WORDS = {
    "(-inf, inf)": "finite",
    "[-inf, inf]": "a number",
    "(0, inf)": "positive and finite",
    "(0, inf]": "positive",
    "[0, inf)": "non-negative and finite",
    "[0, inf]": "non-negative",
    "[1, inf)": "at least 1 and finite",
    "[1, inf]": "at least 1",
}


def inside(interval: str, **named: ArrayLike) -> Array:
    """Numbers in an interval such as ``"(0, 1)"`` or ``"[0, inf)"``."""
    name, given, values = _numbers(named)
    least, most = _ends(interval)
    what = _WORDS.get(interval) or f"in {interval}"
    return _allowed((values >= least) & (values <= most), name, what, given, values)


@cache
def _ends(interval: str) -> tuple[float, float]:
    """The least and the largest number of an interval: beside an open end, the next one."""
    low, high = map(float, interval[1:-1].split(","))
    least = low if interval[0] == "[" else np.nextafter(low, np.inf)
    return least, high if interval[-1] == "]" else np.nextafter(high, -np.inf)


def numbers(**named: ArrayLike) -> Array:
    """Real numbers, where NaN stands for one that is not known."""
    return _numbers(named)[2]


def finite(**named: ArrayLike) -> Array:
    """Finite numbers."""
    name, given, values = _numbers(named)
    return _allowed(np.isfinite(values), name, "finite", given, values)


def positive(**named: ArrayLike) -> Array:
    """Positive, finite numbers."""
    return inside("(0, inf)", **named)


def non_negative(**named: ArrayLike) -> Array:
    """Numbers from 0 on, infinity included."""
    return inside("[0, inf]", **named)


def whole(least: float, **named: Any) -> NDArray[np.int_]:
    """Whole numbers from ``least`` on."""
    name, given, values = _numbers(named)
    good = (values >= least) & (values == np.floor(values)) & np.isfinite(values)
    what = "whole" if least == -np.inf else f"at least {least} and whole"
    return _allowed(good, name, what, given, values).astype(int)


def number(interval: str, **named: Any) -> float:
    """One number in an interval."""
    return float(_one(inside(interval, **named), named))


def whole_number(least: float, **named: Any) -> int:
    """One whole number from ``least`` on."""
    return int(_one(whole(least, **named), named))


def zeros_and_ones(**named: ArrayLike) -> NDArray[np.bool_]:
    """An array of zeros and ones."""
    name, given, values = _numbers(named)
    good = ((values == 0) | (values == 1)) & (values.ndim > 0)
    return _allowed(good, name, "an array of zeros and ones", given, values).astype(bool)


def one_of(names: Iterable[str], **named: str) -> None:
    """One of a few names."""
    ((name, given),) = named.items()
    if not (isinstance(given, str) and given in names):
        raise ValueError(f"{name} must be one of {', '.join(names)}, got {shown(given)}")


def instance(kind: type[Any], **named: object) -> Any:
    """An object of this class."""
    ((name, given),) = named.items()
    if not isinstance(given, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {shown(given)}")
    return given


def last_axis(size: int, **named: ArrayLike) -> Array:
    """Numbers with a last axis of this size."""
    name, _, values = _numbers(named)
    if values.shape[-1:] != (size,):
        raise ValueError(f"{name} must have last axis {size}, got shape {values.shape}")
    return values


def prompt_weights(weights: ArrayLike | None, num_prompts: int) -> Array:
    """Weights of a batch of prompts, scaled to sum to one; equal where omitted.

    Raises
    ------
    ValueError : a wrong number, a weight that is negative or not finite, or weights that are all
        zero.
    """
    if weights is None:
        return np.full(num_prompts, 1 / num_prompts)
    values = last_axis(num_prompts, weights=weights)
    sums = values.sum(axis=-1, keepdims=True)
    good = np.all(np.isfinite(values) & (values >= 0)) & (sums > 0)
    _allowed(good, "weights", "non-negative, finite and not all zero", weights, values)
    return values / sums


def shown(value: object) -> str:
    """A value in one short line, for a message."""
    plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return " ".join(reprlib.repr(plain).split())


def _numbers(named: dict[str, Any]) -> tuple[str, Any, Array]:
    ((name, given),) = named.items()
    try:
        return name, given, np.asarray(given, dtype=float)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must hold real numbers, got {shown(given)}") from None


def _one(values: NDArray[Any], named: dict[str, Any]) -> Any:
    if values.ndim:
        ((name, given),) = named.items()
        raise ValueError(f"{name} must be one number, got {shown(given)}")
    return values


def _allowed(good: NDArray[np.bool_], name: str, what: str, given: object, values: Array) -> Array:
    if not good.all():
        raise ValueError(f"{name} must be {what}, got {shown(given)}")
    return values
