"""Execute notebooks, one after another; each result appears whole or not at all.

Runs in a process of its own, whose imports serve all its notebooks; each notebook has a kernel of
its own. A line of standard input is a job (JSON): ``source``, ``target``, ``key`` and
``parameters``. The line that answers it (JSON) says what went wrong: "" if nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import nbformat

from rlvrlib.running.execution import NotebookFailed, execute, read_notebook, write_whole


def run(job: dict[str, Any]) -> str:
    """Write the executed notebook to ``target``; its key, parameters and run time go into its
    metadata.
    """
    source, start = Path(job["source"]), time.monotonic()
    try:
        notebook = execute(read_notebook(source), job["parameters"], source.parent)
    except (NotebookFailed, ValueError) as error:
        return str(error) or type(error).__name__
    seconds = round(time.monotonic() - start, 1)
    notebook.metadata["book"] = {
        "key": job["key"],
        "parameters": job["parameters"],
        "seconds": seconds,
    }
    write_whole(Path(job["target"]), nbformat.writes(notebook))
    return ""


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a kernel prints past its notebook is no answer
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
