"""Runs in blocks: the same bits for every size of block and number of processes, and nothing kept
but what is asked for.
"""

import os
import platform
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from rlvrlib import (
    Adam,
    Constant,
    FixedLength,
    LogLinearBandit,
    MarkovTokens,
    PolicyGradient,
    SampledGradient,
    TabularBandit,
    UniformStarts,
    ascend,
    ascend_blocks,
)

ROOT = Path(__file__).parents[1]
NUM_ARMS, NUM_RUNS = 20, 37
REWARDS = np.arange(NUM_ARMS) % 5 == 0
SHARED = LogLinearBandit(np.random.default_rng(0).normal(size=(NUM_ARMS, 10)), REWARDS)
CHAIN = MarkovTokens(
    np.random.default_rng(1).normal(size=(4, 3)),
    np.random.default_rng(2).normal(size=(4, 3, 2)),
    0,
    6,
    [[0, 1, 0], [0, 0, 1]],
    [False, True],
)
PROBLEMS = {"tabular": TabularBandit(REWARDS), "shared features": SHARED, "tokens": CHAIN}
REINFORCE = PolicyGradient("reinforce")


def everything(path):
    return np.concatenate([path.log_odds, path.step_size, path.alignment, path.theta], axis=-1)


def last_success(path):
    return path.success_rate[:, -1]


