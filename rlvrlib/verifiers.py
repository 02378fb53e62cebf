r"""Verifiers that err: whether a response is *accepted*, as a problem of its own.

A noisy verifier accepts the response ``o`` with the probability ``q(o)``. The pair of response and
verdict is again a random response with a 0/1 reward, and its score is that of ``o``, because ``q``
does not depend on ``theta``. So every theorem about scores holds for the verdicts: for the log-odds
of being accepted and their gradient, the observed gap. What this says about the true success rate
is the subject here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from rlvrlib.bandits import LogLinearBandit, SoftmaxBandit
from rlvrlib.checks import finite, inside, instance, last_axis, shown
from rlvrlib.problems import Array, Problem, Regularity, SampledProblem, sampled, unit

__all__ = ["NoisyVerifier", "noisy_bandit"]


@dataclass(frozen=True, eq=False)
class NoisyVerifier(SampledProblem):
    """Noise that depends on the reward alone: a correct response is accepted with probability
    ``a``, a wrong one with ``b``.

    A `Problem` whose log-odds are those of being accepted. With ``p = aJ + b(1-J)`` its gap is
    ``(a-b) J(1-J) / (p(1-p)) Gap``: the gap of the wrapped problem times the `markedness` of the
    verdict. The errors are drawn anew for every response that is judged.

    Parameters
    ----------
    problem : the problem with the true reward, any `Problem`.
    true_positive_rate : ``a``, in [0, 1]; a number, or an array that broadcasts against the
        log-odds.
    false_positive_rate : ``b``, likewise.

    Raises
    ------
    ValueError : a rate outside [0, 1], or both rates 0 or both 1: then every response gets the same
        verdict.
    """

    problem: Problem
    true_positive_rate: ArrayLike
    false_positive_rate: ArrayLike
    _rates: tuple[Array, Array] = field(init=False, repr=False, compare=False)
    _logs: tuple[Array, Array, Array, Array] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        instance(Problem, problem=self.problem)
        right = inside("[0, 1]", true_positive_rate=self.true_positive_rate)
        wrong = inside("[0, 1]", false_positive_rate=self.false_positive_rate)
        if np.any((right == wrong) & ((right == 0) | (right == 1))):
            raise ValueError(
                "true_positive_rate and false_positive_rate must not both be 0 or both be 1: "
                "a verifier that gives every response the same verdict has no gap"
            )
        with np.errstate(divide="ignore"):
            logs = np.log(right), np.log(wrong), np.log1p(-right), np.log1p(-wrong)
        object.__setattr__(self, "_logs", logs)
        object.__setattr__(self, "_rates", (right, wrong))

    @property
    def dim(self) -> int:
        return self.problem.dim

    @property
    def max_length(self) -> Any:
        return self.problem.max_length

    @property
    def youden_index(self) -> Array:
        """The difference ``a - b``, which is 1 for a verifier without errors, 0 for one that says
        nothing, negative for one that misleads.
        """
        return (self._rates[0] - self._rates[1])[()]

    def markedness(self, theta: ArrayLike) -> Array:
        """``P(r=1 | accepted) - P(r=1 | rejected) = (a-b) J(1-J) / (p(1-p))``, shape ``(...)``:
        observed gap over gap.
        """
        return self._markedness(self.problem.log_odds(finite(theta=theta)))

    def log_odds(self, theta: ArrayLike) -> Array:
        """``log(p / (1-p))``, shape ``(...)``."""
        return self._observed(self.problem.log_odds(finite(theta=theta)))

    def gradient_gap(self, theta: ArrayLike) -> Array:
        """``E[s | accepted] - E[s | rejected]``, shape ``(..., dim)``."""
        return self.log_odds_and_gap(theta)[1]

    def log_odds_and_gap(self, theta: ArrayLike) -> tuple[Array, Array]:
        log_odds, gap = self.problem.log_odds_and_gap(finite(theta=theta))
        return self._observed(log_odds), self._markedness(log_odds)[..., None] * gap

    def length_normalized_gap(self, theta: ArrayLike, gap: Array | None = None) -> Array:
        """``E[s/|o| | accepted] - E[s/|o| | rejected]``: the same factor, shape ``(..., dim)``."""
        theta = finite(theta=theta)
        log_odds, true_gap = self.problem.log_odds_and_gap(theta)
        factor = self._markedness(log_odds)[..., None]
        return factor * self.problem.length_normalized_gap(theta, true_gap)

    def curvature(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """``rho (kappa_w - (1-u-v) dmu^2)`` with ``u, v = P(r=1 | accepted, rejected)`` and ``rho =
        u - v``, shape ``(...)``.
        """
        theta, direction = finite(theta=theta), finite(direction=direction)
        log_odds, gap = self.problem.log_odds_and_gap(theta)
        log_a, log_b, log_not_a, log_not_b = self._logs
        # 1-u and v from their own logits, so that both keep their digits
        balance = expit(log_b - log_a - log_odds) - expit(log_odds + log_not_a - log_not_b)
        slope = np.sum(direction * gap, axis=-1)
        return self._markedness(log_odds) * (
            self.problem.curvature(theta, direction) - balance * slope**2
        )

    def log_odds_gain(self, theta: ArrayLike, direction: ArrayLike, step: ArrayLike) -> Array:
        """``log(p/(1-p))`` after the step less before it, without subtracting two nearly equal
        numbers, shape ``(...)``.
        """
        theta, direction = finite(theta=theta), finite(direction=direction)
        before = self.problem.log_odds(theta)
        gain = self.problem.log_odds_gain(theta, direction, finite(step=step))
        near = np.abs(gain) < 1
        rejected = expit(before + self._logs[2] - self._logs[3])  # v = P(r=1 | rejected)
        growth = np.expm1(np.where(near, gain, 0.0))
        small = np.log1p(self._markedness(before) * growth / (1 + rejected * growth))
        return np.where(near, small, self._observed(before + gain) - self._observed(before))[()]

    def regularity(self, direction: ArrayLike) -> Regularity:
        """That of the wrapped problem: the verdict does not change the score of a response."""
        return self.problem.regularity(finite(direction=direction))

    def conditional_variance(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        """That of the wrapped problem, as its scores are the same."""
        theta, direction = finite(theta=theta), finite(direction=direction)
        return self.problem.conditional_variance(theta, direction)

    def sample(
        self, theta: ArrayLike, group_size: int, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Verdicts and lengths, shape ``(..., G)``, and scores, shape ``(..., G, dim)``, of
        ``group_size`` responses.

        Raises
        ------
        ValueError : the wrapped problem has no method ``sample``.
        """
        theta = finite(theta=theta)
        rewards, lengths, scores = sampled(self.problem).sample(theta, group_size, rng)
        right, wrong = (np.asarray(rate)[..., None] for rate in self._rates)
        accepted = rng.uniform(size=rewards.shape) < np.where(rewards == 1, right, wrong)
        return accepted.astype(float), lengths, scores

    def _observed(self, log_odds: Array) -> Array:
        """``log(p/(1-p))``; the factor ``1-J`` of numerator and denominator cancels."""
        log_a, log_b, log_not_a, log_not_b = self._logs
        return np.logaddexp(log_a + log_odds, log_b) - np.logaddexp(log_not_a + log_odds, log_not_b)

    def _markedness(self, log_odds: Array) -> Array:
        log_a, log_b, log_not_a, log_not_b = self._logs
        accepted = np.logaddexp(log_a + log_odds, log_b)
        rejected = np.logaddexp(log_not_a + log_odds, log_not_b)
        with np.errstate(divide="ignore"):  # an index of 0 has the factor 0
            log_index = np.log(np.abs(self.youden_index))
        return np.asarray(
            np.sign(self.youden_index) * np.exp(log_index + log_odds - accepted - rejected)
        )


