"""Types, lint and spelling have no finding, and each of the three checks finds a fault that is put
before it.

`pyproject.toml` says what is checked, and gives the reason for each exception.
"""

from __future__ import annotations

import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sources import chapters

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROSE = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "book").glob("*.md")),
    ROOT / "book" / "symbols.yml",
]
CODE = [
    ROOT / "rlvrlib",
    ROOT / "tools",
    ROOT / "tests",
    ROOT / "benchmarks",
    ROOT / "book" / "_ext",
    ROOT / "Makefile",
    ROOT / "pyproject.toml",
]


def run(tool: str, *arguments: str | Path, text: str | None = None) -> tuple[int, str]:
    """Exit status and output of a tool of this environment, with the repository's configuration."""
    command = [sys.executable, "-m", tool, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, input=text, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def unused_imports(*notebooks: Path) -> list[str]:
    """Imports that no cell uses; the hidden first cell imports the library only to see whether it
    is there.
    """
    _, found = run(
        "ruff", "check", "--isolated", "--select", "F401", "--output-format", "json", *notebooks
    )
    return [
        f"{Path(row['filename']).name}: {row['message']}"
        for row in json.loads(found)
        if row["cell"] != 1
    ]


def texts(notebook: Path) -> str:
    """The Markdown of a notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def test_types() -> None:
    status, said = run("mypy")
    assert status == 0, said


def test_lint() -> None:
    status, said = run("ruff", "check")
    assert status == 0, said
    assert unused_imports(*NOTEBOOKS) == []


def test_spelling() -> None:
    status, said = run("codespell_lib", *PROSE, *CODE)
    assert status == 0, said
    assert run("codespell_lib", "-", text="\n".join(map(texts, NOTEBOOKS))) == (0, "")


# ---- the checks can fail


@pytest.mark.parametrize(
    "fault",
    ["def double(x: int) -> str:\n    return 2 * x\n", "def double(x):\n    return 2 * x\n"],
)
def test_types_can_fail(tmp_path: Path, fault: str) -> None:
    (tmp_path / "wrong.py").write_text(fault)
    status, said = run("mypy", tmp_path / "wrong.py")
    assert status == 1 and "wrong.py:" in said


@pytest.mark.parametrize(
    "fault", ["import os\n", "def f(x=[]):\n    return x\n", "list(zip([1], [2]))\n"]
)
def test_lint_can_fail(tmp_path: Path, fault: str) -> None:
    (tmp_path / "wrong.py").write_text(fault)
    status, said = run("ruff", "check", "--config", ROOT / "pyproject.toml", tmp_path)
    assert status == 1 and "wrong.py:" in said


def test_lint_of_notebooks_can_fail(tmp_path: Path) -> None:
    notebook = json.loads(NOTEBOOKS[0].read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code[-1]["source"] = ["import os"]
    (tmp_path / "wrong.ipynb").write_text(json.dumps(notebook))
    assert any(
        "`os` imported but unused" in found for found in unused_imports(tmp_path / "wrong.ipynb")
    )


def test_spelling_can_fail(tmp_path: Path) -> None:
    word = "receive".replace("ei", "ie")
    (tmp_path / "wrong.md").write_text(f"To {word} a reward.")
    assert run("codespell_lib", tmp_path / "wrong.md")[0] != 0
    assert run("codespell_lib", "-", text=f"To {word} a reward.")[0] != 0


# ---- one name per result, one number per page

STEMS = "|".join(name.split("/")[1] for name in chapters(ROOT))
SECOND_NUMBERING = re.compile(
    r"(?<!paper's )(?<!paper\u2019s )\bTheorems? \d|\(\d['\u2019]\)|\b\d''|"
    r"\b(?:Identity|Identities|Propositions?|Lemma|Corollary|Assumption A) ?\d|"
    rf"\b(?:[Cc]hapters?|[Nn]otebooks?|theory section) \d|\b\d\d_(?:{STEMS})\b"
)
NUMBERED_BY_THE_SITE = [
    *PROSE,
    *sorted((ROOT / "params").glob("*.yml")),
    *sorted((ROOT / "rlvrlib").rglob("*.py")),
]


@pytest.mark.parametrize("path", NUMBERED_BY_THE_SITE, ids=lambda path: path.name)
def test_results_and_chapters_are_named_and_the_site_numbers_them(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name == "CHANGELOG.md":  # its table tells the old names
        text = re.sub(r"^\|.*$", "", text, flags=re.MULTILINE)
    assert SECOND_NUMBERING.findall(text) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_name_results_too(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    shown = [[*cell["source"], str(cell["metadata"].get("mystnb", ""))] for cell in cells]
    assert SECOND_NUMBERING.findall("\n".join(map("".join, shown))) == []


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_names_of_the_library_exist(path: Path) -> None:
    text = re.sub(r"^\|.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for name in re.findall(r"`(rlvrlib(?:\.\w+)+)`", text):
        pkgutil.resolve_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "by Theorem 1' the step",
        "Theorems 3\u2019 and 4",
        "the threshold of Theorem 5.",
        "in units, 4/3 (1'')",
        "Identity 2 says",
        "as chapter 10 shows",
        "notebooks/05_overshoot.ipynb",
        "theory section 4",
    ],
)
def test_a_second_numbering_is_found(text: str) -> None:
    assert SECOND_NUMBERING.search(text)
    assert not SECOND_NUMBERING.search("the paper's Theorem 2, {prf:ref}`thm-angle`, $J'(0)$")
