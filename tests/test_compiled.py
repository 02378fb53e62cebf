"""The compiled ascent: the same trajectories as `ascend`, the same bits for every block, and what
it refuses.
"""

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rlvrlib import (
    Adam,
    Constant,
    FixedLength,
    LogLinearBandit,
    PolicyGradient,
    TabularBandit,
    UniformStarts,
    ascend,
    ascend_blocks,
)
from rlvrlib.compiled import ascent
from rlvrlib.compiled.ascent import ascend_compiled
from rlvrlib.methods import METHODS

REWARDS = np.arange(20) % 5 == 0
BANDIT, REINFORCE = TabularBandit(REWARDS), PolicyGradient("reinforce")
FIELDS = ("log_odds", "step_size", "alignment", "reached", "theta")


def check_agrees(bandit, starts, direction, step, num_steps, **tolerance):
    one, other = (
        run(bandit, starts, direction, step, num_steps) for run in (ascend_compiled, ascend)
    )
    for name in FIELDS:
        np.testing.assert_allclose(
            getattr(one, name), getattr(other, name), err_msg=name, **tolerance
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_arms", [2, 3, 5, 16, 33])
@pytest.mark.parametrize("group_size", [None, 8])
def test_agrees_with_ascend(num_arms, method, group_size):
    rng = np.random.default_rng(num_arms)
    rewards = rng.permutation(np.arange(num_arms) < max(1, num_arms // 3))
    bandit = TabularBandit(rewards, rng.normal(size=num_arms))
    for runs in (1, 7, 64, 150):
        starts = rng.normal(size=(runs, num_arms))
        direction = PolicyGradient(method, group_size)
        check_agrees(bandit, starts, direction, Constant(0.5), 20, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("method", ["reinforce", "grpo", "log_odds"])
def test_keeps_its_digits_where_a_class_or_an_arm_is_rare(method):
    how = (PolicyGradient(method), Constant(0.5), 3)
    for rewards, starts, zero in (
        ([1, 0, 0], [[-600.0, 30, 20], [650.0, -40, 0], [0.0, 300, 299]], 1e-160),
        ([1, 1, 0, 0], [[0.0, -900, 10, -500], [-900.0, 2, 1, 0], [800.0, 799, -5, 500]], 1e-150),
    ):
        check_agrees(TabularBandit(rewards), starts, *how, rtol=1e-12, atol=zero)
        for prior in starts:
            start = np.zeros((1, len(prior)))
            check_agrees(TabularBandit(rewards, prior), start, *how, rtol=1e-12, atol=zero)


def test_keeps_its_digits_where_logits_move_far():
    starts = np.random.default_rng(6).normal(size=(9, 3))
    for eta in (300.0, 1e6):
        direction, step = PolicyGradient("log_odds"), Constant(eta)
        check_agrees(TabularBandit([1, 0, 0]), starts, direction, step, 4, rtol=1e-11, atol=1e-11)


def test_the_exponential_is_right_to_the_last_digits():
    values = np.concatenate([-np.geomspace(1e-300, 349, 8000), [0.0]])
    found = [ascent._exponential(value) for value in values]
    np.testing.assert_allclose(found, np.exp(values), rtol=4e-16, atol=0)
    for value in (-1e6, -np.inf, -708.0, -400.0, -351.0, -1e300):
        small = ascent._exponential(value)
        assert 0 < small < 1e-151 and small**2 >= np.finfo(float).tiny


def everything(path):
    return np.concatenate([path.log_odds, path.step_size, path.alignment, path.theta], axis=-1)


def test_the_same_bits_for_any_block():
    arguments = (BANDIT, UniformStarts(137, 20, -3, 3, seed=5), REINFORCE, Constant(0.7), 9)

    def runs(**how):
        return np.concatenate(
            list(ascend_blocks(*arguments, everything, loop=ascend_compiled, **how))
        )

    whole = runs()
    assert whole.shape[0] == 137
    for size in (1, 5, 64, 100, 1000):
        assert np.array_equal(runs(block_size=size), whole), size
    with ThreadPoolExecutor(2) as executor:
        assert np.array_equal(runs(block_size=5, executor=executor), whole)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LogLinearBandit(np.ones((20, 10)), REWARDS),), "problem must be one TabularBandit"),
        ((TabularBandit([REWARDS, ~REWARDS]),), "problem must be one TabularBandit"),
        (
            (BANDIT, PolicyGradient("grpo", prompts=BANDIT)),
            "direction must be a PolicyGradient without prompts",
        ),
        ((BANDIT, Adam(REINFORCE)), "direction must be a PolicyGradient"),
        ((BANDIT, REINFORCE, FixedLength(0.1)), "step must be a Constant"),
        ((BANDIT, REINFORCE, Constant([0.1, 0.2])), "step must be a Constant of one learning rate"),
        ((BANDIT, REINFORCE, Constant(0.7), np.zeros(20)), "theta0 must have shape"),
        ((BANDIT, REINFORCE, Constant(0.7), np.zeros((2, 19))), "theta0 must have shape"),
        ((BANDIT, REINFORCE, Constant(0.7), np.zeros((2, 20)), 0), "num_steps must be at least 1"),
        ((BANDIT, REINFORCE, Constant(0.7), np.full((2, 20), np.inf)), "theta0 must be finite"),
        (
            (BANDIT, PolicyGradient("log_odds"), Constant(1e307), np.full((2, 20), 1e308), 50),
            "step must keep theta within floating-point range",
        ),
    ],
)
def test_says_what_it_cannot_do(arguments, message):
    defaults = (BANDIT, REINFORCE, Constant(0.7), np.zeros((2, 20)), 2)
    problem, direction, step, theta, num_steps = arguments + defaults[len(arguments) :]
    with pytest.raises(ValueError, match=message):
        ascend_compiled(problem, theta, direction, step, num_steps)


def test_says_what_it_needs(monkeypatch):
    monkeypatch.delitem(sys.modules, "rlvrlib.compiled.ascent")
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs numba: pip install 'rlvrlib\[fast\]'"):
        importlib.import_module("rlvrlib.compiled.ascent")
