"""Arguments of a wrong kind, in every public function of the theory: a `ValueError` of one line
that names the argument, or a result without NaN.
"""

import importlib
import inspect
import pkgutil
import warnings
from dataclasses import is_dataclass

import numpy as np
import pytest

import rlvrlib

FEATURES, REWARDS = np.array([[1.0, 0.2], [0.1, -0.5], [-0.4, 0.3]]), [1, 0, 0]
BANDIT = rlvrlib.LogLinearBandit(FEATURES, REWARDS)
STACK = rlvrlib.LogLinearBandit(np.stack([FEATURES, -FEATURES]), [REWARDS, REWARDS])
THETA = np.array([0.1, -0.2])
# A valid value for each name of an argument.
VALUES = {
    "problem": BANDIT,
    "bandit": BANDIT,
    "theta": THETA,
    "theta0": THETA,
    "direction": THETA,
    "step": 0.1,
    "rng": np.random.default_rng(0),
    "rewards": REWARDS,
    "features": FEATURES,
    "log_prior": np.zeros(3),
    "dim": 2,
    "group_size": 8,
    "prompts": STACK,
    "values": [1.0, 2, 3],
    "log_odds": 0.3,
    "alignment": 0.5,
    "score_bound": 1.0,
    "score_lipschitz": 1.0,
    "feature_range": 1.0,
    "curvature_bound": 0.5,
    "max_length": 8,
    "token_range": 1.0,
    "bend_range": 0.1,
    "mean_length": 4.0,
    "variance": 1.0,
    "length_law": np.full(8, 1 / 8),
    "alignments": [0.5, 0.6],
    "curvature_bounds": [0.5, 0.5],
    "weights": [0.5, 0.5],
    "curvature": 0.5,
    "success_rate": 0.4,
    "failure_rate": 0.6,
    "angle": 1.0,
    "own": [[0.1], [0.2]],
    "num_runs": 3,
    "low": -1.0,
    "high": 1.0,
    "seed": 0,
    "num_contexts": 2,
    "num_arms": 10,
    "context_dim": 3,
    "correct_share": 0.3,
    "length": 8,
    "correlation": 0.2,
    "mechanism": "persistence",
    "offset": 0.0,
    "method": "grpo",
    "ddof": 0,
    "max_resamples": 5,
    "vectors": np.ones((4, 2)),
    "cosines": np.full(4, 0.5),
    "factors": np.full(4, 0.5),
    "beta1": 0.9,
    "beta2": 0.99,
    "epsilon": 1e-8,
    "memory": 0.5,
    "beta": 0.1,
    "max_norm": 1.0,
    "scores": np.ones((3, 2)),
    "share": 0.5,
    "caution": 1.0,
    "group_ids": [0, 0, 0],
    "framework": "trl",
    "scale_rewards": "group",
    "lengths": [3, 4, 5],
    "loss_type": "grpo",
    "max_completion_length": 8,
    "padded_length": 5,
    "loss_scale_factor": 8.0,
    "name": "grpo",
    "batch": False,
    "success": 0.4,
    "failure": 0.6,
    "true_positive_rate": 0.9,
    "false_positive_rate": 0.1,
    "acceptance": [0.9, 0.1, 0.1],
    "rate": 0.1,
    "noise": 1.0,
    "pull": 1.0,
    "momentum": 0.5,
    "rates": [0.1, 0.2],
    "power": 1.0,
    "num_steps": 10,
    "factor": 0.5,
    "waited": 5,
    "delta": 0.1,
    "initial_success": 0.3,
    "largest_multiplier": 1.0,
    "gap_bound": 1.0,
    "sizes": [1.0, 2, 4],
    "level": 0.9,
    "num_resamples": 10,
    "eta": 0.1,
    "rise": 0.1,
    "order": "policy-reference",
    "start": 0.1,
    "num_updates": 2,
    "clip": 0.2,
    "clip_above": 0.3,
    "exponent": 1.0,
    "constant": 1.0,
    "half_width": 1.0,
    "spread": 1.0,
    "contexts": np.ones((2, 3)),
    "inputs": FEATURES,
    "output_weights": [1.0, 0.5],
    "slopes": FEATURES,
    "bends": FEATURES,
    "slope": THETA,
    "bend": 0.5,
    "num_points": 9,
    "powers": (0.5, 0.5),
    "size": 2,
    "gaps": np.eye(2),
    "included": True,
    "reach": 100.0,
    "vocabulary": 4,
    "persistence": 0.1,
    "bound": 2,
    "open_share": 0.5,
    "half": 3,
    "cap": 8,
    "mean": 3.0,
    "ratio": 1.0,
    "reward": 1.0,
    "weighting": "uniform",
    "easiest": 0.1,
}
# And where the name alone does not say it.
WINDOW = {"length": 8, "low": 3, "high": 5}
SPECIAL = {
    "TokenWindow": WINDOW,
    "CorrelatedWindow": WINDOW,
    "WindowPrompts": {
        "lengths": 8,
        "low": [3, 4],
        "high": [5, 6],
        "directions": np.eye(2),
        "initial_success": [0.2, 0.3],
    },
    "ContextualBandit": {"rewards": [REWARDS, REWARDS]},
    "log_odds_of_rates": {"success_rate": [0.2, 0.4]},
    "mean_rates": {"log_odds": [0.1, 0.2]},
    "batch_alignment": {"log_odds": [0.1, 0.2]},
    "alignment_spread": {"log_odds": [0.1, 0.2]},
    "batch_of": {"log_odds": [0.1, 0.2]},
    "adam_response": {"factor": 2.0},
    "ascend": {"step": rlvrlib.Constant(0.1)},
    "estimate": {"rewards": [1.0, 0, 1], "scores": [0.5, 0.1, -0.3]},
    "noise_and_pull": {"problem": rlvrlib.TokenWindow(8, 3, 5), "theta": [0.1]},
    "median_exponent": {"values": np.arange(1.0, 13).reshape(4, 3)},
}
# Numbers that are none, or none that any formula means.
WRONG = {
    "none": None,
    "text": "three",
    "object": object(),
    "complex": 1j,
    "ragged": [[1], [2, 3]],
    "dict": {},
    "nan": np.nan,
    "nan in a list": [np.nan, 1.0],
    "inf": np.inf,
    "-inf": -np.inf,
    "huge": 10**400,
}
# Not asked for: what a run hands to its own parts, already checked, is annotated `Array`.
INNER = "Array", "Array | None", "Any"


