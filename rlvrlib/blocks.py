"""Many runs in blocks: a block stays in the processor's cache for all its steps, and only what is
asked for is kept.

`ascend` takes any number of runs at once, but each step of a million runs goes through memory many
times. `ascend_blocks` takes as many runs at a time as fit into the cache through all steps, hands
the block's `Trajectory` to ``keep`` and forgets it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from rlvrlib.ascent import Trajectory, ascend
from rlvrlib.bandits import SoftmaxBandit
from rlvrlib.checks import number, whole, whole_number
from rlvrlib.directions import Direction
from rlvrlib.problems import Array, Problem
from rlvrlib.steps import Step

__all__ = ["Loop", "UniformStarts", "ascend_blocks"]

# Numbers in one array of a block, 256 kB: fewer runs and the calls cost more than the work, more
# runs and they leave the cache.
_BLOCK_NUMBERS = 1 << 15
# A multiple of the rows that the kernels of a matrix product take at a time.
_TILE = 16
# Blocks that an executor holds at a time: enough for some dozens of workers.
_UNDER_WAY = 64

Kept = TypeVar("Kept")


class Starts(Protocol):
    """Where the runs start: an array of shape ``(runs, dim)``, a memory-mapped one, or anything
    with a length and slices.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, runs: slice, /) -> Array: ...


@dataclass(frozen=True)
class UniformStarts:
    """Starts drawn when they are needed, uniform in ``[low, high)``; run ``i`` is the same whatever
    else is drawn.

    Parameters
    ----------
    num_runs, dim : number of runs, and of parameters of each, at least 1.
    low, high : ends of the interval of every parameter, finite, ``low`` below ``high``.
    seed : seed of the stream of random numbers, of which run ``i`` has the numbers from ``i * dim``
        on.
    """

    num_runs: int
    dim: int
    low: float = -1.0
    high: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number(1, num_runs=self.num_runs)
        whole_number(1, dim=self.dim)
        whole_number(0, seed=self.seed)
        low = number("(-inf, inf)", low=self.low)
        if not low < number("(-inf, inf)", high=self.high):
            raise ValueError(f"low must be below high, got {self.low!r} and {self.high!r}")

    def __len__(self) -> int:
        return self.num_runs

    def __getitem__(self, runs: slice) -> Array:
        first, last, stride = runs.indices(self.num_runs)
        if stride != 1:
            raise ValueError(f"runs must be a slice without a stride, got {runs!r}")
        # a double takes one number of the stream
        stream = np.random.PCG64(self.seed).advance(first * self.dim)
        return np.random.Generator(stream).uniform(
            self.low, self.high, size=(max(last - first, 0), self.dim)
        )


class Loop(Protocol):
    """`ascend`, or another function that gives the trajectories of a block."""

    def __call__(
        self, problem: Problem, theta0: Array, direction: Direction, step: Step, num_steps: int, /
    ) -> Trajectory: ...


def ascend_blocks(
    problem: Problem,
    starts: Starts,
    direction: Direction,
    step: Step,
    num_steps: int,
    keep: Callable[[Trajectory], Kept],
    *,
    block_size: int | None = None,
    executor: Executor | None = None,
    loop: Loop = ascend,
) -> Iterator[Kept]:
    """`ascend` for any number of runs; gives ``keep(trajectory)`` of each block, in the order of
    the runs.

    No run depends on its block: the results have the same bits for every ``block_size`` and every
    number of workers. ``np.concatenate(list(...))`` joins arrays; with a mean in place of the list
    the memory does not grow with the runs.

    Parameters
    ----------
    problem, direction, step, num_steps : as for `ascend`, the same for all runs: without axes of
        runs, and without random numbers.
    starts : see `Starts`.
    keep : what to keep of a block's `Trajectory`, whose arrays have shape ``(runs of the block,
        ...)``. Where processes run the blocks it must be a function that pickle can find.
    block_size : runs at a time; by default as many as stay in cache.
    executor : where the blocks run, such as a `concurrent.futures.ProcessPoolExecutor`; one after
        the other in this process where omitted.
    loop : what runs a block: `ascend`, or several times as fast for what it can do
        `rlvrlib.compiled.ascent.ascend_compiled` (extra ``fast``), beside which other threads run.

    Raises
    ------
    ValueError : bad arguments, or whatever the loop raises.
    """
    if len(starts) < 1:
        raise ValueError("starts must hold at least one run, got none")
    if block_size is not None:
        whole(1, block_size=block_size)
    _check_shared(problem, starts, direction, step)
    width = problem.num_arms if isinstance(problem, SoftmaxBandit) else problem.dim
    size = block_size or _block_size(len(starts), width)
    calls = (
        partial(
            _block, starts[first : first + size], loop, problem, direction, step, num_steps, keep
        )
        for first in range(0, len(starts), size)
    )
    return (call() for call in calls) if executor is None else _in_order(executor, calls)


def _in_order(executor: Executor, calls: Iterator[Callable[[], Kept]]) -> Iterator[Kept]:
    """Results in the order of the calls. Few are under way, so that neither starts nor results pile
    up.
    """
    under_way: deque[Future[Kept]] = deque()
    for call in calls:
        under_way.append(executor.submit(call))
        if len(under_way) == _UNDER_WAY:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


def _block_size(num_runs: int, width: int) -> int:
    """Blocks of one size, so that no small one is left at the end; a multiple of the runs that the
    compiled ascent has side by side.
    """
    most = max(_TILE, _BLOCK_NUMBERS // width)
    even = -(-num_runs // -(-num_runs // most))
    return -(-even // 64) * 64


def _block(
    start: Array,
    loop: Loop,
    problem: Problem,
    direction: Direction,
    step: Step,
    num_steps: int,
    keep: Callable[[Trajectory], Kept],
) -> Kept:
    """What is kept of one block. BLAS treats rows that do not fill one of its tiles apart, with
    other last bits: a block is filled up with copies of a run.
    """
    rows = len(start)
    filled = np.concatenate([start, np.repeat(start[:1], -rows % _TILE, axis=0)])
    path = loop(problem, filled, direction, step, num_steps)
    parts = {field.name: getattr(path, field.name) for field in fields(path)}
    notes = {name: values[:rows] for name, values in parts.pop("notes").items()}
    return keep(Trajectory(**{name: values[:rows] for name, values in parts.items()}, notes=notes))


def _check_shared(problem: Problem, starts: Starts, direction: Direction, step: Step) -> None:
    for name, rule in (("direction", direction), ("step", step)):
        if _draws(rule):
            raise ValueError(
                f"{name} must not draw random numbers, got {type(rule).__name__}: "
                "they would depend on the blocks"
            )
    shape = ascend(problem, starts[0:1][0], direction, step, 1).log_odds.shape
    if shape != (2,):
        raise ValueError(
            "problem, direction and step must be the same for all runs, got axes of shape "
            f"{shape[:-1]}: call ascend for these"
        )


def _draws(rule: object) -> bool:
    if not is_dataclass(rule):
        return isinstance(rule, np.random.Generator)
    return any(_draws(getattr(rule, field.name)) for field in fields(rule))
