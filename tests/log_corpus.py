"""Training logs in every format, good and bad, written by the tests themselves."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pprint
import sqlite3
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


# What trainers call the reward, the length, the gradient norm and the rate.
NAMES: dict[str, tuple[str, str, str, str]] = {
    "trl": ("reward", "completions/mean_length", "grad_norm", "learning_rate"),
    "old trl": ("reward", "completion_length", "grad_norm", "learning_rate"),
    "openrlhf": ("reward", "response_length", "actor_grad_norm", "actor_lr"),
    "skyrl": (
        "reward/avg_raw_reward",
        "generate/avg_num_tokens",
        "policy/raw_grad_norm",
        "policy/policy_lr",
    ),
    "tinker": (
        "env/all/reward/total",
        "env/all/ac_tokens_per_turn",
        "optim/grad_norm",
        "optim/lr",
    ),
    "prime-rl": (
        "train/agg/all/agent/reward/mean",
        "train/agg/all/num_output_tokens/mean",
        "optim/grad_norm",
        "optim/lr",
    ),
    "open-instruct": ("objective/scores", "val/sequence_lengths", "optim/grad_norm", "lr"),
    "torchtune": ("rewards", "response_lengths", "grad_norm", "lr"),
    "nemo": ("train/reward", "train/mean_gen_tokens_per_sample", "train/grad_norm", "train/lr"),
    "by shape": ("reward_mean", "response_length_mean", "grad_norm", "lr"),
    "by hand": ("Avg Reward", "Average completion length", "Grad. Norm", "Learning Rate"),
}


def renamed(log: list[Row], trainer: str) -> list[Row]:
    """The four quantities of `NAMES` under a trainer's names, and the step."""
    return [
        {"step": row["step"]} | dict(zip(NAMES[trainer], four(row), strict=True)) for row in log
    ]


def four(row: Row) -> list[float]:
    return [row[key] for key in NAMES["trl"]]


def without_step(row: Row) -> Row:
    return {key: value for key, value in row.items() if key != "step"}


def swift(log: list[Row]) -> str:
    rows = [
        without_step(row) | {"global_step/max_steps": f"{row['step']}/60", "percentage": "5%"}
        for row in log
    ]
    closing = {"last_model_checkpoint": "x", "global_step": 60, "log_history": rows[:2]}
    return "\n".join(map(json.dumps, [*rows, closing]))


def slime(log: list[Row], steps: int = 1) -> str:
    """Lines of rollouts, and of one or several steps on each."""
    lines = []
    for number, row in enumerate(log):
        reward, length, norm, rate = four(row)
        actor = "(MegatronTrainRayActor pid=1) [2026-04-15 07:59:01]"
        rollout = {"rollout/raw_reward": reward, "rollout/response_lengths": length}
        lines.append(f"{actor} data.py:259 - rollout {number}: {rollout}")
        for step in range(number * steps, (number + 1) * steps):
            train = {"train/grad_norm": norm, "train/lr-pg_0": rate, "train/step": step}
            lines.append(f"{actor} model.py:429 - step {step}: {train}")
    return "\n".join(lines)


def easyr1(log: list[Row]) -> list[Row]:
    return [
        {
            "step": row["step"],
            "actor": {"grad_norm": row["grad_norm"], "lr": row["learning_rate"]},
            "critic": {"score": {"mean": row["reward"], "max": 1.0, "min": 0.0}},
            "response_length": {"mean": row["completions/mean_length"]},
        }
        for row in log
    ]


def easyr1_console(log: list[Row]) -> str:
    lines = []
    for row in easyr1(log):
        lines += [
            f"Step {row['step']}",
            "actor:",
            *(f"  {key}: {value}" for key, value in row["actor"].items()),
            "critic:",
            "  score:",
            *(f"    {key}: {value}" for key, value in row["critic"]["score"].items()),
            "response_length:",
            f"  mean: {row['response_length']['mean']}",
        ]
    return "\n".join(f"(Runner pid=12) {line}" for line in lines)


def skyrl_console(log: list[Row]) -> str:
    lines = []
    for row in renamed(log, "skyrl"):
        data = pprint.pformat({k: str(v) for k, v in without_step(row).items()}, width=40)
        lines.append(
            f"2026-01-02 03:04:05.678 | INFO | tracking:188 - Step {row['step']}: \n{data}"
        )
    return "\n".join(lines)


