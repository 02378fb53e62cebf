"""The dynamics of one-dimensional maps against maps that are solved in closed form: the logistic
map, the cubic one, and a speed whose time is an elementary integral; and the map of a policy
against its updates.
"""

import numpy as np
import pytest

from rlvrlib import (
    Constant,
    KLPenalty,
    PolicyGradient,
    TokenWindow,
    ascend,
    kl_gradient,
    update_map,
)
from rlvrlib.markov_tokens import bracket_chain
from rlvrlib.update_map import LEFT, RIGHT, UpdateMap

# r y (1 - y) with r = 1 + rate and the summit at y = 1 - 1/r: only the left side has a peak.
LOGISTIC = UpdateMap(lambda x: -x * (1 + x), lambda x: -1 - 2 * x, {RIGHT: 1.0, LEFT: 0.5}, 1.0)

# x - rate (x - x^3): symmetric; at the rate 4 it is Chebyshev's polynomial 4x^3 - 3x.
ROOT = 3**-0.5
CUBIC = UpdateMap(lambda x: x**3 - x, lambda x: 3 * x**2 - 1, {RIGHT: ROOT, LEFT: ROOT}, 1.0)

# Speed y / (1 + y^2), as slow far away as the square root of the time.
SLOW = UpdateMap(
    lambda x: -x / (1 + x**2),
    lambda x: (x**2 - 1) / (1 + x**2) ** 2,
    {RIGHT: 1.0, LEFT: 1.0},
    1e4,
)

# Superstable parameters of the logistic map with the periods 2, 4, 8, 16 and 32.
SUPERSTABLE = 3.2360679774998, 3.4985616993277, 3.5546408627688, 3.5666673798563, 3.5692435316371


def superstable(periods, rates=None):
    rates = np.linspace(2.1, 2.5699, 400) if rates is None else rates
    return [update_map.superstable_rates(LOGISTIC, p, rates)[0] + 1 for p in periods]


# ---- two-cycles


def test_two_cycles_of_the_logistic_map():
    """Its two-cycle has the multiplier 4 + 2r - r^2, is born at 3 and doubles at 1 + sqrt 6."""
    main, rest = update_map.branches(LOGISTIC)
    r = 1 + main.rate
    assert len(r) == 2400 and len(rest.rate) == 0
    assert main.multiplier == pytest.approx(4 + 2 * r - r**2, rel=1e-11, abs=1e-11)
    calm = main.calm
    assert np.all(calm.stable) and len(calm.rate) == main.stable.sum()
    assert np.all(np.diff(calm.rate) >= 0) and set(calm.left) <= set(main.left)
    assert calm.exponent == pytest.approx(np.log(np.abs(calm.multiplier)) / 2)
    assert main.stable.tolist() == ((r > 3) & (r < 1 + np.sqrt(6))).tolist()
    assert LOGISTIC.update(main.left, main.rate) == pytest.approx(main.right, abs=1e-11)
    assert LOGISTIC.update(main.right, main.rate) == pytest.approx(main.left, abs=1e-9)
    rates = update_map.cycle_rates(LOGISTIC)
    assert rates.summit == 2
    assert rates.birth == pytest.approx(2, abs=1e-7)
    assert rates.flip == pytest.approx(np.sqrt(6), abs=1e-6)


