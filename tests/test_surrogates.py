"""The KL penalty and the clipped surrogate against finite differences, enumeration and sampling;
schedules and Adam's bound.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.special import expit, logit

from rlvrlib import (
    Adam,
    At,
    ClippedSurrogate,
    Constant,
    KLPenalty,
    LogLinearBandit,
    Momentum,
    NetworkBandit,
    PolicyGradient,
    Prescribed,
    RateSchedule,
    TabularBandit,
    TokenWindow,
    ascend,
    kl_gradient,
)
from rlvrlib.methods import METHODS, SAMPLED_METHODS
from rlvrlib.surrogates import kl_plateau, kl_pull, mean_score

ORDERS = ("policy-reference", "reference-policy")


def bandit(seed, arms=6, dim=3):
    rng = np.random.default_rng(seed)
    return LogLinearBandit(rng.normal(size=(arms, dim)), np.arange(arms) < 2), rng


def network(seed):
    rng = np.random.default_rng(seed)
    return NetworkBandit(rng.normal(size=(6, 3)), rng.normal(size=2), np.arange(6) < 2), rng


def update(direction, problem, theta, state=None):
    return direction.update(At.of(problem, theta), state)


@pytest.mark.parametrize("make", [bandit, network])
@pytest.mark.parametrize("order", ORDERS)
def test_kl_gradient_against_finite_differences(make, order):
    problem, rng = make(1)
    theta, reference = rng.normal(size=(2, problem.dim))

    def divergence(point):
        ours, theirs = problem.log_probabilities(point), problem.log_probabilities(reference)
        first, second = (ours, theirs) if order == ORDERS[0] else (theirs, ours)
        return np.sum(np.exp(first) * (first - second))

    numeric = approx_fprime(theta, divergence, 1e-7)
    assert kl_gradient(problem, theta, reference, order) == pytest.approx(numeric, abs=1e-5)
    assert kl_gradient(problem, reference, reference, order) == pytest.approx(
        np.zeros(problem.dim), abs=1e-14
    )


def test_kl_gradient_of_a_token_window():
    window, theta, start = TokenWindow(12, 5, 9), np.array([0.7]), np.array([-0.4])
    ones, ones_start = expit(theta), expit(start)
    fisher = 12 * ones * (1 - ones)
    assert kl_gradient(window, theta, start) == pytest.approx(fisher * (theta - start))
    assert kl_gradient(window, theta, start, ORDERS[1]) == pytest.approx(12 * (ones - ones_start))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.floats(-6, 6))
def test_kl_gradients_at_tilted_policies(seed, shift):
    rng = np.random.default_rng(seed)
    tabular = LogLinearBandit(np.eye(5), np.arange(5) < 2)
    start = rng.normal(size=5)
    theta = start + shift * tabular.rewards
    before, (after, gap) = tabular.log_odds(start), tabular.log_odds_and_gap(theta)
    pull = (after - before) * expit(after) * expit(-after), expit(after) - expit(before)
    for order, factor in zip(ORDERS, pull, strict=True):
        assert kl_gradient(tabular, theta, start, order) == pytest.approx(factor * gap, abs=1e-12)


def test_the_penalty_is_subtracted_and_refers_to_the_start():
    problem, rng = bandit(2)
    start, theta, beta = (
        rng.normal(size=(4, 3)),
        rng.normal(size=(4, 3)),
        np.array([0.0, 0.1, 0.5, 2.0]),
    )
    penalty = KLPenalty(PolicyGradient("grpo"), beta)
    found, _ = update(penalty, problem, theta, penalty.initial_state(start))
    plain, _ = update(PolicyGradient("grpo"), problem, theta)
    assert found == pytest.approx(plain - beta[:, None] * kl_gradient(problem, theta, start))
    fixed = KLPenalty(PolicyGradient("grpo"), 0.5, theta)
    assert update(fixed, problem, theta, fixed.initial_state(start))[0] == pytest.approx(plain)


def test_reinforce_with_a_penalty_gains_one_over_beta():
    tabular, start = LogLinearBandit(np.eye(4), [1, 0, 0, 1]), np.array([0.5, 0.0, -1.0, -2.0])
    path = ascend(tabular, start, KLPenalty(PolicyGradient("reinforce"), 0.4), Constant(3.0), 3000)
    assert path.log_odds[-1] - path.log_odds[0] == pytest.approx(2.5, abs=1e-8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": -0.1}, "beta"),
        ({"beta": np.inf}, "beta"),
        ({"beta": [0.1, np.nan]}, "beta"),
        ({"beta": 1, "order": "k3"}, "order"),
    ],
)
def test_bad_penalties(arguments, message):
    with pytest.raises(ValueError, match=message):
        KLPenalty(PolicyGradient("grpo"), **arguments)


def test_bad_order():
    problem, _ = bandit(3)
    with pytest.raises(ValueError, match="order must be one of"):
        kl_gradient(problem, np.zeros(3), np.zeros(3), "forward")


@pytest.mark.parametrize("make", [bandit, network])
@pytest.mark.parametrize("method", ["grpo", "dr_grpo"])
@pytest.mark.parametrize("clip", [0.1, 0.3, np.inf])
def test_surrogate_is_the_gradient_of_its_definition(make, method, clip):
    problem, rng = make(4)
    old, theta = rng.normal(size=(2, problem.dim))
    surrogate = ClippedSurrogate(2, clip, method=method)
    _, state = update(surrogate, problem, old)
    chance, rewards = np.exp(problem.log_probabilities(old)), problem.rewards
    mean = chance[rewards].sum()
    advantage = (rewards - mean) / (np.sqrt(mean * (1 - mean)) if method == "grpo" else 1)

    def value(point):
        ratio = np.exp(problem.log_probabilities(point)) / chance
        return np.sum(
            chance * np.minimum(ratio * advantage, np.clip(ratio, 1 - clip, 1 + clip) * advantage)
        )

    assert update(surrogate, problem, theta, state)[0] == pytest.approx(
        approx_fprime(theta, value, 1e-7), abs=1e-5
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 2.0))
def test_one_update_per_batch_is_the_method_itself(seed, clip):
    problem, rng = bandit(seed)
    theta = rng.normal(size=(3, 3))
    for method in SAMPLED_METHODS:
        runs = [
            ascend(problem, theta, direction, Constant(0.4), 5).theta
            for direction in (
                ClippedSurrogate(1, clip, method=method),
                PolicyGradient(method),
            )
        ]
        assert runs[0] == pytest.approx(runs[1], abs=1e-10)


def test_unclipped_updates_are_reinforce_and_the_batch_is_renewed():
    problem, rng = network(5)
    start = theta = rng.normal(size=(3, problem.dim))
    for _ in range(2):  # two batches
        odds = problem.log_odds(theta)
        rate = 0.2 / np.sqrt(expit(odds) * expit(-odds))
        theta = ascend(problem, theta, PolicyGradient("reinforce"), Constant(rate), 3).theta
    path = ascend(problem, start, ClippedSurrogate(3, np.inf), Constant(0.2), 6)
    assert path.theta == pytest.approx(theta, abs=1e-12)


def test_clipped_classes_leave_their_share():
    tabular, old = LogLinearBandit(np.eye(4), [1, 1, 0, 0]), np.array([0.0, 1.0, 0.5, 2.0])
    before = tabular.log_odds(old)
    assert expit(before) < 0.5
    surrogates = [ClippedSurrogate(2, clip) for clip in (0.2, np.inf)]
    states = [update(surrogate, tabular, old)[1] for surrogate in surrogates]
    right_out = (logit(1.2 * expit(before)) - logit(1 - 0.8 * expit(-before))) / 2
    middle = old + (logit(1 - 0.8 * expit(-before)) - before + right_out) * tabular.rewards
    clipped, whole = (
        update(s, tabular, middle, state)[0] for s, state in zip(surrogates, states, strict=True)
    )
    assert clipped == pytest.approx(expit(before) * whole)
    beyond = old + 5.0 * tabular.rewards
    assert update(surrogates[0], tabular, beyond, states[0])[0] == pytest.approx(
        np.zeros(4), abs=1e-15
    )


def test_clips_of_several_runs_at_once():
    problem, rng = bandit(6)
    theta, widths = rng.normal(size=3), np.array([0.05, 0.2, np.inf])
    together = ascend(
        problem, np.broadcast_to(theta, (3, 3)), ClippedSurrogate(4, widths), Constant(0.8), 8
    ).theta
    for index, width in enumerate(widths):
        alone = ascend(problem, theta, ClippedSurrogate(4, width), Constant(0.8), 8).theta
        assert together[index] == pytest.approx(alone)


@pytest.mark.parametrize("method", SAMPLED_METHODS)
def test_sampled_batches_have_the_mean_of_their_law(method):
    problem, _ = bandit(7)
    theta, group = np.array([0.2, -0.4, 0.1]), 8
    direction = ClippedSurrogate(1, 0.2, group, np.random.default_rng(0), method)
    many, _ = update(direction, problem, np.broadcast_to(theta, (20000, 3)))
    expected, _ = update(PolicyGradient(method, group), problem, theta)
    assert (
        np.abs(many.mean(axis=0) - expected).max() < 4.5 * (many.std(axis=0) / np.sqrt(20000)).max()
    )


@pytest.mark.parametrize("group", [None, 8])
@pytest.mark.parametrize("method", SAMPLED_METHODS)
def test_one_update_per_batch_divides_by_the_length_as_the_method_does(method, group):
    window, theta = TokenWindow(16, 7, 9), np.full((1 if group is None else 40_000, 1), 0.3)
    rng = None if group is None else np.random.default_rng(2)
    found, _ = update(ClippedSurrogate(1, 0.2, group, rng, method), window, theta)
    mean = METHODS[method].aggregation == "mean"
    expected, _ = update(PolicyGradient(method, group, length_normalized=mean), window, theta[:1])
    error = 1e-12 if group is None else 4.5 * found.std() / np.sqrt(len(found))
    assert found.mean() == pytest.approx(expected[0, 0], abs=error)


@pytest.mark.parametrize("clip", [0.1, np.inf])
def test_the_sequence_surrogate_is_the_gradient_of_its_definition(clip):
    """GSPO: ``E_old min(q A, clip(q) A)`` of the ratio per token ``q = rho^(1/T)``."""
    window, old, theta = TokenWindow(12, 5, 9), np.array([-0.4]), np.array([0.3])
    direction = ClippedSurrogate(2, clip, method="gspo")
    _, state = update(direction, window, old)
    chance = np.exp(window.log_probabilities(old))
    mean = chance[window.rewards].sum()
    advantage = (window.rewards - mean) / np.sqrt(mean * (1 - mean))

    def value(point):
        ratio = np.exp((window.log_probabilities(point) - np.log(chance)) / 12)
        return np.sum(
            chance * np.minimum(ratio * advantage, np.clip(ratio, 1 - clip, 1 + clip) * advantage)
        )

    found, _ = update(direction, window, theta, state)
    assert found == pytest.approx(approx_fprime(theta, value, 1e-7), abs=1e-6)
    of_responses, _ = update(ClippedSurrogate(2, clip, method="grpo"), window, theta, state)
    assert np.abs(of_responses - found) > 0.1 * np.abs(found)


def test_another_width_above_one():
    """Clip-higher: a response beyond the lower width and within the upper one still counts."""
    tabular, old = TabularBandit([1, 0, 0]), np.zeros(3)
    theta = np.array([0.3, 0.0, 0.0])
    assert 1.2 < np.exp(tabular.log_probabilities(theta) - tabular.log_probabilities(old))[0] < 1.4
    moves = {}
    for above in (None, 0.4):
        direction = ClippedSurrogate(2, 0.2, clip_above=above)
        _, state = update(direction, tabular, old)
        moves[above], _ = update(direction, tabular, theta, state)
    open_ended = ClippedSurrogate(2, np.inf)
    assert moves[0.4] == pytest.approx(update(open_ended, tabular, theta, state)[0])
    assert 0 < moves[None][0] < 0.5 * moves[0.4][0]


@pytest.mark.parametrize("method", SAMPLED_METHODS)
def test_a_batch_of_prompts_moves_by_the_mean_of_theirs(method):
    """Off policy too: with exact batches, prompts that share their parameters."""
    rng = np.random.default_rng(11)
    stack = LogLinearBandit(rng.normal(size=(4, 6, 3)), np.arange(6) < 2)
    old, theta = rng.normal(size=(2, 1, 3))
    whole = ClippedSurrogate(2, 0.2, method=method, prompts=stack)
    first, state = update(whole, stack, old)
    exact, _ = update(PolicyGradient(method, prompts=stack), stack, old)
    assert first == pytest.approx(exact, abs=1e-12)
    second, _ = update(whole, stack, theta, state)
    assert second.shape == (1, 3)
    if METHODS[method].standardize != "batch":
        alone = ClippedSurrogate(2, 0.2, method=method)
        _, state = update(alone, stack, np.broadcast_to(old, (4, 3)))
        each, _ = update(alone, stack, np.broadcast_to(theta, (4, 3)), state)
        assert second[0] == pytest.approx(each.mean(axis=0))


def test_a_sampled_batch_is_kept():
    problem, _ = bandit(8)
    direction = ClippedSurrogate(3, np.inf, 4, np.random.default_rng(1), "dr_grpo")
    theta = np.zeros(3)
    first, state = update(direction, problem, theta)
    second, state = update(direction, problem, theta, state)
    assert second == pytest.approx(first) and np.any(first)
    _, state = update(direction, problem, theta, state)
    assert state is None


def test_a_response_that_underflows_has_no_weight():
    problem = LogLinearBandit([[1.0], [0.0], [-1.0]], [1, 0, 0], [0.0, 0.0, -800.0])
    surrogate = ClippedSurrogate(2, np.inf)
    _, state = update(surrogate, problem, np.zeros(1))
    found, _ = update(surrogate, problem, np.array([-2000.0]), state)
    assert np.all(np.isfinite(found))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0.2), "num_updates"),
        ((1, 0.0), "clip"),
        ((1, [0.2, -1.0]), "clip"),
        ((1, 0.2, 1, np.random.default_rng(0)), "group_size"),
        ((1, 0.2, 8), "rng"),
        ((1, 0.2, None, None, "log_odds"), "method must be one of"),
        ((1, 0.2, None, None, "grpo", 0.0), "clip_above"),
    ],
)
def test_bad_surrogates(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClippedSurrogate(*arguments)


def test_mean_score_against_the_scores():
    problem, rng = network(9)
    theta, weights = rng.normal(size=problem.dim), rng.normal(size=6)
    along = rng.normal(size=problem.dim)
    chance = np.exp(problem.log_probabilities(theta))
    assert mean_score(problem, theta, chance, weights) @ along == pytest.approx(
        np.sum(weights * problem.scores(theta, along))
    )


def adam_lengths(gradients, beta1, beta2):
    plain = LogLinearBandit([[1.0], [0.0]], [1, 0])
    adam = Adam(Prescribed(gradients[..., None]), beta1, beta2, epsilon=0.0)
    return (
        ascend(
            plain, np.zeros((gradients.shape[1], 1)), adam, Constant(1e-6), len(gradients)
        ).step_size
        / 1e-6
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 0.95), st.floats(0.0, 1.0))
def test_adam_never_exceeds_its_bound(seed, beta1, place):
    beta2 = beta1**2 + (0.9995 - beta1**2) * (0.02 + 0.98 * place)
    gradients = np.random.default_rng(seed).standard_cauchy(size=(40, 20)) ** 3
    bound = (1 - beta1) / np.sqrt((1 - beta2) * (1 - beta1**2 / beta2))
    assert adam_lengths(gradients, beta1, beta2).max() <= bound * (1 + 1e-9)


def test_a_steady_gradient_moves_adam_by_the_learning_rate():
    assert adam_lengths(np.full((50, 1), 3e-5), 0.9, 0.999) == pytest.approx(
        np.ones((1, 50)), rel=1e-9
    )


@pytest.mark.parametrize("beta", [0.0, 0.4, 0.9])
def test_momentum_is_stable_below_its_critical_rate_only(beta):
    problem = LogLinearBandit(
        [[0.0], [1.0], [-1.0]], [1, 0, 0]
    )  # summit at 0, gap -tanh: curvature 1
    rates = 2 * (1 + beta) * np.array([0.98, 1.02])
    end = ascend(
        problem,
        np.full((2, 1), 1e-7),
        Momentum(PolicyGradient("log_odds"), beta),
        Constant(rates),
        800,
    ).theta[:, 0]
    assert abs(end[0]) < 1e-7 < abs(end[1])


def test_schedules_scale_the_update_outside_of_adam():
    problem, rng = bandit(10)
    theta, factors = rng.normal(size=3), np.array([0.0, 0.5, 1.0, 0.25])
    adam = Adam(PolicyGradient("grpo"))
    path = ascend(problem, theta, RateSchedule(adam, factors), Constant(0.1), 4)
    assert path.step_size[0] == 0 and path.log_odds[1] == path.log_odds[0]
    state, point = adam.initial_state(theta), theta
    for factor in factors:
        move, state = update(adam, problem, point, state)
        point = point + 0.1 * factor * move
    assert path.theta == pytest.approx(point)
    with pytest.raises(ValueError, match="one number per step"):
        ascend(problem, theta, RateSchedule(adam, factors), Constant(0.1), 5)


@pytest.mark.parametrize("factors", [[-0.1], [np.nan], [np.inf], 1.0])
def test_bad_schedules(factors):
    with pytest.raises(ValueError, match="factors"):
        RateSchedule(PolicyGradient("grpo"), factors)


@pytest.mark.parametrize("order", ["policy-reference", "reference-policy"])
def test_the_pull_of_a_penalty_is_its_gradient_over_the_gap(order):
    problem, origin = TabularBandit([1, 1, 0, 0]), np.array([0.3, -0.5, 0.8, 0.1])
    there = origin + 1.7 * problem.rewards
    pull = kl_pull(problem.log_odds(there), problem.log_odds(origin), order)
    assert kl_gradient(problem, there, origin, order) == pytest.approx(
        pull * problem.gradient_gap(there), abs=1e-12
    )


@pytest.mark.parametrize("order", ["policy-reference", "reference-policy"])
@pytest.mark.parametrize(("method", "group_size"), [("reinforce", None), ("grpo", 8)])
def test_runs_with_a_penalty_rest_at_the_plateau(method, group_size, order):
    problem, origin, beta = TabularBandit([1, 0, 0]), np.array([-1.0, 0.5, 0.0]), np.array([0.8, 2])
    start = problem.log_odds(origin)
    penalty = KLPenalty(PolicyGradient(method, group_size), beta, None, order)
    path = ascend(problem, np.tile(origin, (2, 1)), penalty, Constant(0.5), 1500)
    plateau = kl_plateau(method, beta, start, order, group_size)
    assert path.log_odds[:, -1] == pytest.approx(plateau, abs=1e-6)
    if method == "reinforce" and order == "policy-reference":
        assert plateau == pytest.approx(start + 1 / beta, rel=1e-9)


def test_there_is_no_plateau_of_grpo_for_a_small_weight():
    assert kl_plateau("grpo", [0.05, 4.0], 0.0)[0] == np.inf > kl_plateau("grpo", [4.0], 0.0)[0]
    with pytest.raises(ValueError, match="order must be one of"):
        kl_pull(0.0, 0.0, "reverse")
