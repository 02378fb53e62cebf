"""The same trajectories by other means: exact REINFORCE on a softmax bandit, and the log-odds of
Markov tokens.

A peer is a function of ``(starts, rewards, eta, num_steps)`` that gives a call without arguments;
the call gives the success rates, shape ``(runs, steps + 1)``, and the last parameters, shape
``(runs, dim)``. With ``features`` of shape ``(arms, dim)`` the logits are ``theta @ features.T``.
Compilation and constants are in the preparation, so that only the runs are timed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np
from scipy.special import log_softmax

from rlvrlib import (
    Constant,
    LogLinearBandit,
    Loop,
    MarkovTokens,
    PolicyGradient,
    TabularBandit,
    Trajectory,
    ascend,
    ascend_blocks,
)

Array = np.ndarray
Call = Callable[[], tuple[Array, Array]]


def success_and_end(path: Trajectory) -> tuple[Array, Array]:
    """What every peer gives."""
    return path.success_rate, path.theta


def rlvrlib_blocks(
    starts: Array,
    rewards: Array,
    eta: float,
    num_steps: int,
    features: Array | None = None,
    loop: Loop = ascend,
    executor: Executor | None = None,
) -> Call:
    bandit = TabularBandit(rewards) if features is None else LogLinearBandit(features, rewards)

    def call() -> tuple[Array, Array]:
        blocks = ascend_blocks(
            bandit,
            starts,
            PolicyGradient("reinforce"),
            Constant(eta),
            num_steps,
            success_and_end,
            loop=loop,
            executor=executor,
        )
        success, ends, first = np.empty((len(starts), num_steps + 1)), np.empty(starts.shape), 0
        for rates, last in blocks:
            runs = slice(first, first + len(last))
            success[runs], ends[runs], first = rates, last, runs.stop
        return success, ends

    return call


def rlvrlib_compiled(
    starts: Array,
    rewards: Array,
    eta: float,
    num_steps: int,
    features: Array | None = None,
    executor: Executor | None = None,
) -> Call:
    from rlvrlib.compiled.ascent import ascend_compiled

    if features is not None:
        raise ImportError("the compiled ascent is for the tabular bandit")
    rlvrlib_blocks(starts[:2], rewards, eta, 2, loop=ascend_compiled)()  # compiles
    return rlvrlib_blocks(starts, rewards, eta, num_steps, None, ascend_compiled, executor)


def rlvrlib_whole(
    starts: Array, rewards: Array, eta: float, num_steps: int, features: Array | None = None
) -> Call:
    bandit = TabularBandit(rewards) if features is None else LogLinearBandit(features, rewards)

    def call() -> tuple[Array, Array]:
        path = ascend(bandit, starts, PolicyGradient("reinforce"), Constant(eta), num_steps)
        return path.success_rate, path.theta

    return call


def numpy_per_run(
    starts: Array, rewards: Array, eta: float, num_steps: int, features: Array | None = None
) -> Call:
    """One run after the other, as one writes it for a single run."""

    def call() -> tuple[Array, Array]:
        success, ends = np.empty((len(starts), num_steps + 1)), np.empty(starts.shape)
        for run, start in enumerate(starts):
            theta = start.copy()
            for step in range(num_steps + 1):
                logits = theta if features is None else features @ theta
                weights = np.exp(logits - logits.max())
                policy = weights / weights.sum()
                success[run, step] = rate = policy @ rewards
                if step < num_steps:
                    gradient = policy * (rewards - rate)
                    theta += eta * (gradient if features is None else gradient @ features)
            ends[run] = theta
        return success, ends

    return call


def _scan(
    update: Callable, starts: Array, rewards: Array, num_steps: int, features: Array | None
) -> Call:
    """A JAX update ``theta, success = update(theta, logits_of)`` in one compiled scan."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    first, verdicts = jnp.asarray(starts), jnp.asarray(rewards)
    matrix = None if features is None else jnp.asarray(features)

    def logits(theta):  # type: ignore[no-untyped-def]
        return theta if matrix is None else theta @ matrix.T

    def success(theta):  # type: ignore[no-untyped-def]
        return jax.nn.softmax(logits(theta)) @ verdicts

    @jax.jit
    def run(theta):  # type: ignore[no-untyped-def]
        theta, rates = jax.lax.scan(
            lambda theta, _: update(theta, logits, verdicts, matrix), theta, None, length=num_steps
        )
        return jnp.concatenate([rates, success(theta)[None]]), theta

    def call() -> tuple[Array, Array]:
        rates, theta = jax.block_until_ready(run(first))
        return np.asarray(rates).T, np.asarray(theta)

    call()  # compiles
    return call


