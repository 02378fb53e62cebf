"""The appendix "Claims and evidence" and the numbers in the prose are those of the executed
notebooks.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag
from nbformat.v4 import new_code_cell, new_notebook, new_output

from rlvrlib.evidence import claims

EXTENSIONS = Path(__file__).resolve().parent.parent / "book" / "_ext"
PAGE = """Claims
======

.. toctree::

   notebooks/a

.. prf:theorem:: Second bound
   :label: second

   One is at most two.

Of *one* it is :measured:`a:one`, and :predicted:`a:one` was predicted; of *three*
:measured:`a:three` :uncertainty:`a:three`.

.. claims-table::
"""


def write_notebook(folder: Path, measured: float) -> None:
    rows = [
        claims.equals("one", "first", "approximation: halves", 2.0, measured, tolerance=0.5).row(),
        claims.at_most("two", "second", "Second bound", 1.0, 0.5).row(),
        claims.record("three", "third", 7.5, uncertainty=0.25).row(),
    ]
    cells = [
        new_code_cell("seed: int = 7  # any", metadata={"tags": ["parameters"]}),
        new_code_cell(
            "claims.show()",
            outputs=[
                new_output("display_data", {"text/html": "<table/>"}, metadata={"claims": rows})
            ],
        ),
    ]
    nbformat.write(new_notebook(cells=cells), folder / "notebooks" / "a.ipynb")


def built(folder: Path) -> Tag:
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "-b",
        "html",
        str(folder),
        str(folder / "out"),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    page = BeautifulSoup(
        (folder / "out" / "index.html").read_text(encoding="utf-8"), "html.parser"
    ).select_one("div.body")
    assert page
    return page


@pytest.fixture
def book(tmp_path: Path) -> Path:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "conf.py").write_text(
        f"import sys; sys.path.insert(0, {str(EXTENSIONS)!r})\n"
        "extensions = ['claims_page', 'sphinx_proof']\nexclude_patterns = ['book', 'out']\n"
    )
    (tmp_path / "index.rst").write_text(PAGE)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "theorems.md").write_text("| Second bound | {prf:ref}`second` | |\n")
    (tmp_path / "_toc.yml").write_text("root: index\nparts: [{chapters: [{file: notebooks/a}]}]\n")
    (tmp_path / "notebooks" / "a.rst").write_text("A notebook\n==========\n")
    return tmp_path


def test_another_value_of_one_claim_changes_the_appendix_and_the_prose(book: Path) -> None:
    def cells(page: Tag) -> list[list[str]]:
        return [
            [cell.get_text(strip=True) for cell in row.select("td")]
            for row in page.select("table.evidence tbody tr")
        ]

    write_notebook(book, 2.25)
    page = built(book)
    assert [row[3] for row in cells(page)] == ["2.25", "0.5", "7.5 ± 0.25"]
    assert (
        cells(page)[0][2::3] == ["2", "✓ holds"]
        and "it is 2.25, and 2 was predicted" in page.get_text()
    )
    total = "2 predictions: 2 hold, 0 fail, 0 outside the assumptions; 1 records"
    assert total in page.get_text() and not page.select(".verdict-fails")

    assert "of three 7.5 ± 0.25." in page.get_text().replace("\n", " ")
    (link,) = page.select("table.evidence a[href$=second]")
    assert link.get_text() == "Second bound" and cells(page)[2][2::3] == ["", "recorded"]
    assert "seed: 7" in page.select_one("details summary").get_text()
    saved = (book / "out" / "claims.csv").read_text(encoding="utf-8").splitlines()
    assert len(saved) == 4 and saved[1].startswith("a,one,first,approximation: halves")

    write_notebook(book, 3.75)
    page = built(book)
    assert [row[3] for row in cells(page)] == ["3.75", "0.5", "7.5 ± 0.25"]
    assert cells(page)[0][5] == "✗ fails" and "it is 3.75, and 2 was predicted" in page.get_text()
    assert "2 predictions: 1 hold, 1 fail" in page.get_text()
    assert len(page.select(".verdict-fails")) == 1


def test_a_number_that_no_claim_has_fails_the_build(book: Path) -> None:
    write_notebook(book, 2.25)
    (book / "index.rst").write_text(PAGE.replace("a:one", "a:four", 1))
    with pytest.raises(subprocess.CalledProcessError) as failure:
        built(book)
    message = "no measured of a claim 'four' in notebook 'a' (there are: one, two, three)"
    assert message in failure.value.stderr


def test_nothing_is_predicted_of_a_record(book: Path) -> None:
    write_notebook(book, 2.25)
    (book / "index.rst").write_text(PAGE.replace("predicted:`a:one", "predicted:`a:three", 1))
    with pytest.raises(subprocess.CalledProcessError) as failure:
        built(book)
    assert "no predicted of a claim 'three' in notebook 'a'" in failure.value.stderr


def test_wrong_lines_are_counted_by_side_and_name_the_rows_that_noticed_them(book: Path) -> None:
    folder = book / "notebooks" / "data" / "planted_errors"
    folder.mkdir(parents=True)
    head = "id,module,function,number,kind,before,after\n"
    lines = [
        "1,thresholds,paper,0,constant,return 2 * slope / width,return 4 * slope / width",
        "2,thresholds,paper,0,sign,return 2 * slope / width,return -2 * slope / width",
        "3,tokens,law,0,sign,a + b,a - b",
        "4,tokens,law,0,swapped,a - b,b - a",
        "5,tokens,law,0,dropped term,a - b,a",
    ]
    (folder / "errors.csv").write_text(head + "\n".join(lines))
    head = "error,side,left,failed,stopped,note\n"
    lines = ["1,unsafe,2,a:one a:two b:x b:y,,", "2,safe,1,,a,", "3,neither,0,,,no caller sees it"]
    lines += ["4,neither,0,,,", "5,neither,1,,,"]
    (folder / "noticed.csv").write_text(head + "\n".join(lines))
    (book / "conf.py").write_text(
        (book / "conf.py").read_text().replace("['claims", "['planted_errors_page', 'claims")
    )
    directives = "\n.. planted-summary::\n\n.. planted-errors::\n"
    (book / "index.rst").write_text(PAGE + directives)
    write_notebook(book, 2.25)
    page = built(book)

    counts, listed = (
        [[" ".join(cell.get_text().split()) for cell in row.select("td")] for row in rows]
        for rows in (
            page.select("table:not(.evidence):not(.planted-errors) tbody tr"),
            page.select("table.planted-errors tbody tr"),
        )
    )
    assert [row[1:] for row in counts] == [
        ["1", "1", "0", "0", "0"],
        ["1", "0", "1", "0", "0"],
        ["2", "0", "0", "1", "1"],
        ["4", "1", "1", "1", "1"],
    ]
    assert "Not counted are 1 of 5. 1: no caller sees it." in page.get_text()
    assert listed[0] == [
        "thresholds.paper",
        "return 2 * slope / width",
        "return 4 * slope / width",
        "unsafe",
        "a:one, a:two, b:x and 1 more",
    ]
    others = ["stops: a", "no caller sees it", "nothing", "nothing so far"]
    assert [row[-1] for row in listed[1:]] == others
