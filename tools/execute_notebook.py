"""Execute one notebook through papermill; the result appears whole or not at all.

Runs in a process of its own, so that one notebook can neither slow nor break another. Reads a job (JSON) from
standard input: ``source``, ``target``, ``cwd``, ``key`` and ``parameters``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError


def execute(source: Path, target: Path, cwd: Path, key: str, parameters: dict[str, object]) -> None:
    """Write the executed notebook to ``target``; its key, parameters and run time go into its metadata."""
    start = time.monotonic()
    # Without a path papermill writes nothing while it runs.
    notebook = papermill.execute_notebook(
        source, None, parameters, cwd=cwd, progress_bar=False, kernel_name="python3", coalesce_streams=True
    )
    seconds = round(time.monotonic() - start, 1)
    notebook.metadata["book"] = {"key": key, "parameters": parameters, "seconds": seconds}
    part = target.with_name(f".part-{target.name}")
    nbformat.write(notebook, part)
    os.replace(part, target)


def main() -> int:
    job = json.load(sys.stdin)
    try:
        execute(*(Path(job[name]) for name in ("source", "target", "cwd")), job["key"], job["parameters"])
    except PapermillExecutionError as error:
        cell = "\n    ".join(error.source.strip().splitlines())
        print(f"cell {error.cell_index + 1} (In [{error.exec_count}]):\n    {cell}\n  {error.ename}: {error.evalue}")
        return 1
    except Exception as error:  # a dead kernel, a broken file: one line, not a traceback
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
