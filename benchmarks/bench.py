"""Speed and memory beside other libraries, in one run: writes benchmarks/results/DATE.json, which
the book's page shows.

    make bench

Every contender is first checked to give the same trajectories. Then they take turns, so that a
machine that slows down on the way favours none; ratios are taken within a turn. A contender whose
package is absent is left out, and the results say so.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import peers

from rlvrlib import (
    Constant,
    MarkovTokens,
    PolicyGradient,
    TabularBandit,
    UniformStarts,
    ascend,
    ascend_blocks,
)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
NUM_ARMS, DIM, ETA, NUM_STEPS = 100, 10, 0.5, 50
RUNS = (1, 10, 100, 1000, 10_000, 100_000)
MEMORY_RUNS = (1000, 10_000, 100_000, 1_000_000)
TOLERANCE = 1e-10
OURS = {"rlvrlib": "rlvrlib", "compiled": "rlvrlib, compiled"}
# One run after the other: what all are checked against, on so many runs. With more of them a loop
# takes longer and is not faster.
REFERENCE, LOOPED = "NumPy, run by run", 1000
PACKAGES = ("numpy", "scipy", "jax", "jaxlib", "rlax", "open_spiel", "torch", "numba")


def problem(features: bool) -> tuple[np.ndarray, np.ndarray | None]:
    rewards = (np.arange(NUM_ARMS) % 10 == 0).astype(float)
    return rewards, np.random.default_rng(1).normal(size=(NUM_ARMS, DIM)) if features else None


def take_turns(calls: dict[str, Callable[[], Any]], turns: int) -> dict[str, list[float]]:
    """Seconds of each call, once in each turn; every second turn in the opposite order."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns):
        for name in list(calls)[:: 1 if turn % 2 == 0 else -1]:
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "low": min(values), "high": max(values)}


def compare(
    calls: dict[str, peers.Call], reference: peers.Call, work: float, turns: int
) -> dict[str, Any]:
    """Agreement on the reference's runs, which come first; then work per second and the ratio to
    rlvrlib's of every contender.
    """
    expected = reference()
    first = slice(len(expected[0]))
    apart = {}
    for name, call in calls.items():
        success, ends = call()
        apart[name] = peers.agree((success[first], ends[first]), expected)
    wrong = {name: gap for name, gap in apart.items() if not gap <= TOLERANCE}
    if wrong:
        raise SystemExit(f"error: these give other trajectories, so they are not timed: {wrong}")
    repeats = dict.fromkeys(calls, 1)
    # a call of microseconds is repeated, so that the clock's grain does not matter
    for name, call in calls.items():
        start = time.perf_counter()
        call()
        repeats[name] = int(np.clip(0.02 / (time.perf_counter() - start), 1, 500))

    def repeated(name: str) -> Callable[[], None]:
        def several() -> None:
            for _ in range(repeats[name]):
                calls[name]()

        return several

    seconds = take_turns({name: repeated(name) for name in calls}, turns)
    each = {name: [value / repeats[name] for value in values] for name, values in seconds.items()}
    return {
        name: {
            "per_second": spread([work / value for value in values]),
            **{
                f"{own}_is_faster_by": spread(list(np.divide(values, each[ours])))
                for own, ours in OURS.items()
                if ours in each
            },
            "difference": apart[name],
        }
        for name, values in each.items()
    }


def processes() -> ProcessPoolExecutor:
    """One for each core, not by a fork: JAX has threads."""
    return ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"))


def policy_gradient(
    features: bool, runs: tuple[int, ...], turns: int, skipped: dict[str, str]
) -> list[dict[str, Any]]:
    rewards, matrix = problem(features)
    rows = []
    with processes() as many, ThreadPoolExecutor() as threads:
        for num_runs in runs:
            starts, calls = UniformStarts(num_runs, DIM if features else NUM_ARMS, seed=2)[:], {}
            for name, peer in peers.POLICY_GRADIENT.items():
                if name == REFERENCE and num_runs > LOOPED:
                    continue
                try:
                    calls[name] = peer(starts[:], rewards, ETA, NUM_STEPS, matrix)
                except ImportError as error:
                    if not features:
                        skipped[name] = str(error)
            if (os.cpu_count() or 1) > 1 and num_runs >= 10_000 and not features:
                for name, peer, executor in (
                    ("rlvrlib", peers.rlvrlib_blocks, many),
                    ("rlvrlib, compiled", peers.rlvrlib_compiled, threads),
                ):
                    calls[f"{name}, all cores"] = peer(
                        starts, rewards, ETA, NUM_STEPS, executor=executor
                    )
            reference = peers.numpy_per_run(starts[:LOOPED], rewards, ETA, NUM_STEPS, matrix)
            print(f"{num_runs} runs, features: {features}", flush=True)
            work = num_runs * NUM_STEPS * NUM_ARMS
            rows.append({"runs": num_runs, "contenders": compare(calls, reference, work, turns)})
    return rows