def test_two_cycles_of_the_cubic_map():
    """At a rate c the symmetric one is at 1 - y^2 = 2/c, with the multiplier (2c - 5)^2; at the
    peak of speed a mirror pair with x^2 + xy + y^2 = 1 and xy = 1/c, multiplier 9 - 2 (c-1)^2,
    takes over, which is stable from 3 to 1 + sqrt 5.
    """
    main, rest = update_map.branches(CUBIC)
    half = len(main.rate) // 2
    x, y, rate, factor = -main.left[:half], main.right[:half], main.rate[:half], main.multiplier
    assert x == pytest.approx(y)
    assert rate == pytest.approx(2 / (1 - y**2), rel=1e-12)
    assert factor[:half] == pytest.approx((2 * rate - 5) ** 2, abs=1e-9)
    x, y, rate = -main.left[half:], main.right[half:], main.rate[half:]
    assert x**2 + x * y + y**2 == pytest.approx(1)
    assert rate * x * y == pytest.approx(1)
    assert factor[half:] == pytest.approx(9 - 2 * (rate - 1) ** 2, rel=1e-9, abs=1e-8)
    assert np.min(rest.rate) == pytest.approx(3, abs=1e-6)
    rates = update_map.cycle_rates(CUBIC)
    assert rates == pytest.approx((2, 2, 1 + np.sqrt(5)), abs=1e-6)


def test_two_cycles_are_two_cycles_on_all_branches():
    for branch in update_map.branches(CUBIC):
        left, right, rate, multiplier = branch
        assert CUBIC.update(left, rate) == pytest.approx(right, abs=1e-9)
        slopes = CUBIC.derivative(left, rate), CUBIC.derivative(right, rate)
        assert multiplier == pytest.approx(slopes[0] * slopes[1])


def test_a_summit_that_never_doubles():
    """Speed tanh y: the two-cycle at the rate C = 2y / tanh y has the derivatives
    2 dlog C/dlog y - 1, between -1 and 1.
    """
    peak = {RIGHT: 9.0, LEFT: 9.0}
    m = UpdateMap(lambda x: -np.tanh(x), lambda x: -1 / np.cosh(x) ** 2, peak, 9.0)
    assert update_map.cycle_rates(m) == pytest.approx((2, 2, np.inf), abs=1e-6)


# ---- period doubling


def test_superstable_rates_of_the_logistic_map():
    assert superstable([2, 4, 8, 16, 32]) == pytest.approx(SUPERSTABLE, abs=1e-10)
    # the window of period 3 has one of period 6, but none of period 4 that is not on the ladder
    window = update_map.superstable_rates(LOGISTIC, 4, np.linspace(2.1, 3, 3000))
    assert window + 1 == pytest.approx([3.4985616993277, 3.9602701272], abs=1e-9)


def test_feigenbaum():
    onset, ratio = update_map.onset_of_chaos(
        superstable([16, 32, 64], np.linspace(2.5, 2.57, 2000))
    )
    assert ratio == pytest.approx(update_map.FEIGENBAUM, rel=1e-3)
    assert onset == pytest.approx(3.569945671870944, abs=1e-8)
    assert update_map.onset_of_chaos([1.0, 2.0, 2.0]) == (2.0, np.inf)


def test_critical_point():
    rates = np.array([0.5, 1.0, 2.0, 3.0])
    expected = np.maximum(1 - 1 / rates, 0) / 2  # 1 - c (1 - 2y) = 0
    assert update_map.critical_point(LOGISTIC, rates, LEFT) == pytest.approx(expected)
    assert update_map.critical_point(LOGISTIC, 3.0, LEFT) == pytest.approx(1 / 3)
    assert update_map.critical_point(CUBIC, 4.0, RIGHT) == pytest.approx(0.5)


# ---- orbits


@pytest.mark.parametrize(("m", "rate", "exponent"), [(LOGISTIC, 3.0, 2.0), (CUBIC, 4.0, 3.0)])
def test_lyapunov_exponents_of_chebyshev_maps(m, rate, exponent):
    starts = np.random.default_rng(1).uniform(-0.9, 0.3, size=400)
    points, exponents = update_map.orbit_ends(m, starts, rate, 1000)
    assert points.shape == (12, 400) and exponents.shape == (400,)
    assert np.mean(exponents) == pytest.approx(np.log(exponent), abs=2e-3)


