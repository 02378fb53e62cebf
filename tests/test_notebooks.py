"""Every committed notebook is executed, documented, small and free of traces; and the lint that
says so can fail.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output
from notebook_lint import lint, lint_rows

from rlvrlib.evidence import claims

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_clean(path: Path) -> None:
    assert lint(nbformat.read(path, as_version=4)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_rows_are_predictions_with_a_source_and_records(path: Path) -> None:
    assert lint_rows(nbformat.read(path, as_version=4)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_documents_every_parameter(path: Path) -> None:
    cell = next(
        c
        for c in nbformat.read(path, as_version=4).cells
        if "parameters" in c.metadata.get("tags", [])
    )
    declared = {line.split(":")[0].strip() for line in cell.source.splitlines() if line.strip()}
    documented = papermill.inspect_notebook(path)
    assert set(documented) == declared
    for name, parameter in documented.items():
        assert parameter["help"] and parameter["inferred_type_name"] != "None", name


def printed(path: Path) -> list[list[str]]:
    """Each cell's outputs as text, without figures: their digits differ in the last place from one
    processor to the next.
    """
    figure = re.compile(r"(?s)<(\?xml|svg).*</svg>")
    shown = ("text/plain", "text/html")
    return [
        [
            figure.sub(
                "",
                output.get("text")
                or "".join(output.get("data", {}).get(kind, "") for kind in shown),
            )
            for output in cell.outputs
        ]
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_book_prints_what_is_committed(path: Path) -> None:
    """Whichever processor built the book, and with whatever else beside it."""
    executed = ROOT / "_build" / ".books" / "default" / "notebooks" / path.name
    if not executed.exists():
        pytest.skip("the book is not built: run `make book` first")
    assert printed(executed) == printed(path), (
        "run `make book`; where the new digits are right, `make refresh`"
    )


def test_notebooks_are_small_together() -> None:
    assert sum(path.stat().st_size for path in NOTEBOOKS) < 8_000_000


def test_table_of_contents_holds_every_notebook_below_its_chapter() -> None:
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    chapters = [chapter for part in parts for chapter in part["chapters"]]
    listed = {
        s["file"].split("/")[1]: c["file"].split("/")[1]
        for c in chapters
        for s in c.get("sections", [])
    }
    assert set(listed) == {path.stem for path in NOTEBOOKS}
    assert all(notebook == chapter for notebook, chapter in listed.items())


# ---- the lint can fail: one fault at a time in a notebook that passes

ROW = dict.fromkeys(
    "kind key statement source relation predicted measured tolerance predicted_text measured_text "
    "tolerance_text verdict "
    "reason".split(),
    "",
)


def sample() -> NotebookNode:
    """The smallest notebook that passes."""
    picture = new_output("display_data", {"image/svg+xml": "<svg/>"})
    table = new_output("display_data", {"text/html": "<table/>"}, metadata={"claims": [ROW]})
    printed = new_output("stream", name="stdout", text="0.5\n")
    figure = {
        "figure": {"name": "fig-a", "caption": "A curve."},
        "image": {"alt": "A curve that rises"},
    }
    cells = [
        new_code_cell("import rlvrlib", metadata={"tags": ["remove-cell"]}),
        new_code_cell("delta: float = 0.5  # gap, in (0, 1)", metadata={"tags": ["parameters"]}),
        new_code_cell("plt.show()", metadata={"mystnb": figure}, outputs=[picture]),
        new_code_cell("print(0.5)", outputs=[printed]),
        new_code_cell("claims.show()", metadata={"tags": ["claims"]}, outputs=[table]),
    ]
    for count, cell in enumerate(cells, start=1):
        cell.execution_count = count
    return new_notebook(cells=cells)


def test_sample_passes() -> None:
    assert lint(sample()) == []


FAULTS: dict[str, Callable[[list[NotebookNode]], object]] = {
    "not executed": lambda cells: cells[3].update(execution_count=None),
    "out of order": lambda cells: cells[3].update(execution_count=9),
    "error": lambda cells: cells[3].outputs.append(
        new_output("error", ename="E", evalue="", traceback=[])
    ),
    "standard error": lambda cells: cells[3].outputs.append(
        new_output("stream", name="stderr", text="!")
    ),
    "install cell seen": lambda cells: cells[0].metadata.update(tags=[]),
    "install cell speaks": lambda cells: cells[0].outputs.append(
        new_output("stream", name="stdout", text="!")
    ),
    "no parameters": lambda cells: cells[1].metadata.update(tags=[]),
    "two parameters cells": lambda cells: cells[2].metadata.update(tags=["parameters"]),
    "no comment": lambda cells: cells[1].update(source="delta: float = 0.5"),
    "no type": lambda cells: cells[1].update(source="delta = 0.5  # gap"),
    "equals sign in comment": lambda cells: cells[1].update(source="delta: float = 0.5  # eta = 1"),
    "union type": lambda cells: cells[1].update(source="delta: float | None = 0.5  # gap"),
    "derived": lambda cells: cells[1].update(source="delta: float = 1 / 3  # gap"),
    "no range": lambda cells: cells[1].update(source="delta: float = 0.5  # gap"),
    "range in other words": lambda cells: cells[1].update(
        source="delta: float = 0.5  # gap, small"
    ),
    "default out of range": lambda cells: cells[1].update(
        source="delta: float = 1.5  # gap, in (0, 1)"
    ),
    "default of another type": lambda cells: cells[1].update(
        source="delta: int = 0.5  # gap, in (0, 1)"
    ),
    "no alt": lambda cells: cells[2].metadata.mystnb.pop("image"),
    "empty alt": lambda cells: cells[2].metadata.mystnb["image"].update(alt=" "),
    "no caption": lambda cells: cells[2].metadata.mystnb["figure"].pop("caption"),
    "no name": lambda cells: cells[2].metadata.mystnb["figure"].pop("name"),
    "output beside a figure": lambda cells: cells[2].outputs.append(
        new_output("stream", name="stdout", text="[<Line>]")
    ),
    "class": lambda cells: cells[3].update(source="class A: ...\nprint(0.5)"),
    "definitions": lambda cells: cells[3].update(
        source="\n".join(f"def f{n}(): ..." for n in range(13))
    ),
    "long cell": lambda cells: cells[3].update(source="print(0.5)\n" * 31),
    "wide line": lambda cells: cells[3].update(source="print(0.5)  # " + "x" * 90),
    "hidden code": lambda cells: cells[3].metadata.update(tags=["hide-input"]),
    "a figure's name": lambda cells: (
        cells[2].update(source="top = 1\nplt.show()"),
        cells[3].update(source="print(top)"),
    ),
    "no claims tag": lambda cells: cells[4].metadata.update(tags=[]),
    "no claims rows": lambda cells: cells[4].outputs[0].metadata.pop("claims"),
    "cell after the claims": lambda cells: cells.append(new_code_cell("1", execution_count=6)),
    "papermill": lambda cells: cells[3].metadata.update(papermill={"duration": 1}),
    "time": lambda cells: (
        cells[2].outputs[0].data.update({"image/svg+xml": "<svg>2026-01-02T03:04:05</svg>"})
    ),
    "path": lambda cells: cells[3].outputs[0].update(text="/home/someone/file"),
    "address": lambda cells: cells[3].outputs[0].update(text="https://example.org"),
    "size": lambda cells: cells[3].outputs[0].update(text="x" * 600_000),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_lint_finds(fault: str) -> None:
    notebook = copy.deepcopy(sample())
    FAULTS[fault](notebook.cells)
    assert lint(notebook) != []


ROWS = {
    "no kind": (claims.equals("a", "s", "Rates", 1, 1).row() | {"kind": ""}, "a: neither"),
    "no source": (claims.equals("a", "s", "measured", 1, 1).row(), "a: no such result"),
    "no such citation": (claims.equals("a", "s", "Rates; @a2020", 1, 1).row(), "'@a2020'"),
    "no name": (claims.equals("a", "s", "approximation: ", 1, 1).row(), "'approximation: '"),
    "leans": (claims.record("a", "walk: the same at length 8", 1).row(), "does not stand alone"),
    "leans on": (claims.equals("a", "although it falls", "Rates", 1, 1).row(), "stand alone"),
    "twice": (claims.record("b", "good", 1).row(), "two rows say: good"),
}


@pytest.mark.parametrize("fault", ROWS)
def test_a_row_without_what_it_needs_is_named(fault: str) -> None:
    notebook, (bad, message) = sample(), ROWS[fault]
    cited = "Two-sided bound; rates; @suk2025optimization; approximation: small steps"
    rows = [claims.equals("good", "good", cited, 1, 1).row(), claims.record("c", "fine", 1).row()]
    notebook.cells[4].outputs[0].metadata["claims"] = rows
    assert lint_rows(notebook) == []
    rows.append(bad)
    (problem,) = lint_rows(notebook)
    assert message in problem


@pytest.mark.parametrize(
    ("predicted", "measured", "name"),
    [
        ("rate", "rate", "rate"),
        ("0.9 * rate.max()", "rate.min()", "rate"),
        ("found['a']", "np.max(found)", "found"),
        ("law", "steps", "steps"),  # law is computed from steps
        ("*both", "", "both"),
        ("found['a']", "found['b']", ""),
        ("8 / length", "steps / length", ""),  # a parameter
        ("limit(steps)", "rate", ""),
        ("[table[n] for n in found['a']]", "[n for n in rate]", ""),
    ],
)
def test_a_prediction_from_its_measurement_is_named(
    predicted: str, measured: str, name: str
) -> None:
    notebook = sample()
    notebook.cells[1].source = "length: int = 5  # tokens, at least 1"
    notebook.cells[3].source = (
        "import numpy as np\nsteps = run()\nlaw = bound(steps) + 1\n"
        f"claims.equals('a', 's', 'Rates', {predicted}, {measured})"
    )
    found = [problem for problem in lint_rows(notebook) if "feeds" in problem]
    assert found == ([f"'a': {name} feeds predicted and measured"] if name else [])
