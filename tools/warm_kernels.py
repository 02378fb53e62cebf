"""Kernels that start warm: forked from a process that has done the imports.

The imports before a notebook's first cell take three seconds, as long as a small notebook. Jupyter
starts a kernel through a
*provisioner*; with ``JUPYTER_DEFAULT_PROVISIONER_NAME=warm`` in the environment it takes the one
below (an entry point of this package), for papermill and nbval alike. What is forked has imported
and nothing else: no thread, no socket, no number drawn.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner

PRELOADED = [
    "ipykernel.kernelapp",
    "ipykernel.debugger",
    "nbformat",
    "matplotlib.pyplot",
    "scipy.optimize",
    "rlvrlib",
    "rlvrlib.evidence.figures",
    "rlvrlib.evidence.claims",
]
LAUNCHER = "ipykernel_launcher"  # of Python's kernels; the arguments after it are the kernel's


class WarmProvisioner(LocalProvisioner):
    """Starts a Python kernel as a fork, on Linux; any other as usual, and all of a process that
    cannot have such children.
    """

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        if LAUNCHER not in cmd or not _may_fork():
            return await super().launch_kernel(cmd, **kwargs)
        arguments = cmd[cmd.index(LAUNCHER) + 1 :]
        folder = str(kwargs.get("cwd") or os.getcwd())
        process = _server().Process(
            target=_kernel, args=(arguments, folder, dict(kwargs.get("env") or os.environ))
        )
        process.start()
        self.process = _Forked(process)  # type: ignore[assignment]
        self.pid, self.cwd = process.pid, folder
        return self.connection_info


def _may_fork() -> bool:
    """Workers of Dask are daemons, which multiprocessing forbids children; those of joblib have a
    start method that a fork does not know.
    """
    ours = multiprocessing.get_start_method(allow_none=True) in (
        None,
        *multiprocessing.get_all_start_methods(),
    )  # asking must not settle it
    return sys.platform == "linux" and ours and not multiprocessing.current_process().daemon


class _Forked:
    """A forked process as jupyter_client handles one: in the way of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self.pid, self.kill, self.terminate = process.pid, process.kill, process.terminate

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self._process.pid or 0, number)


@cache
def _server() -> ForkServerContext:
    """One for this process. It ends with it, and its kernels with the server."""
    os.environ.setdefault(
        "PYDEVD_DISABLE_FILE_VALIDATION", "1"
    )  # or the debugger warns of modules that come with Python
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _kernel(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """The life of a kernel, in the fork."""
    # A fork may use the server too, which lives as long as one who may: without this it and its
    # kernels would outlive the process they serve.
    os.close(forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
    os.setsid()  # what it starts is signalled with it
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    import matplotlib
    from ipykernel.kernelapp import IPKernelApp

    # Matplotlib asked the environment when it was imported: before the kernel could say that
    # figures belong in the notebook.
    matplotlib.rcParams["backend"] = environment.get(
        "MPLBACKEND", "module://matplotlib_inline.backend_inline"
    )
    IPKernelApp.launch_instance([*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])
