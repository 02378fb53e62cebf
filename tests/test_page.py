"""A page loads nothing, runs nothing, and shows what it was given, whatever that holds."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from site_checks import EXTERNAL, EXTERNAL_IN_CSS, LOADING

from rlvrlib.evidence import claims, html
from rlvrlib.running import notebook_page, overview
from rlvrlib.running.execution import Run
from rlvrlib.running.sweep import Point

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = (
    "</table></style><script>alert(1)</script><img src=x onerror=alert(1)>"
    """ "'& $\\frac{$ $x$"""
)


def dangers(text: str | BeautifulSoup) -> list[str]:
    """Whatever the page fetches from elsewhere, every script and every handler of an event."""
    soup = BeautifulSoup(text, "html.parser") if isinstance(text, str) else text
    found = [str(tag)[:80] for tag in soup.find_all("script")]
    for tag in soup.find_all(list(LOADING)):
        address = tag.get(LOADING[tag.name]) or ""
        if address and not address.startswith(("data:", "#")):
            found.append(str(tag)[:80])
    found += [
        match
        for style in soup.find_all("style")
        for match in EXTERNAL_IN_CSS.findall(style.get_text())
    ]
    return found + [
        f"{tag.name} {name}"
        for tag in soup.find_all()
        for name in tag.attrs
        if name.startswith("on")
    ]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_every_notebook_becomes_a_page(path):
    notebook = nbformat.read(path, as_version=4)
    text = notebook_page.notebook_page(path.stem, Run(notebook, {}, claims.rows_of(notebook), 1.0))
    soup = BeautifulSoup(text, "html.parser")
    assert dangers(soup) == []
    pictures = sum(
        m.startswith("image/")
        for c in notebook.cells
        for o in c.get("outputs", [])
        for m in o.get("data", {})
    )
    assert len(soup.select("figure svg.theme-svg, figure img")) == pictures
    assert all(
        (picture.get("aria-label") or picture.get("alt"))
        for picture in soup.select("svg.theme-svg, figure img")
    )
    assert len(soup.select("table.claims tbody tr")) == len(claims.rows_of(notebook)) > 0
    assert not soup.select("p code:-soup-contains('\\\\')")  # no formula is left as LaTeX
    words = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert len(soup.find_all("math")) >= words.count("$") // 2
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))


def test_the_policy_forbids_scripts_and_loads():
    policy = BeautifulSoup(html.document("t", ""), "html.parser").find(
        "meta", attrs={"http-equiv": True}
    )["content"]
    assert "default-src 'none'" in policy and "script" not in policy and "http" not in policy


def test_hostile_texts_stay_texts():
    row = claims.at_most("key", HOSTILE, HOSTILE, 1.0, 2.0, outside=HOSTILE).row()
    cells = [
        new_markdown_cell(HOSTILE),
        new_code_cell(
            f"x = {HOSTILE!r}",
            metadata={"tags": ["injected-parameters"]},
            outputs=[
                new_output("stream", text=HOSTILE),
                new_output("error", ename=HOSTILE, evalue="", traceback=[HOSTILE]),
                new_output("display_data", {"text/plain": HOSTILE}),
                new_output("display_data", {"image/svg+xml": HOSTILE}),
                new_output("display_data", {"image/png": HOSTILE}),
            ],
        ),
        new_code_cell(
            "claims.show()",
            metadata={"tags": ["claims"]},
            outputs=[
                new_output("display_data", {"text/html": "<table/>"}, metadata={"claims": [row]})
            ],
        ),
    ]
    run = Run(new_notebook(cells=cells), {HOSTILE: HOSTILE}, [row], 1.0)
    text = notebook_page.notebook_page(HOSTILE, run)
    assert dangers(text) == []
    assert "<script>alert" not in text and text.count("&lt;script&gt;alert(1)") >= 6


