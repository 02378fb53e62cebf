"""The methods as one family: on policy, each moves by ``eta m(J) Gap`` (theory section 4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, xlogy

from rlvrlib.problems import Array

# What a framework adds to the sample standard deviation (ddof 1) of a group: TRL 1.16, verl 0.9.1.
_EPSILON = {"trl": 1e-4, "verl": 1e-6}
_LOSS_TYPES = {
    "trl": ("grpo", "dr_grpo", "bnpo", "dapo", "luspo"),
    "verl": (
        "token-mean",
        "token-sum",
        "seq-mean-token-sum",
        "seq-mean-token-mean",
        "seq-mean-token-sum-norm",
    ),
}

METHODS = ("reinforce", "rloo", "dr_grpo", "grpo", "gspo", "dapo", "log_odds")


def multiplier(
    method: str,
    success_rate: ArrayLike,
    group_size: int | None = None,
    *,
    failure_rate: ArrayLike | None = None,
) -> Array:
    """Population multiplier ``m(J)`` of a method, or its mean over groups of ``group_size``
    samples.

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
    ValueError : unknown method, a rate outside [0, 1], rates that do not add up to 1, or a group
        below two.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if group_size is not None and not (group_size >= 2 and group_size == np.floor(group_size)):
        raise ValueError(f"group_size must be at least 2 and whole, got {group_size!r}")
    success = np.asarray(success_rate, dtype=float)
    failure = 1 - success if failure_rate is None else np.asarray(failure_rate, dtype=float)
    if not np.all((success >= 0) & (failure >= 0) & (np.abs(success + failure - 1) < 1e-9)):
        raise ValueError(
            f"success_rate and failure_rate must be in [0, 1], and failure_rate must be 1 - success_rate, got {success_rate!r} and {failure_rate!r}"
        )
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
    log_chance = (
        choose + xlogy(counts, success[..., None]) + xlogy(group_size - counts, failure[..., None])
    )
    chance = np.exp(log_chance)
    mean, mixed = np.sum(chance * spread, axis=-1), np.sum(chance, axis=-1)
    if method != "dapo":
        return mean
    one_odd = (
        np.sqrt(group_size - 1) / group_size
    )  # the limit as J -> 0 or 1: one response differs from the others
    return np.where(mixed > 0, mean / np.where(mixed > 0, mixed, 1), one_odd)


def advantages(
    rewards: ArrayLike,
    method: str,
    group_ids: ArrayLike | None = None,
    *,
    framework: str = "trl",
    scale_rewards: str = "group",
) -> Array:
    """Advantage of every response, digit for digit as TRL 1.16 (``GRPOTrainer``) or verl 0.9.1
    computes it.

    ``"grpo"``: ``(r - mean) / (std + epsilon)`` with the mean of the group and the sample standard
    deviation of the group or of the batch; ``"dr_grpo"`` and ``scale_rewards="none"``: ``r -
    mean``; ``"rloo"``: ``r`` minus the mean of the others. A group without spread gets zeros. A
    group of one gets 0 in TRL; verl keeps its reward (``/ (1 + epsilon)`` where it scales).

    Parameters
    ----------
    rewards : shape ``(n,)``, any real numbers.
    method : ``"grpo"``, ``"dr_grpo"`` or ``"rloo"``.
    group_ids : shape ``(n,)``, the prompt of each response; one group where omitted.
    framework : ``"trl"`` or ``"verl"``.
    scale_rewards : ``"group"``, ``"batch"`` (TRL alone) or ``"none"``.

    Raises
    ------
    ValueError : unknown names, shapes that differ, rewards that are not finite.
    """
    rewards, group = _responses(rewards, group_ids)
    if method not in ("grpo", "dr_grpo", "rloo"):
        raise ValueError(f"method must be grpo, dr_grpo or rloo, got {method!r}")
    if framework not in _EPSILON:
        raise ValueError(f"framework must be trl or verl, got {framework!r}")
    if scale_rewards not in ("group", "none") and not (
        scale_rewards == "batch" and framework == "trl"
    ):
        raise ValueError(
            f"scale_rewards must be group, batch (TRL alone) or none, got {scale_rewards!r} for {framework}"
        )
    sizes = np.bincount(group)
    mean = np.bincount(group, rewards) / sizes
    if framework == "verl":
        mean = np.where(sizes > 1, mean, 0.0)
    centred = rewards - mean[group]
    if method == "rloo":
        return centred * np.where(sizes > 1, sizes / np.maximum(sizes - 1, 1), 1.0)[group]
    if method == "dr_grpo" or scale_rewards == "none":
        return centred
    if scale_rewards == "batch":
        spread = np.full(len(sizes), np.std(rewards, ddof=1) if len(rewards) > 1 else 0.0)
    else:
        squares = np.bincount(group, (rewards - (np.bincount(group, rewards) / sizes)[group]) ** 2)
        alone = 1.0 if framework == "verl" else 0.0
        spread = np.where(sizes > 1, np.sqrt(squares / np.maximum(sizes - 1, 1)), alone)
    return centred / (spread[group] + _EPSILON[framework])


