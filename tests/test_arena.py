"""The arena: the book's rule never falls where its theorem says so, a rule that gives no step is
named, and what is finished is not computed again.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass

import arena
import arena_problems
import arena_rules
import numpy as np
import pytest
from arena_problems import FAMILIES

from rlvrlib import GuaranteedStep, PolicyGradient, Step, ascend

RULE = "the book's rule"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_books_rule_never_falls_with_exact_gradients(name, monkeypatch):
    monkeypatch.setattr(arena_problems, "RUNS", 6)
    rng = np.random.default_rng(7)
    for setting in FAMILIES[name][0](rng):
        path = arena.follow(RULE, setting, "exact", 12, [1.0], 0)[0]
        assert np.all(path[:, -1] > path[:, 0])
        assert np.min(np.diff(path, axis=-1)) >= -arena.ROUNDING


def test_a_step_beyond_the_guarantee_falls_so_the_test_can_fail():
    @dataclass(frozen=True)
    class Longer(Step):
        def length(self, at, update, state):
            size, state = GuaranteedStep(0.9).length(at, update, state)
            return 8 * size, state

    falls = []
    for setting in FAMILIES["windows"][0](np.random.default_rng(7)):
        run = ascend(setting.problem, setting.start, PolicyGradient("rloo"), Longer(), 6)
        falls.append(np.min(np.diff(run.log_odds, axis=-1)))
    assert min(falls) < -0.01


@dataclass(frozen=True)
class Broken(Step):
    value: float

    def length(self, at, update, state):
        return np.full(update.shape[:-1], self.value), None


@pytest.mark.parametrize("value", [np.nan, -0.5, np.inf])
def test_a_rule_that_gives_no_step_is_named_and_nothing_is_lost(value, monkeypatch, tmp_path):
    make = lambda entry: (entry.gradient("rloo"), Broken(value))  # noqa: E731
    monkeypatch.setitem(arena.RULES, "broken", arena_rules.Rule("nothing", make))
    row = arena.part(tmp_path, "windows", "exact", "broken")
    assert row["note"] == f"a step must be finite and not negative, got {value}"
    assert "median_updates" not in row and row["rule"] == "broken"


def test_one_constant_that_leaves_the_range_of_numbers_leaves_the_others(monkeypatch):
    make = arena_rules.constant("rloo")
    rule = arena_rules.Rule("a constant", make, (0.5, 1e308))
    monkeypatch.setitem(arena.RULES, "too long", rule)
    row = arena.measure("bandits", "exact", "too long")
    assert row["constant"] == 0.5 and row["note"].startswith("1e+308: ")


def test_what_is_finished_is_not_computed_again(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(arena, "measure", lambda *task: calls.append(task) or {"rule": task[2]})
    for _ in range(2):
        assert arena.part(tmp_path, "windows", "exact", "Polyak") == {"rule": "Polyak"}
    assert len(calls) == 1


def test_wilson_interval_is_that_of_the_score_test():
    low, high = arena.wilson(3, 24)
    for end in (low, high):
        assert abs(3 / 24 - end) == pytest.approx(1.96 * np.sqrt(end * (1 - end) / 24))


def test_the_table_has_every_rule_and_the_books_rule_does_not_fall_there():
    rows = list(csv.DictReader(arena.TABLE.read_text(encoding="utf-8").splitlines()))
    seen = {(row["family"], row["gradients"], row["rule"]) for row in rows}
    for name in FAMILIES:
        for rule, entry in arena.RULES.items():
            assert (name, "sampled", rule) in seen
            assert ((name, "exact", rule) in seen) is not entry.sampled_only
    ours = [row for row in rows if row["rule"] == RULE]
    assert {float(row["falls"]) for row in ours} == {0.0}
