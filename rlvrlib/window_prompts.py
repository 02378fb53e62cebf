"""Token windows of any lengths that share parameters: a batch of prompts in which every angle
between the gaps can be set.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, gammaln, log_expit, logit

from rlvrlib.bandits import LogLinearBandit
from rlvrlib.problems import Array, Regularity, unit

# The logit of a count that cannot occur.
_NEVER = -1e300

# Newton's rule: most rounds, and the error of log J at which it stops, one round after the error is
# below it.
_ROUNDS, _CLOSE = 50, 1e-6


class WindowPrompts:
    """A batch of token windows as one `Problem`, exact.

    Prompt ``q`` asks for ``T_q`` i.i.d. tokens with ``P(1) = expit(b_q + <v_q, theta>)`` and
    accepts ``low_q`` to ``high_q`` ones, so its gap is a multiple of ``v_q``. The offsets ``b_q``
    are such that ``theta = 0`` has the given success rates, below the windows' summits.

    Parameters
    ----------
    lengths, low, high : whole numbers, shape ``(..., Q)``, with ``1 <= low <= high < lengths``.
    directions : ``v_q``, shape ``(..., Q, dim)``; neither normalized nor independent by need.
    initial_success : shape ``(..., Q)``, in (0, 1), below the best success rate of each window.

    Attributes
    ----------
    best_log_odds : the summit of each window, shape ``(..., Q)``. With independent ``v_q`` all are
        reached at one ``theta``.
    """

    def __init__(
        self,
        lengths: ArrayLike,
        low: ArrayLike,
        high: ArrayLike,
        directions: ArrayLike,
        initial_success: ArrayLike,
    ):
        self.directions = np.asarray(directions, dtype=float)
        shape = self.directions.shape[:-1]
        self.dim = self.directions.shape[-1]
        self.lengths, low, high, start = (
            np.broadcast_to(values, shape) for values in (lengths, low, high, initial_success)
        )
        whole = all(np.all(values == np.floor(values)) for values in (self.lengths, low, high))
        if not (whole and np.all((low >= 1) & (low <= high) & (high < self.lengths))):
            raise ValueError(
                "lengths, low and high must be whole numbers with 1 <= low <= high < lengths"
            )
        counts = np.arange(self.lengths.max() + 1)
        rest = np.maximum(self.lengths[..., None] - counts, 0)
        choose = gammaln(self.lengths[..., None] + 1) - gammaln(counts + 1) - gammaln(rest + 1)
        prior = np.where(counts <= self.lengths[..., None], choose, _NEVER)
        accepted = (counts >= low[..., None]) & (counts <= high[..., None])
        self._counts = LogLinearBandit(counts[:, None], accepted, prior)
        self.best_log_odds = self._at(_summit(self.lengths, low, high))[0]
        if not np.all((start > 0) & (start < expit(self.best_log_odds))):
            raise ValueError(
                "initial_success must be above 0 and below the best success rate of its window, got rates from "
                f"{start.min():.4g} to {start.max():.4g} where the lowest best rate is {expit(self.best_log_odds).min():.4g}"
            )
        self.offsets = self._solve(logit(low / (self.lengths + 1)), logit(start))

    def log_odds(self, theta: ArrayLike) -> Array:
        return self.log_odds_and_gap(theta)[0]

    def gradient_gap(self, theta: ArrayLike) -> Array:
        return self.log_odds_and_gap(theta)[1]

    def log_odds_and_gap(self, theta: ArrayLike) -> tuple[Array, Array]:
        log_odds, slope = self._at(self._logit(theta))
        return log_odds, slope[..., None] * self.directions

    def curvature(self, theta: ArrayLike, direction: ArrayLike) -> Array:
        bend = self._counts.curvature(self._logit(theta)[..., None], np.ones(1))
        return bend * self._along(direction) ** 2

    def regularity(self, direction: ArrayLike) -> Regularity:
        """Token scores along ``w`` lie in an interval of length ``|<v_q, w>|``; each entry has
        shape ``(..., Q)``.
        """
        width = np.abs(self._along(unit(direction)))
        bend = width**2 / 4
        return Regularity(self.lengths * width, self.lengths * bend, width, bend, self.lengths)

    def _at(self, logits: Array) -> tuple[Array, Array]:
        log_odds, slope = self._counts.log_odds_and_gap(logits[..., None])
        return log_odds, slope[..., 0]

    def _solve(self, logits: Array, wanted: Array) -> Array:
        """Where the log-odds are as wanted: Newton's rule on ``log J``, which is concave and thus
        approached from the left.
        """
        for _ in range(_ROUNDS):
            log_odds, slope = self._at(logits)
            missing = log_expit(wanted) - log_expit(log_odds)
            logits = logits + missing / (expit(-log_odds) * slope)
            if np.all(np.abs(missing) < _CLOSE):
                return logits
        raise ValueError(
            "initial_success must be closer to the middle of its window's range: Newton's rule did not converge"
        )

    def _logit(self, theta: ArrayLike) -> Array:
        return self.offsets + self._along(theta)

    def _along(self, vector: ArrayLike) -> Array:
        return np.sum(self.directions * np.asarray(vector, dtype=float), axis=-1)


def _summit(lengths: Array, low: Array, high: Array) -> Array:
    """The logit at which a window is most likely: what flows in over its lower edge is what flows
    out over the upper one.
    """
    choose_low, choose_high = (gammaln(k + 1) + gammaln(lengths - k + 1) for k in (low, high))
    return (choose_high - choose_low + np.log(low) - np.log(lengths - high)) / (high + 1 - low)
