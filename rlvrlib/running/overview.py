"""The page of a sweep: one small plot for each claim, measured against a swept parameter, the
prediction drawn over it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rlvrlib.evidence import claims, figures
from rlvrlib.evidence import html as page
from rlvrlib.running.sweep import Outcome, Point

_LISTED = 40  # rows of the tables of what failed
_LOG_X, _LOG_Y = 50, 1000  # a scale is logarithmic where largest over smallest is more
_Row = tuple[Point, dict[str, Any]]


def overview(
    name: str, points: Sequence[Point], outcomes: Mapping[int, Outcome], facts: Mapping[str, object]
) -> str:
    """The overview page of a finished sweep.

    Parameters
    ----------
    name : the notebook's name.
    facts : what to say of the sweep, for example the versions.
    """
    rows = [(point, row) for point in points for row in outcomes[point.index]["rows"]]
    failed = [point for point in points if outcomes[point.index]["error"]]
    axis = _swept(points)
    lines = _lines(points, axis)
    with mpl.rc_context():
        figures.use_style()
        mpl.rcParams.update({"font.size": 9, "axes.titlesize": 9, "figure.figsize": (3.4, 2.4)})
        keys = dict.fromkeys(row["key"] for _, row in rows)
        panels = [
            _panel(key, [(p, row) for p, row in rows if row["key"] == key], axis, lines, failed)
            for key in keys
        ]
        legend = _legend(axis, lines, {str(row["verdict"]) for _, row in rows}, bool(failed))
    summary = f"{len(points)} points. {claims.summary(row for _, row in rows)}."
    if failed:
        summary += f" {len(failed)} points did not run."
    bad = [(p, row) for p, row in rows if row["verdict"] in _MARKS]
    body = [
        f"<h1>Sweep of {html.escape(name)}</h1>",
        f"<p>{html.escape(summary)}</p>",
        page.facts_table(facts),
        "<h2>Predictions and records</h2>",
        legend,
        f"<div class='panels'>{''.join(panels)}</div>",
    ]
    if failed:
        failures = [
            (_words(point.parameters), outcomes[point.index]["error"]) for point in failed[:_LISTED]
        ]
        body += [
            f"<h2>Points that did not run{_first(failed)}</h2>",
            page.table(("parameters", "reason"), failures),
        ]
    if bad:
        entries = [
            (_words(p.parameters), c.statement, c.sign + c.predicted, c.measured, c.verdict)
            for p, c in ((p, claims.cells(row)) for p, row in bad[:_LISTED])
        ]
        columns = ("parameters", "claim", "predicted", "measured", "verdict")
        body += [
            f"<h2>Claims that do not hold{_first(bad)}</h2>",
            page.table(columns, entries),
        ]
    return page.document(f"Sweep of {name}", "\n".join(body))


def _swept(points: Sequence[Point]) -> str:
    """The parameter on the horizontal axes: the first that varies."""
    names = list(points[0].parameters)
    return next(
        (
            name
            for name in names
            if any(p.parameters[name] != points[0].parameters[name] for p in points)
        ),
        names[0],
    )


def _lines(points: Sequence[Point], axis: str) -> list[dict[str, Any]]:
    """The combinations of the other parameters that vary: one line of each plot."""
    seen: list[dict[str, Any]] = []
    for point in points:
        others = _others(point, axis)
        if others not in seen:
            seen.append(others)
    return [{k: v for k, v in others.items() if any(o[k] != v for o in seen)} for others in seen]


def _others(point: Point, axis: str) -> dict[str, Any]:
    return {name: value for name, value in point.parameters.items() if name != axis}


def _panel(
    key: str,
    rows: Sequence[_Row],
    axis: str,
    lines: Sequence[dict[str, Any]],
    failed: Sequence[Point],
) -> str:
    """The plot of one claim, with its statement."""
    first = rows[0][1]
    figure = Figure()
    axes = figure.subplots()
    place, labels = _scale([p.parameters[axis] for p in [*(p for p, _ in rows), *failed]])
    drawn, heights = set(), []
    for index, others in enumerate(lines):
        mine = [
            (p, row)
            for p, row in rows
            if all(p.parameters[name] == value for name, value in others.items())
        ]
        mine.sort(key=lambda entry: place(entry[0].parameters[axis]))
        x = [place(p.parameters[axis]) for p, _ in mine]
        measured, predicted = (
            _finite([row[name] for _, row in mine]) for name in ("measured", "predicted")
        )
        axes.plot(x, measured, **_look(index, len(lines)))
        if (shape := (tuple(x), predicted.tobytes())) not in drawn:
            axes.plot(
                x,
                predicted,
                **figures.role("predicted", zorder=3, marker="_" if len(x) == 1 else ""),
            )
            drawn.add(shape)
            if any(tolerance := np.array([float(row["tolerance"]) for _, row in mine])):
                middle = np.where(np.isnan(predicted), measured, predicted)
                axes.fill_between(
                    x,
                    middle - tolerance,
                    middle + tolerance,
                    color=figures.GREY,
                    alpha=0.25,
                    lw=0,
                )
        _mark(axes, x, measured, [row["verdict"] for _, row in mine])
        heights.append(np.concatenate([measured, predicted]))
    for point in failed:
        axes.plot(
            place(point.parameters[axis]),
            0.03,
            "x",
            color=figures.VERMILLION,
            transform=axes.get_xaxis_transform(),
        )
    _scales(axes, labels, [place(p.parameters[axis]) for p, _ in rows], np.concatenate(heights))
    axes.set_xlabel(_short(axis, 40))
    alt = f"{key}: measured and predicted against {axis}"
    said = claims.cells(first)
    caption = f"{said.statement}. {said.source}. Measured {said.sign or '= '}predicted."
    if first["verdict"] == claims.RECORDED:
        caption = f"{said.statement}. Recorded."
    drawing = page.figure(figures.to_svg(figure), f"{key}-", alt, caption)
    return f"<div><h3>{html.escape(key)}</h3>{drawing}</div>"


def _look(index: int, count: int) -> dict[str, Any]:
    if count <= len(figures.SERIES):
        return figures.series(index, marker=True)
    return {"color": figures.BLUE, "linewidth": 0.9, "alpha": 0.6, "marker": "o", "markersize": 2.5}


def _mark(axes: Axes, x: Sequence[float], y: np.ndarray, verdicts: Sequence[str]) -> None:
    for verdict, style in _MARKS.items():
        chosen = [index for index, mine in enumerate(verdicts) if mine == verdict]
        axes.plot([x[index] for index in chosen], y[chosen], **style)


_MARKS: dict[str, dict[str, Any]] = {
    claims.FAILS: {
        "linestyle": "",
        "marker": "x",
        "color": figures.VERMILLION,
        "markersize": 9,
        "markeredgewidth": 2,
        "zorder": 4,
    },
    claims.OUTSIDE: {
        "linestyle": "",
        "marker": "o",
        "markerfacecolor": "none",
        "color": figures.GREY,
        "markersize": 9,
        "zorder": 4,
    },
}


def _scale(values: Sequence[Any]) -> tuple[Any, list[str]]:
    """Where a value stands on the axis, and the labels of an axis that is no number line."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return float, []
    labels = list(dict.fromkeys(str(value) for value in values))
    return lambda value: float(labels.index(str(value))), labels


