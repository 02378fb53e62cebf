"""What a diagnosis looks at: the reward, groups without spread, truncated responses, each with
where it was taken from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlvrlib import Array
from rlvrlib.practice.rewards import Reward, read_reward
from rlvrlib.practice.run_log import RunLog


@dataclass(frozen=True)
class Signals:
    """The rows of a log that have a reward.

    Attributes
    ----------
    rows : their places in the log, shape ``(n,)``.
    reward : what the reward is, in the log's own units.
    success : the reward scaled by its range to [0, 1], which is the success rate where the reward
        is one, shape ``(n,)``.
    idle : share of the groups without spread, which move nothing, shape ``(n,)``; NaN where
        unknown.
    idle_source, truncated_source : where they were taken from; empty where unknown.
    truncated : share of the responses that were cut at the cap, shape ``(n,)``; NaN where unknown.
    """

    rows: np.ndarray
    reward: Reward
    success: Array
    idle: Array
    idle_source: str
    truncated: Array
    truncated_source: str

    @property
    def is_rate(self) -> bool:
        """Whether ``success`` may be used as a success rate."""
        return self.reward.is_rate

    def in_units(self, scaled: ArrayLike) -> Array:
        """Values of ``success`` in the log's own units, or as rates where they are called that."""
        rate = self.reward.noun == "success rate"
        low, high = (0.0, 1.0) if rate else (self.reward.low, self.reward.high)
        return np.asarray(low + np.asarray(scaled) * (high - low))

    def width(self, scaled: float) -> float:
        """A difference of two values of ``success`` in the units of `in_units`."""
        return float(self.in_units(scaled) - self.in_units(0.0))


def read_signals(
    log: RunLog, success: str | None = None, reward_range: tuple[float, float] | None = None
) -> Signals:
    """Reward, spread and truncation of a run.

    Parameters
    ----------
    success : the part of the reward (a name of ``log.components``) that is the success rate;
        otherwise the only part whose name says that it checks the answer, or the reward.
    reward_range : rewards of a wrong and of a correct response where they are not 0 and 1, such as
        ``(-1, 1)``.

    Raises
    ------
    ValueError : an unknown part, a range that is not increasing, or values outside the range that
        was given.
    """
    reward = read_reward(log, success, reward_range)
    rows = np.flatnonzero(np.isfinite(reward.values))
    scaled = np.clip((reward.values[rows] - reward.low) / (reward.high - reward.low), 0, 1)
    return Signals(
        rows, reward, scaled, *_idle(log, rows, scaled, reward), *_truncated(log, rows)
    )


def _idle(log: RunLog, rows: np.ndarray, success: Array, reward: Reward) -> tuple[Array, str]:
    """Share of groups without spread, from the most direct source."""
    share, spread, norm = (
        log["zero_spread"][rows],
        log["reward_std"][rows],
        log["gradient_norm"][rows],
    )
    if np.isfinite(share).any():
        return share, "share of groups without spread as logged"
    if np.isfinite(spread).any():
        return np.where(
            np.isfinite(spread), (spread == 0).astype(float), np.nan
        ), "steps whose reward has no spread"
    alike = log["reward_min"][rows] == log["reward_max"][rows]
    whole = np.array_equal(reward.values[rows], log["reward"][rows])  # and not a part of it
    ends = np.isin(success, (0, 1)) & whole & reward.is_rate
    if not (reward.is_rate and whole) and not log.has("reward_min"):
        return np.full(len(rows), np.nan), ""
    if ends.all() and len(rows) and np.ptp(success) > 0:
        return np.full(len(rows), np.nan), ""  # only 0 and only 1, in turn: single responses
    return (
        (alike | ends | (norm == 0)).astype(float),
        "steps whose rewards are all alike (with several groups in a step only a lower bound)",
    )


def idle_steps(log: RunLog) -> Array:
    """Whether a step moved nothing, for all rows that tell: no gradient, or no group with spread;
    1, 0 or NaN, shape ``(steps,)``.
    """
    norm, share = log["gradient_norm"], log["zero_spread"]
    told = np.isfinite(norm) | np.isfinite(share)
    return np.where(told, ((norm == 0) | (share == 1)).astype(float), np.nan)


def _truncated(log: RunLog, rows: np.ndarray) -> tuple[Array, str]:
    if log.has("truncated"):
        return log["truncated"][rows], "share of truncated responses as logged"
    length = log["length"][rows]
    if np.isfinite(length).any():
        longest = np.nanmax(length)
        # A mean that is exactly the largest, several times: every response was cut. A cap is whole.
        if np.sum(length == longest) >= 3 and float(longest).is_integer():
            at_least = np.where(np.isfinite(length), (length == longest).astype(float), np.nan)
            return (
                at_least,
                f"steps whose mean length is exactly {longest:g}, the largest in the log",
            )
    return np.full(len(rows), np.nan), ""
