"""Reading the logs of trainers. Nothing of a log is evaluated, and nothing is skipped silently.

A log is turned into one row per step (`RunLog`). What could not be used is listed in its ``notes``.
"""

from __future__ import annotations

import gc
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from rlvrlib import Array
from rlvrlib.practice.formats import read_records
from rlvrlib.practice.quantities import (
    CLOCK,
    COMPONENT,
    QUANTITIES,
    STEP,
    Meaning,
    aside,
    meaning,
)
from rlvrlib.practice.records import Notes, Record, Row, printable, some
from rlvrlib.practice.text_formats import PAIRS

_ABSURD = 1e100  # no logged quantity is larger; sums of squares of what is left cannot overflow
_BOXED = re.compile(r"[\w.]*\(\[?([-+.\w]+)[^()]*\)")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")
_NUMBER, _BESIDE = 1, 2  # a column that is not known holds numbers, stands beside known ones
_MOST_NAMES = 10_000  # columns whose names are kept to be listed


@dataclass(frozen=True)
class RunLog:
    """One training run, a row per logged step.

    Attributes
    ----------
    source, form : the file, and the format that was recognized.
    step : shape ``(n,)``, increasing.
    values : for each quantity of ``QUANTITIES`` that the log has, shape ``(n,)``; NaN where a row
        does not have it.
    names : the key each quantity was read from.
    components : the parts of the reward by name, shape ``(n,)`` each.
    notes : what was skipped, replaced or assumed, in words.
    broken : for each quantity that was infinite or no number anywhere, the steps at which it was.
    """

    source: str
    form: str
    step: Array
    values: Mapping[str, Array]
    names: Mapping[str, str]
    components: Mapping[str, Array]
    notes: tuple[str, ...]
    broken: Mapping[str, Array] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Array:
        """The quantity, or all NaN where the log does not have it."""
        if name not in QUANTITIES:
            raise ValueError(f"name must be one of {', '.join(QUANTITIES)}, got {name!r}")
        return self.values.get(name, np.full(len(self.step), np.nan))

    def has(self, name: str) -> bool:
        """Whether any row has the quantity."""
        return bool(np.isfinite(self[name]).any())


def read_log(
    path: str | Path, columns: Mapping[str, str] | None = None, run: str | None = None
) -> RunLog:
    """Read a training log of any format that is known (`rlvrlib.practice.formats.FORMATS`).

    Parameters
    ----------
    path : the file.
    columns : names of this log's columns for the quantities of ``QUANTITIES`` and for ``step``,
        where they are not found by themselves.
    run : for a file of several runs that have names, the one to read; the one with the most
        rewards where omitted, and a note says so.

    Raises
    ------
    ValueError : no such file, nothing in it that is a row of a training log, no reward, an unknown
        quantity or column.
    """
    path, rows = Path(path), Rows(columns, run)
    with _without_collector():
        for record in read_records(path, rows.notes):
            rows.add(record)
        return rows.log(path.name)


def from_rows(
    rows: Iterable[Row],
    *,
    source: str = "rows",
    columns: Mapping[str, str] | None = None,
    run: str | None = None,
    notes: Iterable[str] = (),
) -> RunLog:
    """A `RunLog` from rows (dictionaries from key to number) in the order in which they were
    logged. See `read_log`.
    """
    kept = Rows(columns, run, notes)
    for row in rows:
        if isinstance(row, dict):
            kept.add(Record("rows", row))
    return kept.log(source)


