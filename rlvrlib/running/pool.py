"""Notebooks side by side: on threads of this process, or on the workers of a Dask cluster.

Each notebook computes in its kernel, a process of its own. So a thread is enough to wait for it,
and a kernel that is killed fails its own notebook and no other.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psutil

from rlvrlib.running.execution import environment_key

Task = TypeVar("Task")
Result = TypeVar("Result")

_CONNECT = 5  # seconds


def side_by_side(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    jobs: int = -1,
    cluster: str | None = None,
) -> Iterator[tuple[Task, Future[Result]]]:
    """Call the function with each task; yield a task with its future when it is done.

    Where the caller stops early (an exception, Ctrl-C), what has not begun never does, and the
    kernels of this process end.

    Parameters
    ----------
    function : runs a notebook; on a cluster, anything that cloudpickle can send.
    jobs : notebooks at a time on this machine, -1 for one on each core; without meaning on a
        cluster.
    cluster : address of a Dask scheduler, ``tcp://host:8786``; its workers need this library.

    Raises
    ------
    ValueError : no cluster at that address, no workers, or workers with another library or other
        versions.
    """
    with _executor(jobs, cluster) as executor:
        futures = {executor.submit(function, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future
        except BaseException:
            for future in futures:
                future.cancel()
            while any(future.running() for future in futures):
                _end_kernels()  # again, for one that was just starting
                time.sleep(0.1)
            raise


def _end_kernels() -> None:
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it has ended by itself
            if "ipykernel_launcher" in child.cmdline():
                child.kill()


@contextmanager
def _executor(jobs: int, cluster: str | None) -> Iterator[Executor]:
    if cluster is None:
        with ThreadPoolExecutor((os.cpu_count() or 1) if jobs == -1 else jobs) as threads:
            yield threads
    else:
        client = _client(cluster)
        try:
            yield client.get_executor(pure=False)  # a task that failed before is computed again
        finally:
            client.close()


def _client(address: str) -> Any:
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise ValueError(
            "a sweep on a cluster needs distributed: pip install 'rlvrlib[cluster]'"
        ) from None
    if not re.fullmatch(r"(?:(?:tcp|tls|ucx|wss?)://)?[^\s/]+:\d+/?", address):
        raise ValueError(
            "--cluster must be the address of a Dask scheduler such as tcp://host:8786, "
            f"got {address!r}"
        )
    # What matters is said below, in one line.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
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
    other = sum(key != environment_key() for key in there.values())
    if other or not there:
        client.close()
        what = (
            f"{other} workers with another rlvrlib, Python or NumPy, SciPy, Matplotlib"
            if there
            else "no workers"
        )
        raise ValueError(f"the cluster at {address!r} has {what}")
    return client
