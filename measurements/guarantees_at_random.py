"""Every guarantee of the library on random problems: what a wrong line does to it.

A step that is too long or a bound that is too small breaks a guarantee; a step that is too short
or a bound that is too large only costs. The calls
that `guarantees` gives have results of which the larger is unsafe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np


class Places(dict[str, tuple[np.ndarray, np.ndarray]]):
    """Of each random problem the parameters and unit directions at which it is looked at."""



def guarantees(places: Places) -> dict[str, Callable[[], Any]]:
    """Every guarantee on the same random problems, by a name, as a call whose larger result is
    unsafe. ``places`` is filled where it is empty.
    """
    return dict(_calls(places))


def value(guarantee: Callable[[], Any]) -> np.ndarray:
    """The result as one row of numbers, NaN where the call raises."""
    try:
        with np.errstate(all="ignore"):
            return np.ravel(np.asarray(guarantee(), dtype=float))
    except Exception:
        return np.array([np.nan])


def side(right: dict[str, np.ndarray], wrong: dict[str, np.ndarray]) -> str:
    """``unsafe`` where some guarantee is larger than it should be, ``safe`` where some are smaller
    and none is larger, ``none`` where all are what they should be.
    """
    smaller = False
    for name, other in wrong.items():
        values = right[name]
        if other.shape != values.shape:
            continue
        with np.errstate(all="ignore"):
            room = 1e-9 * np.maximum(np.abs(values), np.abs(other))
            if np.any(other > values + np.where(np.isfinite(room), room, 0.0)):
                return "unsafe"
            smaller |= bool(np.any(other < values - np.where(np.isfinite(room), room, 0.0)))
    return "safe" if smaller else "none"


def _calls(places: Places) -> Iterator[tuple[str, Callable[[], Any]]]:
    import rlvrlib as rl
    from rlvrlib import bandits, correlated, estimated, moving, optimizers, overshoot, thresholds

    yield from _of_numbers(thresholds)
    rng = np.random.default_rng(7)
    for name, problem, start, towards in _problems(rl, correlated):
        if name not in places:
            gap = problem.gradient_gap(start)
            gap = gap.mean(axis=-2, keepdims=True) if start.ndim > 2 else gap
            noise = towards * np.linalg.norm(gap, axis=-1, keepdims=True)
            places[name] = start, rl.unit(gap + 0.3 * noise)
        theta, along = places[name]
        yield f"guaranteed {name}", _step(thresholds, problem, theta, along, False, None)
        for among in (None, *thresholds.BOUNDS):
            yield f"guaranteed everywhere {name} {among}", _step(
                thresholds, problem, theta, along, True, among
            )
        yield f"exact {name}", lambda p=problem, t=theta, w=along: thresholds.exact(p, t, w)
        for where in ("regularity", "local_regularity"):
            yield f"{where} {name}", _bounds(problem, theta, along, where)
        for bound in ("wrong_feature_range", "curvature_bound"):
            if hasattr(problem, bound):
                arguments = (along,) if bound == "wrong_feature_range" else ()
                yield f"{bound} {name}", _smaller(getattr(problem, bound), *arguments)
        yield f"variance {name}", _smaller(problem.conditional_variance, theta, along)
        at = rl.At.of(problem, theta)
        for rule in (
            rl.GuaranteedStep(0.5),
            rl.ThresholdStep(0.5, lambda p, t, w, dmu, l: thresholds.success_rise(dmu, l, 1.0)),
        ):
            yield f"{type(rule).__name__} {name}", lambda r=rule, a=at: r.length(a, a.gap, None)[0]
        if name.startswith("log-linear"):
            rule = estimated.EstimatedStep(0.5, 16, np.random.default_rng(3))
            yield f"estimated {name}", lambda r=rule, a=at: r.length(a, a.gap, None)[0]
            yield f"failure law {name}", _law(thresholds, problem, theta, along)
    yield "critical step", lambda: overshoot.critical_step(np.linspace(0.01, 0.99, 50))
    yield "limit step", lambda: correlated.limit_step(np.geomspace(1e-6, 0.5, 20))
    yield "diameter", _smaller(bandits.diameter, rng.normal(size=(20, 5, 3)))
    yield "collapse", lambda: overshoot.collapse_updates(0.1, 0.2, np.geomspace(0.1, 9, 9), 0.5)
    yield "way back", _smaller(moving.most_steps_back, np.sqrt, 4.0, np.array([0.5, 1.0]))
    yield "Adam's bound", _smaller(optimizers.adam_bound, np.array([0.0, 0.5, 0.9]), 0.99)


def _of_numbers(thresholds: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The thresholds that take numbers."""
    rng, n = np.random.default_rng(5), 2000
    dmu, log_odds = rng.normal(0.5, 1, n), rng.uniform(-40, 40, n)
    one, two, bend = np.exp(rng.uniform(-4, 4, (3, n)))
    length, rates = rng.integers(1, 300, n), rng.uniform(0.001, 0.999, n)
    batch, odds = rng.normal(0.5, 1, (n, 4)), rng.uniform(-20, 20, (n, 4))
    bends, weights = np.exp(rng.uniform(-3, 3, (2, n, 4)))
    t = thresholds
    yield "paper", lambda: t.paper(dmu, one, two)
    yield "trajectory", lambda: t.trajectory(dmu, one, two)
    yield "log_linear", lambda: t.log_linear(dmu, one)
    yield "success_rise", lambda: t.success_rise(dmu, log_odds, one)
    for name in ("failure_fall", "sharper_failure_fall"):
        for bound in (None, two):
            yield f"{name} {bound is two}", lambda f=name, b=bound: getattr(t, f)(
                dmu, log_odds, length, one, bend, b
            )
    yield "angle", lambda: t.angle(dmu, log_odds, length, one, two, bend)
    yield "angle_bend", lambda: -t.angle_bend(length, one, two, bend)
    yield "mean_length_fall", lambda: t.mean_length_fall(dmu, log_odds, length, one, bend)
    yield "mean_length_rise", lambda: t.mean_length_rise(dmu, log_odds, length, one)
    yield "variance_fall", lambda: t.variance_fall(dmu, log_odds, one, two, bend)
    yield "variance_local", lambda: t.variance_local(dmu, log_odds, one, two)
    law = np.exp(-0.3 * np.arange(30.0))
    yield "random_length", lambda: [
        t.random_length(x, l, law / law.sum(), r)
        for x, l, r in zip(dmu[:60], np.abs(log_odds[:60]), one[:60], strict=True)
    ]
    yield "batch_success_rise", lambda: t.batch_success_rise(batch, odds, bends)
    yield "batch_success_rise by weight", lambda: t.batch_success_rise(
        batch, odds, bends, weights[0]
    )
    yield "batch_failure_fall", lambda: t.batch_failure_fall(batch, odds, 20, one, bend)
    yield "batch_failure_fall by weight", lambda: t.batch_failure_fall(
        batch, odds, 20, one, bend, weights[0]
    )
    yield "reinforce_rate", lambda: t.reinforce_rate(length, one, log_odds, bend)
    yield "reinforce_rate everywhere", lambda: t.reinforce_rate(length, one, None, bend)
    yield "local", lambda: t.local(dmu, two - one)
    yield "longest_guarantee", lambda: t.longest_guarantee(rates)
    yield "longest_guarantee by length", lambda: t.longest_guarantee(rates, length)


