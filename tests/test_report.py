"""The report page and the two commands: complete, self-contained, and safe against what stands in a
log.
"""

from __future__ import annotations

import re
from pathlib import Path

import log_corpus as corpus
import numpy as np
import pytest
from bs4 import BeautifulSoup
from typer.testing import CliRunner

from rlvrlib.command.app import app
from rlvrlib.practice import report
from rlvrlib.practice.diagnosis import diagnose
from rlvrlib.practice.formats import known_formats
from rlvrlib.practice.planning import BESIDE
from rlvrlib.practice.run_log import from_rows

runner = CliRunner()


def falling():
    return corpus.rows(200, level=lambda k: np.where(k < 0.5, 0.7, 0.1))


def test_the_page_is_self_contained_and_says_everything():
    found = diagnose(from_rows(falling(), source="a run"), method="grpo", aggregation="sum")
    text = report.report([found])
    assert (
        not re.search(r"(?:src|href)=['\"]?(?!#|data:)\w", text)
        and "url(http" not in text
        and "<script" not in text
    )
    page = BeautifulSoup(text, "html.parser")
    plain = page.get_text()
    for sentence in (found.headline, *found.supports, *found.against, *found.advice, *found.notes):
        assert sentence.replace("`", "") in plain
    figures = page.find_all("svg")
    assert len(figures) == 3 and all(figure["aria-label"] for figure in figures)
    ids = [element["id"] for element in page.find_all(id=True)]
    assert len(ids) == len(set(ids))


def test_hostile_logs_stay_text():
    rows = [
        {**row, f"rewards/{corpus.HOSTILE.replace('/', '')}/mean": 0.5, corpus.HOSTILE: 1}
        for row in falling()
    ]
    found = [
        diagnose(
            from_rows(
                [{**row, "reward": factor * row["reward"]} for row in rows],
                source=corpus.HOSTILE,
                notes=[corpus.HOSTILE],
            )
        )
        for factor in (1, 1.5)
    ]
    page = BeautifulSoup(report.report(found), "html.parser")
    assert (
        not page.find_all("script") and corpus.HOSTILE.replace("\x00", "")[:20] in page.get_text()
    )
    assert (
        "\x1b" not in diagnose(from_rows(rows, source="\x1b[2J")).summary()
        and "\x00" not in found[0].summary()
    )


@pytest.mark.parametrize("name", corpus.BAD)
def test_every_bad_file_goes_through_the_command(tmp_path, name):
    path, page = tmp_path / "log", tmp_path / "page.html"
    path.write_bytes(corpus.BAD[name])
    result = runner.invoke(app, ["diagnose", str(path), "--html", str(page)])
    assert result.exit_code in (0, 2, 10) and (
        result.exception is None or isinstance(result.exception, SystemExit)
    )
    assert page.exists() == (result.exit_code != 2)


def test_no_reward_is_an_error_that_says_what_to_type(tmp_path):
    path = tmp_path / "log\x1b[31m.json"
    path.write_bytes(corpus.BAD["no reward"])
    result = runner.invoke(app, ["diagnose", str(path)])
    assert result.exit_code == 2 and "--column reward=" in result.output
    assert "completions/mean_length" in result.output and "\x1b" not in result.output


def test_several_logs_of_which_one_is_bad(tmp_path):
    good, bad, page = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "page.html"
    good.write_text(corpus.trainer_state(falling()))
    bad.write_text("nothing")
    result = runner.invoke(
        app, ["diagnose", str(good), str(bad), "--method", "grpo", "--html", str(page)]
    )
    assert (
        result.exit_code == 2
        and "verdict: fall" in result.output
        and "error: " in result.output
    )
    assert "good.json" in page.read_text() and "bad.json" not in page.read_text()


