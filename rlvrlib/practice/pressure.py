r"""Threshold pressure: the effective step over the step-size threshold, relative to another point
of the same run.

Under the token-level theorems the longest guaranteed step is ``dmu g(J) / sigma^2`` with ``sigma^2
= T R^2 / 4`` (`thresholds.longest_guarantee`), and a method moves by ``eta m(J) norm(Gap)`` over
the divisor of its loss. The ratio is

    pressure = eta * T / divisor * m(J) / g(J) * unknown constant.

With Adam whose second moment has adapted a move is ``eta`` times a constant, whatever the gradient,
so that divisor and multiplier cancel:

    pressure = eta * T / g(J) * unknown constant, with the norm of the gap in the constant.

The constant (range of the token scores, alignment, scale of the gradient) cancels between two
points of one run as far as it stays the same, which nobody can see in a log. So only ratios are
given, never an absolute number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlvrlib import Array, method_named, multiplier, thresholds
from rlvrlib.checks import inside, one_of
from rlvrlib.practice.run_log import RunLog

# What the loss divides the sum over tokens by. The length cap is constant in a run; the mean length
# is not.
AGGREGATIONS = ("sum", "cap", "mean")
# Whether the moves have a fixed length: those of Adam do, once its second moment has adapted.
OPTIMIZERS = {"adamw": True, "adam": True, "sgd": False, "gradient": False}
# rates are kept away from 0 and 1 by this much, or by half a response where their number is known
_EDGE = 1e-3


def aggregation_of(method: str, aggregation: str | None = None) -> str:
    """How the loss treats length: ``sum`` over tokens, divided by the ``cap``, or ``mean``; by
    default as the method does.
    """
    own = method_named(method, sampled=True).aggregation
    aggregation = aggregation or own
    one_of(AGGREGATIONS, aggregation=aggregation)
    return aggregation


def success_factor(success_rate: ArrayLike, method: str, group_size: int | None = None) -> Array:
    """``m(J) / g(J)``: how the step of a method compares with the longest guaranteed one as the
    success rate changes.
    """
    success = inside("(0, 1)", success_rate=success_rate)
    return multiplier(method, success, group_size) / thresholds.longest_guarantee(success)


@dataclass(frozen=True)
class Pressure:
    """Threshold pressure of one run in windows of rows, relative to the reference window.

    Attributes
    ----------
    windows : first and last row (exclusive) of each window, shape ``(windows, 2)``.
    reference : the window that the others are compared with.
    factors : natural logarithm of the factors ``rate``, ``length``, ``success rate``, shape
        ``(windows,)`` each.
    error : standard error of the total, from the scatter of the rows, reference included, shape
        ``(windows,)``.
    optimizer : the one of ``OPTIMIZERS`` whose moves were taken.
    notes : what was assumed.
    """

    windows: np.ndarray
    reference: int
    factors: Mapping[str, Array]
    error: Array
    optimizer: str
    notes: tuple[str, ...]

    @property
    def total(self) -> Array:
        """Logarithm of the relative pressure, which is the sum of the factors, shape
        ``(windows,)``.
        """
        return np.sum(list(self.factors.values()), axis=0)

    def record(self) -> dict[str, object]:
        """The pressure of the last window over that of the reference, with two standard errors."""
        total, error = float(self.total[-1]), 2 * float(self.error[-1])
        return {
            "optimizer": self.optimizer,
            "at_end": float(np.exp(total)),
            "interval": [float(np.exp(total - error)), float(np.exp(total + error))],
            "factors": {name: float(np.exp(value[-1])) for name, value in self.factors.items()},
        }


def threshold_pressure(
    log: RunLog,
    rows: ArrayLike,
    success_rate: ArrayLike,
    method: str | None = None,
    *,
    aggregation: str | None = None,
    group_size: int | None = None,
    reference: tuple[float, float] | None = None,
    optimizer: str | None = None,
) -> Pressure:
    """Pressure of a run in about twenty windows.

    Parameters
    ----------
    log : the run.
    rows : the rows of the log that have a success rate, shape ``(n,)``.
    success_rate : of these rows, shape ``(n,)``.
    method, aggregation, group_size : see `methods.multiplier` and `aggregation_of`; GRPO is
        assumed, and said, where omitted. They do not matter for Adam.
    reference : first and last step of the reference; by default the first window whose success rate
        is within two standard errors of the best one.
    optimizer : one of ``OPTIMIZERS``: moves of a fixed length at a given rate, or in proportion to
        the gradient; AdamW is assumed, and said, where omitted.
    """
    rows, success = np.asarray(rows), np.asarray(success_rate, dtype=float)
    notes = _assumed(method, optimizer)
    method, optimizer = method or "grpo", optimizer or "adamw"
    one_of(tuple(OPTIMIZERS), optimizer=optimizer)
    fixed = OPTIMIZERS[optimizer]
    aggregation = aggregation_of(method, aggregation)
    width = max(10, len(rows) // 20)
    edges = np.arange(0, max(len(rows) - width, 0) + 1, width)
    windows = np.stack([edges, np.append(edges[1:], len(rows))], axis=-1)
    parts = [slice(start, stop) for start, stop in windows]
    level = np.array([success[part].mean() for part in parts])
    scatter = np.array([success[part].std() / np.sqrt(part.stop - part.start) for part in parts])
    if reference is None:
        best = int(np.argmax(level - scatter))
        chosen = int(np.argmax(level + 2 * scatter >= level[best]))
    else:
        steps = log.step[rows]
        shares = [
            np.mean((steps[part] >= reference[0]) & (steps[part] <= reference[1])) for part in parts
        ]
        if not max(shares) > 0:
            raise ValueError(
                f"reference must hold steps of the log ({steps[0]:g} to {steps[-1]:g}), "
                f"got {reference!r}"
            )
        chosen = int(np.argmax(shares))
    edge = _EDGE

    def log_factor(rate: Array) -> Array:
        """Of the success rate."""
        if fixed:
            return -np.log(thresholds.longest_guarantee(rate))
        return np.log(success_factor(rate, method, group_size))

    clipped = np.clip(level, edge, 1 - edge)
    log_success = log_factor(clipped)
    three = np.stack([clipped - edge / 2, clipped, clipped + edge / 2])
    slope = np.gradient(log_factor(three), edge / 2, axis=0)[1]
    rate, rate_note = _window_means(
        log["rate"][rows], parts, "learning rate", "it is taken as constant"
    )
    length, length_note = _window_means(
        log["length"][rows], parts, "response length", "its factor is left out"
    )
    notes += rate_note + length_note
    power = 0.0 if not fixed and aggregation == "mean" else 1.0
    if not power and not length_note:
        notes.append(
            "the loss is taken to divide by the length, so that the length does not count; "
            "if it sums over tokens, use aggregation 'sum'"
        )
    log_rate, log_length = np.log(rate), power * np.log(length)
    # Each row's share in the logarithm of the total, so that the correlation of success and length
    # is in the error.
    full_length = np.where(np.isfinite(log["length"][rows]), log["length"][rows], np.nan)
    variance = []
    for index, part in enumerate(parts):
        share = slope[index] * (success[part] - level[index])
        if power and not length_note:
            share = share + power * np.nan_to_num(full_length[part] / length[index] - 1)
        variance.append(share.var() / (part.stop - part.start))
    error = np.sqrt(
        np.array(variance) + np.where(np.arange(len(parts)) == chosen, 0, variance[chosen])
    )
    factors = {
        "rate": log_rate,
        "length": log_length,
        "success rate": log_success,
    }
    factors = {name: value - value[chosen] for name, value in factors.items()}
    error[chosen] = 0.0
    return Pressure(windows, chosen, factors, error, optimizer, tuple(notes))


def _assumed(method: str | None, optimizer: str | None) -> list[str]:
    if optimizer is None:
        return [
            "optimizer not given: the pressure assumes AdamW, as nearly all such runs use it: "
            "moves of a fixed length at a given rate, and the norm of the gap taken as the same; "
            "--optimizer sgd for plain gradient steps"
        ]
    gradient = not OPTIMIZERS.get(optimizer, True)
    return ["method not given: GRPO assumed"] if gradient and not method else []


def logistic_law(
    log: RunLog,
    rows: ArrayLike,
    success_rate: ArrayLike,
    method: str,
    *,
    aggregation: str | None = None,
) -> Array:
    """Gain in log-odds that the gradient norms predict, ``sum eta norm^2 T^a / m(J)``, shape
    ``(n,)``, from 0.

    The logistic law (the two-sided bound for small steps) says ``dl = eta m norm(Gap)^2``, and a
    gradient norm is ``m norm(Gap)`` (over ``T`` where the loss divides by the length: ``a = 1``).
    It holds for plain gradient steps without clipping, momentum or Adam, for one prompt or many
    that are alike. The noise of sampled gradients counts as gradient: with few samples the sum
    is too large.

    Raises
    ------
    ValueError : the log lacks a rate, gradient norms or (where it matters) lengths.
    """
    rows, success = (
        np.asarray(rows),
        np.clip(np.asarray(success_rate, dtype=float), _EDGE, 1 - _EDGE),
    )
    rate, norm = log["rate"][rows], log["gradient_norm"][rows]
    length = (
        log["length"][rows] if aggregation_of(method, aggregation) == "mean" else np.ones(len(rows))
    )
    gain = rate * norm**2 * length / multiplier(method, success)
    if not np.isfinite(gain).all():
        raise ValueError(
            "log must have the learning rate, gradient norm and length in every row for the "
            "logistic law"
        )
    return np.concatenate([[0.0], np.cumsum(gain)[:-1]])


def _window_means(
    values: Array, parts: list[slice], what: str, otherwise: str
) -> tuple[Array, list[str]]:
    """Means over the windows; ones and a note where a window has no positive value."""
    means = np.array(
        [np.nanmean(values[part]) if np.isfinite(values[part]).any() else np.nan for part in parts]
    )
    if np.all(means > 0):
        return means, []
    known = np.flatnonzero(means > 0)
    if len(known) < len(parts) / 2:
        return np.ones(len(parts)), [f"no {what} in the log: {otherwise}"]
    filled = np.interp(np.arange(len(parts)), known, means[known])
    return filled, [
        f"the {what} is missing or 0 in some windows and was filled from its neighbours"
    ]
