"""A notebook over a grid of parameters: in parallel, resumable, one table.

Every finished point is a file named by its key (`rlvrlib.execution.key_of`): what is there is not
computed again. The table is made from these files in the order of the grid, so it does not depend
on who computed what, or when.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import nbformat
import yaml
from joblib.externals.loky.process_executor import BrokenProcessPool
from nbformat import NotebookNode

from rlvrlib.evidence import claims
from rlvrlib.running.execution import (
    LIBRARY,
    NotebookFailed,
    environment_key,
    execute,
    installed_versions,
    key_of,
    write_whole,
)
from rlvrlib.running.parameters import Parameter, cell_source, checked, read

Outcome = dict[str, Any]  # rows: the claims; error: why there are none; seconds

COLUMNS = ("claim", "relation", "predicted", "measured", "tolerance", "verdict", "reason")
FAILED = "did not run"
_ATTEMPTS = 3  # without a point finished in between
_CONNECT = 5  # seconds


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


def grid(notebook: NotebookNode, axes: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Every combination of the values, the last name fastest, each checked against the parameters
    cell.

    Raises
    ------
    ValueError : an unknown name, or a wrong type or a value out of range at some point.
    """
    parameters, versions = read(cell_source(notebook)), installed_versions()
    combinations = [
        dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
    ]
    return [
        Point(index, point, key_of(notebook, point, LIBRARY, versions))
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
    jobs : processes on this machine, -1 for one on each core; without meaning on a cluster.
    cluster : address of a Dask scheduler, ``tcp://host:8786``; its workers need this library.
    folder : where the kernels run, if it exists there.

    Raises
    ------
    ValueError : no cluster at that address, no workers, or workers with another library or other
        versions.
    OSError : a result could not be written. What was finished before is kept.
    """
    (out / "points").mkdir(parents=True, exist_ok=True)
    for leftover in (out / "points").glob(".part-*"):  # of a sweep that was killed
        leftover.unlink(missing_ok=True)
    waiting = {}
    for point in points:
        outcome = _stored(out, point)
        if outcome is None:
            waiting[point.index] = point
        else:
            yield point, outcome
    text, expected, attempts = _without_outputs(notebook), environment_key(), 0
    with ExitStack() as stack:
        options = _where(stack, jobs, cluster, expected) if waiting else {}
        while waiting:
            # One `Parallel` for each attempt: results of a broken one may still come in.
            parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, **options)
            tasks = [
                joblib.delayed(_compute)(point, text, str(folder or ""), expected)
                for point in waiting.values()
            ]
            try:
                for index, outcome in parallel(tasks):
                    point, attempts = waiting.pop(index), 0
                    if not outcome["error"]:  # a point that failed is tried again by the next sweep
                        write_whole(_file(out, point), json.dumps(outcome, indent=1))
                    yield point, outcome
            except (
                BrokenProcessPool
            ):  # a process was killed: its points and those in flight beside it run again
                attempts += 1
                if attempts == _ATTEMPTS:
                    for point in waiting.values():
                        yield (
                            point,
                            _failure("the process that computed it was killed, three times"),
                        )
                    return


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
            rows.append([*start, "", "", "", "", "", verdict, outcome["error"]])
    return _csv(["point", *names, *COLUMNS], rows)


def times(points: Sequence[Point], outcomes: Mapping[int, Outcome]) -> str:
    """Seconds that each point took when it was computed, as CSV."""
    rows = [[p.index, *p.parameters.values(), outcomes[p.index]["seconds"]] for p in points]
    return _csv(["point", *points[0].parameters, "seconds"], rows)


# ---- one point


def _compute(point: Point, text: str, folder: str, expected: str) -> tuple[int, Outcome]:
    """Runs in a worker. The index travels with the outcome, because points finish in any order."""
    start = time.monotonic()
    if environment_key() != expected:
        return point.index, _failure(
            "the worker has another rlvrlib, Python or NumPy, SciPy, Matplotlib than the sweep"
        )
    try:
        there = Path(folder) if folder and Path(folder).is_dir() else None
        executed = execute(nbformat.reads(text, as_version=4), point.parameters, there)
    except NotebookFailed as error:
        return point.index, _failure(" ".join(error.reason.split()), time.monotonic() - start)
    rows = claims.rows_of(executed)
    return point.index, {"rows": rows, "error": "", "seconds": round(time.monotonic() - start, 2)}


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
        return outcome if {"rows", "error", "seconds"} <= set(outcome) else None
    except (OSError, ValueError, TypeError):
        return None


def _csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return file.getvalue()


# ---- where points are computed


def _where(stack: ExitStack, jobs: int, cluster: str | None, expected: str) -> dict[str, Any]:
    """Let joblib compute on this machine or on a cluster until the stack closes; what
    `joblib.Parallel` needs for it.
    """
    if cluster is None:
        loky = {
            "backend": "loky",
            "inner_max_num_threads": 1,
            "initializer": _end_with,
            "initargs": (os.getpid(),),
        }
        stack.enter_context(joblib.parallel_config(n_jobs=jobs, **loky))
        return {}
    client = _client(cluster, expected)
    stack.callback(client.close)
    stack.enter_context(joblib.parallel_config(backend=_dask_backend(client)))
    # All at once: the scheduler sees to it that points of a dead worker go to another, and new
    # workers find work.
    return {"pre_dispatch": "all"}


def _end_with(sweep: int) -> None:
    """In a worker process: end when the sweep, the process of that number, was killed: it could not
    say so.

    The number comes from the sweep, because it may be dead before its workers have started.
    """

    def watch() -> None:
        while os.getppid() == sweep:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _client(address: str, expected: str) -> Any:
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise ValueError(
            "a sweep on a cluster needs distributed: pip install 'rlvrlib[cluster]'"
        ) from None
    if not re.fullmatch(r"(?:(?:tcp|tls|ucx|wss?)://)?[^\s/]+:\d+/?", address):
        raise ValueError(
            f"--cluster must be the address of a Dask scheduler such as tcp://host:8786, got {address!r}"
        )
    logging.getLogger("distributed").setLevel(
        logging.CRITICAL
    )  # what matters is said below, in one line
    try:
        client = Client(address, timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"no Dask scheduler answers at {address!r} ({reason})") from None
    try:
        there = client.run(environment_key)
    except Exception as error:
        client.close()
        raise ValueError(
            f"the cluster's workers cannot use rlvrlib: {type(error).__name__}: {error}"
        ) from None
    if not there or set(there.values()) != {expected}:
        client.close()
        other = sum(value != expected for value in there.values())
        what = (
            f"{other} workers with another rlvrlib, Python or NumPy, SciPy, Matplotlib"
            if there
            else "no workers"
        )
        raise ValueError(f"the cluster at {address!r} has {what}")
    return client


def _dask_backend(client: Any) -> Any:
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):  # type: ignore[misc]  # joblib has no types
        """joblib's backend waits for ever for a task that the scheduler gave up; here such a task
        has an outcome.
        """

        def submit(self, func: Any, callback: Any = None) -> Any:
            future = super().submit(func, callback)
            (point, *_), _ = func.items[0][1:]

            def given_up(done: Any) -> None:
                if error := done.exception():
                    callback((point.index, error))

            future.add_done_callback(given_up)
            return future

        def retrieve_result_callback(self, out: Any) -> Any:
            if isinstance(out, tuple) and isinstance(out[1], BaseException):
                return [
                    (
                        out[0],
                        _failure(f"given up by the cluster: {type(out[1]).__name__}: {out[1]}"),
                    )
                ]
            return super().retrieve_result_callback(out)

    return Backend(client=client)