def token_weights(
    rewards: ArrayLike,
    group_ids: ArrayLike,
    lengths: ArrayLike,
    loss_type: str,
    *,
    method: str = "grpo",
    scale_rewards: str = "group",
    max_completion_length: int | None = None,
    padded_length: int | None = None,
    loss_scale_factor: float | None = None,
) -> list[Array]:
    """Weight of every token in the update, ``-d loss / d log pi(token)``, on policy, as TRL 1.16 or
    verl 0.9.1 has it.

    ================================  ==============================================================
    loss type                         weight of a token of response ``i`` with advantage ``A_i``
    ================================  ==============================================================
    TRL ``grpo``                      ``A_i / (n |o_i|)``
    TRL ``dr_grpo``                   ``A_i / (n max_completion_length)``
    TRL ``bnpo``, ``dapo``            ``A_i / sum |o|``
    TRL ``luspo``                     ``A_i / n``
    verl ``token-mean``               ``A_i / sum |o|``
    verl ``token-sum``                ``A_i``
    verl ``seq-mean-token-sum``       ``A_i / m``, with ``m`` the number of responses that are not empty
    verl ``seq-mean-token-mean``      ``A_i / (m (|o_i| + 1e-8))``
    verl ``seq-mean-token-sum-norm``  ``A_i / (m loss_scale_factor)``, by default the padded length
    ================================  ==============================================================

    One optimizer step per batch, no clipping, no KL term; TRL's importance-sampling level makes no
    difference then.

    Parameters
    ----------
    rewards, group_ids : shape ``(n,)``, as in `advantages`.
    lengths : shape ``(n,)``, tokens of each response; an empty one has no weights but counts as
        above.
    loss_type : one of the names above; TRL's or verl's advantages go with it.
    method, scale_rewards : as in `advantages`.
    max_completion_length : for TRL ``dr_grpo``.
    padded_length, loss_scale_factor : for verl ``seq-mean-token-sum-norm``; the padded length is
        the longest response where omitted.

    Returns
    -------
    One array for each response, of its length.

    Raises
    ------
    ValueError : an unknown name, a missing ``max_completion_length``, lengths that are not counts,
        a divisor that is not positive.
    """
    framework = next((name for name, types in _LOSS_TYPES.items() if loss_type in types), None)
    if framework is None:
        known = ", ".join(name for types in _LOSS_TYPES.values() for name in types)
        raise ValueError(f"loss_type must be one of {known}, got {loss_type!r}")
    counts = np.asarray(lengths)
    if counts.shape != np.shape(rewards) or not np.all(
        (counts >= 0) & (counts == np.floor(counts))
    ):
        raise ValueError(
            f"lengths must be one non-negative whole number per response, got {lengths!r}"
        )
    counts = counts.astype(int)
    weights = advantages(
        rewards, method, group_ids, framework=framework, scale_rewards=scale_rewards
    )
    batch, total, filled = (
        len(counts),
        max(int(counts.sum()), 1),
        max(int(np.count_nonzero(counts)), 1),
    )
    if loss_type == "dr_grpo" and max_completion_length is None:
        raise ValueError("max_completion_length must be given for dr_grpo: TRL divides by it")
    divisors = (max_completion_length, padded_length, loss_scale_factor)
    for name, value in zip(
        ("max_completion_length", "padded_length", "loss_scale_factor"), divisors, strict=True
    ):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value!r}")
    if loss_scale_factor is None:
        loss_scale_factor = (
            padded_length if padded_length is not None else max(int(counts.max()), 1)
        )
    divisor = {
        "grpo": batch * np.maximum(counts, 1),
        "dr_grpo": batch * (max_completion_length or 1),
        "bnpo": total,
        "dapo": total,
        "luspo": batch,
        "token-mean": total,
        "token-sum": 1,
        "seq-mean-token-sum": filled,
        "seq-mean-token-mean": filled * (counts + 1e-8),
        "seq-mean-token-sum-norm": filled * loss_scale_factor,
    }[loss_type]
    return [np.full(count, weight) for count, weight in zip(counts, weights / divisor, strict=True)]


def _responses(rewards: ArrayLike, group_ids: ArrayLike | None) -> tuple[Array, np.ndarray]:
    """Rewards as floats, and the groups numbered from 0."""
    values = np.asarray(rewards, dtype=float)
    if values.ndim != 1 or not len(values) or not np.all(np.isfinite(values)):
        raise ValueError(f"rewards must be a list of finite numbers, got {rewards!r}")
    ids = np.zeros(len(values), dtype=int) if group_ids is None else np.asarray(group_ids)
    if ids.shape != values.shape:
        raise ValueError(
            f"group_ids must name one group per response, got shape {ids.shape} for {len(values)} rewards"
        )
    return values, np.unique(ids, return_inverse=True)[1]
