"""Ascent against trajectories that other people's code computed (tests/reference/README.md), and
its conventions.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import expit

from rlvrlib import (
    Adam,
    At,
    Clipped,
    Constant,
    FixedLength,
    LogLinearBandit,
    LongStep,
    Momentum,
    PolicyGradient,
    Prescribed,
    SampledGradient,
    ThresholdStep,
    TokenWindow,
    Turned,
    ascend,
    contextual_bandit,
    log_odds_gain,
    thresholds,
)
from rlvrlib.methods import METHODS, SAMPLED_METHODS

REFERENCE = json.loads(
    (
        Path(os.environ.get("RLVR_REFERENCE", Path(__file__).parent / "reference")) / "bandits.json"
    ).read_text()
)
CASES = [case for case in REFERENCE["bandit_cases"] if set(case["reward"]) == {0, 1}]


def tabular(case):
    return LogLinearBandit(np.eye(len(case["reward"])), case["reward"])


def test_there_are_reference_cases():
    assert CASES and REFERENCE["two_arm_gradient_flow"]["values"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['name']}-{case['eta']}")
def test_exact_policy_gradient_reference(case):
    bandit, theta = tabular(case), np.array(case["theta0"])
    success, gap = expit(bandit.log_odds(theta)), bandit.gradient_gap(theta)
    assert success == pytest.approx(float(case["J0"]), rel=1e-13)
    assert success * expit(-bandit.log_odds(theta)) * gap == pytest.approx(
        np.array(case["grad0"], dtype=float), rel=1e-12
    )
    assert gap @ gap == pytest.approx(case["gap_norm_sq"], rel=1e-12)
    path = ascend(
        bandit,
        theta,
        PolicyGradient("reinforce"),
        Constant(case["eta"]),
        max(map(int, case["exact_pg_J"])),
    )
    for step, value in case["exact_pg_J"].items():
        assert path.success_rate[int(step)] == pytest.approx(float(value), rel=1e-12)
    last = np.array(case["exact_pg_theta50_first5"], dtype=float)
    assert path.theta[: len(last)] == pytest.approx(last, rel=1e-11)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['name']}-{case['eta']}")
def test_natural_policy_gradient_reference(case):
    bandit, theta = tabular(case), np.array(case["theta0"])
    for step in range(1, 1 + max(map(int, case["natural_pg_J"]))):
        log_odds, gap = bandit.log_odds_and_gap(theta)
        gradient = expit(log_odds) * expit(-log_odds) * gap
        theta = theta + case["eta"] * gradient / np.exp(bandit.log_probabilities(theta))
        if str(step) in case["natural_pg_J"]:
            assert expit(bandit.log_odds(theta)) == pytest.approx(
                float(case["natural_pg_J"][str(step)]), rel=1e-11
            )


@pytest.mark.parametrize(
    "value", REFERENCE["two_arm_gradient_flow"]["values"], ids=lambda v: f"{v['z0']}-{v['t']}"
)
def test_two_arm_gradient_flow_reference(value):
    bandit = LogLinearBandit(
        [[1.0], [0.0]], [1, 0]
    )  # z = theta: gap 1, and two arms move it twice as fast

    def flow(_, z):
        log_odds, gap = bandit.log_odds_and_gap(z)
        return 2 * expit(log_odds) * expit(-log_odds) * gap

    end = solve_ivp(
        flow, (0, float(value["t"])), [float(value["z0"])], rtol=1e-12, atol=1e-14, method="DOP853"
    )
    assert end.y[0, -1] == pytest.approx(float(value["z"]), abs=1e-9)


def test_shapes_of_a_single_run_and_of_many():
    bandit = LogLinearBandit(np.eye(4), [1, 0, 0, 1])
    for batch in ((), (3,), (2, 3)):
        path = ascend(bandit, np.zeros((*batch, 4)), PolicyGradient("grpo"), Constant(0.1), 5)
        assert (
            path.log_odds.shape
            == path.cumulative_alignment.shape
            == path.signed_alignment.shape
            == (*batch, 6)
        )
        assert path.step_size.shape == path.alignment.shape == (*batch, 5)
        assert path.theta.shape == (*batch, 4)


def test_a_batch_of_runs_is_the_runs_one_by_one():
    bandit, rng = (
        LogLinearBandit(np.random.default_rng(0).normal(size=(6, 3)), [1, 0, 0, 1, 0, 0]),
        np.random.default_rng(1),
    )
    theta, etas = rng.normal(size=(4, 3)), np.array([0.1, 0.5, 1.0, 2.0])
    together = ascend(bandit, theta, PolicyGradient("reinforce"), Constant(etas), 20)
    for index in range(4):
        alone = ascend(bandit, theta[index], PolicyGradient("reinforce"), Constant(etas[index]), 20)
        assert together.log_odds[index] == pytest.approx(alone.log_odds, rel=1e-12)
        assert together.step_size[index] == pytest.approx(alone.step_size, rel=1e-12)


def test_what_a_trajectory_records():
    bandit, theta = (
        LogLinearBandit(np.random.default_rng(2).normal(size=(6, 3)), [1, 0, 0, 1, 0, 0]),
        np.ones(3),
    )
    directions = np.array([[1.0, 0, 0], [0, -2.0, 0], [0, 0, 0]])
    path = ascend(bandit, theta, Prescribed(directions), Constant(0.5), 3)
    gap0 = bandit.gradient_gap(theta)
    assert path.step_size == pytest.approx([0.5, 1.0, 0.0])
    assert path.alignment[0] == pytest.approx(gap0[0])
    assert path.alignment[1] == pytest.approx(
        -bandit.gradient_gap(theta + np.array([0.5, 0, 0]))[1]
    )
    assert path.alignment[2] == 0 and path.log_odds[3] == path.log_odds[2]  # no direction, no move
    increments = path.alignment * path.step_size
    assert path.signed_alignment == pytest.approx([0, *np.cumsum(increments)])
    assert path.cumulative_alignment == pytest.approx([0, *np.cumsum(np.maximum(increments, 0))])
    assert path.theta == pytest.approx([1.5, 0.0, 1.0])


def test_steps():
    bandit = LogLinearBandit(np.random.default_rng(2).normal(size=(6, 3)), [1, 0, 0, 1, 0, 0])
    theta = np.ones(3)
    norm = np.linalg.norm(bandit.gradient_gap(theta))
    assert ascend(bandit, theta, PolicyGradient("log_odds"), Constant(0.2), 1).step_size[
        0
    ] == pytest.approx(0.2 * norm)
    assert ascend(bandit, theta, PolicyGradient("log_odds"), FixedLength(0.2), 1).step_size[
        0
    ] == pytest.approx(0.2)

    def log_linear(problem, theta, unit, alignment, log_odds):
        return thresholds.log_linear(alignment, problem.wrong_feature_range(unit))

    path = ascend(bandit, theta, PolicyGradient("reinforce"), ThresholdStep(0.9, log_linear), 30)
    assert np.all(np.diff(path.log_odds) > 0)
    expected = 0.9 * thresholds.log_linear(
        norm, bandit.wrong_feature_range(bandit.gradient_gap(theta))
    )
    assert path.step_size[0] == pytest.approx(expected)


def log_linear_threshold(problem, theta, unit, alignment, log_odds):
    return thresholds.log_linear(alignment, problem.wrong_feature_range(unit))


def test_a_long_step_is_kept_only_if_the_log_odds_rose_enough():
    bandit = LogLinearBandit(
        [[0.3], [1.0], [-1.0]], [1, 0, 0]
    )  # the overshooting instance: the critical step is 0.6393
    theta = np.zeros((4, 1))
    safe = np.array([0.01, 0.05, 0.15, 0.35])
    rule = LongStep(FixedLength(safe), (16.0, 4.0), 0.1)
    path = ascend(bandit, theta, PolicyGradient("log_odds"), rule, 1)
    taken = path.step_size[:, 0]
    gain = {
        factor: log_odds_gain(bandit, theta, np.ones(1), factor * safe) for factor in (16.0, 4.0)
    }
    enough = {factor: gain[factor] >= 0.1 * factor * safe * 0.3 for factor in gain}
    assert enough[16.0].tolist() == [True, False, False, False] and enough[4.0].tolist() == [
        True,
        True,
        False,
        False,
    ]
    assert taken == pytest.approx([0.16, 0.2, 0.15, 0.35])
    assert path.notes["trials"].T.tolist() == [[1, 2, 2, 2]]


@pytest.mark.parametrize("seed", range(5))
def test_long_steps_never_lose_and_end_in_the_safe_step(seed):
    rng = np.random.default_rng(seed)
    bandits = LogLinearBandit(
        rng.normal(size=(50, 8, 3)), np.arange(8) < 2, rng.normal(size=(50, 8))
    )
    safe = ThresholdStep(0.9, log_linear_threshold)
    rule = LongStep(safe)
    path = ascend(bandits, np.zeros((50, 3)), PolicyGradient("log_odds"), rule, 40)
    assert np.diff(path.log_odds).min() >= -1e-12
    assert path.notes["trials"].shape == (50, 40)
    first = bandits.gradient_gap(np.zeros((50, 3)))
    norm = np.linalg.norm(first, axis=-1)
    guaranteed = 0.9 * thresholds.log_linear(norm, bandits.wrong_feature_range(first))
    assert set(np.round(path.step_size[:, 0] / guaranteed, 9)) <= {1.0, 4.0, 16.0}


def test_a_long_step_stands_still_where_the_safe_one_does():
    bandit = LogLinearBandit([[0.0], [1.0], [-1.0]], [1, 0, 0])  # at the optimum the gap is 0
    rule = LongStep(ThresholdStep(0.5, lambda problem, theta, unit, alignment, log_odds: alignment))
    path = ascend(bandit, np.zeros(1), PolicyGradient("log_odds"), rule, 2)
    assert path.step_size.tolist() == [0.0, 0.0] and path.notes["trials"].tolist() == [0, 0]


def test_a_run_without_a_gap_stays_and_the_others_go_on():
    bandit = LogLinearBandit(
        [[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], [1, 0, 0], [0.0, 0.0, -np.log(4)]
    )
    even = LogLinearBandit(np.stack([bandit.features, np.zeros((3, 2))]), bandit.rewards)

    def rule(problem, theta, unit, alignment, log_odds):
        bounds = problem.regularity(unit)
        return thresholds.trajectory(alignment, bounds.score_bound, bounds.score_lipschitz)

    path = ascend(even, np.zeros((2, 2)), PolicyGradient("log_odds"), ThresholdStep(0.5, rule), 3)
    assert np.all(np.diff(path.log_odds[0]) > 0)
    assert np.all(path.step_size[1] == 0) and np.all(path.log_odds[1] == path.log_odds[1, 0])


def test_shared_parameters_follow_the_mean_of_the_prompts():
    rng = np.random.default_rng(6)
    stack = contextual_bandit(
        7, rng, num_arms=9, context_dim=4, correct_share=0.3, shared_features=True
    )
    path = ascend(
        stack, np.zeros((1, 4)), PolicyGradient("reinforce", prompts=stack), Constant(0.3), 3
    )
    theta = np.zeros(4)
    for _ in range(3):
        log_odds, gap = stack.log_odds(theta[None]), stack.gradient_gap(theta[None])
        theta = theta + 0.3 * np.mean((expit(log_odds) * expit(-log_odds))[:, None] * gap, axis=0)
    assert path.theta[0] == pytest.approx(theta, rel=1e-12)
    assert path.log_odds.shape == (7, 4)


def test_grpo_divides_by_the_length_and_reinforce_does_not():
    window, theta = TokenWindow(32, 18, 24), np.array([0.1])
    success, failure = expit(window.log_odds(theta)), expit(-window.log_odds(theta))
    gap = window.gradient_gap(theta)[0]
    for method, expected in (
        ("reinforce", success * failure * gap),
        ("grpo", np.sqrt(success * failure) * gap / 32),
    ):
        path = ascend(window, theta, PolicyGradient(method), Constant(0.5), 1)
        assert path.theta[0] == pytest.approx(theta[0] + 0.5 * expected)
    unnormalized = ascend(
        window, theta, PolicyGradient("grpo", length_normalized=False), Constant(0.5), 1
    )
    assert unnormalized.theta[0] == pytest.approx(theta[0] + 0.5 * np.sqrt(success * failure) * gap)


@pytest.mark.parametrize("method", SAMPLED_METHODS)
def test_sampled_updates_have_the_mean_of_the_finite_group_law(method):
    window, size, runs = TokenWindow(16, 7, 9), 4, 60_000
    theta = np.full((runs, 1), 0.3)
    sampled = SampledGradient(method, size, np.random.default_rng(9))
    drawn, _ = sampled.update(At.of(window, theta), sampled.initial_state(theta))
    # equal lengths: the mean length of a group is the length
    exact = PolicyGradient(method, size, length_normalized=METHODS[method].aggregation == "mean")
    expected, _ = exact.update(At.of(window, theta[:1]), None)
    assert drawn.mean() == pytest.approx(expected[0, 0], abs=5 * drawn.std() / np.sqrt(runs))


@pytest.mark.parametrize("method", ["rloo", "grpo", "dapo"])
def test_a_sampled_batch_moves_by_the_mean_over_its_prompts(method):
    rng = np.random.default_rng(4)
    stack = LogLinearBandit(rng.normal(size=(3, 6, 2)), [1, 1, 0, 0, 0, 0])
    theta = np.broadcast_to([0.3, -0.2], (20_000, 1, 2))
    sampled = SampledGradient(method, 4, rng, prompts=stack)
    found, _ = sampled.update(At.of(stack, theta), None)
    expected, _ = PolicyGradient(method, 4, prompts=stack).update(At.of(stack, theta[0]), None)
    assert found.shape == theta.shape
    error = 4.5 * found.std(axis=0).max() / np.sqrt(len(theta))
    assert found.mean(axis=0) == pytest.approx(expected, abs=error)


def test_a_mean_over_tokens_is_one_over_the_whole_batch():
    """DAPO divides by the mean length of the batch, here of 8 and of 16 tokens."""
    windows, theta = TokenWindow([8, 16], [3, 7], [5, 9]), np.full((60_000, 1, 1), 0.3)
    sampled = SampledGradient("dapo", 4, np.random.default_rng(5), prompts=windows)
    found, _ = sampled.update(At.of(windows, theta), None)
    direction = PolicyGradient("dapo", 4, prompts=windows)
    expected, _ = direction.update(At.of(windows, theta[0]), None)
    error = 4.5 * found.std() / np.sqrt(len(theta))
    assert found.mean() == pytest.approx(expected[0, 0] / 12, abs=error)


def test_optimizers():
    bandit, theta = (
        LogLinearBandit(np.random.default_rng(2).normal(size=(6, 3)), [1, 0, 0, 1, 0, 0]),
        np.ones(3),
    )
    gap = bandit.gradient_gap(theta)
    plain = PolicyGradient("log_odds")
    for beta in (
        0.0,
        0.9,
    ):  # bias correction: the first step of Adam is the sign, whatever the betas
        first = ascend(bandit, theta, Adam(plain, beta, beta, 0.0), Constant(0.1), 1)
        assert first.theta == pytest.approx(theta + 0.1 * np.sign(gap))
    after = ascend(bandit, theta, Momentum(plain, 0.5), Constant(0.1), 2).theta
    second = bandit.gradient_gap(theta + 0.1 * gap)
    assert after == pytest.approx(theta + 0.1 * gap + 0.1 * (0.5 * gap + second))
    assert ascend(bandit, theta, Clipped(plain, 0.1), Constant(1.0), 1).step_size[
        0
    ] == pytest.approx(0.1)
    assert ascend(bandit, theta, Clipped(plain, 1e9), Constant(1.0), 1).step_size[
        0
    ] == pytest.approx(np.linalg.norm(gap))


def test_adam_by_hand():
    bandit, theta = (
        LogLinearBandit([[1.0, 0.2], [0.0, -0.3]], [1, 0]),
        np.zeros(2),
    )  # the gap is constant
    path = ascend(
        bandit, theta, Adam(PolicyGradient("log_odds"), 0.9, 0.99, 1e-3), Constant(0.1), 5
    )
    gap = np.array([1.0, 0.5])
    assert path.theta == pytest.approx(0.5 * gap / (gap + 1e-3))


def test_the_first_move():
    bandit = LogLinearBandit(np.eye(2), [1, 0])
    vectors = np.zeros((4, 3, 2))
    vectors[2, 0], vectors[0, 1], vectors[3, 1] = [3.0, 4.0], [0.0, 1.0], [9.0, 0.0]
    path = ascend(bandit, np.zeros((3, 2)), Prescribed(vectors), Constant(2.0), 4)
    number, length = path.first_move
    assert number.tolist() == [3, 1, np.inf] and length.tolist() == [10, 2, 0]


def test_a_turned_direction_keeps_its_length_and_its_angle():
    bandit = LogLinearBandit([[3.0, 4.0], [0.0, 0.0]], [1, 0])
    path = ascend(
        bandit, [0.5, 0.5], Turned(PolicyGradient("log_odds"), [1.0, 0.6, 0.0]), Constant(0.1), 3
    )
    assert path.step_size == pytest.approx([0.5, 0.5, 0.5])
    assert path.alignment == pytest.approx([5.0, 3.0, 0.0], abs=1e-14)
    turns = np.array([[3.0, 4.0], [-1.4, 4.8], [-4.0, 3.0]])  # to the left, ever further
    assert path.theta == pytest.approx(0.5 + 0.1 * turns.sum(axis=0))


def test_adam_remembers_as_if_it_had_met_the_gradient():
    rng = np.random.default_rng(4)
    bandit, theta, vectors = (
        LogLinearBandit(np.eye(3), [1, 0, 0]),
        np.zeros(3),
        rng.normal(size=(5, 3)),
    )
    at = At.of(bandit, theta)
    whole, later = Adam(Prescribed(vectors)), Adam(Prescribed(vectors[1:]), memory=vectors[0])
    _, state = whole.update(at, whole.initial_state(theta))
    fresh = later.initial_state(theta)
    for _ in range(4):
        (expected, state), (update, fresh) = whole.update(at, state), later.update(at, fresh)
        assert update == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda b: Constant(0.0), "eta must be positive"),
        (lambda b: Constant(-1.0), "eta must be positive"),
        (lambda b: Constant([0.1, np.inf]), "eta must be positive and finite"),
        (lambda b: FixedLength(np.nan), "eta must be positive"),
        (lambda b: ThresholdStep(1.0, None), "share must be in"),
        (lambda b: LongStep(Constant(1.0), ()), "factors must be one or more"),
        (
            lambda b: LongStep(Constant(1.0), (2.0, 1.0)),
            "factors must be one or more finite numbers above 1",
        ),
        (lambda b: LongStep(Constant(1.0), rise=1.0), "rise must be in"),
        (lambda b: PolicyGradient("ppo2"), "method must be one of reinforce"),
        (lambda b: SampledGradient("log_odds", 4, None), "method must be one of reinforce"),
        (lambda b: SampledGradient("grpo", 1, None), "group_size must be at least 2"),
        (lambda b: Adam(PolicyGradient(), 1.0), r"beta1 must be in \[0, 1\)"),
        (lambda b: Momentum(PolicyGradient(), 1.0), "beta must be in"),
        (lambda b: Clipped(PolicyGradient(), 0.0), "max_norm must be positive"),
        (
            lambda b: ascend(b, np.zeros(3), PolicyGradient(), Constant(0.1), 0),
            "num_steps must be at least 1",
        ),
        (
            lambda b: ascend(b, np.zeros(2), PolicyGradient(), Constant(0.1), 1),
            "theta0 must have last axis 3",
        ),
        (
            lambda b: ascend(b, [np.nan, 0, 0], PolicyGradient(), Constant(0.1), 1),
            "theta0 must be finite",
        ),
        (
            lambda b: ascend(b, np.zeros(3), Prescribed(np.eye(3)), Constant(0.1), 4),
            "one direction per step",
        ),
        (lambda b: Turned(PolicyGradient(), [1.0, 1.1]), r"cosines must be in \[-1, 1\]"),
        (
            lambda b: ascend(b, np.zeros(3), Turned(PolicyGradient(), [1.0]), Constant(0.1), 1),
            "theta must have last axis 2",
        ),
        (lambda b: ascend(b, np.zeros(3), Prescribed(np.eye(3)), Constant(1e308), 2), None),
    ],
)
def test_bad_input_is_named(build, message):
    bandit = LogLinearBandit(np.eye(3), [1, 0, 0])
    if (
        message is None
    ):  # enormous but representable: a result, or an error that says what to do; never NaN
        assert np.all(np.isfinite(build(bandit).theta))
        return
    with pytest.raises(ValueError, match=message):
        build(bandit)
