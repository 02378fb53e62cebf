"""What was measured beside a plan: the table is that of the logs, and the sentences are its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from rlvrlib.practice.measured import measured, outcome, table
from rlvrlib.practice.planning import Setting

SCRIPT = Path(__file__).resolve().parent.parent / "measurements" / "measured_rates.py"
LONG, SHORT = Setting(32, 0.3, "dr_grpo"), Setting(8, 0.3, "dr_grpo")


def test_the_table_is_that_of_the_logs() -> None:
    spec = importlib.util.spec_from_file_location("measured_rates", SCRIPT)
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert table()["runs"] == script.trained()
    assert table()["single_steps"] == script.single_steps()


def test_the_rate_that_learned_at_32_tokens_failed_at_8() -> None:
    said = "\n".join(measured(LONG, SHORT, 0.08))
    assert "the rate 0.08, which learned, to 0.08, which failed: here it was too bold." in said
    at_8 = [run for run in table()["runs"] if (run["method"], run["length"]) == ("dr_grpo", 8)]
    assert [outcome(run) for run in at_8] == ["learned", "depended on the seed", "failed"]


def test_a_sum_is_the_same_run_at_another_rate() -> None:
    summed = [Setting(length, 0.3, "dr_grpo", aggregation="sum") for length in (32, 8)]
    said = "\n".join(measured(*summed, 0.0025))
    assert "rate 0.0025, which learned, to 0.01, which failed" in said
    assert "rate 0.005 depended on the seed" in said


@pytest.mark.parametrize("rate", [None, 1e-6])
def test_without_a_measured_rate_there_is_no_comparison(rate: float | None) -> None:
    said = "\n".join(measured(LONG, SHORT, rate))
    assert "rate 0.08 failed (0.00, 0.00, 0.00)" in said and "the plan carries" not in said


def test_the_runs_were_not_trained_with_adam() -> None:
    assert "Nothing was run with Adam." in "\n".join(measured(LONG, SHORT, 0.08, "adam"))


def test_nothing_is_said_where_nothing_was_measured() -> None:
    assert measured(Setting(512, 0.3, "grpo"), Setting(4096, 0.3, "grpo"), 1e-6) == ()
    assert measured(LONG, LONG, 0.08) == ()


def test_single_steps_stand_beside_the_guarantee() -> None:
    (line,) = [line for line in measured(SHORT, LONG) if line.startswith("Single steps")]
    steps = table()["single_steps"]
    assert f"times {0.25 ** -steps['exponent']:.2g}, where the guarantee has 0.25" in line
    assert steps["low"] < steps["exponent"] < steps["high"] < -1