def test_hostile_parameters_reach_the_overview_as_texts():
    row = claims.at_most("key", HOSTILE, HOSTILE, 1.0, 2.0).row()
    points = [
        Point(i, {HOSTILE: value, "x": [1, i]}, str(i))
        for i, value in enumerate([HOSTILE, "b", "$$", "\\"])
    ]
    outcomes = {
        i: {"rows": [row] if i else [], "error": "" if i else HOSTILE, "seconds": 1.0}
        for i in range(4)
    }
    text = overview.overview(HOSTILE, points, outcomes, {HOSTILE: HOSTILE})
    assert dangers(text) == [] and "<script>alert" not in text


@given(st.text())
def test_any_text_is_typeset_safely(text):
    shown = html.typeset(text)
    soup = BeautifulSoup(shown, "html.parser")
    assert {tag.name for tag in soup.find_all()} <= {
        "math",
        "mrow",
        "mi",
        "mn",
        "mo",
        "mtext",
        "mspace",
        "msub",
        "msup",
        "msubsup",
        "mfrac",
        "msqrt",
        "mover",
        "munder",
        "mstyle",
        "mtable",
        "mtr",
        "mtd",
        "code",
        "mphantom",
        "mpadded",
        "munderover",
        "mroot",
        "menclose",
    }
    assert dangers(soup) == []


@pytest.mark.parametrize(
    "tex",
    [
        r"\frac{1}{2}",
        r"\sqrt{J(1-J)}",
        r"\eta_c(\delta)",
        r"\operatorname{atanh}\delta",
        r"\tfrac16\kappa h^2",
    ],
)
def test_mathematics_is_mathml(tex):
    assert html.math(tex).startswith("<math") and "\\" not in html.math(tex)


@pytest.mark.parametrize("tex", [r"\nosuchcommand{x}", "\\", "{", r"\begin{x}"])
def test_what_is_no_latex_is_shown_as_it_is(tex):
    shown = html.math(tex)
    assert shown.startswith(("<code>", "<math")) and "<script" not in shown


# ---- the overview


def sweep_of(axes, value):
    from itertools import product

    combinations = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    points = [Point(index, parameters, str(index)) for index, parameters in enumerate(combinations)]
    outcomes = {
        p.index: {"rows": [row.row() for row in value(p)], "error": "", "seconds": 1.0}
        for p in points
    }
    return points, outcomes


def test_overview_has_a_panel_for_each_claim_and_lists_what_fails():
    points, outcomes = sweep_of(
        {"a": [1e-3, 1.0, 1e3], "b": ["x", "y"]},
        lambda p: [
            claims.equals("one", "one $x$", "s", 1.0, p.parameters["a"], tolerance=0.1),
            claims.at_most("two", "two", "s", float("inf"), float("nan")),
            claims.at_most("three", "three", "s", 1, 2, outside="too far"),
            claims.record("four", "four", p.parameters["a"], uncertainty=0.1),
        ],
    )
    outcomes[5] = {"rows": [], "error": "ValueError: five", "seconds": 0.0}
    text = overview.overview("name", points, outcomes, {})
    soup = BeautifulSoup(text, "html.parser")
    assert [tag.get_text() for tag in soup.select(".panels h3")] == ["one", "two", "three", "four"]
    assert (
        "6 points. 15 predictions: 2 hold, 8 fail, 5 outside the assumptions; 5 records. "
        "1 points did not run."
        in soup.get_text()
    )
    assert "ValueError: five" in soup.get_text() and dangers(text) == []
    assert not EXTERNAL.search(text[:20])


def test_overview_of_many_combinations_and_of_one_point():
    for axes in ({"a": [1, 2], "b": list(range(9))}, {"a": [3]}, {"a": [True, False]}):
        points, outcomes = sweep_of(axes, lambda p: [claims.at_least("k", "s", "t", 0, 1)])
        assert "<h3>k</h3>" in overview.overview("name", points, outcomes, {})


def test_overview_where_no_point_ran():
    points, outcomes = sweep_of({"a": [1, 2]}, lambda p: [])
    failed = {index: {"rows": [], "error": "no luck", "seconds": 0.0} for index in outcomes}
    assert "no luck" in overview.overview("name", points, failed, {})
