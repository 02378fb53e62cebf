"""Following a log while it is written: what has changed is said once.

`Monitor` keeps what is known of a run; it is given the run so far, as often as one likes. `Watch`
gives it the rows of a file that grows, `rlvrlib.practice.callback` those of a training loop.

What it costs does not grow with the run. The statistic of falls is kept row by row, the same as in
a diagnosis of the whole. The rows are put together anew once they are 1/4000 more, and the whole
diagnosis, with its verdict and pressure, is made anew once they are 1/100 more. A file that is no
text is read anew as a whole, for at most 1/100 of the time.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlvrlib import Array
from rlvrlib.practice import formats
from rlvrlib.practice.diagnosis import Diagnosis, diagnose, watched
from rlvrlib.practice.drawdown import Drawdown, Fall
from rlvrlib.practice.notices import Notice
from rlvrlib.practice.quantities import STEP, meaning
from rlvrlib.practice.records import Notes, Record, Row, printable
from rlvrlib.practice.run_log import Rows, RunLog, number, read_log
from rlvrlib.practice.signals import read_signals

__all__ = ["Change", "Monitor", "Watch"]

_ROWS, _DIAGNOSES, _READS = 4000, 100, 100  # one over the shares above
_REVISED = 64  # rows at the end that later lines may still change
_MANY = 20  # rows that are told in one line
_SHOWN = {"reward": "reward", "length": "length", "gradient_norm": "gradient norm", "rate": "rate"}
_SLICE = 0.2  # seconds between two looks at whether to stop
_HEAD = 64  # bytes by which a file that was written anew is known


class Change(NamedTuple):
    """What has changed.

    Attributes
    ----------
    kind : ``row``, ``notice``, ``warning``, ``verdict``, or ``file``.
    step : of the run, where it belongs to one; None.
    text : a sentence without control characters.
    """

    kind: str
    step: float | None
    text: str

    def __str__(self) -> str:
        place = "" if self.step is None else f"step {self.step:g}: "
        return f"{place}{self.text}" if self.kind == "row" else f"{place}{self.kind}: {self.text}"


class Monitor:
    """What is known of a run so far.

    Parameters
    ----------
    options : those of `diagnose`.

    Attributes
    ----------
    found : the last diagnosis; None before the first row.
    warning : the step of the first warning; None where there was none.
    """

    def __init__(self, **options: Any):
        self.options = options
        self.restart()

    def restart(self) -> None:
        """Another run begins."""
        self.found: Diagnosis | None = None
        self.warning: float | None = None
        self._falls, self._given = Drawdown(), np.empty(0)  # and the rows that it was given
        self._held = 0  # rows at the end that wait, since later lines have changed such rows
        self._noticed: set[Notice] = set()  # those that were told
        self._shown = self._size = 0  # rows that were told, and those of the last diagnosis

    @property
    def pressure(self) -> float | None:
        """Threshold pressure in the last window over that in the reference; None if unknown."""
        pressure = None if self.found is None else self.found.pressure
        return None if pressure is None else float(np.exp(pressure.total[-1]))

    def look(self, log: RunLog, *, last: bool = False) -> list[Change]:
        """What has changed since the last look.

        Parameters
        ----------
        log : the run so far. Where its first row is another one, another run has begun.
        last : whether no row comes after these.
        """
        signals = read_signals(log, self.options.get("success"), self.options.get("reward_range"))
        values, steps = watched(signals), log.step[signals.rows]
        seen, same = len(self._given), _same(self._given, values)
        if same == len(values) < seen and not last:
            return []  # it is being written anew
        changes = []
        if same == 0 < seen - 1:
            changes.append(Change("file", None, "the first row is another one: this is a new run"))
            self.restart()
        elif same == len(values) < seen:
            self.restart()
        elif same < seen:
            self._held = max(self._held, min(seen - same, _REVISED))
        stop = len(values) if last else max(len(values) - self._held, same)
        if same < seen:
            self._falls, same = Drawdown(), 0
        self._given = values[:stop]
        if same < stop:
            self._falls.extend(self._given[same:])
        changes += self._of_rows(log, signals.rows[self._shown : stop])
        self._shown = max(self._shown, stop)
        fall = self._falls.warning
        if warned := fall is not None and steps[fall.row] != self.warning:
            self.warning = float(steps[fall.row])
            changes.append(Change("warning", self.warning, _words(fall, steps)))
        return changes + self._of_verdict(log, last or warned)

    def _of_rows(self, log: RunLog, rows: np.ndarray) -> list[Change]:
        """A line for each new row; one for all where there are many."""
        if len(rows) > _MANY:
            first, final = log.step[rows[[0, -1]]]
            return [Change("row", None, f"steps {first:g} to {final:g}: {len(rows)} rows read")]
        return [
            Change(
                "row",
                float(log.step[row]),
                ", ".join(
                    f"{words} {value:.4g}"
                    for name, words in _SHOWN.items()
                    if np.isfinite(value := log[name][row])
                ),
            )
            for row in rows
        ]

    def _of_verdict(self, log: RunLog, now: bool) -> list[Change]:
        """Makes the diagnosis anew, if there are enough new rows; notices, a changed verdict."""
        if not now and len(log.step) - self._size < max(1, self._size // _DIAGNOSES):
            return []
        before, self._size = self.found, len(log.step)
        self.found = found = diagnose(log, **self.options)
        steps = log.step[found.signals.rows].tolist()
        new = [notice for notice in found.noticed if notice not in self._noticed]
        self._noticed |= set(new)
        changes = [
            Change("notice", steps[notice.row], found.notice_words(notice)) for notice in new
        ]
        if not before or before.verdict != found.verdict:
            changes.append(Change("verdict", None, found.headline))
        return changes


def due(rows: int, looked: int) -> bool:
    """Whether it is time to look at ``rows`` rows, after a look at ``looked`` of them."""
    return rows - looked >= max(1, rows // _ROWS)


class Watch:
    """A file that is followed until `stop`.

    Lines of text are read as they come; any other format is read anew as a whole, with pauses a
    hundred times as long. A file that was cut, or replaced by another of its name, is read from its
    start: where the steps go on, as the same run; else as another one.

    Parameters
    ----------
    path : the file; it need not be there yet.
    tell : gets every change.
    columns, run : see `read_log`.
    interval : seconds between two looks.
    between : called between two looks.
    options : those of `diagnose`.
    """

    def __init__(
        self,
        path: str | Path,
        tell: Callable[[Change], None],
        *,
        columns: Mapping[str, str] | None = None,
        run: str | None = None,
        interval: float = 1.0,
        between: Callable[[], None] | None = None,
        **options: Any,
    ):
        self.path, self.tell, self.interval, self.between = Path(path), tell, interval, between
        self.columns, self.only, self.monitor = columns or {}, run, Monitor(**options)
        self._notes = Notes()
        self._rows = self._no_rows()
        self._waiting: list[Record] | None = None  # those of a file that is read again
        self._looked, self._last_step = 0, -np.inf
        self._told: set[str] = set()
        self._complaint, self._stopped = "", False

    def stop(self) -> None:
        """Ends `run` once it has read what stands in the file. A signal handler may call it."""
        self._stopped = True

    def run(self) -> Diagnosis:
        """Follows the file until `stop`, and diagnoses what was read.

        Raises
        ------
        ValueError : what was read cannot be diagnosed; the path is no file that can be read.
        """
        while not self._stopped and (form := self._format()):
            if form.records is formats.text:
                return self._follow()
            self._read_anew()
        if self._complaint or self.monitor.found is None:
            raise ValueError(self._complaint or f"{self.path} has no row of a training log yet")
        return self.monitor.found

    # ---- text

    def _follow(self) -> Diagnosis:
        def opened(path: Path, mode: str) -> io.BufferedReader:
            return io.BufferedReader(_Following(path, self._idle, self._read_again))

        for record in formats.text(self.path, self._notes, opened):
            self._add(record)
        self._decide()
        self._say(self.monitor.look(self._rows.log(self.path.name), last=True))
        assert self.monitor.found is not None
        return self.monitor.found

    def _read_again(self, why: str) -> None:
        """The file is read from its start: whether as the same run, its first step will say."""
        self._decide()
        self._look()
        if why not in self._told:
            self._told.add(why)
            self.tell(Change("file", None, f"{why}: it is read from its start"))
        self._waiting = []

    def _add(self, record: Record) -> None:
        if self._waiting is None:
            self._rows.add(record)
            return
        self._waiting.append(record)
        step = _step(record.row, self.columns)
        if np.isfinite(step):
            self._decide(step)

    def _decide(self, step: float = np.nan) -> None:
        """Rows of a file that is read from its start go on with those before, or stand alone."""
        waiting = self._waiting
        if not waiting or not (np.isfinite(step) or any(map(_rewarded, waiting))):
            return
        self._waiting = None
        if not step > self._last_step:
            self._rows, self._looked = self._no_rows(), 0
        for record in waiting:
            self._rows.add(record)

    def _no_rows(self) -> Rows:
        rows = Rows(self.columns, self.only)
        rows.notes = self._notes
        return rows

    def _look(self) -> None:
        """Puts the rows together, if there are enough new ones."""
        if not due(len(self._rows), self._looked):
            return
        self._looked = len(self._rows)
        try:
            log = self._rows.log(self.path.name)
        except ValueError as error:
            self._complain(str(error))
        else:
            self._last_step = log.step[-1]
            self._say(self.monitor.look(log))

    # ---- other formats

    def _read_anew(self) -> None:
        """Reads the file whenever it has changed, until it is seen to be a text."""
        seen: object = None
        free = -np.inf
        while True:
            stamp = [
                (found.st_mtime_ns, found.st_size, found.st_ino)
                for name in (self.path, Path(f"{self.path}-wal"))  # SQLite writes there first
                if name.exists() and (found := name.stat())
            ]
            if stamp != seen and (self._stopped or time.monotonic() >= free):
                seen, started = stamp, time.process_time()
                try:
                    log = read_log(self.path, self.columns, self.only)
                    self._say(self.monitor.look(log, last=self._stopped))
                    self._complaint = ""
                except ValueError as error:
                    self._complain(str(error))
                free = time.monotonic() + _READS * (time.process_time() - started)
            if self._stopped:
                return
            self._idle()
            form = self._format() if not self._stopped else None
            if form and form.records is formats.text:
                return

    # ---- both

    def _format(self) -> formats.Format | None:
        """The format of the file, once something stands in it; None if stopped before."""
        while True:
            try:
                form = formats.format_of(self.path)
            except FileNotFoundError:
                form = None
            except OSError as error:
                raise ValueError(
                    f"path must name a readable file, got {str(self.path)!r}: {error.strerror}"
                ) from error
            if form:
                return form
            self._complain(f"{self.path} has no row of a training log yet")
            if not self._idle():
                return None

    def _idle(self) -> bool:
        """A pause; whether to go on after it."""
        self._decide()
        self._look()
        if self.between is not None:
            self.between()
        end = time.monotonic() + self.interval
        while not self._stopped and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))
        return not self._stopped

    def _say(self, changes: list[Change]) -> None:
        self._complaint = ""
        for change in changes:
            self.tell(change)

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            self.tell(Change("file", None, printable(text, 4000)))


class _Following(io.RawIOBase):
    """The bytes of a file that grows. Where it ends, ``idle`` waits, or says that this is the end.

    A file that has become shorter, that begins otherwise or that is another one of the same name is
    read from its start, after a line end that closes what was there.
    """

    def __init__(self, path: Path, idle: Callable[[], bool], again: Callable[[str], None]):
        self._path, self._idle, self._again = path, idle, again
        self._file = path.open("rb", buffering=0)
        self._head, self._free = b"", -np.inf
        self._started: float | None = time.process_time()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        while True:
            why = self._is_new()
            # What stood in a file before another one took its place is read to its end.
            if why in ("", _ANOTHER) and (count := self._file.readinto(buffer)):
                return count
            if self._started is not None:  # all that was there has been read
                cost = time.process_time() - self._started
                self._started, self._free = None, time.monotonic() + _READS * cost
            if why and time.monotonic() >= self._free and self._reopened(why):
                buffer[:1] = b"\n"
                return 1
            if not self._idle():
                return self._file.readinto(buffer) or 0

    def _reopened(self, why: str) -> bool:
        """Whether the file could be opened again."""
        try:
            file = self._path.open("rb", buffering=0)
        except OSError:
            return False
        self._file.close()
        self._file, self._head, self._started = file, b"", time.process_time()
        self._again(why)
        return True

    def _is_new(self) -> str:
        """In which way the file is no longer what was read; empty if it is."""
        here = os.fstat(self._file.fileno())
        try:
            there = os.stat(self._path)
        except OSError:  # between two files
            return ""
        if not os.path.samestat(here, there):
            return _ANOTHER
        place = self._file.tell()
        if here.st_size < place:
            return "the file was cut"
        self._file.seek(0)
        head = self._file.read(_HEAD) or b""
        self._file.seek(place)
        if not head.startswith(self._head):
            return "the file was written anew"
        self._head = head
        return ""


_ANOTHER = "the file was replaced by another one"


def _step(row: Row, columns: Mapping[str, str]) -> float:
    """The step that a row names; NaN where it names none."""
    names = (key for key in row if key == columns.get(STEP) or meaning(str(key)).quantity == STEP)
    return next((number(row[key], True) for key in names), np.nan)


def _rewarded(record: Record) -> bool:
    return any(meaning(str(key)).quantity == "reward" for key in record.row)


def _same(before: Array, rows: Array) -> int:
    """How many rows at the start are the same."""
    alike = before[: len(rows)] == rows[: len(before)]
    return int(np.argmin(np.append(alike, False)))


def _words(fall: Fall, steps: Array) -> str:
    first, start, now = steps[fall.start - fall.earlier], steps[fall.start], steps[fall.row]
    return (
        f"the mean of the reward fell from {fall.before:.3g} (steps {first:g} to "
        f"{steps[fall.start - 1]:g}) to {fall.after:.3g} (steps {start:g} to {now:g})"
    )
