"""Execute notebooks at random settings within their documented ranges: does any raise, does any
claim fail?

    python measurements/random_settings.py --count 5 --seed 1 [NOTEBOOK ...]

Each number is its default times up to four either way, each choice is drawn anew; what a range
forbids is drawn again. The last setting of each notebook has every parameter at the lower end of
its range. One line for each run; exit status 1 where a cell raised or a claim fails. A claim that
fails far from the defaults may only want more samples: rerun the line's settings with `rlvr run`
and look.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from workers import Workers

from rlvrlib.evidence import claims
from rlvrlib.running.execution import missing_packages, read_notebook
from rlvrlib.running.parameters import Parameter, cell_source, checked, read

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
TRIES = 50


def random_setting(parameters: dict[str, Parameter], rng: np.random.Generator) -> dict[str, Any]:
    """Every parameter at random within its range, given the others; at its default where that does
    not succeed.
    """
    setting: dict[str, Any] = {}
    for name, parameter in parameters.items():
        for _ in range(TRIES):
            if _accepted(parameters, setting | {name: _drawn(parameter, rng)}, setting):
                break
    return setting


def lowest_setting(parameters: dict[str, Parameter]) -> dict[str, Any]:
    """Every parameter whose range has a lowest value at that."""
    setting: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if (
            found := re.match(
                r"(?:a power of \d+ )?(?:from )?(\S+) to |at least (\S+)", parameter.range
            )
        ) and not parameter.type.startswith("list"):
            _accepted(parameters, setting | {name: found[1] or found[2]}, setting)
    return setting


def _drawn(parameter: Parameter, rng: np.random.Generator) -> Any:
    def number(value: float) -> float:
        scaled = value * 2 ** rng.uniform(-2, 2)
        return round(scaled) if isinstance(value, int) else float(f"{scaled:.4g}")

    if parameter.type == "bool":
        return bool(rng.integers(2))
    if choices := re.match(r"(?:each )?one of (.+)", parameter.range):
        return str(rng.choice(re.split(r", (?:or )?| or ", choices[1])))
    if parameter.name.endswith("seed"):
        return int(rng.integers(1_000_000))
    if power := re.search(r"a power of (\d+)", parameter.range):
        return round(parameter.default * float(power[1]) ** rng.integers(-1, 2))
    if isinstance(parameter.default, list):
        return parameter.default
    return (
        number(parameter.default)
        if isinstance(parameter.default, int | float)
        else parameter.default
    )


def _accepted(
    parameters: dict[str, Parameter], candidate: dict[str, Any], setting: dict[str, Any]
) -> bool:
    try:
        setting.update(checked(candidate, parameters))
    except ValueError:
        return False
    return True


def jobs_of(stems: list[str], count: int, seed: int, folder: Path) -> Iterator[dict[str, Any]]:
    for index, source in enumerate(sorted(NOTEBOOKS.glob("*.ipynb"))):
        notebook = read_notebook(source)
        if (stems and source.stem not in stems) or missing_packages(notebook):
            continue
        parameters = read(cell_source(notebook))
        settings = [
            random_setting(parameters, np.random.default_rng([seed, index, number]))
            for number in range(count)
        ]
        for number, setting in enumerate([*settings, lowest_setting(parameters)]):
            yield {
                "source": str(source),
                "target": str(folder / f"{source.stem}-{number}.ipynb"),
                "key": "",
                "parameters": setting,
            }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="stems; all where omitted")
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=300, help="seconds for one run")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    workers, bad = Workers(), []

    def run(job: dict[str, Any]) -> None:
        worker = workers.mine()
        clock = threading.Timer(options.limit, worker.kill)
        clock.start()
        reason = worker.execute(job)
        late = not clock.is_alive()
        clock.cancel()
        if late:
            verdict = f"not finished in {options.limit:g} s"
        elif reason:
            verdict = "RAISED " + reason.strip().splitlines()[-1]
        else:
            rows = claims.collect(Path(job["target"]))
            failed = [str(row["key"]) for row in rows if row["verdict"] == claims.FAILS]
            verdict = claims.summary(rows) + (f": FAILED {', '.join(failed)}" if failed else "")
        if "RAISED" in verdict or "FAILED" in verdict:
            bad.append(verdict)
        setting = " ".join(f"{name}={value}" for name, value in job["parameters"].items())
        print(f"{Path(job['source']).stem}: {verdict}\n    {setting}", flush=True)

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool, workers:
        list(pool.map(run, jobs_of(options.notebooks, options.count, options.seed, Path(folder))))
    print(f"{len(bad)} runs raised or have a claim that fails")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
