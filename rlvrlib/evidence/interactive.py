"""Figures with controls: a reader moves a slider, and sees what the notebook computed for that
setting.

A notebook ends a figure's cell with ``show(figure, play)`` in place of ``plt.show()``. The static
figure is displayed as ever; the curves for every setting of the controls travel in the metadata of
its output, as the claims do. The site draws them (``book/_ext/notebook_figures.py``); where scripts
do not run, the static figure stands.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from rlvrlib.evidence import figures

KEY = "interactive"  # in the output's metadata
_DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
_MARKERS = {
    "o": "circle",
    ".": "circle",
    "s": "square",
    "^": "triangle-up",
    "v": "triangle-down",
    "D": "diamond",
    "X": "x",
}


@dataclass(frozen=True)
class Control:
    """A slider, or with ``slider=False`` a list to choose from.

    Parameters
    ----------
    label : what it sets, with its symbol.
    values : the settings as text, in order.
    start : number of the setting that is shown first.
    """

    label: str
    values: Sequence[str]
    start: int = 0
    slider: bool = True

    def __post_init__(self) -> None:
        if len(self.values) < 2 or not 0 <= self.start < len(self.values):
            raise ValueError(
                "values must hold two settings or more and start must be the number of one, "
                f"got {self.values!r} and {self.start!r}"
            )


@dataclass(frozen=True)
class Panel:
    """One pair of axes. Without ``xlim`` or ``ylim`` the axis holds everything that any setting
    shows.
    """

    xlabel: str
    ylabel: str
    xscale: str = "linear"
    yscale: str = "linear"
    xlim: tuple[float, float] | None = None
    ylim: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not {self.xscale, self.yscale} <= {"linear", "log"}:
            raise ValueError(
                f"xscale and yscale must be linear or log, got {self.xscale!r} and {self.yscale!r}"
            )


@dataclass(frozen=True)
class Curve:
    """A curve or a set of marks for each setting of the controls that it depends on.

    Parameters
    ----------
    x, y : shape ``(*settings, points)`` with one leading axis for each control in ``controls``;
        they broadcast. NaN leaves a gap.
    look : Matplotlib's keywords, from `figures.role` or `figures.series`.
    controls : numbers of the controls that the leading axes run over; ``()`` for a curve that
        stays.
    panel : number of the panel.
    label : entry of the legend; none where empty.
    shade : numbers from 0 to 1, as ``y``: the colour of each mark, from dark to light, and its
        size.
    """

    x: ArrayLike
    y: ArrayLike
    look: Mapping[str, Any]
    controls: tuple[int, ...] = ()
    panel: int = 0
    label: str = ""
    shade: ArrayLike | None = None


def upright(
    x: ArrayLike,
    ends: tuple[float, float],
    look: Mapping[str, Any],
    controls: tuple[int, ...],
    panel: int = 0,
    label: str = "",
) -> Curve:
    """A vertical line between two heights, at ``x`` of shape ``(*settings)``."""
    return Curve(np.asarray(x)[..., None] * [1, 1], list(ends), look, controls, panel, label)


def ragged(rows: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Settings with different numbers of points as one array, filled up with NaN, shape ``(rows,
    most points)``.
    """
    filled = np.full((len(rows), max(np.size(row) for row in rows)), np.nan)
    for values, row in zip(filled, rows, strict=True):
        values[: np.size(row)] = row
    return filled


