"""How often a run that does not fall is warned of, and how late one that falls.

    python measurements/falls.py [--runs 1000] [--seed 1] [--rows 300 1000 3000]

Writes notebooks/data/falls/steady.csv and falling.csv, one line a cell, and provenance.json. A cell
that is there is not run again. The constants of `rlvrlib.practice.drawdown` were chosen with other
seeds and fewer runs of the same cells.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from rlvrlib import Array
from rlvrlib.practice.drawdown import FELL, WARNED, Drawdown

FOLDER = Path(__file__).resolve().parent.parent / "notebooks" / "data" / "falls"
BATCH = 100  # runs side by side
LEVEL = 150  # rows before a fall begins

Runs = Callable[[np.random.Generator, int], Array]


class Steady(NamedTuple):
    """Runs whose mean does not fall, or drifts about a level."""

    group: str
    name: str
    runs: Runs
    lengths: tuple[int, ...]
    warned: float  # the limits, shares of the runs; 1 where the share is only reported
    fell: float
    listen: int = 0  # rows before which a fall is a fall


class Falling(NamedTuple):
    name: str
    rate: Array  # of the rows from the beginning of the fall on
    before: float
    responses: int
    limit: int  # rows after the beginning of the fall


def binomial(rate: Array, responses: int) -> Runs:
    return lambda rng, rows: rng.binomial(responses, rate) / responses


def prompts(rng: np.random.Generator, rate: Array) -> Array:
    """A prompt a row, whose success rate has a beta distribution with this mean, and 8 responses;
    the distribution with mean 1/2 is Beta(1/2, 1/2).
    """
    return rng.binomial(8, rng.beta(rate, 1 - rate)) / 8


def constant(rate: float, responses: int) -> Runs:
    return lambda rng, rows: rng.binomial(responses, rate, rows) / responses


def beta(a: float, b: float) -> Runs:
    return lambda rng, rows: rng.binomial(8, rng.beta(a, b, rows)) / 8


mixed = beta(0.5, 0.5)


def rising(low: float, high: float) -> Runs:
    return lambda rng, rows: prompts(rng, np.linspace(low, high, rows))


def abrupt(low: float, high: float) -> Runs:
    return lambda rng, rows: prompts(rng, np.where(np.arange(rows) < 0.7 * rows, low, high))


def logistic(low: float, high: float, mix: bool) -> Runs:
    def runs(rng: np.random.Generator, rows: int) -> Array:
        rate = low + (high - low) * expit((np.arange(rows) - 0.7 * rows) / (0.02 * rows))
        return prompts(rng, rate) if mix else rng.binomial(8, rate) / 8

    return runs


def repeated(times: int) -> Runs:
    return lambda rng, rows: np.repeat(mixed(rng, -(-rows // times)), times)[:rows]


def held(times: int) -> Runs:
    """The same prompt for several rows."""
    return lambda rng, rows: (
        rng.binomial(8, np.repeat(rng.beta(0.5, 0.5, -(-rows // times)), times)[:rows]) / 8
    )


def drifting(correlation: float, responses: int) -> Runs:
    def runs(rng: np.random.Generator, rows: int) -> Array:
        log_odds = rng.normal(size=rows)
        for row in range(1, rows):
            log_odds[row] *= np.sqrt(1 - correlation**2)
            log_odds[row] += correlation * log_odds[row - 1]
        return rng.binomial(responses, expit(log_odds)) / responses

    return runs


def smoothed(rng: np.random.Generator, rows: int) -> Array:
    values = mixed(rng, rows)
    for row in range(1, rows):
        values[row] = 0.9 * values[row - 1] + 0.1 * values[row]
    return values


def parts(rng: np.random.Generator, rows: int) -> Array:
    """Answer, format and length, and 2% of the rows at -10."""
    total = mixed(rng, rows) + 0.5 * rng.binomial(8, 0.8, rows) / 8 + 0.2 * rng.normal(size=rows)
    return np.where(rng.random(rows) < 0.02, -10.0, total)


def quiet_parts(rng: np.random.Generator, rows: int) -> Array:
    return np.where(rng.random(rows) < 0.02, -10.0, 1 + 0.1 * rng.normal(size=rows))


def unequal(rng: np.random.Generator, rows: int) -> Array:
    responses = rng.integers(1, 65, rows)
    return rng.binomial(responses, rng.beta(0.5, 0.5, rows)) / responses


def unequal_level(rng: np.random.Generator, rows: int) -> Array:
    responses = rng.integers(1, 65, rows)
    return rng.binomial(responses, 0.9) / responses


def season(period: int) -> Runs:
    def runs(rng: np.random.Generator, rows: int) -> Array:
        phase = 2 * np.pi * (np.arange(rows) / period + rng.random())
        return rng.binomial(8, expit(np.sqrt(2) * np.sin(phase))) / 8

    return runs


def sorted_epochs(period: int) -> Runs:
    """From easy to hard within every epoch, the same prompts in each."""

    def runs(rng: np.random.Generator, rows: int) -> Array:
        rates = np.sort(rng.beta(0.5, 0.5, period))[::-1]
        return rng.binomial(8, np.resize(rates, rows)) / 8

    return runs


INDEPENDENT, LATE = "independent rows", "late and abrupt rises"
DEPENDENT, NO_RATE, DRIFT = "rows that hang together", "rewards that are no rates", "slow drift"
SHORT, ALL = (300, 1000), (300, 1000, 3000)

STEADY = [
    *(
        Steady(INDEPENDENT, f"constant {rate}, {n} responses", constant(rate, n), ALL, 0.05, 0.01)
        for rate in (0.1, 0.5, 0.9)
        for n in (1, 8, 64)
    ),
    *(
        Steady(INDEPENDENT, f"prompts Beta({a}, {b})", beta(a, b), ALL, 0.05, 0.01)
        for a, b in ((0.5, 0.5), (0.2, 0.2), (0.7, 0.3))
    ),
    *(
        Steady(INDEPENDENT, f"rising {a} to {b}", rising(a, b), ALL, 0.05, 0.01)
        for a, b in ((0.2, 0.6), (0.1, 0.9))
    ),
    *(
        Steady(LATE, f"{a} to {b}, {name}", runs(a, b), ALL, 0.05, 0.01)
        for a, b in ((0.02, 0.5), (0.05, 0.9))
        for name, runs in {
            "at once, prompts": abrupt,
            "logistic, prompts": lambda a, b: logistic(a, b, True),
            "logistic, 8 responses": lambda a, b: logistic(a, b, False),
        }.items()
    ),
    *(
        Steady(DEPENDENT, f"each reward {k} times", repeated(k), SHORT, 0.05, 0.02)
        for k in (2, 4, 8)
    ),
    *(Steady(DEPENDENT, f"one prompt for {k} rows", held(k), SHORT, 0.05, 0.02) for k in (4, 8)),
    *(
        Steady(DEPENDENT, f"AR({rho}), {n} responses", drifting(rho, n), SHORT, 0.05, 0.02)
        for rho in (0.5, 0.8)
        for n in (8, 64)
    ),
    Steady(DEPENDENT, "exponential mean of 0.9", smoothed, SHORT, 0.05, 0.02),
    Steady(NO_RATE, "sum of parts, 2% at -10", parts, SHORT, 0.05, 0.02),
    Steady(NO_RATE, "1 ± 0.1, 2% at -10", quiet_parts, SHORT, 0.05, 0.02),
    Steady(NO_RATE, "-1/+1, prompts", lambda rng, n: 2 * mixed(rng, n) - 1, SHORT, 0.05, 0.02),
    Steady(NO_RATE, "-1/+1, 90% right", lambda r, n: 2 * constant(0.9, 8)(r, n) - 1, SHORT, 0.05,
           0.02),
    Steady(NO_RATE, "groups of 1 to 64, prompts", unequal, SHORT, 0.05, 0.02),
    Steady(NO_RATE, "groups of 1 to 64, constant 0.9", unequal_level, SHORT, 0.05, 0.02),
    *(
        Steady(DRIFT, f"AR(0.95), {n} responses", drifting(0.95, n), (1000,), 1, 0.05)
        for n in (8, 64)
    ),
    *(
        Steady(DRIFT, f"{name} of {p} rows, from the third on", runs(p), (1000,), 1, 0.05, 2 * p)
        for name, runs in {"seasons": season, "sorted epochs": sorted_epochs}.items()
        for p in (20, 50, 100)
    ),
]

FALLING = [
    Falling("0.7 to 0.02 at once, 8 responses", np.full(50, 0.02), 0.7, 8, 4),
    Falling("0.7 to 0.02 at once, 64 responses", np.full(50, 0.02), 0.7, 64, 2),
    # Rows that count: those before the first whose rate is at most half of the level.
    Falling("0.7 to 0.02 over 30 rows, 8 responses",
            np.r_[0.7 - 0.68 * np.arange(1, 31) / 30, np.full(50, 0.02)], 0.7, 8, 15),
    Falling("0.97 to 0 over 60 rows, 64 responses",
            np.r_[0.97 - 0.97 * np.arange(1, 61) / 60, np.zeros(20)], 0.97, 64, 15),
]


class _Listening(Drawdown):
    """Counts what is found from a row on."""

    def __init__(self, runs: int, listen: int):
        super().__init__(runs)
        self.listen = listen

    def _record(self, statistic, stop, w, u, run):  # type: ignore[no-untyped-def]
        late = stop > self.listen
        super()._record(statistic[late], stop[late], w[late], u[late], run[late])


def steady(cell: Steady, rows: int, runs: int, seed: int) -> tuple[int, int]:
    """Of ``runs`` runs: how many are ever warned of, and how many fell."""
    warned = fell = 0
    for first in range(0, runs, BATCH):
        numbers = range(first, min(first + BATCH, runs))
        state = _Listening(len(numbers), cell.listen).extend(
            np.stack(
                [cell.runs(np.random.default_rng([seed, rows, run]), rows) for run in numbers],
                axis=1,
            )
        )
        warned += sum(fall is not None for fall in state.falls[WARNED])
        fell += sum(fall is not None for fall in state.falls[FELL])
    return warned, fell


def delays(cell: Falling, runs: int, seed: int) -> Array:
    """Rows from the beginning of the fall to the warning, 1 at its first row; at most 0 where the
    warning came before, infinite where none came.
    """
    rng, rate = np.random.default_rng(seed), np.r_[np.full(LEVEL, cell.before), cell.rate]
    values = rng.binomial(cell.responses, np.tile(rate[:, None], runs)) / cell.responses
    return np.array(
        [
            np.inf if fall is None else fall.row - LEVEL + 1
            for fall in Drawdown(runs).extend(values).falls[WARNED]
        ]
    )


def _append(path: Path, line: dict[str, object]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(line), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(line)


def _done(path: Path) -> set[tuple[str, str]]:
    if not path.exists():
        return set()
    with path.open(newline="", encoding="utf-8") as file:
        return {(line["name"], line.get("rows", "")) for line in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, nargs="*", default=list(ALL))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    quiet, fallen = asked.folder / "steady.csv", asked.folder / "falling.csv"
    for cell in FALLING:
        if (cell.name, "") in _done(fallen):
            continue
        found = delays(cell, asked.runs, asked.seed)
        late = np.sort(found[found > 0])  # a warning before the fall is a false one
        # A 99.9% interval of the median from the order of the runs: a sign test.
        low, high = (int(len(late) / 2 + side * 1.645 * np.sqrt(len(late))) for side in (-1, 1))
        _append(fallen, {
            "name": cell.name, "runs": len(late), "limit": cell.limit, "median": np.median(late),
            "low": late[max(low, 0)], "high": late[min(high, len(late) - 1)],
            "in_time": int(np.sum(late <= cell.limit)), "before": asked.runs - len(late),
        })
    for rows in asked.rows:
        for cell in STEADY:
            if rows not in cell.lengths or (cell.name, str(rows)) in _done(quiet):
                continue
            warned, fell = steady(cell, rows, asked.runs, asked.seed)
            _append(quiet, {
                "group": cell.group, "name": cell.name, "rows": rows, "runs": asked.runs,
                "warned": warned, "limit_warned": cell.warned, "fell": fell,
                "limit_fell": cell.fell,
            })
            print(rows, cell.name, warned, fell, flush=True)
    about = {
        "script": "measurements/falls.py", "seed": asked.seed,
        "levels": {"warned": WARNED, "fell": FELL},
        "versions": {name: version(name) for name in ("numpy", "scipy")},
        "python": platform.python_version(), "written": time.strftime("%Y-%m-%d"),
    }
    text = json.dumps(about, indent=1)
    (asked.folder / "provenance.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