def jax_by_hand(
    starts: Array, rewards: Array, eta: float, num_steps: int, features: Array | None = None
) -> Call:
    import jax

    def update(theta, logits, verdicts, matrix):  # type: ignore[no-untyped-def]
        policy = jax.nn.softmax(logits(theta))
        success = policy @ verdicts
        gradient = policy * (verdicts - success[:, None])
        return theta + eta * (gradient if matrix is None else gradient @ matrix), success

    return _scan(update, starts, rewards, num_steps, features)


def rlax_qpg(
    starts: Array, rewards: Array, eta: float, num_steps: int, features: Array | None = None
) -> Call:
    """``rlax.qpg_loss`` with one run a row. Its mean over rows times the rows is the sum, so each
    row has its own gradient.
    """
    import jax
    import jax.numpy as jnp
    import rlax

    def update(theta, logits, verdicts, matrix):  # type: ignore[no-untyped-def]
        def loss(theta):  # type: ignore[no-untyped-def]
            scores = logits(theta)
            values = jnp.broadcast_to(verdicts, scores.shape)
            return rlax.qpg_loss(scores, values) * len(scores), jax.nn.softmax(scores) @ verdicts

        gradient, success = jax.grad(loss, has_aux=True)(theta)
        return theta - eta * gradient, success

    return _scan(update, starts, rewards, num_steps, features)


def openspiel_qpg(
    starts: Array, rewards: Array, eta: float, num_steps: int, features: Array | None = None
) -> Call:
    """OpenSpiel's ``BatchQPGLoss``, which needs PyTorch."""
    import torch
    from open_spiel.python.pytorch.losses.rl_losses import BatchQPGLoss

    verdicts = torch.as_tensor(rewards, dtype=torch.float64)
    matrix = None if features is None else torch.as_tensor(features)
    objective = BatchQPGLoss()

    def call() -> tuple[Array, Array]:
        theta, rates = torch.tensor(starts), []
        for step in range(num_steps + 1):
            theta.requires_grad_(True)
            logits = theta if matrix is None else theta @ matrix.T
            rates.append((torch.softmax(logits.detach(), dim=1) @ verdicts).numpy())
            if step < num_steps:
                loss = objective.loss(logits, verdicts.expand(len(theta), -1).contiguous()) * len(
                    theta
                )
                (gradient,) = torch.autograd.grad(loss, theta)
                theta = (theta - eta * gradient).detach()
        return np.stack(rates, axis=-1), theta.detach().numpy()

    return call


def numba_loop(
    starts: Array, rewards: Array, eta: float, num_steps: int, features: Array | None = None
) -> Call:
    """What a compiled loop would gain: one run after the other, all passes over the arms in one,
    tabular alone.
    """
    import numba

    if features is not None:
        raise ImportError("the loop is written for the tabular bandit")

    @numba.njit(fastmath={"contract", "reassoc"})
    def runs(starts, rewards):  # type: ignore[no-untyped-def]
        success, ends = np.empty((len(starts), num_steps + 1)), starts.copy()
        weights = np.empty(starts.shape[1])
        for run in range(len(starts)):
            theta = ends[run]
            for step in range(num_steps + 1):
                top = theta.max()
                total = right = 0.0
                for arm in range(len(theta)):
                    weights[arm] = np.exp(theta[arm] - top)
                    total += weights[arm]
                    right += weights[arm] * rewards[arm]
                success[run, step] = rate = right / total
                if step < num_steps:
                    for arm in range(len(theta)):
                        theta[arm] += eta / total * weights[arm] * (rewards[arm] - rate)
        return success, ends

    runs(starts[:1], rewards)  # compiles
    return lambda: runs(starts, rewards)


def vectors_by_hand(
    starts: Array, rewards: Array, eta: float, num_steps: int, features: Array | None = None
) -> Call:
    """What vectors written by hand reach, see `vectors`."""
    import vectors

    if features is not None:
        raise ImportError("the vectors are written for the tabular bandit")
    order = np.argsort(-rewards, kind="stable")  # right arms first
    back, num_right = np.argsort(order), int(rewards.sum())

    def call() -> tuple[Array, Array]:
        success, ends = np.empty((len(starts), num_steps + 1)), starts[:, order]
        vectors.reinforce(ends, success, num_right, eta)
        return success, ends[:, back]

    call()  # compiles
    return call


