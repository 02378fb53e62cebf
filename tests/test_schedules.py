"""Moving problems: the ledger of gains and jumps, schedules against runs written out by hand, and
bad input.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, lambertw, logit
from scipy.stats import binom

from rlvrlib import (
    At,
    Constant,
    Curriculum,
    LogLinearBandit,
    PolicyGradient,
    RateSchedule,
    SampledGradient,
    Schedule,
    Shifted,
    Steered,
    ThresholdStep,
    TokenWindow,
    ascend,
    following_lag,
    harder,
    most_steps_back,
    steps_back,
    thresholds,
)

ASCENT, REINFORCE = PolicyGradient("log_odds"), PolicyGradient("reinforce")
ARMS = LogLinearBandit([[1.0], [0.0]], [1, 0])  # l = theta


def bandits(rng, count, runs=()):
    return [
        LogLinearBandit(rng.normal(size=(*runs, 6, 2)), np.arange(6) < 2, rng.normal(size=6))
        for _ in range(count)
    ]


def test_a_schedule_by_hand():
    problems = bandits(np.random.default_rng(0), 4)
    path = ascend(Schedule(problems), np.ones(2), REINFORCE, Constant(0.7), 3)
    theta = np.ones(2)
    for k, problem in enumerate(problems):
        log_odds = problem.log_odds(theta)
        assert path.log_odds[k] == pytest.approx(log_odds, rel=1e-13)
        if k == 3:
            break
        theta = theta + 0.7 * expit(log_odds) * expit(-log_odds) * problem.gradient_gap(theta)
        assert path.reached[k] == pytest.approx(problem.log_odds(theta), rel=1e-13)
        assert path.gain[k] == pytest.approx(problem.log_odds(theta) - log_odds, abs=1e-13)
        assert path.jump[k] == pytest.approx(
            problems[k + 1].log_odds(theta) - problem.log_odds(theta), abs=1e-13
        )
    assert path.theta == pytest.approx(theta)


def test_a_problem_that_rests_is_the_problem():
    (problem,) = bandits(np.random.default_rng(1), 1, (5,))
    still = ascend(problem, np.zeros((5, 2)), REINFORCE, Constant(0.5), 6)
    resting = ascend(Schedule([problem] * 7), np.zeros((5, 2)), REINFORCE, Constant(0.5), 6)
    for name in ("log_odds", "reached", "step_size", "alignment", "theta"):
        assert np.array_equal(getattr(still, name), getattr(resting, name)), name
    assert np.all(still.jump == 0) and np.array_equal(still.gain, np.diff(still.log_odds))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_step_of_a_safe_rule_loses_on_its_own_problem(seed):
    """Safe on every schedule: prompts of all kinds and log-odds in turn, exact gaps."""
    rng = np.random.default_rng(seed)
    prompts = bandits(rng, 16, (20,))
    diameter = max(
        np.ptp(p.features @ w, axis=-1).max()
        for p in prompts
        for w in [np.array([np.cos(a), np.sin(a)]) for a in np.linspace(0, np.pi, 181)]
    )
    diameter *= 1 / np.cos(np.pi / 360)  # between two directions of the grid
    moving = Steered(prompts, 12 * rng.uniform(-1, 1, size=(16, 20)))
    token_grpo = PolicyGradient("grpo", length_normalized=False)
    for direction, rate in ((REINFORCE, 16), (token_grpo, 8), (ASCENT, 8)):
        path = ascend(
            moving, rng.normal(size=(20, 2)), direction, Constant(0.99 * rate / diameter**2), 15
        )
        assert path.gain.min() >= -1e-12
        total = path.log_odds[:, 0] + path.gain.sum(axis=-1) + path.jump.sum(axis=-1)
        assert total == pytest.approx(path.log_odds[:, -1], abs=1e-10)


def test_steered_prompts_are_met_where_they_should_be():
    prompts, levels = bandits(np.random.default_rng(2), 9, (4,)), np.linspace(-5, 5, 9)
    path = ascend(Steered(prompts, levels), np.zeros((4, 2)), REINFORCE, Constant(3.0), 8)
    assert path.log_odds == pytest.approx(np.broadcast_to(levels, (4, 9)), abs=1e-12)


def test_harder_shifts_the_log_odds_and_nothing_else():
    (bandit,) = bandits(np.random.default_rng(3), 1, (3,))
    theta, offset = np.random.default_rng(4).normal(size=(3, 2)), np.array([-2.0, 0.5, 30.0])
    changed = harder(bandit, offset)
    assert changed.log_odds(theta) == pytest.approx(bandit.log_odds(theta) - offset, abs=1e-12)
    assert changed.gradient_gap(theta) == pytest.approx(bandit.gradient_gap(theta), rel=1e-10)
    assert changed.curvature(theta, np.ones(2)) == pytest.approx(
        bandit.curvature(theta, np.ones(2)), rel=1e-9
    )


def test_a_shifted_window_is_enumerated():
    window, shift, theta = (
        TokenWindow(12, 5, 8),
        np.array([[0.7], [-1.2]]),
        np.array([[0.1], [0.4]]),
    )
    moved = Shifted(window, shift)
    chance = expit(theta - shift)[:, 0]
    success = np.array([binom.pmf(np.arange(5, 9), 12, p).sum() for p in chance])
    assert expit(moved.log_odds(theta)) == pytest.approx(success, rel=1e-12)
    assert moved.log_odds_and_gap(theta)[0] == pytest.approx(logit(success), rel=1e-11)
    small = 1e-5
    slope = (moved.log_odds(theta + small) - moved.log_odds(theta - small)) / (2 * small)
    assert moved.gradient_gap(theta)[:, 0] == pytest.approx(slope, rel=1e-7)
    one = np.ones(1)
    bend = (moved.gradient_gap(theta + small) - moved.gradient_gap(theta - small))[:, 0] / (
        2 * small
    )
    assert moved.curvature(theta, one) == pytest.approx(-bend, rel=1e-6)
    assert moved.log_odds_gain(theta, one, np.full(2, 0.3)) == pytest.approx(
        moved.log_odds(theta + 0.3) - moved.log_odds(theta)
    )
    assert moved.length_normalized_gap(theta) == pytest.approx(moved.gradient_gap(theta) / 12)
    assert moved.dim == 1 and moved.regularity(one).max_length == 12
    rewards, _, scores = moved.sample(theta, 40_000, np.random.default_rng(0))
    assert rewards.mean(axis=-1) == pytest.approx(success, abs=5 * 0.5 / 200)
    assert scores[..., 0].mean(axis=-1) == pytest.approx([0, 0], abs=5 * np.sqrt(3) / 200)


def test_a_curriculum_promotes_each_run_when_it_is_ready():
    difficulty = Curriculum(lambda b: harder(ARMS, b), 0.0, 2.5, [1.0, 2.0], level=1.0)
    path = ascend(difficulty, np.zeros((2, 1)), ASCENT, Constant(0.5), 9)  # each step gains a half
    assert path.gain == pytest.approx(np.full((2, 9), 0.5))
    assert -path.jump == pytest.approx(
        np.array([[0, 1, 0, 1, 0, 0.5, 0, 0, 0], [0, 2, 0, 0, 0, 0.5, 0, 0, 0]]), abs=1e-12
    )
    again = ascend(
        difficulty, np.zeros((2, 1)), ASCENT, Constant(0.5), 9
    )  # the schedule keeps no state
    assert np.array_equal(path.log_odds, again.log_odds)


def test_a_rate_schedule_multiplies_the_updates():
    factors = np.array([1.0, 0.5, 0.0])
    path = ascend(ARMS, np.zeros(1), RateSchedule(ASCENT, factors), Constant(0.2), 3)
    assert path.step_size == pytest.approx(0.2 * factors)
    both = ascend(
        ARMS,
        np.zeros((2, 1)),
        RateSchedule(ASCENT, np.stack([factors, 1 - factors], axis=1)),
        Constant(0.2),
        3,
    )
    assert both.step_size == pytest.approx(0.2 * np.stack([factors, 1 - factors]))
    sampled = RateSchedule(SampledGradient("rloo", 4, np.random.default_rng(0)), np.zeros(2))
    assert ascend(TokenWindow(8, 3, 5), np.zeros(1), sampled, Constant(1.0), 2).theta == 0


@pytest.mark.parametrize(
    ("method", "critical"), [("reinforce", 0.25), ("grpo", 0.5), ("log_odds", 1.0)]
)
def test_the_critical_drift_of_a_constant_gap(method, critical):
    """A prompt that gets harder by delta at every step is followed up to eta max m."""
    drift = 0.2 * critical * np.array([0.5, 0.97, 1.03, 2.0])
    moving = Schedule([harder(ARMS, k * drift) for k in range(2001)])
    direction = PolicyGradient(method, length_normalized=False)
    last = ascend(moving, np.full((4, 1), 1.0), direction, Constant(0.2), 2000).success_rate[:, -1]
    assert np.all(last[:2] >= 0.5 - 1e-9) and np.all(last[2:] < 0.05)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), deep=st.floats(1.0, 5.0))
def test_recovery_lies_between_its_bounds(seed, deep):
    rng = np.random.default_rng(seed)
    bandit = LogLinearBandit(rng.normal(size=(6, 2)), np.arange(6) < 1)
    deepened = harder(bandit, bandit.log_odds(np.zeros(2)) + deep)
    spread = np.linalg.norm(bandit.features[:, None] - bandit.features, axis=-1).max()
    eta = 1 / spread**2
    path = ascend(deepened, np.zeros(2), REINFORCE, Constant(eta), 3000)
    if not np.any(path.log_odds >= 0):
        return
    steps = int(np.argmax(path.log_odds >= 0))
    gap, off = path.alignment[:steps], eta / 4 * spread**2 / 8

    def speed(square):
        return lambda y: eta * square * expit(y) * expit(-y)

    assert steps_back(speed((1 + off) * gap.max() ** 2), deep, 0.0) <= steps
    assert steps <= most_steps_back(speed((1 - off) * gap.min() ** 2), deep, 0.0)


def steps_taken(speed, lag, until, most=4000):
    """How many steps of a speed lead back, counted."""
    count = np.zeros(lag.shape)
    for _ in range(most):
        if not np.any(on_way := lag > until):
            return count
        count, lag = count + on_way, np.where(on_way, lag - speed(lag), lag)
    return np.where(lag > until, np.nan, count)


def staircase(logs, heights, places, widths):
    """Speeds that fall with the lag, by a slope and in stairs, each as one array over problems."""
    return lambda y: np.exp(
        logs[0]
        - logs[1] * y
        - sum(
            h * expit((y - p) / w) for h, p, w in zip(heights, places, widths, strict=True)
        )
    )


def random_staircases(size, rng):
    logs = rng.uniform(-3, 1, size), rng.uniform(0, 0.4, size)
    heights, places = rng.exponential(1.0, (3, size)), rng.uniform(1, 8, (3, size))
    return staircase(logs, heights, places, np.exp(rng.uniform(-4, 1, (3, size))))


def test_no_way_back_is_longer_than_its_bound():
    """10,000 random speeds."""
    rng, finished = np.random.default_rng(3), 0
    for _ in range(10):
        speed, lag = random_staircases(1000, rng), rng.uniform(1.1, 8, 1000)
        count = steps_taken(speed, lag, 1.0)
        good = np.isfinite(count)
        assert np.all(count[good] <= most_steps_back(speed, lag, 1.0)[good])
        # the integral itself is no bound, and is a bound from below
        assert np.all(count[good] >= steps_back(speed, lag, 1.0)[good] * (1 - 1e-4) - 1e-9)
        assert np.any(count[good] > 1 + steps_back(speed, lag, 1.0)[good])
        finished += good.sum()
    assert finished > 9000


def test_an_optimizer_finds_no_longer_way_back():
    from scipy.optimize import differential_evolution

    def excess(points):
        stairs = points[2:5], points[5:8], np.exp(points[8:11])
        speed, lag = staircase(points[:2], *stairs), points[11]
        count = np.nan_to_num(steps_taken(speed, lag, 1.0, 300), nan=-1e3)
        return most_steps_back(speed, lag, 1.0, 1001) - count

    box = [(-2, 1), (0, 0.4), *[(0, 4)] * 3, *[(1, 8)] * 3, *[(-4, 1)] * 3, (1.1, 8)]
    options = {"maxiter": 60, "popsize": 8, "rng": 5, "polish": False}
    found = differential_evolution(excess, box, vectorized=True, updating="deferred", **options)
    assert 0 <= found.fun < 0.5


def test_the_threshold_returns_within_its_logarithmic_bound():
    window, share, variance = TokenWindow(40, 14, 26), 0.5, 10.0

    def largest(problem, theta, unit, alignment, log_odds):
        falls = thresholds.failure_fall(alignment, log_odds, 40, 1.0)
        return np.maximum(falls, thresholds.success_rise(alignment, log_odds, variance))

    start = -np.linspace(0.8, 3.0, 12)[:, None]
    path = ascend(window, start, ASCENT, ThresholdStep(share, largest), 60)
    steps = np.argmax(path.log_odds >= 0, axis=1)
    least = np.array([path.alignment[i, : max(n, 1)].min() for i, n in enumerate(steps)])
    bound = 1 + 2 * variance * np.log(1 / (2 * path.success_rate[:, 0])) / (
        share * (1 - share) * least**2
    )
    assert np.all(path.log_odds.max(axis=1) >= 0) and np.all(steps <= bound)


WINDOW = TokenWindow(8, 3, 5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: ascend(Schedule([ARMS] * 3), np.zeros(1), ASCENT, Constant(1.0), 3),
            "problems must hold 4 entries",
        ),
        (
            lambda: ascend(Schedule([ARMS] * 5), np.zeros(1), ASCENT, Constant(1.0), 3),
            "problems must hold 4 entries",
        ),
        (
            lambda: ascend(Steered([ARMS] * 3, np.zeros(4)), np.zeros(1), ASCENT, Constant(1.0), 3),
            "bandits must hold 4",
        ),
        (
            lambda: ascend(Steered([ARMS] * 4, np.zeros(3)), np.zeros(1), ASCENT, Constant(1.0), 3),
            "log_odds must hold 4",
        ),
        (
            lambda: ascend(WINDOW, [0.0], RateSchedule(ASCENT, [1.0]), Constant(1.0), 2),
            "factors must hold one number per step",
        ),
        (
            lambda: ascend(Schedule([ARMS] * 2), np.zeros(2), ASCENT, Constant(1.0), 1),
            "theta0 must have last axis 1",
        ),
        (lambda: Schedule([]), "problems must hold at least one"),
        (lambda: Schedule([ARMS, LogLinearBandit(np.eye(2), [1, 0])]), "all of one dimension"),
        (lambda: Steered([ARMS] * 2, [0.0, np.inf]), "log_odds must be finite"),
        (lambda: Shifted(WINDOW, np.zeros(2)), "shift must have last axis 1"),
        (lambda: Shifted(WINDOW, [np.nan]), "shift must be finite"),
        (lambda: Curriculum(None, 1.0, 1.0, 0.1), "easiest must be below hardest"),
        (lambda: Curriculum(None, 0.0, np.inf, 0.1), "must be finite"),
        (lambda: Curriculum(None, 0.0, 1.0, 0.0), "rise must be positive"),
        (lambda: harder(ARMS, np.nan), "offset must be finite"),
        (lambda: RateSchedule(ASCENT, [-1.0]), "factors must be non-negative"),
        (lambda: RateSchedule(ASCENT, 1.0), r"factors must have shape \(steps, ...\)"),
    ],
)
def test_bad_input(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def ricker(lag):
    """A speed with its maximum 1 at the lag 1."""
    return lag * np.exp(1 - lag)


def test_the_lag_at_which_a_target_is_followed():
    speeds = np.array([[0.1, 0.9], [0.999, 1.001]])
    lag = following_lag(ricker, speeds, 1.0)
    assert lag[:, 0] == pytest.approx(-lambertw(-speeds[:, 0] / np.e).real, rel=1e-12)
    assert lag[0, 1] < 1 and np.isposinf(lag[1, 1])
    # a run behind such a target ends there
    window, speed = TokenWindow(64, 22, 42), 0.03
    moving = Schedule([Shifted(window, np.array([k * speed])) for k in range(301)])
    run = ascend(moving, [0.0], REINFORCE, Constant(0.06), 300)
    behind = following_lag(
        lambda y: 0.06 * REINFORCE.update(At.of(window, -y[..., None]), None)[0][..., 0],
        speed,
        0.6,
    )
    assert run.theta == pytest.approx(300 * speed - behind, abs=1e-9)


def test_steps_back():
    lags = np.array([0.5, 1.0, 3.0])
    assert steps_back(lambda y: y, lags, 1.0) == pytest.approx(np.log(lags), abs=1e-6)
    # two arms, l = theta: the integral of the recovery theorem
    eta, depths = 0.01, np.array([2.0, 3.0])
    run = ascend(ARMS, -depths[:, None], REINFORCE, Constant(eta), 2700)
    steps = steps_back(lambda y: eta * expit(y) * expit(-y), depths, 0.0)
    assert steps == pytest.approx(2 * (np.sinh(depths) + depths) / eta, rel=1e-6)
    assert run.steps_to(0.0) == pytest.approx(steps, rel=0.01)


def test_steps_to():
    run = ascend(ARMS, [[-1.0], [0.5], [-9.0]], ASCENT, Constant(0.25), 8)
    assert run.steps_to(0.0).tolist() == [4, 0, np.inf]
    assert run.steps_to([-1.0, 1.0, -8.0]).tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: following_lag(ricker, 0.0, 1.0), "target_speed must be positive and finite"),
        (lambda: following_lag(ricker, 0.5, -1.0), "top_lag must be positive and finite"),
        (lambda: steps_back(lambda y: 1 - y, 2.0, 0.0), "speed must be positive and finite"),
        (lambda: steps_back(ricker, np.nan, 0.1), "lag must be finite"),
        (lambda: steps_back(ricker, 1.0, 0.1, num_points=1), "num_points must be at least 2"),
        (lambda: ascend(ARMS, [0.0], ASCENT, Constant(1.0), 1).steps_to(np.nan), "log_odds must"),
    ],
)
def test_speeds_and_levels_that_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