def chain() -> MarkovTokens:
    """Four tokens and a stop token, at most six long; correct with an even number of the first."""
    rng = np.random.default_rng(3)
    return MarkovTokens(
        rng.normal(size=(5, 4)),
        rng.normal(size=(5, 4, DIM)),
        3,
        6,
        [[1, 0, 0, 0], [0, 1, 1, 1]],
        [True, False],
    )


def tokens(runs: tuple[int, ...], turns: int) -> list[dict[str, Any]]:
    rows = []
    for num_runs in runs:
        theta = UniformStarts(num_runs, DIM, seed=4)[:]
        calls = {name: peer(chain(), theta) for name, peer in peers.TOKENS.items()}
        print(f"{num_runs} runs of tokens", flush=True)
        rows.append(
            {"runs": num_runs, "contenders": compare(calls, calls[REFERENCE], num_runs, turns)}
        )
    return rows


def limits(turns: int) -> dict[str, Any]:
    """What the processor can do on one core: exponentials of 200 kB in cache, and bytes read and
    written to memory.
    """
    values = np.random.default_rng(0).uniform(-5, 0, size=(256, NUM_ARMS))
    out, source = np.empty_like(values), np.ones(1 << 23)
    target = np.empty_like(source)
    calls: dict[str, Callable[[], Any]] = {
        "exp, NumPy": lambda: np.exp(values, out=out),
        "copy": lambda: np.copyto(target, source),
    }
    try:
        import jax

        jax.config.update("jax_enable_x64", True)
        compiled, held = jax.jit(jax.numpy.exp), jax.numpy.asarray(values)
        calls["exp, XLA"] = lambda: jax.block_until_ready(compiled(held))
        calls["exp, XLA"]()
    except ImportError:
        pass
    work = {"exp, NumPy": values.size, "exp, XLA": values.size, "copy": 2 * source.nbytes}
    # The least time of many is what the machine can do; the median is what it did.
    seconds = take_turns(calls, 40 * turns)
    return {
        name: {"best": work[name] / min(taken), **spread([work[name] / s for s in taken])}
        for name, taken in seconds.items()
    }


def last_success(path: Any) -> np.ndarray:
    return path.success_rate[:, -1]


