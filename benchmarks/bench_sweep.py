"""How much faster is a sweep on two cores than one by one? Prints both times and their ratio, from
one run.

    python benchmarks/bench_sweep.py [--points 64] [--jobs 2] [--notebook notebooks/overshoot.ipynb]

The order alternates in halves (one by one, parallel, parallel, one by one), so that a machine that
slows down on the way does not favour either. The grid is over ``seed``; the notebook's other
parameters are those of the profile ``quick``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import yaml

from rlvrlib.running import sweep
from rlvrlib.running.execution import read_notebook
from rlvrlib.running.parameters import cell_source, read

ROOT = Path(__file__).resolve().parent.parent


def seconds(path: Path, seeds: range, jobs: int) -> tuple[float, str]:
    """Seconds and table of one sweep, computed from nothing."""
    notebook = read_notebook(path)
    quick = yaml.safe_load((ROOT / "params" / "quick.yml").read_text(encoding="utf-8")).get(
        path.stem, {}
    )
    grid = [f"{name}={value}" for name, value in quick.items()] + [
        f"seed={','.join(map(str, seeds))}"
    ]
    points = sweep.grid(notebook, sweep.parse_grid(grid, read(cell_source(notebook))))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        outcomes = {
            p.index: outcome for p, outcome in sweep.run(notebook, points, Path(folder), jobs=jobs)
        }
        return time.perf_counter() - start, sweep.table(points, outcomes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--notebook", type=Path, default=ROOT / "notebooks" / "overshoot.ipynb")
    options = parser.parse_args()
    halves = range(options.points // 2), range(options.points // 2, options.points)
    single, parallel, same = 0.0, 0.0, True
    for half, order in zip(halves, [(1, options.jobs), (options.jobs, 1)], strict=True):
        tables = {}
        for jobs in order:
            taken, tables[jobs] = seconds(options.notebook, half, jobs)
            print(f"{len(half)} points, {jobs} at a time: {taken:.1f} s", flush=True)
            single, parallel = (
                (single + taken, parallel) if jobs == 1 else (single, parallel + taken)
            )
        same &= len(set(tables.values())) == 1
    print(
        f"one by one {single:.1f} s, {options.jobs} at a time {parallel:.1f} s: "
        f"{single / parallel:.2f} times as fast"
    )
    print(f"tables {'equal' if same else 'DIFFER'}")


if __name__ == "__main__":
    main()
