"""Watching a run from inside: `Loop` for any training loop, `TrainerWatch` for TRL's trainers.

`TrainerWatch` is a ``transformers.TrainerCallback``. Nothing of transformers is imported before it
is asked for.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from rlvrlib.practice.records import Record
from rlvrlib.practice.run_log import Rows
from rlvrlib.practice.watch import Change, Monitor, due

__all__ = ["Loop"]  # and TrainerWatch, which is made once it is asked for

_log = logging.getLogger(__name__)


class Loop:
    """A run that is watched by the loop that makes it.

    Parameters
    ----------
    columns : see `read_log`.
    options : those of `diagnose`.

    Attributes
    ----------
    monitor : what is known of the run.
    """

    def __init__(self, *, columns: Mapping[str, str] | None = None, **options: Any):
        self.monitor = Monitor(**options)
        self._rows, self._looked = Rows(columns), 0

    def add(self, row: Mapping[str, Any]) -> list[Change]:
        """One more row, as a trainer logs it; what has changed. A row without a known quantity
        changes nothing.
        """
        self._rows.add(Record("rows", dict(row)))
        if not due(len(self._rows), self._looked):
            return []
        self._looked = len(self._rows)
        try:
            log = self._rows.log("the run")
        except ValueError:  # no reward so far
            return []
        return self.monitor.look(log)

    def metrics(self) -> dict[str, float]:
        """``rlvr/warning``: 1 from the first warning on, 0 before; and, once it is known,
        ``rlvr/pressure``, relative to the reference window.
        """
        found = {"rlvr/warning": float(self.monitor.warning is not None)}
        if self.monitor.pressure is not None:
            found["rlvr/pressure"] = self.monitor.pressure
        return found


class _TrainerWatch:
    """A callback that watches a run of a trainer, as in
    ``GRPOTrainer(..., callbacks=[TrainerWatch(method="dr_grpo", stop=True)])``.

    Each row of the trainer's log gets ``rlvr/warning`` and ``rlvr/pressure``, see `Loop.metrics`.
    What reports the rows elsewhere (W&B, trackio) gets them if it comes after this callback:
    ``trainer.callback_handler.callbacks.insert(0, callback)`` in place of ``callbacks=``. What has
    changed is logged as Python's warnings are; a warning is an alert of trackio too, where the
    process has a run of it.

    Parameters
    ----------
    stop : whether a warning ends the training.
    lower_rate : what a warning multiplies the learning rate by, in (0, 1), in the optimizer and in
        its schedule; not for DeepSpeed, which keeps rates of its own.
    columns, options : see `Loop`.
    """

    def __init__(
        self,
        *,
        stop: bool = False,
        lower_rate: float | None = None,
        columns: Mapping[str, str] | None = None,
        **options: Any,
    ):
        if lower_rate is not None and not 0 < lower_rate < 1:
            raise ValueError(f"lower_rate must be in (0, 1), got {lower_rate!r}")
        self.loop = Loop(columns=columns, **options)
        self.stop, self.lower_rate = stop, lower_rate

    def on_train_begin(self, args: Any, state: Any, control: Any, **of: Any) -> Any:
        """Rows from before a run was resumed count, and are not acted on."""
        for row in state.log_history:
            self.loop.add(row)
        return control

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **of: Any
    ) -> Any:
        """A row of the trainer's log: the metrics are put into it, and a warning is acted on."""
        if not logs:
            return control
        changes = self.loop.add({**logs, "step": state.global_step})
        if not any(key.startswith("eval_") for key in logs):
            metrics = self.loop.metrics()
            logs.update(metrics)
            state.log_history[-1].update(metrics)
        for change in changes:
            if change.kind == "warning":
                self._act(control, of.get("optimizer"), of.get("lr_scheduler"))
            if change.kind != "row" and state.is_world_process_zero:
                _log.warning("%s", change)
                if change.kind == "warning":
                    _alert(str(change))
        return control

    def _act(self, control: Any, optimizer: Any, scheduler: Any) -> None:
        if self.stop:
            control.should_training_stop = True
        if self.lower_rate is not None:
            for group in optimizer.param_groups:
                group["lr"] *= self.lower_rate
            scheduler = getattr(scheduler, "scheduler", scheduler)  # accelerate wraps it
            scheduler.base_lrs = [rate * self.lower_rate for rate in scheduler.base_lrs]


def _alert(text: str) -> None:
    """Through trackio, where this process has a run of it."""
    with suppress(KeyError, AttributeError, RuntimeError):
        sys.modules["trackio"].alert(title="rlvr", text=text)


def __getattr__(name: str) -> Any:
    """`TrainerWatch`, once it is asked for: its base class is transformers' where that is there."""
    if name != "TrainerWatch":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        base = import_module("transformers").TrainerCallback
    except ImportError:
        base = object
    made = type(name, (_TrainerWatch, base), {"__doc__": _TrainerWatch.__doc__})
    return globals().setdefault(name, made)
