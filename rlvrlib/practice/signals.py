"""What a diagnosis looks at: success rate, groups without spread, truncated responses, each with
where it was taken from.

Logs do not say whether their reward is a success rate. The rules are here, and each choice is put
into words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from rlvrlib import Array
from rlvrlib.practice.run_log import RunLog

# Names of reward functions that check the answer, as opposed to its format or length.
_CHECKS_ANSWER = re.compile(r"acc|correct|exact|match|solve|pass|verif|answer", re.IGNORECASE)


@dataclass(frozen=True)
class Signals:
    """The rows of a log that have a reward.

    Attributes
    ----------
    rows : their places in the log, shape ``(n,)``.
    success : success rate, or the reward scaled to [0, 1] where it is none, shape ``(n,)``.
    is_rate : whether ``success`` is a success rate.
    source : where it was taken from, in words.
    reward_range : the values that 0 and 1 of ``success`` stand for.
    idle : share of the groups without spread, which move nothing, shape ``(n,)``; NaN where
        unknown.
    idle_source, truncated_source : where they were taken from; empty where unknown.
    truncated : share of the responses that were cut at the cap, shape ``(n,)``; NaN where unknown.
    notes : doubts, in words.
    """

    rows: np.ndarray
    success: Array
    is_rate: bool
    source: str
    reward_range: tuple[float, float]
    idle: Array
    idle_source: str
    truncated: Array
    truncated_source: str
    notes: tuple[str, ...]


def read_signals(
    log: RunLog, success: str | None = None, reward_range: tuple[float, float] | None = None
) -> Signals:
    """Success rate and signal of a run.

    Parameters
    ----------
    success : the part of the reward (a name of ``log.components``) that is the success rate;
        otherwise the reward itself if it stays in [0, 1], or the only part whose name says that it
        checks the answer.
    reward_range : rewards of a wrong and of a correct response where they are not 0 and 1, such as
        ``(-1, 1)``.

    Raises
    ------
    ValueError : an unknown part, a range that is not increasing, or values outside the range that
        was given.
    """
    values, source, notes = _reward(log, success)
    whole = values is log["reward"]  # not a part of it
    rows = np.flatnonzero(np.isfinite(values))
    values = values[rows]
    if reward_range is not None:
        low, high = map(float, reward_range)
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ValueError(f"reward_range must be two increasing numbers, got {reward_range!r}")
        if len(values) and (values.min() < low - 1e-9 or values.max() > high + 1e-9):
            raise ValueError(
                f"reward_range must hold all rewards ({values.min():g} to {values.max():g}), "
                f"got {reward_range!r}"
            )
        is_rate = True
    else:
        low, high = 0.0, 1.0
        seen = np.append(values, log["reward_min"][rows] if whole else [])
        seen = np.append(seen, log["reward_max"][rows] if whole else [])
        seen = seen[np.isfinite(seen)]
        is_rate = not len(seen) or bool(seen.min() >= -1e-9 and seen.max() <= 1 + 1e-9)
        if not is_rate:
            low, high = min(0.0, float(seen.min())), max(1.0, float(seen.max()))
            notes.append(
                f"{source} runs from {seen.min():g} to {seen.max():g}: it is not a success "
                "rate. Its course is judged, scaled to [0, 1]; statements about the success rate "
                "are not made. Name the part that checks the answer, or the rewards of a wrong and "
                "a correct response"
            )
    scaled = np.clip((values - low) / (high - low), 0, 1)
    idle, idle_source = _idle(log, rows, scaled, is_rate)
    truncated, truncated_source = _truncated(log, rows)
    return Signals(
        rows,
        scaled,
        is_rate,
        source,
        (low, high),
        idle,
        idle_source,
        truncated,
        truncated_source,
        tuple(notes),
    )


def _reward(log: RunLog, success: str | None) -> tuple[Array, str, list[str]]:
    if success is not None:
        if success not in log.components:
            known = ", ".join(log.components) or "none"
            raise ValueError(
                f"success must name a part of the reward, got {success!r}; the log has {known}"
            )
        return log.components[success], f"the part {success!r} of the reward", []
    reward, name = log["reward"], f"the reward ({log.names.get('reward', 'absent')})"
    checks = [part for part in log.components if _CHECKS_ANSWER.search(part)]
    if len(log.components) > 1 and len(checks) == 1:
        part = log.components[checks[0]]
        finite = part[np.isfinite(part)]
        if len(finite) and finite.min() >= 0 and finite.max() <= 1:
            others = ", ".join(repr(other[:40]) for other in log.components if other != checks[0])
            return (
                part,
                f"the part {checks[0][:40]!r} of the reward",
                [f"the reward has other parts too ({others})"],
            )
    if len(log.components) > 1 and not checks:
        return (
            reward,
            name,
            ["the reward is a sum of several parts, none of which names a check of the answer"],
        )
    return reward, name, []


def _idle(log: RunLog, rows: np.ndarray, success: Array, is_rate: bool) -> tuple[Array, str]:
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
    if is_rate and len(success):
        at_least = ((success == 0) | (success == 1)).astype(float)
        if (
            at_least.all() and np.ptp(success) > 0
        ):  # only 0 and only 1, in turn: steps of one response look like this
            return np.full(len(rows), np.nan), ""
        at_least = np.where(norm == 0, 1.0, at_least)
        return (
            at_least,
            "steps whose rewards are all 0 or all 1 (with several groups in a step this is only a "
            "lower bound)",
        )
    return np.full(len(rows), np.nan), ""


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
        if (
            np.sum(length == longest) >= 3
        ):  # a mean that is exactly the largest, several times: every response was cut
            at_least = np.where(np.isfinite(length), (length == longest).astype(float), np.nan)
            return (
                at_least,
                f"steps whose mean length is exactly {longest:g}, the largest in the log (only a "
                "lower bound)",
            )
    return np.full(len(rows), np.nan), ""
