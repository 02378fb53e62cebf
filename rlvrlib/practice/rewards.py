"""What the reward of a log is: the column that is judged, its range, and whether it may be called
a success rate.

The range comes from the caller, from columns of the smallest and largest reward, from the parts of
the reward, or from the rewards seen, in this order. A mean that lies in [0, 1] is no success rate
by that alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from rlvrlib import Array
from rlvrlib.practice.records import printable, some
from rlvrlib.practice.run_log import RunLog

# Names of rewards that check the answer, and words of those that look at something else.
_CHECKS = re.compile(
    r"acc(?!um|el|es)|correct|exact|match|solve|pass|success|verif|answer|(?<![a-z])right",
    re.IGNORECASE,
)
_FORM = re.compile(r"format|xml|tag|length|style|lang|think|penalt|step|process", re.IGNORECASE)
_NARROW = 1e-9  # of the reward: a narrower range is a single number
_TIES = 3  # a largest or smallest mean seen so often is that of equal rewards


@dataclass(frozen=True)
class Reward:
    """The reward of a run, in the log's own units.

    Attributes
    ----------
    values : in every row of the log, NaN where it has none, shape ``(n,)``.
    low, high : the ends of its range; where only means are known, these and 0.
    is_rate : whether it may be used as a success rate, once scaled by its range.
    noun : what sentences call it: ``success rate`` only where something says that it is one.
    bounded : whether the ends of the range are known, and not those of the means seen.
    source, notes : where it was taken from, and doubts, in words.
    """

    values: Array
    low: float
    high: float
    is_rate: bool
    noun: str
    bounded: bool
    source: str
    notes: tuple[str, ...]


def checks_answer(name: str) -> bool:
    """Whether the name of a part of the reward says that it checks the answer."""
    return bool(_CHECKS.search(name)) and not _FORM.search(name)


def read_reward(
    log: RunLog, success: str | None = None, reward_range: tuple[float, float] | None = None
) -> Reward:
    """The reward that is judged; for the parameters and errors see `signals.read_signals`."""
    part = _part(log, success)
    values = log["reward"] if part is None else log.components[part]
    column = log.names.get("reward", "absent")
    source = f"the reward ({column})" if part is None else f"the part {part[:40]!r} of the reward"
    others = [name for name in log.components if name != part]
    said = [f"the reward has other parts too ({some(others, 4)})"] if part and others else []
    seen = values[np.isfinite(values)]
    if reward_range is not None:
        low, high = _given(reward_range, seen)
        return Reward(values, low, high, True, "success rate", True, source, tuple(said))
    checks = part is not None or checks_answer(column)
    if checks and (top := _top_of_a_check(seen)) is not None:
        if top != 1:
            said.append(
                f"{source} is taken to be 0 or {top:g}, the smallest and the largest mean seen; "
                "--reward-range says otherwise"
            )
        return Reward(values, 0.0, top, True, "success rate", True, source, tuple(said))
    if part is None and (ends := _logged_ends(log)) is not None:
        return _with_logged_ends(log, values, *ends, source, said)
    return _by_the_means(log, values, seen, source, said)


def _part(log: RunLog, success: str | None) -> str | None:
    """The part that is the success rate: as given, or the only one whose name says that it checks
    the answer, where it may be one.
    """
    if success is not None:
        if success not in log.components:
            raise ValueError(
                f"success must name a part of the reward, got {success!r}; the log has "
                f"{', '.join(log.components) or 'none'}"
            )
        return success
    checks = [name for name in log.components if checks_answer(name)]
    if len(checks) != 1:
        return None
    part = log.components[checks[0]]
    known = np.isfinite(part) & np.isfinite(log["reward"])
    enough = known.sum() >= 0.9 * np.isfinite(log["reward"]).sum()
    return checks[0] if enough and _top_of_a_check(part[known]) is not None else None


def _top_of_a_check(seen: Array) -> float | None:
    """The reward of a correct response, if that of a wrong one is 0: 1, or the largest mean where
    it and 0 were each seen several times; None where neither fits.
    """
    if not len(seen) or seen.min() < -1e-9:
        return None
    if seen.max() <= 1 + 1e-9:
        return 1.0
    ends = (np.sum(seen == seen.min()), np.sum(seen == seen.max()))
    return float(seen.max()) if seen.min() == 0 and min(ends) >= _TIES else None


def _given(reward_range: tuple[float, float], seen: Array) -> tuple[float, float]:
    low, high = map(float, reward_range)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"reward_range must be two increasing numbers, got {reward_range!r}")
    if len(seen) and (seen.min() < low - 1e-9 or seen.max() > high + 1e-9):
        raise ValueError(
            f"reward_range must hold all rewards ({seen.min():g} to {seen.max():g}), "
            f"got {reward_range!r}"
        )
    return low, high


def _logged_ends(log: RunLog) -> tuple[Array, Array] | None:
    """The smallest and largest reward of each row, where most rows have both."""
    least, most = log["reward_min"], log["reward_max"]
    there = np.isfinite(least) & np.isfinite(most)
    if there.sum() < 0.5 * np.isfinite(log["reward"]).sum() or not there.any():
        return None
    low, high = least[there].min(), most[there].max()
    return (least[there], most[there]) if high - low > _NARROW * max(1.0, abs(high)) else None


def _with_logged_ends(
    log: RunLog, values: Array, least: Array, most: Array, source: str, said: list[str]
) -> Reward:
    low, high = float(least.min()), float(most.max())
    two = bool(np.isin(np.concatenate([least, most]), (low, high)).all())
    is_rate = two and not _is_mixed(log)
    said.append(
        f"rewards run from {low:g} to {high:g} by the columns of the smallest and largest reward"
        + (
            "; if these are the only two values, the mean says how many responses are correct: "
            f"--reward-range {low:g} {high:g} says so"
            if is_rate
            else ": the mean is judged in its own units, and nothing is said of a success rate"
        )
    )
    return Reward(values, low, high, is_rate, "mean reward", True, source, tuple(said))


def _by_the_means(
    log: RunLog, values: Array, seen: Array, source: str, said: list[str]
) -> Reward:
    """Only the means are known."""
    unit = not len(seen) or bool(seen.min() >= -1e-9 and seen.max() <= 1 + 1e-9)
    mixed = _is_mixed(log)
    low, high = (0.0, 1.0) if unit else (min(0.0, seen.min()), max(0.0, seen.max()))
    checks = [name for name in log.components if checks_answer(name)]
    if mixed:
        levels = [
            f"{printable(name, 40)!r} {np.nanmean(log.components[name]):.2f}"
            for name in checks
            if np.isfinite(log.components[name]).any()
        ]
        said.append(
            "the reward has several parts, so its mean is no success rate; "
            + (
                f"parts that check an answer by their names, and their means: {', '.join(levels)}; "
                "--success NAME judges one"
                if levels
                else f"--success NAME judges one of them ({some(log.components, 8)})"
            )
        )
    elif unit:
        said.append(
            f"the means of {source} lie in [0, 1], which does not make them a success rate; where "
            "one is needed they are used as one. --reward-range 0 1 says that they are"
        )
    else:
        hint = " (-1 1, for example)" if seen.min() >= -1 and seen.max() <= 1 else ""
        said.append(
            f"the means of {source} run from {seen.min():g} to {seen.max():g}: they are judged in "
            "their own units, and nothing is said of a success rate. --reward-range gives the "
            f"rewards of a wrong and of a correct response{hint}, --success the part that checks "
            "the answer"
        )
    is_rate, ends = unit and not mixed, (float(low), float(high))
    return Reward(values, *ends, is_rate, "mean reward", False, source, tuple(said))


def _is_mixed(log: RunLog) -> bool:
    """Whether the reward is put together from parts, none of which is the whole."""
    parts = [part for part in log.components.values() if np.isfinite(part).any()]
    reward = log["reward"]
    return len(parts) > 1 and not any(
        np.allclose(part[there], reward[there], rtol=0, atol=1e-6)
        for part in parts
        if (there := np.isfinite(part) & np.isfinite(reward)).any()
    )
