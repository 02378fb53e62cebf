"""What this book measured about how a rate moves, to stand beside a plan.

A plan moves a guarantee. The runs of the chapter "GRPO runs" and the single steps of the chapter "A
language model" say how rates moved on one model. ``measurements/measured_rates.py`` draws the table
beside this module from their logs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from rlvrlib.practice.planning import Setting, plan
from rlvrlib.practice.pressure import aggregation_of

SAME_RATE = 1e-6  # relative: rates that differ by less are one


def table() -> dict[str, Any]:
    """``runs``: method, ``length`` (the cap), ``rate``, untrained mean reward and that of the last
    steps of each seed; ``single_steps``: the exponent of the critical step in the length.
    """
    text = files("rlvrlib.practice").joinpath("measured_rates.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def measured(
    before: Setting, after: Setting, rate: float | None = None, optimizer: str = "adamw"
) -> tuple[str, ...]:
    """Sentences about what was measured between two settings, each with its limits; none where
    nothing was.

    Parameters
    ----------
    before, after, rate, optimizer : of a plan (`planning.plan`). Runs are found by method, loss and
        length.
    """
    found = table()
    return (
        *_of_runs(found, before, after, rate, optimizer),
        *_of_steps(found["single_steps"], before, after),
    )


def outcome(run: Mapping[str, Any]) -> str:
    """``learned``: every seed ended above three times the untrained reward; ``failed``: none ended
    above that reward.
    """
    least, most = min(run["ends"]), max(run["ends"])
    if least > 3 * run["untrained"]:
        return "learned"
    return "failed" if most <= run["untrained"] else "depended on the seed"


def _of_runs(
    found: Mapping[str, Any], before: Setting, after: Setting, rate: float | None, optimizer: str
) -> list[str]:
    known, new = (_runs(found["runs"], setting) for setting in (before, after))
    if before == after or not known or not new:
        return []
    lines = [f"Runs of a trainer, all with plain gradient ascent (GRPO runs): {found['about']}."]
    for setting, runs in ((before, known), (after, new)):
        ends = "; ".join(
            f"rate {_rate(run, setting):.4g} {outcome(run)} "
            f"({', '.join(f'{end:.2f}' for end in sorted(run['ends']))})"
            for run in runs
        )
        untrained = f"untrained {runs[0]['untrained']:.2f}"
        lines.append(f"{setting.method}, {setting.length:g} tokens, {untrained}: {ends}.")
    planned = plan(before, after, rate, "sgd").rate
    then, now = _at(known, before, rate), _at(new, after, planned)
    if then and now:
        held, ended = outcome(then), outcome(now)
        lines.append(
            f"For plain gradients the plan carries the rate {rate:g}, which {held}, to "
            f"{planned:.4g}, which {ended}"
            + (": here it was too bold." if (held, ended) == ("learned", "failed") else ".")
            + (" Nothing was run with Adam." if "adam" in optimizer else "")
        )
    return lines


def _of_steps(steps: Mapping[str, Any], before: Setting, after: Setting) -> list[str]:
    shortest, longest = min(steps["lengths"]), max(steps["lengths"])
    inside = all(shortest <= setting.length <= longest for setting in (before, after))
    if before.length == after.length or not inside:
        return []
    ratio = before.length / after.length
    return [
        f"Single steps of exact log-odds ascent (A language model): for {steps['prompts']} answers "
        f"of {shortest} to {longest} tokens the critical rate of a sum over tokens goes like "
        f"T^{steps['exponent']:.1f} (95% interval {steps['low']:.1f} to {steps['high']:.1f}), so "
        f"here times {ratio ** -steps['exponent']:.2g}, where the guarantee has {ratio:.2g}."
    ]


def _runs(runs: Sequence[Mapping[str, Any]], setting: Setting) -> list[Mapping[str, Any]]:
    """The runs of a setting: a sum over tokens and a division by the cap differ in the rate."""
    return [
        run
        for run in runs
        if (run["method"], run["length"]) == (setting.method, setting.length)
        and (setting.aggregation == "mean") == (aggregation_of(run["method"]) == "mean")
    ]


def _rate(run: Mapping[str, Any], setting: Setting) -> float:
    """The rate that makes the moves of the run in the setting's loss."""
    return float(run["rate"] / run["length"] if setting.aggregation == "sum" else run["rate"])


def _at(
    runs: Sequence[Mapping[str, Any]], setting: Setting, rate: float | None
) -> Mapping[str, Any] | None:
    if rate is None:
        return None
    near = (run for run in runs if math.isclose(rate, _rate(run, setting), rel_tol=SAME_RATE))
    return next(near, None)
