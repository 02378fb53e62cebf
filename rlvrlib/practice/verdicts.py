"""The questions that lead to a verdict, in their order.

Is there enough to see, and does anything move? Has the success rate fallen, and for good? Does the
cap on the length, or the verifier, explain what is seen? Only then: does it learn? Every threshold
is a level of significance, or is stated in the evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlvrlib import Array
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
from rlvrlib.practice.run_log import RunLog
from rlvrlib.practice.signals import Signals, idle_steps

LEARNING, PLATEAU, OVERSHOOT = "learning", "plateau", "overshoot"
COLLAPSE, RECOVERY = "collapse and absorbing", "collapse with partial recovery"
STARVED, TRUNCATION, VERIFIER, UNDECIDED = (
    "starved of signal",
    "truncation-bound",
    "verifier suspect",
    "cannot decide",
)
VERDICTS = (
    LEARNING,
    PLATEAU,
    OVERSHOOT,
    COLLAPSE,
    RECOVERY,
    STARVED,
    TRUNCATION,
    VERIFIER,
    UNDECIDED,
)

_IDLE = 0.8  # signal is called starved where at least this share of the groups moves nothing
_FLAT = 0.1  # a plateau: a difference between the halves of the run above this is excluded
_RISE = 2.24  # two one-sided tests at 1.25% each: 2.5% together
_SEGMENTS_RISE = 3.0  # between segments, which are only there if a test at 1% has found a change
GROWTH = {
    "length": 2.0,
    "loss": 4.0,
    "gradient_norm": 4.0,
    "entropy": 4.0,
}  # what a driver of a collapse grows by


# What to change first, by verdict.
ADVICE: dict[str, tuple[str, ...]] = {
    STARVED: ("A longer or shorter step changes nothing: there is no gradient to step along.",),
    OVERSHOOT: (
        "Lower the learning rate (start with a third), from a checkpoint before the warning.",
        "If the loss sums over tokens: normalize by the length, or keep the length from growing; "
        "the threshold falls like 1/T.",
        "Clip the ratio or the norm, which bounds the moves whatever the gradient.",
    ),
    COLLAPSE: ("Go back to a checkpoint before the warning: this run does not return by itself.",),
    TRUNCATION: (
        "Raise the cap on the length, or shape the length. With a loss that sums over tokens, "
        "lower the rate in proportion.",
        "Do not count cut responses as wrong in the loss (mask them), if the cap cannot be raised.",
    ),
    VERIFIER: (
        "Read twenty responses with the reward 1 from the end of the run, before changing the "
        "optimization.",
        "Noise that depends on the reward alone only slows the run down; errors that depend on the "
        "response turn its direction.",
    ),
    LEARNING: ("Nothing needs to change. Watch the length and the pressure.",),
    PLATEAU: (
        "Halve the rate for a while: if the success rate rises, the run was hovering (moves too "
        "long for the gap).",
        "If it creeps like 1/k instead, the multiplier is small: harder prompts, larger groups, or "
        "a longer step.",
    ),
}
_HARDER = "Take harder prompts: these are solved."
_EASIER = (
    "Take easier prompts, larger groups, or a start (supervised, or with hints) from which some "
    "responses are right."
)

Answer = tuple[str, str, list[str], list[str], Sequence[str]]


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
            self.starved,
            self.too_short,
            self.fallen,
            self.cut_off,
            self.suspect,
            self.learns,
        ):
            answer = question()
            if answer is not None:
                return self.with_doubts(answer)
        raise AssertionError("the last question always answers")

    # ---- questions

    def starved(self) -> Answer | None:
        """Nothing moves, from the beginning: at least 80% of the groups are without spread, with
        95% confidence.
        """
        moves = idle_steps(self.log)
        moves = moves[np.isfinite(moves)]
        idle = self.signals.idle[np.isfinite(self.signals.idle)]
        level = self.signals.success.mean() if len(self.signals.success) else np.nan
        low = max((lower_share(share) for share in (moves, idle) if len(share)), default=0.0)
        if low < _IDLE or self.warned is not None or len(self.parts) > 1:
            return None
        why = (
            "every response is right"
            if level > 0.9
            else "every response is wrong"
            if level < 0.1
            else "each prompt is always right or always wrong"
        )
        advice = _HARDER if level > 0.5 else _EASIER
        supports = [
            f"with 95% confidence at least {low:.0%} of the steps or groups move nothing: {why}",
            f"the mean reward is {level:.2f}",
        ]
        against = []
        if level < 0.1 and (early := self.signals.success[:MIN_ROWS].max(initial=0.0)) > 0.1:
            against = [
                f"among the first rows one has the success rate {early:.2f}: the run may have "
                "collapsed at once, at too high a rate"
            ]
        return (
            STARVED,
            f"Starved of signal: nearly all groups have no spread, because {why}.",
            supports,
            against,
            [advice, *ADVICE[STARVED]],
        )

    def too_short(self) -> Answer | None:
        count = len(self.signals.success)
        if count >= MIN_ROWS:
            return None
        what = f"only {count} rows have a reward" if count else "no row has a reward"
        return (
            UNDECIDED,
            f"Cannot decide: {what}; at least {MIN_ROWS} are needed.",
            [],
            [],
            ["Log more steps, or log every step."],
        )

    def fallen(self) -> Answer | None:
        """The success rate has fallen: the end or a trough is significantly below the peak, and
        there was a warning or nearly all is lost.
        """
        if not self.parts:
            return None
        peak = max(
            (part for part in self.parts if self.warned is None or part.start <= self.warned),
            key=lambda part: (max(part.low, 0.0), part.mean),
        )
        later = [part for part in self.parts if part.start >= peak.stop]
        if not later:
            return None
        trough, end = min(later, key=lambda part: part.high), later[-1]
        lost = end.high < max(0.1 * peak.mean, 0.02)
        if self.warned is None and not lost:
            return None
        if not (lost or clearly_below(end, peak) or trough.high < peak.low / 2):
            return None
        where = f"from {self.show(peak)} ({self.span(peak)}) to {self.show(end)} ({self.span(end)})"
        grown, not_grown = self.drivers(peak, later[0].start)
        warning = (
            "no warning came before: the level was not yet known"
            if self.warned is None
            else f"first warning at step {self.steps[self.warned]:g}"
        )
        supports = [f"the {self.noun} fell {where}", warning, *grown]
        if (
            clearly_below(trough, peak)
            and trough.high < peak.low / 2
            and end is not trough
            and end.low > trough.high
            and end.mean > 2 * trough.mean
        ):
            if not clearly_below(end, peak):
                return None  # recovered: judged by how it ends
            return (
                RECOVERY,
                f"Collapse with partial recovery: the {self.noun} fell to {self.show(trough)} "
                f"({self.span(trough)}) and came back to {self.show(end)}.",
                supports,
                not_grown,
                ADVICE[OVERSHOOT],
            )
        longer = self.lengthening(peak, end)
        if longer > 1.25:
            supports.append(
                f"at the end responses were {longer:.1f} times as long as at the peak; "
                "the threshold of a loss that sums over tokens falls like 1/T"
            )
        idle = self.signals.idle[end.start : end.stop]
        no_signal = lower_share(idle[np.isfinite(idle)]) >= _IDLE
        if lost and (no_signal or not np.isfinite(idle).any()):
            supports.append(
                "there is no group with spread left, so no gradient: waiting does not help "
                "(collapse)"
            )
            return (
                COLLAPSE,
                f"Collapse, absorbing: the {self.noun} fell {where}, and nothing moves any more.",
                supports,
                not_grown,
                [*ADVICE[COLLAPSE], *ADVICE[OVERSHOOT]],
            )
        growing = f" while responses became {longer:.1f} times as long" if longer > 1.25 else ""
        return (
            OVERSHOOT,
            f"Overshoot, the steps are too long: the {self.noun} fell {where}{growing}. "
            "Groups still have spread, so it can get worse or better.",
            supports,
            not_grown,
            ADVICE[OVERSHOOT],
        )

    def cut_off(self) -> Answer | None:
        """At least half of the failures are responses that were cut, and the success rate does not
        rise.
        """
        cut, right = self.last_third(self.signals.truncated), self.last_third(self.signals.success)
        if not self.signals.is_rate or self.cut_counts or len(cut) < MIN_ROWS // 2:
            return None
        share, failures = lower_share(cut), 1 - right.mean()
        if (
            share < 0.1
            or share < failures / 2
            or right.mean() + share > 1.05
            or self.rise_of_halves() > _RISE
        ):
            return None
        supports = [
            f"in the last third at least {share:.0%} of the responses are cut, of {failures:.0%} "
            f"that fail ({self.signals.truncated_source})"
        ]
        return (
            TRUNCATION,
            "Truncation-bound: at least half of the failures are responses that reached the cap.",
            supports,
            [],
            ADVICE[TRUNCATION],
        )

    def suspect(self) -> Answer | None:
        """The verifier accepts what it should not: cut responses, or what a held-out evaluation
        does not confirm.
        """
        if not self.signals.is_rate:
            return None
        supports = []
        both = self.signals.success + self.signals.truncated
        both = both[np.isfinite(both)]
        logged = self.log.has("truncated")
        if logged and not self.cut_counts and len(both) >= MIN_ROWS and lower_mean(both) > 1.05:
            supports.append(
                f"success rate and truncated share add up to {both.mean():.2f}: responses that "
                "were cut count as correct"
            )
        drop = self.evaluation_drop()
        if drop is not None and drop[0] >= 0.2 and self.rise_of_halves() > -_RISE:
            supports.append(
                f"the evaluation fell from {drop[1]:.3g} to {drop[2]:.3g} while the training "
                "reward did not"
            )
        length = self.log["length"][self.signals.rows]
        early, late = length[: len(length) // 10 + 1], self.last_third(length)
        if np.isfinite(early).any() and len(late):
            shrunk = np.nanmean(early) / late.mean()
            if (
                shrunk > 3
                and self.last_third(self.signals.success).mean() > 0.95
                and self.rise_of_halves() > _RISE
            ):
                supports.append(
                    f"the success rate reached 95% while responses became {shrunk:.1f} times "
                    "shorter"
                )
        if not supports:
            return None
        return (
            VERIFIER,
            "Verifier suspect: the reward rises, or stays, for reasons that a correct answer does "
            "not give.",
            supports,
            [],
            ADVICE[VERIFIER],
        )

    def learns(self) -> Answer:
        """Does the success rate rise?

        Two contrasts fixed beforehand, the start against the rest and the first half against the
        second; or its first segment against its last.
        """
        values = self.signals.success
        early = max(MIN_ROWS // 2, len(values) // 20)
        start, rest = segment(values, 0, early), segment(values, early, len(values))
        first, second = (
            segment(values, 0, len(values) // 2),
            segment(values, len(values) // 2, len(values)),
        )
        contrasts = (
            (start, rest, _RISE),
            (first, second, _RISE),
            (self.parts[0], self.parts[-1], _SEGMENTS_RISE),
        )
        rises = [standard_errors_apart(lower, upper) for lower, upper, _ in contrasts]
        rise, (lower, upper, needed) = max(
            zip(rises, contrasts, strict=True), key=lambda found: found[0] - found[1][2]
        )
        if rise > needed:
            supports = [
                f"the {self.noun} rose from {self.show(lower)} ({self.span(lower)}) to "
                f"{self.show(upper)} ({self.span(upper)}), {rise:.1f} standard errors"
            ]
            middle = segment(values, len(values) // 2, 3 * len(values) // 4)
            level = (
                abs(
                    standard_errors_apart(
                        middle, segment(values, 3 * len(values) // 4, len(values))
                    )
                )
                < 2
            )
            against = (
                ["in the second half it is level"] if level and len(values) >= 4 * MIN_ROWS else []
            )
            return (
                LEARNING,
                f"Learning: the {self.noun} rises."
                if not against
                else f"Learning: the {self.noun} rose and has kept its level.",
                supports,
                against,
                ADVICE[LEARNING],
            )
        if not self.signals.is_rate:
            for name, part in self.log.components.items():
                known = part[np.isfinite(part)]
                z = (
                    standard_errors_apart(
                        segment(known, 0, len(known) // 2),
                        segment(known, len(known) // 2, len(known)),
                    )
                    if len(known) >= MIN_ROWS
                    else 0.0
                )
                if z > 2 * _RISE:  # beyond any number of parts that a log may have
                    supports = [
                        f"the part {name[:40]!r} of the reward rose, {z:.1f} standard errors from "
                        "half to half"
                    ]
                    return (
                        LEARNING,
                        f"Learning, in a part of the reward ({name[:40]!r}).",
                        supports,
                        self.other_parts(name),
                        ["Judge by the part that checks the answer: log it on its own."],
                    )
        half_width = 2 * float(np.hypot(first.error, second.error))
        change = second.mean - first.mean
        if abs(change) + half_width < _FLAT:
            supports = [
                f"between the halves the {self.noun} changed by {change:+.3f} ± {half_width:.3f}"
            ]
            return (
                PLATEAU,
                f"Plateau: the {self.noun} stays at {self.show(rest)}.",
                supports,
                [],
                ADVICE[PLATEAU],
            )
        return (
            UNDECIDED,
            f"Cannot decide: between the halves the {self.noun} changed by {change:+.2f} ± "
            f"{half_width:.2f}, which may be nothing or much.",
            [],
            [],
            ["Log more steps, or average over more prompts per step."],
        )

    # ---- evidence

    def with_doubts(self, answer: Answer) -> Answer:
        """Adds what speaks against a verdict, whatever it is."""
        verdict, headline, supports, against, advice = answer
        against = list(against)
        if not self.signals.is_rate and len(self.signals.success):
            headline += " The reward is not a success rate."
            against.append(
                "the reward is not a success rate (it leaves [0, 1]): its parts may move against "
                "each other"
            )
        drop = self.evaluation_drop()
        if drop is not None and drop[0] >= 0.2 and verdict in (LEARNING, PLATEAU):
            against.append(f"the evaluation in the log fell from {drop[1]:.3g} to {drop[2]:.3g}")
        if self.warned is not None and verdict not in (COLLAPSE, RECOVERY, OVERSHOOT):
            against.append(
                f"there was a warning at step {self.steps[self.warned]:g}; the fall is not "
                f"established, or the {self.noun} came back"
            )
        last = self.parts[-1] if len(self.parts) > 1 else None
        if (
            verdict == LEARNING
            and last is not None
            and clearly_below(last, max(self.parts, key=lambda part: part.low))
        ):
            against.append(
                f"the last {last.stop - last.start} rows are lower ({self.show(last)}): too few, "
                "or too little, to call it a fall"
            )
        if self.pressure is not None and verdict in (LEARNING, PLATEAU):
            total, error = self.pressure.total[-1], self.pressure.error[-1]
            if total - 2 * error > 0:
                against.append(
                    f"the threshold pressure at the end is {np.exp(total):.2f} times that of the "
                    "reference"
                )
        return verdict, headline, supports, against, advice

    def drivers(self, peak: Segment, fall: int) -> tuple[list[str], list[str]]:
        """What had grown around the warning (the row ``fall`` where none came), compared with the
        peak; and what had not.
        """
        grown: list[str] = []
        not_grown: list[str] = []
        moment, row = ("fall", fall) if self.warned is None else ("warning", self.warned)
        near = slice(max(row - MIN_ROWS // 2, 0), row + MIN_ROWS // 2)
        for name in ("rate", *GROWTH):
            scale = np.abs(self.log[name][self.signals.rows])
            before, now = (part[part > 0] for part in (scale[peak.start : peak.stop], scale[near]))
            if len(before) and len(now):
                ratio, words = (
                    np.median(now) / np.median(before),
                    "learning rate" if name == "rate" else name.replace("_", " "),
                )
                if name == "rate" and ratio <= 1.25:
                    continue  # a rate that was kept, or lowered, needs no line
                (grown if ratio > 1.25 else not_grown).append(
                    f"around the {moment} the {words} was {ratio:.1f} times that of the peak "
                    "(medians)"
                )
        if self.pressure is not None:
            window = int(np.argmax(self.pressure.windows[:, 1] > row))
            total, error = self.pressure.total[window], self.pressure.error[window]
            parts = ", ".join(
                f"{name} {np.exp(factor[window]):.2f}"
                for name, factor in self.pressure.factors.items()
            )
            text = (
                f"the threshold pressure at the {moment} was {np.exp(total):.2f} times the "
                f"reference ({parts}; 95% interval {np.exp(total - 2 * error):.2f} to "
                f"{np.exp(total + 2 * error):.2f})"
            )
            (grown if total - 2 * error > 0 else not_grown).append(text)
        if not grown:
            not_grown.append(
                "nothing that a log shows had grown: the fall may have another cause, such as "
                "harder prompts"
            )
        return grown, not_grown

    def lengthening(self, peak: Segment, end: Segment) -> float:
        """Median length in one stretch over that in another; 1 where it is unknown."""
        length = self.log["length"][self.signals.rows]
        before, after = (
            part[part > 0]
            for part in (length[peak.start : peak.stop], length[end.start : end.stop])
        )
        return float(np.median(after) / np.median(before)) if len(before) and len(after) else 1.0

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

    def last_third(self, values: Array) -> Array:
        late = values[2 * len(values) // 3 :]
        return late[np.isfinite(late)]

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

    def rise_of_halves(self) -> float:
        values, half = self.signals.success, len(self.signals.success) // 2
        return standard_errors_apart(segment(values, 0, half), segment(values, half, len(values)))

    @property
    def noun(self) -> str:
        return "success rate" if self.signals.is_rate else "reward"

    def show(self, part: Segment) -> str:
        low, high = self.signals.reward_range
        if self.signals.is_rate:
            low, high = 0.0, 1.0
        mean, error = low + part.mean * (high - low), part.error * (high - low)
        return f"{mean:.2f} ± {2 * error:.2f}"

    def span(self, part: Segment) -> str:
        return f"steps {self.steps[part.start]:g} to {self.steps[part.stop - 1]:g}"
