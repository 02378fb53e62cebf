"""Watching a run from inside: a plain loop, and a trainer that calls as TRL's does."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import log_corpus as corpus
import numpy as np
import pytest

from rlvrlib.practice import callback
from rlvrlib.practice.callback import Loop
from rlvrlib.practice.diagnosis import diagnose
from rlvrlib.practice.run_log import from_rows

FALLING = corpus.rows(80, level=lambda k: np.where(k < 0.6, 0.7, 0.02))


def first_warning(rows):
    return diagnose(from_rows(rows)).warning


class Trainer:
    """Logs as `transformers.Trainer.log` does: the row into the history, then to the callbacks."""

    def __init__(self, watch, history=(), *, main=True):
        self.watch, self.reported = watch, []
        self.state = SimpleNamespace(
            global_step=0, log_history=list(history), is_world_process_zero=main
        )
        self.control = SimpleNamespace(should_training_stop=False)
        self.optimizer = SimpleNamespace(param_groups=[{"lr": 1e-6}, {"lr": 2e-6}])
        schedule = SimpleNamespace(base_lrs=[1e-6, 2e-6])
        self.scheduler = SimpleNamespace(scheduler=schedule)  # as accelerate wraps it

    def train(self, rows):
        self.watch.on_train_begin(None, self.state, self.control)
        for row in rows:
            logs = {key: value for key, value in row.items() if key != "step"}
            self.state.global_step = row["step"]
            self.state.log_history.append({**logs, "step": row["step"]})
            optimizer, scheduler = self.optimizer, self.scheduler
            self.control = self.watch.on_log(
                None,
                self.state,
                self.control,
                logs,
                optimizer=optimizer,
                lr_scheduler=scheduler,
                model=None,
            )
            self.reported.append(logs)
            if self.control.should_training_stop:
                break
        return self


def test_a_loop_has_the_numbers_of_a_diagnosis_of_its_rows():
    loop, expected = Loop(method="grpo"), None
    for number, row in enumerate(FALLING, 1):
        loop.add(row)
        expected, metrics = diagnose(from_rows(FALLING[:number]), method="grpo"), loop.metrics()
        assert metrics["rlvr/warning"] == (first_warning(FALLING[:number]) is not None)
        if expected.pressure is None:
            assert "rlvr/pressure" not in metrics
        else:
            assert metrics["rlvr/pressure"] == np.exp(expected.pressure.total[-1])
    assert first_warning(FALLING) == loop.monitor.warning is not None


def test_rows_without_a_reward_are_no_error():
    loop = Loop()
    assert loop.add({"loss": 1.0}) == [] and loop.metrics() == {"rlvr/warning": 0.0}


def test_the_callback_puts_its_numbers_into_the_rows_and_the_history():
    trainer = Trainer(callback.TrainerWatch(method="grpo")).train(FALLING)
    assert not trainer.control.should_training_stop and len(trainer.reported) == 80
    expected = diagnose(from_rows(FALLING), method="grpo")
    first = next(row["step"] for row in trainer.state.log_history if row["rlvr/warning"])
    assert first == first_warning(FALLING)
    assert [row["rlvr/warning"] for row in trainer.reported] == [
        float(row["step"] >= first) for row in FALLING
    ]
    assert trainer.reported[-1]["rlvr/pressure"] == np.exp(expected.pressure.total[-1])
    assert trainer.optimizer.param_groups[0]["lr"] == 1e-6
    json.dumps(trainer.state.log_history)  # it must be saved
    again = diagnose(from_rows(trainer.state.log_history), method="grpo")
    assert (again.verdict, again.warning) == (expected.verdict, expected.warning)
    assert not any("rlvr" in note for note in again.notes)


def test_it_stops_only_where_told_to():
    trainer = Trainer(callback.TrainerWatch(stop=True)).train(FALLING)
    warning = first_warning(FALLING)
    assert trainer.control.should_training_stop and trainer.state.global_step == warning


def test_it_lowers_the_rate_once_in_optimizer_and_schedule():
    trainer = Trainer(callback.TrainerWatch(lower_rate=0.25)).train(FALLING)
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [0.25e-6, 0.5e-6]
    assert trainer.scheduler.scheduler.base_lrs == [0.25e-6, 0.5e-6]
    for rate in (0, 1, -1, float("nan")):
        with pytest.raises(ValueError, match=r"lower_rate must be in \(0, 1\)"):
            callback.TrainerWatch(lower_rate=rate)


def test_a_resumed_run_goes_on_and_an_old_warning_is_not_acted_on():
    trainer = Trainer(callback.TrainerWatch(stop=True), FALLING[:40]).train(FALLING[40:])
    assert trainer.state.global_step == first_warning(FALLING)
    trainer = Trainer(callback.TrainerWatch(stop=True), FALLING).train(corpus.rows(90)[80:])
    assert trainer.state.global_step == 90 and trainer.reported[-1]["rlvr/warning"] == 1


def test_evaluations_and_the_closing_row_stay_as_they_are():
    trainer = Trainer(callback.TrainerWatch())
    trainer.train([FALLING[0], {"step": 1, "eval_reward": 0.5}])
    assert "rlvr/warning" in trainer.reported[0] and "rlvr/warning" not in trainer.reported[1]


def test_a_warning_is_logged_and_an_alert_of_trackio_where_it_is_used(monkeypatch, caplog):
    alerts = []
    trackio = SimpleNamespace(alert=lambda **said: alerts.append(said))
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    Trainer(callback.TrainerWatch()).train(FALLING)
    warning = first_warning(FALLING)
    assert len(alerts) == 1 and f"step {warning:g}" in alerts[0]["text"]
    assert any("warning:" in message for message in caplog.messages)
    caplog.clear()
    Trainer(callback.TrainerWatch(), main=False).train(FALLING)  # of several processes, one speaks
    assert len(alerts) == 1 and not caplog.messages

    def without_a_run(**_):
        raise RuntimeError("Call trackio.init() before trackio.alert().")

    monkeypatch.setattr(trackio, "alert", without_a_run)
    Trainer(callback.TrainerWatch()).train(FALLING)


def test_nothing_of_transformers_is_imported_before_it_is_asked_for():
    check = (
        "import sys, rlvrlib.practice.callback as c; "
        "assert not {'transformers', 'torch', 'trackio'} & set(sys.modules); "
        "assert isinstance(c.TrainerWatch, type) and c.TrainerWatch is c.TrainerWatch"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'Other'"):
        _ = callback.Other
