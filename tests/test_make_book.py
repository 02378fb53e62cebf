"""The executor: what is out of date runs, nothing else; a failure or an interrupt leaves only whole
files.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import book_execution
import book_site
import make_book
import nbformat
import psutil
import pytest
from book_execution import BookError
from nbformat.v4 import new_code_cell, new_notebook

SCRIPT = Path(make_book.__file__)


def write(root: Path, stem: str, *sources: str) -> None:
    """A notebook with one parameter and the given cells."""
    cells = [
        new_code_cell("size: int = 2  # how many", metadata={"tags": ["parameters"]}),
        *map(new_code_cell, sources),
    ]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), root / "notebooks" / f"{stem}.ipynb")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A book of two notebooks."""
    for folder in ("notebooks", "rlvrlib", "params"):
        (tmp_path / folder).mkdir()
    (tmp_path / "rlvrlib" / "module.py").write_text("x = 1\n")
    (tmp_path / "requirements.lock").write_text("numpy==2\n")
    write(tmp_path, "a", "print(size)")
    write(tmp_path, "b", "print(size + 1)")
    return tmp_path


def run(root: Path, jobs: int = 1) -> bool:
    return book_execution.execute_all(
        root, root / "out", book_execution.read_profile(root, "default"), jobs
    )


def printed(root: Path, stem: str) -> str:
    return (
        nbformat.read(root / "out" / f"{stem}.ipynb", as_version=4)
        .cells[-1]
        .outputs[0]
        .text.strip()
    )


def test_only_what_is_out_of_date_runs(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in (root / "notebooks").iterdir()}

    def ran() -> set[str]:
        assert run(root)
        return {
            line.split(":")[0]
            for line in capfd.readouterr().out.splitlines()
            if "executed in" in line
        }

    assert ran() == {"a", "b"}
    assert (printed(root, "a"), printed(root, "b")) == ("2", "3")
    assert ran() == set()
    assert {path: path.read_bytes() for path in (root / "notebooks").iterdir()} == before

    write(root, "a", "print(10 * size)")
    assert ran() == {"a"} and printed(root, "a") == "20"
    # New outputs alone (what `make refresh` writes) are no reason to run.
    executed = book_execution.cleaned(root / "out" / "a.ipynb")
    nbformat.write(executed, root / "notebooks" / "a.ipynb")
    assert ran() == set()
    (root / "params" / "default.yml").write_text("b: {size: 5}\n")
    assert ran() == {"b"} and printed(root, "b") == "6"
    (root / "rlvrlib" / "module.py").write_text("x = 2\n")
    assert ran() == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("unknown: {size: 1}", "unknown"),
        ("05_a: {size: 1}", "try 'a'"),
        ("a: {sise: 1}", "sise"),
        ("a: 3", "form"),
        ("[a, b]", "form"),
        ("a: {size: !!python/object/apply:os.getcwd []}", "YAML"),
        ("a: {", "YAML"),
    ],
)
def test_bad_profile_is_one_line_and_writes_nothing(root: Path, text: str, named: str) -> None:
    (root / "params" / "mine.yml").write_text(text)
    command = [sys.executable, SCRIPT, "--root", root, "--profile", "mine"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout == ""
    assert (
        result.stderr.startswith("error: ")
        and result.stderr.count("\n") == 1
        and named in result.stderr
    )
    assert not (root / "_build").exists()


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (SCRIPT.parent.parent / "params").glob("*.yml"))
)
def test_the_profiles_of_the_repository_are_good(name: str) -> None:
    assert book_execution.read_profile(SCRIPT.parent.parent, name)


@pytest.mark.parametrize("name", ["missing", "../params/mine", "html", "A b"])
def test_bad_profile_name(root: Path, name: str) -> None:
    with pytest.raises(BookError):
        book_execution.read_profile(root, name)