def _problems(rl: Any, correlated: Any) -> Iterator[tuple[str, Any, np.ndarray, np.ndarray]]:
    """Random problems of every kind, each with parameters and with noise of their shape."""
    rng = np.random.default_rng(11)
    rewards, single = np.array([1.0, 1, 0, 0, 0, 1]), np.array([1.0, 0, 0, 0, 0, 0])
    features, prior = rng.normal(size=(6, 3)), rng.normal(size=6)
    slopes, bends, vectors = rng.normal(size=(3, 6, 3))
    network = rl.NetworkBandit(features[:, :2], bends[0], rewards, prior)
    windows = rl.WindowPrompts([12, 20, 9], [4, 8, 3], [7, 12, 6], bends[:3], [0.2, 0.4, 0.3])
    known: list[tuple[str, Any, float]] = [
        ("log-linear", rl.LogLinearBandit(features, rewards, prior), 2.0),
        ("log-linear, one right", rl.LogLinearBandit(features, single, prior), 2.0),
        ("tabular", rl.TabularBandit(rewards, prior), 2.0),
        ("network", network, 1.0),
        ("quadratic", rl.QuadraticBandit(slopes, bends, rewards, prior), 1.0),
        ("context", rl.ContextualBandit(vectors[0], rewards), 1.0),
        ("window", rl.TokenWindow(30, 12, 18), 1.5),
        ("edge", rl.TokenWindow(20, 20, 20), 1.5),
        ("overshoot", rl.OvershootInstance(0.3, 0.2, 4), 1.0),
        *((m, rl.CorrelatedWindow(16, 6, 10, 0.4, m), 0.8) for m in correlated.MECHANISMS),
        ("brackets", rl.bracket_chain(8), 0.5),
        ("walk", rl.stopping_walk(2, 8), 0.5),
        ("shifted", rl.Shifted(rl.TokenWindow(20, 8, 12), np.array([0.5])), 1.0),
        ("noisy", rl.NoisyVerifier(rl.TokenWindow(20, 8, 12), 0.9, 0.2), 1.0),
    ]
    for name, problem, scale in known:
        theta, noise = rng.normal(size=(2, 6, problem.dim))
        yield name, problem, scale * theta, noise
    stack = rl.LogLinearBandit(rng.normal(size=(3, 5, 4)), np.eye(5)[[0, 1, 2]])
    for name, problem in (("batch", stack), ("windows", windows)):
        theta, noise = rng.normal(size=(2, 4, 1, problem.dim))
        yield name, problem, 0.3 * theta, noise


def _step(t: Any, problem: Any, theta: Any, along: Any, how: bool, among: Any) -> Any:
    names = None if among is None else (among,)
    return lambda: t.guaranteed(problem, theta, along, everywhere=how, among=names).step


def _bounds(problem: Any, theta: Any, along: Any, where: str) -> Callable[[], Any]:
    def negative() -> Any:
        bounds = getattr(problem, where)(*([theta] if "local" in where else []), along)
        values = [np.ravel(getattr(bounds, f.name)) for f in fields(bounds)]
        return -np.concatenate([np.asarray(value, dtype=float) for value in values])

    return negative


def _smaller(bound: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: -np.asarray(bound(*arguments), dtype=float)


def _law(t: Any, problem: Any, theta: Any, along: Any) -> Callable[[], Any]:
    return lambda: t.failure_law(problem, theta, along)
