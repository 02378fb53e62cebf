"""The methods as one family: on policy, each moves by ``eta m(J) Gap`` (theory section 4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, xlogy

from rlvrlib.problems import Array

METHODS = ("reinforce", "rloo", "dr_grpo", "grpo", "gspo", "dapo", "log_odds")


def multiplier(
    method: str, success_rate: ArrayLike, group_size: int | None = None, *, failure_rate: ArrayLike | None = None
) -> Array:
    """Population multiplier ``m(J)`` of a method, or its mean over groups of ``group_size`` samples.

    ========================  ===================================  ==================================
    method                    population                           mean over groups of size ``G``
    ========================  ===================================  ==================================
    ``reinforce``, ``rloo``   ``J(1-J)``                           ``J(1-J)``
    ``dr_grpo``               ``J(1-J)``                           ``J(1-J)(1-1/G)``
    ``grpo``, ``gspo``        ``sqrt(J(1-J))``                     ``E sqrt(k/G (1-k/G))``
    ``dapo``                  ``sqrt(J(1-J))``                     that over ``1 - J^G - (1-J)^G``
    ``log_odds``              1                                    1
    ========================  ===================================  ==================================

    ``k ~ Binomial(G, J)``, and the standard deviation is the population one.

    Parameters
    ----------
    method : one of the names above.
    success_rate : ``J``, shape ``(...)``, in [0, 1].
    group_size : ``G``, at least 2; the population limit where omitted.
    failure_rate : ``1-J`` where it is known to more digits than ``1 - success_rate`` has.

    Raises
    ------
    ValueError : unknown method, a rate outside [0, 1] or a group below two.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if group_size is not None and group_size < 2:
        raise ValueError(f"group_size must be at least 2, got {group_size!r}")
    success = np.asarray(success_rate, dtype=float)
    failure = 1 - success if failure_rate is None else np.asarray(failure_rate, dtype=float)
    if not np.all((success >= 0) & (success <= 1) & (failure >= 0) & (failure <= 1)):
        raise ValueError(f"success_rate and failure_rate must be in [0, 1], got {success_rate!r} and {failure_rate!r}")
    if method == "log_odds":
        return np.ones_like(success)
    if method in ("reinforce", "rloo", "dr_grpo"):
        share = 1 - 1 / group_size if group_size and method == "dr_grpo" else 1.0
        return success * failure * share
    if group_size is None:
        return np.sqrt(success) * np.sqrt(failure)
    counts = np.arange(1, group_size)  # groups without spread do not move
    spread = np.sqrt(counts / group_size * (1 - counts / group_size))
    choose = gammaln(group_size + 1) - gammaln(counts + 1) - gammaln(group_size - counts + 1)
    log_chance = choose + xlogy(counts, success[..., None]) + xlogy(group_size - counts, failure[..., None])
    chance = np.exp(log_chance)
    mean, mixed = np.sum(chance * spread, axis=-1), np.sum(chance, axis=-1)
    if method != "dapo":
        return mean
    one_odd = np.sqrt(group_size - 1) / group_size  # the limit as J -> 0 or 1: one response differs from the others
    return np.where(mixed > 0, mean / np.where(mixed > 0, mixed, 1), one_odd)
