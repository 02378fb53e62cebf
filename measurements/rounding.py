"""Does anything in print hang on rounding?

    python measurements/rounding.py [--quick] [NOTEBOOK ...]

Executes the code of each notebook, without its figures, as it is and in three ways that change the
last digits alone: every number that is drawn, every parameter that is no whole number and every
start of a run is multiplied by 1 + 2^-52; the same by 1 - 2^-53; and with NumPy's and
OpenBLAS's plainest instructions. What is printed then, numbers and verdicts of the rows included,
should be the same; what is not is shown.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import json
import os
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
from planted_errors import NOTEBOOKS, cells, stems

import rlvrlib
from rlvrlib import ascent
from rlvrlib.evidence import claims

PLAIN = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Prescott",
}
_DRAWS = "normal standard_normal uniform random exponential gamma beta dirichlet".split()


class Moved(np.random.Generator):
    """Draws the same numbers, each times a factor."""

    factor = 1.0

    def spawn(self, n_children: int) -> list[Any]:
        return [Moved(child.bit_generator) for child in super().spawn(n_children)]


def _moved(name: str) -> Any:
    plain = getattr(np.random.Generator, name)
    return lambda self, *args, **kwargs: plain(self, *args, **kwargs) * self.factor


for _name in _DRAWS:
    setattr(Moved, _name, _moved(_name))


def move_inputs(factor: float) -> None:
    """From now on, what is drawn and where a run starts is multiplied by a factor."""
    generator, climb = np.random.default_rng, ascent.ascend
    Moved.factor = factor
    np.random.default_rng = lambda seed=None: Moved(generator(seed).bit_generator)  # type: ignore

    def ascend(problem: Any, theta0: Any, *args: Any, **kwargs: Any) -> Any:
        return climb(problem, np.asarray(theta0, dtype=float) * factor, *args, **kwargs)

    rlvrlib.ascend = ascent.ascend = ascend


def printed(stem: str, quick: bool, factor: float) -> list[str]:
    """The lines that a notebook prints, and the texts of its rows."""
    shown, names, lines = [], dict[str, Any](), io.StringIO()
    claims.show = lambda *rows: shown.extend(row.row() for row in rows)
    warnings.simplefilter("ignore")
    os.chdir(NOTEBOOKS)
    move_inputs(factor)
    sources = cells(stem, quick)
    start = next(number for number, source in enumerate(sources) if "import " in source)
    with contextlib.redirect_stdout(lines):
        for number, source in enumerate(sources):
            if number == start:  # all names are parameters
                names |= {name: _scaled(value, factor) for name, value in names.items()}
            exec(compile(source, "cell", "exec"), names)
    rows = [
        f"{row['key']}: {row['predicted_text']} | {row['measured_text']} | {row['verdict']}"
        for row in shown
    ]
    return [*lines.getvalue().splitlines(), *rows]


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, list):
        return [_scaled(one, factor) for one in value]
    moves = isinstance(value, float) and not value.is_integer()
    return value * factor if moves else value


def in_a_process(stem: str, quick: bool, factor: float, environment: dict[str, str]) -> list[str]:
    """`printed` in a process of its own; its error where it stops."""
    call = f"rounding.printed({stem!r}, {quick}, {factor!r})"
    code = f"import json, rounding; print(json.dumps({call}))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        cwd=os.path.dirname(os.path.abspath(__file__)),
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(found.stdout) if not found.returncode else found.stderr.splitlines()[-1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="stems; all where omitted")
    parser.add_argument("--quick", action="store_true", help="at the quick setting")
    options = parser.parse_args()
    ways = {"up": (1 + 2**-52, {}), "down": (1 - 2**-53, {}), "plain instructions": (1.0, PLAIN)}
    for stem in options.notebooks or stems():
        usual, changed = in_a_process(stem, options.quick, 1.0, {}), 0
        for way, (factor, environment) in ways.items():
            found = in_a_process(stem, options.quick, factor, environment)
            lines = [
                line
                for line in difflib.ndiff(usual, found)
                if line[:2] in ("- ", "+ ")
            ]
            changed += len(lines)
            if lines:
                print(f"{stem}, {way}:", *lines, sep="\n", flush=True)
        print(f"{stem}: {changed or 'no'} lines changed", flush=True)


if __name__ == "__main__":
    main()
