"""Kernels forked from a process that has done the imports: the same results, the same failures,
nothing left running.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")

SCRIPT = """
import sys
from nbformat.v4 import new_code_cell, new_notebook
from rlvrlib import execution

if __name__ == "__main__":
    parameters = new_code_cell("size: int = 2  # how many", metadata={"tags": ["parameters"]})
    try:
        for source in sys.argv[1:]:
            executed = execution.execute(new_notebook(cells=[parameters, new_code_cell(source)]), {"size": 5})
            for output in executed.cells[-1].outputs:
                print(output.get("text") or sorted(output.data), end="")
    except execution.NotebookFailed as error:
        print("failed:", error.reason)
"""


def run(folder: Path, *sources: str, provisioner: str = "warm") -> str:
    """What the sources print, each executed as a notebook's cell."""
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "script.py", *sources],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=os.environ | {"JUPYTER_DEFAULT_PROVISIONER_NAME": provisioner, "MARK": "seen"},
    ).stdout


def test_a_kernel_is_forked_and_its_own(tmp_path: Path) -> None:
    first = "import sys, os; print('rlvrlib.evidence.figures' in sys.modules, size, os.getcwd(), os.environ['MARK']); mine = 1"
    second = "print('mine' in globals(), os.getpid() if 'os' in globals() else 'fresh')"
    assert run(tmp_path, first, second).splitlines() == [f"True 5 {tmp_path} seen", "False fresh"]


def test_results_are_those_of_a_cold_kernel(tmp_path: Path) -> None:
    source = (
        # a figure in the notebook
        "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()\n"
        "from rlvrlib.evidence import figures; figures.use_style(); import matplotlib; print(sorted(matplotlib.rcParams.items()))\n"
        "import numpy; print(numpy.random.default_rng(1).random(), numpy.exp(numpy.linspace(-9, 9, 99)).sum())"
    )
    sources = [source, "raise ValueError('wrong')"]
    warm = run(tmp_path, *sources)
    assert "image/" in warm and warm.endswith("failed: ValueError: wrong\n")
    assert warm == run(tmp_path, *sources, provisioner="local-provisioner")


def test_a_killed_kernel_is_a_failure_and_nothing_is_left(tmp_path: Path) -> None:
    note = "import os; print(os.getpid(), os.getppid(), flush=True)"
    assert "failed: DeadKernelError" in run(tmp_path, "import os; os._exit(3)")
    pids = run(tmp_path, note, note).split()
    end = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.1)
    assert len(pids) == 4 and not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_another_kernel_is_started_as_usual() -> None:
    """A command without Python's launcher goes to Jupyter's own provisioner."""
    code = (
        "import asyncio\n"
        "from rlvrlib.warm_kernels import WarmProvisioner\n"
        "from jupyter_client.kernelspec import KernelSpec\n"
        "one = WarmProvisioner(kernel_spec=KernelSpec())\n"
        "one.connection_info = {}\n"
        "asyncio.run(one.launch_kernel(['true'], env={}))\n"
        "print(type(one.process).__name__, one.process.wait())\n"
    )
    assert subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split() == ["Popen", "0"]


def test_a_killed_process_takes_its_kernel_along(tmp_path: Path) -> None:
    """The server must not live on because its kernels could still use it."""
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    source = "import os, pathlib, time; pathlib.Path('pids').write_text(f'{os.getpid()} {os.getppid()} '); time.sleep(100)"
    process = subprocess.Popen(
        [sys.executable, "script.py", source],
        cwd=tmp_path,
        env=os.environ | {"JUPYTER_DEFAULT_PROVISIONER_NAME": "warm"},
    )
    end = time.monotonic() + 60
    while (
        not (
            pids := (tmp_path / "pids").read_text().split() if (tmp_path / "pids").exists() else []
        )
        and time.monotonic() < end
    ):
        time.sleep(0.1)
    process.kill()
    process.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.1)
    assert len(pids) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in pids)
