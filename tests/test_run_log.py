"""Reading training logs: every format gives the same rows, and no file gives a traceback or a
silent guess.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sqlite3
import struct
import time
import zlib
from pathlib import Path

import log_corpus as corpus
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rlvrlib.practice import binary_formats, records
from rlvrlib.practice.diagnosis import diagnose
from rlvrlib.practice.formats import FORMATS, known_formats
from rlvrlib.practice.quantities import meaning
from rlvrlib.practice.run_log import from_rows, read_log
from rlvrlib.practice.text_formats import LINES


def write(folder: Path, content: str | bytes, name: str = "log") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("form", corpus.FORMATS)
def test_every_format_gives_the_same_run(tmp_path, form):
    rows = corpus.rows()
    log = read_log(write(tmp_path, corpus.FORMATS[form](rows)))
    for name, key in (
        ("reward", "reward"),
        ("length", "completions/mean_length"),
        ("gradient_norm", "grad_norm"),
    ):
        np.testing.assert_allclose(log[name], [row[key] for row in rows], rtol=1e-12)
    np.testing.assert_array_equal(log.step, np.arange(60) + (form != "slime"))
    np.testing.assert_allclose(log["rate"], 1e-6)


def test_what_is_skipped_is_listed(tmp_path):
    log = read_log(write(tmp_path, corpus.trainer_state(corpus.rows())))
    assert log.notes == ("rows without any known quantity (a summary, for example) left out: 1",)
    log = read_log(write(tmp_path, corpus.console(corpus.rows())))
    assert log.notes == ("lines skipped that are no row of a log: 1",)


def test_truncated_documents_keep_their_whole_rows(tmp_path):
    text = corpus.trainer_state(corpus.rows())
    log = read_log(write(tmp_path, text[: len(text) // 2]))
    assert 20 < len(log.step) < 40
    assert any("cut off" in note for note in log.notes)


def test_the_rate_of_old_verl_is_unknown(tmp_path):
    log = read_log(write(tmp_path, corpus.verl_console(corpus.rows(), rate="0.000")))
    assert not log.has("rate")
    assert any("learning rate is logged as 0" in note for note in log.notes)


def test_resumed_runs_replace_and_mixed_runs_separate(tmp_path):
    log = read_log(write(tmp_path, corpus.BAD["resumed"]))
    assert len(log.step) == 60 and any(
        "resumed run" in note and note.endswith("11") for note in log.notes
    )
    second = corpus.rows(seed=1)
    assert (
        log["reward"][35] == second[35]["reward"]
        and log["reward"][10] == corpus.rows()[10]["reward"]
    )
    log = read_log(write(tmp_path, corpus.BAD["mixed"]))
    assert len(log.step) == 60 and any("several runs" in note for note in log.notes)
    many = from_rows([{"step": k % 2000, "reward": 0.5} for k in range(6000)])
    assert len(many.step) == 2000 and any("of 2000, 2000, 2000 rows" in n for n in many.notes)


def test_decreasing_steps_are_sorted_and_said(tmp_path):
    log = read_log(write(tmp_path, corpus.BAD["decreasing"]))
    assert np.all(np.diff(log.step) > 0) and any("decreasing" in note for note in log.notes)
    np.testing.assert_array_equal(log["reward"], [row["reward"] for row in corpus.rows()])


def test_partial_rows_of_a_step_are_merged():
    log = from_rows(
        [
            {"step": 1, "reward": 0.5},
            {"step": 1, "learning_rate": 1e-6},
            {"step": 2, "learning_rate": 1e-6},
        ]
    )
    np.testing.assert_array_equal(log["reward"], [0.5, np.nan])
    np.testing.assert_array_equal(log["rate"], [1e-6, 1e-6])


def test_infinite_values_and_texts_are_left_out_and_listed():
    log = from_rows(
        [
            {"step": 1, "reward": "0.5", "grad_norm": "inf"},
            {"step": 2, "reward": "oops", "grad_norm": 1.0},
        ]
    )
    assert (
        log["reward"][0] == 0.5 and np.isnan(log["reward"][1]) and np.isnan(log["gradient_norm"][0])
    )
    assert any("grad_norm that are infinite" in note and "step 1" in note for note in log.notes)
    assert any("reward that are not a number" in note and "step 2" in note for note in log.notes)


def test_columns_can_be_named(tmp_path):
    path = write(tmp_path, "iteration,acc,words\n1,0.5,10\n2,0.6,11\n")
    log = read_log(path, {"step": "iteration", "reward": "acc", "length": "words"})
    np.testing.assert_array_equal(log["length"], [10, 11])
    np.testing.assert_array_equal(read_log(path, {"reward": "words"})["reward"], [10, 11])
    with pytest.raises(ValueError, match="none in the column 'notes'"):
        read_log(write(tmp_path, "notes,reward\na,0.5\nb,0.6\n"), {"step": "notes"})
    path = write(tmp_path, "iteration,acc,words\n1,0.5,10\n2,0.6,11\n")
    with pytest.raises(ValueError, match="columns must name columns of the log"):
        read_log(path, {"reward": "accuracy"})
    with pytest.raises(ValueError, match="columns must name quantities"):
        read_log(path, {"speed": "acc"})


def test_exports_of_several_runs_say_which_was_read(tmp_path):
    one, two = (
        corpus.wandb_export(corpus.rows(seed=seed), run).splitlines()
        for seed, run in ((0, "a"), (1, "b - x"))
    )
    path = write(
        tmp_path,
        "\n".join(
            f"{left},{right.partition(',')[2]}" for left, right in zip(one, two, strict=True)
        ),
    )
    log = read_log(path)
    assert any("'b - x'" in note and "'a' was read" in note for note in log.notes)
    other = read_log(path, run="b - x")
    assert other["reward"][5] == corpus.rows(seed=1)[5]["reward"]
    with pytest.raises(ValueError, match="run must be a run of the export"):
        read_log(path, run="c")


@pytest.mark.parametrize("name", corpus.BAD)
def test_bad_files_give_a_diagnosis_or_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, corpus.BAD[name])
    try:
        found = diagnose(read_log(path))
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
        assert len(str(error)) < 2000
    else:
        assert found.headline
    assert not (tmp_path / "pwned").exists()


def test_missing_files_and_folders_are_named(tmp_path):
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(ValueError, match="path must name a readable file"):
            read_log(path)


def test_long_lines_are_skipped_in_bounded_memory(tmp_path):
    import tracemalloc

    line = "x" * (40 * records.MAX_LINE)
    path = write(
        tmp_path, corpus.table(corpus.rows()) + line + "\n" + "61,0,1,1e-6,0.5,0.25,300,0.02\n"
    )
    tracemalloc.start()
    log = read_log(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * records.MAX_LINE
    assert len(log.step) == 61 and any(
        "longer than" in note and note.endswith(": 1") for note in log.notes
    )


def test_documents_above_the_limit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MAX_DOCUMENT", 1000)
    with pytest.raises(ValueError, match="must be smaller than"):
        read_log(write(tmp_path, json.dumps(corpus.rows())))
    # One that stands over several lines is read by lines.
    log = read_log(write(tmp_path, corpus.trainer_state(corpus.rows())))
    np.testing.assert_array_equal(log["reward"], [row["reward"] for row in corpus.rows()])


# ---- names


@pytest.mark.parametrize(
    "quantity, names",
    {
        "reward": "reward mean_reward reward_mean avg_reward rewards/mean reward/overall scores "
        "total_reward mean_score rollout/raw_reward env/all/reward/total objective/scores rewards "
        "reward/avg_raw_reward critic/rewards/mean train/reward Reward",
        "length": "completion_length completions/mean_length response_length_mean gen_len "
        "avg_response_len rollout/response_len/mean val/sequence_lengths generate/avg_num_tokens",
        "truncated": "completions/clipped_ratio response_length/clip_ratio rollout/truncated "
        "response_clip_ratio is_truncated/mean completions/truncated_fraction val/stop_rate",
        "rate": "learning_rate lr actor/lr policy/policy_lr optim/lr train/lr-pg_0 actor_lr",
        "gradient_norm": "grad_norm actor/grad_norm policy/raw_grad_norm optim/grad_norm",
        "zero_spread": "frac_reward_zero_std zero_var_ratio env/all/by_group/frac_mixed",
        "entropy": "entropy actor/entropy actor/entropy_loss policy/policy_entropy entropy_avg",
        "kl": "kl actor/kl_loss actor/ppo_kl objective/kl KL_ref kl_mean loss/kl_avg",
        "loss": "loss actor/pg_loss policy_loss train_loss loss/policy_avg",
        "longest": "completions/max_length response_length/max",
        "reward_std": "reward_std rewards_std",
        "reward_min": "critic/score/min reward_min",
        "reward_max": "critic/score/max",
        "evaluation": "eval_acc eval_accuracy eval_reward eval/reward val-core/a/b/acc/mean@8 "
        "val/test_score/openai/gsm8k heldout_accuracy eval_rewards/x/mean val:accuracy pass@1 "
        "eval/all/avg_score test/env/all/reward/total eval_math_pass1",
        "component": "rewards/accuracy_reward rewards/check/mean format_reward_avg reward/format "
        "gt_match_rate successes",
        "step": "step global_step training/global_step _step Step iteration trainer/global_step",
        "clock": "num_tokens epoch",
        "": "rewards/x/std clip_ratio clip_ratio/region_mean actor/pg_clipfrac critic/lr adv_std "
        "reward/num_zero_variance_filtered val-core/a/acc/best@8/mean eval_loss critic/vf_loss "
        "completions/max_terminated_length eval_completions/mean_length total_steps pass@8 "
        "mean_token_accuracy max_steps train_runtime eval_reward_std rollout/rewards_of_nobody",
    }.items(),
)
def test_columns_are_known_by_their_words(quantity, names):
    assert {name: meaning(name).quantity for name in names.split()} == dict.fromkeys(
        names.split(), quantity
    )


def test_spellings_of_a_name_are_one():
    for name in (
        "rewards / check_answer / mean",
        "rewards/check_answer",
        "train/rewards/check_answer/mean",
    ):
        log = from_rows([{"step": 1, "reward": 1.0, name: 0.25}])
        assert list(log.components["check_answer"]) == [0.25]


def test_shares_of_the_opposite_are_turned():
    log = from_rows([{"step": 1, "reward": 0.5, "by_group/frac_mixed": 0.75, "val/stop_rate": 0.9}])
    assert log["zero_spread"][0] == 0.25 and log["truncated"][0] == pytest.approx(0.1)


# ---- rows and runs


def test_rows_of_a_step_are_averaged_and_counted():
    rows = [{"step": k // 4, "mean_reward": (k % 4) / 4, "loss": 1.0} for k in range(80)]
    log = from_rows(rows)
    assert len(log.step) == 20 and np.all(log["reward"] == 0.375)
    assert "rows of the same step as another one, averaged with it: 60" in log.notes


def test_ranks_are_averaged_before_runs_are_told_apart(tmp_path):
    log = read_log(write(tmp_path, corpus.ranks(corpus.rows())))
    assert log.notes == ("rows of the same step as another one, averaged with it: 180",)


@pytest.mark.parametrize("clock", ["num_tokens", "epoch"])
def test_runs_without_steps_are_told_apart_by_tokens_or_epoch(clock):
    def rows(count, first, reward):
        return [
            {"reward": reward, clock: (first + k) / 10, "learning_rate": 1e-6 * (count - k)}
            for k in range(count)
        ]

    log = from_rows([*rows(30, 1, 0.1), *rows(50, 1, 0.2)])
    assert len(log.step) == 50 and np.all(log["reward"] == 0.2)
    assert any(f"{clock} goes back 1 times" in note and "30, 50" in note for note in log.notes)
    resumed = from_rows([*rows(40, 1, 0.1), *rows(30, 31, 0.2)])
    assert list(resumed["reward"]) == [0.1] * 30 + [0.2] * 30
    assert any("resumed run" in note and note.endswith(": 10") for note in resumed.notes)


def test_the_rate_tells_no_runs_apart():
    rows = [{"reward": 0.5, "learning_rate": 1e-6 * (1 + k % 10)} for k in range(60)]
    assert len(from_rows(rows).step) == 60


def test_steps_that_start_anew_in_each_epoch_are_one_run():
    rows = [{"epoch": k // 20, "step": k % 20, "reward": k / 60} for k in range(60)]
    log = from_rows(rows)
    np.testing.assert_allclose(log["reward"], np.arange(60) / 60)
    assert np.all(np.diff(log.step) > 0) and any("each epoch" in note for note in log.notes)


def test_rows_that_are_logged_late_are_no_other_run():
    rows = corpus.rows()
    rows[10], rows[11] = rows[11], rows[10]
    log = from_rows(rows)
    assert len(log.step) == 60 and log["reward"][10] == corpus.rows()[10]["reward"]


def test_steps_on_a_rollout_are_averaged(tmp_path):
    log = read_log(write(tmp_path, corpus.slime(corpus.rows(), steps=4)))
    assert len(log.step) == 60 and "4 steps are made on each rollout: averaged" in log.notes
    np.testing.assert_allclose(
        log["gradient_norm"], [row["grad_norm"] for row in corpus.rows()], rtol=1e-12
    )


def test_partial_rows_without_a_step_are_one_row():
    log = from_rows([entry for _ in range(30) for entry in ({"reward": 0.5}, {"grad_norm": 2.0})])
    assert len(log.step) == 30 and np.all(log["gradient_norm"] == 2)


def test_a_reward_that_changes_its_name_is_read_to_the_end():
    rows = [{"step": k, ("reward" if k < 30 else "reward/mean"): 0.5} for k in range(60)]
    log = from_rows(rows)
    assert np.all(log["reward"] == 0.5)
    assert any("'reward' in some rows and 'reward/mean' in others" in note for note in log.notes)


def test_evaluations_are_not_mixed_into_the_reward(tmp_path):
    lines = [f"step {k} | reward 0.5 | loss 0.1\nEval at step {k}: reward 0.9" for k in range(30)]
    log = read_log(write(tmp_path, "\n".join(lines)))
    assert np.all(log["reward"] == 0.5) and np.all(log["evaluation"] == 0.9)


def test_sentences_between_rows_are_no_rows(tmp_path):
    lines = [str(corpus.without_step(row)) for row in corpus.rows()]
    lines[20:20] = ["Do you see? reward: 0.9 at last", "saved at step 20"]
    log = read_log(write(tmp_path, "\n".join(lines)))
    assert len(log.step) == 60
    assert "rows in another form left out (lines of keys and values): 1" in log.notes


def test_a_line_that_opens_no_dictionary_swallows_nothing(tmp_path):
    lines = list(map(str, corpus.rows()))
    lines[20:20] = ["def f(x): {", "config = {'lr': 1,", "{"]
    assert len(read_log(write(tmp_path, "\n".join(lines))).step) == 60


def test_lines_that_wandb_has_cut_are_counted(tmp_path):
    lines = corpus.verl_console(corpus.rows()).splitlines()
    lines[5] = lines[5] + " - " + "x" * (4096 - len(lines[5]) - 3)
    log = read_log(write(tmp_path, "\n".join(lines)))
    assert any("4096 characters" in note and note.endswith(": 1") for note in log.notes)


def test_dictionaries_that_were_copied_without_their_brace_are_read(tmp_path):
    lines = [f"'loss': 0.0, 'reward': 0.{k}5, 'global_step/max_steps': '{k}/9'}}" for k in range(9)]
    log = read_log(write(tmp_path, "\n".join(lines)))
    np.testing.assert_allclose(log["reward"], np.arange(9) / 10 + 0.05)


def test_rows_that_wandb_has_cut_keep_what_is_whole(tmp_path):
    lines = [json.dumps(row | {"padding": "x" * 4096})[:4096] for row in corpus.rows()]
    log = read_log(write(tmp_path, "\n".join(lines)))
    np.testing.assert_array_equal(log["reward"], [row["reward"] for row in corpus.rows()])
    assert any("4096 characters" in note and note.endswith(": 60") for note in log.notes)


def test_tables_of_responses_between_the_rows_are_no_log(tmp_path):
    sample = ["│ Prompt │ Completion │ reward │", "├──┼──┼──┤"]
    sample += ["│ Why? │ So. │ 1.00 │"] * 8
    lines = [f"1%|1 | 1/50 [0:10<1:00]{corpus.without_step(row)}" for row in corpus.rows()]
    text = "\n".join("\n".join([*sample, line]) for line in lines)
    log = read_log(write(tmp_path, text))
    np.testing.assert_array_equal(log["reward"], [row["reward"] for row in corpus.rows()])


def test_decimal_commas_and_thousands_are_numbers(tmp_path):
    log = read_log(write(tmp_path, "step;reward\n1;0,25\n2;0,5\n"))
    assert list(log["reward"]) == [0.25, 0.5]
    assert from_rows([{"step": "1,000", "reward": "50%"}]).step[0] == 1000


def test_other_lists_of_a_document_are_noted(tmp_path):
    both = {"one": corpus.rows(20), "two": {"history": corpus.rows(30)}}
    log = read_log(write(tmp_path, json.dumps(both)))
    assert len(log.step) == 30
    assert "shorter lists of rows in the document left out: 1" in log.notes


def test_lists_of_responses_are_averaged():
    assert from_rows([{"step": 1, "rewards": [0, 1, 1, 0]}])["reward"][0] == 0.5


# ---- what is said


def test_what_is_not_recognized_is_listed_with_the_flag():
    log = from_rows([{"step": 1, "reward": 0.5, "mystery": 3.0, "time/step": 1.0, "text": "x"}])
    (note,) = (note for note in log.notes if "not recognized" in note)
    elsewhere = from_rows([{"step": 1, "reward": 0.5}, {"mystery": 3.0}])
    assert not any("mystery" in note for note in elsewhere.notes)
    assert "'mystery'" in note and "--column" in note and "time" not in note and "text" not in note


def test_no_reward_lists_the_columns_and_says_what_to_type():
    rows = [{"step": k, "performance_index": 0.5, "completion_length": 3} for k in range(30)]
    with pytest.raises(ValueError) as caught:
        from_rows(rows, source="run.json")
    message = str(caught.value)
    assert "'completion_length'" in message
    assert message.endswith("rlvr diagnose run.json --column reward='performance_index'")
    assert from_rows(rows, columns={"reward": "performance_index"})["reward"][0] == 0.5


def test_a_single_curve_is_taken_for_the_reward_and_said(tmp_path):
    path = write(tmp_path, "Wall time,Step,Value\n" + "".join(f"9.5,{k},0.5\n" for k in range(30)))
    log = read_log(path)
    assert len(log.step) == 30 and any("--column length=Value" in note for note in log.notes)
    assert read_log(path, {"reward": "Value"}).names["reward"] == "Value"


# ---- all formats


def test_the_corpus_has_every_format(tmp_path):
    read = {read_log(write(tmp_path, make(corpus.rows()))).form for make in corpus.FORMATS.values()}
    named = {name for name, _ in known_formats()}
    outer = {"Jupyter notebook", "web page with tables"}  # their rows are those of tables
    binary = {"W&B run file (.wandb)", "TensorBoard event file"}  # below
    assert read == named - outer - binary
    assert {form.name for form in LINES} <= named and all(form.name for form in FORMATS)


def test_binary_files_of_the_wrong_kind_are_named(tmp_path):
    for data in (b"\x89PNG\r\n\x1a\n" + bytes(range(200)), b"PK\x03\x04 a zip", bytes(100)):
        with pytest.raises(ValueError, match="binary file of another kind"):
            read_log(write(tmp_path, data))
    for data in (b"SQLite format 3\0" + bytes(84), corpus.trackio(corpus.rows())[:5000]):
        with pytest.raises(ValueError, match="must be trackio's"):
            read_log(write(tmp_path, data))


@pytest.mark.parametrize(
    "head", [b":W&B\xe1\xbe\x00", bytes(12) + b"\x1a\x0dbrain.Event:2" + bytes(9)]
)
def test_a_reader_that_is_absent_is_named(tmp_path, monkeypatch, head):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(binary_formats, "import_module", absent)
    with pytest.raises(ValueError, match=r"pip install 'rlvrlib\[binary\]'"):
        read_log(write(tmp_path, head))


def of_extra(module):
    """A module of the extra `binary`; where CI asks for it, its absence is a failure."""
    if os.environ.get("REQUIRE_BINARY"):
        return importlib.import_module(module)
    return pytest.importorskip(module)


def event_file(rows):
    """A TensorBoard event file; of each row the reward and the length."""
    record_writer = of_extra("tensorboard.summary.writer.record_writer")
    event = of_extra("tensorboard.compat.proto.event_pb2")
    file = io.BytesIO()
    writer = record_writer.RecordWriter(file)
    writer.write(event.Event(file_version="brain.Event:2").SerializeToString())
    for row in rows:
        for key in ("reward", "completions/mean_length"):
            one = event.Event(step=row["step"])
            one.summary.value.add(tag=f"train/{key}", simple_value=row[key])
            writer.write(one.SerializeToString())
    return file.getvalue()


def test_event_files_are_read_whole_cut_and_damaged(tmp_path):
    rows = corpus.rows()
    data = event_file(rows)
    log = read_log(write(tmp_path, data))
    np.testing.assert_allclose(log["reward"], [row["reward"] for row in rows], rtol=1e-6)
    assert log.notes == ()
    for broken in (data[: len(data) // 2], bytes(changed(data, len(data) // 2))):
        log = read_log(write(tmp_path, broken))
        assert 20 < len(log.step) < 40 and any("cut off or damaged" in note for note in log.notes)


def run_file(rows):
    """A W&B run file, in blocks of 32 KiB."""
    messages = of_extra("wandb.proto.wandb_internal_pb2")
    data = bytearray(b":W&B\xe1\xbe\x00")
    for row in rows:
        record = messages.Record()
        for key, value in row.items():
            record.history.item.add(nested_key=["train", key], value_json=json.dumps(value))
        left, kind = record.SerializeToString(), 0
        while left or not kind:
            room = 32768 - len(data) % 32768
            if room < 7:
                data += bytes(room)
                continue
            piece, left = left[: room - 7], left[room - 7 :]
            kind = (4 if kind else 1) if not left else (3 if kind else 2)
            checksum = zlib.crc32(piece, zlib.crc32(bytes([kind])))
            data += struct.pack("<IHB", checksum, len(piece), kind) + piece
    return bytes(data)


def test_run_files_are_read_whole_and_cut(tmp_path):
    rows = corpus.rows(400)
    data = run_file(rows)
    assert len(data) > 2 * 32768
    log = read_log(write(tmp_path, data))
    np.testing.assert_array_equal(log["reward"], [row["reward"] for row in rows])
    for broken in (data[: len(data) // 2], bytes(changed(data, len(data) // 2))):
        log = read_log(write(tmp_path, broken))
        assert 150 < len(log.step) < 250 and any("cut off or damaged" in n for n in log.notes)
    for cut in (4, 7, 9, 30):  # nothing but the head of the file, or of a record
        with pytest.raises(ValueError, match="must hold rows of a training log"):
            read_log(write(tmp_path, data[:cut]))


def changed(data, place):
    """The data with one byte that is not what it was."""
    odd = bytearray(data)
    odd[place] ^= 1
    return odd


def test_runs_with_names_are_told_apart(tmp_path):
    path = write(tmp_path, b"")
    database = sqlite3.connect(path)
    database.execute("create table metrics (id integer primary key, run_name, step, metrics)")
    for run, count in (("short", 25), ("long\x1b[31m", 40)):
        for step in range(count):
            values = (run, step, json.dumps({"reward": count / 100}))
            database.execute(
                "insert into metrics (run_name, step, metrics) values (?, ?, ?)", values
            )
    database.commit()
    database.close()
    assert len(read_log(path).step) == 40 and read_log(path, run="short")["reward"][0] == 0.25
    assert any("'short'" in note for note in read_log(path).notes)


# ---- hostile files


def test_escapes_and_markup_of_keys_stay_text(tmp_path):
    rows = [
        {**row, "\x1b[31mred\x1b]0;title\x07": 1.0, "[bold]x[/bold]\r\n": 2.0}
        for row in corpus.rows()
    ]
    for text in ("\n".join(map(json.dumps, rows)), json.dumps(rows)):
        summary = diagnose(read_log(write(tmp_path, text))).summary()
        assert "\x1b" not in summary and "\r" not in summary and "[bold]x" in summary
    with pytest.raises(ValueError) as caught:
        from_rows([{"step": 1, "\x1b[31mred": 1.0}], source="\x1b[2J")
    assert "\x1b" not in str(caught.value)


def test_very_many_columns_are_bounded(tmp_path):
    wide = {f"column {k}": k for k in range(200_000)} | {"reward": 0.5, "step": 1}
    log = from_rows([wide, wide | {"step": 2}])
    assert len(log.step) == 2 and any("and others" in note for note in log.notes)
    names = ",".join(f"c{k}" for k in range(50_000))
    values = ",".join(["0.5"] * 50_000)
    log = read_log(write(tmp_path, f"step,reward,{names}\n1,0.5,{values}\n2,0.5,{values}\n"))
    assert len(log.step) == 2


LONG = ("a", "reward ", "{", "{'a':", "loss: 1,", "(", "'", "\x1b]", "| ", "step 1 ", "a b ", '"')


@pytest.mark.parametrize("piece", LONG)
def test_no_line_takes_long(tmp_path, piece):
    line = piece * (900_000 // len(piece))
    path = write(tmp_path, "\n".join([*map(str, corpus.rows(20)), line, line]))
    start = time.process_time()
    assert len(read_log(path).step) == 20
    assert time.process_time() - start < 5


@pytest.mark.thorough
def test_a_hundred_thousand_rows_take_three_seconds(tmp_path):
    for form in ("json lines", "csv", "console", "verl console"):
        path = write(tmp_path, corpus.FORMATS[form](corpus.rows(100_000)))
        start = time.process_time()
        assert len(diagnose(read_log(path)).log.step) == 100_000
        assert time.process_time() - start < 3


@pytest.mark.thorough
def test_a_long_console_is_read_in_bounded_memory(tmp_path):
    import tracemalloc

    row = str(corpus.rows(1)[0])
    noise = "INFO worker.py:1832 -- a message, with commas and loss of length: and text\n" * 50
    path = tmp_path / "log"
    with path.open("w") as file:
        for step in range(2000):
            file.write(f"{noise}{row.replace(': 1,', f': {step + 1},', 1)}\n")
    tracemalloc.start()
    assert len(read_log(path).step) == 2000
    assert tracemalloc.get_traced_memory()[1] < 5e6 < path.stat().st_size
    tracemalloc.stop()


# ---- recorded cases

CASES_FOLDER = os.environ.get("RLVR_LOG_CASES", "")
# Rows and the reward's column.
CASES: dict[str, tuple[int, str]] = {
    "01_first_line_ray_banner.log": (120, "critic/score/mean"),
    "02_first_line_python_logging_truncated.txt": (50, "reward"),
    "03_truncated_reward_zero.txt": (40, "reward"),
    "04_swift_closing_record.jsonl": (60, "reward"),
    "05_four_rows_a_step.json": (200, "mean_reward"),
    "07_pm1_rewards_nonnegative_means.log": (60, "critic/score/mean"),
    "09_length_collapse.log": (80, "critic/score/mean"),
    "11_fast_learning_dapo.json": (40, "reward"),
    "12_tinker_metrics.jsonl": (100, "env/all/reward/total"),
    "13_unsloth_table_pipes.md": (250, "reward"),
    "14_unsloth_table_at_the_cap.tsv": (100, "reward"),
    "17_dict_over_several_lines.txt": (30, "reward"),
    "19_nan_weights.txt": (140, "reward"),
    "20_constant_partial_reward.txt": (40, "reward"),
    "21_constant_negative_sum.txt": (30, "reward"),
    "22_constant_positive_sum.txt": (30, "reward"),
    "23_key_value_rasbt.txt": (295, "reward_avg"),
    "24_key_value_minimind.log": (300, "Reward"),
    "27_key_value_nanochat.txt": (40, "Average reward"),
    "28_key_value_mlx_lm_lora.txt": (40, "Total rewards mean"),
    "30_slime_console.txt": (40, "rollout/raw_reward"),
    "31_easyr1_nested.jsonl": (40, "critic/score/mean"),
    "32_reward_mean_name.jsonl": (162, "reward_mean"),
    "34_learning_but_more_and_more_cut.log": (144, "critic/score/mean"),
    "37_fall_without_growth.txt": (200, "reward"),
    "38_mixture_reward.csv": (30, "mean_reward"),
    "39_tensorboard_export.csv": (60, "Value"),
    "40_mlflow_export.csv": (60, "reward"),
    "42_columns_object.json": (40, "reward"),
    "43_question_before_the_log.txt": (40, "reward"),
    "44_healthy_verl.log": (162, "critic/score/mean"),
    "45_healthy_unsloth.tsv": (500, "reward"),
}


@pytest.mark.skipif(
    not CASES_FOLDER or not Path(CASES_FOLDER).is_dir(),
    reason="RLVR_LOG_CASES does not name the folder with the recorded cases (they are not part of "
    "this repository)",
)
@pytest.mark.parametrize("name", CASES)
def test_recorded_cases_are_read(name):
    log = read_log(Path(CASES_FOLDER) / name)
    assert (len(log.step), log.names["reward"]) == CASES[name]
    assert np.isfinite(log["reward"]).all()


# ---- anything at all

texts = st.text(max_size=20) | st.sampled_from(
    ["reward", "step", "nan", "inf", "1e999", "0x10", "True", corpus.HOSTILE]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
keys = (
    st.sampled_from(
        [
            "step",
            "reward",
            "completions/mean_length",
            "learning_rate",
            "grad_norm",
            "frac_reward_zero_std",
            "a - reward",
            "reward_std",
            "rewards/x/mean",
            "entropy",
            "eval_acc",
            "completions/clipped_ratio",
            "data",
        ]
    )
    | texts
)
any_rows = st.lists(
    st.dictionaries(keys, scalars | st.dictionaries(keys, scalars, max_size=3), max_size=8),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(any_rows)
@example(
    [{"data": {"a - reward": None}, "a - reward": {}}]
)  # a nested row that another one overwrites
def test_any_rows_give_a_diagnosis_or_one_line(rows):
    try:
        assert diagnose(from_rows(rows)).headline
    except ValueError as error:
        assert "\n" not in str(error)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(allow_nan=True), st.floats(allow_nan=True), st.floats(allow_nan=True)),
        min_size=20,
        max_size=60,
    )
)
def test_any_numbers_give_a_diagnosis_or_one_line(values):
    rows = [
        {"step": k, "reward": r, "completions/mean_length": n, "grad_norm": g}
        for k, (r, n, g) in enumerate(values)
    ]
    try:
        assert diagnose(from_rows(rows)).headline
    except ValueError as error:
        assert "\n" not in str(error)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    form=st.sampled_from(sorted(corpus.FORMATS)),
    start=st.floats(0, 1),
    length=st.integers(0, 300),
    junk=st.binary(max_size=50),
)
def test_any_damage_gives_a_diagnosis_or_one_line(tmp_path, form, start, length, junk):
    text = corpus.FORMATS[form](corpus.rows(30))
    data = text.encode() if isinstance(text, str) else text
    place = int(start * len(data))
    path = write(tmp_path, data[:place] + junk + data[place + length :])
    try:
        assert diagnose(read_log(path)).headline
    except ValueError as error:
        assert "\n" not in str(error)


def test_nested_rows_are_flattened():
    only = from_rows([{"step": 1, "data": {"critic/score/mean": 0.5}}])
    assert only["reward"][0] == 0.5 and only.names["reward"] == "critic/score/mean"
    deep = from_rows([{"step": 1, "a": {"b": {"critic": {"score": {"mean": 0.5}}}}, "reward": 1}])
    assert list(deep["reward"]) == [1.0]
