"""Reading the logs of trainers: TRL, verl, W&B exports, CSV. Nothing of a log is evaluated, and
nothing is skipped silently.

A log is turned into one row per step (`RunLog`). What could not be used is listed in its ``notes``.
"""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from rlvrlib.practice.formats import Notes, Row, read_rows
from rlvrlib.problems import Array

# The names under which trainers log a quantity, the preferred one first. TRL 0.14 to 1.16, verl 0.3
# to 0.9, and plain CSVs.
KEYS: dict[str, tuple[str, ...]] = {
    "reward": (
        "reward",
        "critic/score/mean",
        "critic/rewards/mean",
        "reward_avg",
        "reward/mean",
        "mean_reward",
        "score",
    ),
    "length": (
        "completions/mean_length",
        "completion_length",
        "response_length/mean",
        "avg_response_len",
        "response_length",
    ),
    "longest": ("completions/max_length", "response_length/max"),
    "truncated": ("completions/clipped_ratio", "response_length/clip_ratio"),
    "rate": ("learning_rate", "actor/lr", "lr"),
    "gradient_norm": ("grad_norm", "actor/grad_norm"),
    "zero_spread": ("frac_reward_zero_std",),
    "reward_std": ("reward_std",),
    "entropy": ("entropy", "actor/entropy", "actor/entropy_loss", "entropy_avg"),
    "kl": ("kl", "actor/kl_loss", "actor/ppo_kl", "kl_loss", "objective/kl"),
    "loss": ("loss", "actor/pg_loss"),
    "evaluation": ("eval_acc", "eval_accuracy", "eval_reward", "eval/reward"),
}
STEPS = ("step", "global_step", "training/global_step", "_step", "Step")
COMPONENT = re.compile(r"rewards/([^/]+)(?:/mean)?|(.+)_reward_avg")

_ABSURD = 1e100  # no logged quantity is larger; sums of squares of what is left cannot overflow
_BOXED = re.compile(r"np\.(?:float|int)\d+\((.*)\)")


@dataclass(frozen=True)
class RunLog:
    """One training run, a row per logged step.

    Attributes
    ----------
    source, form : the file, and the format that was recognized.
    step : shape ``(n,)``, increasing.
    values : for each quantity of ``KEYS`` that the log has, shape ``(n,)``; NaN where a row does
        not have it.
    names : the key each quantity was read from.
    components : the parts of the reward by name, shape ``(n,)`` each.
    notes : what was skipped, replaced or assumed, in words.
    """

    source: str
    form: str
    step: Array
    values: Mapping[str, Array]
    names: Mapping[str, str]
    components: Mapping[str, Array]
    notes: tuple[str, ...]

    def __getitem__(self, name: str) -> Array:
        """The quantity, or all NaN where the log does not have it."""
        if name not in KEYS:
            raise ValueError(f"name must be one of {', '.join(KEYS)}, got {name!r}")
        return self.values.get(name, np.full(len(self.step), np.nan))

    def has(self, name: str) -> bool:
        """Whether any row has the quantity."""
        return bool(np.isfinite(self[name]).any())


def read_log(
    path: str | Path, columns: Mapping[str, str] | None = None, run: str | None = None
) -> RunLog:
    """Read a training log of any format that is known.

    TRL's ``trainer_state.json`` and console dictionaries, JSON arrays of rows, JSON lines (verl's
    ``{"step", "data"}``, W&B's history), verl's console lines, CSV (also W&B's exports with columns
    ``run - metric``).

    Parameters
    ----------
    path : the file.
    columns : names of this log's columns for the quantities of ``KEYS`` and for ``step``, where
        they are not found by themselves.
    run : for a W&B export of several runs, the one to read; the one with the most values where
        omitted, and a note says so.

    Raises
    ------
    ValueError : no such file, nothing in it that is a row of a training log, an unknown quantity or
        column.
    """
    path, notes = Path(path), Notes()
    with _without_collector():
        form, rows = read_rows(path, notes)
        return from_rows(
            rows, source=path.name, form=form, columns=columns, run=run, notes=notes.texts()
        )


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


