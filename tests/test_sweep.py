"""A sweep gives the same table whoever computes it, and whatever is killed on the way."""

from __future__ import annotations

import csv
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from rlvrlib.running import execution, sweep
from rlvrlib.running.parameters import cell_source, read

PARAMETERS = """seed: int = 1  # seed, any non-negative integer
delta: float = 0.3  # alignment, in (0, 1)
"""
GRID = ["delta=0.5,0.1", "seed=5,8"]


def write(path: Path, body: str = "", kernel_waits: float = 0.0) -> Path:
    """A notebook whose claims fail at seed 8 and that itself fails at seed 5."""
    cells = [
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_code_cell(
            "import time\nfrom rlvrlib import critical_step\nfrom rlvrlib.evidence import claims\n"
            f"time.sleep({kernel_waits})\n{body}"
        ),
        new_code_cell("if seed == 5:\n    raise ValueError('five')"),
        new_code_cell(
            "claims.show(claims.at_most('seed', 'the seed is at most 7', 'arithmetic', 7, seed),\n"
            "            claims.at_least('step', 'the step', 'overshooting theorem', delta,\n"
            "                            float(critical_step(delta))))",
            metadata={"tags": ["claims"]},
        ),
    ]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells), path)
    return path


def points_of(
    path: Path, grid: list[str] = GRID
) -> tuple[nbformat.NotebookNode, list[sweep.Point]]:
    notebook = execution.read_notebook(path)
    axes = sweep.parse_grid(grid, read(cell_source(notebook)))
    return notebook, sweep.grid(notebook, axes, path.parent)


def swept(path: Path, out: Path, grid: list[str] = GRID, **options: object) -> str:
    """The table of a whole sweep."""
    notebook, points = points_of(path, grid)
    outcomes = {
        point.index: outcome for point, outcome in sweep.run(notebook, points, out, **options)
    }
    return sweep.table(points, outcomes)


def command(path: Path, out: Path, *options: str, grid: list[str] = GRID) -> subprocess.Popen[str]:
    """The command, two points at a time."""
    values = [part for text in grid for part in ("-g", text)]
    start = [sys.executable, "-m", "rlvrlib.command", "sweep", str(path), *values]
    arguments = [*start, "--jobs", "2", "--out", str(out), *options]
    return subprocess.Popen(arguments, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook that takes long enough to be killed."""
    return write(tmp_path_factory.mktemp("slow") / "slow.ipynb", kernel_waits=0.5)


@pytest.fixture(scope="module")
def table(slow: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The table of an undisturbed sweep."""
    return swept(slow, tmp_path_factory.mktemp("undisturbed"), jobs=2)


@pytest.fixture
def cluster() -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers, each in a process of its own, that talk over TCP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    start = [sys.executable, "-m", "dask"]
    host = ["--host", "127.0.0.1", "--no-dashboard"]
    processes = [
        subprocess.Popen([*start, "scheduler", *host, "--port", address.split(":")[-1]], **quiet)
    ]
    # Without a nanny: a worker that is killed stays dead.
    worker = [*start, "worker", address, "--nthreads", "1", "--no-nanny", *host]
    processes += [subprocess.Popen(worker, **quiet) for _ in range(2)]
    try:
        from distributed import Client

        with Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address, processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


# ---- the table


def test_the_table_has_every_claim_of_every_point(table: str) -> None:
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["point"] for row in rows] == [
        str(p) for p, s in enumerate("58" * 2) for _ in range(1 if s == "5" else 2)
    ]
    assert list(rows[0]) == ["point", "delta", "seed", *sweep.COLUMNS]
    by_seed = {seed: [row for row in rows if row["seed"] == seed] for seed in "58"}
    assert {(row["verdict"], row["reason"]) for row in by_seed["5"]} == {
        (sweep.FAILED, "ValueError: five")
    }
    assert [row["verdict"] for row in by_seed["8"]] == ["fails", "holds"] * 2
    step = next(row for row in by_seed["8"] if row["claim"] == "step" and row["delta"] == "0.1")
    from rlvrlib import critical_step

    assert float(step["measured"]) == float(critical_step(0.1)) and float(step["predicted"]) == 0.1


def test_one_by_one_is_the_same(slow: Path, table: str, tmp_path: Path) -> None:
    assert swept(slow, tmp_path, jobs=1) == table


