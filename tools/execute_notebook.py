"""Execute one notebook; the result appears whole or not at all.

Runs in a process of its own, so that one notebook can neither slow nor break another. Reads a job (JSON) from
standard input: ``source``, ``target``, ``key`` and ``parameters``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import nbformat

from rlvrlib.execution import NotebookFailed, execute, read_notebook, write_whole


def main() -> int:
    """Write the executed notebook to ``target``; its key, parameters and run time go into its metadata."""
    job = json.load(sys.stdin)
    source, start = Path(job["source"]), time.monotonic()
    try:
        notebook = execute(read_notebook(source), job["parameters"], source.parent)
    except (NotebookFailed, ValueError) as error:
        print(error)
        return 1
    seconds = round(time.monotonic() - start, 1)
    notebook.metadata["book"] = {"key": job["key"], "parameters": job["parameters"], "seconds": seconds}
    write_whole(Path(job["target"]), nbformat.writes(notebook))
    return 0


if __name__ == "__main__":
    sys.exit(main())
