"""The files of the site that are no pages: sitemap, llms.txt, the page for wrong addresses; and how
to cite.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from site_checks import SITE, page_problems
from sources import chapters

ROOT = Path(__file__).resolve().parent.parent
BASE = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["html"]["baseurl"]
CFF = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))

pytestmark = pytest.mark.skipif(
    not (SITE / "index.html").exists(),
    reason=f"no built site in {SITE.name}: run `make book` first",
)


def listed_pages() -> set[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return {
        f"{name}.html"
        for name in [
            toc["root"],
            *re.findall(r"file: (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8")),
        ]
    }


def test_sitemap_holds_every_page_once() -> None:
    tree = ElementTree.parse(SITE / "sitemap.xml")
    found = [
        element.text for element in tree.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")
    ]
    assert sorted(found) == sorted(BASE + name for name in listed_pages())
    assert all((SITE / name).is_file() for name in listed_pages())


def test_llms_txt_has_a_line_with_a_question_for_each_page() -> None:
    lines = (SITE / "llms.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ") and lines[2].startswith("> ")
    entries = [
        re.fullmatch(r"- \[(.+?)\]\((\S+?)\)(?:: (.+))?", line)
        for line in lines
        if line.startswith("- ")
    ]
    assert all(entries)
    assert {entry[2].removeprefix(BASE) for entry in entries} == listed_pages() - {
        "book/index.html"
    }
    pages = {f"{BASE}{name}.html" for name in chapters(ROOT)}
    questions = {entry[2]: entry[3] for entry in entries if entry[2] in pages}
    assert len(questions) > 15
    for address, question in questions.items():
        source = (ROOT / "book" / Path(address).with_suffix(".md").name).read_text(encoding="utf-8")
        if "**Question.**" in source:
            assert question and question.rstrip().endswith(("?", ".")) and len(question) > 20, (
                address
            )


def test_the_page_for_wrong_addresses_works_at_any_depth() -> None:
    page = BeautifulSoup((SITE / "404.html").read_text(encoding="utf-8"), "html.parser")
    assert (
        page.find("base")["href"] == urlsplit(BASE).path
    )  # links lead from the root of the site, wherever the reader is
    assert page_problems(SITE, "404.html") == []
    assert (
        page.select("a[href='book/index.html']") and (SITE / page.find("form")["action"]).is_file()
    )
    assert not page.find_all(["script"]) and not page.find_all("link", rel="stylesheet")


def test_how_to_cite_says_what_the_citation_file_says() -> None:
    page = BeautifulSoup((SITE / "book" / "cite.html").read_text(encoding="utf-8"), "html.parser")
    article = " ".join(page.select_one("article").get_text().split())
    (paper,) = CFF["references"]
    for text in (
        CFF["title"],
        CFF["version"],
        paper["title"],
        str(paper["year"]),
        BASE,
        *(a["family-names"] for a in paper["authors"]),
    ):
        assert text in article, text
    assert len(page.select("div.highlight-bibtex")) == 2


def test_the_changelog_knows_the_present_version() -> None:
    page = BeautifulSoup(
        (SITE / "book" / "changelog.html").read_text(encoding="utf-8"), "html.parser"
    )
    assert any(CFF["version"] in heading.get_text() for heading in page.select("article h2"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{CFF["version"]}"' in project


def test_what_no_reader_needs_is_not_published() -> None:
    static = SITE / "_static"
    assert list(SITE.rglob("*.map")) == [] and not (static / "locales").exists()
    assert not [font for font in static.rglob("*.ttf") if font.with_suffix(".woff2").exists()]
    downloads = list((SITE / "_sources" / "notebooks").glob("*.ipynb"))
    assert len(downloads) > 15
    for path in downloads:
        cells = nbformat.read(path, as_version=4).cells
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), path
