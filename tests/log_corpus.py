"""Training logs in every format, good and bad, written by the tests themselves."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np

Row = dict[str, Any]


def rows(
    count: int = 60, seed: int = 0, level: Callable[[Any], Any] = lambda k: 0.3 + 0.4 * k
) -> list[Row]:
    """TRL's rows of a run whose success rate is ``level`` of the share of the run that is over."""
    rng = np.random.default_rng(seed)
    success = level(np.arange(count) / count)
    return [
        {
            "step": step + 1,
            "loss": float(rng.normal(0, 0.01)),
            "grad_norm": float(rng.uniform(0.5, 1.5)),
            "learning_rate": 1e-6,
            "reward": float(rng.binomial(64, success[step]) / 64),
            "frac_reward_zero_std": 0.25,
            "completions/mean_length": float(rng.normal(300, 20)),
            "completions/clipped_ratio": 0.02,
        }
        for step in range(count)
    ]


def trainer_state(log: list[Row]) -> str:
    history = [*log, {"step": log[-1]["step"], "train_runtime": 12.0}]
    return json.dumps({"epoch": 1.0, "log_history": history, "global_step": len(log)}, indent=2)


def console(log: list[Row]) -> str:
    lines = [
        "Loading checkpoint shards: 100%",
        *(str({key: str(value) for key, value in row.items()}) for row in log),
    ]
    lines[2] = f" 1%|1         | 1/500 [00:10<1:00:00]{lines[2]}"
    return "\n".join(lines)


VERL = {
    "reward": "critic/score/mean",
    "completions/mean_length": "response_length/mean",
    "grad_norm": "actor/grad_norm",
    "learning_rate": "actor/lr",
    "completions/clipped_ratio": "response_length/clip_ratio",
}


def verl_row(row: Row) -> Row:
    return {VERL[key]: value for key, value in row.items() if key in VERL}


def verl_lines(log: list[Row]) -> str:
    return "\n".join(json.dumps({"step": row["step"], "data": verl_row(row)}) for row in log)


def verl_console(log: list[Row], rate: str = "1e-06") -> str:
    lines = []
    for row in log:
        data = {
            **verl_row(row),
            "actor/lr": rate,
            "critic/score/mean": f"np.float64({row['reward']})",
        }
        pairs = " - ".join(f"{key}:{value}" for key, value in data.items())
        lines.append(f"\x1b[36m(TaskRunner pid=7)\x1b[0m step:{row['step']} - {pairs}")
    return "\n".join(lines)


def table(log: list[Row], names: dict[str, str] | None = None) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, [(names or {}).get(key, key) for key in log[0]])
    writer.writeheader()
    writer.writerows(
        [{(names or {}).get(key, key): value for key, value in row.items()} for row in log]
    )
    return file.getvalue()


def wandb_export(log: list[Row], run: str = "my-run") -> str:
    names = {key: "Step" if key == "step" else f"{run} - train/{key}" for key in log[0]}
    text = table(log, names).splitlines()
    extra = [f'"{run} - train/reward__MIN"', *[str(row["reward"] - 1) for row in log]]
    return "\n".join(f"{line},{more}" for line, more in zip(text, extra, strict=True))


def wandb_history(log: list[Row]) -> str:
    def name(key: str) -> str:
        return "_step" if key == "step" else f"train/{key}"

    return "\n".join(
        json.dumps({"_runtime": 1.0, **{name(key): value for key, value in row.items()}})
        for row in log
    )


FORMATS: dict[str, Callable[[list[Row]], str]] = {
    "trainer_state": trainer_state,
    "array": lambda log: json.dumps(log),
    "indented array": lambda log: json.dumps(log, indent=1),
    "json lines": lambda log: "\n".join(map(json.dumps, log)),
    "console": console,
    "verl lines": verl_lines,
    "verl console": verl_console,
    "csv": table,
    "tab": lambda log: table(log).replace(",", "\t"),
    "wandb csv": wandb_export,
    "wandb history": wandb_history,
}

HOSTILE = "<script>alert(1)</script>\"'&\x00\u202e"

# Files that are no proper log. Every one must give a diagnosis or a one-line error.
BAD: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n\n \n",
    "binary": bytes(range(256)) * 50,
    "not utf-8": trainer_state(rows()).encode().replace(b"epoch", b"\xff\xfe\xe9poch"),
    "utf-16": table(rows()).encode("utf-16"),
    "bom": b"\xef\xbb\xbf" + table(rows()).encode(),
    "prose": b"This is not a log.\nNeither is this, at all.\n",
    "number": b"42",
    "null": b"null",
    "brackets": b"[" * 100_000,
    "braces": b'{"a":' * 50_000,
    "huge integer": b'[{"step": 1, "reward": ' + b"9" * 6000 + b"}]",
    "long exponent": b"step,reward\n1,1e400\n2,-1e400\n3,nan\n",
    "json nan": b'[{"step": 1, "reward": NaN}, {"step": 2, "reward": Infinity}, '
    b'{"step": 3, "reward": 0.5}]',
    "all nan": b"\n".join(b'{"step": %d, "reward": NaN}' % step for step in range(50)),
    "no reward": json.dumps(
        [{"step": k, "completions/mean_length": 3.0} for k in range(50)]
    ).encode(),
    "no length": json.dumps([{"step": k, "reward": 0.5} for k in range(50)]).encode(),
    "no step": json.dumps([{"reward": 0.5} for k in range(50)]).encode(),
    "step is text": json.dumps([{"step": "first", "reward": 0.5} for k in range(50)]).encode(),
    "decreasing": json.dumps(rows()[::-1]).encode(),
    "resumed": json.dumps([*rows()[:40], *rows(seed=1)[29:]]).encode(),
    "mixed": json.dumps([*rows(30), *rows(60, seed=1)]).encode(),
    "nested": json.dumps([{"step": 1, "reward": {"deep": {"deeper": [1, 2]}}}]).encode(),
    "hostile keys": json.dumps(
        [{**row, HOSTILE: 1.0, f"rewards/{HOSTILE.replace('/', '')}/mean": 0.5} for row in rows()]
    ).encode(),
    "hostile values": json.dumps([{**row, "learning_rate": HOSTILE} for row in rows()]).encode(),
    "code": b"{'reward': __import__('os').system('touch pwned'), 'step': 1}\n" * 30,
    "open quote": b'step,reward\n1,"0.5\n2,0.5\n3,0.5\n',
    "ragged": b"step,reward\n1,0.5\n2\n3,0.5,7\n\n4,0.25\n",
    "negative": json.dumps(
        [
            {**row, "reward": row["reward"] * 2 - 1, "grad_norm": -1.0, "learning_rate": -1e-6}
            for row in rows()
        ]
    ).encode(),
    "constant": json.dumps(
        [{"step": k, "reward": 1.0, "completions/mean_length": 0.0} for k in range(50)]
    ).encode(),
    "one row": b'{"step": 1, "reward": 0.5}\n',
    "a step for ever": json.dumps([{"step": 1, "reward": 0.5} for _ in range(50)]).encode(),
}
