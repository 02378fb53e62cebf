"""One look for every figure of the book.

The ink of axes and text and the background are sentinel colours: the site replaces them by the
page's own, so one SVG serves the light and the dark theme. All other colours have a middle
luminance (contrast of at least 3 on white and on the dark page), and no two curves differ by colour
alone: each role has its own line style too.

What a notebook draws with, beside Matplotlib itself (``figures.`` before each)::

    figure, (left, right) = panels(2, log="x", x="step size", y="success rate $J$")
    left.plot(x, y, **series(index), label=name)       # curve number `index` of a family
    left.plot(x, y, **role("paper"), label="paper")    # a quantity that looks the same everywhere
    measured(left, x, y, index, label=name)            # points, with error bars if yerr= is given
    predicted(left, x, y, label="predicted")           # the dashed line of theory
    shares(left, counts, trials, rows, index)          # with their 95% intervals
    band(left, x, runs, series(index))                 # between the quantiles 0.1 and 0.9 of runs
    where(left, x, y, holds, look, other)              # one look where it holds, one where not
    left.axvline(1, **role("threshold"))
    ticks(left, x=[1, 3, 10], y=names)                 # these alone: plain numbers, or texts
    legend_below(figure)                               # one entry a label, for all panels
    log_odds_axis(right)                               # success rates beside log-odds
    log_spaced(num_steps)                              # which steps of a long run to draw

A legend, a logarithmic axis or an error bar needs no size and no ticks said: `use_style` has them.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image  # comes with matplotlib, which writes PNG with it

INK = "#101418"
BACKGROUND = "#fefefc"

BLUE, VERMILLION, GREEN, PURPLE, OCHRE, GREY = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#b8609a",
    "#a87900",
    "#7f7f7f",
)

# One legend for the whole book: the same quantity has the same look on every page.
ROLES: dict[str, dict[str, Any]] = {
    "measured": {"color": BLUE, "linestyle": "-"},
    "predicted": {"color": INK, "linestyle": (0, (5, 2)), "linewidth": 1.2},
    "threshold": {"color": VERMILLION, "linestyle": ":", "linewidth": 1.4},
    "paper": {"color": OCHRE, "linestyle": (0, (3, 1, 1, 1))},
    "ours": {"color": PURPLE, "linestyle": "-."},
    "safe": {"color": GREEN, "linestyle": "-"},
    "reference": {"color": GREY, "linestyle": "-", "linewidth": 1.0},
}

# For families of curves (several delta, several methods): colour and dash change together.
SERIES: list[dict[str, Any]] = [
    {"color": BLUE, "linestyle": "-", "marker": "o"},
    {"color": VERMILLION, "linestyle": "--", "marker": "s"},
    {"color": GREEN, "linestyle": "-.", "marker": "^"},
    {"color": PURPLE, "linestyle": ":", "marker": "D"},
    {"color": OCHRE, "linestyle": (0, (6, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": GREY, "linestyle": (0, (1, 1)), "marker": "X"},
]

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"
_DEFS, _CLIP = f"{_SVG}defs", f"{_SVG}clipPath"
_TRANSLATE = re.compile(r"translate\(([-\d.]+) ([-\d.]+)\)")
# Nothing in a figure of ours; in a page they would run or add noise.
_DROPPED = {f"{_SVG}{name}" for name in ("script", "foreignObject", "metadata", "title")}


def use_style() -> None:
    """Set the book's style for all figures of this notebook: SVG, stable from run to run."""
    mpl.rcParams.update(
        {
            "figure.figsize": (6.4, 3.8),
            "figure.dpi": 100,
            "savefig.dpi": 160,
            "figure.constrained_layout.use": True,
            "figure.facecolor": BACKGROUND,
            "savefig.facecolor": BACKGROUND,
            "axes.facecolor": "none",
            "legend.facecolor": "none",
            "legend.framealpha": 0.0,
            "legend.fontsize": 9,
            "legend.title_fontsize": 9,
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": GREY,
            "grid.alpha": 0.25,
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.8,
            "lines.markersize": 4.5,
            "errorbar.capsize": 3,
            "xtick.minor.size": 0,  # nine more ticks a decade say nothing
            "ytick.minor.size": 0,
            "axes.prop_cycle": cycler(color=[style["color"] for style in SERIES]),
            **dict.fromkeys(
                ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"),
                INK,
            ),
            "svg.fonttype": "path",
            "svg.hashsalt": "rlvr",
        }
    )
    try:
        from IPython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # outside a notebook there is nothing to set
        return
    if get_ipython() is not None:
        set_matplotlib_formats("svg")
        get_ipython().display_formatter.formatters["image/svg+xml"].for_type(Figure, to_svg)


