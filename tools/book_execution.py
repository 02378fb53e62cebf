"""The notebooks of the book, executed: what is out of date with its profile, library or versions."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import yaml
from workers import Workers

from rlvrlib.running.execution import key_of, missing_packages, read_notebook, write_whole
from rlvrlib.running.parameters import cell_source, checked, read

Parameters = dict[str, dict[str, object]]


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
            f"PROFILE must be lower-case letters, digits, '-' and '_', and not 'html'; got {profile!r}"
        )
    path = root / "params" / f"{profile}.yml"
    if not path.exists():
        if profile == "default":
            return {}
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yml"))) or "none"
        raise BookError(f"no profile params/{profile}.yml (there are: {known})")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
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
                f"params/{profile}.yml names the notebook {stem!r}; there is no notebooks/{stem}.ipynb"
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
    workers = Workers()

    def bring_up_to_date(source: Path) -> bool:
        target, parameters = executed / source.name, profile.get(source.stem, {})
        notebook = read_notebook(source)
        if missing := missing_packages(notebook):
            shutil.copyfile(source, target)
            print(
                f"{source.stem}: committed outputs, because {', '.join(missing)} is not installed",
                flush=True,
            )
            return True
        key = key_of(notebook, parameters, root / "rlvrlib", _inputs(root, notebook))
        if (
            target.exists()
            and nbformat.read(target, as_version=4).metadata.get("book", {}).get("key") == key
        ):
            print(f"{source.stem}: up to date", flush=True)
            return True
        if workers.stopping.is_set():
            return False
        start = time.monotonic()
        reason = workers.mine().execute(
            {"source": source, "target": target, "key": key, "parameters": parameters}
        )
        seconds = time.monotonic() - start
        if not reason:
            print(f"{source.stem}: executed in {seconds:.1f} s", flush=True)
        elif not workers.stopping.is_set():
            print(
                f"{source.stem}: FAILED after {seconds:.1f} s in {reason}",
                file=sys.stderr,
                flush=True,
            )
        return not reason

    with ThreadPoolExecutor(jobs) as pool, workers:
        futures = [pool.submit(bring_up_to_date, source) for source in sources]
        try:
            return all([future.result() for future in futures])  # noqa: C419 (a list, so that every notebook is waited for)
        except BaseException:
            workers.stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _inputs(root: Path, notebook: nbformat.NotebookNode) -> str:
    """What decides the numbers beside the library: locked versions, those of an extra, data files
    that the metadata names.

    Raises
    ------
    BookError : a data file is missing.
    """
    names = [
        "requirements.lock",
        *(["requirements-lm.txt"] if notebook.metadata.get("requires") else []),
    ]
    names += [f"notebooks/{name}" for name in notebook.metadata.get("data", [])]
    try:
        return "".join(hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names)
    except OSError as error:
        raise BookError(f"a notebook needs a file that is missing: {error}") from None


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