def test_only_what_has_no_result_is_computed(tmp_path: Path) -> None:
    body = (
        f"import pathlib; folder = pathlib.Path({str(tmp_path)!r})\n"
        "(folder / f'ran-{seed}-{time.time_ns()}').touch()"
    )
    path, out = write(tmp_path / "a.ipynb", body), tmp_path / "out"

    def ran() -> list[str]:
        names = sorted(file.name.split("-")[1] for file in tmp_path.glob("ran-*"))
        for file in tmp_path.glob("ran-*"):
            file.unlink()
        return names

    first = swept(path, out, ["seed=2,5"], jobs=1)
    assert ran() == ["2", "5"]
    left = out / "points" / ".part-999999999-x.json"
    left.write_text("{")  # by a sweep that was killed
    beside = out / "points" / f".part-{os.getpid()}-x"
    beside.write_text("{")  # by one that runs at the same time
    assert swept(path, out, ["seed=2,5"], jobs=1) == first
    assert ran() == ["5"]  # what failed is no result
    assert list((out / "points").glob(".part-*")) == [beside]
    broken = min((out / "points").glob("*.json"))
    broken.write_text(broken.read_text()[:20])
    assert swept(path, out, ["seed=2"], jobs=1).splitlines()[1] == first.splitlines()[1]
    assert ran() == ["2"]
    write(tmp_path / "a.ipynb", body + "  # changed")
    swept(path, out, ["seed=2"], jobs=1)
    assert ran() == ["2"]


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        (["delta"], "form name=v1"),
        (["delta="], "form name=v1"),
        (["dleta=0.1"], "did you mean delta"),
        (["delta=0.1,x"], "must be a number"),
        (["delta=0.1,1.5"], r"in \(0, 1\)"),
        (["seed=1,1"], "value twice"),
        (["seed=1", "seed=2"], "names 'seed' twice"),
        (["seed=1,-1"], "non-negative"),
    ],
)
def test_a_bad_grid_is_refused_before_anything_runs(
    tmp_path: Path, grid: list[str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        points_of(write(tmp_path / "a.ipynb"), grid)


def test_lists_are_values_of_a_grid() -> None:
    cell = read("sizes: list[int] = [2, 4]  # sizes, from 2 to 64")
    assert sweep.parse_grid(["sizes=[2,4],[8]"], cell) == {"sizes": [[2, 4], [8]]}


def test_a_full_disk_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = write(tmp_path / "a.ipynb"), tmp_path / "out"
    replace, calls = os.replace, []

    def full(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(*arguments)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        swept(path, out, ["seed=2,3,4"], jobs=1)
    monkeypatch.undo()
    assert len(list((out / "points").iterdir())) == 1
    assert len(swept(path, out, ["seed=2,3,4"], jobs=1).splitlines()) == 7


# ---- what is killed


@pytest.mark.thorough
@pytest.mark.parametrize("finished", [0, 1])
def test_a_killed_sweep_goes_on(slow: Path, table: str, tmp_path: Path, finished: int) -> None:
    process = command(slow, tmp_path)
    wait(
        lambda: (
            len(list(tmp_path.glob("points/[!.]*.json"))) >= finished
            and psutil.Process(process.pid).children()
        )
    )
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (tmp_path / "claims.csv").exists()
    again = command(slow, tmp_path)
    output, errors = again.communicate(timeout=300)
    assert again.returncode == 1 and "2 points did not run" in output, errors
    assert (tmp_path / "claims.csv").read_text() == table
    wait(lambda: not any(alive(kernel) for kernel in family))


def test_a_killed_kernel_fails_its_point_alone(tmp_path: Path) -> None:
    body = "import os, signal\nif seed == 3:\n    os.kill(os.getpid(), signal.SIGKILL)"
    path = write(tmp_path / "a.ipynb", body)
    rows = list(csv.DictReader(swept(path, tmp_path, ["seed=2,3,4"], jobs=2).splitlines()))
    assert {row["verdict"] for row in rows if row["seed"] != "3"} == {"holds"}
    (bad,) = [row for row in rows if row["seed"] == "3"]
    assert bad["verdict"] == sweep.FAILED and "DeadKernelError" in bad["reason"]


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb", "if seed == 8:\n    time.sleep(100)")
    process = command(path, tmp_path / "out", grid=["seed=2,8"])
    wait(lambda: list(tmp_path.glob("out/points/*.json")))
    family = psutil.Process(process.pid).children(recursive=True)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert "the same command goes on" in errors and list(tmp_path.glob("out/points/*.json"))
    assert time.monotonic() - start < 30 and family
    assert not any(alive(kernel) for kernel in family)


def test_what_a_sweep_leaves_early_ends(tmp_path: Path) -> None:
    """What has not begun never does, and the kernels do not stay behind."""
    body = (
        f"import pathlib; (pathlib.Path({str(tmp_path)!r}) / f'ran-{{seed}}').touch()\n"
        "time.sleep(0 if seed == 2 else 100)"
    )
    notebook, points = points_of(write(tmp_path / "a.ipynb", body), ["seed=2,3,4,6,7"])
    before = psutil.Process().children()
    run = sweep.run(notebook, points, tmp_path / "out", jobs=2)
    assert next(run)[0].parameters == {"seed": 2}
    run.close()
    assert psutil.Process().children() == before
    assert len(list(tmp_path.glob("ran-*"))) <= 3


@pytest.mark.thorough
def test_a_cluster_gives_the_same_table(slow: Path, table: str, tmp_path: Path, cluster) -> None:
    assert swept(slow, tmp_path, cluster=cluster[0]) == table


@pytest.mark.thorough
def test_a_worker_of_the_cluster_is_killed(slow: Path, table: str, tmp_path: Path, cluster) -> None:
    address, (_, worker, _) = cluster
    process = command(slow, tmp_path, "--cluster", address)
    wait(lambda: list(tmp_path.glob("points/*.json")))
    worker.kill()
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 1 and "2 points did not run" in output, errors
    assert (tmp_path / "claims.csv").read_text() == table


@pytest.mark.thorough
def test_a_task_that_the_cluster_gives_up_is_a_point_that_did_not_run(
    tmp_path: Path, cluster
) -> None:
    address, _ = cluster
    # A notebook that kills the worker that runs it, at one point.
    body = "import os, signal\nif seed == 3:\n    os.kill(os.getppid(), signal.SIGKILL)"
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        client.run_on_scheduler(
            lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0)
        )
    table = swept(
        write(tmp_path / "a.ipynb", body), tmp_path / "out", ["seed=2,3,4"], cluster=address
    )
    rows = list(csv.DictReader(table.splitlines()))
    assert {row["verdict"] for row in rows if row["seed"] != "3"} == {"holds"}
    (bad,) = [row for row in rows if row["seed"] == "3"]
    assert (
        bad["verdict"] == sweep.FAILED and "given up by the cluster: KilledWorker" in bad["reason"]
    )


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:9", "nonsense", "file:///etc/passwd", "tcp://127.0.0.1:70000"]
)
def test_no_cluster_is_said_within_seconds(tmp_path: Path, address: str) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match="Dask scheduler"):
        swept(write(tmp_path / "a.ipynb"), tmp_path / "out", ["seed=2"], cluster=address)
    assert time.monotonic() - start < 30