def to_svg(figure: Figure) -> str:
    """The figure as SVG without a date, its coordinates to a hundredth of a point: light, and the
    same in every run.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    rounded = re.sub(
        r"([1-9]\d*\.\d\d)\d+", r"\1", file.getvalue()
    )  # not the scales of glyphs, which are small
    return re.sub(r"\s*\n\s*(?!<g)", " ", rounded)  # a line for each group of the drawing


def inline_svg(source: str, prefix: str, alt: str, drawn: dict[str, str] | None = None) -> str:
    """The SVG as an element of an HTML page: its ids renamed, its sentinels replaced, its text
    alternative added.

    Ink becomes ``currentColor`` and the background transparent, so that one drawing serves every
    theme.

    Parameters
    ----------
    source, alt : the SVG as `to_svg` writes it, and its text alternative.
    prefix : begins every id; different for each drawing of a page.
    drawn : what the glyphs and marks that stand on the page already are called there, by their
        names in the source; they are not drawn again, and those of this drawing are added.
        Matplotlib's names are hashes of what is drawn.
    """
    root, drawn = ElementTree.fromstring(source), {} if drawn is None else drawn
    for parent in list(root.iter()):
        for child in [
            child
            for child in parent
            if child.tag in _DROPPED or (parent.tag == _DEFS and child.get("id") in drawn)
        ]:
            parent.remove(child)
    shapes = [
        child.get("id", "")
        for parent in root.iter(_DEFS)
        for child in parent
        if "id" in child.attrib and child.tag != _CLIP
    ]
    drawn |= {name: f"{prefix}{number}" for number, name in enumerate(shapes)}
    # Clips stay with their drawing: browsers differ about those of a drawing that is folded away.
    ids = drawn | {
        clip.get("id", ""): f"{prefix}c{number}" for number, clip in enumerate(root.iter(_CLIP))
    }
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        if _XLINK_HREF in element.attrib:
            element.set("href", element.attrib.pop(_XLINK_HREF))
        if element.tag == "use" and (moved := _TRANSLATE.fullmatch(element.get("transform", ""))):
            element.attrib |= {"x": moved[1], "y": moved[2]}
            del element.attrib["transform"]
        element.attrib = {
            name: _rewrite(name, value, ids)
            for name, value in element.attrib.items()
            if name != "id" or value in ids
        }
        if element.tag == "style" and element.text:
            element.text = _rewrite("style", element.text, ids)
    if "viewBox" in root.attrib:
        width = float(root.get("viewBox", "").split()[2]) * 4 / 3  # points to CSS pixels
        root.set("width", f"{width:.0f}")
        # The style sheet shrinks it to the column, but not to unreadable text: below this it
        # scrolls in its frame.
        root.set("style", f"min-width: {0.53 * width:.0f}px")
        root.attrib.pop("height", None)
    root.attrib |= {"class": "theme-svg", "role": "img", "aria-label": alt}
    return f'<div class="theme-svg-frame">{ElementTree.tostring(root, encoding="unicode")}</div>'


def _rewrite(name: str, value: str, ids: dict[str, str]) -> str:
    if name == "id":
        return ids[value]
    if "#" not in value:  # neither a colour nor a reference, as most
        return value
    if name == "href" and value.startswith(
        "#"
    ):  # another is a picture, which is part of the drawing
        return f"#{ids.get(value[1:], value[1:])}"
    value = re.sub(
        r"url\((['\"]?)#([^'\")]+)",
        lambda found: f"url({found[1]}#{ids.get(found[2], found[2])}",
        value,
    )
    for sentinel, colour in {INK: "currentColor", BACKGROUND: "none"}.items():
        value = re.sub(sentinel, colour, value, flags=re.IGNORECASE)
    return value


def as_png() -> None:
    """Make the figures that follow PNG: for plots with so many marks that an SVG would weigh too
    much.
    """
    from IPython import get_ipython
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    # A picture cannot take the page's colours: it keeps a light background of its own.
    set_matplotlib_formats("png")
    if get_ipython() is not None:
        get_ipython().display_formatter.formatters["image/png"].for_type(Figure, to_png)


def to_png(figure: Figure) -> bytes:
    """The figure as PNG with a palette of 256 colours: a third of the weight, and the same in every
    run.
    """
    file, light = io.BytesIO(), io.BytesIO()
    figure.savefig(
        file, format="png", dpi=figure.dpi, bbox_inches="tight", metadata={"Software": None}
    )
    picture = Image.open(file).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(light, format="png", optimize=True)
    return light.getvalue()


def role(name: str, **changes: Any) -> dict[str, Any]:
    """Keyword arguments for ``plot`` that give a quantity its look, for example
    ``**role("predicted")``.
    """
    if name not in ROLES:
        raise ValueError(f"name must be one of {', '.join(ROLES)}, got {name!r}")
    return {**ROLES[name], **changes}


def series(index: int, **changes: Any) -> dict[str, Any]:
    """The look of curve number ``index`` of a family, without markers unless asked for by
    ``marker=True``.
    """
    style = dict(SERIES[index % len(SERIES)])
    if not changes.pop("marker", False):
        style.pop("marker")
    return {**style, **changes}


def panels(
    columns: int = 1,
    *,
    rows: int = 1,
    height: float | None = None,
    log: str = "",
    x: str = "",
    y: str = "",
    **options: Any,
) -> tuple[Figure, Any]:
    """Figure with panels side by side; wide enough that the text stays as large as in a single one.

    Parameters
    ----------
    columns, rows : how many; the second result has one of the axes, or an array of them, as that
        of ``plt.subplots``, which takes the ``options``.
    height : of a row in inches; 3.8 for a single panel, 3.2 for several.
    log : the axes that are logarithmic, "x", "y" or "xy", in all panels.
    x, y : the labels of the axes, written below the last row and beside the first column.
    """
    import matplotlib.pyplot as plt

    if not set(log) <= {"x", "y"}:
        raise ValueError(f"log must be 'x', 'y' or 'xy', got {log!r}")
    width = 6.4 if columns == 1 else min(3.9 * columns, 8.4)
    height = height or (3.8 if columns * rows == 1 else 3.2)
    scales = {f"{name}scale": "log" for name in log}
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, height * rows), subplot_kw=scales, **options
    )
    grid = np.reshape(axes, (rows, columns))
    for below in grid[-1]:
        below.set_xlabel(x)
    for beside in grid[:, 0]:
        beside.set_ylabel(y)
    return figure, axes


def measured(axes: Axes, x: ArrayLike, y: ArrayLike, index: int = 0, **changes: Any) -> None:
    """Points in the look of curve number ``index`` of a family; further arguments are those of
    ``plot``, for example ``label``, and of ``errorbar`` where ``xerr`` or ``yerr`` is given.
    """
    look = series(index, marker=True, **{"linestyle": "none", **changes})
    (axes.errorbar if {"xerr", "yerr"} & set(look) else axes.plot)(x, y, **look)


def predicted(axes: Axes, x: ArrayLike, y: ArrayLike, **changes: Any) -> None:
    """The dashed line of what theory says; further arguments are those of ``plot``."""
    axes.plot(x, y, **role("predicted", **changes))


def band(
    axes: Axes,
    x: ArrayLike,
    values: ArrayLike,
    look: dict[str, Any],
    quantiles: tuple[float, float] = (0.1, 0.9),
) -> None:
    """What lies between two quantiles of the runs, in the colour of a look of `series` or `role`.

    ``values`` has shape (runs, points); two rows with the quantiles (0, 1) are the band itself.
    """
    low, high = np.quantile(np.asarray(values), quantiles, axis=0)
    axes.fill_between(x, low, high, color=look["color"], alpha=0.2, linewidth=0)


def shares(
    axes: Axes, counts: ArrayLike, trials: int, rows: ArrayLike, index: int = 0, **changes: Any
) -> None:
    """How often of so many trials, as points in rows with exact 95% intervals of the share."""
    from scipy.stats import binomtest  # half a second to load

    counts = np.asarray(counts, dtype=int)
    ends = [binomtest(count, trials).proportion_ci() for count in counts.tolist()]
    errors = np.abs(np.transpose(ends) - counts / trials)
    measured(axes, counts / trials, rows, index, xerr=errors, **changes)


def where(
    axes: Axes,
    x: ArrayLike,
    y: ArrayLike,
    holds: ArrayLike,
    look: dict[str, Any],
    other: dict[str, Any],
) -> None:
    """A curve in one look where something holds, and in another where it does not."""
    for part, style in ((np.asarray(holds), look), (~np.asarray(holds), other)):
        axes.plot(x, np.where(part, y, np.nan), **style)


def ticks(
    axes: Axes, x: Sequence[float | str] | None = None, y: Sequence[float | str] | None = None
) -> None:
    """Ticks at these numbers alone, written plainly; texts, smaller, stand at 0, 1, 2, ..."""
    for axis, entries in ((axes.xaxis, x), (axes.yaxis, y)):
        if entries is None:
            continue
        texts = [entry if isinstance(entry, str) else f"{entry:g}" for entry in entries]
        numbered = any(isinstance(entry, str) for entry in entries)
        places = np.arange(len(texts)) if numbered else np.asarray(entries)
        axis.set_ticks(places, texts, fontsize=9 if numbered else None)
        axis.set_ticks([], minor=True)


def legend_below(figure: Figure, ncols: int = 3, **options: Any) -> None:
    """One legend below all panels: each label once, in the order in which it was first drawn."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=ncols, **options
    )


def log_odds_axis(axes: Axes, rates: tuple[float, ...] = (0.01, 0.1, 0.5, 0.9, 0.99)) -> None:
    """Add a right-hand scale of success rates to an axis of log-odds."""
    levels = np.asarray(rates)
    twin = axes.twinx()
    twin.set_yticks(np.log(levels / (1 - levels)), [f"{level:g}" for level in levels])
    twin.set_ylim(axes.get_ylim())  # last: ticks beyond the limits would widen them
    twin.set_ylabel("success rate $J$")
    twin.grid(False)
    twin.spines["right"].set_visible(True)


def log_spaced(last: int, count: int = 60) -> np.ndarray:
    """At most ``count`` whole numbers from 1 to ``last``, evenly spaced on a logarithmic axis."""
    return np.unique(np.geomspace(1, last, count).astype(int))
