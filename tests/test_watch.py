"""A log that is followed while it is written: the same numbers as in a diagnosis of the whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import log_corpus as corpus
import numpy as np
import pytest

from rlvrlib.practice.diagnosis import diagnose, watched
from rlvrlib.practice.formats import read_records
from rlvrlib.practice.run_log import Rows, from_rows, read_log
from rlvrlib.practice.signals import read_signals
from rlvrlib.practice.watch import Monitor, Watch, due

FALLING = corpus.rows(80, level=lambda k: np.where(k < 0.6, 0.7, 0.02))


def text(rows):
    return "".join(f"{row}\n" for row in rows)


class Session:
    """A watch in a thread, and what it has told."""

    def __init__(self, path: Path, **options):
        self.changes, self.error, self.found = [], None, None
        self.watch = Watch(path, self.changes.append, interval=0.01, **options)
        self.thread = threading.Thread(target=self.follow)
        self.thread.start()

    def follow(self):
        try:
            self.found = self.watch.run()
        except ValueError as error:
            self.error = str(error)

    def kinds(self):
        return [change.kind for change in self.changes]

    def until(self, happened, seconds=30.0):
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end and self.thread.is_alive(), (self.changes, self.error)
            time.sleep(0.005)

    def until_told(self, words):
        self.until(lambda: any(words in str(change) for change in self.changes))

    def until_step(self, step):
        def seen():
            found = self.watch.monitor.found
            return found is not None and found.log.step[-1] >= step

        self.until(seen)

    def stop(self):
        self.watch.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()
        return self.found


@pytest.fixture
def session():
    running = []

    def start(path, **options):
        running.append(Session(path, **options))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def first_warning(log):
    return diagnose(log).warning


def same(found, expected):
    assert (found.verdict, found.headline, found.supports, found.against, found.advice) == (
        expected.verdict,
        expected.headline,
        expected.supports,
        expected.against,
        expected.advice,
    )
    assert (found.warning, found.log.notes) == (expected.warning, expected.log.notes)
    if expected.pressure is not None:
        np.testing.assert_array_equal(found.pressure.total, expected.pressure.total)


def test_row_by_row_as_a_diagnosis_of_the_rows_so_far():
    monitor, rows, warned = Monitor(method="grpo"), [], []
    for row in FALLING:
        rows.append(row)
        log = from_rows(rows)
        warned += [change for change in monitor.look(log) if change.kind == "warning"]
        found = diagnose(log, method="grpo")
        assert (monitor.found.verdict, monitor.warning) == (found.verdict, found.warning)
        assert [change.step for change in warned] == [monitor.warning] * bool(monitor.warning)
    assert warned


def test_notices_are_told_once():
    rows = [dict(row) for row in FALLING]
    for row in rows[40:]:
        row["completions/mean_length"] *= 3
    monitor, told = Monitor(), []
    for count in range(1, len(rows) + 1):
        told += [one for one in monitor.look(from_rows(rows[:count])) if one.kind == "notice"]
    found = diagnose(from_rows(rows))
    assert {one.text for one in told} >= {found.notice_words(notice) for notice in found.noticed}
    assert any("length" in one.text for one in told) and len(set(told)) == len(told)


def recorded():
    folders = [os.environ.get(name) for name in ("RLVR_LOGS", "RLVR_LOG_CASES")]
    files = [path for folder in folders if folder for path in sorted(Path(folder).rglob("*"))]
    return [path for path in files if path.suffix in (".csv", ".txt", ".log", ".jsonl", ".tsv")]


@pytest.mark.thorough
@pytest.mark.skipif(not recorded(), reason="RLVR_LOGS and RLVR_LOG_CASES name no folder with logs")
@pytest.mark.parametrize("path", recorded(), ids=lambda path: path.name)
def test_recorded_logs_row_by_row(path):
    """The first 60 rows one by one, the others at once."""
    rows, monitor, warned = Rows(), Monitor(), None
    records = list(read_records(path, rows.notes))
    for number, record in enumerate(records, 1):
        rows.add(record)
        if 60 < number < len(records):
            continue
        try:
            log = rows.log(path.name)
        except ValueError:  # no reward so far
            continue
        monitor.look(log, last=number == len(records))
        if monitor.warning != warned or number % 20 == 0:
            warned = monitor.warning
            if len(monitor._given) == len(watched(read_signals(log))):  # no row waits
                assert warned == first_warning(log)
    same(monitor.found, diagnose(read_log(path)))


def test_a_file_that_is_not_there_yet_grows_line_by_line(tmp_path, session):
    path = tmp_path / "run.log"
    watched = session(path)
    watched.until_told("no row of a training log yet")
    with path.open("w", encoding="utf-8") as file:
        for row in FALLING:
            line = f"{row}\n"
            file.write(line[:20])
            file.flush()
            file.write(line[20:])
            file.flush()
        file.write("{'step': 81, 'reward': 0.0")  # never whole
    watched.until_step(80)
    same(watched.stop(), diagnose(read_log(path)))
    assert watched.kinds().count("warning") == 1 and watched.kinds()[-1] != "row"


def test_a_rotated_file_goes_on_with_the_same_run(tmp_path, session):
    path = tmp_path / "run.log"
    path.write_text(text(FALLING[:40]), encoding="utf-8")
    watched = session(path)
    watched.until_step(40)
    with path.open("a", encoding="utf-8") as file:  # and as much again just before
        file.write(text(FALLING[40:45]))
    path.rename(tmp_path / "run.log.1")
    path.write_text("INFO starting\n" + text(FALLING[45:]), encoding="utf-8")
    watched.until_step(80)
    same_rows = diagnose(from_rows(FALLING))
    found = watched.stop()
    assert (found.verdict, found.warning) == (same_rows.verdict, same_rows.warning)
    assert any("replaced by another one" in str(change) for change in watched.changes)


@pytest.mark.parametrize("how", ["cut", "replaced"])
def test_another_run_in_the_same_file_starts_anew(tmp_path, session, how):
    path, other = tmp_path / "run.log", corpus.rows(30, seed=5)
    path.write_text(text(FALLING), encoding="utf-8")
    watched = session(path)
    watched.until_told("warning")
    if how == "replaced":
        path.unlink()
    path.write_text(text(other), encoding="utf-8")
    watched.until_told("a new run")
    watched.until_step(30)
    same(watched.stop(), diagnose(read_log(path)))
    assert watched.found.warning is None is watched.watch.monitor.warning


def test_a_log_that_is_written_anew_at_each_step_is_one_run(tmp_path, session):
    path, part = tmp_path / "log.csv", tmp_path / "part"
    watched = session(path)
    for count in range(10, 81, 10):
        part.write_text(corpus.table(FALLING[:count]), encoding="utf-8")
        os.replace(part, path)
        watched.until_step(count)
    same(watched.stop(), diagnose(read_log(path)))
    assert watched.kinds().count("warning") == 1
    assert not any("a new run" in str(change) for change in watched.changes)


def test_a_document_is_read_anew(tmp_path, session):
    path = tmp_path / "trainer_state.json"
    watched = session(path)
    for count in (20, 80):
        path.write_text(corpus.trainer_state(FALLING[:count]), encoding="utf-8")
        watched.until_step(count)
    same(watched.stop(), diagnose(read_log(path)))
    assert watched.kinds().count("warning") == 1


def test_rows_of_several_processes_are_one_step_each(tmp_path, session):
    """The last row changes as its other lines come."""
    path = tmp_path / "run.log"
    watched = session(path)
    with path.open("w", encoding="utf-8") as file:
        for row in FALLING:
            for shift in (-0.01, 0.01):
                file.write(f"{ {**row, 'reward': row['reward'] + shift} }\n")
                file.flush()
                time.sleep(0.003)
    watched.until_step(80)
    same(watched.stop(), diagnose(read_log(path)))


def test_what_cannot_be_read_is_said_once_and_is_an_error_at_the_end(tmp_path, session):
    path = tmp_path / "run.log"
    path.write_text("loss: 1\nloss: 2\n", encoding="utf-8")
    watched = session(path)
    watched.until_told("no column that is known as a reward")
    watched.stop()
    assert "known as a reward" in watched.error
    assert len(watched.changes) == 1
    watched = session(tmp_path)
    watched.thread.join(10)
    assert "must name a readable file" in watched.error


def test_the_grid_of_looks_is_every_row_at_first_and_a_share_later():
    looks, looked = [], 0
    for rows in range(1, 20_001):
        if due(rows, looked):
            looks.append(rows)
            looked = rows
    assert looks[:4000] == list(range(1, 4001))
    assert max(np.diff(looks)) == 4 and looks[-1] > 20_000 - 5


# ---- the command


def command(*words, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "rlvrlib.command", "watch", "--interval", "0.05", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def lines_until(process, words):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(lines)


def test_the_command_stops_on_sigint_with_the_status_of_a_diagnosis(tmp_path):
    path = tmp_path / "a log; touch owned"
    path.write_text(text(FALLING), encoding="utf-8")
    hook = f"{sys.executable} -c 'import os; print(os.environ[\"RLVR_STEP\"]); exit(3)' ; touch no"
    process = command(str(path), "--quiet", "--on-warning", hook, cwd=tmp_path)
    said = lines_until(process, "--on-warning ended with 3")
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[0]
    expected = diagnose(read_log(path))
    assert process.returncode == expected.status == 10 and expected.summary() in rest
    assert f"{first_warning(read_log(path)):g}\n" in said  # from the command itself
    assert "reward 0" not in "".join(said) + rest  # quiet
    assert [one.name for one in tmp_path.iterdir()] == [path.name]  # no shell read a word of it


def test_json_is_one_object_a_line(tmp_path):
    path = tmp_path / "run.log"
    path.write_text(text(FALLING[:30]), encoding="utf-8")
    process = command(str(path), "--json")
    lines = lines_until(process, '"verdict"')
    process.send_signal(signal.SIGTERM)
    lines += process.communicate(timeout=60)[0].splitlines()
    objects = [json.loads(line) for line in lines]
    assert {"kind", "step", "text"} == set(objects[0]) and process.returncode == 0
    assert objects[-1] == {**diagnose(read_log(path)).record(), "file": str(path)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--on-warning", "no-such-program x"], "must begin with a program to run"),
        (["--on-warning", "echo 'open"], "must be a command"),
        (["--on-warning", ""], "must begin with a program to run"),
        (["--interval", "0"], "--interval must be positive"),
        (["--column", "reward"], "--column must be QUANTITY=NAME"),
    ],
)
def test_bad_options_are_an_error_before_anything_is_followed(tmp_path, options, words):
    process = command(str(tmp_path / "absent"), *options)
    assert words in process.communicate(timeout=60)[0] and process.returncode == 2
