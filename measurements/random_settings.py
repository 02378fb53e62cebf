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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rlvrlib.evidence import claims
from rlvrlib.running.execution import NotebookFailed, Run, execute, missing_packages, read_notebook
from rlvrlib.running.parameters import Parameter, cell_source, checked, read
from rlvrlib.running.pool import side_by_side

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
        found = re.search(r"from (\S+) to ", parameter.range)
        lowest = [found[1]] if found else parameter.choices[:1]
        if lowest and not parameter.type.startswith("list"):
            _accepted(parameters, setting | {name: lowest[0]}, setting)
    return setting


def _drawn(parameter: Parameter, rng: np.random.Generator) -> Any:
    def number(value: float) -> float:
        scaled = value * 2 ** rng.uniform(-2, 2)
        return round(scaled) if isinstance(value, int) else float(f"{scaled:.4g}")

    if parameter.type == "bool":
        return bool(rng.integers(2))
    if parameter.choices:
        return parameter.choices[rng.integers(len(parameter.choices))]
    if parameter.name.endswith("seed"):
        return int(rng.integers(1_000_000))
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


def settings_of(stems: list[str], count: int, seed: int) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each notebook with its random settings, and its lowest."""
    for index, source in enumerate(sorted(NOTEBOOKS.glob("*.ipynb"))):
        notebook = read_notebook(source)
        if (stems and source.stem not in stems) or missing_packages(notebook):
            continue
        parameters = read(cell_source(notebook))
        for number in range(count):
            yield source, random_setting(parameters, np.random.default_rng([seed, index, number]))
        yield source, lowest_setting(parameters)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="stems; all where omitted")
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int, default=300, help="seconds for one cell")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()

    def run(task: tuple[Path, dict[str, Any]]) -> Run:
        source, setting = task
        return execute(read_notebook(source), setting, source.parent, limit=options.limit)

    tasks, bad = settings_of(options.notebooks, options.count, options.seed), 0
    for (source, setting), future in side_by_side(run, tasks, jobs=options.jobs):
        try:
            rows = future.result().claims
        except NotebookFailed as error:
            late = error.reason.startswith("CellTimeoutError")
            verdict = f"not finished in {options.limit} s" if late else f"RAISED {error.reason}"
            bad += not late
        else:
            failed = [str(row["key"]) for row in claims.unexplained(rows)]
            verdict = claims.summary(rows) + (f": FAILED {', '.join(failed)}" if failed else "")
            bad += bool(failed)
        values = " ".join(f"{name}={value}" for name, value in setting.items())
        print(f"{source.stem}: {verdict}\n    {values}", flush=True)
    print(f"{bad} runs raised or have a claim that fails")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
