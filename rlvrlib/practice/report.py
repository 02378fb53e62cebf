"""The diagnosis as one self-contained HTML page, with the pictures that both the page and the book
show.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlvrlib import Array
from rlvrlib.evidence import figures
from rlvrlib.evidence import html as page
from rlvrlib.practice.diagnosis import Diagnosis
from rlvrlib.practice.signals import Signals

_FEW = 600  # rows up to this number are drawn one by one; of more only their means
_SHOWN = {
    "length": "length (tokens)",
    "gradient_norm": "gradient norm",
    "loss": "|loss|",
    "entropy": "entropy",
    "kl": "KL",
    "rate": "learning rate",
}


def report(diagnoses: Sequence[Diagnosis]) -> str:
    """One HTML page about one or several runs: no script, nothing from another host, every text of
    a log escaped.
    """
    title = (
        "Diagnosis of a training run"
        if len(diagnoses) == 1
        else f"Diagnosis of {len(diagnoses)} training runs"
    )
    body = "\n".join(_run(found, number) for number, found in enumerate(diagnoses))
    return page.document(title, f"<header><h1>{title}</h1></header>\n{body}")


def _run(found: Diagnosis, number: int) -> str:
    parts = [
        f"<section><h2>{html.escape(found.log.source)}</h2>",
        f"<p><strong>{html.escape(found.headline)}</strong></p>",
        f"<p>Do first: {_code(found.do_first)}</p>",
    ]
    parts.append(page.facts_table(_facts(found)))
    for title, sentences in found.sections:
        if sentences:
            items = "".join(f"<li>{_code(sentence)}</li>" for sentence in sentences)
            parts.append(f"<h3>{title}</h3><ul>{items}</ul>")
        if title == "For":
            parts += [
                page.figure(svg, f"r{number}{name}-", alt, caption)
                for name, svg, alt, caption in _pictures(found)
            ]
    return "\n".join([*parts, "</section>"])


def _code(sentence: str) -> str:
    """The sentence, escaped, with names of a configuration set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(sentence))


def _facts(found: Diagnosis) -> dict[str, object]:
    steps, signals = found.log.step, found.signals
    facts: dict[str, object] = {
        "Verdict": found.verdict,
        "Format": found.log.form,
        "Steps": f"{steps[0]:g} to {steps[-1]:g}, {len(steps)} rows, {len(signals.rows)} of them "
        "with a reward",
        signals.reward.noun.capitalize(): f"{signals.reward.source}, {_ends(signals)}",
        "First warning": "none" if found.warning is None else f"step {found.warning:g}",
        "Mean of 25 rows below half its peak": "never"
        if found.halved is None
        else f"step {found.halved:g}",
        "Learning rate": _rate(found.log["rate"]),
        "Groups without spread": signals.idle_source or "unknown",
        "Truncated responses": signals.truncated_source or "unknown",
    }
    return facts


def _ends(signals: Signals) -> str:
    reward = signals.reward
    known = "" if reward.bounded else ", which hold all means"
    return f"{reward.low:g} to {reward.high:g}{known}"


def _rate(values: Array) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "unknown"
    return (
        f"{known[0]:g}"
        if np.ptp(known) == 0
        else f"{known.min():g} to {known.max():g}, {known[-1]:g} at the end"
    )


# ---- pictures


def _pictures(found: Diagnosis) -> Iterable[tuple[str, str, str, str]]:
    if len(found.signals.rows) < 2:
        return
    with mpl.rc_context():
        figures.use_style()
        drawing = Figure(figsize=(6.4, 3.4))
        draw_course(drawing.subplots(), found)
        yield (
            "course",
            figures.to_svg(drawing),
            _course_words(found),
            "Rows, their means, and segments of constant level.",
        )
        if found.pressure is not None and len(found.pressure.windows) > 1:
            drawing = Figure(figsize=(6.4, 3.4))
            draw_pressure(drawing.subplots(), found)
            total = np.exp(found.pressure.total)
            yield (
                "pressure",
                figures.to_svg(drawing),
                f"Threshold pressure over the steps: from {total[0]:.2f} through {total.max():.2f} "
                f"to {total[-1]:.2f} times the reference.",
                "Effective step over threshold, relative to the reference window, and its factors, "
                f"for steps of {found.pressure.optimizer}. The band is two standard errors.",
            )
        known = varying(found)
        if known:
            drawing = Figure(figsize=(6.4, 1.7 * len(known)))
            draw_scales(list(np.atleast_1d(drawing.subplots(len(known), sharex=True))), found)
            yield (
                "scales",
                figures.to_svg(drawing),
                f"Means over windows of: {', '.join(known)}.",
                "The other quantities of the log, means over windows of rows.",
            )


def _course_words(found: Diagnosis) -> str:
    levels = ", then ".join(f"{found.signals.in_units(part.mean):.2f}" for part in found.segments)
    warned = "no warning" if found.warning is None else f"first warning at step {found.warning:g}"
    return f"{found.signals.reward.noun.capitalize()} over the steps: level {levels}; {warned}."


