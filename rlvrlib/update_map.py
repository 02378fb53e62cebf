r"""One update of a policy with one parameter as a map of the line, :math:`x \to x + c\,v(x)`.

The velocity :math:`v` is positive to the left of the summit and negative to its right, and the
summit is at 0. A point has a side and a distance from the summit. What happens as the rate
:math:`c` grows is the chapter "The route to collapse": two-cycles, period doubling, chaos, a
horseshoe, collapse.

A policy is one instance (`policy_map`). The logistic map :math:`r\,y\,(1-y)` is another,
with :math:`v = -x\,(1+x)`, :math:`c = r - 1` and :math:`x = r\,y/(r-1) - 1`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.special import expit

from rlvrlib.checks import last_axis, positive, whole
from rlvrlib.first_zero import exact, zero_between
from rlvrlib.methods import method_named, multiplier
from rlvrlib.problems import Array, Problem, success_rate

# A number, or an array of them that broadcasts.
Values: TypeAlias = Array | float

RIGHT, LEFT = 1, -1
FEIGENBAUM = 4.669201609102990

# A logarithm of zero is cut here: an orbit through a point of slope 0 has a finite exponent.
_FLAT = 1e-12


@dataclass(frozen=True)
class UpdateMap:
    """``x -> x + rate * velocity(x)``, for every rate.

    Parameters
    ----------
    velocity, slope : functions of an array of points: ``v`` and its derivative, of the same shape.
    peak : for `RIGHT` and for `LEFT`, the distance at which the speed is largest; at most
        ``reach``.
    reach : the farthest distance that ``velocity`` knows; beyond it the velocity stays the same.
    """

    velocity: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    peak: Mapping[int, float]
    reach: float

    def update(self, x: Values, rate: Values) -> Array:
        """The points after one update; points and rates broadcast."""
        return np.asarray(x) + rate * self.velocity(np.clip(x, -self.reach, self.reach))

    def derivative(self, x: Values, rate: Values) -> Array:
        """``1 + rate * v'(x)``: by how much one update stretches the line at ``x``."""
        return 1 + rate * self.slope(np.clip(x, -self.reach, self.reach))

    def speed(self, distance: Values, side: int) -> Array:
        """Velocity towards the summit, at a distance on one side of it."""
        return -side * self.velocity(side * np.asarray(distance, dtype=float))


# ---- policies


def policy_velocity(problem: Problem, method: str, theta: Array) -> tuple[Array, Array]:
    """``v = m(J) Gap`` of one parameter, and ``v' = m(J) ((a (1-J) - b J) Gap^2 - kappa)``.

    The multiplier is ``m = J^a (1-J)^b``. Shape ``(...)`` for ``theta`` of shape ``(..., 1)``.

    Raises
    ------
    ValueError : an unknown method, or a problem with several parameters.
    """
    of_success, of_failure = method_named(method).powers
    if problem.dim != 1:
        raise ValueError(f"problem must have one parameter, got {problem.dim}")
    log_odds, gap = problem.log_odds(theta), problem.gradient_gap(theta)[..., 0]
    factor = multiplier(method, expit(log_odds), failure_rate=expit(-log_odds))
    bend = (of_success * expit(-log_odds) - of_failure * expit(log_odds)) * gap**2
    return factor * gap, factor * (bend - problem.curvature(theta, np.ones_like(theta)))


