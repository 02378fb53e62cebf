"""The methods as one family, a row of a table for each: what a response counts, and what follows.

A response with reward ``r`` counts as its advantage ``A``. On policy ``E[s | r] = (r - J) Gap``, so
the mean update ``E[A s]`` is ``m Gap`` with the multiplier ``m = E[A (r - J)]``: in the population
a function ``m(J)`` of the success rate, over finite groups its mean over the binomial law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, xlogy

from rlvrlib.checks import Array, finite, inside, one_of, whole_number

__all__ = ["METHODS", "SAMPLED_METHODS", "method_named", "multiplier"]

RatioWeight = Callable[[Array, Array, Array, Array, Array], Array]


@dataclass(frozen=True)
class Group:
    """A group of responses as its advantages see it, arrays that broadcast.

    Parameters
    ----------
    rewards : ``r``, centred over the batch or the group where the method standardizes over it.
    centred : ``r - mean``.
    mean : mean reward of the group.
    size : number of responses ``G``, infinite in the population.
    """

    rewards: Array
    centred: Array
    mean: Array
    size: ArrayLike


def importance_ratio(
    log_ratio: Array, length: Array, advantage: Array, low: Array, high: Array
) -> Array:
    """``rho = pi / pi_old``, unclipped."""
    return np.exp(log_ratio)


def clipped_surrogate(
    log_ratio: Array, length: Array, advantage: Array, low: Array, high: Array
) -> Array:
    """``rho``, and 0 where ``min(rho A, clip(rho) A)`` is flat: ``A > 0, rho > high`` or ``A < 0,
    rho < low`` (PPO).
    """
    ratio = np.exp(log_ratio)
    return np.where(np.where(advantage > 0, ratio > high, ratio < low), 0.0, ratio)


def sequence_surrogate(
    log_ratio: Array, length: Array, advantage: Array, low: Array, high: Array
) -> Array:
    """`clipped_surrogate` of the ratio per token, ``rho^(1/|o|)`` (GSPO)."""
    return clipped_surrogate(log_ratio / length, length, advantage, low, high)


def clipped_weight(
    log_ratio: Array, length: Array, advantage: Array, low: Array, high: Array
) -> Array:
    """``clip(rho)``, a constant for the gradient: what is outside still counts (CISPO)."""
    return np.clip(np.exp(log_ratio), low, high)


@dataclass(frozen=True)
class Method:
    """What a method is.

    Parameters
    ----------
    powers : of ``J`` and of ``1-J`` in the population multiplier ``m(J) = J^a (1-J)^b``.
    advantages : of a group, before they are standardized; None where there is nothing to sample.
    standardize : ``"group"`` or ``"batch"``: rewards are centred over its responses and advantages
        divided by their standard deviation; or ``"none"``.
    resamples : whether groups without spread are drawn again.
    length_normalized : whether the score of a response is divided by its length.
    aggregation : the loss is the ``"sum"`` over tokens, that over the length ``"cap"``, or a
        ``"mean"`` over tokens.
    ratio_weight : what a response counts off policy, next to its advantage: a function of ``log
        rho``, ``|o|``, ``A`` and the ends of the interval for ``rho``.
    """

    powers: tuple[float, float]
    advantages: Callable[[Group], Array] | None
    standardize: str = "none"
    resamples: bool = False
    length_normalized: bool = False
    aggregation: str = "sum"
    ratio_weight: RatioWeight = clipped_surrogate


def _over_the_mean(group: Group) -> Array:
    """``(r - mean) / mean``, and 1 more for a response that alone is right.

    So the mean over groups is ``(1-J)(1 - (1-J)^G)``, that of the score averaged over the correct
    responses. Without the 1, as published, it is ``(1-J)(1 - (1-J)^(G-1))``.
    """
    alone = (group.mean > 0) & (group.rewards / np.asarray(group.size) >= group.mean)
    return _quotient(group.centred, group.mean) + alone


# Shao et al. 2024
_GRPO = Method(
    (0.5, 0.5),
    lambda group: group.centred,
    standardize="group",
    length_normalized=True,
    aggregation="mean",
)
_BATCH = replace(_GRPO, standardize="batch", length_normalized=False)
METHODS: dict[str, Method] = {
    # Williams 1992
    "reinforce": Method((1, 1), lambda group: group.rewards, ratio_weight=importance_ratio),
    # Ahmadian et al. 2024: r less the mean of the others
    "rloo": Method((1, 1), lambda group: group.centred / (1 - 1 / np.asarray(group.size))),
    # Liu et al. 2025
    "dr_grpo": Method((1, 1), lambda group: group.centred, aggregation="cap"),
    "grpo": _GRPO,
    # Zheng et al. 2025
    "gspo": replace(_GRPO, ratio_weight=sequence_surrogate),
    # Yu et al. 2025
    "dapo": replace(_GRPO, length_normalized=False, resamples=True),
    # MiniMax 2025, published without a lower end
    "cispo": replace(_GRPO, length_normalized=False, ratio_weight=clipped_weight),
    # Hu et al. 2025, with one baseline for the batch or one for each group
    "reinforce_plus_plus": replace(_BATCH, advantages=lambda group: group.rewards),
    "reinforce_plus_plus_baseline": _BATCH,
    # Tajwar et al. 2026
    "maxrl": Method((0, 1), _over_the_mean),
    # the log-odds themselves, which no advantage of a group has as its mean
    "log_odds": Method((0, 0), None),
}
SAMPLED_METHODS = tuple(name for name, method in METHODS.items() if method.advantages)


def method_named(name: str, *, sampled: bool = False) -> Method:
    """The row of a method; only of those that are sampled where asked for.

    Raises
    ------
    ValueError : an unknown name.
    """
    one_of(SAMPLED_METHODS if sampled else tuple(METHODS), method=name)
    return METHODS[name]


def multiplier(
    method: str,
    success_rate: ArrayLike,
    group_size: int | None = None,
    *,
    failure_rate: ArrayLike | None = None,
    batch: bool = False,
) -> Array:
    """Population multiplier ``m(J)`` of a method, or its mean over groups of ``group_size``
    samples.

    =======================  ================  ====================================
    method                   population        mean over groups of size ``G``
    =======================  ================  ====================================
    ``reinforce``, ``rloo``  ``J(1-J)``        ``J(1-J)``
    ``dr_grpo``              ``J(1-J)``        ``J(1-J)(1-1/G)``
    ``grpo``, ``gspo``       ``sqrt(J(1-J))``  ``E sqrt(k/G (1-k/G))``
    ``cispo``                ``sqrt(J(1-J))``  the same
    ``dapo``                 ``sqrt(J(1-J))``  that over ``1 - J^G - (1-J)^G``
    ``maxrl``                ``1-J``           ``(1-J)(1 - (1-J)^G)``
    ``log_odds``             1                 1
    =======================  ================  ====================================

    ``reinforce_plus_plus`` is as ``grpo`` for a prompt by itself. In a batch it moves prompt ``q``
    by ``J_q (1-J_q) / sqrt(Jbar (1-Jbar))``, with its ``_baseline`` the root is that of the mean of
    ``J_q (1-J_q)``.

    ``k ~ Binomial(G, J)``, and the standard deviation is the population one (the book's chapter on
    the success rate).

    Parameters
    ----------
    method : a name in `METHODS`.
    success_rate : ``J``, shape ``(...)``, in [0, 1].
    group_size : ``G``, at least 2; the population limit where omitted.
    failure_rate : ``1-J`` where it is known to more digits than ``1 - success_rate`` has.
    batch : the last axis of the rates holds the prompts of one batch, for methods that standardize
        over the batch; otherwise each prompt is a batch of its own.

    Raises
    ------
    ValueError : unknown method, a rate outside [0, 1], rates that do not add up to 1, a group below
        two, or finite groups where a batch of several prompts is standardized.
    """
    row = method_named(method)
    if group_size is not None:
        whole_number(2, group_size=group_size)
    success = inside("[0, 1]", success_rate=success_rate)
    failure = 1 - success if failure_rate is None else inside("[0, 1]", failure_rate=failure_rate)
    if not ((failure >= 0) & (np.abs(success + failure - 1) < 1e-9)).all():
        raise ValueError(
            f"failure_rate must be 1 - success_rate, got {failure_rate!r} beside {success_rate!r}"
        )
    population = success ** row.powers[0] * failure ** row.powers[1]
    if row.advantages is None:
        return population
    if batch and row.standardize == "batch":
        if group_size is not None:
            raise ValueError(
                f"group_size must be omitted for a batch of prompts with {method}, got "
                f"{group_size!r}: its mean over finite batches is not a product over prompts"
            )
        rates = np.stack([success, failure], axis=-1)
        right, wrong = np.moveaxis(
            group_advantages(method, np.array([1.0, 0.0]), rates, np.inf, batch=True), -1, 0
        )
        return success * failure * (right - wrong)
    if group_size is None:
        return population
    count = np.arange(group_size + 1)
    share = count / group_size
    right, wrong = group_advantages(
        method, np.array([1.0, 0.0]), np.stack([share, 1 - share], axis=-1), group_size
    ).T
    # the mean of A (r - J) over a group with so many correct responses
    mean = share * right * failure[..., None] - (1 - share) * wrong * success[..., None]
    return np.sum(correct_count_law(success, failure, group_size, row.resamples) * mean, axis=-1)


def correct_count_law(
    success: Array, failure: Array, group_size: int, mixed: bool = False
) -> Array:
    """Binomial law of the number of correct responses, shape ``(..., G + 1)``; given that it is
    neither 0 nor ``G`` where ``mixed``.
    """
    whole_number(1, group_size=group_size)
    success = inside("[0, 1]", success=success)
    failure = inside("[0, 1]", failure=failure)
    count, tiny = np.arange(group_size + 1), np.finfo(float).tiny if mixed else 0.0
    law = (
        gammaln(group_size + 1)
        - gammaln(count + 1)
        - gammaln(group_size - count + 1)
        + xlogy(count, np.maximum(success, tiny)[..., None])
        + xlogy(group_size - count, np.maximum(failure, tiny)[..., None])
    )
    if not mixed:
        return np.exp(law)
    law[..., [0, -1]] = -np.inf
    chance = np.exp(law - law.max(axis=-1, keepdims=True))
    return chance / chance.sum(axis=-1, keepdims=True)


def group_advantages(
    method: str,
    rewards: ArrayLike,
    share: ArrayLike,
    group_size: float,
    *,
    batch: bool = False,
    ddof: int = 0,
) -> Array:
    """Advantage of each outcome of a group, shape ``(..., n)``, zero in a group without spread.

    Parameters
    ----------
    rewards : zeros and ones, shape ``(..., n)``: one for each response, or for each kind of them.
    share : share of the group that each of them has, shape ``(..., n)``.
    group_size : number of responses ``G``; infinite for the population.
    batch : whether axis -2 holds the groups of one batch, for methods that standardize over it.
    ddof : 0 for the population standard deviation, 1 for the sample one.
    """
    row = method_named(method, sampled=True)
    whole_number(0, ddof=ddof)
    assert row.advantages is not None
    right, share = np.broadcast_arrays(finite(rewards=rewards) > 0, finite(share=share))
    success = np.sum(share * right, axis=-1, keepdims=True)
    failure = np.sum(share * ~right, axis=-1, keepdims=True)

    def centred(axes: tuple[int, ...]) -> Array:
        rates = (rate.mean(axis=axes, keepdims=True) for rate in (failure, -success))
        return np.where(right, *rates)

    over = (-2, -1) if batch and row.standardize == "batch" else (-1,)
    # in the population a constant baseline changes nothing, and saves digits
    plain = row.standardize == "none" and np.isfinite(group_size)
    outcomes = right.astype(float) if plain else centred(over)
    advantages = row.advantages(Group(outcomes, centred((-1,)), success, group_size))
    if row.standardize == "none":
        return advantages
    groups = share.shape[-2] if len(over) > 1 else 1
    variance = np.sum(share * advantages**2, axis=over, keepdims=True) / groups
    if ddof:
        variance = variance * groups * group_size / (groups * group_size - ddof)
    return _quotient(advantages, np.sqrt(variance))


def _quotient(values: Array, scale: Array) -> Array:
    """``values / scale``, and 0 where the scale is 0."""
    values, scale = np.broadcast_arrays(values, scale)
    return np.divide(values, scale, out=np.zeros(values.shape), where=scale > 0)
