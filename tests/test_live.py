"""Pages that run: cells without a kernel, files that are what pyodide's lock says, and, in a
browser, runs and reports with every other host blocked.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_live
import nbformat
import pytest
from book_execution import BookError
from make_pdf import serve
from site_checks import SITE

from rlvrlib.running.in_page import Page

ROOT = Path(__file__).resolve().parent.parent
PARAMETERS = "steps: int = 3  # how many, from 1 to 9"
DRAWS = "import matplotlib.pyplot as plt\nfrom rlvrlib.evidence import claims, figures\n"
DRAWS += "figures.use_style()\nplt.plot([0, 1])\nplt.show()"
CLAIMS = "claims.show(claims.equals('a', 'Three', 'approximation: none', 3, steps))"


def cell(source: str, *tags: str) -> dict[str, Any]:
    return {"source": source, "tags": list(tags), "alt": "a line"}


CELLS = [
    cell(PARAMETERS, "parameters"),
    cell("print('<b>', steps)\nsteps + 1"),
    cell(DRAWS),
    cell(CLAIMS),
]


def test_cells_run_without_a_kernel() -> None:
    page = Page(CELLS, {})
    printed, drawn, shown = [page.run(index) for index in range(4)][1:]
    assert "&lt;b&gt; 3\n4\n" in printed[0]["html"]
    assert [output["figure"] for output in drawn] == [True]
    assert 'role="img"' in drawn[0]["html"] and "a line" in drawn[0]["html"]
    assert [row["verdict"] for row in shown[0]["claims"]] == ["holds"]


def test_values_of_the_form_are_texts_and_reach_the_cells() -> None:
    page = Page(CELLS, {"steps": "4"})
    shown = [page.run(index) for index in range(4)][3]
    assert [row["verdict"] for row in shown[0]["claims"]] == ["fails"]


@pytest.mark.parametrize(
    ("given", "message"),
    [({"steps": "10"}, "steps must be from 1 to 9"), ({"stps": "3"}, "did you mean steps")],
)
def test_what_the_range_forbids_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Page(CELLS, given)


def test_an_edited_cell_runs_in_place_of_its_own() -> None:
    page = Page(CELLS, {})
    page.run(0)
    assert "changed" in page.run(1, "print('changed')")[0]["html"]


def test_a_notebook_that_asks_for_png_gets_png() -> None:
    page = Page([cell(DRAWS.replace("figures.use_style()", "figures.as_png()"))], {})
    assert "data:image/png;base64," in page.run(0)[0]["html"]


LOCK = {
    "packages": {
        "numpy": {"file_name": "n.whl", "sha256": "00", "depends": []},
        "scipy": {"file_name": "s.whl", "sha256": "01", "depends": ["numpy", "blas"]},
        "blas": {"file_name": "b.zip", "sha256": "02", "depends": []},
        "matplotlib": {"file_name": "m.whl", "sha256": "03", "depends": ["numpy"]},
    }
}


def test_packages_come_with_what_they_need() -> None:
    wanted = {"n.whl": "00", "s.whl": "01", "b.zip": "02", "m.whl": "03"}
    assert make_live.closure(LOCK) == wanted


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n.whl").write_bytes(b"content")
    right = hashlib.sha256(b"content").hexdigest()
    assert make_live._checked("n.whl", tmp_path, right) == b"content"
    with pytest.raises(BookError, match=r"n\.whl is not the file"):
        make_live._checked("n.whl", tmp_path, right[::-1])
    with pytest.raises(BookError, match=r"has no s\.whl"):
        make_live._checked("s.whl", tmp_path, right)


def test_files_that_are_not_whole_do_not_count(tmp_path: Path) -> None:
    assert not make_live.complete(tmp_path)
    (tmp_path / make_live.LOCK).write_text(json.dumps(LOCK))
    for name in (*make_live.CORE_FILES, *make_live.closure(LOCK)):
        (tmp_path / name).write_bytes(b"")
    assert not make_live.complete(tmp_path)


def test_without_npm_there_is_one_line_and_the_site_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BookError, match="cannot be had from npm"):
        make_live.collect(tmp_path, None)
    assert not list(tmp_path.rglob("*.whl"))


def test_an_archive_does_not_tell_when_and_where_it_was_made(tmp_path: Path) -> None:
    packed = []
    for folder, written in (("first", 0), ("second", 1_700_000_000)):
        file = tmp_path / folder / "a.py"
        file.parent.mkdir()
        file.write_text("a = 1\n")
        os.utime(file, (written, written))
        packed.append(make_live.archive({"a.py": file}))
    assert packed[0] == packed[1]


def test_the_archive_holds_the_library_without_its_compiled_part() -> None:
    names = zipfile.ZipFile(io.BytesIO(make_live.packed_library(ROOT))).namelist()
    assert {"rlvrlib/thresholds.py", "rlvrlib/evidence/page.css", "yaml/__init__.py"} <= set(names)
    assert not [name for name in names if "compiled" in name or name.endswith(".so")]


def test_every_numeric_notebook_has_a_form_whose_defaults_its_ranges_allow() -> None:
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        given = {one["name"]: str(one["value"]) for one in make_live.fields(ROOT, notebook)}
        assert Page(make_live.cells(notebook), given).parameters.keys() == given.keys()


# ---- in a browser


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a copy of the site whose pages run."""
    try:
        kept = make_live.collect(ROOT, None)
    except BookError as error:
        pytest.skip(f"no page was run in a browser: {error}")
    site = tmp_path_factory.mktemp("live") / "site"
    shutil.copytree(SITE, site, ignore=shutil.ignore_patterns("*.pdf", "live"))
    make_live.add(ROOT, site, kept)
    with serve(site) as address:
        yield address