def test_a_failing_notebook_leaves_the_others(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(root, "c", "x = 1", "raise RuntimeError('no luck')")
    assert not run(root, jobs=2)
    message = capfd.readouterr().err
    assert "c: FAILED" in message and "cell 3" in message and "RuntimeError: no luck" in message
    assert sorted(path.name for path in (root / "out").iterdir()) == ["a.ipynb", "b.ipynb"]


def test_a_dead_kernel_is_a_failure(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(root, "c", "import os; os._exit(1)")
    assert not run(root)
    assert "c: FAILED" in capfd.readouterr().err and not (root / "out" / "c.ipynb").exists()


def test_failure_is_the_exit_status(root: Path) -> None:
    write(root, "c", "1 / 0")
    result = subprocess.run(
        [sys.executable, SCRIPT, "--root", root], capture_output=True, text=True
    )
    assert result.returncode == 1 and "ZeroDivisionError" in result.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing_half_written(root: Path, how: signal.Signals) -> None:
    write(
        root,
        "c",
        f"import pathlib, time; pathlib.Path({str(root / 'started')!r}).touch(); time.sleep(120)",
    )
    before = {path: path.read_bytes() for path in (root / "notebooks").iterdir()}
    driver = subprocess.Popen(
        [sys.executable, SCRIPT, "--root", root], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    executed = root / "_build" / ".books" / "default" / "notebooks"
    wait((root / "started").exists)
    family = psutil.Process(driver.pid).children(recursive=True)
    assert family
    driver.send_signal(how)
    assert driver.wait(120) == 130
    assert b"Traceback" not in driver.stderr.read()
    wait(
        lambda: (
            not any(
                process.is_running() and process.status() != psutil.STATUS_ZOMBIE
                for process in family
            )
        )
    )
    names = {path.name for path in executed.iterdir()}
    assert names <= {"a.ipynb", "b.ipynb"}
    assert {path: path.read_bytes() for path in (root / "notebooks").iterdir()} == before


def wait(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_refresh_writes_back_without_traces_and_only_changes(root: Path) -> None:
    assert run(root)
    book_execution.refresh(root, root / "out")
    path = root / "notebooks" / "a.ipynb"
    notebook = nbformat.read(path, as_version=4)
    assert [cell.execution_count for cell in notebook.cells] == [1, 2]
    assert "papermill" not in path.read_text() and '"book"' not in path.read_text()
    stamp = path.stat().st_mtime_ns
    assert run(root)
    book_execution.refresh(root, root / "out")
    assert path.stat().st_mtime_ns == stamp


def requires(root: Path, stem: str, *names: str, data: tuple[str, ...] = ()) -> None:
    path = root / "notebooks" / f"{stem}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata |= {"requires": list(names), "data": list(data)}
    nbformat.write(notebook, path)


def test_a_notebook_that_needs_an_absent_package_keeps_its_committed_outputs(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(root, "c", "raise RuntimeError('it must not run')")
    requires(root, "c", "no_such_package")
    assert run(root) and run(root)
    assert (
        "c: committed outputs, because no_such_package is not installed" in capfd.readouterr().out
    )
    assert (root / "out" / "c.ipynb").read_bytes() == (root / "notebooks" / "c.ipynb").read_bytes()
    facts = book_site.provenance(root, "default", root / "out")
    assert facts["notebooks"]["c"] == {} and "seconds" in facts["notebooks"]["a"]


def test_only_notebooks_that_require_a_package(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (root / "requirements-lm.txt").write_text("torch==1\n")
    write(root, "c", "print(size + 2)")
    requires(root, "c", "json")
    assert make_book.main(["--root", str(root), "--requiring", "json"]) == 0
    out, executed = capfd.readouterr().out, root / "_build" / ".books" / "default" / "notebooks"
    assert "c: executed in" in out and [path.name for path in executed.iterdir()] == ["c.ipynb"]
    assert not (root / "_build" / "html").exists()
    assert make_book.main(["--root", str(root), "--requiring", "json"]) == 0
    assert "c: up to date" in capfd.readouterr().out
    (root / "requirements-lm.txt").write_text("torch==2\n")
    assert make_book.main(["--root", str(root), "--requiring", "json"]) == 0
    assert "c: executed in" in capfd.readouterr().out


def test_a_notebook_is_out_of_date_when_its_data_changed(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(root, "c", "print(open('data/x.csv').read())")
    requires(root, "c", data=("data/x.csv",))
    (root / "notebooks" / "data").mkdir()
    data = root / "notebooks" / "data" / "x.csv"
    data.write_text("1")
    assert run(root) and printed(root, "c") == "1"
    data.write_text("2")
    capfd.readouterr()
    assert run(root) and printed(root, "c") == "2"
    assert "a: up to date" in capfd.readouterr().out
    executed = root / "out" / "c.ipynb"
    for broken in ("{", "[]", '{"cells": 5}'):  # a damaged one is executed again
        executed.write_text(broken)
        assert run(root) and printed(root, "c") == "2"
    data.unlink()
    with pytest.raises(BookError, match=r"x\.csv"):
        run(root)


def test_a_profile_that_cannot_be_read_is_told_in_one_line(root: Path) -> None:
    for content in (b"\xff\xfe\x00", b"a: " + b"[" * 5000):
        (root / "params" / "broken.yml").write_bytes(content)
        with pytest.raises(BookError, match="is not YAML"):
            book_execution.read_profile(root, "broken")
