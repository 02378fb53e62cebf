"""The course of a run: what rises, falls, moves, is cut or stands still in it, and how sentences
show it.

Every threshold is a level of significance, or is stated in the evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rlvrlib import Array
from rlvrlib.practice.change_points import (
    MIN_ROWS,
    Segment,
    lower_mean,
    lower_share,
    segment,
    standard_errors_apart,
)
from rlvrlib.practice.drawdown import Fall
from rlvrlib.practice.pressure import Pressure
from rlvrlib.practice.run_log import RunLog
from rlvrlib.practice.signals import Signals, idle_steps

FLAT = 0.1  # a plateau: a difference between the halves of the run above this is excluded
RISE = 2.24  # two one-sided tests at 1.25% each: 2.5% together
SEGMENTS_RISE = 3.0  # between segments, which are only there if a test at 1% has found a change
_FIRST, _LAST = (3, 4, 6), (5, 8)  # rows at the ends that are compared with the others
_AT_ONCE = 0.005  # level of each such comparison by ranks, for a rise
_LOST = 0.004  # ... and for a fall, of which nine tenths must be gone
_SHORT = 100  # rows; a longer run has enough of them before the fall
_SOLVED = 0.99
NOTHING = 1e-6  # of the range: a smaller change is none
# What a driver of a fall grows or shrinks by.
GROWTH = {
    "rate": 1.25,
    "length": 2.0,
    "loss": 4.0,
    "gradient_norm": 4.0,
    "entropy": 3.0,
    "kl": 4.0,
}
_ONCE = 2.0  # rewards that are repeated this often on average do not count row by row
_NAMES = {"rate": "learning rate", "gradient_norm": "gradient norm", "kl": "KL"}


@dataclass(frozen=True)
class Course:
    """A run with what is known of its course.

    Attributes
    ----------
    log, signals : the run.
    steps : of the rows with a reward, shape ``(n,)``.
    parts : stretches of one level.
    fall, fell : the first crossings of the two boundaries of `Drawdown`; None.
    pressure : threshold pressure; None where the reward may not be used as a success rate.
    cut_counts : whether the verifier means to accept responses that were cut.
    together : over how many rows the noise hangs together, see `Drawdown`.
    """

    log: RunLog
    signals: Signals
    steps: Array
    parts: tuple[Segment, ...]
    fall: Fall | None
    fell: Fall | None
    pressure: Pressure | None
    cut_counts: bool = False
    together: float = 1.0

    def rises(self) -> tuple[Segment, Segment, str] | None:
        """The clearest rise: the start against the rest or half against half, each at 1.25%; the
        first segment against the last; or the first few rows against the others, by their ranks.
        """
        values = self.values
        if len(values) < MIN_ROWS // 2:
            return None
        early, scatter = max(MIN_ROWS // 2, len(values) // 20), float(values.std())
        contrasts = [(*self.halves(), RISE), (self.parts[0], self.parts[-1], SEGMENTS_RISE)]
        if len(values) > early:
            # ten rows that happen to be alike would have no error of their own
            start = segment(values, 0, early, spread=scatter)
            contrasts.append((start, segment(values, early, len(values)), RISE))
        rises = [
            standard_errors_apart(lower, upper) / np.sqrt(self.alike(upper.mean - lower.mean))
            for lower, upper, _ in contrasts
        ]
        rise, (lower, upper, needed) = max(
            zip(rises, contrasts, strict=True), key=lambda found: found[0] - found[1][2]
        )
        if rise > needed and upper.mean - lower.mean > NOTHING:
            words = "without any scatter" if np.isinf(rise) else f"{rise:.1f} standard errors"
            return lower, upper, words
        for count in _FIRST if self.repeated < _ONCE else ():
            start, rest = self.split(count)
            level = self.rank_test(count, "less")
            if level < _AT_ONCE and rest.mean - start.mean > FLAT:
                return start, rest, f"at a level of {level:.1g} by their ranks"
        return None

    def lost_at_an_end(self) -> tuple[Segment, ...]:
        """The two stretches of a short run that lost nine tenths of its reward after its first rows
        or in its last ones.
        """
        count = len(self.values)
        if count < _SHORT and self.repeated < _ONCE:
            for place in (*_FIRST, *(count - last for last in _LAST)):
                before, after = self.split(place)
                if after.mean < 0.1 * before.mean and self.rank_test(place, "greater") < _LOST:
                    return before, after
        return ()

    @cached_property
    def repeated(self) -> float:
        """How many rows in turn have one and the same reward, on average, where it is neither the
        smallest nor the largest one.
        """
        between = (self.values > self.values.min()) & (self.values < self.values.max())
        pairs = between[1:] & between[:-1]
        alike = (np.diff(self.values) == 0)[pairs]
        enough = len(alike) >= max(MIN_ROWS // 4, len(self.values) / 4)
        return 1 / max(1 - float(alike.mean()), 0.01) if enough else 1.0

    def alike(self, rise: float) -> float:
        """How many rows count as one. A rise of a learning curve can look like noise that hangs
        together, so that this counts only where no more than a plateau's change is at stake.
        """
        return max(self.repeated, self.together if rise < FLAT else 1.0)

    def split(self, place: int) -> tuple[Segment, Segment]:
        """The rows before a place and those from it on."""
        return segment(self.values, 0, place), segment(self.values, place, len(self.values))

    def rank_test(self, place: int, side: str) -> float:
        """Level at which the rows before a place rank ``less`` or ``greater`` than the others."""
        from scipy.stats import mannwhitneyu  # takes half a second to load; few logs need it

        values = self.values
        return float(mannwhitneyu(values[:place], values[place:], alternative=side).pvalue)

    def drivers(self, peak: Segment, fall: int) -> tuple[list[str], list[str]]:
        """What had moved near the row ``fall``, or the warning if it came before, since the peak;
        and what had not.
        """
        moved: list[str] = []
        still: list[str] = []
        row = fall if self.fall is None else min(self.fall.row, fall)
        for name, factor in GROWTH.items():
            scale = np.abs(self.log[name][self.signals.rows])
            scale = np.where(scale > 0, scale, np.nan)
            before = slice(peak.start, max(min(peak.stop, row - 2), peak.start + 3))
            if not (np.isfinite(scale[before]).any() and np.isfinite(scale[before.stop :]).any()):
                continue
            then = float(np.nanmedian(scale[before]))
            first, last = row - MIN_ROWS // 2, row + MIN_ROWS // 2
            near = range(max(before.stop, first), min(last, len(scale) - 2))
            fewest = 3 if name in self.log.broken else 1  # no median of the last number before it
            now = np.array([median(scale[place : place + 3], fewest) for place in near])
            far = np.abs(np.log(now / then)) if len(now) else now
            both_ways = name in ("length", "entropy", "rate")
            left = (far > np.log(factor)) & (both_ways | (now > then))
            place = int(np.argmax(left)) if left.any() else len(now) - 1
            if place < 0 or not np.isfinite(now[place]):
                continue
            here = self.span_of(slice(near[place], near[place] + 3))
            text = (
                f"the {quantity_words(name)} went from {short_number(then)} "
                f"({self.span_of(before)}) to {short_number(now[place])} ({here}; medians)"
            )
            if left.any() and not (name == "rate" and now[place] < then):
                moved.append(text)
            elif name != "rate" or left.any():
                still.append(text)
        return moved, still

    def grew_into_the_cap(self, peak: Segment, end: Segment) -> str:
        """Whether the share of cut responses is larger at the end than at the peak, in words."""
        stretches = (
            self.signals.truncated[part.start : part.stop] for part in (peak, end)
        )
        then, now = (stretch[np.isfinite(stretch)] for stretch in stretches)
        if not (len(then) and len(now)) or now.mean() < then.mean() + 0.2:
            return ""
        return (
            f"the share of cut responses rose from {then.mean():.0%} ({self.span(peak)}) to "
            f"{now.mean():.0%} ({self.span(end)})"
        )

    def stays_the_same(self, end: Segment) -> bool:
        """Whether the reward is one and the same number in many rows."""
        values = self.values[end.start : end.stop]
        return len(values) >= 15 and float(np.ptp(values)) < NOTHING

    def lengthening(self, then: slice, now: slice) -> float:
        """Median length in some rows over that in others; 1 where it is unknown."""
        length = self.log["length"][self.signals.rows]
        before, after = (part[part > 0] for part in (length[then], length[now]))
        return float(np.median(after) / np.median(before)) if len(before) and len(after) else 1.0

    def idle_share(self) -> Array:
        """Share of groups, or of steps, that move nothing: of the two sources the clearer."""
        shares = [
            share[np.isfinite(share)] for share in (idle_steps(self.log), self.signals.idle)
        ]
        return max(shares, key=lower_share)

    def evaluation_drop(self) -> tuple[float, float, float] | None:
        """Relative fall of the evaluation from its best third to its last one, if all of the last
        is below all of the best.
        """
        values = self.log["evaluation"][np.isfinite(self.log["evaluation"])]
        if len(values) < 6:
            return None
        thirds = np.array_split(values, 3)
        best, last = max(thirds[:2], key=np.mean), thirds[2]
        if last.max() >= best.min() or best.mean() <= 0:
            return None
        return float(1 - last.mean() / best.mean()), float(best.mean()), float(last.mean())

    def rising_part(self) -> tuple[str, float] | None:
        """A part of the reward that rose, beyond any number of parts that a log may have."""
        for name, part in self.log.components.items():
            known = part[np.isfinite(part)]
            half = len(known) // 2
            if len(known) >= MIN_ROWS:
                z = standard_errors_apart(segment(known, 0, half), segment(known, half, len(known)))
                if z > 2 * RISE:
                    return name, z
        return None

    def other_parts(self, name: str) -> list[str]:
        """How the rest of the reward moved while the part ``name`` rose."""
        rest = (self.log["reward"] - self.log.components[name])[self.signals.rows]
        if not np.isfinite(rest).all():
            return []
        first, second = segment(rest, 0, len(rest) // 2), segment(rest, len(rest) // 2, len(rest))
        return [
            f"the rest of the reward went from {first.mean:.2f} ± {2 * first.error:.2f} to "
            f"{second.mean:.2f} ± {2 * second.error:.2f}"
        ]

    def solved(self) -> bool:
        """Whether the reward is at the upper end of its range, known or taken to be [0, 1]."""
        reward = self.signals.reward
        return (reward.is_rate or reward.bounded) and self.late.mean >= _SOLVED

    def halves(self) -> tuple[Segment, Segment]:
        half = len(self.values) // 2
        return segment(self.values, 0, half), segment(self.values, half, len(self.values))

    def last_quarters(self) -> tuple[Segment, Segment]:
        half, late = len(self.values) // 2, 3 * len(self.values) // 4
        return segment(self.values, half, late), segment(self.values, late, len(self.values))

    def rise_of_halves(self) -> float:
        return standard_errors_apart(*self.halves())

    def last_third(self, values: Array) -> Array:
        late = values[2 * len(values) // 3 :]
        return late[np.isfinite(late)]

    @cached_property
    def whole(self) -> Segment:
        return segment(self.values, 0, len(self.values))

    @cached_property
    def late(self) -> Segment:
        return segment(self.values, 2 * len(self.values) // 3, len(self.values))

    @property
    def values(self) -> Array:
        return self.signals.success

    def lasting_break(self, name: str) -> float | None:
        """The step from which on most rows are broken, to the end; None where it passes."""
        if name not in ("loss", "gradient_norm", "kl", "entropy", "reward"):
            return None
        odd, there = self.log.broken[name], np.isfinite(self.log[name])
        good = self.log.step[there]
        if not len(good) and name in ("kl", "entropy"):
            return None  # never logged
        for first in odd:
            if np.sum(odd >= first) >= max(3, 4 * np.sum(good >= first)):
                return float(first) if not len(good) or odd[-1] > good[-1] else None
        return None
    def cut_is_right(self) -> float:
        """Success rate plus share of cut responses in the third of the run where they are largest,
        where it is above 1: then responses that were cut count as correct. Otherwise 0.
        """
        both = self.values + self.signals.truncated
        thirds = [part[np.isfinite(part)] for part in np.array_split(both, 3)]
        over = [
            float(part.mean())
            for part in thirds
            if len(part) >= MIN_ROWS // 4 and lower_mean(part) > 1.05
        ]
        return max(over, default=0.0) if self.signals.is_rate else 0.0
    # ---- words

    @property
    def noun(self) -> str:
        return self.signals.reward.noun

    def units(self, difference: float) -> float:
        return self.signals.width(difference)

    def show(self, part: Segment) -> str:
        """Mean with two standard errors, in the log's own units."""
        error = 2 * self.units(part.error)
        return f"{self.signals.in_units(part.mean):.2f}" + (f" ± {error:.2f}" if error else "")

    def span(self, part: Segment) -> str:
        return self.span_of(slice(part.start, part.stop))

    def span_of(self, rows: slice) -> str:
        steps = self.steps[rows]
        return f"steps {steps[0]:g} to {steps[-1]:g}" if len(steps) > 1 else f"step {steps[0]:g}"

    def warning_words(self) -> str:
        if self.fall is None:
            return "no warning came before: the rows before the fall were too few, or it is slow"
        found = self.fall
        return (
            f"first warning at step {self.steps[found.row]:g}: the mean of the rows from step "
            f"{self.steps[found.start]:g} on was {found.after:.2f}, that of the {found.earlier} "
            f"rows before {found.before:.2f}"
        )

    def since_the_warning(self) -> str:
        """Why a warning is not followed by a verdict of a fall."""
        peak, end = max(self.parts, key=lambda part: part.mean), self.parts[-1]
        if self.fell is None:
            return "at the stricter level of a verdict no fall is established"
        if standard_errors_apart(peak, end) < -SEGMENTS_RISE:
            return (
                f"at the end it is {self.show(end)} ({self.span(end)}), less than a quarter below "
                f"{self.show(peak)} ({self.span(peak)}), which is not called a fall"
            )
        return f"the {self.noun} came back"

    def cut_words(self, share: float) -> str:
        """How many are cut, in words."""
        if self.log.has("truncated"):
            return f"{share:.0%} of the responses are cut"
        return f"in {share:.0%} of the steps every response is cut"

    def cap_words(self) -> str:
        longest = self.log["longest" if self.log.has("longest") else "length"]
        top = np.nanmax(longest) if np.isfinite(longest).any() else np.nan
        return f" ({top:g} tokens)" if np.sum(longest == top) >= 3 else ""


def median(values: Array, fewest: int = 1) -> float:
    """Of what is finite; NaN where fewer are."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) >= fewest else np.nan


def short_number(value: float) -> str:
    """As a person writes it."""
    return f"{value:,.0f}" if 1000 <= value < 1e7 else f"{value:.3g}"


def quantity_words(name: str) -> str:
    """A quantity of a log in words."""
    return _NAMES.get(name, name.replace("_", " "))


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)
