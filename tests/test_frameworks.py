"""What TRL and verl compute, to the digit: advantages and the weight of a token."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from rlvrlib import frameworks

FOLDER = Path(os.environ.get("RLVR_REFERENCE", Path(__file__).parent / "reference"))
CASES = json.loads((FOLDER / "loss_weights.json").read_text())["cases"]


def arguments_of(case):
    """The case's parameters under the names that this library gives them."""
    inputs, parameters = case["inputs"], case["inputs"]["params"]
    if case["provenance"]["framework"] == "trl":
        return (
            parameters["loss_type"],
            "trl",
            "grpo",
            {
                "scale_rewards": parameters["scale_rewards"],
                "max_completion_length": parameters["max_completion_length"],
            },
        )
    return (
        parameters["loss_agg_mode"],
        "verl",
        "rloo" if "rloo" in parameters["adv_estimator"] else "grpo",
        {
            "scale_rewards": "group" if parameters.get("norm_adv_by_std_in_grpo", True) else "none",
            "loss_scale_factor": parameters.get("loss_scale_factor"),
            "padded_length": inputs["padded_length"],
        },
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_frameworks_own_numbers(case):
    loss_type, framework, method, options = arguments_of(case)
    inputs = case["inputs"]
    values = frameworks.advantages(
        inputs["rewards"],
        method,
        inputs["group_ids"],
        framework=framework,
        scale_rewards=options["scale_rewards"],
    )
    assert values == pytest.approx(np.array(case["outputs"]["advantages"]), rel=1e-12, abs=1e-12)
    weights = frameworks.token_weights(
        inputs["rewards"],
        inputs["group_ids"],
        inputs["lengths"],
        loss_type,
        method=method,
        **options,
    )
    for mine, theirs in zip(weights, case["outputs"]["token_weight"], strict=True):
        assert mine == pytest.approx(np.array(theirs, dtype=float), rel=1e-12, abs=1e-12)


def test_another_ddof_is_seen(monkeypatch):
    """Negative control: the population standard deviation misses the frameworks' numbers."""
    case = CASES[0]
    inputs = case["inputs"]
    centred = np.array(inputs["rewards"]) - np.mean(inputs["rewards"])
    population = centred / (np.std(inputs["rewards"]) + 1e-4)
    assert np.max(np.abs(population - case["outputs"]["advantages"])) > 0.1


def test_groups_of_one_and_groups_without_spread():
    assert frameworks.advantages([1.0], "grpo", framework="trl") == [0.0]
    assert frameworks.advantages([1.0], "grpo", framework="verl") == pytest.approx([1 / (1 + 1e-6)])
    assert frameworks.advantages([1.0], "rloo", framework="verl") == [1.0]
    assert frameworks.advantages([1.0], "grpo", framework="trl", scale_rewards="batch") == [0.0]
    for method in ("grpo", "dr_grpo", "rloo"):
        assert np.all(frameworks.advantages([1, 1, 0, 0], method, ["a", "a", "b", "b"]) == 0)
    assert [
        len(w) for w in frameworks.token_weights([1, 0], [0, 0], [0, 0], "seq-mean-token-mean")
    ] == [0, 0]


def test_batch_scaling_uses_the_whole_batch():
    rewards, groups = [1.0, 0.0, 0.0, 0.0], [0, 0, 1, 1]
    expected = np.array([0.5, -0.5, 0, 0]) / (np.std(rewards, ddof=1) + 1e-4)
    assert frameworks.advantages(rewards, "grpo", groups, scale_rewards="batch") == pytest.approx(
        expected
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frameworks.advantages([1, 0], "ppo"), "method must be"),
        (lambda: frameworks.advantages([1, 0], "grpo", framework="jax"), "framework must be"),
        (
            lambda: frameworks.advantages([1, 0], "grpo", framework="verl", scale_rewards="batch"),
            "scale_rewards must be",
        ),
        (lambda: frameworks.advantages([], "grpo"), "rewards must be"),
        (lambda: frameworks.advantages([1, np.nan], "grpo"), "rewards must be"),
        (lambda: frameworks.advantages([1, 0], "grpo", [0]), "group_ids must name"),
        (lambda: frameworks.token_weights([1, 0], [0, 0], [1, 2], "ppo"), "loss_type must be"),
        (lambda: frameworks.token_weights([1, 0], [0, 0], [1, -2], "grpo"), "lengths must be"),
        (lambda: frameworks.token_weights([1, 0], [0, 0], [1], "grpo"), "lengths must hold one"),
        (
            lambda: frameworks.token_weights([1, 0], [0, 0], [1, 2], "dr_grpo"),
            "max_completion_length must be given",
        ),
        (
            lambda: frameworks.token_weights(
                [1, 0], [0, 0], [1, 2], "dr_grpo", max_completion_length=0
            ),
            "max_completion_length must be positive",
        ),
        (
            lambda: frameworks.token_weights(
                [1, 0], [0, 0], [1, 2], "seq-mean-token-sum-norm", loss_scale_factor=0
            ),
            "loss_scale_factor must be positive",
        ),
    ],
)
def test_bad_groups_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("loss_type", "divisors"),
    [
        ("grpo", [12, 24]),
        ("dr_grpo", [4 * 16] * 2),
        ("bnpo", [9] * 2),
        ("dapo", [9] * 2),
        ("luspo", [4] * 2),
        ("token-mean", [9] * 2),
        ("token-sum", [1] * 2),
        ("seq-mean-token-sum", [2] * 2),
        ("seq-mean-token-mean", [2 * (3 + 1e-8), 2 * (6 + 1e-8)]),
        ("seq-mean-token-sum-norm", [2 * 6] * 2),
    ],
)
def test_the_weight_of_a_token_is_its_advantage_over_the_divisor_of_the_loss(loss_type, divisors):
    """Four responses of 3, 6, 0 and 0 tokens, the first right, advantages without a scale: 3/4 and
    -1/4.
    """
    first, second, *empty = frameworks.token_weights(
        [1, 0, 0, 0],
        [0] * 4,
        [3, 6, 0, 0],
        loss_type,
        method="dr_grpo",
        scale_rewards="none",
        max_completion_length=16,
    )
    np.testing.assert_allclose(first, np.full(3, 0.75 / divisors[0]), rtol=1e-14)
    np.testing.assert_allclose(second, np.full(6, -0.25 / divisors[1]), rtol=1e-14)
    assert all(len(weights) == 0 for weights in empty)


def test_the_padded_length_is_that_of_the_longest_response():
    first, _ = frameworks.token_weights(
        [1, 0], [0, 0], [1, 1], "seq-mean-token-sum-norm", method="dr_grpo", scale_rewards="none"
    )
    np.testing.assert_allclose(first, [0.5 / 2], rtol=1e-14)
