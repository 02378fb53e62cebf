"""Reading training logs: every format gives the same rows, and no file gives a traceback or a
silent guess.
"""

from __future__ import annotations

from pathlib import Path

import log_corpus as corpus
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rlvrlib.practice import formats
from rlvrlib.practice.diagnosis import diagnose
from rlvrlib.practice.run_log import from_rows, read_log


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
    np.testing.assert_array_equal(log.step, np.arange(1, 61))
    np.testing.assert_allclose(log["rate"], 1e-6)
    if form not in (
        "console",
        "trainer_state",
    ):  # those have lines and a summary that are no rows, and say so
        assert not log.notes


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
    with pytest.raises(ValueError, match="none has a known quantity"):
        read_log(path)
    log = read_log(path, {"step": "iteration", "reward": "acc", "length": "words"})
    np.testing.assert_array_equal(log["length"], [10, 11])
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

    line = "x" * (40 * formats.MAX_LINE)
    path = write(
        tmp_path, corpus.table(corpus.rows()) + line + "\n" + "61,0,1,1e-6,0.5,0.25,300,0.02\n"
    )
    tracemalloc.start()
    log = read_log(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * formats.MAX_LINE
    assert len(log.step) == 61 and any(
        "longer than" in note and note.endswith(": 1") for note in log.notes
    )


def test_documents_above_the_limit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MAX_DOCUMENT", 1000)
    with pytest.raises(ValueError, match="must be smaller than"):
        read_log(write(tmp_path, corpus.trainer_state(corpus.rows())))


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
    data = corpus.FORMATS[form](corpus.rows(30)).encode()
    place = int(start * len(data))
    path = write(tmp_path, data[:place] + junk + data[place + length :])
    try:
        assert diagnose(read_log(path)).headline
    except ValueError as error:
        assert "\n" not in str(error)


def test_nested_rows_are_flattened():
    log = from_rows(
        [{"step": 1, "data": {"critic/score/mean": 0.5}}, {"step": 2, "train": {"reward": 1.0}}]
    )
    assert list(log["reward"]) == [1.0] and list(log.step) == [
        2
    ]  # one key is read, the preferred one
    assert any("without any known quantity" in note for note in log.notes)
    only = from_rows([{"step": 1, "data": {"critic/score/mean": 0.5}}])
    assert only["reward"][0] == 0.5 and only.names["reward"] == "critic/score/mean"