def test_lyapunov_exponent_of_a_cycle_is_half_the_logarithm_of_its_multiplier():
    rates = np.array([2.1, 2.3, 2.44])
    for updates in (600, 601):  # whole turns in both cases
        points, exponents = update_map.orbit_ends(LOGISTIC, np.full((1, 1), -0.3), rates, updates)
        r = 1 + rates
        assert exponents == pytest.approx(np.log(np.abs(4 + 2 * r - r**2))[None] / 2, abs=1e-9)
        assert points[0] == pytest.approx(points[2]) and points[0] != pytest.approx(points[1])


def test_an_orbit_is_its_updates():
    path = update_map.orbit(LOGISTIC, np.array([[-0.3], [0.1]]), np.array([2.0, 2.5, 3.0]), 4)
    assert path.shape == (5, 2, 3) and np.all(path[0] == [[-0.3] * 3, [0.1] * 3])
    assert path[3] == pytest.approx(LOGISTIC.update(path[2], [2.0, 2.5, 3.0]))


def test_fates_of_the_logistic_map():
    """r = 2.8, 3.2 and 3.9; and an orbit that is said to be lost."""
    points, exponents = update_map.orbit_ends(LOGISTIC, -0.31, np.array([1.8, 2.2, 2.9, 2.9]), 2000)
    lost = np.array([False, False, False, True])
    found = update_map.fates(points, exponents, lost)
    assert list(found) == ["settled", "oscillating", "chaotic", "lost"]
    assert np.array(list(found.values())).astype(int).tolist() == np.eye(4, dtype=int).tolist()


def test_longest_stay():
    starts = np.array([0.5, 3.0, -3.0])
    x, stays = starts.copy(), np.zeros((40, 3), dtype=bool)
    for k in range(40):
        x = SLOW.update(x, 1.5)
        stays[k] = np.abs(x) > 1
    # decreasing distances: one stay each, at the beginning
    expected = [np.argmin(column) if column.any() else 0 for column in stays.T]
    assert update_map.longest_stay(SLOW, starts, 1.5, 40).tolist() == expected
    assert expected[1] == expected[2] > expected[0]


# ---- overshoots, and the way back


def test_overshoot_homing_point_and_horseshoe_of_the_cubic_map():
    """The overshoot is 2/3 (c-1) sqrt((c-1)/(3c)), the homing point sqrt((c-1)/c)."""
    rate = np.array([0.8, 1.5, 3.0, 4.0])
    up = np.maximum(rate - 1, 0)
    for side in (RIGHT, LEFT):
        over = update_map.overshoot(CUBIC, rate, side)
        assert over == pytest.approx(2 / 3 * up * np.sqrt(up / (3 * rate)))
        home = update_map.homing_point(CUBIC, rate, side)
        assert home[0] == np.inf
        assert home[1:] == pytest.approx(np.sqrt(up / rate)[1:])
    assert update_map.overshoot(LOGISTIC, 3.0, RIGHT) == 3 * 2 - 1  # from its end
    first = 1 + 1.5 * np.sqrt(3)
    assert update_map.horseshoe(CUBIC, first + np.array([-1e-9, 1e-9])).tolist() == [False, True]


def test_time_back_in_closed_form():
    """The integral of (1 + y^2)/y is log y + y^2/2."""
    distance, inside, rate = np.array([2.0, 5.0, 20.0]), 1.5, 0.7
    exact = (np.log(distance / inside) + (distance**2 - inside**2) / 2) / rate
    time = update_map.time_back(SLOW, distance, rate, RIGHT, inside)
    assert time == pytest.approx(exact, rel=1e-5)
    count = update_map.updates_back(SLOW, distance, rate, LEFT, inside, 1000)
    assert np.all(count >= exact) and np.all(count <= 1.3 * exact + 2)