@dataclass(frozen=True)
class PolicyMap(UpdateMap):
    """One exact update of a policy, in ``x = (theta - summit) / unit``; see `policy_map`."""

    problem: Problem
    method: str
    summit: float
    unit: float

    def theta(self, x: Values) -> Array:
        """Parameters at ``x``, shape ``(..., 1)``."""
        return np.asarray(self.summit + self.unit * np.asarray(x))[..., None]

    def success_rate(self, x: Values) -> Array:
        """``J`` at ``x``, same shape."""
        return success_rate(self.problem, self.theta(x))

    def exact(self, x: Values) -> tuple[Array, Array]:
        """The velocity and its slope, solved and not interpolated."""
        velocity, slope = policy_velocity(self.problem, self.method, self.theta(x))
        return self.unit * velocity, self.unit**2 * slope

    def solved(self) -> PolicyMap:
        """The same map without its table: every velocity is exact."""
        return replace(self, velocity=lambda x: self.exact(x)[0], slope=lambda x: self.exact(x)[1])

    def pulled(self, pull: Callable[[Array], Array]) -> PolicyMap:
        """With ``pull(theta)``, shape ``(..., 1)``, taken from the update of ``theta``, such as a
        multiple of `kl_gradient`; the slope and the peaks are those without it.
        """
        return replace(
            self,
            velocity=lambda x: self.velocity(x) - self.unit * pull(self.theta(x))[..., 0],
        )

    def learning_rate(self, rate: Values) -> Values:
        """``eta`` with which `PolicyGradient` does an update of this map at the rate: ``unit^2``
        times it, and times ``T`` where scores are divided by the length ``T``.
        """
        shortened = method_named(self.method).length_normalized
        length = self.problem.max_length if shortened else 1
        return rate * self.unit**2 * length


def policy_map(
    problem: Problem,
    method: str,
    summit: float,
    unit: float,
    *,
    reach: float = 45.0,
    nodes: int = 9001,
) -> PolicyMap:
    """One exact update of a policy with one parameter, ``x -> x + rate * unit * m(J) Gap``.

    The velocity is solved at evenly spaced points and interpolated between them with the exact
    slopes, so that long orbits are cheap.

    Parameters
    ----------
    method : as in `policy_velocity`.
    summit : ``theta`` where the success rate is largest.
    unit : of ``x`` in ``theta``, such as ``1/sqrt(T)`` for a window of ``T`` tokens.
    reach : the table ends there on both sides.
    nodes : points of the table, at least 3.
    """
    from scipy.interpolate import CubicHermiteSpline  # slow to load

    positive(unit=unit)
    positive(reach=reach)
    whole(3, nodes=nodes)
    x = np.linspace(-reach, reach, nodes)
    velocity, slope = policy_velocity(problem, method, (summit + unit * x)[:, None])
    table = CubicHermiteSpline(x, unit * velocity, unit**2 * slope)
    bend, distance = table.derivative(), np.linspace(0, reach, nodes)

    def peak(side: int) -> float:
        top = distance[np.argmax(-side * table(side * distance))]
        if top == reach:
            return reach
        return float(_zero(lambda y: bend(side * y), top / 2, min(2 * top, reach)))

    peaks = {side: peak(side) for side in (RIGHT, LEFT)}
    return PolicyMap(table, bend, peaks, reach, problem, method, summit, unit)


def first_loss(m: PolicyMap, distances: Values) -> float:
    """The smallest rate at which an update from one of these distances, on either side, does not
    raise the success rate: the exact critical step over the speed.
    """
    x = np.r_[np.negative(distances), distances]
    step = exact(m.problem, m.theta(x), -np.sign(x)[:, None]) / m.unit
    return float(np.min(step / np.abs(m.exact(x)[0])))


class Tabulated(Problem):
    """A problem with one parameter, solved exactly at some points and interpolated between them, so
    that many or long runs are cheap.

    Log-odds from their values and slopes by cubics, the length-normalized gap by a cubic spline;
    beyond the points all stay as they are at the last one.

    Parameters
    ----------
    problem : with one parameter.
    points : ascending, shape ``(n,)``.
    """

    dim = 1

    def __init__(self, problem: Problem, points: Values):
        from scipy.interpolate import CubicHermiteSpline, CubicSpline  # slow to load

        self._points = np.asarray(points, dtype=float)
        log_odds, gap = problem.log_odds_and_gap(self._points[:, None])
        self._log_odds = CubicHermiteSpline(self._points, log_odds, gap[:, 0])
        short = problem.length_normalized_gap(self._points[:, None], gap)
        self._short = CubicSpline(self._points, short[:, 0])
        self._length = problem.max_length

    @property
    def max_length(self) -> int:
        return self._length

    def log_odds(self, theta: Values) -> Array:
        return self._log_odds(self._inside(theta))

    def gradient_gap(self, theta: Values) -> Array:
        return self._log_odds(self._inside(theta), 1)[..., None]

    def curvature(self, theta: Values, direction: Values) -> Array:
        return -self._log_odds(self._inside(theta), 2) * np.asarray(direction)[..., 0] ** 2

    def length_normalized_gap(self, theta: Values, gap: Array | None = None) -> Array:
        return self._short(self._inside(theta))[..., None]

    def _inside(self, theta: Values) -> Array:
        theta = last_axis(1, theta=theta)[..., 0]
        return np.clip(theta, self._points[0], self._points[-1])