@contextmanager
def _without_collector() -> Iterator[None]:
    """A long log is a million small objects without a cycle: looking for cycles in them takes a
    third of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Rows:
    """The rows of a log as they come; `log` gives the run so far, as often as it is asked for.

    Parameters
    ----------
    columns, run : see `read_log`.
    notes : what is already known of the log, in words.
    """

    def __init__(
        self,
        columns: Mapping[str, str] | None = None,
        run: str | None = None,
        notes: Iterable[str] = (),
    ):
        self.columns = {quantity: _clean(key) for quantity, key in (columns or {}).items()}
        if unknown := set(self.columns) - set(QUANTITIES) - {STEP}:
            raise ValueError(
                f"columns must name quantities among step, {', '.join(QUANTITIES)}, "
                f"got {', '.join(sorted(unknown))}"
            )
        self.run, self.notes = run, Notes(notes)
        self._wanted = {
            key: Meaning(STEP if quantity == STEP else quantity, -1)
            for quantity, key in self.columns.items()
        }
        self._tables: dict[tuple[str, str], _Columns] = {}

    def __len__(self) -> int:
        return sum(table.rows for table in self._tables.values())

    def add(self, record: Record) -> None:
        """One more row."""
        key = record.form, record.run or _run_name(record.row)
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = _Columns(self._wanted)
        table.add(record.row, record.stream)

    def log(self, source: str) -> RunLog:
        """The run so far. The errors are those of `read_log`."""
        notes = self.notes.copy()
        (form, _), table = _chosen(self._tables, self.run, notes)
        for quantity, key in self.columns.items():
            if key not in table.values and key not in table.names:
                raise ValueError(
                    f"columns must name columns of the log, got {key!r} for {quantity}; "
                    f"it has {some([*table.means, *table.names]) or 'no columns'}"
                )
        return _assembled(table, printable(source), form, notes)


def _run_name(row: Row) -> str:
    """The run that a row names."""
    name = row.get("run_id", row.get("run", ""))
    return str(name) if isinstance(name, str | int) else ""


def _chosen(
    tables: dict[tuple[str, str], _Columns], run: str | None, notes: Notes
) -> tuple[tuple[str, str], _Columns]:
    """One run in one format: that with rewards and the most numbers of the most quantities, since
    a table of responses has rewards too. A line of keys and values may be a sentence that stands
    between the rows: rows of other formats count five times.
    """
    if not tables:
        return ("text", ""), _Columns({})
    runs = dict.fromkeys(name for _, name in tables if name)
    if run is not None and run not in runs:
        raise ValueError(
            f"run must be a run of the export, got {run!r}; "
            f"it has {some(runs) or 'no runs with names'}"
        )

    def weight(key: tuple[str, str]) -> tuple[bool, bool, int]:
        table, times = tables[key], 1 if key[0] == PAIRS.name else 5
        counts = [count for name in QUANTITIES if (count := table.count(name))]
        return run in (None, key[1]), table.count("reward") > 0, times * sum(counts) * len(counts)

    best = max(tables, key=weight)
    others = [name for name in runs if name != best[1]]
    notes.add(
        len(others), f"other runs of this export left out ({some(others)}; {best[1]!r} was read)"
    )
    for (form, name), table in tables.items():
        if form != best[0] and name == best[1]:
            notes.add(table.rows, f"rows in another form left out ({form})")
    return best, tables[best]


# ---- columns


@dataclass
class _Columns:
    """Rows, column by column: of what may be a quantity the numbers, of the rest only the names."""

    wanted: Mapping[str, Meaning]
    rows: int = 0
    values: dict[str, array[float]] = field(default_factory=dict)
    places: dict[str, array[int]] = field(default_factory=dict)
    means: dict[str, Meaning] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)  # of other columns, and what they are
    beside: list[str] = field(default_factory=list)  # of them, those in the row that is read
    streams: array[int] = field(default_factory=lambda: array("q"))
    stream_names: dict[str, int] = field(default_factory=dict)
    too_many: bool = False
    summaries: int = 0

    def add(self, row: Row, stream: str) -> None:
        if "train_runtime" in row:  # what a trainer says at the end is no step
            self.summaries += 1
            return
        self.streams.append(self.stream_names.setdefault(stream, len(self.stream_names)))
        if self._add(row, "", 0):
            for key in self.beside:
                self.names[key] |= _BESIDE
        self.beside.clear()
        self.rows += 1

    def _add(self, row: Row, lead: str, depth: int) -> bool:
        """Keeps the numbers of a row; whether it has any of a known quantity."""
        values, row_number, of_use = self.values, self.rows, False
        for raw, value in row.items():
            key = f"{lead}{raw}" if lead else raw
            numbers = values.get(key)
            if numbers is not None:
                pass
            elif type(value) is dict:
                if depth < 6:
                    inner = "" if key in ("data", "train") else f"{key}/"
                    of_use |= self._add(value, inner, depth + 1)
                continue
            elif (known := self.names.get(key)) == _NUMBER | _BESIDE:
                continue
            elif known is not None or (numbers := self._new(key)) is None:
                if known is not None or key in self.names:
                    self.beside.append(key)
                    self.names[key] |= _NUMBER * (number(value) == number(value))
                continue
            if type(value) is float:
                numbers.append(value)
            elif value is None or value == "":
                continue
            else:
                try:
                    numbers.append(float(value))
                except (TypeError, ValueError, OverflowError):
                    numbers.append(number(value, self.means[_clean(key)].quantity == STEP))
            self.places[key].append(row_number)
            of_use = True
        return of_use

    def _new(self, key: Any) -> array[float] | None:
        """A place for a column that is seen for the first time, if it may be of use."""
        name = _clean(key)
        found = self.wanted.get(name) or meaning(name)
        if found.quantity:
            # Two spellings of one column are one.
            self.means[name] = found
            self.values[key] = self.values.setdefault(name, array("d"))
            self.places[key] = self.places.setdefault(name, array("q"))
            return self.values[key]
        if len(self.names) < _MOST_NAMES:
            self.names[key] = 0
        else:
            self.too_many = True
        return None

    def count(self, quantity: str) -> int:
        """Rows that have a quantity."""
        return max((len(self.values[key]) for key in self.named(quantity)), default=0)

    def column(self, key: str) -> Array:
        """The column in every row; NaN where a row does not have it."""
        column = np.full(self.rows, np.nan)
        column[np.frombuffer(self.places[key], dtype=np.int64)] = self.values[key]
        return column

    def named(self, quantity: str) -> list[str]:
        """The columns of a quantity, the preferred one first."""
        keys = [key for key, found in self.means.items() if found.quantity == quantity]
        return sorted(keys, key=lambda key: self.means[key].place)


def _clean(key: object) -> str:
    """A name as it is shown: Jupyter writes spaces around the slash, W&B ``train/`` in front."""
    name = re.sub(r"\s*/\s*", "/", printable(key).strip())
    return name.removeprefix("train/") or name


def number(value: Any, step: bool = False) -> float:
    """The number, or NaN; text such as ``"0.5"``, ``"12%"``, ``"np.float64(0.5)"`` and, of a step,
    ``"7/438"`` is read as one, and a list of numbers as its mean.
    """
    try:
        if isinstance(value, str):
            value = value.strip()
            if value.endswith(")") and (boxed := _BOXED.fullmatch(value)):
                value = boxed[1]
            if value.endswith("%"):
                return float(value[:-1]) / 100
            if _THOUSANDS.fullmatch(value):
                value = value.replace(",", "")
            if step:
                value = value.partition("/")[0]
        elif isinstance(value, list | tuple) and 0 < len(value) < 10_000:
            return float(np.mean([number(entry) for entry in value]))
        return float(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return math.nan


# ---- steps and runs


def _assembled(table: _Columns, source: str, form: str, notes: Notes) -> RunLog:
    """The rows of one run with increasing steps, and the columns by their quantities."""
    keys = {quantity: table.named(quantity) for quantity in QUANTITIES}
    parts = {table.means[key].part: key for key in table.named(COMPONENT)}
    checks = [key for part, key in parts.items() if part == key]
    if not keys["reward"] and len(checks) == 1:
        keys["reward"] = checks
    if not keys["reward"]:
        raise ValueError(_no_reward(table, source, notes))
    used = list(dict.fromkeys(chain(*keys.values(), parts.values())))
    useful = np.zeros(table.rows, dtype=bool)
    for key in used:
        useful[np.frombuffer(table.places[key], dtype=np.int64)] = True
    notes.add(
        table.rows + table.summaries - int(useful.sum()),
        "rows without any known quantity (a summary, for example) left out",
    )
    rows = np.flatnonzero(useful)
    columns = {key: table.column(key)[rows] for key in used}
    rewarded = np.any([np.isfinite(columns[key]) for key in keys["reward"]], axis=0)
    step, kept = _steps(table, rows, rewarded, columns, notes)
    steps, place = np.unique(step[kept], return_inverse=True)
    step_of_row = np.full(table.rows, np.nan)
    step_of_row[rows[kept]] = step[kept]
    odd = {key: _odd_steps(table, key, step_of_row, notes) for key in columns}
    series = {key: _averaged(column[kept], place, len(steps)) for key, column in columns.items()}
    notes.add(
        int(rewarded[kept].sum()) - len(np.unique(place[rewarded[kept]])),
        "rows of the same step as another one, averaged with it",
    )
    values, names = {}, {}
    for quantity, candidates in keys.items():
        for key in candidates:
            column = 1 - series[key] if table.means[key].complement else series[key]
            if quantity not in values:
                values[quantity], names[quantity] = column, key
                continue
            there, more = np.isfinite(values[quantity]), np.isfinite(column)
            if more.sum() > 2 and there.sum() > 2 and not np.any(there & more):
                values[quantity] = np.where(there, values[quantity], column)
                notes.add(
                    1,
                    f"the {quantity.replace('_', ' ')} is called {names[quantity]!r} in some rows "
                    f"and {key!r} in others: both were read",
                    counted=False,
                )
    _say_what_is_missing(values, names, table, notes)
    components = {part: series[key] for part, key in parts.items() if key != names["reward"]}
    broken = {quantity: odd[key] for quantity, key in names.items() if len(odd[key])}
    return RunLog(source, form, steps, values, names, components, tuple(notes.texts()), broken)


def _odd_steps(table: _Columns, key: str, step_of_row: Array, notes: Notes) -> Array:
    """The steps at which a column is infinite, or no number; notes say how often."""
    numbers = np.frombuffer(table.values[key])
    steps = step_of_row[np.frombuffer(table.places[key], dtype=np.int64)]
    infinite, nan, read = np.abs(numbers) > _ABSURD, np.isnan(numbers), np.isfinite(steps)
    for odd, what in ((infinite, "infinite (or above 1e100)"), (nan, "not a number")):
        where = steps[odd & read]
        if len(where):
            notes.add(
                len(where),
                f"values of {key[:80]} that are {what} left out, the first at step {where[0]:g}",
            )
    return np.unique(steps[(infinite | nan) & read])


def _averaged(column: Array, place: np.ndarray, count: int) -> Array:
    """Means over the rows of each of ``count`` steps; what is no number is left out."""
    finite = np.isfinite(column) & (np.abs(column) <= _ABSURD)
    rows = np.bincount(place[finite], minlength=count)
    total = np.bincount(place[finite], weights=column[finite], minlength=count)
    return np.divide(total, rows, out=np.full(count, np.nan), where=rows > 0)


def _steps(
    table: _Columns, rows: np.ndarray, rewarded: np.ndarray, columns: dict[str, Array], notes: Notes
) -> tuple[Array, np.ndarray]:
    """The step of each row, and which rows belong to the run that is read."""
    streams = np.frombuffer(table.streams, dtype=np.int64)[rows]
    found = {key: table.column(key)[rows] for key in (*table.named(STEP), *table.named(CLOCK))}
    keys = table.named(STEP)
    most = {key: int(np.isfinite(found[key][rewarded]).sum()) for key in keys}
    if keys and table.means[keys[0]].place < 0 and not most[keys[0]]:
        raise ValueError(
            f"steps must be numbers, got none in the column {keys[0]!r}: name another column"
        )
    enough = max(max(most.values(), default=0) * 0.9, 0.5 * rewarded.sum(), 1)
    # W&B counts its calls in `_step`: a trainer's own step is better.
    good = sorted((key for key in keys if most[key] >= enough), key=lambda key: key == "_step")
    good = [key for key in keys if table.means[key].place < 0] or good  # given by name
    if not good:
        return _numbered(table, streams, found, columns, rewarded, notes)
    step = found[good[0]]
    if good[0] != "_step":
        for number, key in enumerate(keys, len(table.stream_names)):
            more = ~np.isfinite(step) & np.isfinite(found[key]) & (key != "_step")
            step, streams = np.where(more, found[key], step), np.where(more, number, streams)
    kept = np.isfinite(step)
    notes.add(int((~kept).sum()), "rows without a step left out")
    epochs = [found[key] for key in table.named(CLOCK) if key.lower().endswith("epoch")]
    epoch = epochs[0] if epochs else np.full(len(rows), np.nan)
    step = _in_step_with_rollouts(step, streams, rewarded & kept, kept, notes)
    return _one_run(step, streams, kept, rewarded, epoch, notes)


def _in_step_with_rollouts(
    step: Array, streams: np.ndarray, rewarded: np.ndarray, kept: np.ndarray, notes: Notes
) -> Array:
    """Where a whole number of steps is made on each rollout, the number of the rollout."""
    rollouts, others = np.unique(step[rewarded]), kept & ~np.isin(streams, streams[rewarded])
    if len(rollouts) < 2 or not others.any():
        return step
    ratio = (step[others].max() + 1) / (rollouts[-1] + 1)
    times = round(ratio)
    if times < 2 or abs(ratio - times) > 0.1 * times or np.ptp(rollouts) != len(rollouts) - 1:
        return step
    notes.add(1, f"{times} steps are made on each rollout: averaged", counted=False)
    return np.where(others, step // times, step)


def _one_run(
    step: Array,
    streams: np.ndarray,
    kept: np.ndarray,
    rewarded: np.ndarray,
    epoch: Array,
    notes: Notes,
) -> tuple[Array, np.ndarray]:
    """The longest of the runs that stand in one file, each with increasing steps."""
    step, run = step.copy(), np.zeros(len(step), dtype=int)
    for stream in np.unique(streams[kept]):
        places = np.flatnonzero(kept & (streams == stream))
        moves = np.diff(step[places])
        if np.all(moves >= 0):
            continue
        if len(places) > 2 and np.sum(moves < 0) > 0.9 * len(moves):
            notes.add(1, "the rows stood in decreasing order of their steps: sorted", counted=False)
            continue
        if np.all(np.diff(epoch[places])[moves < 0] > 0):
            step[places[1:]] += np.cumsum(np.where(moves < 0, 1 - moves, 0))
            notes.add(1, "steps that start anew in each epoch are numbered on", counted=False)
            continue
        run[places], replaced = _told_apart(step[places], rewarded[places])
        notes.add(int(replaced.sum()), "rows replaced by those of a resumed run")
        kept[places[replaced]] = False
    return step, _longest(run, kept, rewarded, "the steps start anew", notes)


def _longest(
    run: np.ndarray, kept: np.ndarray, rewarded: np.ndarray, what: str, notes: Notes
) -> np.ndarray:
    """Which rows belong to the run with the most rewards."""
    sizes = np.bincount(run[kept & rewarded])
    chosen = kept & (run == sizes.argmax()) if len(sizes) else kept
    if np.sum(sizes > 0) > 1:
        notes.add(
            1,
            f"{what} {len(sizes) - 1} times: several runs in one file, of "
            f"{', '.join(map(str, sizes[:20]))} rows; the longest was read",
            counted=False,
        )
    else:
        notes.add(int(np.sum(kept & ~chosen)), "rows of another run without a reward left out")
    return chosen


def _told_apart(
    step: Array, rewarded: np.ndarray, exact: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The number of the run of each row, and the rows that a resumed run has done again.

    A step at or below a run's first one starts another run. One that goes back elsewhere resumes
    the run; where steps are ``exact``, only if it is there already: else it was only logged late.
    """
    run, replaced = np.zeros(len(step), dtype=int), np.zeros(len(step), dtype=bool)
    number, first, last = 0, step[0], -math.inf
    rows: dict[float, list[int]] = {}  # of the run, by their steps, in the order of the log
    done: set[float] = set()  # steps with a reward
    for row, now in enumerate(step.tolist()):
        if now < last and now <= first:
            number, first, last, rows, done = number + 1, now, -math.inf, {}, set()
        elif now < last and rewarded[row] and (now in done or not exact):
            while rows and (latest := next(reversed(rows))) >= now:
                replaced[rows.pop(latest)] = True
                done.discard(latest)
            last = -math.inf
        rows.setdefault(now, []).append(row)
        if rewarded[row]:
            done.add(now)
        last, run[row] = max(last, now), number
    return run, replaced