@dataclass(frozen=True)
class Play:
    """A figure with controls.

    Parameters
    ----------
    title : what the reader can do, in a few words.
    alt : what is seen, for readers who do not see it.
    controls, panels, curves : see there.
    readout : for each setting of all controls one sentence that says what it gives, shape
        ``(settings of the first, ...)``.

    Raises
    ------
    ValueError : shapes that do not fit the controls, or no text.
    """

    title: str
    alt: str
    controls: Sequence[Control]
    panels: Sequence[Panel]
    curves: Sequence[Curve]
    readout: ArrayLike = field(repr=False)

    def __post_init__(self) -> None:
        settings = tuple(len(control.values) for control in self.controls)
        if np.shape(self.readout) != settings:
            raise ValueError(
                f"readout must have one sentence for each setting, shape {settings}, "
                f"got {np.shape(self.readout)}"
            )
        if (
            not self.title.strip()
            or not self.alt.strip()
            or not all(str(text).strip() for text in np.ravel(self.readout))
        ):
            raise ValueError("title, alt and every readout must say something, got an empty text")
        for number, curve in enumerate(self.curves):
            wanted = tuple(settings[control] for control in curve.controls)
            for array in (curve.x, curve.y, *([] if curve.shade is None else [curve.shade])):
                if not _fits(np.shape(array)[:-1], wanted):
                    raise ValueError(
                        f"curve {number} must have leading axes that broadcast to {wanted}, "
                        f"got shape {np.shape(array)}"
                    )
            if not 0 <= curve.panel < len(self.panels):
                raise ValueError(
                    f"panel must be the number of a panel, got {curve.panel!r} for curve {number}"
                )

    def to_json(self) -> str:
        """Everything that the page needs, as compact JSON; numbers have four significant digits."""
        content = {
            "title": self.title,
            "alt": self.alt,
            "controls": [
                {"label": c.label, "values": list(c.values), "start": c.start, "slider": c.slider}
                for c in self.controls
            ],
            "panels": [self._panel(number) for number in range(len(self.panels))],
            "curves": [
                _curve(curve, [len(self.controls[number].values) for number in curve.controls])
                for curve in self.curves
            ],
            "readout": np.asarray(self.readout, dtype=object).ravel().tolist(),
        }
        return json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    def _panel(self, number: int) -> dict[str, Any]:
        panel = self.panels[number]
        axes = {}
        for name, scale, limits in (
            ("x", panel.xscale, panel.xlim),
            ("y", panel.yscale, panel.ylim),
        ):
            values = [
                np.ravel(np.asarray(getattr(c, name), dtype=float))
                for c in self.curves
                if c.panel == number
            ]
            axes[name] = {"scale": scale, "range": limits or _span(np.concatenate(values), scale)}
        return {
            "x": {"label": panel.xlabel, **axes["x"]},
            "y": {"label": panel.ylabel, **axes["y"]},
        }


def show(figure: Figure, play: Play) -> None:
    """Display the static figure, with the data of its interactive form in the output's metadata."""
    import matplotlib.pyplot as plt
    from IPython.display import display

    display(figure, metadata={KEY: play.to_json()})
    plt.close(figure)


def _fits(leading: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(leading, wanted) == wanted
    except ValueError:
        return False


def _span(values: np.ndarray, scale: str) -> tuple[float | None, float | None]:
    """Limits that hold all values, with a margin."""
    values = values[np.isfinite(values) & ((values > 0) | (scale == "linear"))]
    if not len(values):
        raise ValueError(f"a panel must show at least one {'positive ' * (scale == 'log')}number")
    ends = np.array([values.min(), values.max()])
    if scale == "log":
        ends = np.log10(ends)
    margin = 0.04 * (ends[1] - ends[0]) or 0.5
    ends = ends + np.array([-margin, margin])
    low, high = 10.0**ends if scale == "log" else ends
    return _short(low), _short(high)


def _curve(curve: Curve, settings: Sequence[int]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "panel": curve.panel,
        "label": curve.label,
        "look": _look(curve.look),
        "controls": list(curve.controls),
    }
    for name in ("x", "y", "shade"):
        if getattr(curve, name) is not None:
            array = np.asarray(getattr(curve, name), dtype=float)
            if array.ndim > 1:  # what is the same for every setting is sent once
                array = np.broadcast_to(array, (*settings, array.shape[-1]))
            made[name] = [
                [_short(value) for value in row] for row in array.reshape(-1, array.shape[-1])
            ]
    return made


def _short(value: float) -> float | int | None:
    """Four significant digits; null where there is no number."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.4g}")
    return int(short) if short.is_integer() else short


def _look(look: Mapping[str, Any]) -> dict[str, Any]:
    """Matplotlib's words in those of the drawing script; the sentinel ink becomes ``ink``, which is
    the page's.
    """
    color, style, width = (
        look.get("color", figures.INK),
        look.get("linestyle", "-"),
        look.get("linewidth", 1.8),
    )
    made: dict[str, Any] = {"color": "ink" if color == figures.INK else color}
    if style not in ("none", None):
        dash = (
            _DASHES[style]
            if isinstance(style, str)
            else ",".join(f"{length * width:.4g}px" for length in style[1])
        )
        made |= {"dash": dash, "width": width}
    if look.get("marker"):
        made |= {"marker": _MARKERS[look["marker"]], "size": look.get("markersize", 6)}
    return made
