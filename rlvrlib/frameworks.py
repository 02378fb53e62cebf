"""What TRL 1.16 and verl 0.9.1 compute, to the digit: advantages, and the weight of a token."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rlvrlib.checks import finite, number, one_of, shown, whole
from rlvrlib.methods import METHODS, Group
from rlvrlib.problems import Array

__all__ = ["advantages", "token_weights"]

# What a framework adds to the sample standard deviation (ddof 1) of a group.
_EPSILON = {"trl": 1e-4, "verl": 1e-6}
_METHODS = ("grpo", "dr_grpo", "rloo")


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
    one_of(_METHODS, method=method)
    row = METHODS[method]
    assert row.advantages is not None
    one_of(_EPSILON, framework=framework)
    if scale_rewards not in ("group", "none") and not (
        scale_rewards == "batch" and framework == "trl"
    ):
        raise ValueError(
            "scale_rewards must be group, batch (TRL alone) or none, got "
            f"{scale_rewards!r} for {framework}"
        )
    sizes = np.bincount(group)
    own_mean = np.bincount(group, rewards) / sizes
    # verl keeps the reward of a group of one
    mean = np.where(sizes > 1, own_mean, 0.0) if framework == "verl" else own_mean
    sample = Group(
        rewards, rewards - mean[group], mean[group], np.where(sizes > 1, sizes, np.inf)[group]
    )
    values = row.advantages(sample)
    if row.standardize == "none" or scale_rewards == "none":
        return values
    if scale_rewards == "batch":
        spread = np.full(len(sizes), np.std(rewards, ddof=1) if len(rewards) > 1 else 0.0)
    else:
        squares = np.bincount(group, (rewards - own_mean[group]) ** 2)
        alone = 1.0 if framework == "verl" else 0.0
        spread = np.where(sizes > 1, np.sqrt(squares / np.maximum(sizes - 1, 1)), alone)
    return values / (spread[group] + _EPSILON[framework])


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
    verl ``seq-mean-token-sum``       ``A_i / m``, with ``m`` the number of non-empty responses
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
    counts = whole(0, lengths=lengths)
    if counts.shape != finite(rewards=rewards).shape:
        raise ValueError(f"lengths must hold one number per response, got {shown(lengths)}")
    if loss_type == "dr_grpo" and max_completion_length is None:
        raise ValueError("max_completion_length must be given for dr_grpo: TRL divides by it")
    for name, value in (
        ("max_completion_length", max_completion_length),
        ("padded_length", padded_length),
        ("loss_scale_factor", loss_scale_factor),
    ):
        if value is not None:
            number("(0, inf)", **{name: value})
    batch, filled = len(counts), max(int(np.count_nonzero(counts)), 1)
    total, longest = max(int(counts.sum()), 1), max(int(counts.max(initial=0)), 1)
    divisors: dict[str, dict[str, ArrayLike]] = {
        "trl": {
            "grpo": batch * np.maximum(counts, 1),
            "dr_grpo": batch * (max_completion_length or 1),
            "bnpo": total,
            "dapo": total,
            "luspo": batch,
        },
        "verl": {
            "token-mean": total,
            "token-sum": 1,
            "seq-mean-token-sum": filled,
            "seq-mean-token-mean": filled * (counts + 1e-8),
            "seq-mean-token-sum-norm": filled * (loss_scale_factor or padded_length or longest),
        },
    }
    one_of([name for known in divisors.values() for name in known], loss_type=loss_type)
    framework, known = next(pair for pair in divisors.items() if loss_type in pair[1])
    weights = advantages(
        rewards, method, group_ids, framework=framework, scale_rewards=scale_rewards
    )
    parts = zip(counts, weights / np.asarray(known[loss_type]), strict=True)
    return [np.full(count, weight) for count, weight in parts]


def _responses(rewards: ArrayLike, group_ids: ArrayLike | None) -> tuple[Array, np.ndarray]:
    """Rewards as floats, and the groups numbered from 0."""
    values = finite(rewards=rewards)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"rewards must be a list of finite numbers, got {shown(rewards)}")
    try:
        ids = np.zeros(len(values), dtype=int) if group_ids is None else np.asarray(group_ids)
    except ValueError:
        raise ValueError(f"group_ids must be a list, got {shown(group_ids)}") from None
    if ids.shape != values.shape:
        raise ValueError(
            f"group_ids must name one group per response, got shape {ids.shape} for "
            f"{len(values)} rewards"
        )
    return values, np.unique(ids, return_inverse=True)[1]