def run_page(tab: Any, address: str, stem: str, query: str = "") -> str:
    """Open a page's form, run it, and say how that ended."""
    tab.goto(f"{address}/notebooks/{stem}.html{query}")
    if not query:
        tab.click(".live-open")
    tab.click(".live form button[type=submit]")
    tab.wait_for_function(
        "/^(Done|Not run|The run ended|Cell \\d+ failed)/.test("
        "document.querySelector('.live-status').textContent)",
        timeout=300_000,
    )
    return str(tab.inner_text(".live-status"))


def rows(tab: Any) -> list[list[str]]:
    found: list[list[str]] = tab.evaluate(
        "[...document.querySelectorAll('[data-claims]')].flatMap(o => JSON.parse(o.dataset.claims))"
    )
    return found


def committed(stem: str) -> list[list[str]]:
    from rlvrlib.evidence import claims

    return [
        [str(row["key"]), str(row["verdict"])]
        for row in claims.collect(ROOT / "notebooks" / f"{stem}.ipynb")
    ]


@pytest.mark.thorough
def test_pages_run_and_say_what_is_committed(tab: Any, live: str) -> None:
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"{live}/notebooks/overshoot.html")
    assert not [url for url in asked if url.endswith((".wasm", ".whl", ".zip", "worker.js"))]
    for stem in ("overshoot", "blind_spots"):
        assert run_page(tab, live, stem).startswith("Done")
        assert rows(tab) == committed(stem)
    assert run_page(tab, live, "overshoot", "?live=&delta=0.5").startswith("Done")
    assert "0.5" in tab.inner_text("article")
    message = run_page(tab, live, "overshoot", "?live=&delta=1.5")
    assert message.startswith("Not run: ") and "delta must be in (0, 1)" in message
    assert not [url for url in asked if not url.startswith((live, "data:", "blob:", "about:"))]


@pytest.mark.thorough
def test_a_run_can_be_stopped_and_begun_again(tab: Any, live: str) -> None:
    tab.goto(f"{live}/notebooks/blind_spots.html?live=")
    tab.click(".live form button[type=submit]")
    tab.wait_for_function(
        "/^Cell/.test(document.querySelector('.live-status').textContent)", timeout=120_000
    )
    tab.click("text=Stop")
    assert tab.inner_text(".live-status").startswith("Stopped")
    tab.click(".live form button[type=submit]")
    tab.wait_for_function(
        "/^Done/.test(document.querySelector('.live-status').textContent)", timeout=120_000
    )


@pytest.mark.thorough
def test_a_log_is_read_on_the_readers_machine(tab: Any, live: str, tmp_path: Path) -> None:
    hostile = tmp_path / "log<img onerror=1>.jsonl"
    hostile.write_text(
        "\n".join(
            json.dumps({"step": step, "reward": 0.7 if step < 40 else 0.02, "<script>x": 1})
            for step in range(80)
        )
    )
    tab.goto(f"{live}/book/diagnose_a_run.html")
    sent: list[str] = []
    tab.on("request", lambda request: sent.append(f"{request.method} {request.url}"))
    for file, said in ((hostile, "The report"), (tmp_path / "empty.txt", "")):
        file.touch()
        tab.set_input_files("#live-log", str(file))
        tab.click(".live > button")
        tab.wait_for_function(
            "!/Loading|Drop a/.test(document.querySelector('.live-status').textContent)",
            timeout=180_000,
        )
        assert tab.inner_text(".live-status").startswith(said)
    report = tab.evaluate("document.querySelector('.live-report').srcdoc")
    assert "Fall" in report and "<script" not in report and "<img onerror" not in report
    assert all(line.startswith(f"GET {live}") for line in sent if " data:" not in line)