def _scales(axes: Axes, labels: Sequence[str], x: Sequence[float], y: np.ndarray) -> None:
    if labels:
        axes.set_xticks(range(len(labels)), [_short(label) for label in labels])
    elif min(x) > 0 and max(x) / min(x) > _LOG_X:
        axes.set_xscale("log")
    axes.ticklabel_format(axis="y", useOffset=False)
    y = y[np.isfinite(y)]
    if len(y) and y.min() > 0 and y.max() / y.min() > _LOG_Y:
        axes.set_yscale("log")


def _legend(axis: str, lines: Sequence[dict[str, Any]], verdicts: set[str], failed: bool) -> str:
    """What the signs mean, once for all plots."""
    band = "predicted (band: tolerance; of a record: uncertainty)"
    handles = [Line2D([], [], **figures.role("predicted"), label=band)]
    if len(lines) <= len(figures.SERIES):
        named = [(_short(_words(others), 60) or "measured") for others in lines]
        handles += [
            Line2D([], [], **_look(index, len(lines)), label=label)
            for index, label in enumerate(named)
        ]
    else:
        handles.append(
            Line2D(
                [],
                [],
                **_look(0, len(lines)),
                label=f"measured; {len(lines)} combinations of the others",
            )
        )
    handles += [
        Line2D([], [], **_MARKS[verdict], label=verdict)
        for verdict in _MARKS
        if verdict in verdicts
    ]
    if failed:
        handles.append(
            Line2D(
                [],
                [],
                linestyle="",
                marker="x",
                color=figures.VERMILLION,
                label="at the bottom: did not run",
            )
        )
    figure = Figure(figsize=(3.4, 0.2 * len(handles) + 0.1))
    figure.legend(handles=handles, loc="center left", frameon=False)
    alt = f"Legend. Horizontal axis: {axis}. " + "; ".join(
        str(handle.get_label()) for handle in handles
    )
    return page.figure(figures.to_svg(figure), "legend-", alt)


def _finite(values: Sequence[object]) -> np.ndarray:
    """Numbers, with gaps for infinities and NaN, which a row holds as text, and for what a record
    does not predict.
    """
    numbers = np.array([math.nan if value is None else float(str(value)) for value in values])
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _short(text: str, length: int = 12) -> str:
    # A dollar sign would start mathematics.
    return (text if len(text) <= length else text[: length - 1] + "…").replace("$", r"\$")


def _words(parameters: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in parameters.items())


def _first(listed: Sequence[object]) -> str:
    return f" (the first {_LISTED} of {len(listed)})" if len(listed) > _LISTED else ""
