"""Steps by the largest guarantee, exact and estimated from samples."""

import numpy as np
import pytest
from scipy.special import expit

from rlvrlib import (
    At,
    Constant,
    CorrelatedWindow,
    EstimatedMove,
    EstimatedStep,
    GuaranteedStep,
    LogLinearBandit,
    LongStep,
    NetworkBandit,
    PolicyGradient,
    Prescribed,
    PromptWeighted,
    SampledGradient,
    TabularBandit,
    TokenWindow,
    WindowPrompts,
    ascend,
    batches,
    thresholds,
)
from rlvrlib.estimated import estimate

GAP = PolicyGradient("log_odds")


def bandits(seed=0, runs=30):
    rng = np.random.default_rng(seed)
    features, prior = rng.normal(size=(runs, 8, 3)), 2 * rng.normal(size=(runs, 8))
    return LogLinearBandit(features, np.arange(8) < 2, prior)


# ---- the largest guaranteed step


def test_the_step_is_a_share_of_the_largest_guarantee_and_says_of_which():
    problem, theta = bandits(), np.zeros((30, 3))
    path = ascend(problem, theta, GAP, GuaranteedStep(0.8), 1)
    found = thresholds.guaranteed(problem, theta, problem.gradient_gap(theta), finite=True)
    assert path.step_size[:, 0] == pytest.approx(0.8 * found.step, rel=1e-9)
    assert np.array_equal(path.notes["theorem"][:, 0], found.theorem)
    some = ascend(problem, theta, GAP, GuaranteedStep(0.8, ["two-sided"]), 3)
    assert np.all(some.notes["theorem"] == "two-sided")
    assert np.all(some.step_size[:, 0] < path.step_size[:, 0])


@pytest.mark.parametrize("everywhere", [False, True])
def test_no_step_loses_and_the_runs_arrive(everywhere):
    rng = np.random.default_rng(1)
    network = NetworkBandit(rng.normal(size=(20, 6, 2)), rng.normal(size=(20, 3)), np.arange(6) < 2)
    problems = {
        "bandits": (bandits(), np.zeros((30, 3))),
        "networks": (network, rng.normal(size=(20, 6))),
        "window": (TokenWindow(64, 30, 40), rng.normal(size=(10, 1))),
        "tabular": (TabularBandit(np.arange(5) < 1), rng.normal(size=(10, 5))),
    }
    rule = GuaranteedStep(0.9, everywhere=everywhere)
    for name, (problem, theta) in problems.items():
        path = ascend(problem, theta, GAP, rule, 40)
        assert np.diff(path.log_odds).min() > -1e-9, name
        assert np.all(path.step_size[path.alignment > 1e-6] > 0), name
        if name != "networks":
            gained = path.log_odds[:, -1] - path.log_odds[:, 0]
            assert np.median(gained) > 0.3, name


def test_a_batch_takes_one_step_for_all_its_prompts():
    rng = np.random.default_rng(2)
    batch = WindowPrompts([16, 64, 24], [5, 20, 9], [9, 40, 15], rng.normal(size=(3, 4)), 0.1)
    weights = [0.2, 0.3, 0.5]
    rule = GuaranteedStep(0.9, weights=weights)
    path = ascend(batch, np.zeros((6, 1, 4)), PromptWeighted("uniform", weights), rule, 20)
    assert path.theta.shape == (6, 1, 4) and path.log_odds.shape == (6, 3, 21)
    assert set(np.unique(path.notes["theorem"])) <= {"batch success-rise", "batch failure-fall"}
    mean, _ = batches.mean_rates(np.moveaxis(path.log_odds, 1, -1), weights)
    assert np.all(np.diff(mean, axis=-1) > 0) and mean[0, -1] > 1.3 * mean[0, 0]


def test_no_direction_no_step():
    problem, theta = bandits(runs=2), np.zeros((2, 3))
    against = Prescribed(np.stack([[np.zeros(3), -problem.gradient_gap(theta)[1]]]))
    path = ascend(problem, theta, against, GuaranteedStep(0.5), 1)
    assert np.all(path.step_size == 0) and np.all(path.notes["theorem"] == "none")


def test_a_long_step_tells_what_its_safe_end_tells():
    path = ascend(bandits(), np.zeros((30, 3)), GAP, LongStep(GuaranteedStep(0.9)), 3)
    assert path.notes.keys() == {"theorem", "trials"}
    assert path.notes["trials"].shape == path.notes["theorem"].shape == (30, 3)


# ---- estimated