def test_a_worker_with_another_library_is_refused(tmp_path: Path) -> None:
    _, (point,) = points_of(write(tmp_path / "a.ipynb"), ["seed=2"])
    outcome = sweep._compute(point, "", "", expected="another")
    assert "another rlvrlib" in outcome["error"]


def test_a_point_is_computed_anew_when_a_data_file_changed(tmp_path: Path):
    path, data = write(tmp_path / "small.ipynb"), tmp_path / "d.txt"
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["data"] = ["d.txt"]
    nbformat.write(notebook, path)
    keys = []
    for content in ("1", "2", "1"):
        data.write_text(content)
        keys.append([point.key for point in points_of(path)[1]])
    assert keys[0] == keys[2] and not set(keys[0]) & set(keys[1])
    data.unlink()
    with pytest.raises(ValueError, match=r"missing.*d\.txt"):
        points_of(path)


@pytest.mark.parametrize(
    "content",
    [
        '["rows", "error", "seconds"]',
        '{"rows": 5, "error": "", "seconds": 1}',
        '{"rows": null, "error": "", "seconds": 1}',
        '{"rows": [{}], "error": "", "seconds": 1}',
        '{"rows": [5], "error": "", "seconds": 1}',
        '{"rows": [], "error": "", "seconds": "x"}',
        "[" * 100_000,
    ],
)
def test_a_damaged_result_is_computed_anew(tmp_path: Path, content: str):
    path, out = write(tmp_path / "small.ipynb"), tmp_path / "out"
    first = swept(path, out, ["seed=2"], jobs=1)
    (result,) = (out / "points").glob("*.json")
    result.write_text(content)
    assert swept(path, out, ["seed=2"], jobs=1) == first
