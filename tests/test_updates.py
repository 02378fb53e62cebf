"""Multipliers of the methods, in the population and over finite groups."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from rlvrlib import updates

FOLDER = Path(os.environ.get("RLVR_REFERENCE", Path(__file__).parent / "reference"))
CASES = json.loads((FOLDER / "loss_weights.json").read_text())["cases"]
RATES = np.array([0.0, 1e-12, 0.03, 0.5, 0.9, 1.0])


def test_population_multipliers():
    for method in ("reinforce", "rloo", "dr_grpo"):
        assert updates.multiplier(method, RATES) == pytest.approx(RATES * (1 - RATES))
    for method in ("grpo", "gspo", "dapo"):
        assert updates.multiplier(method, RATES) == pytest.approx(np.sqrt(RATES * (1 - RATES)))
    assert np.all(updates.multiplier("log_odds", RATES) == 1)


@pytest.mark.parametrize("size", [2, 3, 8, 64])
def test_finite_groups_by_enumeration(size):
    counts = np.arange(size + 1)
    for rate in RATES:
        chance = binom.pmf(counts, size, rate)
        spread = np.sqrt(counts / size * (1 - counts / size))
        mean, mixed = chance @ spread, 1 - chance[0] - chance[-1]
        assert updates.multiplier("grpo", rate, size) == pytest.approx(mean, rel=1e-9, abs=1e-14)
        assert updates.multiplier("dr_grpo", rate, size) == pytest.approx(
            chance @ spread**2, rel=1e-9, abs=1e-14
        )
        assert updates.multiplier("reinforce", rate, size) == pytest.approx(rate * (1 - rate))
        if mixed > 1e-6:
            assert updates.multiplier("dapo", rate, size) == pytest.approx(mean / mixed, rel=1e-8)


def test_limits_of_finite_groups():
    # GRPO late in training: linear in 1 - J, not its square root. DAPO: never zero.
    assert updates.multiplier("grpo", 1.0, 16, failure_rate=1e-200) == pytest.approx(
        1e-200 * np.sqrt(15), rel=1e-12
    )
    for rate in (0.0, 1e-12, 1.0):
        assert updates.multiplier("dapo", rate, 16) == pytest.approx(np.sqrt(15) / 16, rel=1e-9)
    large = updates.multiplier("grpo", 0.3, 20000)
    assert large == pytest.approx(np.sqrt(0.21), rel=1e-3)
    assert updates.multiplier("reinforce", 1.0, failure_rate=1e-300) == pytest.approx(1e-300)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ppo", 0.5), "method must be one of"),
        (("grpo", 0.5, 1), "group_size must be at least 2"),
        (("grpo", 0.5, 2.5), "group_size must be at least 2 and whole"),
        (("grpo", 1.2), "success_rate and failure_rate must be in"),
        (("grpo", np.nan), "success_rate and failure_rate must be in"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        updates.multiplier(*arguments)


def test_rates_that_contradict_each_other_are_named():
    with pytest.raises(ValueError, match="failure_rate must be 1 - success_rate"):
        updates.multiplier("reinforce", 0.2, failure_rate=0.2)


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
    values = updates.advantages(
        inputs["rewards"],
        method,
        inputs["group_ids"],
        framework=framework,
        scale_rewards=options["scale_rewards"],
    )
    assert values == pytest.approx(np.array(case["outputs"]["advantages"]), rel=1e-12, abs=1e-12)
    weights = updates.token_weights(
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
    """Negative control: with the population standard deviation the frameworks' numbers are missed."""
    case = CASES[0]
    inputs = case["inputs"]
    centred = np.array(inputs["rewards"]) - np.mean(inputs["rewards"])
    population = centred / (np.std(inputs["rewards"]) + 1e-4)
    assert np.max(np.abs(population - case["outputs"]["advantages"])) > 0.1


def test_groups_of_one_and_groups_without_spread():
    assert updates.advantages([1.0], "grpo", framework="trl") == [0.0]
    assert updates.advantages([1.0], "grpo", framework="verl") == pytest.approx([1 / (1 + 1e-6)])
    assert updates.advantages([1.0], "rloo", framework="verl") == [1.0]
    assert updates.advantages([1.0], "grpo", framework="trl", scale_rewards="batch") == [0.0]
    for method in ("grpo", "dr_grpo", "rloo"):
        assert np.all(updates.advantages([1, 1, 0, 0], method, ["a", "a", "b", "b"]) == 0)
    assert [
        len(w) for w in updates.token_weights([1, 0], [0, 0], [0, 0], "seq-mean-token-mean")
    ] == [0, 0]


def test_batch_scaling_uses_the_whole_batch():
    rewards, groups = [1.0, 0.0, 0.0, 0.0], [0, 0, 1, 1]
    expected = np.array([0.5, -0.5, 0, 0]) / (np.std(rewards, ddof=1) + 1e-4)
    assert updates.advantages(rewards, "grpo", groups, scale_rewards="batch") == pytest.approx(
        expected
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: updates.advantages([1, 0], "ppo"), "method must be"),
        (lambda: updates.advantages([1, 0], "grpo", framework="jax"), "framework must be"),
        (
            lambda: updates.advantages([1, 0], "grpo", framework="verl", scale_rewards="batch"),
            "scale_rewards must be",
        ),
        (lambda: updates.advantages([], "grpo"), "rewards must be"),
        (lambda: updates.advantages([1, np.nan], "grpo"), "rewards must be"),
        (lambda: updates.advantages([1, 0], "grpo", [0]), "group_ids must name"),
        (lambda: updates.token_weights([1, 0], [0, 0], [1, 2], "ppo"), "loss_type must be"),
        (lambda: updates.token_weights([1, 0], [0, 0], [1, -2], "grpo"), "lengths must be"),
        (lambda: updates.token_weights([1, 0], [0, 0], [1], "grpo"), "lengths must be"),
        (
            lambda: updates.token_weights([1, 0], [0, 0], [1, 2], "dr_grpo"),
            "max_completion_length must be given",
        ),
        (
            lambda: updates.token_weights(
                [1, 0], [0, 0], [1, 2], "dr_grpo", max_completion_length=0
            ),
            "max_completion_length must be positive",
        ),
        (
            lambda: updates.token_weights(
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
    first, second, *empty = updates.token_weights(
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
    first, _ = updates.token_weights(
        [1, 0], [0, 0], [1, 1], "seq-mean-token-sum-norm", method="dr_grpo", scale_rewards="none"
    )
    np.testing.assert_allclose(first, [0.5 / 2], rtol=1e-14)