def nemo_console(log: list[Row]) -> str:
    lines = ["Setting up", "  • Loss function: clipped"]
    for row in log:
        reward, length, norm, rate = four(row)
        lines += [
            f"{'=' * 25} Step {row['step']}/60 {'=' * 25}",
            "▶ Generating responses...",
            "\U0001f4ca Validation Results:",
            "    • Accuracy: 0.2500",
            "    • Average response length: 9.0 tokens",
            "\U0001f4ca Training Results:",
            f"  • Avg Reward: {reward!r}",
            f"  • Mean Generation Length: {length!r}",
            f"  • Grad Norm: {norm!r}",
            f"  • Learning Rate: {rate!r}",
            "⏱️  Timing:",
            "  • Total step time: 12.30s",
        ]
    return "\n".join(lines)


def table_of(log: list[Row], delimiter: str, rule: str = "", edge: str = "") -> str:
    """A table as Jupyter copies it, with spaces around the slash."""
    lines = [delimiter.join(str(cell) for cell in row.values()) for row in log]
    lines.insert(0, delimiter.join(key.replace("/", " / ") for key in log[0]))
    if rule:
        lines.insert(1, delimiter.join([rule] * len(log[0])))
    return "\n".join(edge + line + edge for line in lines)


def tinker_console(log: list[Row]) -> str:
    lines = []
    for row in renamed(log, "tinker"):
        lines += [f"   Step {row['step']}   ", "┏━━━┳━━━┓"]
        lines += ["┃ Metric ┃ Value ┃", "┡━━━╇━━━┩"]
        lines += [f"│ {key} │ {value!r} │" for key, value in without_step(row).items()]
        lines += ["└───┴───┘"]
    return "\n".join(lines)


def html_table(log: list[Row]) -> str:
    head = "".join(f"<th>{key}</th>" for key in log[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in row.values()) + "</tr>" for row in log
    )
    return (
        f"<div>[60/60 01:00]</div><table border='1' class='dataframe'><thead><tr>{head}</tr>"
        f"</thead><tbody>{body}</tbody></table><p>"
    )