def functions():
    """Public functions and classes of the theory with a valid call, and the methods of problems."""
    for info in pkgutil.iter_modules(rlvrlib.__path__):
        if info.ispkg or info.name in ("renamed", "checks", "update_map"):
            continue
        module = importlib.import_module(f"rlvrlib.{info.name}")
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", "") != module.__name__:
                continue
            if name == "method_named":  # it names the argument of those who call it
                continue
            if inspect.isfunction(thing) or (
                inspect.isclass(thing)
                and not inspect.isabstract(thing)
                and not getattr(thing, "_is_protocol", False)
            ):
                given = valid(name, thing)
                if given is not None:
                    yield f"{info.name}.{name}", thing, given
                    if inspect.isclass(thing) and issubclass(thing, rlvrlib.Problem):
                        yield from methods(f"{info.name}.{name}", thing(**given))


def methods(name, problem):
    at = {"theta": np.full(problem.dim, 0.1), "direction": np.full(problem.dim, 0.3)}
    if hasattr(problem, "num_arms"):
        at["values"] = np.arange(problem.num_arms)
    for method, function in inspect.getmembers(problem, inspect.ismethod):
        if method.startswith("_") or isinstance(function.__self__, type):
            continue
        given = valid("", function)
        if given is not None:
            given = given | {key: value for key, value in at.items() if key in given}
            yield f"{name}.{method}", function, given


def valid(name, function):
    """Arguments of a call that works; None where the tables do not have them."""
    own = VALUES | SPECIAL.get(name, {})
    parameters = inspect.signature(function).parameters.values()
    if any(one.name not in own and one.default is one.empty for one in parameters):
        return None
    given = {one.name: own[one.name] for one in parameters if one.name in own}
    if "Direction" in str(inspect.signature(function)):
        given["direction"] = rlvrlib.PolicyGradient("reinforce")
    return given if any(asked(function, given)) else None


def asked(function, given):
    """The arguments that are asked for, and the wrong values of each."""
    for name, parameter in inspect.signature(function).parameters.items():
        kind = str(parameter.annotation)
        if name in given and kind not in (*INNER, "bool") and "Callable" not in kind:
            for label, wrong in WRONG.items():
                if not (wrong is None and parameter.default is None):
                    yield name, label, wrong


def holds_nan(value):
    if isinstance(value, np.ndarray | float):
        values = np.asarray(value)
        return values.dtype.kind == "f" and bool(np.isnan(values).any())
    if is_dataclass(value):
        value = list(vars(value).values()) if hasattr(value, "__dict__") else []
    return isinstance(value, tuple | list) and any(map(holds_nan, value))


CALLS = {name: (function, given) for name, function, given in functions()}


def test_most_of_the_theory_is_called():
    assert len(CALLS) >= 225


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_argument_is_named(name):
    function, given = CALLS[name]
    wrong = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert not holds_nan(function(**given))
        for argument, label, value in asked(function, given):
            try:
                if holds_nan(function(**(given | {argument: value}))):
                    wrong.append(f"{argument}={label}: NaN")
            except ValueError as error:
                if argument not in str(error) or "\n" in str(error):
                    wrong.append(f"{argument}={label}: {error}")
            except Exception as error:
                wrong.append(f"{argument}={label}: {type(error).__name__}: {error}")
    assert not wrong, wrong
