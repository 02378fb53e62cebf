r"""Adam on gradients that change: how long its update is, in learning rates.

All functions are of one coordinate. With a gradient ``g_k`` Adam moves by the learning rate times
``u = m / sqrt(v)``, where ``m`` and ``v`` are the means of ``g`` and ``g^2`` over memories with the
factors ``beta1`` and ``beta2``, both bias-corrected.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rlvrlib.checks import inside, number, positive, whole
from rlvrlib.first_zero import zero_between
from rlvrlib.problems import Array


def adam_bound(beta1: ArrayLike, beta2: ArrayLike) -> Array:
    """Largest size of Adam's update, ``(1-beta1) / sqrt((1-beta2) (1 - beta1^2/beta2))``, shape
    ``(...)``.

    No sequence of gradients makes a longer one; one that grows by ``beta2/beta1`` a step attains
    it.

    Source: the book's chapter on optimizers, length of a step.

    Raises
    ------
    ValueError : a factor outside [0, 1), or ``beta2`` that is not above ``beta1^2``: there is none.
    """
    beta1, beta2 = _memories(beta1, beta2)
    if np.any(beta2 <= beta1**2):
        raise ValueError(f"beta2 must be above beta1^2, got {np.min(beta2)} for beta1 {beta1}")
    return (1 - beta1) / np.sqrt((1 - beta2) * (1 - beta1**2 / beta2))


def adam_response(
    factor: ArrayLike, beta1: ArrayLike, beta2: ArrayLike, num_steps: float = np.inf
) -> Array:
    """Adam's update where the gradient changes by a ``factor`` per step, shape ``(...)``.

    ``psi(q) = (1-beta1) / (1 - beta1/q) sqrt((1 - beta2/q^2) / (1-beta2))`` where
    ``q^2 > beta2``, and 0 below, where it tends to 0. After ``n`` steps the memory of squares is
    filled in part: ``psi(q) sqrt((1 - beta2^n) / (1 - (beta2/q^2)^n))``.

    Source: the book's chapter on optimizers, length of a step.

    Parameters
    ----------
    factor : ``q``, above ``beta1``.
    num_steps : ``n``, with ``q^2 > beta2``; the limit if omitted.

    Raises
    ------
    ValueError : a factor that is not above ``beta1``.
    """
    beta1, beta2 = _memories(beta1, beta2)
    number("[1, inf]", num_steps=num_steps)
    factor = positive(factor=factor)
    if np.any(factor <= beta1):
        raise ValueError(f"factor must be above beta1 = {beta1}, got {np.min(factor)}")
    ratio = beta2 / factor**2
    response = (1 - beta1) / (1 - beta1 / factor) * np.sqrt(np.maximum(1 - ratio, 0) / (1 - beta2))
    if np.isinf(num_steps):
        return response
    return response * np.sqrt((1 - beta2**num_steps) / (1 - ratio**num_steps))


def adam_pace(rate: ArrayLike, power: ArrayLike, beta1: ArrayLike, beta2: ArrayLike) -> Array:
    """Log-odds per step to which Adam settles near success rate 1, shape ``(...)``.

    With a gap of 1 and a multiplier like ``(1-J)^p`` it solves ``x = h psi(exp(-p x))``, so it is
    below ``log(1/beta2) / (2 p)`` at every rate.

    Source: the book's chapter on optimizers, Adam's speed limit.

    Parameters
    ----------
    rate, power : ``h`` and ``p``, positive.
    """
    rate, power = np.broadcast_arrays(positive(rate=rate), positive(power=power))
    inside("(0, 1)", beta2=beta2)

    def excess(pace: Array) -> Array:
        return rate * adam_response(np.exp(-power * pace), beta1, beta2) - pace

    limit = -np.log(beta2) / (2 * power)
    return zero_between(excess, np.zeros(rate.shape), limit, np.ones(rate.shape, bool))[()]


def adam_noise(num_steps: ArrayLike, beta1: ArrayLike) -> Array:
    """Mean square of Adam's update number ``k`` on fair signs, shape ``(...)``.

    ``(1-beta1)/(1+beta1) (1+beta1^k)/(1-beta1^k)``: 1 at first, ``(1-beta1)/(1+beta1)`` late.

    Source: the book's chapter on optimizers, Adam on noise.
    """
    beta1, count = inside("[0, 1)", beta1=beta1), whole(1, num_steps=num_steps)
    return (1 - beta1) * (1 + beta1**count) / ((1 + beta1) * (1 - beta1**count))


def adam_travel(waited: ArrayLike, num_steps: int, beta1: ArrayLike, beta2: ArrayLike) -> Array:
    """Distance in ``num_steps`` steps from one gradient after ``waited`` zeros and before zeros,
    shape ``(...)``.

    After many zeros it tends to ``(1-beta1) / (sqrt(1-beta2) (1 - beta1/sqrt(beta2)))``.

    Source: the book's chapter on optimizers, Adam on noise.
    """
    beta1, beta2 = _memories(beta1, beta2)
    whole(1, num_steps=num_steps)
    since = np.arange(num_steps)
    count = whole(0, waited=waited)[..., None] + 1 + since
    mean = (1 - beta1) * beta1**since / (1 - beta1**count)
    square = (1 - beta2) * beta2**since / (1 - beta2**count)
    return np.sum(mean / np.sqrt(square), axis=-1)


def _memories(beta1: ArrayLike, beta2: ArrayLike) -> tuple[Array, Array]:
    return inside("[0, 1)", beta1=beta1), inside("[0, 1)", beta2=beta2)
