"""The command line: bad input is one line and exit status 2, verdicts are the exit status, help
fits a terminal.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from test_sweep import write
from typer.testing import CliRunner

from rlvrlib import thresholds
from rlvrlib.command import calculator
from rlvrlib.command.app import app
from rlvrlib.evidence import claims

COMMANDS = [
    "",
    "run",
    "sweep",
    "threshold",
    *(f"threshold {name}" for name in calculator.functions()),
]


def rlvr(*arguments: object, folder: Path | None = None):
    before = Path.cwd()
    try:
        os.chdir(folder or before)
        return CliRunner().invoke(app, [str(argument) for argument in arguments])
    finally:
        os.chdir(before)


def error_of(result) -> str:
    """The one line on standard error of a refused command."""
    assert result.exit_code == 2 and result.stdout == "" and result.stderr.count("\n") == 1, (
        result.output
    )
    assert result.stderr.startswith("error: ")
    return result.stderr


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return write(tmp_path / "small.ipynb")


# ---- run


def test_run_writes_notebook_and_page_and_prints_the_claims(notebook: Path, tmp_path: Path) -> None:
    before = notebook.read_bytes()
    (tmp_path / "mine.yml").write_text("seed: 8\ndelta: 1e-1\n")
    result = rlvr("run", notebook, "-f", tmp_path / "mine.yml", "-p", "seed", "3", folder=tmp_path)
    assert result.exit_code == 0, result.output
    assert "2 predictions: 2 hold, 0 fail, 0 outside the assumptions; 0 records" in result.stdout
    folder = tmp_path / "_build" / "run" / "small"
    assert sorted(path.name for path in folder.iterdir()) == ["small.html", "small.ipynb"]
    rows = claims.collect(folder / "small.ipynb")
    assert rows[0]["measured"] == 3 and rows[1]["predicted"] == 0.1
    page = (folder / "small.html").read_text()
    assert "seed = 3, delta = 0.1" in page and page.count("✓ holds") == 2
    assert notebook.read_bytes() == before


def test_a_profile_of_the_book_is_a_file_of_parameters(notebook: Path, tmp_path: Path) -> None:
    (tmp_path / "large.yml").write_text("other: {steps: 1}\nsmall: {delta: 0.1, seed: 3}\n")
    result = rlvr(
        "sweep",
        notebook,
        "-f",
        tmp_path / "large.yml",
        "-g",
        "seed=4,6",
        "--jobs",
        1,
        folder=tmp_path,
    )
    assert result.exit_code == 0, result.output
    table = (tmp_path / "_build" / "sweep" / "small" / "claims.csv").read_text().splitlines()
    assert [line.split(",")[:4] for line in table[::2]] == [
        ["point", "delta", "seed", "claim"],
        ["0", "0.1", "4", "step"],
        ["1", "0.1", "6", "step"],
    ]
    (tmp_path / "large.yml").write_text("other: {steps: 1}")
    assert "has no parameters of small; it has those of other" in error_of(
        rlvr("run", notebook, "-f", tmp_path / "large.yml")
    )


def test_an_old_name_gets_the_new_one(notebook: Path, tmp_path: Path) -> None:
    new = "notebooks have no numbers any more, try 'small'"
    assert new in error_of(rlvr("run", "05_small.ipynb"))
    assert new in error_of(rlvr("sweep", "notebooks/05_small.ipynb", "-g", "seed=1"))
    (tmp_path / "old.yml").write_text("03_other: {steps: 1}\n05_small: {seed: 3}")
    old = error_of(rlvr("run", notebook, "-f", tmp_path / "old.yml"))
    assert f"it has those of 03_other, 05_small: {new}" in old


def test_a_claim_that_fails_is_status_1(notebook: Path, tmp_path: Path) -> None:
    result = rlvr("run", notebook, "-p", "seed=8", "--out", tmp_path / "out")
    assert result.exit_code == 1 and "1 hold, 1 fail" in result.stdout


def test_a_notebook_that_fails_is_status_1_and_leaves_nothing(
    notebook: Path, tmp_path: Path
) -> None:
    result = rlvr("run", notebook, "-p", "seed", "5", "--out", tmp_path / "out")
    assert (
        result.exit_code == 1
        and "ValueError: five" in result.stderr
        and "Traceback" not in result.stderr
    )
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-p", "dleta", "1"], "did you mean delta"),
        (["-p", "delta", "2"], "in (0, 1)"),
        (["-p", "seed", "-1"], "non-negative"),
        (["-p", "seed", "x"], "whole number"),
        (["-p", "seed"], "a name and a value"),
        (["-p", "<b>", "1"], "no parameter '<b>'"),
        (["--out", "."], "where the notebook itself stands"),
        (["-f", "absent.yml"], "absent.yml"),
        (["-f", "bad.yml"], "not YAML"),
        (["-f", "list.yml"], "form {name: value}"),
        (["-f", "object.yml"], "not YAML"),
    ],
)
def test_bad_input_of_run(notebook: Path, tmp_path: Path, options: list[str], said: str) -> None:
    (tmp_path / "bad.yml").write_text("seed: {")
    (tmp_path / "list.yml").write_text("[1, 2]")
    (tmp_path / "object.yml").write_text("seed: !!python/object/apply:os.getcwd []")
    assert said in error_of(rlvr("run", notebook, *options, folder=tmp_path))
    assert (
        sorted(
            path.suffix for path in tmp_path.iterdir() if path.is_dir() or path.suffix == ".html"
        )
        == []
    )


def test_no_notebook(tmp_path: Path) -> None:
    assert "there is no notebook" in error_of(rlvr("run", tmp_path / "absent.ipynb"))
    (tmp_path / "text.ipynb").write_text("hello")
    assert "not a Jupyter notebook" in error_of(
        rlvr("sweep", tmp_path / "text.ipynb", "-g", "seed=1")
    )


def test_list_shows_ranges(notebook: Path) -> None:
    result = rlvr("run", notebook, "--list")
    assert (
        result.exit_code == 0 and "in (0, 1)" in result.stdout and "non-negative" in result.stdout
    )


def test_a_range_that_cannot_be_read_is_said(notebook: Path, tmp_path: Path) -> None:
    book = nbformat.read(notebook, as_version=4)
    book.cells[0].source = book.cells[0].source.replace(", in (0, 1)", ", not too large")
    nbformat.write(book, notebook)
    result = rlvr("run", notebook, "-p", "delta", "0.4", "--out", tmp_path / "out")
    assert result.exit_code == 0 and "the range of delta was not checked" in result.stderr


# ---- sweep


def test_sweep_writes_table_and_overview(notebook: Path, tmp_path: Path) -> None:
    result = rlvr("sweep", notebook, "-g", "seed=2,3", "--jobs", "1", folder=tmp_path)
    assert result.exit_code == 0, result.output
    assert (
        "2 points. 4 predictions: 4 hold, 0 fail, 0 outside the assumptions; 0 records. "
        "0 points did not run."
        in result.stdout
    )
    folder = tmp_path / "_build" / "sweep" / "small"
    assert sorted(path.name for path in folder.iterdir()) == [
        "claims.csv",
        "overview.html",
        "points",
        "seconds.csv",
    ]
    assert (folder / "seconds.csv").read_text().startswith("point,seed,seconds\n0,2,")
    assert rlvr("sweep", notebook, "-g", "seed=8", "--jobs", "1", folder=tmp_path).exit_code == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "at least once"),
        (["-g", "seed"], "name=v1"),
        (["-g", "seed=1", "--jobs", "0"], "--jobs"),
        (["-g", "seed=1,-1"], "non-negative"),
        (["-g", "seed=1", "--cluster", "nonsense"], "tcp://host:8786"),
    ],
)
def test_bad_input_of_sweep(notebook: Path, tmp_path: Path, options: list[str], said: str) -> None:
    result = rlvr("sweep", notebook, *options, folder=tmp_path)
    assert result.exit_code == 2 and said in result.stderr and "Traceback" not in result.stderr


# ---- threshold

NUMBERS = {
    "alignment": 0.4,
    "score_bound": 1.5,
    "score_lipschitz": 0.7,
    "feature_range": 2.0,
    "log_odds": -1.2,
    "success_rate": 0.3,
    "curvature": 0.3,
    "curvature_bound": 0.8,
    "max_length": 512,
    "variance": 40.0,
    "token_range": 1.1,
    "bend_range": 0.2,
    "mean_length": 200.0,
    "alignments": [0.2, 0.3],
    "curvature_bounds": [0.5, 0.7],
    "weights": [0.4, 0.6],
}


def answer(result) -> float:
    assert result.exit_code == 0, result.output
    return float(result.stdout.strip().splitlines()[-1].split(": ")[1])


def test_every_function_of_numbers_is_a_command() -> None:
    named = {name.replace("-", "_") for name in calculator.functions()}
    assert named >= {
        "paper",
        "trajectory",
        "log_linear",
        "success_rise",
        "failure_fall",
        "batch_success_rise",
        "local",
    }
    public = {name for name in vars(thresholds) if not name.startswith("_")}
    assert named <= public and not named & {"exact", "failure_law"}  # those take a problem


@pytest.mark.parametrize("name", calculator.functions())
def test_the_calculator_gives_the_functions_value(name: str) -> None:
    function = calculator.functions()[name]
    meanings = calculator.meanings(function)
    assert all(meanings.values()), meanings
    options = []
    for argument in meanings:
        value = NUMBERS[argument]
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        options += [f"--{argument.replace('_', '-')}", text]
    expected = function(**{argument: NUMBERS[argument] for argument in meanings})
    result = rlvr("threshold", name, *options)
    assert answer(result) == pytest.approx(float(expected), rel=1e-5)
    assert "Assumptions:" in result.stdout and max(map(len, result.stdout.splitlines())) <= 80
    formula = " ".join((function.__doc__ or "").split("\n\n")[0].replace("`", "").split())
    assert formula in " ".join(result.stdout.split())


def test_success_stands_for_log_odds() -> None:
    fixed = ["--alignment", 0.5, "--curvature-bound", 1]
    by_rate = answer(rlvr("threshold", "success-rise", *fixed, "--success", 0.3))
    assert by_rate == pytest.approx(
        answer(rlvr("threshold", "success-rise", *fixed, "--log-odds", np.log(0.3 / 0.7)))
    )
    assert by_rate == pytest.approx(
        float(thresholds.success_rise(0.5, np.log(0.3 / 0.7), 1)), rel=1e-5
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["paper", "--alignment", "x"], "--alignment must be a number"),
        (["paper", "--alignment", "1"], "--score-bound is needed"),
        (
            ["success-rise", "--alignment", "1", "--success", "1", "--curvature-bound", "1"],
            "in (0, 1)",
        ),
        (["success-rise", "--alignment", "1", "--success", "0.5", "--log-odds", "0"], "not both"),
        (["success-rise", "--alignment", "1", "--curvature-bound", "1"], "--log-odds is needed"),
        (["local", "--alignment", "nan", "--curvature", "1"], "alignment"),
        (
            [
                "failure-fall",
                "--alignment",
                "1",
                "--success",
                "0.5",
                "--max-length",
                "0",
                "--token-range",
                "1",
            ],
            "max_length",
        ),
    ],
)
def test_bad_input_of_threshold(options: list[str], said: str) -> None:
    assert said in error_of(rlvr("threshold", *options))


# ---- the command itself


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command or "rlvr")
def test_help_fits_a_terminal_and_is_complete(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = rlvr(*command.split(), "--help")
    assert result.exit_code == 0 and max(map(len, result.stdout.splitlines())) <= 80
    said = result.stdout.replace("[ARGS]...", "").replace(",...", "")
    assert "…" not in said and "..." not in said


def test_without_the_extra_the_remedy_is_one_line() -> None:
    code = (
        "import sys; sys.modules['typer'] = None; from rlvrlib.command.__main__ import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        result.returncode == 1
        and result.stderr
        == "error: the command rlvr needs typer: pip install 'rlvrlib[practice]'\n"
    )