def test_estimates_agree_with_what_they_estimate():
    window, theta = TokenWindow(16, 9, 13), np.full((4000, 1), 0.1)
    rewards, _, scores = window.sample(theta, 64, np.random.default_rng(3))
    seen, error, odds = estimate(rewards, scores[..., 0])
    exact, truth = window.gradient_gap(theta[0])[0], window.log_odds(theta[0])
    assert seen.mean() == pytest.approx(exact, abs=4 * seen.std() / np.sqrt(4000))
    assert np.sqrt(np.mean(error**2)) == pytest.approx(seen.std(), rel=0.05)
    assert np.median(odds) == pytest.approx(truth, abs=0.05)
    by_hand = estimate([[1.0, 0, 0, 1]], [[2.0, 1, -1, 4]])
    assert by_hand[0] == pytest.approx([3.0]) and by_hand[2] == pytest.approx([0.0])
    assert by_hand[1] == pytest.approx([np.sqrt((2 + 2) / 2 * (1 / 2 + 1 / 2))])


def test_a_group_without_both_kinds_moves_nothing():
    seen, _, odds = estimate([[1.0, 1, 1], [0, 0, 0]], np.ones((2, 3)))
    assert np.all(seen == 0) and odds == pytest.approx([np.log(7), -np.log(7)])
    lost = TokenWindow(64, 62, 64)  # a correct response is never drawn
    for direction, step in (
        (GAP, EstimatedStep(0.9, 8, np.random.default_rng(4))),
        (EstimatedMove(EstimatedStep(0.9, 8, np.random.default_rng(4))), Constant(1.0)),
    ):
        path = ascend(lost, np.full((5, 1), -2.0), direction, step, 3)
        assert np.all(path.step_size == 0)


def test_a_large_group_gives_nearly_the_exact_step():
    window, theta, among = TokenWindow(16, 9, 13), np.zeros((50, 1)), ["failure-fall"]
    exact = ascend(window, theta, GAP, GuaranteedStep(0.5, among, everywhere=True), 1)
    rule = EstimatedStep(0.5, 20_000, np.random.default_rng(5), 0.0, among)
    close = ascend(window, theta, GAP, rule, 1)
    assert close.step_size == pytest.approx(exact.step_size, rel=0.1)
    cautious = EstimatedStep(0.5, 100, np.random.default_rng(5), 2.0, among)
    shorter = ascend(window, theta, GAP, cautious, 1).step_size
    assert shorter.mean() < 0.95 * exact.step_size.mean()


def test_a_whole_move_goes_along_the_gap_of_its_group():
    problem = bandits(runs=20)
    theta, rule = np.zeros((20, 3)), EstimatedStep(0.9, 5000, np.random.default_rng(6))
    update, _ = EstimatedMove(rule).update(At.of(problem, theta), None)
    gap = problem.gradient_gap(theta)
    length = np.linalg.norm(update, axis=-1)
    cosine = np.sum(update * gap, axis=-1) / length / np.linalg.norm(gap, axis=-1)
    assert np.median(cosine) > 0.95
    exact = thresholds.guaranteed(problem, theta, gap, everywhere=True).step
    assert np.median(length / exact) == pytest.approx(0.9, rel=0.15)


def test_runs_that_see_samples_alone_arrive_and_none_collapses():
    window = TokenWindow(64, 36, 52)
    rng = np.random.default_rng(7)
    rule = EstimatedStep(0.9, 64, rng, 1.0, ["failure-fall", "success-rise"])
    path = ascend(window, np.zeros((200, 1)), SampledGradient("rloo", 64, rng), rule, 25)
    assert np.median(path.success_rate[:, -1]) > 0.9 > expit(path.log_odds[0, 0])
    assert np.all(path.success_rate[:, 1:] > path.success_rate[:, :1])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda rng: GuaranteedStep(1.0), r"share must be in \(0, 1\), got 1.0"),
        (lambda rng: EstimatedStep(0.0, 8, rng), r"share must be in \(0, 1\), got 0.0"),
        (lambda rng: EstimatedStep(0.5, 2, rng), "group_size must be at least 3 and whole, got 2"),
        (lambda rng: EstimatedStep(0.5, 8, rng, -1.0), "caution must be non-negative, got -1.0"),
        (lambda rng: estimate([1.0, 0.0], [1.0, 0.0]), "group_size must be at least 3"),
        (
            lambda rng: ascend(
                CorrelatedWindow(4, 1, 2, 0.5), [0.0], GAP, EstimatedStep(0.5, 8, rng), 1
            ),
            "problem must have a method sample, and CorrelatedWindow has none",
        ),
        (
            lambda rng: ascend(TokenWindow(4, 1, 2), [0.0], GAP, GuaranteedStep(0.5, ["all"]), 1),
            r"among must be one or more of paper, .*, got \['all'\]",
        ),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build(np.random.default_rng(0))