def test_updates_back_and_edge_say_the_same():
    rate, budget = np.array([0.5, 1.5]), 50
    ends = update_map.edge(SLOW, rate, RIGHT, budget)
    for shift, within in ((-0.1, True), (0.1, False)):
        count = update_map.updates_back(SLOW, ends + shift, rate, RIGHT, 1.0, budget)
        assert np.all(np.isfinite(count)) == within
    assert update_map.updates_back(SLOW, [0.5, 1.0], 1.0, RIGHT, 1.0, 0).tolist() == [0, 0]


def test_collapse_is_where_an_overshoot_is_beyond_the_edge():
    """By the integral, a little later than by the updates, which take longer."""
    rates, budget = np.linspace(2, 60, 300), 5
    over = update_map.overshoot(SLOW, rates, LEFT)
    assert over == pytest.approx(update_map.overshoot(SLOW, rates, RIGHT))
    slow = (np.log(over) + (over**2 - 1) / 2) / rates > budget
    assert update_map.collapses(SLOW, rates, budget).tolist() == slow.tolist()
    by_updates = over > update_map.edge(SLOW, rates, RIGHT, budget)
    assert update_map.thrown_away(SLOW, rates, budget).tolist() == by_updates.tolist()
    assert slow.any() and np.all(by_updates | ~slow) and np.mean(by_updates) < 0.9


def test_lost_at_is_the_first_crossing_of_an_edge():
    rate, budget = np.array([4.0, 80.0]), 3
    starts = np.array([9.0, -9.0, 0.9, 0.0])[:, None]
    when = update_map.lost_at(SLOW, starts, rate, budget, 30)
    for j in range(2):
        ends = {side: update_map.edge(SLOW, rate[j], side, budget) for side in (RIGHT, LEFT)}
        for i, start in enumerate(starts[:, 0]):
            x, first = start, np.inf
            for k in range(31):
                if not -ends[LEFT] <= x <= ends[RIGHT]:
                    first = k
                    break
                x = float(SLOW.update(x, rate[j]))
            assert when[i, j] == first
    assert when[0, 0] == 0 and 0 < when[2, 1] < 10 and np.all(np.isinf(when[3]))


def test_smallest_rate():
    zoom = {"points": 11, "rounds": 5}
    found = update_map.smallest_rate(lambda c: c >= np.pi, 1.0, 10.0, **zoom)
    assert found == pytest.approx(np.pi, rel=1e-4) and found >= np.pi
    evenly = update_map.smallest_rate(lambda c: c >= np.pi, 1.0, 11.0, spaced=np.linspace, **zoom)
    assert evenly == pytest.approx(np.pi, abs=10 / 10**5) and evenly >= np.pi
    assert update_map.smallest_rate(lambda c: c > 20, 1.0, 10.0, **zoom) == np.inf
    assert update_map.smallest_rate(lambda c: c > 0, 1.0, 10.0, **zoom) == 1.0


# ---- the map of a policy


@pytest.mark.parametrize(("method", "power"), [("reinforce", 1), ("grpo", 0), ("log_odds", 1)])
def test_the_map_of_a_window_is_its_update(method, power):
    """At the rate eta T for sums over tokens, eta where the update is normalized by the length."""
    window, summit = TokenWindow(64, 37, 52), 0.8
    m = update_map.policy_map(window, method, summit, 1 / 8, reach=20.0, nodes=4001)
    x, rate = np.linspace(-9, 9, 301), 7.0
    theta = (summit + x / 8)[:, None]
    assert m.learning_rate(rate) == pytest.approx(rate / 64**power)
    path = ascend(window, theta, PolicyGradient(method), Constant(m.learning_rate(rate)), 1)
    assert summit + m.update(x, rate) / 8 == pytest.approx(path.theta[:, 0], abs=1e-9)
    velocity, slope = update_map.policy_velocity(window, method, theta)
    penalized = KLPenalty(PolicyGradient(method), 0.3, np.zeros(1))
    path = ascend(window, theta, penalized, Constant(rate / 64), 1)
    after = m.pulled(lambda at: 0.3 * kl_gradient(window, at, np.zeros(1))).update(x, rate)
    if power:
        assert summit + after / 8 == pytest.approx(path.theta[:, 0], abs=1e-9)
    assert velocity / 8 == pytest.approx(m.velocity(x), abs=1e-8)
    assert np.all(m.solved().velocity(x) == m.exact(x)[0])
    assert np.all(m.solved().slope(x) == m.exact(x)[1])
    step = 1e-5
    ahead, behind = (
        update_map.policy_velocity(window, method, theta + h)[0] for h in (step, -step)
    )
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-6, abs=1e-6)
    for side in (RIGHT, LEFT):
        grid = np.linspace(0, 20, 100_001)
        fastest = grid[np.argmax(m.speed(grid, side))]
        assert m.peak[side] == pytest.approx(fastest, abs=2e-4)
    assert m.update(30.0, rate) - 30 == pytest.approx(m.update(20.0, rate) - 20)


