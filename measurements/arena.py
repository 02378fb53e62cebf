"""The arena: every step-size rule on the same exact problems, with exact and sampled gradients.

    python measurements/arena.py [--parts FOLDER] [--jobs N] [--family NAME ...] [--rule NAME ...]

Rules are rows of arena_rules.py, problems stand in arena_problems.py. One part, a rule on a family
with one kind of gradients, is one file in FOLDER, written when it is finished and not computed
again as long as the arena and the library are the same. When all parts are there, the table in
notebooks/data/arena is written. A rule that gives NaN or a negative length, or whose run leaves the
range of floating-point numbers, is named in the column ``note``; the others go on.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from arena_problems import FAMILIES, RUNS, SEED, Setting, family
from arena_rules import RULES, Entry
from scipy.special import expit, logit

from rlvrlib import Array, At, Direction, PolicyGradient, SampledGradient, Step, ascend

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "notebooks" / "data" / "arena" / "arena.csv"
GRADIENTS = ("exact", "sampled")
GROUP = 16  # responses of a sampled gradient
ENOUGH = 0.99  # share of the best attainable success rate at which a run has arrived
ROUNDING = 1e-10  # of a difference of log-odds
DRAWS = 2000  # of the bootstrap
COLUMNS = (
    "family",
    "gradients",
    "rule",
    "knows",
    "runs",
    "constant",
    "median_updates",
    "median_low",
    "median_high",
    "arrived",
    "falls",
    "worst_fall",
    "collapsed",
    "collapsed_low",
    "collapsed_high",
    "collapsed_at_four_times",
    "microseconds",
    "note",
)


@dataclass(frozen=True)
class Checked(Step):
    """Another step, whose lengths must be finite and not negative, one for each run."""

    step: Step

    def initial_state(self, theta: Array) -> Any:
        return self.step.initial_state(theta)

    def length(self, at: At, update: Array, state: Any) -> tuple[Array, Any]:
        size, state = self.step.length(at, update, state)
        if np.shape(size) != update.shape[:-1]:
            raise ValueError(
                f"a step must have shape {update.shape[:-1]}, one length a run, got {size.shape}"
            )
        bad = ~(np.isfinite(size) & (size >= 0))
        if np.any(bad):
            raise ValueError(f"a step must be finite and not negative, got {size[bad].flat[0]}")
        return size, state


def follow(
    rule: str, setting: Setting, gradients: str, num_steps: int, constants: Any, seed: int
) -> Array:
    """Log-odds of the runs, shape ``(constants, runs, num_steps + 1)``.

    Raises
    ------
    ValueError : the rule gives no length, or the runs leave the range of floating-point numbers.
    """
    rng = np.random.default_rng(seed)
    prompts = setting.problem if setting.batch else None

    def gradient(method: str) -> Direction:
        if gradients == "exact":
            return PolicyGradient(method, prompts=prompts)
        return SampledGradient(method, GROUP, rng, prompts=prompts)

    constants = np.reshape(constants, (-1, *[1] * (setting.start.ndim - 1)))
    start = np.broadcast_to(setting.start, (len(constants), *setting.start.shape))
    direction, step = RULES[rule].make(Entry(setting, gradient, num_steps, rng, constants))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        run = ascend(setting.problem, start, direction, Checked(step), num_steps)
    return setting.log_odds(run.log_odds)


def each_constant(
    rule: str, setting: Setting, gradients: str, num_steps: int, seed: int
) -> tuple[Array, list[str]]:
    """`follow` for each constant of the rule; runs of a constant that fails are NaN, and why."""
    constants = RULES[rule].constants or (1.0,)
    try:
        return follow(rule, setting, gradients, num_steps, constants, seed), []
    except ValueError as error:
        if len(constants) == 1:
            raise
        first = str(error)
    paths, notes = [], []
    for constant in constants:
        try:
            paths.append(follow(rule, setting, gradients, num_steps, [constant], seed)[0])
        except ValueError as error:
            paths.append(np.full((len(setting.start), num_steps + 1), np.nan))
            notes.append(f"{constant:g}: {error}")
    if len(notes) == len(constants):
        raise ValueError(first)
    return np.stack(paths), notes


def measure(name: str, gradients: str, rule: str) -> dict[str, Any]:
    """One row of the table."""
    settings, num_steps = family(name)
    row: dict[str, Any] = {"family": name, "gradients": gradients, "rule": rule}
    row |= {"knows": RULES[rule].knows, "runs": RUNS}
    try:
        found = [
            each_constant(rule, setting, gradients, num_steps, seed)
            for seed, setting in enumerate(settings)
        ]
    except ValueError as error:
        return row | {"note": str(error)}
    paths = np.concatenate([path for path, _ in found], axis=1)
    best = np.concatenate([np.broadcast_to(s.best, len(s.start)) for s in settings])
    with np.errstate(invalid="ignore"):  # success rates of 1, and runs that are lost
        there = paths >= logit(ENOUGH * best)[:, None]
        falling = np.diff(paths, axis=-1) < -ROUNDING
    updates = np.where(there.any(axis=-1), there.argmax(axis=-1), np.inf)
    lost = collapsed(paths)
    # in hindsight: no collapse if that can be had, then the fewest updates in the median and mean
    chosen = min(
        range(len(paths)),
        key=lambda i: (
            lost[i].mean(),
            np.median(updates[i]),
            np.minimum(updates[i], num_steps + 1).mean(),
        ),
    )
    rates = expit(paths[chosen])
    constants = RULES[rule].constants
    beyond = chosen + 2  # the grid doubles
    low, high = wilson(int(lost[chosen].sum()), len(rates))
    spread = median_interval(updates[chosen])
    row |= {
        "constant": constants[chosen] if constants else "",
        "median_updates": np.median(updates[chosen]),
        "median_low": spread[0],
        "median_high": spread[1],
        "arrived": np.mean(np.isfinite(updates[chosen])),
        "falls": falling[chosen].mean(),
        "worst_fall": np.max(np.maximum.accumulate(rates, axis=-1) - rates),
        "collapsed": lost[chosen].mean(),
        "collapsed_low": low,
        "collapsed_high": high,
        "collapsed_at_four_times": lost[beyond].mean() if beyond < len(constants) else "",
        "microseconds": cost(rule, settings, gradients, constants[chosen] if constants else 1.0),
        "note": "; ".join(dict.fromkeys(note for _, notes in found for note in notes)),
    }
    return row


def collapsed(paths: Array) -> Array:
    """Runs that end with less than half of the highest success rate that they had, or that left the
    range of floating-point numbers.
    """
    rates = expit(paths)
    return ~(rates[..., -1] >= rates.max(axis=-1) / 2)


def wilson(count: int, size: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95% interval of a share."""
    share, shrink = count / size, 1 + z**2 / size
    half = z * np.sqrt(share * (1 - share) / size + z**2 / (4 * size**2)) / shrink
    middle = (share + z**2 / (2 * size)) / shrink
    return max(float(middle - half), 0.0), min(float(middle + half), 1.0)


