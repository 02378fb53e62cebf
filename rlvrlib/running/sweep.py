"""A notebook over a grid of parameters: in parallel, resumable, one table.

Every finished point is a file named by its key (`execution.key_of`): what is there is not
computed again. The table is made in the order of the grid, so it does not depend on who computed
what, or when.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode
from psutil import pid_exists

from rlvrlib.running.execution import (
    LIBRARY,
    NotebookFailed,
    environment_key,
    execute,
    installed_versions,
    key_of,
)
from rlvrlib.running.files import write_whole
from rlvrlib.running.parameters import Parameter, cell_source, checked, read
from rlvrlib.running.pool import side_by_side

Outcome = dict[str, Any]  # rows: the claims; error: why there are none; seconds

COLUMNS = ("claim", "kind", "relation", "predicted", "measured", "tolerance", "verdict", "reason")
FAILED = "did not run"


@dataclass(frozen=True)
class Point:
    """One point of a grid: its place, its parameters, and the key of its result."""

    index: int
    parameters: dict[str, Any]
    key: str


def parse_grid(texts: Sequence[str], parameters: Mapping[str, Parameter]) -> dict[str, list[Any]]:
    """``name=v1,v2,...`` to values in the parameter's type. The points are checked by `grid`.

    Raises
    ------
    ValueError : not of that form, an unknown name, a wrong type, or something given twice.
    """
    axes: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip()
        if not equals or not values.strip():
            raise ValueError(f"-g must have the form name=v1,v2,..., got {text!r}")
        if name in axes:
            raise ValueError(f"-g names {name!r} twice: give all its values at once")
        if name not in parameters:
            checked({name: values}, parameters)  # raises, and says which names there are
        entries: list[object] = [part.strip() for part in values.split(",")]
        if parameters[name].type.lower().startswith("list"):
            try:
                entries = yaml.safe_load(f"[{values}]")
            except yaml.YAMLError:
                raise ValueError(
                    f"-g {name} must be lists such as [1,2],[3,4], got {values!r}"
                ) from None
        axes[name] = [parameters[name].convert(entry) for entry in entries]
        if any(axes[name].count(value) > 1 for value in axes[name]):
            raise ValueError(f"-g {name} holds a value twice: {values!r}")
    return axes


def grid(
    notebook: NotebookNode, axes: Mapping[str, Sequence[Any]], folder: Path = Path()
) -> list[Point]:
    """Every combination of the values, the last name fastest, each checked against the parameters
    cell. ``folder`` is the notebook's own, in which its data files are.

    Raises
    ------
    ValueError : an unknown name, a wrong type or a value out of range at some point, or a data file
        that is missing.
    """
    parameters, versions = read(cell_source(notebook)), installed_versions()
    combinations = [
        dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
    ]
    return [
        Point(index, point, key_of(notebook, point, LIBRARY, versions, folder))
        for index, point in enumerate(checked(given, parameters) for given in combinations)
    ]


def run(
    notebook: NotebookNode,
    points: Sequence[Point],
    out: Path,
    *,
    jobs: int = -1,
    cluster: str | None = None,
    folder: Path | None = None,
) -> Iterator[tuple[Point, Outcome]]:
    """Compute the points that have no result yet; yield every point with its outcome as it becomes
    known.

    Parameters
    ----------
    out : folder of the results; made where it is missing.
    jobs, cluster : where the notebooks run; see `side_by_side`.
    folder : where the kernels run, if it exists there.

    Raises
    ------
    ValueError : the cluster cannot be used.
    OSError : a result could not be written. What was finished before is kept.
    """
    (out / "points").mkdir(parents=True, exist_ok=True)
    for leftover in (out / "points").glob(".part-*"):  # of a sweep that was killed
        writer = leftover.name.split("-")[1]
        if not (writer.isdecimal() and pid_exists(int(writer))):
            leftover.unlink(missing_ok=True)
    waiting = []
    for point in points:
        outcome = _stored(out, point)
        if outcome is None:
            waiting.append(point)
        else:
            yield point, outcome
    if not waiting:
        return
    compute = partial(
        _compute,
        text=_without_outputs(notebook),
        folder=str(folder or ""),
        expected=environment_key(),
    )
    for point, future in side_by_side(compute, waiting, jobs=jobs, cluster=cluster):
        try:
            outcome = future.result()
        except Exception as error:
            if cluster is None:
                raise
            outcome = _failure(f"given up by the cluster: {type(error).__name__}: {error}")
        if not outcome["error"]:  # a point that failed is tried again by the next sweep
            write_whole(_file(out, point), json.dumps(outcome, indent=1))
        yield point, outcome


def table(points: Sequence[Point], outcomes: Mapping[int, Outcome]) -> str:
    """All claims of all points as CSV, in the order of the grid; without times, so that a repeated
    sweep gives the same bytes.
    """
    names = list(points[0].parameters)
    rows = []
    for point in points:
        start = [point.index, *point.parameters.values()]
        outcome = outcomes[point.index]
        rows += [
            [*start, row["key"], *(row[name] for name in COLUMNS[1:])] for row in outcome["rows"]
        ]
        if outcome["error"] or not outcome["rows"]:
            verdict = FAILED if outcome["error"] else "no claims"
            rows.append([*start, *[""] * 6, verdict, outcome["error"]])
    return _csv(["point", *names, *COLUMNS], rows)


def times(points: Sequence[Point], outcomes: Mapping[int, Outcome]) -> str:
    """Seconds that each point took when it was computed, as CSV."""
    rows = [[p.index, *p.parameters.values(), outcomes[p.index]["seconds"]] for p in points]
    return _csv(["point", *points[0].parameters, "seconds"], rows)


# ---- one point


def _compute(point: Point, text: str, folder: str, expected: str) -> Outcome:
    """Compute a point, here or in a worker."""
    if environment_key() != expected:
        return _failure(
            "the worker has another rlvrlib, Python or NumPy, SciPy, Matplotlib than the sweep"
        )
    there = Path(folder) if folder and Path(folder).is_dir() else None
    start = time.monotonic()
    try:
        run = execute(nbformat.reads(text, as_version=4), point.parameters, there)
    except NotebookFailed as error:
        return _failure(" ".join(error.reason.split()), time.monotonic() - start)
    return {"rows": run.claims, "error": "", "seconds": run.seconds}


def _failure(reason: str, seconds: float = 0.0) -> Outcome:
    return {"rows": [], "error": reason, "seconds": round(seconds, 2)}


def _without_outputs(notebook: NotebookNode) -> str:
    bare = nbformat.from_dict(json.loads(nbformat.writes(notebook)))
    for cell in bare.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    return nbformat.writes(bare)


def _file(out: Path, point: Point) -> Path:
    return out / "points" / f"{point.key}.json"


def _stored(out: Path, point: Point) -> Outcome | None:
    try:
        outcome = json.loads(_file(out, point).read_text(encoding="utf-8"))
        whole = (
            all({"key", "statement", *COLUMNS[1:]} <= set(row) for row in outcome["rows"])
            and outcome["error"] == ""
            and isinstance(outcome["seconds"], float | int)
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return outcome if whole else None


def _csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return file.getvalue()
