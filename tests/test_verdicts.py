"""Verdicts and the sentences around them: recorded cases (RLVR_LOG_CASES), and small logs of each
kind of fault in other names, units and lengths.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import log_corpus as corpus
import numpy as np
import pytest
from typer.testing import CliRunner

from rlvrlib.command.app import app
from rlvrlib.practice.diagnosis import Diagnosis, diagnose
from rlvrlib.practice.records import failed_record
from rlvrlib.practice.run_log import from_rows, read_log
from rlvrlib.practice.verdicts import (
    BROKEN,
    COLLAPSE,
    FALL,
    FALLEN,
    LEARNING,
    PLATEAU,
    SOLVED,
    STARVED,
    TRUNCATION,
    UNDECIDED,
    VERDICTS,
)

runner = CliRunner()

# ---- recorded cases: the verdict, what must be said, and what was said and is false

CASES_FOLDER = os.environ.get("RLVR_LOG_CASES", "")
RIGHT_OR_WRONG = ("always right or always wrong", "every response is right", "is wrong")
CASES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "01": (LEARNING, ("from -0.29",), ("success rate rose",)),
    "02": (TRUNCATION, ("256 tokens", "max_completion_length"), ("easier prompts",)),
    "03": (TRUNCATION, ("256 tokens", "max_completion_length"), ("easier prompts",)),
    "04": (LEARNING, (), ()),
    "05": (PLATEAU, ("averaged with it: 600",), ("success rate stays",)),
    "07": (LEARNING, ("run from -1 to 1", "from 0.06"), ("success rate rose", "is 0.08")),
    "09": (COLLAPSE, ("The length", "entropy"), ("0.0 times", "nothing that a log")),
    "11": (LEARNING, (), ()),
    "12": (LEARNING, ("solved", "harder prompts"), ("Halve", "Plateau", "cut")),
    "13": (LEARNING, ("0 or 2", "from 0.27", "to 0.68"), ()),
    "14": (TRUNCATION, ("200 tokens",), ("Halve",)),
    "17": (STARVED, ("no response is right",), ()),
    "19": (BROKEN, ("from step 105 on", "checkpoint before step 105"), ()),
    "20": (STARVED, ("0.20 in every row",), RIGHT_OR_WRONG),
    "21": (STARVED, ("-3.00 in every row",), (*RIGHT_OR_WRONG, "is 0.00")),
    "22": (STARVED, ("4.00 in every row",), (*RIGHT_OR_WRONG, "solved", "is 1.00")),
    "23": (FALL, ("The loss",), ("success rate fell",)),
    "24": (PLATEAU, ("stays at -1.8",), ("success rate rises",)),
    "27": (LEARNING, (), ()),
    "28": (STARVED, ("no response is right",), ()),
    "30": (LEARNING, (), ()),
    "31": (LEARNING, (), ()),
    "32": (LEARNING, (), ("success rate rose",)),
    "34": (LEARNING, ("cut responses rose from", "Raise the cap"), ("Nothing needs",)),
    "37": (FALL, ("does not show why", "from 0.72", "to 0.40"), ("too long", "vershoot")),
    "38": (PLATEAU, ("'gt_match_rate' 0.74", "no success rate"), ("success rate stays",)),
    "39": (LEARNING, (), ("success rate rose",)),
    "40": (LEARNING, (), ("success rate rose",)),
    "42": (LEARNING, (), ("success rate rose",)),
    "43": (PLATEAU, (), ()),
    "44": (LEARNING, (), ("success rate rose",)),
    "45": (LEARNING, (), ("success rate rose",)),
}


@pytest.mark.skipif(
    not CASES_FOLDER or not Path(CASES_FOLDER).is_dir(),
    reason="RLVR_LOG_CASES does not name the folder with the recorded cases (they are not part of "
    "this repository)",
)
@pytest.mark.parametrize("number", CASES)
def test_recorded_cases_are_judged(number):
    (path,) = Path(CASES_FOLDER).glob(f"{number}_*")
    found, (verdict, said, false) = diagnose(read_log(path)), CASES[number]
    assert found.verdict == verdict
    text = found.summary()
    assert [words for words in said if words not in text] == []
    assert [words for words in false if words in text] == []


# ---- kinds of faults

RNG = np.random.default_rng(7)


def log(count: int = 60, **columns: object) -> Diagnosis:
    """The diagnosis of a log with these columns: numbers, or functions of the share of the run."""
    share = np.arange(count) / count
    made = {
        name.replace("__", "/"): np.broadcast_to(
            np.asarray(value(share) if callable(value) else value, dtype=float), count
        )
        for name, value in columns.items()
    }
    rows = [{"step": k, **{name: float(v[k]) for name, v in made.items()}} for k in range(count)]
    return diagnose(from_rows(rows))


def noisy(level, scatter=0.03):
    """A course with noise around it."""
    return lambda share: level(share) + RNG.normal(0, scatter, len(share))


def flat(value, scatter=0.03):
    return noisy(lambda share: value + 0 * share, scatter)


@pytest.mark.parametrize(
    "columns",
    [
        {"critic__score__mean": -1, "response_length__mean": 99, "response_length__clip_ratio": 1},
        {"reward": 0.0, "completions__mean_length": 512, "grad_norm": 0.0},
        {"Reward": flat(-0.3), "Avg Response Len": 768},
        {"reward_mean": flat(0.1), "response_length_mean": flat(900, 9), "truncated_ratio": 0.8},
    ],
)
def test_cut_responses_come_before_a_lack_of_signal(columns):
    found = log(**columns)
    assert found.verdict == TRUNCATION and "cap" in found.do_first
    assert "easier prompts" not in found.summary()


def test_a_constant_length_that_no_cap_can_be_is_not_cut():
    found = log(reward=0.0, completion_length=748.11, reward_std=0.0)
    assert found.verdict == STARVED and "every response gets the least" in found.headline
    answers = log(accuracy=1.0, length=4, reward_std=0.0)  # all of one length, and right
    assert "cut" not in answers.summary() and "solved" in answers.headline


@pytest.mark.parametrize("level", [0.1, 0.5, 7.0, -0.25])
def test_a_constant_reward_is_what_it_is(level):
    found = log(40, reward=level, reward_std=0.0, grad_norm=0.0, length=flat(100, 5))
    assert found.verdict == STARVED and f"{level:.2f} in every row" in found.headline
    assert not any(words in found.summary() for words in RIGHT_OR_WRONG)


def test_broken_numbers_are_the_first_sentence():
    odd = {"actor__pg_loss": lambda s: np.where(s < 0.6, 0.1, np.nan)}
    stays = log(50, critic__score__mean=flat(0.4), **odd)
    assert stays.verdict == BROKEN and stays.headline.startswith("Broken numbers: loss is")
    assert "from step 30 on" in stays.headline and stays.status == 10
    falls = log(50, score=noisy(lambda s: np.where(s < 0.6, 0.6, 0.0), 0.001), **odd)
    assert falls.verdict == BROKEN and "fell from 0.60" in falls.headline
    once = log(
        100, reward=noisy(lambda s: 0.2 + s), grad_norm=lambda s: np.where(s == 0.3, np.inf, 1)
    )
    assert once.verdict == LEARNING and "in 1 row, first at step 30" in once.against[0]
    never_logged = log(100, reward=noisy(lambda s: 0.2 + s), kl=np.nan)
    assert never_logged.verdict == LEARNING


def test_a_fall_names_what_moved_and_no_cause():
    fallen = noisy(lambda s: np.where(s < 0.5, 2.5, -1.5), 0.3)
    quiet = log(200, total_reward=fallen, response_len=flat(300, 9), grad_norm=flat(1, 0.1))
    assert quiet.verdict in FALLEN and "does not show why" in quiet.headline
    assert "too long" not in quiet.summary() and quiet.do_first.startswith("Look at what")
    alone = log(200, total_reward=fallen)
    assert "it holds nothing that could" in alone.headline
    shrunk = log(
        200,
        total_reward=fallen,
        response_len=noisy(lambda s: np.where(s < 0.48, 800, 20), 2),
        grad_norm=flat(1, 0.1),
    )
    assert shrunk.verdict in FALLEN and "The length moved" in shrunk.headline
    assert any("a reading of this, not a proof" in sentence for sentence in shrunk.supports)
    assert not any("gap" in sentence for sentence in shrunk.against)
    for found in (quiet, shrunk):
        assert "from 2." in found.headline and "success rate" not in found.headline


def test_a_fall_into_the_cap_says_so():
    found = log(
        200,
        reward=noisy(lambda s: np.where(s < 0.6, 0.7, 0.2)),
        response_length=noisy(lambda s: np.where(s < 0.6, 300, 990), 3),
        clip_ratio=0.2,
        truncated=lambda s: np.where(s < 0.6, 0.01, 0.8),
    )
    assert found.verdict in FALLEN and "grew into the cap" in found.headline
    assert "checkpoint before" in found.do_first and "Raise the cap" in found.advice[1]


def test_the_pressure_is_no_evidence_against_a_fall():
    rows = corpus.rows(200, level=lambda k: np.where(k < 0.5, 0.7, 0.1))
    found = diagnose(from_rows(rows))
    assert found.verdict == FALL and not any("pressure" in text for text in found.against)


def test_a_rise_within_three_rows_is_learning_in_any_unit():
    def course(share):
        start = [-0.7, 0.1, 0.5]
        return np.append(start, RNG.normal(0.8, 0.05, len(share) - 3))

    found = log(40, reward=course)
    assert found.verdict == LEARNING and "from -0." in found.supports[0]


def test_rewards_that_are_repeated_do_not_count_row_by_row():
    rng, found = np.random.default_rng(11), []
    for _ in range(40):
        blocks = rng.binomial(8, rng.beta(0.5, 0.5, 10)) / 8
        found.append(log(80, reward=np.repeat(blocks, 8)).verdict)
    assert sum(verdict in FALLEN for verdict in found) <= 2


def test_rare_single_answers_are_not_called_learning():
    rng = np.random.default_rng(12)
    found = [log(80, reward=rng.binomial(1, 0.1, 80)).verdict for _ in range(60)]
    assert sum(verdict == LEARNING for verdict in found) <= 6


def test_what_else_moved_stands_beside_any_verdict():
    lost = log(12, reward=flat(0.5), response_length=lambda s: np.where(s < 0.5, 900, 200))
    ((_, said),) = [pair for pair in lost.sections if pair[0] == "What else moved"]
    assert "length from 900 to 200, known at step 7" in said and lost.record()["notices"]


def test_solved_is_no_plateau_and_needs_a_known_range():
    def noise(share):
        return 1 - RNG.uniform(0, 0.002, len(share))

    assert log(100, accuracy=noise, loss=flat(0)).verdict == SOLVED
    assert "if 1 is the most" in log(100, reward=noise, loss=flat(0)).headline
    assert log(100, reward=lambda s: 4 * noise(s), loss=flat(0)).verdict == PLATEAU
    found = log(100, accuracy=lambda s: np.where(s < 0.1, 0.5, 1.0) - RNG.uniform(0, 0.005, 100))
    assert found.verdict == LEARNING and "solved" in found.headline
    assert "harder prompts" in found.do_first and "Halve" not in found.summary()


def test_learning_is_not_left_alone_where_something_is_wrong():
    rising = noisy(lambda s: 0.2 + 0.4 * s)
    longer = noisy(lambda s: 300 + 2000 * s, 20)
    cut = log(100, reward=rising, response_length=longer, truncated=lambda s: 0.3 * s)
    assert cut.verdict == LEARNING and "cut responses rose" in cut.against[0]
    stuck = log(
        100,
        reward=rising,
        rewards__correctness_reward_func__mean=0.0,
        rewards__format_reward_func__mean=rising,
    )
    assert stuck.verdict == LEARNING and "stays at 0 in 100%" in " ".join(stuck.against)
    silent = log(
        200,
        reward=noisy(lambda s: 0.2 + 0.4 * np.minimum(1, 4 * s)),
        frac_reward_zero_std=noisy(lambda s: np.minimum(0.95, 0.3 + 3 * s)),
        entropy=lambda s: 0.6 * np.exp(-8 * s),
    )
    assert silent.verdict == LEARNING and len(silent.against) == 2
    assert "have no spread" in silent.against[0] and "entropy went" in silent.against[1]
    for found in (cut, stuck, silent):
        assert "Nothing needs to change" not in found.summary()


def test_a_mean_in_the_unit_interval_is_called_a_success_rate_only_if_something_says_so():
    rising = noisy(lambda s: 0.2 + 0.4 * s)
    for columns, noun in (
        ({"reward": rising}, "mean reward"),
        ({"accuracy": rising}, "success rate"),
        ({"reward": rising, "rewards__exact_match__mean": rising}, "success rate"),
        ({"score": rising, "critic__score__min": 0, "critic__score__max": 1}, "mean reward"),
    ):
        assert f"Learning: the {noun} rose from 0.2" in log(100, **columns).headline
    checks = {"rewards__answer__mean": flat(0.3), "rewards__accuracy__mean": flat(0.4)}
    parts = log(100, reward=rising, **checks)
    assert "no success rate" in " ".join(parts.notes) and parts.pressure is None


def test_two_valued_rewards_are_scaled_by_their_columns_and_printed_as_logged():
    found = log(
        100,
        critic__score__mean=noisy(lambda s: 0.05 + 0.2 * s, 0.01),
        critic__score__min=-1,
        critic__score__max=1,
    )
    assert "mean reward rose from 0.0" in found.supports[0]
    assert found.signals.success[0] == pytest.approx(0.52, abs=0.03)
    assert any("--reward-range -1 1" in note for note in found.notes)


def test_the_optimizer_is_said():
    rising = noisy(lambda s: 0.2 + 0.4 * s)
    assert any("assumes AdamW" in note for note in log(100, reward=rising).notes)


# ---- for scripts


def write(folder: Path, name: str, rows: list[dict[str, float]]) -> str:
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_json_has_one_object_a_log_with_the_documented_keys(tmp_path):
    fell = write(tmp_path, "fell.jsonl", corpus.rows(200, level=lambda k: 0.7 - 0.6 * (k > 0.5)))
    fine = write(tmp_path, "fine.jsonl", corpus.rows(100))
    bad = write(tmp_path, "bad.jsonl", [{"a": 1}])
    result = runner.invoke(app, ["diagnose", fine, fell, bad, "--json"])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 2 and [line["status"] for line in lines] == [0, 10, 2]
    assert [line["file"] for line in lines] == [fine, fell, bad]
    assert all(set(line) == set(failed_record("", "")) for line in lines)
    assert lines[1]["verdict"] in FALLEN and lines[1]["warning"] > 100
    assert lines[1]["pressure"]["optimizer"] == "adamw" and lines[2]["verdict"] is None
    help_text = runner.invoke(app, ["diagnose", "--help"]).output
    assert all(key in help_text for key in failed_record("", ""))
    for files, status in (([fine, fell], 10), ([fine], 0), ([bad, fell], 2)):
        assert runner.invoke(app, ["diagnose", *files]).exit_code == status


def test_the_report_begins_with_what_happened_and_what_to_do(tmp_path):
    path = write(tmp_path, "fell.jsonl", corpus.rows(200, level=lambda k: 0.7 - 0.6 * (k > 0.5)))
    lines = runner.invoke(app, ["diagnose", path]).output.splitlines()
    assert lines[1].startswith("  Fall: ") and lines[2].startswith("  Do first: ")
    assert lines[3] == "  verdict: fall"


def test_markup_and_escapes_of_a_log_stay_text(tmp_path):
    hostile = "rewards/\x1b[31m[red]answer[/red]<b>/mean"
    rows = [{**row, hostile: 0.0, "rewards/b/mean": row["reward"]} for row in corpus.rows(60)]
    path, page = write(tmp_path, "log.jsonl", rows), tmp_path / "page.html"
    for option in ([], ["--json"], ["--html", str(page)]):
        result = runner.invoke(app, ["diagnose", path, *option])
        assert result.exit_code == 0 and "\x1b" not in result.output
        assert "[red]answer[/red]" in result.output
    assert "\x1b" not in page.read_text() and "<b>" not in page.read_text()


def test_every_verdict_is_one_of_the_table():
    page = Path(__file__).parent.parent / "book" / "diagnose_a_run.md"
    section = page.read_text(encoding="utf-8").partition("## The verdicts")[2]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| ")]
    named = [row[1].strip() for row in rows if row[1].strip() in VERDICTS]
    assert sorted(named) == sorted(VERDICTS)


def test_a_smoothed_level_does_not_rise():
    rng, rows = np.random.default_rng(4), np.empty(300)
    for row, new in enumerate(rng.binomial(16, 0.5, 300) / 16):
        rows[row] = 0.9 * rows[row - 1] + 0.1 * new if row else 0.5
    for values in (rows, rows[::-1]):  # one of both goes up
        assert log(300, reward=lambda s, values=values: values).verdict == PLATEAU


def test_a_fall_that_the_cap_explains_has_no_other_reading():
    found = log(
        130,
        reward=noisy(lambda s: np.interp(s, [0.5, 0.8], [0.6, 0.05])),
        truncated=lambda s: np.interp(s, [0.5, 0.8], [0.02, 0.95]),
        grad_norm=flat(0.2),
    )
    assert found.verdict in FALLEN and found.headline.endswith("Responses grew into the cap.")
    assert found.do_first.startswith("Raise the cap")


def test_the_last_number_before_a_break_has_not_moved():
    found = log(
        100,
        reward=noisy(lambda s: np.where(s < 0.6, 0.5, 0.0), 0.001),
        loss=lambda s: np.where(s < 0.59, 0.01, np.where(s < 0.6, 0.2, np.nan)),
    )
    assert found.verdict == BROKEN and "loss moved" not in found.headline


def test_the_part_that_checks_the_answer_is_named():
    rise, still = np.linspace(0, 0.5, 150), RNG.normal(0.15, 0.02, 150)
    found = log(150, **{
        "reward": lambda s: rise + still + RNG.normal(0, 0.3, 150),
        "rewards/format/mean": lambda s: rise,
        "rewards/correctness/mean": lambda s: still,
    })
    assert found.verdict == LEARNING
    told = found.advice if "part of the reward" in found.headline else ["--success 'correctness'"]
    assert "--success 'correctness'" in told[0]


def test_a_reward_without_any_scatter_is_not_called_a_plateau():
    found = log(100, reward=0.5)
    assert found.verdict == UNDECIDED and "0.50 in every row" in found.headline
    assert found.do_first.startswith("Find out what the reward 0.50 is")


def test_why_a_warning_is_not_a_verdict():
    little = log(200, reward=noisy(lambda s: np.where(s < 0.6, 0.8, 0.72), 0.01))
    assert little.warning is not None and little.verdict not in FALLEN
    assert "less than a quarter below 0.80" in little.against[0]
    back = log(300, reward=noisy(lambda s: np.where(abs(s - 0.5) < 0.014, 0.1, 0.6)))
    assert back.verdict == PLATEAU and back.against[0].endswith("the mean reward came back")
    units = log(200, reward=noisy(lambda s: np.where(s < 0.6, 1000, 850), 20))
    assert "changed by -1" in units.headline and "e+" not in units.headline
    assert units.do_first.startswith("Look at what changed")


def test_rows_that_name_their_runs_are_not_averaged():
    rows = [
        {"step": step, "reward": level + 0.001 * (step % 7), "run_id": name}
        for step in range(40)
        for name, level in (("a", 0.2), ("b", 0.8))
    ]
    log = from_rows(rows, run="b")
    assert log["reward"].min() >= 0.8 and len(log.step) == 40
    assert any("other runs" in note for note in from_rows(rows).notes)