def median_interval(values: Array) -> tuple[float, float]:
    """95% interval of the median, by the bootstrap over runs."""
    rng = np.random.default_rng(SEED)
    drawn = np.median(rng.choice(np.sort(values), (DRAWS, len(values))), axis=-1)
    low, high = np.quantile(drawn, [0.025, 0.975], method="closest_observation")
    return float(low), float(high)


def cost(rule: str, settings: list[Setting], gradients: str, constant: float) -> float:
    """Microseconds of one update of one run in the stack of a family, the least of three."""
    seconds, num_steps = [], 5
    for _ in range(3):
        before = time.process_time()
        for setting in settings:
            follow(rule, setting, gradients, num_steps, [constant], 0)
        seconds.append(time.process_time() - before)
    return 1e6 * min(seconds) / (num_steps * RUNS)


def key() -> str:
    """What a part depends on: the arena and the library."""
    files = [*Path(__file__).parent.glob("arena*.py"), *(ROOT / "rlvrlib").glob("*.py")]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


KEY = key()  # of the code that runs, whatever becomes of the files meanwhile


def part(folder: Path, name: str, gradients: str, rule: str) -> dict[str, Any]:
    """The row from its file, which is written where it is missing."""
    words = "-".join((name, gradients, "".join(c if c.isalnum() else "_" for c in rule), KEY))
    target = folder / f"{words}.json"
    if not target.exists():
        row = measure(name, gradients, rule)
        fresh = target.with_name(f".{os.getpid()}-{target.name}")
        fresh.write_text(json.dumps(row, default=float), encoding="utf-8")
        os.replace(fresh, target)
    row = json.loads(target.read_text(encoding="utf-8"))
    return dict(row)


def shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write(rows: list[dict[str, Any]]) -> None:
    """The table, and beside it what made it."""
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: shown(value) for name, value in row.items()} for row in rows)
    facts = {
        "script": "measurements/arena.py",
        "versions": {name: version(name) for name in ("numpy", "scipy")}
        | {"Python": platform.python_version()},
        "seed": SEED,
        "runs": RUNS,
        "group": GROUP,
        "updates": {name: num_steps for name, (_, num_steps) in FAMILIES.items()},
    }
    text = json.dumps(facts, indent=1) + "\n"
    TABLE.with_name("provenance.json").write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=Path, default=ROOT / "_build" / "arena")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--family", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--rule", nargs="*", default=list(RULES), choices=list(RULES))
    arguments = parser.parse_args()
    arguments.parts.mkdir(parents=True, exist_ok=True)
    tasks = [
        (name, gradients, rule)
        for name, gradients, rule in product(arguments.family, GRADIENTS, arguments.rule)
        if gradients == "sampled" or not RULES[rule].sampled_only
    ]
    with ProcessPoolExecutor(arguments.jobs) as executor:
        futures = {executor.submit(part, arguments.parts, *task): task for task in tasks}
        rows = {}
        for future in as_completed(futures):
            task = futures[future]
            rows[task] = future.result()
            note = rows[task].get("note", "")
            print(*task, shown(rows[task].get("median_updates", "")), note, sep=", ", flush=True)
    if (arguments.family, arguments.rule) == (list(FAMILIES), list(RULES)):
        write([rows[task] for task in tasks])
    return 0


if __name__ == "__main__":
    sys.exit(main())
