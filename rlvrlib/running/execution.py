"""A notebook as a function: what its result depends on, and one execution."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from rlvrlib.evidence import claims

LIBRARY = Path(__file__).resolve().parent.parent
# A numerical library that starts threads of its own slows notebooks that run side by side.
ONE_THREAD = dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")


class NotebookFailed(Exception):
    """A cell raised, the kernel died, or the kernel did not start.

    Parameters
    ----------
    reason : what happened.
    where : the cell with its source, in lines; empty where no cell is to blame.
    """

    def __init__(self, reason: str, where: str = "") -> None:
        super().__init__(where + reason)
        self.reason = reason


@dataclass(frozen=True)
class Run:
    """A notebook that ran to its end.

    Parameters
    ----------
    notebook : as executed, with its outputs.
    parameters : the values that were given, which differ from the notebook's own.
    claims : the rows of its claims.
    seconds : how long it took.
    """

    notebook: NotebookNode
    parameters: dict[str, Any]
    claims: list[dict[str, Any]]
    seconds: float


def read_notebook(path: str | Path) -> NotebookNode:
    """The notebook in a file.

    Raises
    ------
    ValueError : there is no such file, or it is not a notebook.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no notebook {str(path)!r}{renamed(Path(path).stem)}")
    try:
        return nbformat.read(path, as_version=4)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        nbformat.ValidationError,
    ) as error:
        raise ValueError(
            f"{str(path)!r} is not a Jupyter notebook: {str(error).splitlines()[0]}"
        ) from None


def renamed(stem: str) -> str:
    """What to add to a message about a name that the book's notebooks had once: they have lost
    their numbers.
    """
    name = re.sub(r"^\d\d_", "", stem)
    return f": notebooks have no numbers any more, try {name!r}" if name != stem else ""


def key_of(
    notebook: NotebookNode,
    parameters: Mapping[str, object],
    library: Path,
    versions: str,
    folder: Path = Path(),
) -> str:
    """What an execution depends on: sources and cell metadata, own parameters, library, versions,
    Python, and the data files that the notebook's metadata names (``"data": ["x.csv"]``).

    Parameters
    ----------
    library : the folder of ``rlvrlib``.
    versions : the packages' versions, in any form: a lock file, or `installed_versions`.
    folder : the notebook's own, in which its data files are.

    Raises
    ------
    ValueError : a data file is missing.
    """
    content = [[cell.cell_type, cell.source, cell.metadata] for cell in notebook.cells]
    digest = hashlib.sha256(
        json.dumps([content, parameters, sys.version_info[:2], versions], sort_keys=True).encode()
    )
    for name in notebook.metadata.get("data", []):
        try:
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
        except OSError as error:
            raise ValueError(f"the notebook needs a file that is missing: {error}") from None
    for path in sorted(library.rglob("*.py")):
        digest.update(
            path.relative_to(library).as_posix().encode() + b"\0" + path.read_bytes() + b"\0"
        )
    return digest.hexdigest()


def installed_versions() -> str:
    """Versions of the packages that decide the numbers."""
    return ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "matplotlib"))


def environment_key() -> str:
    """What the library, the versions and Python are here, as one text; equal on two machines that
    give the same numbers.
    """
    return key_of(nbformat.v4.new_notebook(), {}, LIBRARY, installed_versions())


def missing_packages(notebook: NotebookNode) -> list[str]:
    """Packages that the notebook's metadata asks for (``"requires": ["torch"]``) and that are not
    installed.
    """
    return [
        name
        for name in notebook.metadata.get("requires", [])
        if importlib.util.find_spec(name) is None
    ]


def execute(
    notebook: NotebookNode,
    parameters: Mapping[str, Any],
    folder: Path | None = None,
    *,
    progress: bool = False,
    limit: int | None = None,
) -> Run:
    """Execute a notebook through papermill in a kernel of its own. The notebook stays as it is.

    Parameters
    ----------
    parameters : values that differ from the notebook's own; see `rlvrlib.running.parameters`.
    folder : the kernel's working folder.
    progress : show a progress bar on standard error.
    limit : seconds that a cell may take; no limit where omitted.

    Raises
    ------
    NotebookFailed : it did not run to its end.
    """
    import papermill  # slow to import
    from papermill.exceptions import PapermillExecutionError

    if missing := missing_packages(notebook):
        raise NotebookFailed(f"it needs {', '.join(missing)}, which is not installed")
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what matters is raised
    os.environ.update(ONE_THREAD)
    # The kernel chooses its own; one from outside would suppress the figures.
    os.environ.pop("MPLBACKEND", None)
    # papermill's own `cwd` changes the folder of this process, under the feet of its other threads.
    resources = {"metadata": {"path": str(folder)}} if folder else {}
    start = time.monotonic()
    try:
        executed = papermill.execute_notebook(
            copy.deepcopy(notebook),
            None,
            dict(parameters),
            progress_bar={"leave": False} if progress else False,
            kernel_name="python3",
            language="python",
            coalesce_streams=True,
            resources=resources,
            execution_timeout=limit,
            # The warnings of a kernel are not about the notebook.
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        )
    except PapermillExecutionError as error:
        cell = "\n    ".join(error.source.strip().splitlines())
        where = f"cell {error.cell_index + 1} (In [{error.exec_count}]):\n    {cell}\n  "
        raise NotebookFailed(f"{error.ename}: {error.evalue}", where) from None
    except Exception as error:  # a dead kernel, a broken file: one line, not a traceback
        reason = (str(error).strip().splitlines() or [""])[0]
        raise NotebookFailed(f"{type(error).__name__}: {reason}") from None
    seconds = round(time.monotonic() - start, 2)
    return Run(executed, dict(parameters), claims.rows_of(executed), seconds)
