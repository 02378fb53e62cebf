"""The whole book as PDF: when it belongs to the site, and that it is whole."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_pdf
import pytest
import yaml
from book_execution import BookError
from book_site import PDF_NAME, SOURCES, current_pdf, pdf_path, publish
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parent.parent


def test_a_pdf_belongs_to_the_content_that_it_was_made_from(tmp_path: Path) -> None:
    path = pdf_path(tmp_path, "default")
    assert current_pdf(tmp_path, "default", "key") is None
    path.parent.mkdir(parents=True)
    path.write_bytes(b"%PDF")
    assert current_pdf(tmp_path, "default", "key") is None  # of unknown content
    path.with_suffix(".key").write_text("key")
    assert current_pdf(tmp_path, "default", "key") == path
    assert current_pdf(tmp_path, "default", "another") is None
    assert current_pdf(tmp_path, "quick", "key") is None


def test_it_is_published_with_the_site(tmp_path: Path) -> None:
    work, site, pdf = tmp_path / "work", tmp_path / "out" / "html", tmp_path / PDF_NAME
    (work / "site" / "_build" / "html").mkdir(parents=True)
    (work / "site" / "_build" / "html" / "index.html").write_text("x")
    pdf.write_bytes(b"%PDF")
    publish(tmp_path, work, site, pdf)
    assert (site / PDF_NAME).read_bytes() == b"%PDF"
    publish(tmp_path, work, site)
    assert not (site / PDF_NAME).exists()


def test_without_chromium_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**os.environ, "CHROMIUM": "no-such-browser"}
    result = subprocess.run(
        [sys.executable, make_pdf.__file__], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 1 and result.stdout == ""
    assert re.fullmatch(
        r"error: the PDF needs Chromium, and there is no 'no-such-browser': .*\n", result.stderr
    )


# ---- with Chromium


@pytest.fixture(scope="module")
def chromium() -> str:
    path = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if not path:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER=1, and there is no Chromium")
        pytest.skip("no Chromium: nothing was printed")
    return path


@pytest.fixture(scope="module")
def book(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> PdfReader:
    """Two chapters of this book and one notebook, through all that `make pdf` does with the staged
    sources.
    """
    work = tmp_path_factory.mktemp("book")
    source = work / "source"
    shutil.copytree(ROOT / "book", source / "book", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copyfile(ROOT / name, source / name)
    (source / "notebooks").mkdir()
    for name in ("overshoot.ipynb", "logistic_law.ipynb"):
        shutil.copyfile(ROOT / "notebooks" / name, source / "notebooks" / name)
    chapters = [
        {"file": "book/overshoot", "sections": [{"file": "notebooks/overshoot"}]},
        {"file": "book/logistic_law"},
    ]
    toc = {
        "format": "jb-book",
        "root": "book/cite",
        "parts": [{"caption": "Part", "numbered": 2, "chapters": chapters}],
    }
    (source / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")
    target = work / "out" / PDF_NAME
    make_pdf.print_page(
        work / "single" / "_build" / "singlehtml", make_pdf.one_page(work), target, chromium
    )
    assert [path.name for path in target.parent.iterdir()] == [PDF_NAME]
    return PdfReader(target)


def bookmarks(outline: list[Any]) -> Iterator[str]:
    for entry in outline:
        yield from bookmarks(entry) if isinstance(entry, list) else [entry.title]


@pytest.mark.thorough
def test_the_pdf_is_whole(book: PdfReader) -> None:
    text = " ".join(" ".join(page.extract_text() for page in book.pages).split()).replace(
        "\u2019", "'"
    )
    assert len(book.pages) > 12
    assert "Overshooting" in " ".join(bookmarks(book.outline)) and "Exercises" in " ".join(
        bookmarks(book.outline)
    )
    named = [re.sub(r"^[\d.]+ ", "", title) for title in bookmarks(book.outline)]
    headings = [
        line.replace("`", "").replace("'", "\u2019")
        for name in ("overshoot", "logistic_law")
        for line in re.findall(
            "^#+ (.+)", re.sub(r"```bash.*?```", "", chapter(name), flags=re.S), re.M
        )
    ]
    assert len(headings) > 12 and [heading for heading in headings if heading not in named] == []
    assert book.trailer["/Root"].get("/StructTreeRoot") is not None  # tagged
    titles = {
        line
        for name in ("overshoot", "logistic_law")
        for line in re.findall(r"\{prf:(?:theorem|proposition|lemma)\} (.+)", chapter(name))
    }
    assert titles and [title for title in titles if title not in text] == []
    assert "\U0001d702" in text or "\u03b7" in text  # the letter eta of the mathematics font
    assert f"/ {len(book.pages)}" in text  # page numbers
    # What needs a screen is left out; its title stands in the code, in quotes, where it is made.
    assert not re.search(r'(?<!["“])Move the step size past the threshold', text)


@pytest.mark.thorough
def test_no_page_is_empty_and_no_link_leads_to_the_server(book: PdfReader) -> None:
    assert [
        number for number, page in enumerate(book.pages, start=1) if len(page.extract_text()) < 40
    ] == []
    links = [link.get_object() for page in book.pages for link in page.get("/Annots", [])]
    assert (
        len(links) > 20
        and [link for link in links if "127.0.0.1" in str(link.get("/A", {}).get("/URI", ""))] == []
    )


def test_what_is_too_wide_is_an_error(chromium: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<article><p style="width: 900px">x</p></article>', encoding="utf-8"
    )
    with pytest.raises(BookError, match="wider than the printed page"):
        make_pdf.print_page(
            tmp_path, tmp_path / "index.html", tmp_path / "out" / PDF_NAME, chromium
        )


def test_a_number_that_is_too_wide_for_its_cell_is_made_smaller(
    chromium: str, tmp_path: Path
) -> None:
    row = "".join(
        f'<td style="padding: 0; white-space: nowrap">{text}</td>'
        for text in ("1234567890123456", "1")
    )
    style = "table-layout: fixed; width: 120px !important; border-spacing: 0"
    table = f'<table style="{style}"><tr>{row}</tr></table>'
    (tmp_path / "index.html").write_text(
        f"<article><h1>A table</h1>{table}</article>", encoding="utf-8"
    )
    heights: dict[str, float] = {}

    def visit(text: str, _: object, matrix: list[float], __: object, size: float) -> None:
        heights[text.strip()] = size * matrix[3]

    make_pdf.print_page(tmp_path, tmp_path / "index.html", tmp_path / PDF_NAME, chromium)
    PdfReader(tmp_path / PDF_NAME).pages[0].extract_text(visitor_text=visit)
    assert 0 < abs(heights["1234567890123456"]) < 0.9 * abs(heights["1"])


@pytest.mark.thorough
def test_solutions_are_open_in_the_pdf(book: PdfReader) -> None:
    text = "".join("".join(page.extract_text() for page in book.pages).split())
    solutions = re.findall(r"\{solution\} \S+\n:class: dropdown\n\n(.+)", chapter("overshoot"))
    words = [re.split(r"[$`*{\\]", solution)[0].strip() for solution in solutions]
    sure = [start for start in words if len(start) > 12]
    assert sure and all("".join(start.split()) in text for start in sure)


def chapter(name: str) -> str:
    return (ROOT / "book" / f"{name}.md").read_text(encoding="utf-8")


def test_formulas_that_are_not_typeset_are_an_error(chromium: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<article><span class="math">x</span></article>', encoding="utf-8"
    )
    with pytest.raises(BookError, match="1 formulas were not typeset"):
        make_pdf.print_page(
            tmp_path, tmp_path / "index.html", tmp_path / "out" / PDF_NAME, chromium
        )
    assert list((tmp_path / "out").iterdir()) == []  # nothing half-written