# ---- two-cycles


class TwoCycles(NamedTuple):
    """Two-cycles, one for each length of the update: the points on both sides, the rate, and the
    multiplier, the product of the two derivatives. Those with one below 1 in size are stable.
    """

    left: Array
    right: Array
    rate: Array
    multiplier: Array

    @property
    def stable(self) -> np.ndarray:
        return np.abs(self.multiplier) < 1

    @property
    def calm(self) -> TwoCycles:
        """The stable ones, by rate."""
        order = np.flatnonzero(self.stable)
        order = order[np.argsort(self.rate[order])]
        return TwoCycles(*(values[order] for values in self))

    @property
    def exponent(self) -> Array:
        """The Lyapunov exponent, half the logarithm of the multiplier's size."""
        return np.log(np.abs(self.multiplier)) / 2


def two_cycles(m: UpdateMap, outer: tuple[int, ...] = (), levels: int = 1200) -> TwoCycles:
    """One family of two-cycles: two points of equal speed ``h``, at the rate distance over ``h``
    (All two-cycles).

    Parameters
    ----------
    outer : the sides whose point lies beyond the peak of speed; there is no cycle where the speed
        of one of them only grows.
    levels : number of speeds, from nearly the smallest to nearly that of the lower peak.
    """
    levels = levels if all(m.peak[side] < m.reach for side in outer) else 0
    top = min(m.speed(m.peak[side], side) for side in (RIGHT, LEFT))
    bottom = max((m.speed(m.reach, side) for side in outer), default=0.0)
    h = bottom + (top - bottom) * (1 - np.linspace(0.9999, 1e-4, levels) ** 2)

    def at_speed(side: int) -> Array:
        end = m.reach if side in outer else 0.0
        return side * _zero(lambda y: m.speed(y, side) - h, m.peak[side], end)

    right, left = at_speed(RIGHT), at_speed(LEFT)
    rate = (right - left) / h
    return TwoCycles(left, right, rate, m.derivative(left, rate) * m.derivative(right, rate))


def branches(m: UpdateMap) -> tuple[TwoCycles, TwoCycles]:
    """All two-cycles in two curves: the main branch, which starts at the summit and runs over the
    lower of the two peaks of speed, and the rest, which lies beyond the higher peak.
    """
    lower, higher = sorted((RIGHT, LEFT), key=lambda side: float(m.speed(m.peak[side], side)))
    main = _joined(two_cycles(m), two_cycles(m, (lower,)))
    return main, _joined(two_cycles(m, (higher,)), two_cycles(m, (RIGHT, LEFT)))


def _joined(up: TwoCycles, down: TwoCycles) -> TwoCycles:
    """One curve of two families that meet at the largest speed."""
    return TwoCycles(*(np.concatenate([a, b[::-1]]) for a, b in zip(up, down, strict=True)))


class CycleRates(NamedTuple):
    """Rates at which the summit loses its stability, the first two-cycle is born, and the main
    branch doubles its period.
    """

    summit: float
    birth: float
    flip: float


def cycle_rates(m: UpdateMap) -> CycleRates:
    """The first events on the route: ``-2/v'(0)``, the smallest rate of the main branch, and where
    its multiplier falls through -1, infinite if it does not.
    """
    main, _ = branches(m)
    birth = np.argmin(main.rate)
    unstable = main.multiplier[birth:] < -1
    flip = np.inf
    if unstable.any():
        around = birth + np.argmax(unstable) - np.array([0, 1])
        flip = np.interp(-1, main.multiplier[around], main.rate[around])
    return CycleRates(float(-2 / m.slope(np.zeros(()))), float(main.rate[birth]), float(flip))