def peak_mb() -> float:
    """Most memory that this process has had. Not from `getrusage`, where Linux counts the process
    that started this one too.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def memory_of(kind: str, num_runs: int) -> dict[str, float]:
    """In a process of its own: seconds and peak memory above that of the imports, for two steps."""
    rewards, _ = problem(False)
    starts, bandit, rule = (
        UniformStarts(num_runs, NUM_ARMS, seed=2),
        TabularBandit(rewards),
        (PolicyGradient("reinforce"), Constant(ETA), 2),
    )
    list(ascend_blocks(bandit, starts[:1000], *rule, last_success))
    before, start = peak_mb(), time.perf_counter()
    if kind == "blocks":
        mean = (
            sum(block.sum() for block in ascend_blocks(bandit, starts, *rule, last_success))
            / num_runs
        )
    else:
        mean = last_success(ascend(bandit, starts[:], *rule)).mean()
    seconds = time.perf_counter() - start
    return {
        "runs": num_runs,
        "seconds": seconds,
        "peak_mb": peak_mb() - before,
        "mean": float(mean),
    }


def growth(rows: list[dict[str, float]], key: str, least: float) -> float | None:
    """The exponent ``b`` of ``key ~ runs^b``, by least squares on logarithms; none where fewer than
    two values reach ``least``.
    """
    used = [row for row in rows if row[key] >= least]
    if len(used) < 2:
        return None
    return float(
        np.polyfit(np.log([row["runs"] for row in used]), np.log([row[key] for row in used]), 1)[0]
    )


def memory() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, sizes in (("blocks", MEMORY_RUNS), ("at once", MEMORY_RUNS[:3])):
        rows = []
        for num_runs in sizes:
            print(f"memory, {kind}, {num_runs} runs", flush=True)
            text = subprocess.run(
                [sys.executable, __file__, "--memory-of", kind, str(num_runs)],
                check=True,
                capture_output=True,
                text=True,
            )
            rows.append(json.loads(text.stdout))
        found[kind] = {
            "rows": rows,
            "exponent_of_seconds": growth(rows, "seconds", 0.01),
            "exponent_of_peak": growth(rows, "peak_mb", 1.0),
        }
    return found


def diagnose(command: Path, rows: int, turns: int) -> dict[str, Any]:
    """Seconds of ``rlvr diagnose`` on a log of so many steps, with the start of the process."""
    rng = np.random.default_rng(5)
    steps = np.arange(1, rows + 1)
    reward = np.clip(0.2 + 0.6 * steps / rows + 0.05 * rng.normal(size=rows), 0, 1)
    columns = {
        "step": steps,
        "reward": reward,
        "learning_rate": np.full(rows, 1e-6),
        "grad_norm": rng.uniform(0.1, 0.3, rows),
        "completions/mean_length": 300 + 20 * rng.normal(size=rows),
    }
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.csv"
        np.savetxt(
            log,
            np.stack(list(columns.values()), axis=-1),
            delimiter=",",
            header=",".join(columns),
            comments="",
            fmt="%.9g",
        )
        call = [str(command), "diagnose", str(log)]
        found = subprocess.run(call, capture_output=True, text=True)
        if found.returncode not in (0, 1):
            raise SystemExit(
                f"error: rlvr diagnose failed: {found.stdout[-500:]}{found.stderr[-500:]}"
            )
        taken = take_turns({"diagnose": lambda: subprocess.run(call, capture_output=True)}, turns)[
            "diagnose"
        ]
    return {"rows": rows, "seconds": spread(taken)}


def book(python: Path, results: dict[str, Any]) -> dict[str, float]:
    """Seconds to execute all notebooks and to build the site, once each, in a copy of the project
    that has neither.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("_build", ".*", "__pycache__"))
        # The page of these results is one of its pages.
        write(
            copy / "benchmarks" / "results" / f"{results['date']}.json",
            results | {"book": {"execution": 0.0, "site": 0.0}},
        )
        print("the whole book", flush=True)
        start = time.perf_counter()
        made = subprocess.run(
            [str(python), str(copy / "tools" / "make_book.py")], capture_output=True, text=True
        )
        seconds = time.perf_counter() - start
    site = re.search(r"site: built in ([0-9.]+) s", made.stdout)
    if made.returncode or not site:
        raise SystemExit(
            f"error: the book could not be made: {made.stdout[-500:]}{made.stderr[-500:]}"
        )
    return {"execution": seconds - float(site[1]), "site": float(site[1])}


def machine() -> dict[str, Any]:
    lines = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if Path("/proc/cpuinfo").exists()
        else []
    )
    model = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "vector_units": next(
            (unit for unit in ("avx512f", "avx2") if any(f" {unit}" in line for line in lines)), ""
        ),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument(
        "--largest", type=int, default=RUNS[-1], help="leave out sizes with more runs"
    )
    parser.add_argument(
        "--rlvr",
        type=Path,
        help="the command to time `diagnose` with, and in whose environment the book is made; "
        "both left out where omitted",
    )
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"{date.today()}.json")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(json.dumps(memory_of(options.memory_of[0], int(options.memory_of[1]))))
        return
    skipped: dict[str, str] = {}
    load = os.getloadavg()[0]
    sizes = tuple(runs for runs in RUNS if runs <= options.largest)
    results = {
        "date": str(date.today()),
        "machine": machine(),
        "versions": versions(),
        "turns": options.turns,
        "arms": NUM_ARMS,
        "dim": DIM,
        "steps": NUM_STEPS,
        "limits": limits(options.turns),
        "tabular": policy_gradient(False, sizes, options.turns, skipped),
        "shared_features": policy_gradient(
            True, tuple(n for n in sizes if n in (1, 1000, 10_000)), options.turns, skipped
        ),
        "tokens": tokens(tuple(n for n in sizes if n in (1, 100, 1000)), options.turns),
        "memory": memory(),
        "diagnose": diagnose(options.rlvr, 100_000, options.turns) if options.rlvr else None,
        "skipped": skipped,
        # Above the number of cores, other programs ran beside the measurement.
        "load": {"before": load, "after": os.getloadavg()[0]},
    }
    results["book"] = None
    write(options.out, results)  # should the book fail, the rest is kept
    if options.rlvr:
        results["book"] = book(options.rlvr.parent / "python", results)
        write(options.out, results)
    print(f"wrote {options.out}")


def write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


if __name__ == "__main__":
    main()
