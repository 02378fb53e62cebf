"""The questions that lead to a verdict, in their order.

Are the numbers whole? Has the reward fallen, and for good? Are responses cut, does anything move?
Only then: does it learn, or stay? Sentences are in the log's own units, and say "success rate"
only where the log or the caller says that the reward is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rlvrlib.practice import advice
from rlvrlib.practice.change_points import (
    CLEARLY,
    MIN_ROWS,
    Segment,
    clearly_below,
    lower_share,
    segment,
    standard_errors_apart,
)
from rlvrlib.practice.course import (
    FLAT,
    NOTHING,
    RISE,
    SEGMENTS_RISE,
    Course,
    listed,
    median,
    quantity_words,
    short_number,
)
from rlvrlib.practice.rewards import checks_answer

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

IN_A_PART = "Learning, in a part of the reward"
_IDLE = 0.8  # signal is called starved where at least this share of the groups moves nothing
_OFTEN_CUT = 0.3  # a share of cut responses that is worth a line

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
class Case(Course):
    """The questions in their order. Each answers with a verdict or passes on."""

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
        names = listed([quantity_words(name) for name in lasting])
        fall = self.fallen()
        are = "are" if len(lasting) > 1 else "is"
        headline = (
            f"Broken numbers: {names} {are} infinite or no number from step {first:g} on."
            + (f" {fall.headline}" if fall else "")
        )
        supports = [
            f"{quantity_words(name)}: {np.sum(self.log.broken[name] >= step):.0f} rows from step "
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

    def fallen(self) -> Answer | None:
        """The reward has fallen: the scan says so or nearly all is lost, and the end or a trough is
        significantly below the peak.
        """
        if len(self.values) < MIN_ROWS:
            return None
        return self.fall_between(self.parts) or self.fall_between(self.lost_at_an_end())

    def fall_between(self, parts: Sequence[Segment]) -> Answer | None:
        """Whether the reward fell from one of these stretches to the later ones."""
        if not parts:
            return None
        peak = max(
            (part for part in parts if self.fell is None or part.start <= self.fell.row),
            key=lambda part: (max(part.low, 0.0), part.mean),
        )
        later = [part for part in parts if part.start >= peak.stop]
        if not later:
            return None
        trough, end = min(later, key=lambda part: part.high), later[-1]
        lost = end.mean < 0.1 * peak.mean or end.high < 0.02
        if self.fell is None and not (lost and self.repeated < 2):
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
        held = "nothing else in it had grown before" if still else "it holds nothing that could"
        capped = self.grew_into_the_cap(peak, end)
        reading = "" if capped else f"The log does not show why: {held}."
        if moved:
            which = listed([text.partition(" went ")[0] for text in moved])
            reading = f"{which[0].upper()}{which[1:]} moved before or with it."
            supports.append(
                "a reading of this, not a proof, is that the steps were too long; harder prompts, "
                "another mixture or the verifier can look the same"
            )
        if capped:
            supports.append(capped)
            place = 1 if moved else 0
            change[place:place] = advice.MORE_AND_MORE_CUT
            reading = f"Responses grew into the cap. {reading}".rstrip()
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
            f"{self.cut_words(cut.mean())} in the last third, at least {share:.0%} with 95% "
            f"confidence ({self.signals.truncated_source})",
        ]
        if self.signals.is_rate:
            sure = self.noun == "success rate"
            doubt = "" if sure else ", if each gets either the least or the largest reward"
            supports.append(f"{failures:.0%} of the responses fail{doubt}")
        idle = self.idle_share()
        if lower_share(idle) >= _IDLE:
            supports.append(f"{idle.mean():.0%} of the groups or steps move nothing")
        return Answer(
            TRUNCATION,
            f"Truncation-bound: {self.cut_words(cut.mean())} at the cap{self.cap_words()} in the "
            f"last third, and the {self.noun} does not rise: {self.show(self.whole)} over the run.",
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
        if low < _IDLE or self.fall is not None or len(self.parts) > 1 or self.rises():
            return None
        level = self.show(self.whole)
        why, change = "", tuple(text.format(level=level) for text in advice.WHICH_END)
        if self.noun == "success rate" and self.whole.mean > 0.9:
            why, change = ": nearly every one is right, these prompts are solved", advice.HARDER
        elif self.noun == "success rate" and self.whole.mean < 0.1:
            no = "no response is right" if self.whole.mean == 0 else "nearly every one is wrong"
            why, change = f": {no}", advice.EASIER
        elif self.signals.is_rate and self.whole.mean < 0.1 and self.values.min() == 0:
            every = "every" if np.ptp(self.values) == 0 else "nearly every"
            why, change = f": {every} response gets the least reward", advice.EASIER
        elif np.ptp(self.values) < NOTHING:
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
        if drop and drop[0] >= 0.2 and self.rise_of_halves() > -RISE and not explained:
            supports.append(
                f"the evaluation fell from {drop[1]:.3g} to {drop[2]:.3g} while the {self.noun} "
                "did not"
            )
        length = self.log["length"][self.signals.rows]
        early, late = length[: len(length) // 10 + 1], self.last_third(length)
        if self.signals.is_rate and np.isfinite(early).any() and len(late):
            shrunk = np.nanmean(early) / max(late.mean(), 1e-9)
            at_top = self.last_third(self.values).mean() > 0.95
            if shrunk > 3 and at_top and self.rise_of_halves() > RISE:
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
            third, fourth = self.last_quarters()
            level = abs(standard_errors_apart(third, fourth)) < 2 and len(values) >= 4 * MIN_ROWS
            end = ", and has kept its level" if level else ""
            if level and not solved:
                supports.append("in the second half it is level")
            if solved:
                end = f", and is at {self.show(self.late)} late in the run: solved"
            return Answer(
                LEARNING,
                f"Learning: the {self.noun} rose from {self.show(lower)} to {self.show(upper)}"
                f"{end}.",
                supports,
                (),
                advice.HARDER if solved else advice.LEARNING,
            )
        if solved:
            sure = self.noun == "success rate" or self.signals.reward.bounded
            return Answer(
                SOLVED,
                f"Solved{'' if sure else ', if 1 is the most that a response can get'}: the "
                f"{self.noun} is at {self.show(self.late)}.",
                [f"over the run it is {self.show(self.whole)}"],
                (),
                advice.HARDER,
            )
        if (part := self.rising_part()) is not None:
            name, z = part
            return Answer(
                LEARNING,
                f"{IN_A_PART} ({name[:40]!r}).",
                [
                    f"the part {name[:40]!r} of the reward rose, {z:.1f} standard errors from half "
                    "to half"
                ],
                self.other_parts(name),
                self.answer_advice(name),
            )
        if len(values) >= MIN_ROWS and np.ptp(values) < NOTHING:
            constant = self.show(self.whole)
            return Answer(
                UNDECIDED,
                f"Cannot decide: the {self.noun} is {constant} in every row, without the "
                "scatter that sampled responses have.",
                [],
                (),
                [sentence.format(level=constant) for sentence in advice.WHICH_END],
            )
        error = 2 * float(np.hypot(first.error, second.error))
        change = second.mean - first.mean
        words = f"{_digits(self.units(change), sign=True)} ± {_digits(self.units(error))}"
        if abs(change) + error < FLAT:
            return Answer(
                PLATEAU,
                f"Plateau: the {self.noun} stays at {self.show(self.whole)}.",
                [f"between the halves the {self.noun} changed by {words}"],
                (),
                [sentence.format(noun=self.noun) for sentence in advice.PLATEAU],
            )
        if change + error < 0:
            reason = (
                "less than the quarter that is called a fall"
                if second.mean >= CLEARLY * first.mean
                else "which is not established as a fall: rows of this log hang together so long"
            )
            return Answer(
                UNDECIDED,
                f"Cannot decide: between the halves of {len(values)} rows the {self.noun} changed "
                f"by {words}, {reason}.",
                [],
                (),
                [text.format(step=self.steps[first.stop]) for text in advice.FIND_THE_CAUSE],
            )
        needed = len(values) * (error / FLAT) ** 2
        return Answer(
            UNDECIDED,
            f"Cannot decide: between the halves of {len(values)} rows the {self.noun} changed by "
            f"{words}, which may be nothing or much.",
            [
                f"about {short_number(np.ceil(needed))} rows that scatter like these would show a "
                f"change of {self.units(FLAT):.2g}"
            ],
            (),
            advice.MORE_ROWS,
        )

    def answer_advice(self, rising: str) -> Sequence[str]:
        """By which part to judge, where another one than that which rises checks the answer."""
        for name in self.log.components:
            if checks_answer(name) and name != rising:
                return [sentence.format(part=name[:40]) for sentence in advice.KNOWN_PART]
        return advice.PARTS

    # ---- what speaks against a verdict, whatever it is

    def with_concerns(self, answer: Answer) -> Answer:
        """Adds them. Where the run learns, they come with what to do, in place of nothing."""
        concerns = list(self.concerns(answer.verdict))
        change = list(answer.advice)
        acts = [sentence for concern in concerns for sentence in concern.advice]
        if answer.advice is advice.LEARNING and concerns:
            change = acts or list(advice.WATCH)
        elif answer.headline.startswith(IN_A_PART) and acts:
            change = acts
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
                        f"{quantity_words(name)}: infinite or no number in {len(steps)} "
                        f"{'row' if len(steps) == 1 else 'rows'}, first at step {steps[0]:g}"
                    )
                )
        if verdict not in (TRUNCATION, BROKEN):
            found += self.cut_concerns(verdict)
        if verdict not in FALLEN | {BROKEN, STARVED, TRUNCATION}:
            found += self.stuck_parts()
        if verdict in (LEARNING, PLATEAU, UNDECIDED):
            found += self.signal_goes()
        drop = self.evaluation_drop()
        if drop is not None and drop[0] >= 0.2 and verdict in (LEARNING, PLATEAU, SOLVED):
            found.append(
                Concern(
                    f"the evaluation in the log fell from {drop[1]:.3g} to {drop[2]:.3g}",
                    advice.VERIFIER[:1],
                )
            )
        if self.fall is not None and verdict not in FALLEN | {BROKEN}:
            found.append(
                Concern(f"{self.warning_words()}; {self.since_the_warning()}")
            )
        last = self.parts[-1] if len(self.parts) > 1 else None
        if verdict == LEARNING and last is not None:
            best = max(self.parts, key=lambda part: part.low)
            third, fourth = self.last_quarters()
            if clearly_below(last, best):
                found.append(
                    Concern(
                        f"the last {last.stop - last.start} rows are lower ({self.show(last)}): "
                        "too few, or too little, to call it a fall"
                    )
                )
            elif standard_errors_apart(third, fourth) < -SEGMENTS_RISE:
                found.append(
                    Concern(
                        f"in the last quarter the {self.noun} is lower ({self.show(fourth)}) than "
                        f"in the one before ({self.show(third)})"
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
        if self.cut_counts or there.sum() < MIN_ROWS // 4:
            return []
        if over and not logged:
            return []  # of one length, and right: nothing says that they were cut
        early, late = np.array_split(cut[there], 3)[0], np.array_split(cut[there], 3)[2]
        found = []
        grown = standard_errors_apart(
            segment(early, 0, len(early)), segment(late, 0, len(late))
        )
        more = late.mean() > max(2 * early.mean(), early.mean() + 0.05) and grown > 3
        if more and verdict not in FALLEN:
            longer = self.lengthening(slice(0, len(cut) // 10 + 1), slice(-(len(cut) // 3), None))
            found.append(
                Concern(
                    f"from the first third to the last the share of cut responses rose from "
                    f"{early.mean():.1%} to {late.mean():.1%} ({self.signals.truncated_source})"
                    + (f"; they became {longer:.1f} times as long" if longer > 1.25 else ""),
                    advice.MORE_AND_MORE_CUT,
                )
            )
        elif lower_share(late) > _OFTEN_CUT and verdict not in FALLEN and not over:
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
                    f"{self.noun} (as a share of its range) and share of cut responses add up to "
                    f"{over:.2f} over a third of the run: some that were cut get more than the "
                    "least reward",
                    advice.CUT_IS_RIGHT,
                )
            )
        return found

    def signal_goes(self) -> list[Concern]:
        """Late in the run few groups have spread, or the entropy is nearly gone."""
        found, idle = [], self.last_third(self.signals.idle)
        if lower_share(idle) >= _IDLE and not self.solved():
            found.append(
                Concern(
                    f"in the last third {idle.mean():.0%} of the groups or steps have no spread "
                    f"({self.signals.idle_source})",
                    advice.LITTLE_SPREAD,
                )
            )
        entropy = self.log["entropy"][self.signals.rows]
        early = median(entropy[: len(entropy) // 10 + 1])
        late = median(self.last_third(entropy))
        if 0 <= late < early / 10:
            numbers = f"{short_number(early)} to {short_number(late)}"
            found.append(Concern(f"the entropy went from {numbers} (medians)"))
        return found

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
            if np.mean(known == known.min()) >= 0.9 and rise < RISE and known.min() < 1:
                found.append(
                    Concern(
                        f"the part {name[:40]!r} of the reward stays at {known.min():g} in "
                        f"{np.mean(known == known.min()):.0%} of the rows: what else moves is "
                        "the rest",
                        [text.format(part=name[:40]) for text in advice.ANSWER_STUCK],
                    )
                )
        return found


def _digits(value: float, sign: bool = False) -> str:
    """Two digits, never as a power of ten."""
    return np.format_float_positional(value, 2, fractional=False, trim="-", sign=sign)