POLICY_GRADIENT: dict[str, Callable[..., Call]] = {
    "rlvrlib": rlvrlib_blocks,
    "rlvrlib, compiled": rlvrlib_compiled,
    "rlvrlib, all runs at once": rlvrlib_whole,
    "rlax": rlax_qpg,
    "JAX by hand": jax_by_hand,
    "OpenSpiel": openspiel_qpg,
    "numba": numba_loop,
    "numba, vectors by hand": vectors_by_hand,
    "NumPy, run by run": numpy_per_run,
}


def tokens_batched(chain: MarkovTokens, theta: Array) -> Call:
    return lambda: chain.log_odds_and_gap(theta)


def tokens_per_run(chain: MarkovTokens, theta: Array) -> Call:
    """The dynamic program written for one run, with a loop over time; one run after the other."""
    vocabulary, states, cap = chain.base.shape[1], chain.automaton.shape[0], chain.max_length
    ends = np.array([chain._stopped[row] for row in range(2)])
    goes_on = np.arange(vocabulary) != chain.stop

    def one(parameters: Array) -> tuple[float, Array]:
        policy = np.exp(log_softmax(chain.base + chain.features @ parameters, axis=-1))
        value = np.repeat(chain._cut[:, :, None], vocabulary, axis=2)  # after each state and token
        after = []
        for _ in range(cap):
            reached = np.empty((2, states, vocabulary))
            for state in range(states):
                for token in range(vocabulary):
                    stops = token == chain.stop
                    reached[:, state, token] = (
                        ends[:, state] if stops else value[:, chain.automaton[state, token], token]
                    )
            after.append(reached)
            value = (reached @ policy.T)[:, :, :vocabulary]
        final = (after[-1] @ policy.T)[:, 0, -1]
        counts, here = np.zeros((2, vocabulary + 1, vocabulary)), np.zeros((states, vocabulary + 1))
        here[0, -1] = 1.0
        for reached in after[::-1]:
            counts += np.einsum("su,rsv->ruv", here, reached) * policy
            mass, here = here @ policy, np.zeros_like(here)
            for state in range(states):
                for token in np.flatnonzero(goes_on):
                    here[chain.automaton[state, token], token] += mass[state, token]
        counts /= final[:, None, None]
        excess = counts[0] - counts[1]
        excess -= excess.sum(axis=-1, keepdims=True) * policy
        return float(np.log(final[0]) - np.log(final[1])), np.einsum(
            "uv,uvd->d", excess, chain.features
        )

    def call() -> tuple[Array, Array]:
        values = [one(row) for row in theta]
        return np.array([value for value, _ in values]), np.array([gap for _, gap in values])

    return call


def tokens_enumerated(chain: MarkovTokens, theta: Array) -> Call:
    """Every response written out, all runs at once."""
    vocabulary = chain.base.shape[1]
    words = [
        (*head, chain.stop)
        for length in range(chain.max_length)
        for head in itertools.product(
            [token for token in range(vocabulary) if token != chain.stop], repeat=length
        )
    ]
    words += list(
        itertools.product(
            [token for token in range(vocabulary) if token != chain.stop], repeat=chain.max_length
        )
    )
    used, right = (
        np.zeros((len(words), vocabulary + 1, vocabulary)),
        np.zeros(len(words), dtype=bool),
    )
    for row, word in enumerate(words):
        state, last = 0, vocabulary
        for token in word:
            used[row, last, token] += 1
            if token != chain.stop:
                state, last = chain.automaton[state, token], token
        right[row] = (chain._stopped if word[-1] == chain.stop else chain._cut)[0, state]
    flat = used.reshape(len(words), -1)

    def call() -> tuple[Array, Array]:
        log_policy = log_softmax(
            chain.base + np.einsum("uvd,rd->ruv", chain.features, theta), axis=-1
        )
        chance = np.exp(log_policy.reshape(len(theta), -1) @ flat.T)
        rates = np.stack([chance @ right, chance @ ~right])
        counts = np.stack([(chance * right) @ flat, (chance * ~right) @ flat]) / rates[..., None]
        excess = (counts[0] - counts[1]).reshape(log_policy.shape)
        excess -= excess.sum(axis=-1, keepdims=True) * np.exp(log_policy)
        return np.log(rates[0]) - np.log(rates[1]), np.einsum("ruv,uvd->rd", excess, chain.features)

    return call


TOKENS = {
    "rlvrlib": tokens_batched,
    "NumPy, run by run": tokens_per_run,
    "NumPy, every response": tokens_enumerated,
}


def agree(found: tuple[Array, Array], expected: tuple[Array, Array]) -> float:
    """The largest difference, absolute where numbers are below 1 and relative above."""
    pairs = zip(found, expected, strict=True)
    return max(
        float(np.max(np.abs(one - other) / np.maximum(1, np.abs(other)))) for one, other in pairs
    )