def from_rows(
    rows: Iterable[Row],
    *,
    source: str = "rows",
    form: str = "rows",
    columns: Mapping[str, str] | None = None,
    run: str | None = None,
    notes: Iterable[str] = (),
) -> RunLog:
    """A `RunLog` from rows (dictionaries from key to number) in the order in which they were
    logged. See `read_log`.
    """
    listed = Notes(notes)
    rows = _one_run_of_an_export(_plain_rows(rows), run, listed)
    columns = dict(columns or {})
    unknown = set(columns) - set(KEYS) - {"step"}
    if unknown:
        raise ValueError(
            f"columns must name quantities among step, {', '.join(KEYS)}, "
            f"got {', '.join(sorted(unknown))}"
        )
    present = dict.fromkeys(chain.from_iterable(rows))
    for quantity, key in columns.items():
        if key not in present:
            raise ValueError(
                f"columns must name columns of the log, got {key!r} for {quantity}; "
                f"it has {_some(present)}"
            )
    chosen = {
        quantity: columns.get(quantity) or _first(keys, present) for quantity, keys in KEYS.items()
    }
    names = {quantity: key for quantity, key in chosen.items() if key is not None}
    parts = {
        match[1] or match[2]: key
        for key in present
        if (match := COMPONENT.fullmatch(key)) and not key.endswith("/std")
    }
    wanted = {*names.values(), *parts.values()}
    useful = [row for row in rows if not wanted.isdisjoint(row)]
    listed.add(
        len(rows) - len(useful), "rows without any known quantity (a summary, for example) left out"
    )
    if not useful:
        raise ValueError(
            f"{source} must hold rows of a training log; none has a known quantity. "
            f"It has {_some(present)}"
        )
    step_key = columns.get("step") or _first(STEPS, present)
    steps, useful = _steps(useful, step_key, listed)
    series = {key: _numbers([row.get(key) for row in useful], key, steps, listed) for key in wanted}
    values = {quantity: series[key] for quantity, key in names.items()}
    _check_rate(values, listed)
    for quantity, what in (("reward", "reward"), ("length", "response length")):
        if quantity not in values or not np.isfinite(values[quantity]).any():
            listed.add(1, f"no {what} in this log: name its column if it has one", counted=False)
    components = {name: series[key] for name, key in parts.items() if key != names.get("reward")}
    return RunLog(source, form, steps, values, names, components, tuple(listed.texts()))


def _plain_rows(rows: Iterable[Row]) -> list[Row]:
    """verl's ``data`` and other nested rows flat, without W&B's prefix ``train/``."""
    rows = [row for row in rows if isinstance(row, dict)]
    names = {
        key: str(key).removeprefix("train/") for key in dict.fromkeys(chain.from_iterable(rows))
    }
    kinds = set(map(type, chain.from_iterable(map(dict.values, rows))))
    if all(key == name for key, name in names.items()) and not any(
        issubclass(kind, dict) for kind in kinds
    ):
        return rows
    plain = []
    for row in rows:
        flat = {names[key]: value for key, value in row.items()}
        for key, nested in [
            (key, flat.pop(key)) for key, value in list(flat.items()) if isinstance(value, dict)
        ]:
            lead = "" if key in ("data", "train") else f"{key}/"
            flat |= {
                lead + str(inner).removeprefix("train/"): value for inner, value in nested.items()
            }
        plain.append(flat)
    return plain


def _one_run_of_an_export(rows: list[Row], run: str | None, notes: Notes) -> list[Row]:
    """W&B's CSV names its columns ``run - metric``, and adds extremes that are not wanted."""
    keys = [key for key in dict.fromkeys(chain.from_iterable(rows)) if " - " in key]
    known = {name for names in KEYS.values() for name in names} | set(STEPS)
    metrics = {
        key: (name, metric.removeprefix("train/"))
        for key, (name, _, metric) in ((key, key.rpartition(" - ")) for key in keys)
        if metric.removeprefix("train/") in known
        or COMPONENT.fullmatch(metric.removeprefix("train/"))
    }
    runs = dict.fromkeys(name for name, _ in metrics.values())
    if run is not None and run not in runs:
        raise ValueError(
            f"run must be a run of the export, got {run!r}; "
            f"it has {_some(runs) or 'no columns of that form'}"
        )
    if not runs:
        return rows
    if run is None:
        run = max(
            runs,
            key=lambda name: sum(
                key in row for row in rows for key, m in metrics.items() if m[0] == name
            ),
        )
        others = [name for name in runs if name != run]
        notes.add(
            len(others), f"other runs of this export left out ({_some(others)}; {run!r} was read)"
        )
    rename = {key: metric for key, (name, metric) in metrics.items() if name == run}
    return [
        {
            rename.get(key, key): value
            for key, value in row.items()
            if key in rename or " - " not in key
        }
        for row in rows
    ]


