"""One execution: what it depends on, how it fails, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from rlvrlib.running import execution, files


def notebook(*sources):
    cells = [
        new_code_cell("size: int = 2  # how many", metadata={"tags": ["parameters"]}),
        *map(new_code_cell, sources),
    ]
    return new_notebook(cells=cells)


def test_the_key_depends_on_everything_that_matters(tmp_path: Path):
    (tmp_path / "module.py").write_text("x = 1\n")
    source = notebook("print(size)")

    def key(parameters=None, versions="numpy 2"):
        return execution.key_of(source, parameters or {}, tmp_path, versions)

    keys = [key(), key({"size": 3}), key(versions="numpy 3")]
    (tmp_path / "other.py").write_text("")
    keys.append(key())
    source.cells[1].metadata["tags"] = ["hide-input"]
    keys.append(key())
    source.cells[1].source += "  # changed"
    keys.append(key())
    assert len(set(keys)) == len(keys)
    source.cells[1].outputs.append(nbformat.v4.new_output("stream", text="2"))
    assert key() == keys[-1]  # outputs are a result, not a cause


def test_parameters_reach_the_notebook_and_the_source_stays(tmp_path: Path):
    source = notebook("import os; print(size, os.getcwd(), os.environ.get('OMP_NUM_THREADS'))")
    before = nbformat.writes(source)
    run = execution.execute(source, {"size": 7}, tmp_path)
    assert run.notebook.cells[-1].outputs[0].text.strip() == f"7 {tmp_path} 1"
    assert run.parameters == {"size": 7} and run.claims == [] and run.seconds > 0
    assert nbformat.writes(source) == before


def test_a_failing_cell_is_named():
    with pytest.raises(
        execution.NotebookFailed, match=r"cell 3 .*\n.*boom.*\n +RuntimeError: boom"
    ) as caught:
        execution.execute(notebook("1", "raise RuntimeError('boom')"), {})
    assert caught.value.reason == "RuntimeError: boom"


def test_a_cell_may_have_a_limit():
    with pytest.raises(execution.NotebookFailed, match="CellTimeoutError") as caught:
        execution.execute(notebook("import time; time.sleep(100)"), {}, limit=1)
    assert "\n" not in caught.value.reason


def test_a_missing_package_is_named():
    source = notebook("1")
    source.metadata["requires"] = ["no_such_package"]
    with pytest.raises(execution.NotebookFailed, match="no_such_package"):
        execution.execute(source, {})


@pytest.mark.parametrize(
    "text", ["", "{}", "not json", "[1]", '{"cells": 3, "nbformat": 4, "nbformat_minor": 5}']
)
def test_what_is_no_notebook_is_said_in_one_line(tmp_path: Path, text: str):
    path = tmp_path / "x.ipynb"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"x\.ipynb") as caught:
        execution.read_notebook(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"there is no notebook '.*absent\.ipynb'$"):
        execution.read_notebook(tmp_path / "absent.ipynb")


@pytest.mark.parametrize("path", ["05_overshoot.ipynb", "notebooks/05_overshoot.ipynb"])
def test_an_old_name_gets_the_new_one(path: str):
    with pytest.raises(ValueError, match="try 'overshoot'"):
        execution.read_notebook(path)


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
):
    path = tmp_path / "table.csv"
    files.write_whole(path, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, where, full)
    with pytest.raises(OSError, match="No space"):
        files.write_whole(path, "new")
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"] and path.read_text() == "old"


def test_the_library_stays_light():
    code = (
        "import rlvrlib, sys; print([m for m in sys.modules if m.split('.')[0] in ('matplotlib',"
        "'nbformat', 'papermill', 'typer', 'rich', 'pandas', 'joblib', 'dask', 'yaml', 'psutil')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
