r"""Late phases of sampled GRPO: the plateau around a summit, and the decay where there is none.

At a summit the mean update is 0. The sampled one is noise of variance ``V``, and a distance ``x``
pulls it back by ``c x``, so a run is the linear recursion ``x <- (1 - eta c) x + eta xi`` and
hovers. Its loss of log-odds is ``kappa/2`` times the mean of ``x^2``. A verifier may err
(`verifiers.NoisyVerifier`): it accepts a correct response with the rate ``a``, a wrong one with
``b``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from rlvrlib.bandits import SoftmaxBandit
from rlvrlib.checks import finite, inside, instance, non_negative, number, positive, whole_number
from rlvrlib.methods import correct_count_law, group_advantages, multiplier
from rlvrlib.problems import Array


def noise_and_pull(
    problem: SoftmaxBandit,
    theta: ArrayLike,
    group_size: int,
    true_positive_rate: ArrayLike = 1.0,
    false_positive_rate: ArrayLike = 0.0,
    *,
    length_normalized: bool = True,
) -> tuple[Array, Array]:
    r"""Variance ``V`` of the sampled update of GRPO at a summit, and its mean pull ``c`` per unit
    of distance.

    A group with a share ``k/G`` of accepted responses has the variance
    ``((1 - k/G) v_acc + k/G v_rej) / (G T^2)``, with ``v`` the mean square score; ``V`` is its mean
    over groups of both verdicts. ``c = m_G(p) rho kappa / T``, with ``p`` the rate of acceptance
    and ``rho`` the markedness of the verdict.

    Source: the book's chapter on noisy verifiers, noisy plateau.

    Parameters
    ----------
    problem : responses of one length ``T`` with one parameter.
    theta : its summit, shape ``(..., 1)``.
    group_size : ``G``, at least 2.
    true_positive_rate, false_positive_rate : ``a`` and ``b``, shape ``(...)``; without errors if
        omitted.
    length_normalized : whether scores are divided by ``T``.

    Raises
    ------
    ValueError : a problem with more parameters, a rate outside [0, 1], or a group below two.
    """
    instance(SoftmaxBandit, problem=problem)
    if problem.dim != 1:
        raise ValueError(f"problem must have one parameter, got {problem.dim}")
    whole_number(2, group_size=group_size)
    hit = inside("[0, 1]", true_positive_rate=true_positive_rate)
    alarm = inside("[0, 1]", false_positive_rate=false_positive_rate)
    log_odds, along = problem.log_odds(theta), np.ones(1)
    right, wrong = expit(log_odds), expit(-log_odds)
    squares = problem.conditional_means(theta, problem.scores(theta, along) ** 2)
    parts = right * squares[0], wrong * squares[1]
    accepted, rejected = hit * right + alarm * wrong, (1 - hit) * right + (1 - alarm) * wrong
    of_accepted = (hit * parts[0] + alarm * parts[1]) / accepted
    of_rejected = ((1 - hit) * parts[0] + (1 - alarm) * parts[1]) / rejected
    share = np.arange(1, group_size) / group_size
    chance = correct_count_law(accepted, rejected, group_size)[..., 1:-1]
    spread = (1 - share) * of_accepted[..., None] + share * of_rejected[..., None]
    length = problem.max_length if length_normalized else 1.0
    markedness = (hit - alarm) * right * wrong / (accepted * rejected)
    factor = multiplier("grpo", accepted, group_size, failure_rate=rejected)
    pull = factor * markedness * problem.curvature(theta, along) / length
    return np.sum(chance * spread, axis=-1) / (group_size * length**2), pull


def mean_square_distance(
    rate: ArrayLike, noise: ArrayLike, pull: ArrayLike, momentum: ArrayLike = 0.0
) -> Array:
    """Stationary mean of ``x^2`` under ``x <- x - eta m``, ``m <- beta m + c x + xi``.

    ``(1+beta)/(1-beta) eta V / (c (2(1+beta) - eta c))``, which is ``eta V / (c (2 - eta c))``
    without momentum; shape ``(...)``. Adam with a long memory of squares is this with the rate
    ``(1-beta) h / sqrt(V)``.

    Source: the book's chapter on optimizers, Adam on noise.

    Parameters
    ----------
    rate, noise, pull : ``eta``, ``V`` and ``c``, positive.
    momentum : ``beta``, in [0, 1).

    Raises
    ------
    ValueError : a rate that is not below the critical one, ``2 (1+beta) / c``.
    """
    rate, pull = positive(rate=rate), positive(pull=pull)
    ahead = 1 + inside("[0, 1)", momentum=momentum)
    room = 2 * ahead - rate * pull
    if np.any(room <= 0):
        raise ValueError(
            "rate must be below 2 (1 + momentum) / pull, got "
            f"{np.max(rate * pull / (2 * ahead)):.4g}"
            " times as much"
        )
    return ahead / (2 - ahead) * rate * non_negative(noise=noise) / (pull * room)


def mean_square_distances(rates: ArrayLike, noise: float, pull: float) -> Array:
    """Mean of ``x^2`` after each step from the summit, with a rate for each step, shape
    ``(steps + 1)``: ``s <- (1 - eta c)^2 s + eta^2 V``.

    Source: the book's chapter on optimizers, what decay does.
    """
    number("(-inf, inf)", pull=pull)
    number("[0, inf)", noise=noise)
    found = [0.0]
    for rate in inside("[0, inf)", rates=rates):
        found.append((1 - rate * pull) ** 2 * found[-1] + rate**2 * noise)
    return np.array(found)


def inverse_failure_growth(
    rate: ArrayLike,
    group_size: int,
    true_positive_rate: float = 1.0,
    false_positive_rate: float = 0.0,
) -> Array:
    """Growth of the mean of ``1/(1-J)`` per step, late, where all tokens must be right.

    ``G E[exp(jump) - 1]`` over the verdicts of one wrong and ``G-1`` correct responses, which have
    the scores ``-1`` and 0 per step of ``theta``: ``jump = -eta A / G``, with ``A`` the advantage
    of the wrong one; shape ``(...)``.

    Source: the book's chapter on noisy verifiers, finite groups.

    Parameters
    ----------
    rate : ``eta``, the learning rate times the squared norm of that score, over the length where
        the update is normalized.
    group_size : ``G``, at least 2.
    true_positive_rate, false_positive_rate : ``a`` and ``b`` of the verifier.
    """
    whole_number(2, group_size=group_size)
    others = np.arange(group_size)
    hit = inside("[0, 1]", true_positive_rate=true_positive_rate)
    alarm = inside("[0, 1]", false_positive_rate=false_positive_rate)
    chances = correct_count_law(hit, 1 - hit, group_size - 1)
    growth = np.zeros(())
    for verdict, chance in ((1, alarm), (0, 1 - alarm)):
        accepted = (verdict + others) / group_size
        shares = np.stack([accepted, 1 - accepted], axis=-1)
        advantage = group_advantages("grpo", [1, 0], shares, group_size)[:, 1 - verdict]
        jumps = -finite(rate=rate)[..., None] * advantage / group_size
        growth = growth + chance * np.sum(chances * np.expm1(jumps), axis=-1)
    return group_size * growth