def _steps(rows: list[Row], key: str | None, notes: Notes) -> tuple[Array, list[Row]]:
    """Rows of one run with increasing steps; rows of the same step merged."""
    if key is None:
        notes.add(1, "no step in this log: rows are numbered in their order", counted=False)
        return np.arange(1.0, len(rows) + 1), rows
    numbered = [(_number(row.get(key)), row) for row in rows]
    kept = [(step, row) for step, row in numbered if math.isfinite(step)]
    notes.add(len(rows) - len(kept), "rows without a step left out")
    increasing = np.array([step for step, _ in kept])
    if len(kept) and np.all(np.diff(increasing) > 0):
        return increasing, [row for _, row in kept]
    if not kept:
        raise ValueError(
            f"steps must be numbers, got none in the column {key!r}: name another column"
        )
    falls = sum(after < before for (before, _), (after, _) in pairwise(kept))
    if len(kept) > 2 and falls > 0.9 * (len(kept) - 1):
        notes.add(1, "the rows stood in decreasing order of their steps: sorted", counted=False)
        kept = kept[::-1]
    runs: list[dict[float, Row]] = [{}]
    for step, row in kept:
        current = runs[-1]
        last = next(reversed(current), -math.inf)
        if step < last and step <= next(iter(current)):
            runs.append({})
        elif step < last:
            again = [other for other in current if other >= step]
            notes.add(len(again), "rows replaced by those of a resumed run")
            for other in again:
                del current[other]
        runs[-1][step] = {**runs[-1].get(step, {}), **row}
    longest = max(runs, key=len)
    if len(runs) > 1:
        sizes = ", ".join(str(len(rows)) for rows in runs)
        notes.add(
            1,
            f"the steps start anew {len(runs) - 1} times: several runs in one file, of {sizes} "
            "rows; the longest was read",
            counted=False,
        )
    return np.array(list(longest)), list(longest.values())


def _numbers(values: list[Any], key: str, steps: Array, notes: Notes) -> Array:
    try:
        numbers = np.array(values, dtype=float)  # texts and None included
    except (TypeError, ValueError, OverflowError):
        numbers = np.array([_number(value) for value in values])
    numbers[np.abs(numbers) > _ABSURD] = np.inf
    odd = np.flatnonzero(~np.isfinite(numbers))
    infinite = odd[np.isinf(numbers[odd])]
    text = [place for place in odd if np.isnan(numbers[place]) and values[place] not in (None, "")]
    for bad, what in ((infinite, "infinite (or above 1e100)"), (text, "not a number")):
        if len(bad):
            notes.add(
                len(bad),
                f"values of {key[:80]} that are {what} left out, "
                f"the first at step {steps[bad[0]]:g}",
            )
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _number(value: Any) -> float:
    """The number, or NaN; text such as ``"0.5"`` and ``"np.float64(0.5)"`` is read as one."""
    if isinstance(value, str):
        value = value.strip()
        if value.startswith("np.") and (boxed := _BOXED.fullmatch(value)):
            value = boxed[1]
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _check_rate(values: dict[str, Array], notes: Notes) -> None:
    rate = values.get("rate")
    if rate is not None and np.isfinite(rate).any() and not np.any(rate > 0):
        notes.add(
            1,
            "the learning rate is logged as 0 throughout (verl once printed three decimals): "
            "it counts as unknown",
            counted=False,
        )
        del values["rate"]


def _first(keys: Iterable[str], present: Mapping[str, Any]) -> str | None:
    return next((key for key in keys if key in present), None)


def _some(names: Iterable[str]) -> str:
    """A few names, cut to a readable length, for a message."""
    names = [repr(str(name)[:40]) for name in names]
    return (
        ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
        or "no columns"
    )
