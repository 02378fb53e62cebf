"""The site: where its pages come from, what it depends on, one build, and its publication."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nbformat
from book_execution import BookError, cleaned

HERE = Path(__file__).resolve().parent
# Beside book/ and the notebooks.
SOURCES = ("_config.yml", "_toc.yml", "CITATION.cff", "CHANGELOG.md")
LOGS = "notebooks/data/grpo"  # pages draw these runs and show what a log says
DATA = tuple(f"notebooks/data/{name}" for name in ("planted_errors", "arena", "museum"))
TABLES = ("benchmarks/results", LOGS, *DATA)
PDF_NAME = "the-safe-step.pdf"
PACKAGES = ("rlvrlib", "numpy", "scipy", "matplotlib", "jupyter-book")


def provenance(root: Path, profile: str, executed: Path) -> dict[str, object]:
    """Where the pages come from. Without times of the build, so that an unchanged book stays
    unchanged.
    """
    runs = {
        path.stem: nbformat.read(path, as_version=4).metadata.get("book", {})
        for path in executed.glob("*.ipynb")
    }
    return {
        "commit": _git(root, "rev-parse", "--short=12", "HEAD") or "unknown",
        "modified": bool(
            _git(root, "status", "--porcelain", "--", "book", "notebooks", "params", "rlvrlib")
        ),
        "profile": profile,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"Python": sys.version.split()[0]} | {name: version(name) for name in PACKAGES},
        "notebooks": {
            stem: {k: v for k, v in run.items() if k != "key"} for stem, run in runs.items()
        },
    }


def _git(root: Path, *arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # a copy without git is a book too
        return ""


def site_key(root: Path, executed: Path, facts: dict[str, object]) -> str:
    """What the site depends on."""
    files = [*(root / name for name in SOURCES), root / "requirements.lock", *HERE.glob("*.py")]
    folders = ("book", "rlvrlib", *TABLES)
    for folder in (*(root / name for name in folders), executed):
        files += [
            path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts
        ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for path in sorted(files):
        digest.update(str(path).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def build_site(root: Path, work: Path, facts: dict[str, object]) -> None:
    """Stage the sources and run Jupyter Book; every warning is an error.

    Raises
    ------
    BookError : Sphinx warned or failed; its messages have been printed.
    """
    source, site = work / "source", work / "site"
    for folder in (source, site):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "book", source / "book", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copyfile(root / name, source / name)
    for name in TABLES:
        if (root / name).is_dir():
            shutil.copytree(root / name, source / name)
    (source / "notebooks").mkdir(exist_ok=True)
    for path in (work / "notebooks").glob("*.ipynb"):
        nbformat.write(cleaned(path), source / "notebooks" / path.name)
    (source / "provenance.json").write_text(
        json.dumps(facts, indent=1, default=str), encoding="utf-8"
    )
    command = [
        str(Path(sys.executable).with_name("jupyter-book")),
        "build",
        str(source),
        "--path-output",
        str(site),
    ]
    result = subprocess.run(
        [*command, "-W", "-n", "--keep-going", "--all", "-q"],
        cwd=source,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if result.returncode != 0:
        raise BookError(f"the site has warnings or errors:\n{result.stdout}")


def pdf_path(root: Path, profile: str) -> Path:
    """Where ``make pdf`` leaves the whole book; beside it a file with the key of what it was made
    from.
    """
    return (
        (root / "_build" if profile == "default" else root / "_build" / profile) / "pdf" / PDF_NAME
    )


def current_pdf(root: Path, profile: str, content: str) -> Path | None:
    """The PDF, where it was made from the same content as the site."""
    path = pdf_path(root, profile)
    made_from = path.with_suffix(".key")
    return (
        path if path.exists() and made_from.exists() and made_from.read_text() == content else None
    )


def publish(root: Path, work: Path, site: Path, pdf: Path | None = None) -> None:
    """Put the built site in place by two renames, so that a reader never meets half of it."""
    fresh, old = work / "publish", work / "old"
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(work / "site" / "_build" / "html", fresh)
    if pdf:
        shutil.copyfile(pdf, fresh / pdf.name)
    site.parent.mkdir(parents=True, exist_ok=True)
    if site.exists():
        site.rename(old)
    fresh.rename(site)
    shutil.rmtree(old, ignore_errors=True)
    if site == root / "_build" / "html":
        # Without its memory a plain `jupyter-book build .` writes every page anew.
        shutil.rmtree(root / "_build" / ".doctrees", ignore_errors=True)
