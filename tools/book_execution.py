"""The notebooks of the book: those that are out of date are executed."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
import yaml

from rlvrlib.running.execution import (
    NotebookFailed,
    Run,
    execute,
    key_of,
    missing_packages,
    read_notebook,
    renamed,
)
from rlvrlib.running.files import write_whole
from rlvrlib.running.parameters import cell_source, checked, read
from rlvrlib.running.pool import side_by_side

Parameters = dict[str, dict[str, Any]]


class BookError(Exception):
    """What the user should read, in one line."""


def read_profile(root: Path, profile: str) -> Parameters:
    """Read ``params/PROFILE.yml`` and check every notebook and parameter that it names.

    Raises
    ------
    BookError : no such profile, not a mapping of mappings, or an unknown notebook or parameter.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", profile) or profile == "html":
        raise BookError(
            "PROFILE must be lower-case letters, digits, '-' and '_', and not 'html'; "
            f"got {profile!r}"
        )
    path = root / "params" / f"{profile}.yml"
    if not path.exists():
        if profile == "default":
            return {}
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yml"))) or "none"
        raise BookError(f"no profile params/{profile}.yml (there are: {known})")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise BookError(
            f"params/{profile}.yml is not YAML: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(content, dict) or not all(
        isinstance(value, dict) for value in content.values()
    ):
        raise BookError(
            f"params/{profile}.yml must have the form {{notebook: {{parameter: value}}}}"
        )
    for stem, parameters in content.items():
        source = root / "notebooks" / f"{stem}.ipynb"
        if not source.is_file():
            raise BookError(
                f"params/{profile}.yml names the notebook {stem!r}, which does not exist"
                f"{renamed(str(stem))}"
            )
        try:
            content[stem] = checked(parameters, read(cell_source(read_notebook(source))))
        except ValueError as error:
            raise BookError(f"params/{profile}.yml: {stem}: {error}") from None
    return content


def execute_all(
    root: Path, executed: Path, profile: Parameters, jobs: int, requiring: str = ""
) -> bool:
    """Bring ``executed`` up to date, in parallel; only notebooks that require a package, where one
    is named. True where all ran.
    """
    executed.mkdir(parents=True, exist_ok=True)
    sources = sorted((root / "notebooks").glob("*.ipynb"))
    if requiring:
        sources = [
            path
            for path in sources
            if requiring in read_notebook(path).metadata.get("requires", [])
        ]
    _remove_all(executed.glob(".part-*"))  # of a run that was killed
    _remove_all(
        path for path in executed.glob("*.ipynb") if not (root / "notebooks" / path.name).exists()
    )
    due: dict[Path, str] = {}
    for source in sources:
        target, notebook = executed / source.name, read_notebook(source)
        if missing := missing_packages(notebook):
            shutil.copyfile(source, target)
            print(
                f"{source.stem}: committed outputs, because {', '.join(missing)} is not installed"
            )
            continue
        parameters = profile.get(source.stem, {})
        try:
            key = key_of(
                notebook, parameters, root / "rlvrlib", _versions(root, notebook), source.parent
            )
        except (ValueError, OSError) as error:
            raise BookError(f"{source.stem}: {error}") from None
        if _key(target) == key:
            print(f"{source.stem}: up to date")
        else:
            due[source] = key

    def run(source: Path) -> Run:
        return execute(read_notebook(source), profile.get(source.stem, {}), source.parent)

    failed = False
    for source, future in side_by_side(run, due, jobs=jobs):
        try:
            done = future.result()
        except NotebookFailed as error:
            failed = True
            print(f"{source.stem}: FAILED in {error}", file=sys.stderr, flush=True)
            continue
        done.notebook.metadata["book"] = {
            "key": due[source],
            "parameters": done.parameters,
            "seconds": round(done.seconds, 1),
        }
        write_whole(executed / source.name, nbformat.writes(done.notebook))
        print(f"{source.stem}: executed in {done.seconds:.1f} s", flush=True)
    return not failed


def _key(executed: Path) -> str | None:
    """What an executed notebook was computed from; None where there is none that can be read."""
    try:
        found = read_notebook(executed).metadata.get("book", {}).get("key")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def _versions(root: Path, notebook: nbformat.NotebookNode) -> str:
    """The locked versions, and those of an extra where the notebook needs one."""
    names = ["requirements.lock"]
    if notebook.metadata.get("requires"):
        names.append("requirements-lm.txt")
    return "".join(hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names)


def _remove_all(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink()


def cleaned(path: Path) -> nbformat.NotebookNode:
    """An executed notebook without what differs from run to run: times, paths, the exact Python."""
    notebook = nbformat.read(path, as_version=4)
    for name in ("papermill", "book"):
        notebook.metadata.pop(name, None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if not cell.metadata.get("tags", True):  # papermill adds an empty list
            del cell.metadata["tags"]
    return notebook


def refresh(root: Path, executed: Path) -> None:
    """Write the executed notebooks back to ``notebooks/``, where anything differs."""
    for path in sorted(executed.glob("*.ipynb")):
        target = root / "notebooks" / path.name
        text = nbformat.writes(cleaned(path)) + "\n"
        if target.read_text(encoding="utf-8") != text:
            write_whole(target, text)
            print(f"{path.stem}: written back")
