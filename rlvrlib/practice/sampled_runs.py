"""Sampled training runs on problems that are solved exactly, logged as TRL logs them: runs whose
truth is known.

A trainer sees sampled groups; the exact success rate is kept beside its log, so that a diagnosis
can be checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from rlvrlib import Array, At, MarkovTokens, SampledGradient, SampledProblem
from rlvrlib.checks import whole


@dataclass(frozen=True)
class SampledRuns:
    """Runs side by side.

    Attributes
    ----------
    success_rate : exact ``J`` before each step, shape ``(runs, steps)``.
    logs : for each run the rows that TRL writes to ``log_history``.
    """

    success_rate: Array
    logs: list[list[dict[str, Any]]]


def sampled_runs(
    problem: SampledProblem,
    theta0: ArrayLike,
    rate: ArrayLike,
    num_steps: int,
    *,
    num_runs: int,
    rng: np.random.Generator,
    method: str = "grpo",
    group_size: int = 8,
    groups_per_step: int = 4,
) -> SampledRuns:
    """Train ``num_runs`` policies by sampled groups and plain gradient steps, and log them as TRL
    does.

    Parameters
    ----------
    problem : with ``sample`` and ``log_odds``: `TokenWindow` or `MarkovTokens`.
    theta0 : shape ``(dim,)``.
    rate : learning rate, one for all steps or one for each.
    method : of `SampledGradient`; the standard deviation is the sample one, as in TRL.
    group_size, groups_per_step : responses in a group, and groups whose updates are averaged.

    Raises
    ------
    ValueError : a count below one, or rates that are not one for each step.
    """
    whole(1, num_steps=num_steps)
    whole(1, num_runs=num_runs)
    whole(1, groups_per_step=groups_per_step)
    if np.shape(rate) not in ((), (num_steps,)):
        raise ValueError(
            f"rate must be one number or one for each of {num_steps} steps, "
            f"got shape {np.shape(rate)}"
        )
    rates = np.broadcast_to(np.asarray(rate, dtype=float), num_steps)
    direction = SampledGradient(method, group_size, rng, ddof=1)
    theta = np.broadcast_to(
        np.asarray(theta0, dtype=float), (num_runs, np.shape(theta0)[-1])
    ).copy()
    history: dict[str, list[Array]] = {}
    for eta in rates:
        before = expit(problem.log_odds(theta))
        spread_out = np.broadcast_to(
            theta[:, None, :], (num_runs, groups_per_step, theta.shape[-1])
        )
        unused = np.empty(0)  # a sampled update asks neither for the log-odds nor for the gap
        updates, (rewards, lengths) = direction.update(
            At(problem, spread_out, unused, unused), None
        )
        update, spread = updates.mean(axis=1), rewards.std(axis=-1, ddof=1)
        row = {
            "success_rate": before,
            "reward": rewards.mean(axis=(1, 2)),
            "reward_std": spread.mean(axis=1),
            "frac_reward_zero_std": (spread == 0).mean(axis=1),
            "completions/mean_length": lengths.mean(axis=(1, 2)),
            "completions/clipped_ratio": _cut(problem, lengths).mean(axis=(1, 2)),
            "grad_norm": np.linalg.norm(update, axis=-1),
            "learning_rate": np.full(num_runs, eta),
        }
        for name, value in row.items():
            history.setdefault(name, []).append(value)
        theta = theta + eta * update
    series = {name: np.stack(values, axis=-1) for name, values in history.items()}
    truth = series.pop("success_rate")
    logs = [
        [
            {
                "step": step + 1,
                **{name: float(values[run, step]) for name, values in series.items()},
            }
            for step in range(num_steps)
        ]
        for run in range(num_runs)
    ]
    return SampledRuns(truth, logs)


def _cut(problem: SampledProblem, lengths: Array) -> Array:
    """Responses of the full length of a problem whose responses can stop earlier; a window's always
    have their one length.
    """
    if not isinstance(problem, MarkovTokens):
        return np.zeros(lengths.shape)
    return (lengths >= problem.max_length).astype(float)
