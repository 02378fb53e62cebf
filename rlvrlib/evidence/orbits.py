"""Pictures of the orbits of an update map: where they end, cobwebs, basins, and all rates of the
maps of several policies to move through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from rlvrlib import Array
from rlvrlib.evidence import figures
from rlvrlib.evidence.interactive import Control, Curve, Panel, Play, ragged, upright
from rlvrlib.update_map import (
    LEFT,
    RIGHT,
    PolicyMap,
    UpdateMap,
    branches,
    edge,
    fates,
    orbit,
    orbit_ends,
)


def orbit_diagram(axes: Axes, m: UpdateMap, rates: Array, points: Array) -> None:
    """Points of orbits, shape ``(..., rates)``, over the summit and all two-cycles, which are drawn
    in one look where they are stable and in another where not.
    """
    every = np.broadcast_to(rates, points.shape).ravel(), points.ravel()
    axes.plot(*every, ",", color=figures.BLUE, rasterized=True)
    looks = figures.role("predicted", linestyle="-"), figures.role("threshold")
    figures.where(axes, rates, 0 * rates, np.abs(m.derivative(0.0, rates)) < 1, *looks)
    for branch in branches(m):
        for side in (branch.left, branch.right):
            figures.where(axes, branch.rate, side, branch.stable, *looks)
    for look, label in zip(
        looks, ("summit and two-cycles, stable", "the same, unstable"), strict=True
    ):
        axes.plot([], [], **look, label=label)


def exponents(axes: Axes, m: UpdateMap, rates: Array, measured: Mapping[str, Array]) -> None:
    """Lyapunov exponents of orbits from several kinds of starts, shape ``(starts, rates)`` each:
    the medians, and all of the first kind as a band; dashed, what is predicted for the summit and
    for the main branch of two-cycles, as far as they are stable.
    """
    for index, (kind, values) in enumerate(measured.items()):
        look = figures.series(2 * index, linewidth=1.2)
        axes.plot(rates, np.median(values, axis=0), **look, label=f"exponent, from the {kind}")
        if index == 0:
            figures.band(axes, rates, values, look)
    rest = np.linspace(rates[0], -2 / m.slope(np.zeros(())), 200)
    at_rest = np.log(np.abs(m.derivative(0.0, rest)))
    figures.predicted(axes, rest, at_rest, label="exponent, predicted")
    calm = branches(m)[0].calm
    figures.predicted(axes, calm.rate, calm.exponent)
    axes.axhline(0, **figures.role("reference"))


def distances(axes: Axes, m: UpdateMap, thin: int = 20) -> None:
    """The distances of the two points of every two-cycle against its rate, solid where it is
    stable; every so many of them are drawn.
    """
    for branch in branches(m):
        rate, stable = branch.rate[::thin], branch.stable[::thin]
        for side, distance, color, width in (
            ("right", branch.right, figures.OCHRE, 3.2),
            ("left", -branch.left, figures.BLUE, 1.4),
        ):
            look = {"color": color, "linewidth": width, "label": f"distance on the {side}"}
            look["zorder"] = 4 - width / 4  # the thin one in front
            dotted = {"color": color, "linewidth": 0.7 * width, "linestyle": ":"}
            figures.where(axes, rate, distance[::thin], stable, look, dotted)


def cobweb(
    axes: Axes, m: UpdateMap, rate: float, start: float, updates: int, x: Array, budget: int
) -> None:
    """The map over ``x``, an orbit that goes up to it and across to the diagonal, and in grey the
    points from which the way back takes more than the budget.
    """
    for side, end in ((RIGHT, x[-1]), (LEFT, x[0])):
        beyond = side * float(edge(m, rate, side, budget)), end
        axes.axvspan(*beyond, color=figures.GREY, alpha=0.25, linewidth=0)
    axes.plot(x, x, **figures.role("reference"))
    axes.plot(x, m.update(x, rate), **figures.role("measured"))
    stairs = np.repeat(orbit(m, start, rate, updates), 2)
    axes.plot(stairs[:-1], stairs[1:], color=figures.VERMILLION, linewidth=0.8)
    axes.plot(start, start, color=figures.VERMILLION, marker="o")
    axes.set(xlim=x[[0, -1]], ylim=x[[0, -1]])


def basin(
    axes: Axes, m: UpdateMap, rates: Array, starts: Array, when: Array, budget: int, last: int
) -> Any:
    """The update by which starts are lost (see `update_map.lost_at`), shape ``(starts, rates)``, in
    shades for 0, 1, 2, 3, up to ``last`` and not by then; dashed, the starts whose first update
    lands exactly on an edge. Gives what a colour bar takes.
    """
    shades = ListedColormap(plt.get_cmap("cividis")(np.linspace(0, 1, 6)))
    kind = np.select([when <= 3, when <= last], [when, 4], 5)
    image = axes.pcolormesh(rates, starts, kind, cmap=shades, vmin=-0.5, vmax=5.5, rasterized=True)
    near = np.abs(starts)[:, None] < min(m.peak.values()) + 3
    landed = np.where(near, m.update(starts[:, None], rates), np.nan)
    for side in (RIGHT, LEFT):
        excess = side * landed - edge(m, rates, side, budget)
        look: dict[str, Any] = {"colors": "white", "linestyles": "--", "linewidths": 1.3}
        axes.contour(rates, starts, excess, levels=[0], **look)
    axes.grid(False)
    return image


def basin_scale(figure: Figure, image: Any, axes: Any, last: int) -> None:
    """The colour bar of a `basin`."""
    bar = figure.colorbar(image, ax=axes, shrink=0.8, ticks=range(6))
    by = [f"by update {k}" for k in (1, 2, 3, last)]
    bar.ax.set_yticklabels(["lost at the start", *by, "not by then"])


_TITLE = "Move the learning rate along the route; above c₀ the summit is unstable"
_ALT = (
    "Left: the places where runs end, against the learning rate. One place for small rates, then "
    "two, then a band of many, and far from the summit once runs are thrown out. A line shows the "
    "chosen rate. Right: the success rate of one run at that rate over its first updates: it "
    "climbs and stays, swings between two values, wanders, or falls to zero and stays there."
)


def explorer(
    maps: Mapping[str, PolicyMap],
    names: Mapping[str, str],
    relative: Array,
    starts: Array,
    updates: int,
    events: Mapping[str, Mapping[str, float]],
    *,
    tall: tuple[float, float] = (-13, 22),
    shown: int = 24,
) -> Play:
    """Where orbits of several policies end against the rate, and the first updates of one of them:
    a reader moves through policies and rates.

    Parameters
    ----------
    maps, names : the policies, and what they are called.
    relative : rates over the one at which the summit loses its stability, shape ``(rates,)``.
    starts : shape ``(starts, 1)``; the one in the middle is shown on its way.
    updates : as `orbit_ends` takes them.
    events : up to two vertical lines, each with its rate for each policy.
    tall, shown : the range of the points, and the number of updates shown.
    """
    over, ends, courses, sentences = [], [], [], []
    for key, m in maps.items():
        rates = relative * -2 / m.slope(np.zeros(()))
        points, exponents = orbit_ends(m, starts, rates, updates)
        found = fates(points, exponents, m.success_rate(points).max(axis=0) < 0.01)
        counts = [
            {fate: np.sum(which[:, k]) for fate, which in found.items()} for k in range(len(rates))
        ]
        texts = [", ".join(f"{n} {fate}" for fate, n in row.items() if n) for row in counts]
        sentences.append(
            [
                f"{names[key]}, c = {rate:.3g}: in the long run, of {len(starts)} runs from the "
                "way up, "
                f"{text}."
                for rate, text in zip(rates, texts, strict=True)
            ]
        )
        places = [np.unique(np.round(points[:, ::5, k], 1)) for k in range(len(rates))]
        over.append(np.repeat(relative, [len(some) for some in places]))
        ends.append(np.concatenate(places))
        path = orbit(m, starts[(len(starts) - 1) // 2], rates, shown)
        courses.append(m.success_rate(path).T)
    dots = figures.role("measured", linestyle="none", marker=".", markersize=3)
    lines = [
        upright(
            [-rates[key] * m.slope(np.zeros(())) / 2 for key, m in maps.items()],
            tall,
            figures.role(look),
            (0,),
            label=event,
        )
        for look, (event, rates) in zip(("ours", "paper"), events.items(), strict=False)
    ]
    chosen = upright(relative, tall, figures.role("reference"), (1,), label="chosen rate")
    course = Curve(np.arange(shown + 1), courses, figures.series(1, marker=True), (0, 1), panel=1)
    wide = 0.96 * relative[0], relative[-1] / 0.96
    return Play(
        _TITLE,
        _ALT,
        [
            Control("method", [names[key] for key in maps], slider=False),
            Control(
                "learning rate c / c₀", [f"{ratio:.2f}" for ratio in relative], len(relative) // 4
            ),
        ],
        [
            Panel("learning rate c / c₀", "parameter x", xscale="log", xlim=wide, ylim=tall),
            Panel(f"update k, the first {shown}", "success rate J", ylim=(-0.03, 1.03)),
        ],
        [
            Curve(ragged(over), ragged(ends), dots, (0,), label="where runs end"),
            *lines,
            chosen,
            course,
        ],
        sentences,
    )