def first_events(m: PolicyMap) -> dict[str, float]:
    """`cycle_rates` by name, and ``loss``, the `first_loss` from 300 distances up to 7."""
    loss = first_loss(m, np.geomspace(0.002, 7, 300))
    return {**cycle_rates(m)._asdict(), "loss": loss}


# ---- period doubling


def critical_point(m: UpdateMap, rate: Values, side: int) -> Array:
    """Distance of the outer point of one side with derivative 0, where the map turns back, shape of
    the rates; 0 where there is none.
    """
    rate = np.asarray(rate, dtype=float)
    y = np.linspace(0, m.peak[side], 2001)
    steepest = y[np.argmin(m.slope(side * y))]
    turns = (m.derivative(side * steepest, rate) < 0) & (m.derivative(side * y[-1], rate) > 0)
    found = np.zeros(rate.shape)
    found[turns] = _zero(lambda z: m.derivative(side * z, rate[turns]), steepest, m.peak[side])
    return found[()]


def superstable_rates(m: UpdateMap, period: int, rates: Values) -> Array:
    """Rates at which a critical point comes back to itself after ``period`` updates and not after
    half as many, ascending.

    Parameters
    ----------
    period : a power of 2, at least 2.
    rates : ascending, shape ``(n,)``; every change of sign between two of them is followed.
    """
    if period < 2 or period & (period - 1):
        raise ValueError(f"period must be a power of 2 and at least 2, got {period!r}")

    def missed(rate: Array, side: int, updates: int) -> Array:
        x = start = side * critical_point(m, rate, side)
        for _ in range(updates):
            x = m.update(x, rate)
        return x - start

    grid, found = np.asarray(rates, dtype=float), []
    for side in (RIGHT, LEFT):
        by = missed(grid, side, period)
        low = np.flatnonzero(by[1:] * by[:-1] < 0)
        root = _zero(partial(missed, side=side, updates=period), grid[low], grid[low + 1])
        found.append(root[np.abs(missed(root, side, period // 2)) > 1e-6])
    return np.sort(np.concatenate(found))


def onset_of_chaos(rates: Values) -> tuple[float, float]:
    """Where three successive doublings lead to: the rate to which they converge, with
    Feigenbaum's constant as the ratio of the gaps to come; and the ratio of their own two gaps,
    infinite where the second is 0.
    """
    first, second, third = np.asarray(rates, dtype=float).tolist()
    onset = third + (third - second) / (FEIGENBAUM - 1)
    return onset, (second - first) / (third - second) if third > second else np.inf


# ---- orbits


def orbit(m: UpdateMap, start: Values, rate: Values, updates: int) -> Array:
    """The start and the points after each update, shape ``(updates + 1, ...)``."""
    path = [np.array(np.broadcast_arrays(start, rate)[0], dtype=float)]
    for _ in range(updates):
        path.append(m.update(path[-1], rate))
    return np.array(path)


def orbit_ends(
    m: UpdateMap, starts: Values, rate: Values, updates: int, kept: int = 12
) -> tuple[Array, Array]:
    """The last ``kept`` points of orbits, shape ``(kept, ...)``, and their Lyapunov exponents, the
    mean of ``log |1 + rate v'|`` along them, shape ``(...)``.

    Starts and rates broadcast. The first ``updates`` are left out; the exponent is of as many more,
    or one more: an even number, so that it is of whole turns of a two-cycle.
    """
    x = np.array(np.broadcast_arrays(starts, rate)[0], dtype=float)
    for _ in range(updates):
        x = m.update(x, rate)
    whole, total = updates + updates % 2, np.zeros(x.shape)
    points: list[Array] = []
    for _ in range(whole):
        total += np.log(np.maximum(np.abs(m.derivative(x, rate)), _FLAT))
        points = [*points, x][-kept:]
        x = m.update(x, rate)
    return np.array(points), total / whole


def fates(points: Array, exponents: Array, lost: np.ndarray) -> dict[str, np.ndarray]:
    """What became of orbits, from what `orbit_ends` says of them and whether they are lost: each
    has settled, oscillates, is chaotic or is lost. Shape of the exponents.
    """
    settled = ~lost & (np.ptp(points, axis=0) < 1e-3)
    chaotic = ~lost & ~settled & (exponents > 0.02)
    oscillating = ~(lost | settled | chaotic)
    return {"settled": settled, "oscillating": oscillating, "chaotic": chaotic, "lost": lost}


def longest_stay(m: UpdateMap, starts: Values, rate: Values, updates: int) -> Array:
    """Most updates in a row that an orbit is beyond the peaks of speed, shape of the starts."""
    x = np.asarray(starts, dtype=float)
    stay = longest = np.zeros(x.shape, dtype=int)
    for _ in range(updates):
        x = m.update(x, rate)
        stay = np.where((x > m.peak[RIGHT]) | (x < -m.peak[LEFT]), stay + 1, 0)
        longest = np.maximum(longest, stay)
    return longest


# ---- overshoots, and the way back


def overshoot(m: UpdateMap, rate: Values, side: int) -> Array:
    """How far beyond the summit one update from this side can land, shape of the rates: from the
    critical point, or from the farthest one.
    """
    start = critical_point(m, rate, side)
    ends = rate * m.speed(start, side) - start, rate * m.speed(m.reach, side) - m.reach
    return np.maximum(np.maximum(*ends), 0.0)


def homing_point(m: UpdateMap, rate: Values, side: int) -> Array:
    """Distance of the outermost point that one update takes exactly to the summit, shape of the
    rates: the reach where an update passes the summit even from there, infinite where none does.
    """
    rate, y = np.asarray(rate, dtype=float), np.linspace(0, m.reach, 4001)
    passes = np.multiply.outer(rate, m.speed(y, side)) > y
    last = len(y) - 1 - np.argmax(passes[..., ::-1], axis=-1)
    outermost, turns = np.asarray(y[last]), passes.any(axis=-1) & (last < len(y) - 1)
    between = y[last[turns]], y[last[turns] + 1]
    outermost[turns] = _zero(lambda z: rate[turns] * m.speed(z, side) - z, *between)
    return np.where(passes.any(axis=-1), outermost, np.inf)[()]


def horseshoe(m: UpdateMap, rate: Values) -> Array:
    """Whether the overshoots of both sides reach the other side's homing point: then some orbits
    of every pattern of sides exist (Stages of the route). Shape of the rates.
    """
    sides = ((RIGHT, LEFT), (LEFT, RIGHT))
    return np.all([overshoot(m, rate, a) >= homing_point(m, rate, b) for a, b in sides], axis=0)


def updates_back(
    m: UpdateMap, distance: Values, rate: Values, side: int, inside: float, budget: int
) -> Array:
    """Updates until the distance is at most ``inside``; infinite where the budget does not
    suffice.
    """
    y = np.broadcast_arrays(np.asarray(distance, dtype=float), rate)[0]
    count = np.full(y.shape, np.inf)
    for k in range(budget + 1):
        count = np.where((y <= inside) & np.isinf(count), k, count)
        if np.all(np.isfinite(count)):
            break
        y = np.where(y > inside, y - rate * m.speed(np.minimum(y, m.reach), side), y)
    return count


def time_back(m: UpdateMap, distance: Values, rate: Values, side: int, inside: float) -> Array:
    """``integral of dy / (rate * speed)`` from ``inside`` to the distance: a lower bound for
    `updates_back` beyond the peak of speed (The way back).
    """
    grid = np.linspace(inside, np.max(distance), 20001)
    pace = 1 / m.speed(grid, side)
    passed = np.r_[0.0, np.cumsum((pace[1:] + pace[:-1]) / 2 * np.diff(grid))]
    return np.asarray(np.interp(distance, grid, passed) / rate)


def closed_form_back(
    m: PolicyMap, distance: Values, rate: float, side: int, inside: float
) -> Array:
    """``(J_0^-p - J_1^-p) / (p rate g^2)`` where the multiplier has ``J`` to the power ``p``, and
    for ``p = 0`` the difference of the log-odds over ``rate g^2``: what `time_back` is at least
    (The way back).

    ``J_0`` is the success rate at the distance, ``J_1`` that at ``inside``, and ``g`` the largest
    gap between them, in these units.
    """
    places = m.theta(side * np.linspace(inside, distance, 101))
    log_odds, gap = m.problem.log_odds_and_gap(places)
    power = method_named(m.method).powers[0]
    climb = log_odds[0] - log_odds[-1]
    if power:
        climb = (expit(log_odds[-1]) ** -power - expit(log_odds[0]) ** -power) / power
    return climb / (rate * np.max((m.unit * gap[..., 0]) ** 2, axis=0))


def edge(m: UpdateMap, rate: Values, side: int, budget: int) -> Array:
    """The distance beyond which the budget does not suffice to come back to the peak of speed,
    shape of the rates.
    """
    low = np.full(np.shape(rate), m.peak[side])
    high = np.full(np.shape(rate), m.reach)
    for _ in range(18):
        middle = (low + high) / 2
        lost = np.isinf(updates_back(m, middle, rate, side, m.peak[side], budget))
        low, high = np.where(lost, low, middle), np.where(lost, middle, high)
    return low


def collapses(m: UpdateMap, rate: Values, budget: int) -> Array:
    """Whether some update lands where the time back is more than the budget, shape of the rates."""
    lost = np.zeros(np.shape(rate), dtype=bool)
    for side in (RIGHT, LEFT):
        landing = np.clip(overshoot(m, rate, -side), m.peak[side], m.reach)
        lost |= time_back(m, landing, rate, side, m.peak[side]) > budget
    return lost


def thrown_away(m: UpdateMap, rate: Values, budget: int) -> np.ndarray:
    """Whether some update lands where the budget of updates does not suffice to come back to the
    peak of speed, shape of the rates: what `collapses` predicts.
    """
    return np.any(
        [
            np.isinf(updates_back(m, overshoot(m, rate, -side), rate, side, m.peak[side], budget))
            for side in (RIGHT, LEFT)
        ],
        axis=0,
    )


def lost_at(m: UpdateMap, starts: Values, rate: Values, budget: int, updates: int) -> Array:
    """Number of the update that takes an orbit beyond an `edge` of the budget, 0 for the start
    itself; infinite where none of the updates does. Starts and rates broadcast.
    """
    right, left = (edge(m, rate, side, budget) for side in (RIGHT, LEFT))
    x = np.array(np.broadcast_arrays(starts, rate)[0], dtype=float)
    when = np.full(x.shape, np.inf)
    for k in range(updates + 1):
        when = np.where(((x > right) | (x < -left)) & np.isinf(when), k, when)
        x = m.update(x, rate)
    return when


def smallest_rate(
    fails: Callable[[Array], np.ndarray],
    low: float,
    high: float,
    *,
    points: int,
    rounds: int,
    spaced: Callable[..., Array] = np.geomspace,
) -> float:
    """Smallest rate at which something fails, by zooming in on a grid; infinite where it does not.

    Parameters
    ----------
    fails : maps ascending rates, shape ``(points,)``, to booleans.
    points, rounds : of each grid; how often the gap before the first failure becomes the next grid.
    spaced : how the points are spread, by `numpy.geomspace` or `numpy.linspace`.
    """
    for _ in range(rounds):
        rates = spaced(low, high, points)
        failed = fails(rates)
        if not failed.any():
            return np.inf
        first = int(np.argmax(failed))
        low, high = rates[max(first - 1, 0)], rates[first]
    return float(high)


def _zero(function: Callable[[Array], Array], low: Values, high: Values) -> Array:
    """The zero between points at which the signs of the function differ; its values broadcast with
    them.
    """
    shape = np.broadcast_shapes(np.shape(low), np.shape(high), np.shape(function(np.asarray(low))))
    low, high = (np.array(np.broadcast_to(end, shape), dtype=float) for end in (low, high))
    return zero_between(function, low, high, np.ones(shape, dtype=bool))