def draw_course(axes: Axes, found: Diagnosis) -> None:
    """The reward in the log's own units: rows, means over windows, segments of constant level,
    first warning and where the reward had halved.
    """
    signals = found.signals
    steps, values = found.log.step[signals.rows], signals.in_units(signals.success)
    if len(values) <= _FEW:
        axes.plot(steps, values, ".", color=figures.GREY, markersize=3, alpha=0.6, label="rows")
    places, means = _means(steps, values)
    axes.plot(places, means, **figures.role("measured", label="means"))
    for number, part in enumerate(found.segments):
        ends = [steps[part.start], steps[part.stop - 1]]
        axes.plot(
            ends,
            [signals.in_units(part.mean)] * 2,
            **figures.role("predicted", label="segments" if number == 0 else None),
        )
    if found.warning is not None:
        axes.axvline(found.warning, **figures.role("threshold", label="first warning"))
    if found.halved is not None:
        axes.axvline(found.halved, **figures.role("reference", label="below half its peak"))
    axes.set(xlabel="step", ylabel=signals.reward.noun)
    if signals.is_rate and signals.in_units([0, 1]).tolist() == [0, 1]:
        axes.set_ylim(-0.03, 1.03)
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, columnspacing=1.0, handlelength=1.6
    )


def draw_pressure(axes: Axes, found: Diagnosis) -> None:
    """Threshold pressure relative to the reference, with its band and its factors, on a logarithmic
    scale.
    """
    pressure = found.pressure
    if pressure is None:
        raise ValueError(
            "found must have a pressure: the log has too few rows, or its reward may not be "
            "used as a success rate"
        )
    steps = found.log.step[found.signals.rows]
    places = np.array([steps[start:stop].mean() for start, stop in pressure.windows])
    total, error = pressure.total, pressure.error
    axes.fill_between(
        places,
        np.exp(total - 2 * error),
        np.exp(total + 2 * error),
        color=figures.BLUE,
        alpha=0.2,
        linewidth=0,
    )
    axes.plot(places, np.exp(total), **figures.role("measured", label="pressure"))
    for number, (name, factor) in enumerate(pressure.factors.items()):
        if np.any(factor != 0):
            axes.plot(
                places, np.exp(factor), **figures.series(number + 1, label=name, linewidth=1.2)
            )
    axes.plot(places[pressure.reference], 1.0, "o", color=figures.INK, label="reference")
    axes.axhline(1, **figures.role("reference"))
    if found.warning is not None:
        axes.axvline(found.warning, **figures.role("threshold"))
    axes.set(xlabel="step", ylabel="pressure over reference", yscale="log")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.45), max(high, 2.2))
    _tick_factors(axes)
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, columnspacing=1.0, handlelength=1.6
    )


def _tick_factors(axes: Axes) -> None:
    """At most seven ticks at factors of 2, 4, 10 or 100, ... on a logarithmic axis."""
    low, high = np.log(axes.get_ylim())
    logs = np.log([2, 4, 10, 100, 1e4, 1e8, 1e16, 1e99])
    factor = logs[np.argmax(6 * logs > high - low)]
    axes.set_yticks(np.exp(factor * np.arange(np.ceil(low / factor), high / factor)))
    axes.yaxis.set_major_formatter("×{x:.3g}")
    axes.minorticks_off()


def varying(found: Diagnosis) -> list[str]:
    """The quantities that `draw_scales` draws: those of the log that are not constant."""
    finite = ((name, found.log[name][np.isfinite(found.log[name])]) for name in _SHOWN)
    return [name for name, values in finite if len(values) > 1 and np.ptp(values) > 0]


def draw_scales(axes: Sequence[Axes], found: Diagnosis) -> None:
    """The other quantities of the log, one a panel, on a logarithmic scale where they spread over a
    factor of ten.
    """
    for panel, name in zip(axes, varying(found), strict=True):
        values = found.log[name]
        values = np.abs(values) if name == "loss" else values
        there = np.isfinite(values)
        places, means = _means(found.log.step[there], values[there])
        positive = means[means > 0]
        if len(positive) and means.min() >= 0 and positive.max() > 10 * positive.min():
            panel.set_yscale("log")
            means = np.where(means > 0, means, np.nan)
        panel.plot(places, means, **figures.role("measured"))
        if found.warning is not None:
            panel.axvline(found.warning, **figures.role("threshold"))
        panel.set_ylabel(_SHOWN[name])
    axes[-1].set_xlabel("step")


def _means(steps: Array, values: Array, windows: int = 40) -> tuple[Array, Array]:
    """Means over about forty windows of at least five rows."""
    width = max(5, -(-len(values) // windows))
    edges = np.arange(0, len(values), width)
    sizes = np.diff(np.append(edges, len(values)))
    return np.add.reduceat(steps, edges) / sizes, np.add.reduceat(values, edges) / sizes
