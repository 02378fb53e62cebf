r"""Softmax policies over finitely many responses, solved exactly by sums over arms.

``pi(a) ~ exp(log_prior_a + z_a(theta))`` with a 0/1 reward per arm. `SoftmaxBandit` derives
log-odds, gap and curvature from the logits and their first two derivatives (the identities of the
chapter on log-odds); its subclasses differ in the logits alone. A bandit may be a stack of prompts:
rewards of shape ``(..., N)`` against ``theta`` of shape ``(..., d)``. Prompts that share one
``theta`` take ``theta[..., None, :]``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax

from rlvrlib.checks import finite, instance, last_axis, whole_number, zeros_and_ones
from rlvrlib.problems import Array, Regularity, SampledProblem, log_sum_exp, unit

__all__ = ["LogLinearBandit", "TabularBandit"]

# The logarithm below which exp underflows to zero.
_LOG_TINY = -745.0
# The share of a class below which its arms lose digits when the largest logit of all is subtracted
# from theirs.
_RARE = 1e-200


class SoftmaxBandit(SampledProblem):
    """Exact log-odds, gap and curvature of a softmax policy with known logits.

    ``linear_logits`` says of a class whether its logits are linear in ``theta``.

    Parameters
    ----------
    rewards : shape ``(..., N)``, zeros and ones, at least one of each along the last axis.
    dim : number of parameters.
    log_prior : shape ``(..., N)``, logits at which ``z = 0``; zero where omitted.
    """

    linear_logits = False

    def __init__(self, rewards: ArrayLike, dim: int, log_prior: ArrayLike | None = None):
        self.rewards = zeros_and_ones(rewards=rewards)
        if not np.all(self.rewards.any(axis=-1) & ~self.rewards.all(axis=-1)):
            raise ValueError(
                "rewards must contain at least one 0 and one 1 per prompt: "
                "the gap of a prompt that is always right or always wrong is undefined"
            )
        self._right, self._wrong = self.rewards.astype(float), (~self.rewards).astype(float)
        self._dim = dim
        prior = np.zeros(self.num_arms) if log_prior is None else finite(log_prior=log_prior)
        self.log_prior = last_axis(self.num_arms, log_prior=prior)

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def num_arms(self) -> int:
        return self.rewards.shape[-1]

    @abstractmethod
    def logits(self, theta: Array) -> Array:
        """``z(theta)`` without the prior, shape ``(..., N)``."""

    @abstractmethod
    def logit_slopes(self, theta: Array, direction: Array) -> Array:
        """``<w, grad z_a>``, shape ``(..., N)``."""

    @abstractmethod
    def logit_curvatures(self, theta: Array, direction: Array) -> Array:
        """``w' (grad^2 z_a) w``, shape ``(..., N)``."""

    @abstractmethod
    def mean_logit_gradient(self, theta: Array, weights: Array) -> Array:
        """``sum_a weights_a grad z_a``, shape ``(..., d)``."""

    def log_probabilities(self, theta: ArrayLike) -> Array:
        """``log pi(a)``, shape ``(..., N)``."""
        return _not_nan(log_softmax(self.logits(self._theta(theta)) + self.log_prior, axis=-1))

    def log_odds(self, theta: ArrayLike) -> Array:
        """``logsumexp`` over the correct arms minus ``logsumexp`` over the wrong ones, shape
        ``(...)``.
        """
        return self._excess(self._theta(theta))[0]

    def gradient_gap(self, theta: ArrayLike) -> Array:
        """``E[grad z | r=1] - E[grad z | r=0]``, as the normalizer cancels, shape ``(..., d)``."""
        return self.log_odds_and_gap(self._theta(theta))[1]

    def log_odds_and_gap(self, theta: ArrayLike) -> tuple[Array, Array]:
        """Both from one pass over the arms."""
        theta = self._theta(theta)
        log_odds, excess = self._excess(theta)
        return log_odds, self.mean_logit_gradient(theta, excess)

    def curvature(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``Var(s_w|-) - Var(s_w|+) + E[h_w|-] - E[h_w|+]``, shape ``(...)``."""
        theta, direction = self._theta(theta), self._direction(direction)
        _, right, wrong = self._classes(theta)
        slopes, bends = self.logit_slopes(theta, direction), self.logit_curvatures(theta, direction)
        return (
            _variance(wrong, slopes)
            - _variance(right, slopes)
            + np.sum((wrong - right) * bends, axis=-1)
        )

    def log_odds_gain(self, theta: ArrayLike, direction: ArrayLike, step: ArrayLike) -> Array:
        """``log E[exp(dz)|+] - log E[exp(dz)|-]`` with ``dz`` the change of the logits, shape
        ``(...)``.
        """
        theta, direction = self._theta(theta), self._direction(direction)
        change = self._logit_change(theta, direction, finite(step=step))
        total, rewards = self._totals(theta)
        _, right, wrong = self._split(total, rewards)
        return log_mean_exp(right, total, rewards, change) - log_mean_exp(
            wrong, total, ~rewards, change
        )

    def scores(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``s_w(a) = <w, grad log pi(a)>``, shape ``(..., N)``."""
        return self._scores(theta, direction)[0]

    def score_derivatives(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``h_w(a) = w' (grad^2 log pi(a)) w``, shape ``(..., N)``."""
        return self._scores(theta, direction)[1]

    def conditional_variance(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``Var(s_w)``, as a response is one token, shape ``(...)``."""
        return self._scores(theta, direction)[2]

    def local_regularity(self, theta: ArrayLike, direction: ArrayLike) -> Regularity:
        """The largest scores and score derivatives over the arms at ``theta``."""
        along = unit(direction)
        scores, derivatives, variance = self._scores(theta, along)
        largest = np.max(np.abs(derivatives), axis=-1)
        # the bends of one likely arm cancel up to rounding, which a rate of 1e-16 would feel
        bends = np.max(np.abs(self.logit_curvatures(self._theta(theta), along)), axis=-1)
        rounding = self.num_arms * np.finfo(float).eps * bends
        derivatives, rewards = np.broadcast_arrays(derivatives, self.rewards)
        falls = np.max(-derivatives, axis=-1, where=rewards, initial=0.0)
        rises = np.max(derivatives, axis=-1, where=~rewards, initial=0.0)
        return Regularity(
            score_bound=np.max(np.abs(scores), axis=-1),
            score_lipschitz=largest,
            token_range=np.ptp(scores, axis=-1),
            token_lipschitz=largest,
            max_length=1,
            linear_logits=self.linear_logits,
            correct_bend=falls + rounding,
            wrong_bend=rises + rounding,
            variance=variance,
            bend_range=0.0 if self.linear_logits else np.ptp(derivatives, axis=-1) + 2 * rounding,
        )

    def token_spread(self, theta: ArrayLike, direction: ArrayLike) -> tuple[Any, Array, Array]:
        """How many tokens a response has, and of the scores of each the largest fall below 0 and
        the variance, shape ``(...)``; a response is one token.
        """
        scores, _, variance = self._scores(theta, direction)
        return 1, np.max(-scores, axis=-1), variance

    def wrong_feature_range(self, direction: ArrayLike) -> Array:
        """``D_-``, the range of ``<w, features>`` over the wrong arms (log-linear bound), shape
        ``(...)``; for logits that are linear in ``theta``.
        """
        slopes, rewards = np.broadcast_arrays(
            self.logit_slopes(np.zeros(self.dim), unit(direction)), self.rewards
        )
        high = np.max(slopes, axis=-1, where=~rewards, initial=-np.inf)
        return high - np.min(slopes, axis=-1, where=~rewards, initial=np.inf)

    def conditional_means(self, theta: ArrayLike, values: ArrayLike) -> tuple[Array, Array]:
        """``E[v | r=1]`` and ``E[v | r=0]`` of one value per arm, ``v`` of shape ``(..., N)``; each
        has shape ``(...)``.
        """
        values = last_axis(self.num_arms, values=values)
        _, right, wrong = self._classes(self._theta(theta))
        return np.sum(right * values, axis=-1), np.sum(wrong * values, axis=-1)

    def sample(
        self, theta: ArrayLike, group_size: int, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Rewards and lengths (1), shape ``(..., G)``, and scores, shape ``(..., G, d)``, of
        ``group_size`` draws.
        """
        whole_number(2, group_size=group_size)
        instance(np.random.Generator, rng=rng)
        theta = self._theta(theta)
        probabilities = np.exp(self.log_probabilities(theta))
        draws = rng.uniform(
            size=(group_size, *probabilities.shape[:-1], 1)
        )  # the group first: the stack stays in place
        arms = np.minimum(
            np.sum(np.cumsum(probabilities, axis=-1) < draws, axis=-1), self.num_arms - 1
        )
        chosen = arms[..., None] == np.arange(self.num_arms)
        rewards = np.any(chosen & self.rewards, axis=-1).astype(float)
        scores = self.mean_logit_gradient(theta, chosen - probabilities)
        rewards, scores = np.moveaxis(rewards, 0, -1), np.moveaxis(scores, 0, -2)
        return rewards, np.ones_like(rewards), scores

    def _scores(self, theta: ArrayLike, direction: ArrayLike) -> tuple[Array, Array, Array]:
        """Scores and their derivatives along the direction, shape ``(..., N)``, and the variance of
        the scores.
        """
        theta, direction = self._theta(theta), self._direction(direction)
        probabilities = np.exp(self.log_probabilities(theta))
        slopes, bends = self.logit_slopes(theta, direction), self.logit_curvatures(theta, direction)
        scores = slopes - np.sum(probabilities * slopes, axis=-1, keepdims=True)
        variance = _variance(probabilities, slopes)
        mean_bend = np.sum(probabilities * bends, axis=-1)
        return scores, bends - (mean_bend + variance)[..., None], variance

    def _logit_change(self, theta: Array, direction: Array, step: Array) -> Array:
        return self.logits(theta + step[..., None] * direction) - self.logits(theta)

    def _excess(self, theta: Array) -> tuple[Array, Array]:
        """Log-odds and ``P(a | r=1) - P(a | r=0)``, with one exponential per arm and few arrays of
        the arms' size.
        """
        total, rewards = self._totals(theta)
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = total - total.max(axis=-1, keepdims=True)
            np.exp(weights, out=weights)
            right_sum, wrong_sum = np.vecdot(weights, self._right), np.vecdot(weights, self._wrong)
            log_odds = np.asarray(np.log(right_sum) - np.log(wrong_sum))
            weights /= np.where(rewards, right_sum[..., None], -wrong_sum[..., None])
        rare = np.asarray(~(np.minimum(right_sum, wrong_sum) > _RARE))
        # each class by its own largest logit, run by run; this is also where logits fail that are
        # not finite
        if rare.any():
            log_odds[rare], right, wrong = self._split(
                total[rare], np.broadcast_to(rewards, total.shape)[rare]
            )
            weights[rare] = right - wrong
        return log_odds[()], weights

    def _classes(self, theta: Array) -> tuple[Array, Array, Array]:
        """Log-odds and the probabilities of the arms given success and given failure; one
        exponential per arm.
        """
        return self._split(*self._totals(theta))

    def _totals(self, theta: Array) -> tuple[Array, np.ndarray]:
        """Logits with the prior, for every run and prompt, and the rewards."""
        total = self.logits(theta) + self.log_prior
        if self.rewards.ndim > 1:  # there may be more prompts than runs
            total = np.broadcast_to(total, np.broadcast_shapes(total.shape, self.rewards.shape))
        return total, self.rewards

    @staticmethod
    def _split(total: Array, rewards: np.ndarray) -> tuple[Array, Array, Array]:
        # faster than np.max(..., where=rewards)
        right_top = np.where(rewards, total, -np.inf).max(axis=-1, keepdims=True)
        wrong_top = np.where(rewards, -np.inf, total).max(axis=-1, keepdims=True)
        weights = np.exp(total - np.where(rewards, right_top, wrong_top))
        right, wrong = weights * rewards, weights * ~rewards
        right_sum, wrong_sum = right.sum(axis=-1, keepdims=True), wrong.sum(axis=-1, keepdims=True)
        log_odds = _not_nan((right_top - wrong_top) + (np.log(right_sum) - np.log(wrong_sum)))
        return log_odds[..., 0], right / right_sum, wrong / wrong_sum

    def _theta(self, theta: ArrayLike) -> Array:
        return last_axis(self._dim, theta=theta)

    def _direction(self, direction: ArrayLike) -> Array:
        return last_axis(self._dim, direction=finite(direction=direction))


class LogLinearBandit(SoftmaxBandit):
    """``pi(a) ~ exp(log_prior_a + <theta, features_a>)``: logits linear in ``theta``.

    Parameters
    ----------
    features : shape ``(..., N, d)``.
    rewards : shape ``(..., N)``, zeros and ones, at least one of each.
    log_prior : shape ``(..., N)``, the logits at ``theta = 0``; zero where omitted.
    """

    linear_logits = True

    def __init__(self, features: ArrayLike, rewards: ArrayLike, log_prior: ArrayLike | None = None):
        self.features = finite(features=features)
        if self.features.ndim < 2:
            raise ValueError(
                f"features must have shape (..., arms, dim), got shape {self.features.shape}"
            )
        super().__init__(rewards, self.features.shape[-1], log_prior)
        if self.features.shape[-2] != self.num_arms:
            raise ValueError(
                "features and rewards must have the same number of arms, got shapes "
                f"{self.features.shape} and {self.rewards.shape}"
            )

    def __getitem__(self, index: Any) -> LogLinearBandit:
        """The prompts at this index of a stack, as of an array of prompts."""
        tables = self.features, self.rewards[..., None], self.log_prior[..., None]
        stack = np.broadcast_shapes(*(table.shape[:-2] for table in tables))
        features, rewards, prior = (
            np.broadcast_to(table, (*stack, *table.shape[-2:]))[index] for table in tables
        )
        return LogLinearBandit(features, rewards[..., 0], prior[..., 0])

    def logits(self, theta: Array) -> Array:
        return inner_products(self.features, theta)

    def logit_slopes(self, theta: Array, direction: Array) -> Array:
        return inner_products(self.features, direction)

    def logit_curvatures(self, theta: Array, direction: Array) -> Array:
        return np.zeros(self.num_arms)

    def mean_logit_gradient(self, theta: Array, weights: Array) -> Array:
        return weighted_sum(weights, self.features)

    def regularity(self, direction: ArrayLike) -> Regularity:
        """With ``D`` the range of ``<w, features>``: ``|s_w| <= D`` and ``0 >= h_w = -Var(s_w) >=
        -D^2/4``.
        """
        spread = np.ptp(self.logit_slopes(np.zeros(self.dim), unit(direction)), axis=-1)
        return Regularity(spread, spread**2 / 4, spread, spread**2 / 4, 1, linear_logits=True)

    def curvature_bound(self) -> Array:
        """``max_a |features_a - mean|^2``, which bounds the variance of every score: ``|kappa_w|``
        is at most this for every theta and unit ``w``. Shape ``(...)``.
        """
        centred = self.features - self.features.mean(axis=-2, keepdims=True)
        return np.max(np.sum(centred**2, axis=-1), axis=-1)

    def _logit_change(self, theta: Array, direction: Array, step: Array) -> Array:
        return step[..., None] * self.logit_slopes(theta, direction)


class TabularBandit(SoftmaxBandit):
    """``pi(a) ~ exp(log_prior_a + theta_a)``: one parameter for each arm; ``dim`` is the number of
    arms.

    What `LogLinearBandit` is with the unit vectors as features, without a product with them.

    Parameters
    ----------
    rewards : shape ``(..., N)``, zeros and ones, at least one of each.
    log_prior : shape ``(..., N)``, the logits at ``theta = 0``; zero where omitted.
    """

    linear_logits = True

    def __init__(self, rewards: ArrayLike, log_prior: ArrayLike | None = None):
        super().__init__(rewards, zeros_and_ones(rewards=rewards).shape[-1], log_prior)

    def logits(self, theta: Array) -> Array:
        return theta

    def logit_slopes(self, theta: Array, direction: Array) -> Array:
        return direction

    def logit_curvatures(self, theta: Array, direction: Array) -> Array:
        return np.zeros(self.num_arms)

    def mean_logit_gradient(self, theta: Array, weights: Array) -> Array:
        return weights

    def regularity(self, direction: ArrayLike) -> Regularity:
        """As for `LogLinearBandit`, with ``D`` the range of the direction's entries."""
        spread = np.ptp(unit(self._direction(direction)), axis=-1)
        return Regularity(spread, spread**2 / 4, spread, spread**2 / 4, 1, linear_logits=True)


def diameter(features: ArrayLike) -> Array:
    """The largest distance between two rows, shape ``(...)`` for features of shape ``(..., N, d)``:
    no unit vector ``w`` has a wider range of ``<w, features>``.
    """
    features = finite(features=features)
    apart = features[..., :, None, :] - features[..., None, :, :]
    return np.max(np.linalg.norm(apart, axis=-1), axis=(-2, -1))


def inner_products(features: Array, vector: Array) -> Array:
    """``<features_a, vector>``, shape ``(..., N)``."""
    if features.ndim == 2:  # one matrix for all runs: one product instead of one per run
        return vector @ features.T
    return np.matmul(features, vector[..., None])[..., 0]


def weighted_sum(weights: Array, features: Array) -> Array:
    """``sum_a weights_a features_a``, shape ``(..., d)``."""
    if features.ndim == 2:
        return weights @ features
    return np.matmul(weights[..., None, :], features)[..., 0, :]


def _variance(probabilities: Array, values: Array) -> Array:
    mean = np.sum(probabilities * values, axis=-1, keepdims=True)
    return np.sum(probabilities * (values - mean) ** 2, axis=-1)


def log_mean_exp(probabilities: Array, logits: Array, members: np.ndarray, values: Array) -> Array:
    """``log E[exp(values)]`` over the members, right for small values and without overflow for
    large ones.
    """
    mean = np.sum(probabilities * values, axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        log_probabilities = np.log(probabilities)
    lost = members & (probabilities == 0)
    if np.any(
        lost
    ):  # a probability that underflows still counts: a long step can bring its arm back
        rest = logits - log_sum_exp(np.where(members, logits, -np.inf))[..., None]
        log_probabilities = np.where(lost, rest, log_probabilities)
    counts = (probabilities > 0) | (log_probabilities + (values - mean) > _LOG_TINY)
    centred = np.where(counts, values - mean, 0.0)
    near = np.max(np.abs(centred), axis=-1) < 1
    small = np.log1p(
        np.sum(probabilities * np.expm1(np.where(near[..., None], centred, 0.0)), axis=-1)
    )
    if np.all(near):
        return mean[..., 0] + small
    return mean[..., 0] + np.where(near, small, log_sum_exp(centred + log_probabilities))


def _not_nan(values: Array) -> Array:
    if np.any(np.isnan(values)):
        raise ValueError(
            "theta must be finite and leave every logit finite, "
            "got logits that overflow or are undefined"
        )
    return values
