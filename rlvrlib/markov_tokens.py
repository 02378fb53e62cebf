"""Responses of random length, solved exactly: a Markov chain of tokens with a stop token, judged by
a finite automaton.

A response ends with its stop token, which counts, or at the cap
``T_max``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import comb

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit, logsumexp, softmax

from rlvrlib.checks import inside, last_axis, number, whole, whole_number
from rlvrlib.problems import Array, Regularity, SampledProblem, unit

__all__ = [
    "MarkovTokens",
    "bracket_chain",
    "burst_chain",
    "stopping_start",
    "stopping_walk",
]


class MarkovTokens(SampledProblem):
    """Tokens of a Markov chain with a stop token and a hard cap, judged by a finite automaton.

    ``P(v | u) = softmax_v(base[u, v] + <features[u, v], theta>)``; row ``V`` is the start. The
    automaton reads every token but the stop token; a response is correct iff it stops in an
    accepting state. One that reaches the cap is cut there: wrong, unless ``accept_at_cap`` lets its
    state decide. Exact by forward-backward dynamic programming over the last token, the state and
    the time.

    Parameters
    ----------
    base : shape ``(V + 1, V)``; ``-inf`` forbids a transition.
    features : shape ``(V + 1, V, d)``.
    stop : the stop token, in ``0 ... V - 1``.
    max_length : ``T_max``, at least 1.
    automaton : shape ``(S, V)``, the next state for each state and token; it starts in state 0.
    accepting : shape ``(S,)``, whether a response that stops there is correct.
    accept_at_cap : whether a response that is cut in an accepting state is correct.
    """

    def __init__(
        self,
        base: ArrayLike,
        features: ArrayLike,
        stop: int,
        max_length: int,
        automaton: ArrayLike,
        accepting: ArrayLike,
        *,
        accept_at_cap: bool = False,
    ):
        self.base, self.features = np.asarray(base, dtype=float), np.asarray(features, dtype=float)
        self.automaton, accepting = np.asarray(automaton), np.asarray(accepting).astype(bool)
        self.stop, self._max_length = stop, max_length
        self._check(accepting)
        # Rows: correct, wrong. What a response is worth that stops in a state, or is cut there.
        self._stopped = np.stack([accepting, ~accepting]).astype(float)
        cut = accepting & accept_at_cap
        self._cut = np.stack([cut, ~cut]).astype(float)
        self._tokens = np.arange(self.base.shape[1])
        if not np.all(self._values(np.zeros(self.dim))[0] > 0):
            raise ValueError(
                "accepting must leave correct and wrong responses within max_length: "
                "this verifier accepts all or none"
            )

    def _check(self, accepting: np.ndarray) -> None:
        vocabulary, states = self.base.shape[-1], len(accepting)
        if (
            self.base.shape != (vocabulary + 1, vocabulary)
            or self.features.shape[:-1] != self.base.shape
        ):
            raise ValueError(
                "base and features must have shapes (V + 1, V) and (V + 1, V, d), got "
                f"{self.base.shape} and {self.features.shape}"
            )
        if np.any(np.isnan(self.base) | (self.base == np.inf)) or not np.all(
            np.isfinite(self.features)
        ):
            raise ValueError("base must be finite or -inf, and features finite")
        if not np.all(np.isfinite(self.base).any(axis=-1)):
            raise ValueError("base must allow a token after every token: a row of -inf has no law")
        if not 0 <= self.stop < vocabulary:
            raise ValueError(f"stop must be a token from 0 to {vocabulary - 1}, got {self.stop!r}")
        if np.all(np.isinf(self.base[:, self.stop])):
            raise ValueError(
                "base must allow the stop token after some token: this chain cannot stop"
            )
        whole(1, max_length=self.max_length)
        if (
            self.automaton.shape != (states, vocabulary)
            or not np.isin(self.automaton, np.arange(states)).all()
        ):
            raise ValueError(
                f"automaton must have shape (S, V) = {states, vocabulary} with entries from 0 to "
                f"{states - 1}, got shape {self.automaton.shape}"
            )

    @property
    def dim(self) -> int:
        return self.features.shape[-1]

    @property
    def max_length(self) -> int:
        return self._max_length

    def transitions(self, theta: ArrayLike) -> Array:
        """``P(v | u)``, shape ``(..., V + 1, V)``; the last row is the start."""
        return softmax(self.base + self._along(last_axis(self.dim, theta=theta)), axis=-1)

    def log_odds(self, theta: ArrayLike) -> Array:
        """Shape ``(...)``. Both probabilities are sums of positive terms, so both keep their
        digits.
        """
        right, wrong = self._values(theta)[0]
        return np.log(right) - np.log(wrong)

    def gradient_gap(self, theta: ArrayLike) -> Array:
        """``E[s | r=1] - E[s | r=0]`` from the expected numbers of transitions, shape ``(...,
        dim)``.
        """
        return self.log_odds_and_gap(theta)[1]

    def log_odds_and_gap(self, theta: ArrayLike) -> tuple[Array, Array]:
        """Both from one pass back in time."""
        (right, wrong), gap = self._values_and_gap(theta, np.ones(self.max_length))
        return np.log(right) - np.log(wrong), gap

    def length_normalized_gap(self, theta: ArrayLike, gap: Array | None = None) -> Array:
        """``E[s / |o| | r=1] - E[s / |o| | r=0]``, shape ``(..., dim)``."""
        return self._values_and_gap(theta, 1 / np.arange(1, self.max_length + 1))[1]

    def curvature(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``-w' (grad^2 l) w``, by differentiating the dynamic program twice along the direction,
        shape ``(...)``.
        """
        values = self._values(theta, last_axis(self.dim, direction=direction))
        slope, bend = values[1] / values[0], values[2] / values[0]
        right, wrong = bend - slope**2
        return wrong - right

    def regularity(self, direction: ArrayLike) -> Regularity:
        """``R_p`` is the widest range of ``<w, features>`` over the tokens that may follow a token;
        ``0 >= h >= -R_p^2/4``.
        """
        along = self._along(unit(last_axis(self.dim, direction=direction)))
        allowed = np.isfinite(self.base)
        high = np.max(np.where(allowed, along, -np.inf), axis=-1)
        spread = np.max(high - np.min(np.where(allowed, along, np.inf), axis=-1), axis=-1)
        bend, cap = spread**2 / 4, self.max_length
        return Regularity(cap * spread, cap * bend, spread, bend, cap, linear_logits=True)

    def conditional_variance(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``V``: largest sum over a response of the variances of its token scores given the past,
        shape ``(...)``.

        ``sum_t Var(s_t | past) <= V`` for every response, with equality for one: the longest path
        through the chain.
        """
        moves = self.transitions(theta)
        along = self._along(last_axis(self.dim, direction=direction))
        centred = along - np.sum(moves * along, axis=-1, keepdims=True)
        variance = np.sum(moves * centred**2, axis=-1)
        longest, allowed = np.zeros(variance.shape), np.isfinite(self.base)
        for _ in range(self.max_length):
            after = longest[..., :-1].copy()
            after[..., self.stop] = 0.0
            longest = variance + np.max(np.where(allowed, after[..., None, :], 0.0), axis=-1)
        return longest[..., -1]

    def local_regularity(self, theta: ArrayLike, direction: ArrayLike) -> Regularity:
        """As `regularity`, with the mean lengths at ``theta``."""
        mean, correct = self.mean_lengths(theta)
        return replace(self.regularity(direction), mean_length=mean, correct_mean_length=correct)

    def mean_lengths(self, theta: ArrayLike) -> tuple[Array, Array]:
        """``E[|o|]`` and ``E[|o| | r=1]``, shape ``(...)`` each."""
        moves = [self.transitions(theta)]
        after_first, chances = (
            self._at_start(self._before(0, moves, self._backward(moves, worth)[0]))
            for worth in (np.arange(float(self.max_length)), np.ones(self.max_length))
        )
        return 1 + after_first[0] + after_first[1], 1 + after_first[0] / chances[0]

    def length_law(self, theta: ArrayLike) -> tuple[Array, Array]:
        """``P(|o| = t | r=1)`` and ``P(|o| = t | r=0)`` for ``t = 1 ... T_max``, shape ``(...,
        T_max)`` each.
        """
        moves = self.transitions(theta)
        ends = []
        for arrived in self._forward(moves):
            mass = np.matmul(arrived, moves)
            stopping, going = mass[..., self.stop], self._arrivals(mass)
            ends.append(np.einsum("rs,...s->r...", self._stopped, stopping))
        ends[-1] = ends[-1] + np.einsum("rs,...sv->r...", self._cut, going)
        law = np.stack(ends, axis=-1)
        right, wrong = law / law.sum(axis=-1, keepdims=True)
        return right, wrong

    def responses(self, theta: ArrayLike) -> tuple[Array, Array, np.ndarray]:
        """Every response by enumeration: probabilities and whether they are correct, shape
        ``(responses,)``, and scores, shape ``(responses, dim)``, at one ``theta``. There are up to
        ``V^T_max``.
        """
        moves = self.transitions(theta)
        steps = self.features - np.einsum("uv,uvd->ud", moves, self.features)[:, None]
        found: list[tuple[float, Array, bool]] = []

        def extend(last: int, state: int, length: int, chance: float, score: Array) -> None:
            for token in np.flatnonzero(moves[last]):
                after = chance * moves[last, token], score + steps[last, token]
                if token == self.stop:
                    found.append((*after, bool(self._stopped[0][state])))
                elif length == self.max_length:
                    found.append((*after, bool(self._cut[0][self.automaton[state, token]])))
                else:
                    extend(int(token), self.automaton[state, token], length + 1, *after)

        extend(len(moves) - 1, 0, 1, 1.0, np.zeros(self.dim))
        probability, score, correct = zip(*found, strict=True)
        return np.array(probability), np.array(score), np.array(correct)

    def sample(
        self, theta: ArrayLike, group_size: int, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Rewards and lengths, shape ``(..., G)``, and scores, shape ``(..., G, dim)``, of
        ``group_size`` responses.
        """
        whole_number(2, group_size=group_size)
        moves = self.transitions(theta)
        batch = (*moves.shape[:-2], group_size)
        mean = np.einsum("...uv,uvd->...ud", moves, self.features)
        cumulative = np.cumsum(moves, axis=-1)
        lead = tuple(axis[..., None] for axis in np.indices(batch[:-1], sparse=True))
        token = np.full(batch, self.base.shape[1])
        state = np.zeros(batch, dtype=int)
        rewards, lengths, scores = np.zeros(batch), np.zeros(batch), np.zeros((*batch, self.dim))
        alive = np.ones(batch, dtype=bool)
        for _ in range(self.max_length):
            here = (*lead, token)
            draw = (cumulative[here] < rng.uniform(size=(*batch, 1))).sum(axis=-1)
            draw = np.minimum(draw, moves.shape[-1] - 1)
            scores += alive[..., None] * (self.features[token, draw] - mean[here])
            lengths += alive
            stopping = alive & (draw == self.stop)
            rewards = np.where(stopping, self._stopped[0][state], rewards)
            alive = alive & ~stopping
            state = np.where(alive, self.automaton[state, draw], state)
            token = np.where(alive, draw, token)
            if not alive.any():
                break
        return np.where(alive, self._cut[0][state], rewards), lengths, scores

    def _along(self, vector: Array) -> Array:
        """``<features[u, v], vector>``, shape ``(..., V + 1, V)``."""
        return np.einsum("uvd,...d->...uv", self.features, vector)

    def _values(self, theta: ArrayLike, direction: Array | None = None) -> list[Array]:
        """Probabilities of a correct and of a wrong response, shape ``(2, ...)``, with two
        derivatives if asked for.
        """
        moves = [self.transitions(theta)]
        if direction is not None:
            along = self._along(direction)
            centred = along - np.sum(moves[0] * along, axis=-1, keepdims=True)
            variance = np.sum(moves[0] * centred**2, axis=-1, keepdims=True)
            moves += [moves[0] * centred, moves[0] * (centred**2 - variance)]
        continuations = self._backward(moves, np.ones(self.max_length))
        return [
            self._at_start(self._before(order, moves, continuations[0]))
            for order in range(len(moves))
        ]

    @staticmethod
    def _at_start(value: Array) -> Array:
        """What a response is worth before its first token, shape ``(2, ...)``."""
        return np.moveaxis(value[..., 0, :, -1], -1, 0)

    def _backward(self, moves: list[Array], worth: Array) -> list[list[Array]]:
        """For each time the expected worth after each next token, shape ``(..., S, 2, V)``, and its
        derivatives.
        """
        shape = (*moves[0].shape[:-2], *self._stopped.T.shape, self.base.shape[1])
        values = [np.broadcast_to(self._cut.T[:, :, None] * worth[-1], shape)]
        values += [np.zeros(shape)] * (len(moves) - 1)
        times = []
        for time in range(self.max_length, 0, -1):
            after = [
                value[..., self.automaton[:, None, :], np.arange(2)[:, None], self._tokens]
                for value in values
            ]
            for order, value in enumerate(
                after
            ):  # to stop ends the response, with the length that it has then
                value[..., self.stop] = self._stopped.T * worth[time - 1] if order == 0 else 0.0
            times.append(after)
            values = [self._before(order, moves, after)[..., :-1] for order in range(len(moves))]
        return times[::-1]

    @staticmethod
    def _before(order: int, moves: list[Array], after: list[Array]) -> Array:
        """One step back in time, by the product rule, shape ``(..., S, 2, V + 1)``."""
        # One product for all states, correct and wrong: many small ones cost more to begin than to
        # compute.
        rows = [value.reshape(*value.shape[:-3], -1, value.shape[-1]) for value in after]
        value = sum(
            comb(order, k) * np.matmul(rows[order - k], np.swapaxes(moves[k], -1, -2))
            for k in range(order + 1)
        )
        return value.reshape(*after[0].shape[:-1], -1)

    def _forward(self, moves: Array) -> Iterator[Array]:
        """For each time the probability of being in a state after a token, shape ``(..., S, V +
        1)``.
        """
        arrived = np.zeros((*moves.shape[:-2], self._stopped.shape[1], self.base.shape[1] + 1))
        arrived[..., 0, -1] = 1.0
        yield arrived
        for _ in range(self.max_length - 1):
            going = self._arrivals(np.matmul(arrived, moves))
            arrived = np.concatenate([going, np.zeros((*going.shape[:-1], 1))], axis=-1)
            yield arrived

    def _arrivals(self, mass: Array) -> Array:
        size = mass.shape[-2] * mass.shape[-1]
        place = (
            self.automaton * mass.shape[-1]
            + self._tokens
            + size * np.arange(mass.size // size)[:, None, None]
        )
        place = place.astype(np.intp)  # bincount takes pointers, which have 32 bits in a browser
        going = np.asarray(
            np.bincount(place.ravel(), mass.ravel(), minlength=mass.size), dtype=float
        ).reshape(mass.shape)
        going[..., self.stop] = 0.0
        return going

    def _values_and_gap(self, theta: ArrayLike, worth: Array) -> tuple[Array, Array]:
        """Probabilities of a correct and of a wrong response, shape ``(2, ...)``, and the gap of
        scores times the worth of a length.
        """
        moves = self.transitions(theta)
        continuations = self._backward([moves], worth)
        plain = (
            continuations if np.all(worth == 1) else self._backward([moves], np.ones_like(worth))
        )
        values = self._at_start(self._before(0, [moves], plain[0]))
        # The sum over states and times is one product.
        arrived, after = (
            np.concatenate(list(self._forward(moves)), axis=-2),
            np.concatenate([after for (after,) in continuations], axis=-3),
        )
        counts = np.matmul(np.swapaxes(arrived, -1, -2), after.reshape(*after.shape[:-2], -1))
        right, wrong = np.split(counts, 2, axis=-1)
        excess = (right / values[0, ..., None, None] - wrong / values[1, ..., None, None]) * moves
        visits = np.sum(excess, axis=-1, keepdims=True)
        return values, np.einsum("...uv,uvd->...d", excess - visits * moves, self.features)


def bracket_chain(length: int, vocabulary: int = 4, persistence: float = 0.0) -> MarkovTokens:
    """Opening, closing, neutral tokens and a stop token, with ``length`` as cap; correct iff the
    balance of brackets never leaves ``+-1.5 sqrt(length)``.

    ``theta`` adds to the logit of every opening token and is taken from that of every closing one.
    At ``theta = 0`` the response stops after each token with probability ``1/length``, and the
    shares of the classes are 2/5, 2/5 and 1/5. Tokens of a class behave alike, so 4 tokens, one for
    each class, give the same problem as any larger vocabulary whose sides have 2/5 of the tokens
    each.

    Parameters
    ----------
    vocabulary : number of tokens, at least 4, the stop token included.
    persistence : logit by which a bracket prefers to be followed by its like.
    """
    whole_number(2, length=length)
    number("[0, 1)", persistence=persistence)
    whole_number(4, vocabulary=vocabulary)
    side = max((vocabulary - 1) * 2 // 5, 1)
    counts = np.array([side, side, vocabulary - 1 - 2 * side, 1])
    kind = np.repeat(np.arange(4), counts)
    same = (np.r_[kind, -1][:, None] == kind) & (kind < 2)
    base = np.log(np.array([0.4, 0.4, 0.2, 1.0]) / counts)[kind] + persistence * same
    base[:, :-1] -= logsumexp(base[:, :-1], axis=1, keepdims=True) - np.log1p(-1 / length)
    base[:, -1] = -np.log(length)
    move = np.array([1, -1, 0, 0])[kind]
    outside = round(1.5 * np.sqrt(length)) + 1  # the state in which the balance stays
    balance = np.arange(2 * outside)
    automaton = (balance[:, None] + move) % (2 * outside)
    automaton[outside] = outside
    features = np.broadcast_to(move[:, None], (*base.shape, 1))
    law = base, features, vocabulary - 1, length
    return MarkovTokens(*law, automaton, balance != outside, accept_at_cap=True)


def burst_chain(length: int, bound: int, correlation: float, open_share: float) -> MarkovTokens:
    """Tokens 0 (forced), -1 and +1 (open), in which the open ones come in bursts; correct iff the
    sum of a response of ``length`` tokens is at most ``bound`` in size.

    Every token is open with the probability ``open_share``, whatever the correlation of openness
    between neighbours; ``theta`` tilts the open ones, which are fair at 0 (Bursts).
    """
    whole_number(1, length=length)
    whole_number(1, bound=bound)
    inside("[0, 1)", correlation=correlation)
    number("(0, 1)", open_share=open_share)
    # after a forced token, after an open one of either sign, after the stop token, at the start
    after = np.array([0.0, 1.0, 1.0, 0.0])
    opens = np.r_[correlation * after + (1 - correlation) * open_share, open_share]
    with np.errstate(divide="ignore"):
        base = np.log(np.stack([1 - opens, opens / 2, opens / 2, 0 * opens], axis=1))
    base[3] = 0.0  # never reached, for no response stops before the cap
    features = np.zeros((5, 4, 1))
    features[:, 1], features[:, 2] = -0.5, 0.5
    total = np.r_[0 : length + 1, -length:0]  # of each state of the automaton
    step = (np.arange(2 * length + 1)[:, None] + [0, -1, 1, 0]) % (2 * length + 1)
    return MarkovTokens(base, features, 3, length, step, np.abs(total) <= bound, accept_at_cap=True)


def stopping_walk(half: int, cap: int) -> MarkovTokens:
    """Responses that walk by steps of 1 up or down until they stop, correct iff they end at most
    ``half`` from where they began; short and long ones, each with a stop probability of its own.

    The four parameters: the logit of up over down, the stop logits of short and of long responses,
    the logit of being a long one. `stopping_start` gives those of a law of the length.
    """
    whole_number(1, half=half)
    whole_number(1, cap=cap)
    base, tilt = np.full((6, 5), -np.inf), np.zeros((6, 5, 4))
    for mode in (0, 1):
        pair = [2 * mode, 2 * mode + 1]
        base[np.ix_(pair, [*pair, 4])] = 0.0  # a response stays short or long
        tilt[pair, 4, 1 + mode] = 1.0
    base[4], base[5, :4] = 0.0, 0.0  # row 5 is the start; row 4 is never reached
    tilt[:, :4, 0] = [-0.5, 0.5, -0.5, 0.5]
    tilt[5, 2:4, 3] = 1.0
    size = half + max(half // 2, 8)  # walks that are farther away are counted there
    states = np.arange(2 * size + 1)
    place = (states + size) % (2 * size + 1) - size  # state 0 is the start
    down, up = np.clip([place - 1, place + 1], -size, size) % (2 * size + 1)
    automaton = np.stack([down, up, down, up, states], axis=1)
    return MarkovTokens(base, tilt, 4, cap, automaton, np.abs(place) <= half, accept_at_cap=True)


def stopping_start(mean: float, cap: int, share: float = 0.5, ratio: float = 1.0) -> Array:
    """Parameters of a fair `stopping_walk` of this mean length, shape ``(4,)``: a share of its
    responses is long, ``ratio`` times the mean of the short ones.

    The mean of a kind with the stop probability ``p`` after each token but the first is ``1 + (1 -
    (1-p)^(cap-1)) / p``, at most the cap.
    """
    from scipy.optimize import brentq  # slow to load

    whole_number(2, cap=cap)
    number("(0, 1)", share=share)
    number("(1, inf)", mean=mean)
    number("(0, inf)", ratio=ratio)
    short = 1 + (mean - 1) / (1 - share + share * ratio)
    stops = []
    for length in (short, 1 + (short - 1) * ratio):
        inside(f"(1, {cap}]", mean=length)
        never = 1e-12

        def excess(p: float, length: float = length) -> float:
            return 1 + (1 - (1 - p) ** (cap - 1)) / p - length

        stops.append(logit(brentq(excess, never, 1) if cap > length else never) + np.log(2))
    return np.array([0.0, *stops, logit(share)])
