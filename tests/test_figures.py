"""One look: readable on both themes, distinguishable without colour, stable files."""

import io
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from rlvrlib.evidence import figures

WHITE, DARK_PAGE = "#ffffff", "#14181e"


def luminance(colour):
    channels = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    "style", [*figures.SERIES, *figures.ROLES.values()], ids=lambda style: str(style["color"])
)
def test_every_colour_is_readable_on_both_themes(style):
    if style["color"] != figures.INK:  # the ink takes the page's colour
        assert contrast(style["color"], WHITE) >= 3 and contrast(style["color"], DARK_PAGE) >= 3


def test_no_two_curves_differ_by_colour_alone():
    for styles in (figures.SERIES, list(figures.ROLES.values())):
        looks = [
            (str(style["linestyle"]), style.get("marker"), style.get("linewidth"))
            for style in styles
        ]
        if styles is figures.SERIES:
            assert len(set(looks)) == len(looks)
        assert len({style["color"] for style in styles}) == len(styles)


def draw():
    figures.use_style()
    figure, axes = plt.subplots()
    axes.plot([0, 1], [-3, 3], **figures.role("measured"), label="a")
    axes.plot([0, 1], [3, -3], **figures.series(7, marker=True))
    axes.legend()
    figures.log_odds_axis(axes)
    assert axes.figure.axes[-1].get_ylim() == axes.get_ylim()
    svg = figures.to_svg(figure)
    plt.close(figure)
    return svg


def test_files_are_stable_and_carry_the_sentinels():
    first = draw()
    assert first == draw()
    assert figures.INK in first and figures.BACKGROUND in first
    assert "<dc:date>" not in first and not re.search(r"[1-9]\d*\.\d{3}", first)


def ids_and_references(html):
    return re.findall(r'\bid="([^"]+)"', html), set(
        re.findall(r'(?:href="|url\(["\']?)#([^"\')]+)', html)
    )


def test_the_drawings_of_a_page_share_their_letters():
    drawn = {}
    first = figures.inline_svg(draw(), "f0-", "a < b", drawn)
    shared = dict(drawn)
    second = figures.inline_svg(draw(), "f1-", "c", drawn)
    assert drawn == shared and len(second) < 0.7 * len(first)
    ids, references = ids_and_references(first + second)
    assert len(ids) == len(set(ids)) and references == set(
        ids
    )  # nothing stands twice, nothing is missing, nothing is idle
    assert all(
        name.startswith("f1-c") for name in ids_and_references(second)[0]
    )  # a clip stays with its drawing
    alone, references = ids_and_references(figures.inline_svg(draw(), "f2-", "d"))
    assert references == set(alone)
    assert (
        figures.INK not in first
        and figures.BACKGROUND not in first
        and 'aria-label="a &lt; b"' in first
    )


def test_a_picture_inside_a_drawing_stays_whole():
    figures.use_style()
    figure, axes = plt.subplots()
    axes.plot([0, 1], [0, 1], rasterized=True)
    source = figures.to_svg(figure)
    plt.close(figure)
    (picture,) = re.findall(r'href="(data:image/png;base64,[^"]+)"', source)
    assert f'href="{picture}"' in figures.inline_svg(source, "f-", "")


def test_a_letter_stays_where_it_was():
    """``translate`` of a letter becomes ``x`` and ``y``, which say the same and weigh less."""
    source = draw()
    moves = re.findall(
        r'<use xlink:href="[^"]+" transform="translate\(([-\d.]+) ([-\d.]+)\)"/>', source
    )
    html = figures.inline_svg(source, "f-", "")
    assert moves and "translate" not in "".join(re.findall(r"<use [^>]*>", html))
    assert all(f'x="{x}" y="{y}"' in html for x, y in moves)


def test_looks():
    assert figures.role("predicted", label="x")["label"] == "x"
    assert "marker" not in figures.series(0) and figures.series(0, marker=True)["marker"]
    assert figures.series(0) == figures.series(len(figures.SERIES))
    with pytest.raises(ValueError, match="name must be one of measured"):
        figures.role("colourful")


@pytest.fixture
def close_figures():
    figures.use_style()
    yield
    plt.close("all")


@pytest.mark.usefixtures("close_figures")
def test_panels_say_their_axes_once():
    figure, axes = figures.panels(3, rows=2, log="y", x="step", y="rate")
    assert axes.shape == (2, 3) and figure.get_size_inches()[0] < 9
    assert {panel.get_yscale() for panel in axes.flat} == {"log"}
    assert {panel.get_xscale() for panel in axes.flat} == {"linear"}
    assert [panel.get_xlabel() for panel in axes.flat] == [""] * 3 + ["step"] * 3
    assert [panel.get_ylabel() for panel in axes.flat] == ["rate", "", ""] * 2
    assert len(figures.panels(2)[1]) == 2 and figures.panels()[1].get_xlabel() == ""
    with pytest.raises(ValueError, match="log must be 'x', 'y' or 'xy', got 'z'"):
        figures.panels(log="z")