def _numbered(
    table: _Columns,
    streams: np.ndarray,
    found: dict[str, Array],
    columns: dict[str, Array],
    rewarded: np.ndarray,
    notes: Notes,
) -> tuple[Array, np.ndarray]:
    """Rows without a step, numbered in their order; runs are told apart where the number of tokens,
    or the epoch, goes back.
    """
    notes.add(1, "no step in this log: rows are numbered in their order", counted=False)
    clocks = [key for key in table.named(CLOCK) if np.isfinite(found[key]).mean() > 0.5]
    clock = _filled(found[clocks[0]]) if clocks else np.zeros(len(rewarded))
    there = np.array([~np.isnan(column) for column in columns.values()]).T
    step, kept = np.zeros(len(rewarded)), np.ones(len(rewarded), dtype=bool)
    run = np.zeros(len(rewarded), dtype=int)
    by_stream = [np.flatnonzero(streams == stream) for stream in np.unique(streams)]
    for places in by_stream:
        step[places] = _joined(there[places], clock[places], rewarded[places])
        run[places], replaced = _told_apart(clock[places], np.ones(len(places)), exact=False)
        notes.add(int(replaced.sum()), "rows replaced by those of a resumed run")
        kept[places[replaced]] = False
    chosen = _longest(run, kept, rewarded, f"{clocks[0] if clocks else ''} goes back", notes)
    for places in by_stream:
        mine = places[chosen[places]]
        step[mine] = np.unique(step[mine], return_inverse=True)[1] + 1.0
    return step, chosen


