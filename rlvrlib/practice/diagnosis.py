"""A verdict on a training run, with what speaks for it, what against it, and what to change first.

The questions behind it are in `verdicts`. A log that cannot decide is told so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlvrlib import Array
from rlvrlib.practice import change_points
from rlvrlib.practice.change_points import MIN_ROWS, Segment
from rlvrlib.practice.course import quantity_words, short_number
from rlvrlib.practice.drawdown import Drawdown, Fall
from rlvrlib.practice.notices import FACTORS, Notice, notices
from rlvrlib.practice.pressure import Pressure, aggregation_of, threshold_pressure
from rlvrlib.practice.records import RECORD_VERSION
from rlvrlib.practice.run_log import RunLog
from rlvrlib.practice.signals import Signals, read_signals
from rlvrlib.practice.verdicts import BROKEN, FALLEN, Case


@dataclass(frozen=True)
class Diagnosis:
    """A verdict with its evidence.

    Attributes
    ----------
    verdict : one of ``VERDICTS``.
    headline : the verdict in a sentence.
    supports, against, advice : evidence for, evidence against, what to change first; one sentence
        each.
    log, signals : what was diagnosed.
    segments : stretches of constant success rate.
    fall, fell : the first crossings of the two boundaries of `Drawdown`: a warning, and what a
        verdict of a fall needs; None.
    halved : the first step at which the mean of the last 25 rows was below half of its largest
        value so far; None.
    noticed : what else moved; see `Notices`.
    pressure : threshold pressure over time; None where there are too few rows.
    notes : what was skipped or assumed.
    """

    verdict: str
    headline: str
    supports: tuple[str, ...]
    against: tuple[str, ...]
    advice: tuple[str, ...]
    log: RunLog
    signals: Signals
    segments: tuple[Segment, ...]
    fall: Fall | None
    fell: Fall | None
    halved: float | None
    noticed: tuple[Notice, ...]
    pressure: Pressure | None
    notes: tuple[str, ...]

    @property
    def warning(self) -> float | None:
        """The first step at which the steps up to it establish a fall; None where none does."""
        return None if self.fall is None else float(self.log.step[self.signals.rows[self.fall.row]])

    @property
    def status(self) -> int:
        """Exit status of the command, 10 for a warning, a fall or broken numbers, else 0."""
        return 10 * (self.warning is not None or self.verdict in FALLEN | {BROKEN})

    @property
    def do_first(self) -> str:
        """The first thing to do, in one sentence."""
        return self.advice[0] if self.advice else ""

    def notice_words(self, notice: Notice) -> str:
        """A notice as a sentence, with the step at which it was known."""
        numbers = f"{short_number(notice.before)} to {short_number(notice.after)}"
        step = self.log.step[self.signals.rows[notice.row]]
        return f"{quantity_words(notice.quantity)} from {numbers}, known at step {step:g}"

    @property
    def sections(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Titles and sentences in the order in which a reader needs them."""
        return (
            ("For", self.supports),
            ("Against", self.against),
            ("What else moved", tuple(self.notice_words(notice) for notice in self.noticed)),
            ("What to change first", self.advice),
            ("Skipped and assumed", self.notes),
        )

    def summary(self) -> str:
        """The diagnosis as plain text, a line per statement, without the control characters that a
        log may hold.
        """
        lines = [self.log.source, f"  {self.headline}", f"  Do first: {self.do_first}"]
        lines.append(f"  verdict: {self.verdict}")
        for title, sentences in self.sections:
            if sentences:
                lines += [f"  {title}", *(f"    - {sentence}" for sentence in sentences)]
        return "\n".join(
            "".join(letter if letter.isprintable() else "?" for letter in line) for line in lines
        )

    def record(self) -> dict[str, Any]:
        """The diagnosis for scripts: numbers, texts, lists and None alone; ``version`` grows when
        a key changes its meaning or goes.
        """
        steps, pressure = self.log.step, self.pressure
        return {
            "version": RECORD_VERSION,
            "file": self.log.source,
            "status": self.status,
            "error": None,
            "format": self.log.form,
            "rows": len(steps),
            "rows_with_reward": len(self.signals.rows),
            "steps": [float(steps[0]), float(steps[-1])] if len(steps) else None,
            "verdict": self.verdict,
            "headline": self.headline,
            "warning": self.warning,
            "halved": self.halved,
            "notices": [self.notice_words(notice) for notice in self.noticed],
            "pressure": None if pressure is None else pressure.record(),
            "for": list(self.supports),
            "against": list(self.against),
            "advice": list(self.advice),
            "notes": list(self.notes),
        }


