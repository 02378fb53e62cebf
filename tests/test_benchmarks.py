"""The benchmark's contenders agree, and its results hold what the page shows. No test measures a
time.
"""

import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "book" / "_ext")]
import bench  # noqa: E402
import benchmark_tables  # noqa: E402
import peers  # noqa: E402

from rlvrlib import UniformStarts  # noqa: E402

RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
NEEDS = {
    "rlax": ("rlax",),
    "JAX by hand": ("jax",),
    "OpenSpiel": ("open_spiel", "torch"),
    "numba": ("numba",),
    "numba, vectors by hand": ("numba",),
    "rlvrlib, compiled": ("numba",),
}
MUTATED = ("only_mutate", "do_not_mutate", "also_copy", "pytest_add_cli_args_test_selection")
TABULAR = ("numba", "numba, vectors by hand", "rlvrlib, compiled")


@pytest.mark.parametrize("features", [False, True], ids=["tabular", "shared features"])
@pytest.mark.parametrize(
    "name", [name for name in peers.POLICY_GRADIENT if name != "NumPy, run by run"]
)
def test_contenders_compute_the_same_runs(name: str, features: bool) -> None:
    absent = [
        package for package in NEEDS.get(name, ()) if importlib.util.find_spec(package) is None
    ]
    if absent:
        pytest.skip(f"needs {', '.join(absent)}: make bench installs it")
    if features and name in TABULAR:
        pytest.skip("what is compiled is for the tabular bandit")
    rewards, matrix = bench.problem(features)
    starts = UniformStarts(13, bench.DIM if features else bench.NUM_ARMS, seed=8)[:]
    expected = peers.numpy_per_run(starts, rewards, 0.5, 20, matrix)()
    assert expected[0][:, -1].mean() > expected[0][:, 0].mean()  # they learn
    assert (
        peers.agree(
            peers.POLICY_GRADIENT[name](starts.copy(), rewards, 0.5, 20, matrix)(), expected
        )
        < bench.TOLERANCE
    )


def test_token_baselines_agree() -> None:
    theta = UniformStarts(5, bench.DIM, seed=8)[:]
    expected = peers.tokens_enumerated(bench.chain(), theta)()
    for peer in peers.TOKENS.values():
        assert peers.agree(peer(bench.chain(), theta)(), expected) < bench.TOLERANCE


def test_other_trajectories_are_not_timed() -> None:
    right = (np.zeros((2, 3)), np.ones((2, 4)))
    wrong = (np.zeros((2, 3)), np.ones((2, 4)) + 1e-9)
    with pytest.raises(SystemExit, match="other trajectories"):
        bench.compare({"rlvrlib": lambda: right, "other": lambda: wrong}, lambda: right, 1.0, 1)
    undefined = (np.full((2, 3), np.nan), np.ones((2, 4)))
    with pytest.raises(SystemExit, match="other trajectories"):
        bench.compare({"rlvrlib": lambda: undefined}, lambda: right, 1.0, 1)


def test_growth_is_the_exponent_of_a_power() -> None:
    rows = [{"runs": n, "seconds": 3 * n**1.5} for n in (10, 100, 1000)]
    assert bench.growth(rows, "seconds", 0.0) == pytest.approx(1.5)
    assert bench.growth(rows, "seconds", 1e5) is None


def test_results_hold_what_the_page_shows() -> None:
    page = (ROOT / "book" / "benchmarks.md").read_text(encoding="utf-8")
    names, tables = (
        re.findall(r"\{benchmark\}`([^`]+)`", page),
        re.findall(r"\{benchmark-table\} (\w+)", page),
    )
    assert RESULTS and names and set(tables) == set(benchmark_tables.SHOWN)
    newest = json.loads(RESULTS[-1].read_text(encoding="utf-8"))  # the page shows it
    for name in names:
        assert benchmark_tables.value(newest, name) is not None, name
    for path in RESULTS:
        found = json.loads(path.read_text(encoding="utf-8"))
        for name in tables:
            rows = benchmark_tables.SHOWN[name](found[name])
            assert len({len(row) for row in rows}) == 1 and (len(rows) > 1 or name == "skipped")
        for part in ("tabular", "shared_features", "tokens"):
            for row in found[part]:
                assert {"rlvrlib"} < set(row["contenders"]) and (
                    bench.REFERENCE in row["contenders"] or row["runs"] > bench.LOOPED
                )
                assert all(c["difference"] <= bench.TOLERANCE for c in row["contenders"].values())
        assert set(found["machine"]) == {
            "processor",
            "cores",
            "vector_units",
            "system",
            "python",
        }  # and no name of a host


def test_two_digits() -> None:
    assert [benchmark_tables.short(v) for v in (0, 0.0123, 1234.5, 1.26e8, 3.2e-16, "x")] == [
        "0",
        "0.012",
        "1,200",
        "1.3e+08",
        "3.2e-16",
        "x",
    ]


def test_what_mutmut_takes_is_there() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "mutmut"
    ]
    for name in MUTATED:
        for path in settings[name]:
            assert list(ROOT.glob(path)), f"{name}: {path}"