def noisy_bandit(bandit: LogLinearBandit, acceptance: ArrayLike) -> LogLinearBandit:
    """Noise that depends on the response: the bandit of pairs of arm and verdict, whose reward is
    the verdict.

    Each arm stands twice, accepted with the prior ``log_prior + log q`` and rejected with
    ``log_prior + log(1-q)``; pairs of probability 0 are left out. The true reward of the arms plays
    no part in it.

    Parameters
    ----------
    bandit : one prompt: features of shape ``(N, d)``.
    acceptance : ``q``, the probability that an arm is accepted, shape ``(N,)``, in [0, 1].

    Raises
    ------
    ValueError : a rate outside [0, 1], another shape, or a verifier that accepts every arm or none.
    """
    instance(LogLinearBandit, bandit=bandit)
    rates = inside("[0, 1]", acceptance=acceptance)
    if bandit.features.ndim != 2 or rates.shape != (bandit.num_arms,):
        raise ValueError(
            "acceptance must give one rate for each arm of one prompt, "
            f"got shape {rates.shape} for features of shape {bandit.features.shape}"
        )
    with np.errstate(divide="ignore"):
        log_prior = np.concatenate(
            [bandit.log_prior + np.log(rates), bandit.log_prior + np.log1p(-rates)]
        )
    verdict = np.repeat([1, 0], bandit.num_arms)
    possible = np.isfinite(log_prior)
    if len(set(verdict[possible])) < 2:
        raise ValueError(
            f"acceptance must leave accepted and rejected responses, got {shown(acceptance)}"
        )
    return LogLinearBandit(
        np.concatenate([bandit.features] * 2)[possible], verdict[possible], log_prior[possible]
    )