def test_first_loss_is_where_an_update_comes_back_to_its_level():
    window = TokenWindow(64, 37, 52)
    m = update_map.policy_map(window, "grpo", float(window.summit), 1 / 8, reach=20.0)
    distances = np.linspace(0.1, 6, 40)
    rate = update_map.first_loss(m, distances)
    assert update_map.first_events(m)["loss"] == pytest.approx(rate, rel=0.02)
    assert update_map.first_events(m)["birth"] == update_map.cycle_rates(m).birth
    x = np.r_[-distances, distances]
    for share, loses in ((0.999, False), (1.001, True)):
        after = window.log_odds(m.theta(x + share * rate * m.exact(x)[0]))
        assert np.any(after < window.log_odds(m.theta(x))) == loses


@pytest.mark.parametrize("method", ["reinforce", "grpo", "log_odds"])
def test_time_back_is_at_least_its_closed_form(method):
    """And close to it where the gap hardly changes on the way."""
    window = TokenWindow(64, 37, 52)
    m = update_map.policy_map(window, method, float(window.summit), 1 / 8, reach=25.0)
    for inside, distance, close in ((6.0, np.array([7.0, 12.0, 20.0]), 0.0), (12.0, 12.01, 0.98)):
        time = update_map.time_back(m, distance, 2.0, RIGHT, inside)
        bound = update_map.closed_form_back(m, distance, 2.0, RIGHT, inside)
        assert np.all(bound <= time) and np.all(bound >= close * time)


def test_a_table_is_the_problem_between_its_points():
    chain = bracket_chain(9)
    table = update_map.Tabulated(chain, np.linspace(-3, 3, 481))
    theta, up = np.linspace(-2.9, 2.9, 37)[:, None], np.ones(1)
    assert table.dim == 1 and table.max_length == 9
    assert table.log_odds(theta) == pytest.approx(chain.log_odds(theta), abs=1e-6)
    assert table.gradient_gap(theta) == pytest.approx(chain.gradient_gap(theta), abs=1e-4)
    bend = 4 * chain.curvature(theta, up)
    assert table.curvature(theta, 2 * up) == pytest.approx(bend, rel=2e-3, abs=2e-2)
    short = chain.length_normalized_gap(theta)
    assert table.length_normalized_gap(theta) == pytest.approx(short, abs=1e-4)
    far = table.log_odds([[9.0]])
    assert far == pytest.approx(chain.log_odds([[3.0]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: update_map.policy_velocity(TokenWindow(8, 3, 5), "ppo", np.zeros((1, 1))),
            "method must be one of reinforce, .*, got 'ppo'",
        ),
        (
            lambda: update_map.policy_map(TokenWindow(8, 3, 5), "grpo", 0.0, -1.0),
            "unit must be positive and finite, got -1.0",
        ),
        (
            lambda: update_map.superstable_rates(LOGISTIC, 3, np.linspace(2.1, 2.5, 9)),
            "period must be a power of 2 and at least 2, got 3",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