def test_options_reach_the_diagnosis(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("iteration,acc\n" + "\n".join(f"{k},{2 * (k % 3 == 0) - 1}" for k in range(60)))
    result = runner.invoke(
        app,
        [
            "diagnose",
            str(path),
            "--column",
            "step=iteration",
            "--column",
            "reward=acc",
            "--reward-range",
            "-1",
            "1",
            "--lr",
            "1e-6",
        ],
    )
    assert result.exit_code == 0 and "success rate" in result.output.splitlines()[1]
    for option in (
        ["--column", "reward"],
        ["--method", "ppo", "--column", "reward=acc"],
        ["--lr", "-1", "--column", "reward=acc"],
    ):
        assert runner.invoke(app, ["diagnose", str(path), *option]).exit_code == 2


def planned(*options: str):
    length = ["--from-length", "512", "--success", "0.3"]
    return runner.invoke(app, ["plan", *length, *options])


def test_plan_gives_factors_and_a_rate_only_from_a_run():
    longer = "--to-length", "4096", "--method", "dr_grpo"
    result = planned(*longer)
    assert result.exit_code == 0 and "No rate is given" in result.output
    said = result.output  # the cap is the divisor of this loss
    assert said.count("not known:") == 2 and said.count("not changed") == 3
    result = planned(*longer, "--aggregation", "sum", "--lr", "1e-6")
    assert "1.25e-07 with adamw, assumed has" in result.output
    assert planned(*longer, "--optimizer", "sgd", "--lr", "1e-6").output.count("1e-06") == 2
    result = planned("--to-success", "1.5")
    assert result.exit_code == 2 and "success_rate must be in (0, 1)" in result.output


def test_plan_says_which_optimizer_and_what_the_other_would_give():
    assert "with  adamw, assumed: moves of a fixed length" in planned().output
    assert "with --optimizer" not in planned().output  # nothing changes under either
    to_sum = "--aggregation", "mean", "--to-aggregation", "sum", "--lr", "1e-5"
    said = planned(*to_sum).output
    assert "1e-05 with adamw, assumed has" in said and "Warning" not in said
    assert "0.001953  in all with --optimizer sgd" in said
    said = planned(*to_sum, "--optimizer", "sgd").output
    assert "with  sgd: moves in proportion" in said and "1  in all with --optimizer adamw" in said
    assert "in all: 0.00195 is a factor above 8 in one direction" in said


def test_plan_answers_what_has_no_factor():
    names = {
        "mini_batches": ["--mini-batches", "--steps_per_generation", "--ppo_mini_batch_size"],
        "epochs": ["--epochs", "--num_iterations", "--ppo-epochs"],
        "lora_rank": ["--lora-rank", "--lora_r"],
        "beta": ["--beta", "--kl_loss_coef"],
        "clip_range": ["--clip-range", "--epsilon", "--clip_ratio"],
        "max_grad_norm": ["--max_grad_norm", "--grad-clip"],
        "batch_size": ["--batch-size", "--train_batch_size"],
    }
    assert set(names) == set(BESIDE)
    for name, spellings in names.items():
        answer = f"--{name.replace('_', '-')} 4: {BESIDE[name][0]} (see {BESIDE[name][1]})"
        assert all(answer in planned(spelling, "4").output for spelling in spellings)
    assert "Not in the factors" not in planned().output
    assert planned("--lora-rang", "4").exit_code == 2  # a slip is none of them


def test_pictures_of_a_long_run_stay_light():
    found = diagnose(from_rows(corpus.rows(5000)), method="grpo")
    assert len(report.report([found])) < 400_000


def test_help_names_every_option():
    for command in ("diagnose", "watch", "plan"):
        assert runner.invoke(app, [command, "--help"]).exit_code == 0


def test_the_lists_of_formats_come_from_the_registry():
    known = known_formats()
    screen = " ".join(runner.invoke(app, ["diagnose", "--help"]).output.replace("│", " ").split())
    root = Path(__file__).parent.parent
    page = (root / "book" / "diagnose_a_run.md").read_text(encoding="utf-8")
    rows = page.partition("| it reads |")[2].partition("\n\n")[0].splitlines()[2:]
    assert rows == [f"| {name} | {', '.join(trainers)} |" for name, trainers in known]
    for name, trainers in known:
        assert name in screen and all(trainer in screen for trainer in trainers)
    readme = (root / "README.md").read_text(encoding="utf-8")
    named = re.search(r"what a training log shows \((.*)\)", readme)[1].split(", ")
    assert set(named) <= {trainer for _, trainers in known for trainer in trainers}