def notebook(log: list[Row]) -> str:
    output = {
        "output_type": "display_data",
        "data": {"text/html": html_table(log).splitlines(True), "text/plain": ["<object>"]},
    }
    noise = {"output_type": "stream", "name": "stdout", "text": ["Loading, please wait: 3\n"]}
    cells = [
        {"cell_type": "markdown", "source": ["# GRPO"], "metadata": {}},
        {"cell_type": "code", "source": ["x"], "metadata": {}, "outputs": [noise, output]},
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def mlflow(log: list[Row]) -> str:
    lines = ["run_id,key,value,step,timestamp"]
    for row in log:
        for key, value in without_step(row).items():
            lines.append(f"a1b2,train/{key},{value!r},{row['step']},17000")
    return "\n".join(lines)


def columns(log: list[Row]) -> dict[str, list[Any]]:
    return {key: [row[key] for row in log] for key in log[0]}


def trackio(log: list[Row]) -> bytes:
    """The database of a project with two runs, of which the other one is short."""
    database = sqlite3.connect(":memory:")
    database.execute("create table metrics (id integer primary key, run_name, step, metrics)")
    for number, row in enumerate(log):
        entry = {f"train/{key}": value for key, value in without_step(row).items()}
        entry["train/global_step"] = row["step"]
        values = ("one", number, json.dumps(entry).encode())
        database.execute("insert into metrics (run_name, step, metrics) values (?, ?, ?)", values)
    return database.serialize()


def ranks(log: list[Row]) -> str:
    """Four processes that print the same steps, in turn and not in order."""
    lines = []
    for row in log:
        for rank in (2, 0, 3, 1):
            lines.append(f"[rank{rank}]: {row | {'reward': row['reward'] + (rank - 1.5) / 8}}")
    return "\n".join(lines)


def filled(line: str) -> Callable[[list[Row]], str]:
    """A line for each row, with the step and the four quantities put in."""

    def text(log: list[Row]) -> str:
        return "\n".join(line.format(row["step"], *map(repr, four(row))) for row in log)

    return text


FORMATS: dict[str, Callable[[list[Row]], str | bytes]] = {
    "trainer_state": trainer_state,
    "array": lambda log: json.dumps(log),
    "indented array": lambda log: json.dumps(log, indent=1),
    "columns": lambda log: json.dumps(columns(log)),
    "history": lambda log: json.dumps({"config": {"lr": 1}, "history": log}),
    "history of columns": lambda log: json.dumps({"args": [1], "history": columns(log)}),
    "by number": lambda log: json.dumps({row["step"]: without_step(row) for row in log}),
    "json lines": lambda log: "\n".join(map(json.dumps, log)),
    "packed": lambda log: gzip.compress("\n".join(map(json.dumps, log)).encode()),
    "json over several lines": lambda log: "\n".join(json.dumps(row, indent=2) for row in log),
    "console": console,
    "carriage returns": lambda log: "\r".join(map(str, log)),
    "dictionaries over several lines": lambda log: "\n".join(
        pprint.pformat(row, width=30) for row in log
    ),
    "question before the log": lambda log: "\n".join(
        ["Hi, my reward stays at 0.3, why? Here it is, with loss:", *map(str, log)]
    ),
    "python logging": lambda log: "\n".join(
        f"2026-04-17 14:29:31,835 [INFO] pilot, rank 0: {row}" for row in log
    ),
    "tensors": lambda log: "\n".join(
        str({key: f"@{value}@" for key, value in row.items()})
        .replace("'@", "tensor([")
        .replace("@'", "], device='cuda:0')")
        for row in log
    ),
    "verl lines": verl_lines,
    "verl console": verl_console,
    "ray's banner": lambda log: (
        "2025-11-30 22:49:18,123\tINFO worker.py:1832 -- Started a local Ray instance, at 1.2\n"
        + verl_console(log)
    ),
    "csv": table,
    "semicolons": lambda log: table(log).replace(",", ";"),
    "tab": lambda log: table(log).replace(",", "\t"),
    "sentence before a csv": lambda log: "This is it, as exported:\n\n" + table(log),
    "jupyter with tabs": lambda log: table_of(log, "\t"),
    "jupyter with pipes": lambda log: table_of(log, " | ", "--"),
    "markdown": lambda log: table_of(log, " | ", ":--", "|"),
    "web page": html_table,
    "notebook": notebook,
    "wandb csv": wandb_export,
    "wandb history": wandb_history,
    "mlflow": mlflow,
    "trackio": trackio,
    "ms-swift": swift,
    "slime": slime,
    "easyr1": lambda log: "\n".join(map(json.dumps, easyr1(log))),
    "easyr1 console": easyr1_console,
    "skyrl console": skyrl_console,
    "openrlhf console": lambda log: "\n".join(
        f"INFO 01-02 03:04 ppo.py:547] ✨ Global step {row['step']}: {without_step(row)}"
        for row in renamed(log, "openrlhf")
    ),
    "nemo console": nemo_console,
    "tinker console": tinker_console,
    "prime-rl console": filled(
        "03:04:05 SUCCESS Step {} |   12.3s | Reward {} | Seq. Length {} tokens/sample | "
        "Grad. Norm {} | LR {} | Truncation 2.0%\n"
        "Evaluated math (Step 1) | Policy v3 | Reward 0.9999"
    ),
    "torchtune": filled(
        "Step {} | rewards:{} response_lengths:{} grad_norm:{} lr:{} num_stop_tokens:12 "
    ),
    "mlx-lm-lora": filled(
        "Iter {}: Train loss 0.1, Total rewards mean {}, Total rewards std 0.1, Completion length "
        "{}, Grad norm {}, Learning Rate {}, It/sec 0.025, Peak mem 34.7 GB"
    ),
    "nanochat": filled(
        "Step {}/467 | Average reward: {} | Average sequence length: {} | grad norm: {} | lr: {}"
    ),
    "key=value": filled("[Step {}/300] reward_avg={} avg_response_len={} grad_norm={} lr={}"),
    "logfmt": filled("level=info step={} reward={} response_length={} grad_norm={} lr={} msg=ok"),
    "key: value": filled(
        "Epoch:[1/1]({}/9751), Reward: {}, Avg Response Len: {}, Grad norm: {}, Learning Rate: {}"
    ),
    "torchforge": filled(
        "=== [GlobalReduce] - METRICS STEP {} ===\n  rollout/reward: {}\n  generation_length: {}"
        "\n  trainer/grad_norm: {}\n  trainer/lr: {}"
    ),
    "ranks": ranks,
    **{
        f"names of {trainer}": lambda log, trainer=trainer: "\n".join(
            map(json.dumps, renamed(log, trainer))
        )
        for trainer in NAMES
    },
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
