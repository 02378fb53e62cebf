"""Random token policies along one line, by enumeration: every past has logits of its own over two
tokens and a stop token, linear in the step or small tanh networks of it.

They share no code with the library's problems, and run as one stack.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np
from scipy.special import log_softmax, logsumexp

DEPTH = 3


@cache
def paths():
    """Which (past, token) pairs lie on each response, shape ``(responses, pasts * 3)``."""
    pasts, found = {}, []

    def extend(past, used):
        number = pasts.setdefault(past, len(pasts))
        for token in range(3):
            taken = (*used, 3 * number + token)
            if token == 2 or len(past) == DEPTH - 1:
                found.append(taken)
            else:
                extend((*past, token), taken)

    extend((), ())
    table = np.zeros((len(found), 3 * len(pasts)))
    for row, used in enumerate(found):
        table[row, list(used)] = 1
    return table


LENGTHS = paths().sum(axis=1)


def random_trees(kind, size, rng):
    """Weights of the logits, ``z = sum_h v_h f(c_h + b_h t)`` with ``f`` the identity or tanh, and
    which responses are correct.
    """
    responses, pairs = paths().shape
    scale = np.exp(rng.uniform(-1.5, 1.5, size=(3, size, 1, 1)))
    shape = size, pairs, 1 if kind == "linear" else 3
    v, c, b = scale * rng.normal(size=(3, *shape))
    right = rng.uniform(size=(size, responses)) < rng.uniform(0.03, 0.97, size=(size, 1))
    right[:, 0], right[:, -1] = True, False
    return SimpleNamespace(kind=kind, v=v, c=c, b=b, right=rng.permuted(right, axis=1))


def at(trees, t):
    """Rates, derivatives and bounds of every tree at ``t``, shape ``(..., trees)`` each."""
    units = trees.c + trees.b * np.asarray(t, dtype=float)[..., None, None]
    if trees.kind == "linear":
        value, first, second = units, trees.b, 0.0
    else:
        value = np.tanh(units)
        first = trees.b * (1 - value**2)
        second = -2 * value * trees.b * first
    z, slope, bend = (
        np.sum(trees.v * part, axis=-1).reshape(*units.shape[:-2], -1, 3)
        for part in np.broadcast_arrays(value, first, second)
    )
    tokens = log_softmax(z, axis=-1)
    chance = np.exp(tokens)
    score = slope - np.sum(chance * slope, axis=-1, keepdims=True)
    derivative = bend - np.sum(chance * (bend + score**2), axis=-1, keepdims=True)
    law, s, h = (
        part.reshape(*part.shape[:-2], -1) @ paths().T for part in (tokens, score, derivative)
    )
    right, wrong = (np.where(side, law, -np.inf) for side in (trees.right, ~trees.right))
    log_success, log_failure = logsumexp(right, axis=-1), logsumexp(wrong, axis=-1)
    given = np.exp(right - log_success[..., None]), np.exp(wrong - log_failure[..., None])

    def mean(values):
        return [np.sum(weights * values, axis=-1) for weights in given]

    (s_right, s_wrong), (x_right, x_wrong), (longer, shorter) = map(mean, (s, s**2 + h, LENGTHS))
    success, failure = np.exp(log_success), np.exp(log_failure)
    return SimpleNamespace(
        log_odds=log_success - log_failure,
        success=success,
        failure=failure,
        slope=s_right - s_wrong,
        success_bend=x_right,  # J'' / J
        failure_bend=x_wrong,  # F'' / F
        log_success_bend=x_right - s_right**2,
        square=success * mean(s**2)[0] + failure * mean(s**2)[1],
        wrong_square=mean(s**2)[1],
        score_bound=np.max(np.abs(s), axis=-1),
        token_range=np.max(np.ptp(slope, axis=-1), axis=-1),
        bend_range=np.max(np.ptp(derivative, axis=-1), axis=-1),
        correct_bend=np.max(np.where(trees.right, -h, 0.0), axis=-1),
        wrong_bend=np.max(np.where(trees.right, 0.0, h), axis=-1),
        mean_length=success * longer + failure * shorter,
        correct_mean_length=longer,
    )


def widest(found):
    """The bounds so far along the first axis."""
    names = "score_bound", "token_range", "bend_range", "correct_bend", "wrong_bend"
    names += "mean_length", "correct_mean_length"
    return SimpleNamespace(
        **{name: np.maximum.accumulate(getattr(found, name), axis=0) for name in names}
    )
