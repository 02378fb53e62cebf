"""What the README says is so: its addresses, its picture, its code, its sample, its workflow; and
the library's first example prints what it says.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import home
import pytest
import yaml
from typer.testing import CliRunner

from rlvrlib.command.app import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
WORKFLOW = (ROOT / "book" / "_static" / "rerun.yml").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The first block of code in a language."""
    return re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)[1]


def test_addresses_are_those_of_the_configuration() -> None:
    repository, site = CONFIG["repository"]["url"], CONFIG["html"]["baseurl"]
    assert f"<{site}>" in README and f"git+{repository}" in README
    assert f"git clone {repository}" in README
    assert f"repository: {repository.removeprefix('https://github.com/')}" in WORKFLOW


def test_the_picture_is_the_computed_one() -> None:
    drawn = (ROOT / "book" / "_static" / "threshold.svg").read_text(encoding="utf-8")
    # Another processor computes other last digits of the curve.
    shape = re.compile(r"-?\d+\.\d+")
    assert shape.sub("", drawn) == shape.sub("", home.still())
    numbers, again = (list(map(float, shape.findall(text))) for text in (drawn, home.still()))
    assert numbers == pytest.approx(again, abs=1e-3)


def test_the_python_prints_what_its_comment_says(capsys: pytest.CaptureFixture[str]) -> None:
    exec(block("python"), {})  # our own text
    printed = capsys.readouterr().out.split("\n")
    assert f"prints {printed[0]} and {printed[1]}" in block("python")


def test_the_example_of_the_library_prints_what_stands_beside(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    exec(example, {})
    beside = re.findall(r"^print.*#\s(.+)$", example, re.MULTILINE)
    assert len(beside) == 3 and capsys.readouterr().out.splitlines() == beside


def test_the_sample_is_the_output_of_the_command() -> None:
    command = re.search(r"^rlvr (diagnose .*)trainer_state.json$", README, re.MULTILINE)[1]
    log = ROOT / "notebooks" / "data" / "grpo" / "ramp-seed1.json"
    said = CliRunner().invoke(app, [*command.split(), str(log)], env={"COLUMNS": "200"}).output
    sample = " ".join(block("text").split())
    assert len(sample) > 100 and sample in " ".join(said.split())


def test_the_workflow_runs_as_written(tmp_path: Path) -> None:
    """Its last two lines, in a copy of the checkout; the lines before them install."""
    assert WORKFLOW.strip() in README
    steps = yaml.safe_load(WORKFLOW)["jobs"]["rerun"]["steps"]
    lines = [step["run"] for step in steps if "run" in step]
    assert [line.split()[0] for line in lines] == ["pip", "pip", "rlvr", "pytest"]
    for name in ("notebooks", "rlvrlib", "tests", "tools", "book", "conftest.py", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    scripts = Path(sys.executable).parent
    for line in lines[2:]:
        program, *arguments = line.split()
        done = subprocess.run(
            [scripts / program, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d\d passed", done.stdout)