def runs(problem, starts, **how):
    direction = Adam(PolicyGradient("grpo")) if problem is SHARED else REINFORCE
    return np.concatenate(
        list(ascend_blocks(problem, starts, direction, Constant(0.7), 9, everything, **how))
    )


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_same_bits_for_any_block(name):
    problem = PROBLEMS[name]
    starts = UniformStarts(NUM_RUNS, problem.dim, -3, 3, seed=5)
    whole = runs(problem, starts)
    assert whole.shape[0] == NUM_RUNS
    for size in (1, 2, 3, 8, 36, 37, 1000):
        assert np.array_equal(runs(problem, starts, block_size=size), whole), size
    direction = Adam(PolicyGradient("grpo")) if problem is SHARED else REINFORCE
    assert everything(ascend(problem, starts[:], direction, Constant(0.7), 9)) == pytest.approx(
        whole, rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("jobs", [2, 3])
def test_the_same_bits_for_any_number_of_processes(jobs):
    starts = UniformStarts(NUM_RUNS, NUM_ARMS, -3, 3, seed=5)
    one, many = (
        list(
            ascend_blocks(
                PROBLEMS["tabular"],
                starts,
                REINFORCE,
                Constant(0.7),
                9,
                last_success,
                block_size=5,
                jobs=n,
            )
        )
        for n in (1, jobs)
    )
    assert len(one) == len(many) == 8
    assert all(np.array_equal(left, right) for left, right in zip(one, many, strict=True))


FIELDS = ("log_odds", "step_size", "alignment", "reached", "theta")


@pytest.mark.parametrize("method", ["reinforce", "grpo", "log_odds"])
@pytest.mark.parametrize("num_arms", [2, 3, 5, 16, 33])
def test_the_compiled_loop_agrees_with_ascend(num_arms, method):
    from rlvrlib.compiled import ascend_compiled

    rng = np.random.default_rng(num_arms)
    rewards = rng.permutation(np.arange(num_arms) < max(1, num_arms // 3))
    prior = rng.normal(size=num_arms)
    for bandit in (
        TabularBandit(rewards, prior),
        *(LogLinearBandit(rng.normal(size=(num_arms, dim)), rewards, prior) for dim in (1, 2, 5)),
    ):
        starts = rng.normal(size=(7, bandit.dim))
        one, other = (
            run(bandit, starts, PolicyGradient(method), Constant(0.5), 20)
            for run in (ascend_compiled, ascend)
        )
        for name in FIELDS:
            np.testing.assert_allclose(
                getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-11, err_msg=name
            )


@pytest.mark.parametrize("method", ["reinforce", "grpo", "log_odds"])
def test_the_compiled_loop_keeps_its_digits_where_one_class_is_rare(method):
    from rlvrlib.compiled import ascend_compiled

    bandit, starts = (
        TabularBandit([1, 0, 0]),
        np.array([[-600.0, 30.0, 20.0], [650.0, -40.0, 0.0], [0.0, 300.0, 299.0]]),
    )
    one, other = (
        run(bandit, starts, PolicyGradient(method), Constant(0.5), 3)
        for run in (ascend_compiled, ascend)
    )
    for name in FIELDS:
        np.testing.assert_allclose(
            getattr(one, name), getattr(other, name), rtol=1e-12, atol=1e-160, err_msg=name
        )


def test_the_compiled_loop_keeps_its_digits_where_an_arm_is_rare_in_its_class():
    from rlvrlib.compiled import ascend_compiled

    starts = np.array(
        [[0.0, -900.0, 10.0, -500.0], [-900.0, 2.0, 1.0, 0.0], [800.0, 799.0, -5.0, 500.0]]
    )
    for bandit in (TabularBandit([1, 1, 0, 0]), LogLinearBandit(np.eye(4), [1, 1, 0, 0])):
        one, other = (
            run(bandit, starts, REINFORCE, Constant(0.5), 3) for run in (ascend_compiled, ascend)
        )
        for name in FIELDS:
            np.testing.assert_allclose(
                getattr(one, name), getattr(other, name), rtol=1e-12, atol=1e-150, err_msg=name
            )


def test_the_compiled_loop_keeps_its_digits_where_logits_move_far():
    from rlvrlib.compiled import ascend_compiled

    for bandit, eta in (
        (TabularBandit([1, 0, 0]), 300.0),
        (LogLinearBandit([[3.0, 0.0], [0.0, 3.0], [0.0, -3.0]], [1, 0, 0]), 16.0),
    ):
        starts = np.random.default_rng(6).normal(size=(9, bandit.dim))
        one, other = (
            run(bandit, starts, PolicyGradient("log_odds"), Constant(eta), 4)
            for run in (ascend_compiled, ascend)
        )
        for name in FIELDS:
            np.testing.assert_allclose(
                getattr(one, name), getattr(other, name), rtol=1e-11, atol=1e-11, err_msg=name
            )


def test_the_compiled_exponential_is_right_to_the_last_digits():
    from numba import njit

    from rlvrlib import compiled

    @njit
    def exponentials(values, found):
        for i in range(len(values)):
            compiled._store(found, i, compiled._exponential(compiled._load(values, i)))

    values = np.concatenate(
        [-np.geomspace(1e-300, 349, 4000), [0.0], np.geomspace(1e-300, 300, 3999)]
    ).reshape(-1, 8)
    found = np.empty_like(values)
    exponentials(values, found)
    np.testing.assert_allclose(found, np.exp(values), rtol=3e-16, atol=0)
    exponentials(np.full((1, 8), [-1e6, -np.inf, -708, -400, -351, -1e300, -1e3, -999]), found[:1])
    assert np.all((found[0] > 0) & (found[0] < 1e-151) & (found[0] ** 2 >= np.finfo(float).tiny))


# The bits of some runs, as text.
BITS = """
import hashlib, numpy as np
from rlvrlib import Constant, LogLinearBandit, PolicyGradient, TabularBandit
from rlvrlib.compiled import ascend_compiled
rng, found = np.random.default_rng(7), hashlib.sha256()
for bandit in (TabularBandit(np.arange(21) < 4), LogLinearBandit(rng.normal(size=(21, 6)), np.arange(21) < 4)):
    path = ascend_compiled(bandit, rng.normal(size=(19, bandit.dim)), PolicyGradient("grpo"), Constant(0.5), 30)
    for part in (path.step_size, path.alignment, path.theta):
        found.update(part.tobytes())
print(found.hexdigest())
"""


def test_the_compiled_loop_has_the_same_bits_on_other_processors(tmp_path):
    """What its loop computes; the logarithm in the log-odds is NumPy's."""
    found = set()
    for processor in (
        {},
        {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
        {"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": "+sse4.1"},
    ):
        if processor and platform.machine() != "x86_64":
            pytest.skip("the names of other processors are those of x86-64")
        setting = (
            os.environ | processor | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
        )
        found.add(
            subprocess.run(
                [sys.executable, "-c", BITS],
                env=setting,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
    assert len(found) == 1, found


@pytest.mark.parametrize("name", ["tabular", "shared features"])
def test_the_compiled_loop_has_the_same_bits_for_any_block(name):
    starts = UniformStarts(NUM_RUNS, PROBLEMS[name].dim, -3, 3, seed=5)
    whole, *parts = (
        np.concatenate(
            list(
                ascend_blocks(
                    PROBLEMS[name],
                    starts,
                    REINFORCE,
                    Constant(0.7),
                    9,
                    everything,
                    compiled=True,
                    **how,
                )
            )
        )
        for how in ({}, {"block_size": 1}, {"block_size": 5}, {"block_size": 5, "jobs": 2})
    )
    assert all(np.array_equal(part, whole) for part in parts)


def test_the_compiled_loop_says_what_it_cannot_do(monkeypatch):
    def call(problem, direction=REINFORCE, step=None, start=0.0):
        return list(
            ascend_blocks(
                problem,
                np.full((2, problem.dim), start),
                direction,
                step or Constant(0.7),
                2,
                everything,
                compiled=True,
            )
        )

    for arguments, message in (
        ((CHAIN,), "problem must be one TabularBandit or LogLinearBandit"),
        (
            (SHARED, PolicyGradient("grpo", 8)),
            "direction must be a PolicyGradient without group_size",
        ),
        ((SHARED, Adam(REINFORCE)), "direction must be a PolicyGradient"),
        ((SHARED, REINFORCE, FixedLength(0.1)), "step must be a Constant"),
    ):
        with pytest.raises(ValueError, match=message):
            call(*arguments)
    for start in (np.inf, np.nan, [0.0, np.nan, *[0.0] * (NUM_ARMS - 2)]):
        with pytest.raises(ValueError, match="floating-point range"):
            call(PROBLEMS["tabular"], start=start)
    with pytest.raises(
        ValueError, match="learning rate of at most 300 for the compiled loop, got 301"
    ):
        call(PROBLEMS["tabular"], step=Constant(301.0))
    with pytest.raises(ValueError, match=r"learning rate of at most 1\.5 for the compiled loop"):
        call(LogLinearBandit([[10.0, 0.0], [0.0, 1.0]], [1, 0]), step=Constant(1.6))
    from rlvrlib.compiled import ascend_compiled

    stacked = LogLinearBandit(np.ones((2, 3, 4)), [1, 0, 0])
    for problem, theta, steps, message in (
        (stacked, np.zeros((2, 4)), 1, "one matrix of features"),
        (SHARED, np.zeros(10), 1, "theta0 must have shape"),
        (SHARED, np.zeros((2, 10)), 0, "num_steps"),
    ):
        with pytest.raises(ValueError, match=message):
            ascend_compiled(problem, theta, REINFORCE, Constant(0.7), steps)
    monkeypatch.delitem(sys.modules, "rlvrlib.compiled", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(
        ValueError, match=r"compiled must be False without numba: pip install 'rlvrlib\[fast\]'"
    ):
        call(SHARED)


def test_starts_are_the_same_however_they_are_cut():
    starts = UniformStarts(100, 7, 2.0, 3.0, seed=9)
    whole = starts[:]
    assert whole.shape == (100, 7) and 2 <= whole.min() < 2.1 and 2.9 < whole.max() < 3
    assert np.array_equal(np.concatenate([starts[:1], starts[1:40], starts[40:]]), whole)
    assert not np.array_equal(UniformStarts(100, 7, 2.0, 3.0, seed=10)[:], whole)


def test_memory_does_not_grow_with_the_runs():
    def peak(num_runs):
        starts = UniformStarts(num_runs, NUM_ARMS)
        tracemalloc.start()
        total = sum(
            block.sum()
            for block in ascend_blocks(
                PROBLEMS["tabular"],
                starts,
                REINFORCE,
                Constant(0.7),
                2,
                last_success,
                block_size=100,
            )
        )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert 0 < total < num_runs
        return most

    peak(200)
    assert peak(20_000) < 1.2 * peak(1000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: UniformStarts(0, 3), "num_runs must be at least 1"),
        (lambda: UniformStarts(3, 3, 1.0, 1.0), "low and high must be finite, low below high"),
        (lambda: UniformStarts(9, 3)[::2], "runs must be a slice without a stride"),
        (
            lambda: ascend_blocks(
                SHARED, np.zeros((0, 10)), REINFORCE, Constant(1.0), 1, everything
            ),
            "starts must hold at least one run",
        ),
        (
            lambda: ascend_blocks(
                SHARED, np.zeros((4, 10)), REINFORCE, Constant(1.0), 1, everything, block_size=0
            ),
            "block_size must be",
        ),
        (
            lambda: ascend_blocks(
                SHARED,
                np.zeros((4, 10)),
                REINFORCE,
                Constant([1.0, 2.0]),
                1,
                everything,
                block_size=2,
            ),
            "must be the same for all runs",
        ),
        (
            lambda: ascend_blocks(
                SHARED,
                np.zeros((4, 10)),
                Adam(SampledGradient("grpo", 4, np.random.default_rng(0))),
                Constant(1.0),
                1,
                everything,
            ),
            "direction must not draw random numbers",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