def _joined(there: np.ndarray, clock: Array, rewarded: np.ndarray) -> Array:
    """The number of each row, where partial rows that follow each other are one: rows that have no
    quantity in common, at the same time.
    """
    if rewarded.all():
        return np.arange(len(rewarded), dtype=float)
    new = np.ones(len(rewarded), dtype=bool)
    so_far = there[0]
    for row in range(1, len(rewarded)):
        new[row] = clock[row] != clock[row - 1] or bool(np.any(there[row] & so_far))
        so_far = there[row] if new[row] else there[row] | so_far
    return np.cumsum(new).astype(float)


def _filled(clock: Array) -> Array:
    """With the last number before it where a row has none."""
    known = np.where(np.isfinite(clock), np.arange(len(clock)), 0)
    return np.nan_to_num(clock[np.maximum.accumulate(known)], nan=-np.inf)


# ---- what is said


def _no_reward(table: _Columns, source: str, notes: Notes) -> str:
    """The message where no column is a reward: what there is, and what to type."""
    names = [*table.means, *(_clean(key) for key in table.names)]
    numbers = [_clean(key) for key, kind in table.names.items() if kind & _NUMBER]
    numbers = [key for key in numbers if not aside(key)]
    if not names:
        said = "".join(f"; {text}" for text in notes.texts())
        return f"{source} must hold rows of a training log, and none was found{said}"
    return (
        f"{source} has no column that is known as a reward; it has {some(names, 40)}. "
        f"Name one: rlvr diagnose {source} --column reward={(numbers or ['NAME'])[0]!r}"
    )


def _say_what_is_missing(
    values: dict[str, Array], names: dict[str, str], table: _Columns, notes: Notes
) -> None:
    rate = values.get("rate")
    if rate is not None and np.isfinite(rate).any() and not np.any(rate > 0):
        notes.add(
            1,
            "the learning rate is logged as 0 throughout (verl once printed three decimals): "
            "it counts as unknown",
            counted=False,
        )
        del values["rate"]
    if names["reward"].lower() == "value":
        notes.add(
            1,
            f"the column {names['reward']!r} was taken for the reward; if it is something else, "
            f"say so with --column, as in --column length={names['reward']}",
            counted=False,
        )
    if "length" not in values or not np.isfinite(values["length"]).any():
        notes.add(
            1,
            "no response length in this log: name its column, if it has one, with "
            "--column length=NAME",
            counted=False,
        )
    unknown = [key for key, kind in table.names.items() if kind == _NUMBER | _BESIDE]
    unknown = [key for key in unknown if not aside(_clean(key))]
    if unknown:
        others = ", and others" if table.too_many else ""
        notes.add(
            len(unknown),
            f"columns that were not recognized ({some(map(_clean, unknown))}{others}); "
            "--column QUANTITY=NAME names one",
        )
