"""Figures with controls: their data, and in a browser that they react, follow the theme and are no
loss without scripts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from site_checks import SITE

from rlvrlib.evidence import figures
from rlvrlib.evidence.interactive import KEY, Control, Curve, Panel, Play, ragged, show, upright

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path.stem
    for path in (ROOT / "book").glob("*.md")
    if "{interactive-figure}" in path.read_text(encoding="utf-8")
)


# ---- the data


def play(**changes: Any) -> Play:
    """Two controls, three curves: one that stays, one for each setting of the second control, one
    for each of both.
    """
    x, y = np.arange(3.0), np.arange(18.0).reshape(2, 3, 3)
    parts: dict[str, Any] = {
        "title": "Move it",
        "alt": "A line that rises",
        "controls": [
            Control("method", ["a", "b"], slider=False),
            Control("rate", ["1", "2", "3"], 1),
        ],
        "panels": [Panel("x", "y"), Panel("x", "y", yscale="log")],
        "curves": [
            Curve(x, [1.0, 10.0, np.nan], figures.role("predicted"), panel=1),
            Curve(
                [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], [0.0, 17.0], figures.role("threshold"), (1,)
            ),
            Curve(x, y, figures.series(1, marker=True), (0, 1), label="all"),
        ],
        "readout": [["a1", "a2", "a3"], ["b1", "b2", "b3"]],
    }
    return Play(**(parts | changes))


def test_every_setting_finds_its_curve_and_its_sentence() -> None:
    data = json.loads(play().to_json())
    assert data["readout"] == ["a1", "a2", "a3", "b1", "b2", "b3"]
    still, line, both = data["curves"]
    assert still["x"] == [[0, 1, 2]] and still["y"] == [[1, 10, None]]  # a gap, not a NaN
    assert line["x"] == [[1, 1], [2, 2], [3, 3]] and line["y"] == [
        [0, 17]
    ]  # what does not change is sent once
    assert both["y"] == np.arange(18).reshape(6, 3).tolist() and both["controls"] == [0, 1]
    assert data["controls"][1] == {
        "label": "rate",
        "values": ["1", "2", "3"],
        "start": 1,
        "slider": True,
    }


def test_axes_hold_every_setting() -> None:
    first, second = json.loads(play().to_json())["panels"]
    assert first["x"]["range"][0] < 0 and first["x"]["range"][1] > 3
    assert first["y"]["range"][0] < 0 and first["y"]["range"][1] > 17
    assert 0 < second["y"]["range"][0] < 1 and second["y"]["range"][1] > 10
    fixed = json.loads(play(panels=[Panel("x", "y", xlim=(0, 9)), Panel("x", "y")]).to_json())[
        "panels"
    ]
    assert fixed[0]["x"]["range"] == [0, 9]


def test_looks_are_those_of_the_static_figures() -> None:
    predicted, threshold, family = (
        curve["look"] for curve in json.loads(play().to_json())["curves"]
    )
    assert predicted == {"color": "ink", "dash": "6px,2.4px", "width": 1.2}
    assert threshold == {"color": figures.VERMILLION, "dash": "dot", "width": 1.4}
    assert (
        family["marker"] == "square"
        and family["dash"] == "dash"
        and family["color"] == figures.SERIES[1]["color"]
    )
    for style in (*figures.ROLES.values(), *figures.SERIES):  # every look of the book can be drawn
        assert play(curves=[Curve([1.0], [1.0], style, panel=panel) for panel in (0, 1)]).to_json()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"readout": ["a", "b"]}, "readout"),
        ({"readout": [["a", "b", " "], ["a", "b", "c"]]}, "readout"),
        ({"alt": ""}, "alt"),
        ({"curves": [Curve([1.0], np.zeros((3, 1)), {}, (0,))]}, "curve 0"),
        ({"curves": [Curve([1.0], np.zeros((2, 1)), {})]}, "curve 0"),
        ({"curves": [Curve([1.0], [1.0], {}, panel=2)]}, "panel"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        play(**change)


def test_bad_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="values"):
        Control("rate", ["1"])
    with pytest.raises(ValueError, match="start"):
        Control("rate", ["1", "2"], 2)
    with pytest.raises(ValueError, match="xscale"):
        Panel("x", "y", xscale="symlog")
    with pytest.raises(ValueError, match="at least one positive number"):
        play(curves=[Curve([1.0], [1.0], {}), Curve([1.0], [-1.0], {}, panel=1)]).to_json()


def test_the_static_figure_is_shown_with_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(
        "IPython.display.display", lambda figure, metadata: shown.append((figure, metadata))
    )
    figure = plt.figure()
    show(figure, play())
    assert shown == [(figure, {KEY: play().to_json()})] and not plt.fignum_exists(figure.number)


def carried(stem: str) -> list[dict[str, Any]]:
    cells = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4).cells
    found = [
        output.metadata[KEY]
        for cell in cells
        for output in cell.get("outputs", [])
        if KEY in output.get("metadata", {})
    ]
    return [json.loads(text) for text in found]


def test_four_chapters_have_an_interactive_figure() -> None:
    assert len(PAGES) >= 4
    assert all(carried(page) for page in PAGES)


def test_the_threshold_in_the_data_is_where_the_curve_falls() -> None:
    """The committed data of the overshoot figure, against the sentence of each setting."""
    (data,) = carried("overshoot")
    rates = len(data["controls"][1]["values"])
    ends = next(curve for curve in data["curves"] if curve["panel"] == 1)["y"]
    for number, sentence in enumerate(data["readout"]):
        assert ("Every step gains" in sentence) == ("below the critical" in sentence)
        assert (ends[number][-1] > ends[number][0]) == ("below the critical" in sentence)
    assert len(ends) == rates * len(data["controls"][0]["values"])


# ---- in a browser

seen = pytest.mark.skipif(
    not (SITE / "index.html").exists(),
    reason=f"no built site in {SITE.name}: run `make book` first",
)


@contextmanager
def opened(browser: Any, **options: Any) -> Iterator[Any]:
    """A new page; patient, because a busy machine is no fault of a figure."""
    context = browser.new_context(**options)
    context.set_default_timeout(120_000)
    try:
        yield context.new_page()
    finally:
        context.close()


def drawn(page: Any) -> str:
    """The numbers of the settings that the first figure shows."""
    return page.locator(".play").first.get_attribute("data-drawn")


def curves(frame: Any) -> str:
    """Everything that is drawn inside the axes."""
    return "".join(plot.inner_html() for plot in frame.locator(".play-plot .scatterlayer").all())


def wait_until_drawn(page: Any, before: str | None) -> None:
    page.wait_for_function(
        "before => document.querySelector('.play').dataset.drawn !== (before ?? undefined)",
        arg=before,
    )


@seen
@pytest.mark.parametrize("name", PAGES)
def test_it_loads_when_it_is_seen_and_reacts_to_the_keyboard(
    browser: Any, base: str, name: str
) -> None:
    with opened(browser, viewport={"width": 1000, "height": 500}) as page:
        asked: list[str] = []
        wrong: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on(
            "console",
            lambda message: wrong.append(message.text) if message.type == "error" else None,
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{base}/book/{name}.html")
        assert not any("plotly" in url for url in asked), (
            "the drawing library is not fetched before a figure is seen"
        )
        frame, readout = page.locator(".play").first, page.locator(".play-readout").first
        slider = frame.get_by_role("slider").first
        slider.focus()  # by its label: the role has a name
        assert slider.evaluate("e => e.labels[0].textContent.trim()")
        frame.scroll_into_view_if_needed()
        wait_until_drawn(page, None)
        before, said, marks = drawn(page), readout.text_content(), curves(frame)
        page.keyboard.press("ArrowRight")
        wait_until_drawn(page, before)
        assert drawn(page) != before and readout.text_content() != said
        assert slider.get_attribute("aria-valuetext")
        before = drawn(page)
        page.keyboard.press("Home")
        wait_until_drawn(page, before)
        assert drawn(page).endswith("0") and curves(frame) != marks
        for select in frame.locator("select").all():
            said = readout.text_content()
            select.select_option(
                index=select.evaluate("e => e.selectedIndex ? 0 : 1")
            )  # another one
            assert readout.text_content() != said
        assert all(url.startswith((base, "data:", "blob:")) for url in asked)
        assert wrong == []


@seen
def test_it_follows_the_theme(browser: Any, base: str) -> None:
    with opened(browser, color_scheme="light") as page:
        page.goto(f"{base}/book/{PAGES[0]}.html")
        page.locator(".play").first.scroll_into_view_if_needed()
        wait_until_drawn(page, None)
        ink = "() => getComputedStyle(document.querySelector('.play-plot .xtick text')).fill"
        light = page.evaluate(ink)
        page.evaluate("() => { document.documentElement.dataset.theme = 'dark' }")
        page.wait_for_function(f"light => ({ink})() !== light", arg=light)
        assert page.evaluate(
            f"() => ({ink})() === getComputedStyle(document.querySelector('article')).color"
        )


@seen
def test_a_narrow_page_does_not_scroll_sideways_and_a_finger_moves_the_slider(
    browser: Any, base: str
) -> None:
    with opened(browser, viewport={"width": 360, "height": 800}, has_touch=True) as page:
        page.goto(f"{base}/book/{PAGES[0]}.html")
        slider = page.locator(".play input[type=range]").first
        slider.scroll_into_view_if_needed()
        wait_until_drawn(page, None)
        before, box = drawn(page), slider.bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
        wait_until_drawn(page, before)
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        drawing = "document.querySelector('.play-plot svg')"
        assert page.evaluate(f"() => {drawing}.getBoundingClientRect().right <= innerWidth")


@seen
@pytest.mark.parametrize("name", PAGES)
def test_without_scripts_the_static_figure_stands(browser: Any, base: str, name: str) -> None:
    with opened(browser, java_script_enabled=False) as page:
        page.goto(f"{base}/book/{name}.html")
        assert page.locator(".play").count() == 1 and not page.locator(".play").is_visible()
        assert page.locator("article figure svg.theme-svg, article figure img").first.is_visible()


@seen
def test_without_the_library_the_sentences_still_change(browser: Any, base: str) -> None:
    with opened(browser) as page:
        page.route("**/plotly-basic.min.js", lambda route: route.abort())
        page.goto(f"{base}/book/{PAGES[0]}.html")
        page.locator(".play").first.scroll_into_view_if_needed()
        page.get_by_text("The drawing script could not be loaded").wait_for()
        said = page.locator(".play-readout").first.text_content()
        page.locator(".play input[type=range]").first.focus()
        page.keyboard.press("ArrowRight")
        assert page.locator(".play-readout").first.text_content() != said


def test_uprights_and_rows_of_different_lengths():
    line = upright([0.5, 2.0], (-1, 1), {"color": "black"}, (1,), 1, "here")
    assert np.asarray(line.x).tolist() == [[0.5, 0.5], [2.0, 2.0]] and line.y == [-1, 1]
    assert (line.controls, line.panel, line.label) == ((1,), 1, "here")
    filled = ragged([[1.0], [2.0, 3.0]])
    assert filled[0, 0] == 1 and np.isnan(filled[0, 1]) and filled[1].tolist() == [2, 3]