class ResponseNoise(NamedTuple):
    """What errors that depend on the response do along the gap: ``slope >= learned - lost``.

    Parameters
    ----------
    slope : of the acceptance rate ``p`` along the unit gap, shape ``(...)``.
    learned : ``(a-b) J(1-J) ||Gap||``, what it is with errors that depend on the reward alone.
    lost : ``delta R / 2``, at most what the dependence on the response takes away.
    youden_index : ``a - b``, with the mean rates of acceptance in the two classes.
    """

    slope: Array
    learned: Array
    lost: Array
    youden_index: Array


def response_noise(bandit: SoftmaxBandit, theta: ArrayLike, acceptance: ArrayLike) -> ResponseNoise:
    """Slope of the acceptance rate along the unit gap, and the two sides of its lower bound.

    ``delta = E|q - E[q | r]|``, and ``R`` is the longer of the ranges of the scores along the gap
    in the two classes.

    Source: the book's chapter on noisy verifiers, response-dependent noise.

    Parameters
    ----------
    bandit, theta : the policy and its parameters, shape ``(..., dim)``.
    acceptance : ``q``, the probability that an arm is accepted, shape ``(..., N)``, in [0, 1].

    Raises
    ------
    ValueError : a rate outside [0, 1], another number of arms, or a gap of 0.
    """
    instance(SoftmaxBandit, bandit=bandit)
    rates = last_axis(bandit.num_arms, acceptance=inside("[0, 1]", acceptance=acceptance))
    chance = np.exp(bandit.log_probabilities(theta))
    log_odds, gap = bandit.log_odds_and_gap(theta)
    along, (hit, alarm) = unit(gap), bandit.conditional_means(theta, rates)
    expected = np.where(bandit.rewards, hit[..., None], alarm[..., None])
    scores = bandit.scores(theta, along)
    widths = [
        np.max(scores, axis=-1, where=of_class, initial=-np.inf)
        - np.min(scores, axis=-1, where=of_class, initial=np.inf)
        for of_class in (bandit.rewards, ~bandit.rewards)
    ]
    excess = chance * (rates - np.sum(chance * rates, axis=-1, keepdims=True))
    slope = np.sum(bandit.mean_logit_gradient(np.asarray(theta), excess) * along, axis=-1)
    learned = (hit - alarm) * expit(log_odds) * expit(-log_odds) * np.linalg.norm(gap, axis=-1)
    spread = np.sum(chance * np.abs(rates - expected), axis=-1)
    return ResponseNoise(slope, learned, spread * np.maximum(*widths) / 2, hit - alarm)
