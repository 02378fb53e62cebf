"""Processes that execute notebooks, one for each thread: their imports take as long as a small
notebook.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SCRIPT = Path(__file__).with_name("execute_notebook.py")
PATIENCE = 5  # seconds from asking a process to end to ending it


class Worker(subprocess.Popen[str]):
    """A process that executes one notebook after another."""

    def __init__(self) -> None:
        self.noise = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the process)
        command = [sys.executable, str(SCRIPT)]
        super().__init__(
            command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.noise
        )

    def execute(self, job: dict[str, object]) -> str:
        """Why it failed; empty if it did not."""
        assert self.stdin and self.stdout
        try:
            self.stdin.write(json.dumps(job, default=str) + "\n")
            self.stdin.flush()
            answer = self.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            return str(json.loads(answer))
        self.noise.seek(0)
        return self.noise.read().strip()[-2000:] or f"exit status {self.wait()}"


class Workers:
    """One for each thread that asks. On leaving, all of them end."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._mine = threading.local()
        self._all: list[Worker] = []

    def __enter__(self) -> Workers:
        return self

    def mine(self) -> Worker:
        """That of this thread; a new one where the last has died."""
        if getattr(self._mine, "worker", None) is None or self._mine.worker.poll() is not None:
            self._mine.worker = Worker()
            self._all.append(self._mine.worker)
            if self.stopping.is_set():  # too late for the others' end
                self._mine.worker.terminate()
        return self._mine.worker

    def __exit__(self, *_: object) -> None:
        """Ask them to end, and end those that do not: a kernel that is just starting swallows the
        request.
        """
        self.stopping.set()
        for worker in self._all:
            worker.terminate()
        end = time.monotonic() + PATIENCE
        for worker in self._all:
            try:
                worker.wait(max(0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
