"""The committed logs of the GRPO runs: whole, made by the configuration beside the script, and read
rightly by the diagnosis.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from rlvrlib.practice import verdicts as v
from rlvrlib.practice.diagnosis import diagnose
from rlvrlib.practice.run_log import from_rows, read_log

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks" / "data" / "grpo"
CONFIG = yaml.safe_load((ROOT / "measurements" / "grpo_runs.yml").read_text(encoding="utf-8"))
LOGS = sorted(FOLDER.glob("*-seed*.json"))
RAMPS = [path for path in LOGS if path.name.startswith("ramp")]


def rows_of(path: Path) -> list[dict[str, float]]:
    return [
        row
        for row in json.loads(path.read_text(encoding="utf-8"))["log_history"]
        if "reward" in row
    ]


def judged(rows: list[dict[str, float]]) -> object:
    return diagnose(from_rows(rows), method="dr_grpo", group_size=8, cut_counts=True)


def test_every_run_of_the_configuration_is_there() -> None:
    found = {path.stem.rpartition("-seed")[0] for path in LOGS}
    assert found == set(CONFIG["runs"])


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_a_log_is_what_the_configuration_makes(path: Path) -> None:
    settings = CONFIG["common"] | CONFIG["runs"][path.stem.rpartition("-seed")[0]]
    rows = rows_of(path)
    assert [row["step"] for row in rows] == list(range(1, settings["max_steps"] + 1))
    cap = settings["max_completion_length"]
    assert max(row["completions/max_length"] for row in rows) <= cap
    rates = np.array([row["learning_rate"] for row in rows])
    if "warmup_steps" in settings:
        expected = settings["learning_rate"] * np.arange(len(rows)) / settings["warmup_steps"]
    else:
        expected = np.full(len(rows), settings["learning_rate"])
    assert rates == pytest.approx(expected)
    sixteenths = 16 * np.array([row["reward"] for row in rows])
    assert sixteenths == pytest.approx(np.round(sixteenths))
    log = read_log(path)
    assert log["reward"] == pytest.approx([row["reward"] for row in rows])


def test_the_summary_is_that_of_the_logs() -> None:
    with open(FOLDER / "summary.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    expected = [(path, row) for path in LOGS for row in rows_of(path)]
    assert len(lines) == len(expected)
    for line, (path, row) in zip(lines, expected, strict=True):
        assert f"{line['run']}-seed{line['seed']}" == path.stem and int(line["step"]) == row["step"]
        for name in ("reward", "grad_norm", "completions/mean_length"):
            assert float(line[name]) == pytest.approx(row[name], rel=1e-5)


def test_the_provenance_names_what_made_them() -> None:
    facts = json.loads((FOLDER / "provenance.json").read_text(encoding="utf-8"))
    assert facts["configuration"] == CONFIG and set(facts["seconds"]) == {
        path.stem for path in LOGS
    }
    assert {"torch", "transformers", "trl", "Python"} <= set(facts["versions"])


@pytest.mark.parametrize("path", RAMPS, ids=lambda path: path.stem)
def test_a_rate_that_rises_too_far_is_called_a_fall(path: Path) -> None:
    rows = rows_of(path)
    assert judged(rows).verdict in v.FALLEN
    backwards = judged([{**row, "step": place + 1} for place, row in enumerate(rows[::-1])])
    assert backwards.verdict not in v.FALLEN


def test_most_short_logs_are_decided_and_none_blames_the_verifier() -> None:
    logs = [path for path in LOGS if path not in RAMPS and "grpo_" not in path.stem]
    found = [diagnose(read_log(path), optimizer="gradient", method="dr_grpo") for path in logs]
    assert len(found) == 18 and all(one.verdict != v.VERIFIER for one in found)
    open_ones = [one for one in found if one.verdict == v.UNDECIDED]
    assert len(open_ones) <= 4
    assert all("24 rows" in one.headline and "--" in one.do_first for one in open_ones)


def test_the_table_of_the_chapter_is_what_the_logs_give() -> None:
    page = (ROOT / "book" / "grpo_runs.md").read_text(encoding="utf-8")
    rows = page.partition("| runs | what happened |")[2].partition("\n\n")[0].splitlines()[2:]
    seen = 0
    for runs, _, verdicts, warned in (line.strip("|").split("|") for line in rows):
        logs = [path for name in re.findall(r"`(\w+)`", runs) for path in FOLDER.glob(f"{name}-*")]
        found = [diagnose(read_log(path), optimizer="sgd") for path in logs]
        counted = {name.strip(): int(n) for name, n in re.findall(r"([\w -]+) \((\d)\)", verdicts)}
        assert counted == Counter(one.verdict for one in found)
        assert int(warned) == sum(one.warning is not None for one in found)
        seen += len(logs)
    assert seen == len(LOGS) - len(RAMPS)


@pytest.mark.parametrize("path", [p for p in LOGS if p not in RAMPS], ids=lambda path: path.stem)
def test_a_short_log_is_not_called_what_it_is_not(path: Path) -> None:
    """24 rows of 16 responses decide little; what they decide must be true."""
    rows = rows_of(path)
    collapsed = np.mean([row["reward"] for row in rows[-8:]]) < 0.1
    found = judged(rows).verdict
    assert found not in ({v.LEARNING, v.PLATEAU} if collapsed else {v.COLLAPSE, v.STARVED})


@pytest.mark.parametrize("path", RAMPS, ids=lambda path: path.stem)
def test_a_rate_that_grew_is_named(path):
    found = diagnose(read_log(path), method="dr_grpo", group_size=8, cut_counts=True)
    grown = [line for line in found.supports if line.startswith("the learning rate went from")]
    before, after = (float(number) for number in re.findall(r"(?:from|to) ([\d.]+) \(", grown[0]))
    assert after > 1.25 * before and "The learning rate" in found.headline
