"""Runs in blocks: the same bits for every size of block and number of processes, and nothing kept
but what is asked for.
"""

import tracemalloc
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from rlvrlib import (
    Adam,
    Constant,
    FixedLength,
    LogLinearBandit,
    LongStep,
    MarkovTokens,
    PolicyGradient,
    SampledGradient,
    TabularBandit,
    UniformStarts,
    ascend,
    ascend_blocks,
)

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


def trials(path):
    return path.notes["trials"]


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


@pytest.mark.parametrize("workers", [2, 3])
def test_the_same_bits_for_any_number_of_processes(workers):
    starts = UniformStarts(NUM_RUNS, NUM_ARMS, -3, 3, seed=5)
    arguments = (PROBLEMS["tabular"], starts, REINFORCE, Constant(0.7), 9, last_success)
    one = list(ascend_blocks(*arguments, block_size=5))
    with ProcessPoolExecutor(workers) as executor:
        many = list(ascend_blocks(*arguments, block_size=5, executor=executor))
    assert len(one) == len(many) == 8
    assert all(np.array_equal(left, right) for left, right in zip(one, many, strict=True))


def test_an_executor_holds_few_blocks_at_a_time():
    """Blocks wait until what comes before them is taken, in the order of the runs."""
    starts, drawn = UniformStarts(1000, NUM_ARMS), []

    class Counted:
        def __len__(self):
            return len(starts)

        def __getitem__(self, runs):
            drawn.append(runs.start)
            return starts[runs]

    with ThreadPoolExecutor(2) as executor:
        found = ascend_blocks(
            PROBLEMS["tabular"],
            Counted(),
            REINFORCE,
            Constant(0.7),
            1,
            last_success,
            block_size=1,
            executor=executor,
        )
        first = [next(found) for _ in range(3)]
        assert len(drawn) == 1 + 64 + 2  # one is looked at, 64 are under way, two follow
        whole = np.concatenate([*first, *found])
    assert drawn[1:] == list(range(1000))
    path = ascend(PROBLEMS["tabular"], starts[:], REINFORCE, Constant(0.7), 1)
    assert whole == pytest.approx(last_success(path), rel=1e-12)


@pytest.mark.parametrize("name", ["tabular", "shared features"])
def test_blocks_have_one_size_and_are_filled(name):
    problem, sizes = PROBLEMS[name], []

    def loop(problem, theta, *rest):
        sizes.append(len(theta))
        return ascend(problem, theta, *rest)

    starts = UniformStarts(4000, problem.dim, seed=5)
    found = ascend_blocks(problem, starts, REINFORCE, Constant(0.7), 1, last_success, loop=loop)
    # at most 256 kB of arms, 1638 runs, and a multiple of 64
    assert [len(block) for block in found] == sizes == [1344, 1344, 1312]
    sizes.clear()
    few = ascend_blocks(
        problem, starts[:21], REINFORCE, Constant(0.7), 1, last_success, block_size=20, loop=loop
    )
    assert [len(block) for block in few] == [20, 1] and sizes == [32, 16]


def test_one_run_and_what_its_step_notes():
    step = LongStep(FixedLength(0.01), factors=(4.0, 2.0))
    arguments = (REINFORCE, step, 3)
    starts = UniformStarts(5, NUM_ARMS, seed=5)
    whole = ascend(PROBLEMS["tabular"], starts[:], *arguments).notes["trials"]
    blocks = ascend_blocks(PROBLEMS["tabular"], starts, *arguments, trials, block_size=2)
    assert whole.any() and np.array_equal(np.concatenate(list(blocks)), whole)
    (alone,) = ascend_blocks(PROBLEMS["tabular"], starts[:1], *arguments, trials)
    assert np.array_equal(alone, whole[:1])


def test_starts_are_the_same_however_they_are_cut():
    starts = UniformStarts(100, 7, 2.0, 3.0, seed=9)
    whole = starts[:]
    assert whole.shape == (100, 7) and 2 <= whole.min() < 2.1 and 2.9 < whole.max() < 3
    assert np.array_equal(np.concatenate([starts[:1], starts[1:40], starts[40:]]), whole)
    assert not np.array_equal(UniformStarts(100, 7, 2.0, 3.0, seed=10)[:], whole)
    assert starts[5:3].shape == (0, 7) and UniformStarts(2, 1)[:].shape == (2, 1)


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
        (lambda: UniformStarts(3, 3, 1.0, 1.0), "low must be below high"),
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
