"""Thresholds and gaps at the ends of the range, against mpmath: rates down to 1e-300, a million
tokens, ten thousand parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from problem_zoo import log_odds_along

from rlvrlib import At, LogLinearBandit, PolicyGradient, log_odds_gain, thresholds, unit

LOG_ODDS = [
    -690.7755278982137,
    -46.0,
    -3.0,
    0.0,
    3.0,
    46.0,
    690.7755278982137,
]  # the ends: rates of 1e-300
ALIGNMENT, VARIANCE, BEND = 0.3, 7.0, 0.2


def rates(log_odds: float) -> tuple[Any, Any]:
    """``J`` and ``1 - J`` in mpmath."""
    return 1 / (1 + mp.exp(-mp.mpf(log_odds))), 1 / (1 + mp.exp(mp.mpf(log_odds)))


def tail(failure: Any, length: Any, inside: Any) -> Any:
    return min(mp.mpf(1), 2 * failure * mp.log(inside / failure), 4 * length * failure)


def tail_of_variance(failure: Any, token_range: Any) -> Any:
    level = mp.log(2 / failure)
    return min(
        mp.mpf(VARIANCE),
        failure * (mp.sqrt(2 * mp.mpf(VARIANCE) * level) + token_range * level / 3) ** 2,
    )


# Each formula of the docstring as it stands there: J, F, T and R_p in mpmath to the threshold.
FORMULAS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "success_rise": (
        lambda odds, length, width: thresholds.success_rise(ALIGNMENT, odds, BEND),
        lambda j, f, length, width: 2 * f * ALIGNMENT / mp.mpf(BEND),
    ),
    "failure_fall": (
        lambda odds, length, width: thresholds.failure_fall(ALIGNMENT, odds, length, width, BEND),
        lambda j, f, length, width: (
            2
            * j
            * f
            * ALIGNMENT
            / (mp.mpf(BEND) * f + length * width**2 / 4 * tail(f, length, 2 * mp.e))
        ),
    ),
    "sharper_failure_fall": (
        lambda odds, length, width: thresholds.sharper_failure_fall(
            ALIGNMENT, odds, length, width, BEND
        ),
        lambda j, f, length, width: (
            2 * j * f * ALIGNMENT / (mp.mpf(BEND) * f + length * width**2 / 4 * tail(f, length, 2))
        ),
    ),
    "angle": (
        lambda odds, length, width: thresholds.angle(ALIGNMENT, odds, length, width),
        lambda j, f, length, width: (
            mp.sqrt(j * f)
            * ALIGNMENT
            * length
            / (
                length
                * width**2
                / 4
                * mp.sqrt(mp.fsum((mp.sqrt(t) + mp.mpf(1) / 2) ** 2 for t in range(int(length))))
            )
        ),
    ),
    "reinforce_rate": (
        lambda odds, length, width: thresholds.reinforce_rate(length, width, odds, BEND),
        lambda j, f, length, width: (
            2 / (mp.mpf(BEND) * f + length * width**2 / 4 * tail(f, length, 2 * mp.e))
        ),
    ),
    "variance_fall": (
        lambda odds, length, width: thresholds.variance_fall(
            ALIGNMENT, odds, VARIANCE, width, BEND
        ),
        lambda j, f, length, width: (
            2 * j * f * ALIGNMENT / (mp.mpf(BEND) * f + tail_of_variance(f, width))
        ),
    ),
    "variance_local": (
        lambda odds, length, width: thresholds.variance_local(ALIGNMENT, odds, VARIANCE, width),
        lambda j, f, length, width: (
            mp.log(
                1
                + width
                * 2
                * f
                * ALIGNMENT
                * max(1 / mp.mpf(VARIANCE), j / tail_of_variance(f, width))
            )
            / width
        ),
    ),
}


@pytest.mark.parametrize("length", [8, 300])
@pytest.mark.parametrize("log_odds", LOG_ODDS)
@pytest.mark.parametrize("name", FORMULAS)
def test_a_threshold_is_its_formula_at_any_rate(name: str, log_odds: float, length: int) -> None:
    computed, formula = FORMULAS[name]
    with mp.workdps(50):
        expected = float(formula(*rates(log_odds), mp.mpf(length), mp.mpf(1.5)))
    assert float(computed(log_odds, length, 1.5)) == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("name", ["failure_fall", "sharper_failure_fall", "reinforce_rate"])
@pytest.mark.parametrize("log_odds", LOG_ODDS)
def test_a_million_tokens(name: str, log_odds: float) -> None:
    computed, formula = FORMULAS[name]
    with mp.workdps(50):
        expected = float(formula(*rates(log_odds), mp.mpf(10**6), mp.mpf(1)))
    assert float(computed(log_odds, 10**6, 1.0)) == pytest.approx(expected, rel=1e-12, abs=0)


def test_the_bend_of_the_angle_for_a_million_tokens() -> None:
    """The sum by Euler and Maclaurin: ``T^2/2 - T/2 + (2/3) T^1.5 - sqrt(T)/2 + zeta(-1/2) + T/4``
    up to ``O(1/sqrt T)``.
    """
    total = (
        10.0**12 / 2
        - 10.0**6 / 2
        + 2 / 3 * 10.0**9
        - 10.0**3 / 2
        + float(mp.zeta(-0.5))
        + 10.0**6 / 4
    )
    assert thresholds.angle_bend(10**6, 1.0) == pytest.approx(np.sqrt(total) / 2, rel=1e-12)


@pytest.mark.parametrize("log_odds", [-690.0, 0.0, 690.0])
def test_batches_at_any_rate(log_odds: float) -> None:
    slopes, odds, bends, weights = (
        [0.3, -0.1, 0.2],
        [log_odds, log_odds - 5, log_odds + 1],
        [0.5, 1.0, 0.25],
        [1, 2, 3],
    )
    with mp.workdps(50):
        both = [rates(o) for o in odds]
        gain = (
            mp.fsum(
                mp.mpf(p) * j * f * mp.mpf(s)
                for p, (j, f), s in zip(weights, both, slopes, strict=True)
            )
            / 6
        )
        rise = (
            2
            * gain
            / (
                mp.fsum(
                    mp.mpf(p) * mp.mpf(a) * j
                    for p, a, (j, _) in zip(weights, bends, both, strict=True)
                )
                / 6
            )
        )
        mean = mp.fsum(mp.mpf(p) * f for p, (_, f) in zip(weights, both, strict=True)) / 6
        fall = 2 * gain / (mp.mpf(BEND) * mean + 300 * tail(mean, 300, 2 * mp.e) / 4)
    assert thresholds.batch_success_rise(slopes, odds, bends, weights) == pytest.approx(
        max(float(rise), 0), rel=1e-12, abs=0
    )
    assert thresholds.batch_failure_fall(slopes, odds, 300, 1.0, BEND, weights) == pytest.approx(
        max(float(fall), 0), rel=1e-12, abs=0
    )


def test_ten_thousand_parameters() -> None:
    """Gap, curvature, gain and exact step of a policy with 10^4 parameters, along the gap."""
    rng = np.random.default_rng(5)
    bandit = LogLinearBandit(
        rng.normal(size=(4, 10_000)), [1, 0, 1, 0], log_prior=[0.0, -3.0, -700.0, 2.0]
    )
    theta = rng.normal(size=10_000) / 100
    direction = unit(bandit.gradient_gap(theta))
    with mp.workdps(40):
        along = log_odds_along(bandit, theta, direction)
        value, slope, bend = mp.taylor(along, 0, 2)
        assert bandit.log_odds(theta) == pytest.approx(float(value), rel=1e-12)
        assert np.sum(bandit.gradient_gap(theta) * direction) == pytest.approx(
            float(slope), rel=1e-11
        )
        assert bandit.curvature(theta, direction) == pytest.approx(float(-2 * bend), rel=1e-9)
        assert log_odds_gain(bandit, theta, direction, 0.01) == pytest.approx(
            float(along(mp.mpf(0.01)) - value), rel=1e-10
        )


def test_many_runs_on_one_stack_of_prompts() -> None:
    """Each run moves by the mean of its own prompts' updates: runs lead, prompts share the axis
    before the last.
    """
    rng = np.random.default_rng(6)
    stack = LogLinearBandit(rng.normal(size=(5, 3, 4)), [1, 0, 0])
    theta = rng.normal(size=(2, 1, 4))
    unread = At(stack, theta, np.zeros(()), np.zeros(4))
    update, _ = PolicyGradient("grpo", prompts=stack).update(unread, None)
    assert update.shape == theta.shape
    for run in range(2):
        alone = [
            PolicyGradient("grpo").update(At.of(b, theta[run, 0]), None)[0]
            for b in (LogLinearBandit(f, [1, 0, 0]) for f in stack.features)
        ]
        assert update[run, 0] == pytest.approx(np.mean(alone, axis=0), rel=1e-12)
