"""What ``rlvr plan`` says was measured: the ends of the GRPO runs and the exponent of the critical
step, from ``notebooks/data``.

    python measurements/measured_rates.py

writes ``rlvrlib/practice/measured_rates.json``. Seconds; a test compares the two.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rlvrlib.practice.run_log import read_log
from rlvrlib.scaling import median_exponent

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "notebooks" / "data"
LAST_STEPS = 8  # as in the notebook grpo_runs


def trained() -> list[dict[str, Any]]:
    """One entry for each setting whose rate is constant."""
    config = yaml.safe_load((ROOT / "measurements" / "grpo_runs.yml").read_text(encoding="utf-8"))
    found = []
    for name, own in config["runs"].items():
        settings = config["common"] | own
        if settings["lr_scheduler_type"] != "constant":
            continue
        rewards = [read_log(file)["reward"] for file in sorted(DATA.glob(f"grpo/{name}-seed*"))]
        found.append(
            {
                "method": settings["loss_type"],
                "length": settings["max_completion_length"],
                "rate": settings["learning_rate"],
                "untrained": round(float(np.mean([reward[0] for reward in rewards])), 4),
                "ends": [round(float(reward[-LAST_STEPS:].mean()), 4) for reward in rewards],
            }
        )
    return sorted(found, key=lambda run: (run["method"], -run["length"], run["rate"]))


def single_steps() -> dict[str, Any]:
    """The power law of the notebook language_model: lengths that all prompts have."""
    with open(DATA / "language_model.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "length"]
    prompts = sorted({(row["family"], row["wording"]) for row in rows})
    steps = {
        (row["family"], row["wording"], int(row["length"])): float(row["critical_step"])
        / float(row["alignment"])
        for row in rows
    }
    lengths = [
        length
        for length in sorted({key[2] for key in steps})
        if length > 1 and all((*prompt, length) in steps for prompt in prompts)
    ]
    table = np.array([[steps[*prompt, length] for length in lengths] for prompt in prompts])
    law = median_exponent(lengths, table, rng=np.random.default_rng(0))
    return {
        "prompts": len(prompts),
        "lengths": [int(size) for size in law.sizes],
        "exponent": round(float(law.exponent), 2),
        "low": round(float(law.low), 2),
        "high": round(float(law.high), 2),
    }


def main() -> None:
    table = {
        "about": "SmolLM2-135M, sums of two digits, 16 responses a step, "
        f"24 steps; mean reward of the last {LAST_STEPS}",
        "runs": trained(),
        "single_steps": single_steps(),
    }
    target = ROOT / "rlvrlib" / "practice" / "measured_rates.json"
    target.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
