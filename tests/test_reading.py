"""The book is as long as a reader can bear: what stands open, and the formulas in words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from folded import FORMULA, open_text, words
from home import ROUTE
from sources import chapters

ROOT = Path(__file__).resolve().parent.parent


def chapter(name: str) -> str:
    return (ROOT / f"{name}.md").read_text(encoding="utf-8")


def open_words(name: str) -> int:
    """The words of a chapter before anything is unfolded, with the captions of its figures."""
    text = open_text(chapter(name))
    figures = re.findall(r"^\{[\w-]+figure\} (\S+) (\S+)$", text, re.MULTILINE)
    captions = [caption(stem, label) for stem, label in figures]
    assert figures or name == "book/practitioners_guide"
    return words("\n".join([re.sub(r"(?m)^\{[\w-]+figure\}.*", "", text), *captions]))


def caption(stem: str, label: str) -> str:
    cells = json.loads((ROOT / "notebooks" / f"{stem}.ipynb").read_text(encoding="utf-8"))["cells"]
    figures = [cell["metadata"].get("mystnb", {}).get("figure", {}) for cell in cells]
    (found,) = [figure["caption"] for figure in figures if figure.get("name") == label]
    return str(found)


def test_what_stands_open_can_be_read() -> None:
    assert sum(map(open_words, chapters(ROOT))) <= 60_000


def test_the_student_s_route_is_short() -> None:
    assert sum(open_words(f"book/{stem}") for stem in ROUTE) <= 14_000


@pytest.mark.parametrize("name", chapters(ROOT))
def test_in_words_is_in_words(name: str) -> None:
    """At most one formula per hundred words."""
    section = re.search(r"^## In words\n(.*?)(?=^## |\Z)", chapter(name), re.DOTALL | re.MULTILINE)
    text = open_text(section[1])
    assert len(FORMULA.findall(text)) <= words(text) / 100


def test_what_is_folded_is_not_counted() -> None:
    page = (
        "One two.\n\n````{prf:theorem} A name\n:label: thm-x\n\nThree $x + 1$.\n````\n\n"
        "````{prf:proof}\nHidden.\n\n```{math}\nx\n```\nHidden.\n````\n\n"
        ":::{dropdown} More\nHidden.\n:::\n\n````{exercise}\n:label: ex-x\n\nFour?\n````\n\n"
        "````{solution} ex-x\n:class: dropdown\n\nHidden.\n````\n\n```bash\nnot prose\n```\nFive.\n"
    )
    assert open_text(page).split() == "One two. A name Three $x + 1$. Four? Five.".split()
    assert words(open_text(page)) == 8


def test_a_fence_that_is_not_closed_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'\{dropdown\} More' is open at its end"):
        open_text("One.\n\n::::{dropdown} More\nHidden.\n\n```text\nx\n```\n")