def watched(signals: Signals) -> Array:
    """The rows that the scan for falls sees: the reward that is judged, in the log's own units,
    shape ``(n,)``.
    """
    return signals.reward.values[signals.rows]


def diagnose(
    log: RunLog,
    *,
    method: str | None = None,
    aggregation: str | None = None,
    group_size: int | None = None,
    rate: float | None = None,
    success: str | None = None,
    reward_range: tuple[float, float] | None = None,
    reference: tuple[float, float] | None = None,
    cut_counts: bool = False,
    optimizer: str | None = None,
    falls: Drawdown | None = None,
    noticed: Sequence[Notice] | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Diagnose a training run.

    Parameters
    ----------
    log : see `read_log`.
    method, aggregation, group_size, reference, optimizer : see `threshold_pressure`.
    rate : the learning rate, where the log does not have it.
    success, reward_range : see `read_signals`.
    cut_counts : whether the verifier means to accept responses that were cut; otherwise that makes
        it suspect.
    falls, noticed : the state of the scan after the rows `watched` of this log, and its notices;
        found anew where omitted.
    seed : of the random orders of the change-point test.

    Raises
    ------
    ValueError : an argument that does not fit the log.
    """
    if rate is not None:
        if not 0 < rate < np.inf:
            raise ValueError(f"rate must be positive and finite, got {rate!r}")
        log = _with_rate(log, rate)
    aggregation_of(method or "grpo", aggregation)  # a wrong name is an error for every log
    signals = read_signals(log, success, reward_range)
    values, steps = signals.success, log.step[signals.rows]
    count = len(values)
    parts = change_points.segments(values, np.random.default_rng(seed)) if count else []
    falls = falls or Drawdown().extend(watched(signals))
    if noticed is None:
        seen = {quantity: log[quantity][signals.rows] for quantity in FACTORS}
        noticed = notices({**seen, "reward": watched(signals)})
    halved = change_points.halved(values)
    pressure = None
    if count >= MIN_ROWS and signals.is_rate:
        pressure = threshold_pressure(
            log,
            signals.rows,
            values,
            method,
            aggregation=aggregation,
            group_size=group_size,
            reference=reference,
            optimizer=optimizer,
        )
    case = Case(
        log, signals, steps, tuple(parts), falls.warning, falls.fell, pressure, cut_counts,
        float(falls.together[0]),
    )
    verdict, headline, supports, against, advice = case.decide()
    return Diagnosis(
        verdict,
        headline,
        tuple(supports),
        tuple(against),
        tuple(advice),
        log,
        signals,
        case.parts,
        falls.warning,
        falls.fell,
        None if halved is None else float(steps[halved]),
        tuple(noticed),
        pressure,
        (*log.notes, *signals.reward.notes, *(pressure.notes if pressure else ())),
    )


def _with_rate(log: RunLog, rate: float) -> RunLog:
    if log.has("rate"):
        return replace(
            log, notes=(*log.notes, "the learning rate of the log was used, not the one given")
        )
    values: Mapping[str, Array] = {**log.values, "rate": np.full(len(log.step), rate)}
    return replace(log, values=values, names={**log.names, "rate": "given"})
