"""The questions that lead to a verdict, in their order.

Are the numbers whole? Has the reward fallen, and for good? Are responses cut, does anything move?
Only then: does it learn, or stay? Every threshold is a level of significance, or is stated in the
evidence. Sentences are in the log's own units, and say "success rate" only where the log or the
caller says that the reward is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from rlvrlib import Array
from rlvrlib.practice import advice
from rlvrlib.practice.change_points import (
    MIN_ROWS,
    Segment,
    clearly_below,
    lower_mean,
    lower_share,
    segment,
    standard_errors_apart,
)
from rlvrlib.practice.pressure import Pressure
from rlvrlib.practice.rewards import checks_answer
from rlvrlib.practice.run_log import RunLog
from rlvrlib.practice.signals import Signals, idle_steps

BROKEN, FALL, COLLAPSE = "broken numbers", "fall", "collapse and absorbing"
RECOVERY, TRUNCATION, STARVED = (
    "fall with partial recovery",
    "truncation-bound",
    "starved of signal",
)
VERIFIER, LEARNING, SOLVED = "verifier suspect", "learning", "solved"
PLATEAU, UNDECIDED = "plateau", "cannot decide"
VERDICTS = (
    BROKEN,
    FALL,
    COLLAPSE,
    RECOVERY,
    TRUNCATION,
    STARVED,
    VERIFIER,
    LEARNING,
    SOLVED,
    PLATEAU,
    UNDECIDED,
)
FALLEN = frozenset({FALL, COLLAPSE, RECOVERY})

_IDLE = 0.8  # signal is called starved where at least this share of the groups moves nothing
_FLAT = 0.1  # a plateau: a difference between the halves of the run above this is excluded
_RISE = 2.24  # two one-sided tests at 1.25% each: 2.5% together
_SEGMENTS_RISE = 3.0  # between segments, which are only there if a test at 1% has found a change
_FIRST, _LAST = (3, 4, 6), (5, 8)  # rows at the ends that are compared with the others
_AT_ONCE = 0.005  # level of each such comparison by ranks, for a rise
_LOST = 0.004  # ... and for a fall, of which nine tenths must be gone
_SHORT = 100  # rows; a longer run has enough of them before the fall
_SOLVED = 0.99
_NOTHING = 1e-6  # of the range: a smaller change is none
_OFTEN_CUT = 0.3
# What a driver of a fall grows or shrinks by.
GROWTH = {
    "rate": 1.25,
    "length": 2.0,
    "loss": 4.0,
    "gradient_norm": 4.0,
    "entropy": 3.0,
    "kl": 4.0,
}
_NAMES = {"rate": "learning rate", "gradient_norm": "gradient norm", "kl": "KL"}


class Answer(NamedTuple):
    """A verdict, its sentence, what speaks for and against it, what to change first."""

    verdict: str
    headline: str
    supports: Sequence[str]
    against: Sequence[str] = ()
    advice: Sequence[str] = ()


class Concern(NamedTuple):
    """What is wrong whatever the verdict, and what to do about it."""

    sentence: str
    advice: Sequence[str] = ()


@dataclass(frozen=True)
class Case:
    """The questions in their order. Each answers with a verdict or passes on."""

    log: RunLog
    signals: Signals
    steps: Array
    parts: tuple[Segment, ...]
    warned: int | None
    pressure: Pressure | None
    cut_counts: bool = False

    def decide(self) -> Answer:
        for question in (
            self.broken,
            self.fallen,
            self.cut_off,
            self.starved,
            self.too_short,
            self.suspect,
            self.learns,
        ):
            answer = question()
            if answer is not None:
                return self.with_concerns(answer)
        raise AssertionError("the last question always answers")

    # ---- questions

    def broken(self) -> Answer | None:
        """Loss, gradient norm, KL, entropy or reward is infinite or no number, and stays so."""
        lasting = {
            name: first
            for name in self.log.broken
            if (first := self.lasting_break(name)) is not None
        }
        if not lasting:
            return None
        first = min(lasting.values())
        names = _listed([_words(name) for name in lasting])
        fall = self.fallen()
        are = "are" if len(lasting) > 1 else "is"
        headline = (
            f"Broken numbers: {names} {are} infinite or no number from step {first:g} on."
            + (f" {fall.headline}" if fall else "")
        )
        supports = [
            f"{_words(name)}: {np.sum(self.log.broken[name] >= step):.0f} rows from step "
            f"{step:g} on are infinite or no number"
            for name, step in lasting.items()
        ]
        return Answer(
            BROKEN,
            headline,
            [*supports, *(fall.supports if fall else ())],
            (),
            [sentence.format(step=first) for sentence in advice.BROKEN],
        )

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

    def fallen(self) -> Answer | None:
        """The reward has fallen: the end or a trough is significantly below the peak, and there
        was a warning or nearly all is lost.
        """
        if len(self.values) < MIN_ROWS:
            return None
        return self.fall_between(self.parts) or self.fall_between(self.lost_at_an_end())

    def fall_between(self, parts: Sequence[Segment]) -> Answer | None:
        """Whether the reward fell from one of these stretches to the later ones."""
        if not parts:
            return None
        peak = max(
            (part for part in parts if self.warned is None or part.start <= self.warned),
            key=lambda part: (max(part.low, 0.0), part.mean),
        )
        later = [part for part in parts if part.start >= peak.stop]
        if not later:
            return None
        trough, end = min(later, key=lambda part: part.high), later[-1]
        lost = end.mean < 0.1 * peak.mean or end.high < 0.02
        if self.warned is None and not lost:
            return None
        if not (lost or clearly_below(end, peak) or trough.high < peak.low / 2):
            return None
        where = f"from {self.show(peak)} ({self.span(peak)}) to {self.show(end)} ({self.span(end)})"
        moved, still = self.drivers(peak, later[0].start)
        supports = [f"the {self.noun} fell {where}", self.warning_words(), *moved]
        start = self.steps[later[0].start]
        change = [
            sentence.format(step=start)
            for sentence in (advice.SHORTER_STEPS if moved else advice.FIND_THE_CAUSE)
        ]
        reading = "The log does not show why: nothing else in it had grown before."
        if moved:
            which = _listed([text.partition(" went ")[0] for text in moved])
            reading = f"{which[0].upper()}{which[1:]} moved before or with it."
            supports.append(
                "a reading of this, not a proof, is that the steps were too long; harder prompts, "
                "another mixture or the verifier can look the same"
            )
        if capped := self.grew_into_the_cap(peak, end):
            supports.append(capped)
            change = [*advice.MORE_AND_MORE_CUT, *change]
            reading = f"Responses grew into the cap. {reading}"
        if (
            clearly_below(trough, peak)
            and trough.high < peak.low / 2
            and end is not trough
            and end.low > trough.high
            and end.mean > 2 * trough.mean
        ):
            if not clearly_below(end, peak):
                return None  # recovered: judged by how it ends
            return Answer(
                RECOVERY,
                f"Fall with partial recovery: the {self.noun} fell from {self.show(peak)} "
                f"({self.span(peak)}) to {self.show(trough)} ({self.span(trough)}) and came back "
                f"to {self.show(end)}. {reading}",
                supports,
                still,
                change,
            )
        idle = self.signals.idle[end.start : end.stop]
        idle = idle[np.isfinite(idle)]
        if lost and (lower_share(idle) >= _IDLE if len(idle) else self.stays_the_same(end)):
            alike = (
                f"in {idle.mean():.0%} of the groups or steps all rewards are alike"
                if len(idle)
                else "the mean reward is the same number in every row"
            )
            supports.append(f"{self.span(end)}: {alike}, which leaves no gradient of the reward")
            return Answer(
                COLLAPSE,
                f"Fall, and absorbing: the {self.noun} fell {where}, where {alike}. {reading}",
                supports,
                still,
                change,
            )
        headline = f"Fall: the {self.noun} fell {where}. {reading}"
        return Answer(FALL, headline, supports, still, change)

    def cut_off(self) -> Answer | None:
        """Responses are cut at the cap, enough to explain the failures, and the reward does not
        rise.
        """
        cut = self.last_third(self.signals.truncated)
        if self.cut_counts or len(cut) < MIN_ROWS // 4 or self.rises() is not None:
            return None
        over_the_run = lower_share(self.signals.truncated[np.isfinite(self.signals.truncated)])
        share = max(lower_share(cut), min(over_the_run, cut.mean()))
        failures = 1 - self.late.mean
        if self.signals.is_rate:
            if self.cut_is_right() or share < max(0.1, failures / 2):
                return None
        elif share < 0.5:
            return None
        supports = [
            f"{self.cut_words(cut.mean())} in the last third, and at least in {share:.0%} with 95% "
            f"confidence ({self.signals.truncated_source})",
        ]
        if self.signals.is_rate:
            doubt = "" if self.noun == "success rate" else ", if the reward is 0 or 1"
            supports.append(f"{failures:.0%} of the responses fail{doubt}")
        idle = self.idle_share()
        if lower_share(idle) >= _IDLE:
            supports.append(f"{idle.mean():.0%} of the groups or steps move nothing")
        return Answer(
            TRUNCATION,
            f"Truncation-bound: {self.cut_words(cut.mean())} at the cap{self.cap_words()}, and the "
            f"{self.noun} does not rise: {self.show(self.whole)} over the run.",
            supports,
            (),
            advice.TRUNCATED,
        )

    def starved(self) -> Answer | None:
        """Nothing moves, from the beginning: at least 80% of the groups are without spread, with
        95% confidence.
        """
        idle = self.idle_share()
        low = lower_share(idle)
        if low < _IDLE or self.warned is not None or len(self.parts) > 1 or self.rises():
            return None
        level = self.show(self.whole)
        why, change = "", tuple(text.format(level=level) for text in advice.WHICH_END)
        if self.noun == "success rate" and self.whole.mean > 0.9:
            why, change = ": nearly every one is right, these prompts are solved", advice.HARDER
        elif self.noun == "success rate" and self.whole.mean < 0.1:
            no = "no response is right" if self.whole.mean == 0 else "nearly every one is wrong"
            why, change = f": {no}", advice.EASIER
        elif self.signals.reward.bounded and self.whole.high < 0.02:
            why, change = ": nearly every response gets the least reward", advice.EASIER
        elif np.ptp(self.values) < _NOTHING:
            why = f": the {self.noun} is {level} in every row"
        return Answer(
            STARVED,
            f"Starved of signal: in nearly all groups all responses get the same reward{why}.",
            [
                f"with 95% confidence at least {low:.0%} of the groups or steps move nothing",
                f"the {self.noun} is {level} over the run",
            ],
            (),
            [*change, *advice.NO_GRADIENT],
        )

    def too_short(self) -> Answer | None:
        count = len(self.values)
        if count >= MIN_ROWS:
            return None
        rows = "1 row has" if count == 1 else f"{count} rows have"
        what = f"only {rows} a reward" if count else "no row has a reward"
        return Answer(
            UNDECIDED,
            f"Cannot decide: {what}; at least {MIN_ROWS} are needed.",
            [f"the {self.noun} is {self.show(self.whole)} over these rows"] if count > 1 else [],
            (),
            advice.MORE_ROWS,
        )

    def suspect(self) -> Answer | None:
        """The reward does what a held-out evaluation, or the length, does not confirm."""
        supports = []
        drop = self.evaluation_drop()
        explained = not self.signals.is_rate and self.rising_part() is not None
        if drop and drop[0] >= 0.2 and self.rise_of_halves() > -_RISE and not explained:
            supports.append(
                f"the evaluation fell from {drop[1]:.3g} to {drop[2]:.3g} while the {self.noun} "
                "did not"
            )
        length = self.log["length"][self.signals.rows]
        early, late = length[: len(length) // 10 + 1], self.last_third(length)
        if self.signals.is_rate and np.isfinite(early).any() and len(late):
            shrunk = np.nanmean(early) / max(late.mean(), 1e-9)
            at_top = self.last_third(self.values).mean() > 0.95
            if shrunk > 3 and at_top and self.rise_of_halves() > _RISE:
                supports.append(
                    f"the {self.noun} reached 95% of its range while responses became "
                    f"{shrunk:.1f} times shorter"
                )
        if not supports:
            return None
        return Answer(
            VERIFIER,
            f"Verifier suspect: the {self.noun} rises, or stays, for reasons that a correct answer "
            "does not give.",
            supports,
            (),
            advice.VERIFIER,
        )

    def learns(self) -> Answer:
        """Does the reward, or a part of it, rise? Does it stay?"""
        values = self.values
        first, second = self.halves()
        solved = self.solved()
        if (rise := self.rises()) is not None:
            lower, upper, words = rise
            supports = [
                f"the {self.noun} rose from {self.show(lower)} ({self.span(lower)}) to "
                f"{self.show(upper)} ({self.span(upper)}), {words}"
            ]
            third, fourth = (
                segment(values, a, b)
                for a, b in (
                    (len(values) // 2, 3 * len(values) // 4),
                    (3 * len(values) // 4, len(values)),
                )
            )
            level = abs(standard_errors_apart(third, fourth)) < 2 and len(values) >= 4 * MIN_ROWS
            if solved:
                end = f"rose from {self.show(lower)} and is at {self.show(self.late)}: solved"
            elif level:
                end = "rose and has kept its level"
            else:
                end = "rises"
            if level and not solved:
                supports.append("in the second half it is level")
            return Answer(
                LEARNING,
                f"Learning: the {self.noun} {end}.",
                supports,
                (),
                advice.HARDER if solved else advice.LEARNING,
            )
        if solved:
            return Answer(
                SOLVED,
                f"Solved: the {self.noun} is at {self.show(self.late)}, as high as it can be.",
                [f"over the run it is {self.show(self.whole)}"],
                (),
                advice.HARDER,
            )
        if (part := self.rising_part()) is not None:
            name, z = part
            return Answer(
                LEARNING,
                f"Learning, in a part of the reward ({name[:40]!r}).",
                [
                    f"the part {name[:40]!r} of the reward rose, {z:.1f} standard errors from half "
                    "to half"
                ],
                self.other_parts(name),
                advice.PARTS,
            )
        error = 2 * float(np.hypot(first.error, second.error))
        change = second.mean - first.mean
        words = f"{self.units(change):+.2g} ± {self.units(error):.2g}"
        if abs(change) + error < _FLAT:
            return Answer(
                PLATEAU,
                f"Plateau: the {self.noun} stays at {self.show(self.whole)}.",
                [f"between the halves the {self.noun} changed by {words}"],
                (),
                [sentence.format(noun=self.noun) for sentence in advice.PLATEAU],
            )
        much = "which may be nothing or much"
        left = "less than is called a fall" if change + error < 0 else much
        return Answer(
            UNDECIDED,
            f"Cannot decide: between the halves of {len(values)} rows the {self.noun} changed by "
            f"{words}, {left}.",
            [
                f"about {_number(np.ceil(len(values) * (error / _FLAT) ** 2))} rows that scatter "
                f"like these would show a change of {self.units(_FLAT):.2g}"
            ],
            (),
            advice.MORE_ROWS,
        )

    # ---- what speaks against a verdict, whatever it is

    def with_concerns(self, answer: Answer) -> Answer:
        """Adds them. Where the run learns, they come with what to do, in place of nothing."""
        concerns = list(self.concerns(answer.verdict))
        change = list(answer.advice)
        acts = [sentence for concern in concerns for sentence in concern.advice]
        if answer.advice is advice.LEARNING and concerns:
            change = acts or list(advice.WATCH)
        else:
            change += acts
        return answer._replace(
            against=[*answer.against, *(concern.sentence for concern in concerns)],
            advice=list(dict.fromkeys(change)),
        )

    def concerns(self, verdict: str) -> list[Concern]:
        found = []
        for name, steps in self.log.broken.items():
            if verdict != BROKEN and name in ("loss", "gradient_norm", "kl"):
                found.append(
                    Concern(
                        f"{_words(name)}: infinite or no number in {len(steps)} "
                        f"{'row' if len(steps) == 1 else 'rows'}, first at step {steps[0]:g}"
                    )
                )
        if verdict not in (TRUNCATION, BROKEN):
            found += self.cut_concerns(verdict)
        if verdict not in FALLEN | {BROKEN, STARVED, TRUNCATION}:
            found += self.stuck_parts()
        drop = self.evaluation_drop()
        if drop is not None and drop[0] >= 0.2 and verdict in (LEARNING, PLATEAU, SOLVED):
            found.append(
                Concern(
                    f"the evaluation in the log fell from {drop[1]:.3g} to {drop[2]:.3g}",
                    advice.VERIFIER[:1],
                )
            )
        if self.warned is not None and verdict not in FALLEN | {BROKEN}:
            found.append(
                Concern(
                    f"there was a warning at step {self.steps[self.warned]:g}; the fall is not "
                    f"established, or the {self.noun} came back"
                )
            )
        last = self.parts[-1] if len(self.parts) > 1 else None
        if verdict == LEARNING and last is not None:
            best = max(self.parts, key=lambda part: part.low)
            if clearly_below(last, best):
                found.append(
                    Concern(
                        f"the last {last.stop - last.start} rows are lower ({self.show(last)}): "
                        "too few, or too little, to call it a fall"
                    )
                )
        if self.pressure is not None and verdict in (LEARNING, PLATEAU):
            total, error = self.pressure.total[-1], self.pressure.error[-1]
            factors = {name: factor[-1] for name, factor in self.pressure.factors.items()}
            if min(total - 2 * error, factors["rate"] + factors["length"]) > np.log(1.25):
                listed = ", ".join(f"{name} {np.exp(value):.2f}" for name, value in factors.items())
                found.append(
                    Concern(
                        f"the threshold pressure at the end is {np.exp(total):.2f} times that of "
                        f"the reference ({listed})"
                    )
                )
        return found

    def cut_concerns(self, verdict: str) -> list[Concern]:
        """Responses are cut, more and more of them, or count as correct although they are."""
        cut = self.signals.truncated
        there = np.isfinite(cut)
        logged, over = self.log.has("truncated"), self.cut_is_right()
        if self.cut_counts or there.sum() < MIN_ROWS // 2:
            return []
        if over and not logged:
            return []  # of one length, and right: nothing says that they were cut
        early, late = np.array_split(cut[there], 3)[0], np.array_split(cut[there], 3)[2]
        found = []
        grown = standard_errors_apart(
            segment(early, 0, len(early)), segment(late, 0, len(late))
        )
        if late.mean() > max(2 * early.mean(), early.mean() + 0.05) and grown > 3:
            longer = self.lengthening(slice(0, len(cut) // 10 + 1), slice(-(len(cut) // 3), None))
            found.append(
                Concern(
                    f"from the first third to the last the share of cut responses rose from "
                    f"{early.mean():.1%} to {late.mean():.1%} ({self.signals.truncated_source})"
                    + (f"; they became {longer:.1f} times as long" if longer > 1.25 else ""),
                    advice.MORE_AND_MORE_CUT,
                )
            )
        elif lower_share(late) > _OFTEN_CUT and verdict not in FALLEN:
            found.append(
                Concern(
                    f"{self.cut_words(late.mean())} in the last third "
                    f"({self.signals.truncated_source})",
                    advice.TRUNCATED[:1],
                )
            )
        if over:
            found.append(
                Concern(
                    f"{self.noun} and share of cut responses add up to {over:.2f} over a third of "
                    "the run: responses that were cut get a reward",
                    advice.CUT_IS_RIGHT,
                )
            )
        return found

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

    def stuck_parts(self) -> list[Concern]:
        """Parts of the reward that check the answer and never left their least value."""
        found = []
        for name, part in self.log.components.items():
            known = part[np.isfinite(part)]
            if len(known) < MIN_ROWS or not checks_answer(name):
                continue
            half = len(known) // 2
            rise = standard_errors_apart(
                segment(known, 0, half), segment(known, half, len(known))
            )
            if np.mean(known == known.min()) >= 0.9 and rise < _RISE and known.min() < 1:
                found.append(
                    Concern(
                        f"the part {name[:40]!r} of the reward stays at {known.min():g} in "
                        f"{np.mean(known == known.min()):.0%} of the rows: what else moves is "
                        "the rest",
                        [text.format(part=name[:40]) for text in advice.ANSWER_STUCK],
                    )
                )
        return found

    # ---- evidence

    def rises(self) -> tuple[Segment, Segment, str] | None:
        """The clearest rise: the start against the rest or half against half, each at 1.25%; the
        first segment against the last; or the first few rows against the others, by their ranks.
        """
        values = self.values
        if len(values) < MIN_ROWS // 2:
            return None
        early = max(MIN_ROWS // 2, len(values) // 20)
        contrasts = [(*self.halves(), _RISE), (self.parts[0], self.parts[-1], _SEGMENTS_RISE)]
        if len(values) > early:
            start, rest = segment(values, 0, early), segment(values, early, len(values))
            contrasts.append((start, rest, _RISE))
        rises = [standard_errors_apart(lower, upper) for lower, upper, _ in contrasts]
        rise, (lower, upper, needed) = max(
            zip(rises, contrasts, strict=True), key=lambda found: found[0] - found[1][2]
        )
        if rise > needed and upper.mean - lower.mean > _NOTHING:
            words = "without any scatter" if np.isinf(rise) else f"{rise:.1f} standard errors"
            return lower, upper, words
        for count in _FIRST:
            start, rest = self.split(count)
            level = self.rank_test(count, "less")
            if level < _AT_ONCE and rest.mean - start.mean > _FLAT:
                return start, rest, f"at a level of {level:.1g} by their ranks"
        return None

    def lost_at_an_end(self) -> tuple[Segment, ...]:
        """The two stretches of a short run that lost nine tenths of its reward after its first rows
        or in its last ones.
        """
        count = len(self.values)
        if count < _SHORT:
            for place in (*_FIRST, *(count - last for last in _LAST)):
                before, after = self.split(place)
                if after.mean < 0.1 * before.mean and self.rank_test(place, "greater") < _LOST:
                    return before, after
        return ()

    def split(self, place: int) -> tuple[Segment, Segment]:
        """The rows before a place and those from it on."""
        return segment(self.values, 0, place), segment(self.values, place, len(self.values))

    def rank_test(self, place: int, side: str) -> float:
        """Level at which the rows before a place rank ``less`` or ``greater`` than the others."""
        from scipy.stats import mannwhitneyu  # takes half a second to load; few logs need it

        values = self.values
        return float(mannwhitneyu(values[:place], values[place:], alternative=side).pvalue)

    def drivers(self, peak: Segment, fall: int) -> tuple[list[str], list[str]]:
        """What had moved around the warning (the row ``fall`` where none came) since the peak;
        and what had not.
        """
        moved: list[str] = []
        still: list[str] = []
        row = fall if self.warned is None else min(self.warned, fall)
        for name, factor in GROWTH.items():
            scale = np.abs(self.log[name][self.signals.rows])
            scale = np.where(scale > 0, scale, np.nan)
            before = slice(peak.start, max(min(peak.stop, row - 2), peak.start + 3))
            if not (np.isfinite(scale[before]).any() and np.isfinite(scale[before.stop :]).any()):
                continue
            then = float(np.nanmedian(scale[before]))
            first, last = row - MIN_ROWS // 2, row + MIN_ROWS // 2
            near = range(max(before.stop, first), min(last, len(scale) - 2))
            now = np.array([_median(scale[place : place + 3]) for place in near])
            far = np.abs(np.log(now / then)) if len(now) else now
            both_ways = name in ("length", "entropy", "rate")
            left = (far > np.log(factor)) & (both_ways | (now > then))
            place = int(np.argmax(left)) if left.any() else len(now) - 1
            if place < 0 or not np.isfinite(now[place]):
                continue
            text = (
                f"the {_words(name)} went from {_number(then)} ({self.span_of(before)}) to "
                f"{_number(now[place])} ({self.span_of(slice(near[place], near[place] + 3))}; "
                "medians)"
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
        return len(values) >= 15 and float(np.ptp(values)) < _NOTHING

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
                if z > 2 * _RISE:
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
        """Whether the reward is at the upper end of its range, which is known."""
        known = self.noun == "success rate" or self.signals.reward.bounded
        return known and self.late.mean >= _SOLVED

    def halves(self) -> tuple[Segment, Segment]:
        half = len(self.values) // 2
        return segment(self.values, 0, half), segment(self.values, half, len(self.values))

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
        if self.warned is None:
            return "no warning came before: the level was not yet known, or the fall is not abrupt"
        return f"first warning at step {self.steps[self.warned]:g}"

    def cut_words(self, share: float) -> str:
        """How many are cut, in words."""
        if self.log.has("truncated"):
            return f"{share:.0%} of the responses are cut"
        return f"in {share:.0%} of the steps every response is cut"

    def cap_words(self) -> str:
        longest = self.log["longest" if self.log.has("longest") else "length"]
        top = np.nanmax(longest) if np.isfinite(longest).any() else np.nan
        return f" ({top:g} tokens)" if np.sum(longest == top) >= 3 else ""


def _median(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else np.nan


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= value < 1e7 else f"{value:.3g}"


def _words(name: str) -> str:
    return _NAMES.get(name, name.replace("_", " "))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)