@pytest.mark.usefixtures("close_figures")
def test_what_is_drawn_holds_the_data():
    _, axes = figures.panels()
    figures.measured(axes, [1, 2], [3, 4], 1, label="points")
    figures.measured(axes, [1, 2], [3, 4], 2, yerr=[0.1, 0.2])
    figures.predicted(axes, [1, 2], [3, 5])
    points, bars, theory = axes.lines[0], axes.containers[0], axes.lines[-1]
    assert points.get_linestyle() == "None" and points.get_color() == figures.VERMILLION
    assert points.get_ydata().tolist() == [3, 4] and bars.has_yerr
    assert theory.get_color() == figures.INK and theory.get_ydata().tolist() == [3, 5]
    figures.band(axes, [1, 2], [[0, 1], [1, 3], [2, 2]], figures.series(2), (0, 1))
    edges = axes.collections[-1].get_paths()[0].vertices
    assert {tuple(edge) for edge in edges} == {(1, 0), (1, 2), (2, 1), (2, 3)}


@pytest.mark.usefixtures("close_figures")
def test_ticks_are_these_alone():
    _, axes = figures.panels(log="xy")
    axes.plot([1, 2.5], [1, 3])
    figures.ticks(axes, x=[1, 2, 2.5], y=["one", "two"])
    axes.figure.canvas.draw()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "2.5"]
    assert axes.get_yticks().tolist() == [0, 1]
    assert not axes.get_xticks(minor=True).size and not axes.get_yticks(minor=True).size


@pytest.mark.usefixtures("close_figures")
def test_a_legend_for_all_panels_has_each_label_once():
    figure, (left, right) = figures.panels(2)
    left.plot([0, 1], label="a")
    for axes in (left, right):
        axes.plot([1, 0], label="b")
    right.plot([1, 1], label="c")
    figures.legend_below(figure, ncols=2)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]


@pytest.mark.parametrize("last", [1, 7, 10_000])
def test_log_spaced_steps(last):
    steps = figures.log_spaced(last, 40)
    assert steps[0] == 1 and steps[-1] == last and len(steps) <= 40
    assert np.all(np.diff(steps) > 0) and steps.dtype.kind == "i"


def test_png_has_a_palette_and_is_the_same_in_every_run():
    figures.use_style()
    figure, axes = plt.subplots()
    axes.imshow(np.linspace(0, 1, 300).reshape(15, 20), cmap="cividis")
    first, second = figures.to_png(figure), figures.to_png(figure)
    picture = Image.open(io.BytesIO(first))
    assert first == second
    assert picture.mode == "P" and "Software" not in picture.info
    plain = io.BytesIO()
    figure.savefig(plain, format="png", dpi=figure.dpi, bbox_inches="tight")
    with Image.open(plain) as original:
        assert picture.size == original.size
        off = np.abs(
            np.asarray(picture.convert("RGB"), dtype=int)
            - np.asarray(original.convert("RGB"), dtype=int)
        )
    assert np.mean(off) < 1 and len(first) < len(plain.getvalue())
    plt.close(figure)


@pytest.mark.usefixtures("close_figures")
def test_one_look_where_it_holds_and_another_where_not():
    _, axes = plt.subplots()
    x = np.arange(4)
    looks = {"color": "black"}, {"color": "black", "linestyle": ":"}
    figures.where(axes, x, 2 * x, x > 1, *looks)
    first, second = (line.get_ydata() for line in axes.lines)
    assert np.isnan(first[:2]).all() and first[2:].tolist() == [4, 6]
    assert second[:2].tolist() == [0, 2] and np.isnan(second[2:]).all()
    assert axes.lines[1].get_linestyle() == ":"


@pytest.mark.usefixtures("close_figures")
def test_shares_have_exact_intervals():
    """Of 20, none and 5: 1 - 0.025^(1/20), and Clopper and Pearson's 0.087 and 0.491."""
    _, axes = plt.subplots()
    figures.shares(axes, [0, 5], 20, [0.0, 1.0], 2, label="x")
    (bars,) = [c for c in axes.collections if hasattr(c, "get_segments")]
    (first, second) = (segment[:, 0] for segment in bars.get_segments())
    assert first == pytest.approx([0, 1 - 0.025 ** (1 / 20)])
    assert second == pytest.approx([0.0866, 0.4910], abs=1e-4)
