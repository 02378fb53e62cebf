"""A problem is its log-odds: what follows from them, the record that travels, what a run notes."""

import numpy as np
import pytest

from rlvrlib import (
    Adam,
    At,
    Constant,
    Direction,
    LargestGain,
    PolicyGradient,
    Prescribed,
    Problem,
    RateSchedule,
    Regularity,
    SampledProblem,
    TokenWindow,
    TrainedOn,
    WindowPrompts,
    ascend,
    log_odds_gain,
    success_rate,
    thresholds,
)
from rlvrlib.problems import angle_curvature, sampled, unit_or_any, unit_or_zero


class Hill(Problem):
    """``l = -norm(theta)^2 / 2``, with nothing else said."""

    dim = 2

    def log_odds(self, theta):
        return -np.sum(theta**2, axis=-1) / 2

    def gradient_gap(self, theta):
        return -theta

    def curvature(self, theta, direction):
        return np.sum(direction**2, axis=-1) + 0 * theta[..., 0]


def test_three_methods_make_a_problem():
    theta = np.array([[1.0, 2.0], [0.5, 0.0]])
    path = ascend(Hill(), theta, PolicyGradient("grpo"), Constant(0.1), 50)
    assert np.all(np.diff(path.log_odds) > 0) and np.all(np.abs(path.theta) < np.abs(theta) + 1e-9)
    assert log_odds_gain(Hill(), theta[0], [1.0, 0.0], 1.0) == pytest.approx(-1.5)
    assert Hill().length_normalized_gap(theta) == pytest.approx(-theta)
    assert thresholds.exact(Hill(), theta[0], [-1.0, 0.0]) == pytest.approx(2.0)
    unknown = thresholds.guaranteed(Hill(), theta, -theta)
    assert np.all(unknown.step == 0) and np.all(unknown.theorem == "none")
    with pytest.raises(TypeError, match="abstract"):
        type("Flat", (Problem,), {"dim": 1})()
    with pytest.raises(ValueError, match="problem must have a method sample, and Hill has none"):
        sampled(Hill())
    assert isinstance(sampled(TokenWindow(4, 1, 2)), SampledProblem)


@pytest.mark.parametrize("place", [-3.0, -0.4, 0.2, 2.0])
def test_the_angle_bends_as_its_differences_say(place):
    theta, along, nudge = np.array([place, 0.5]), np.array([0.6, -0.8]), 1e-3

    def angle(offset):
        return 2 * np.arcsin(np.sqrt(success_rate(Hill(), theta + offset * along)))

    second = (angle(nudge) - 2 * angle(0.0) + angle(-nudge)) / nudge**2
    assert angle_curvature(Hill(), theta, along) == pytest.approx(-second, rel=1e-5)


def test_each_prompt_divides_by_its_own_length():
    batch = WindowPrompts([16, 64], [3, 20], [7, 40], np.eye(2), 0.1)
    theta = np.zeros((1, 2))
    gap = batch.gradient_gap(theta)
    assert batch.length_normalized_gap(theta) == pytest.approx(gap / [[16.0], [64.0]])


def test_the_record_is_what_the_problem_says():
    window, theta = TokenWindow(8, 4, 6), np.array([[0.1], [0.2]])
    at = At.of(window, theta)
    assert at.log_odds == pytest.approx(window.log_odds(theta))
    assert at.gap == pytest.approx(window.gradient_gap(theta))


def test_bounds_fill_in_what_they_imply():
    plain, linear = Regularity(2.0, 0.5, 1.0, 0.1, 4), Regularity(2.0, 0.5, 1.0, 0.1, 4, True)
    assert (plain.correct_bend, plain.wrong_bend, plain.variance) == (0.5, 0.5, 1.0)
    assert (linear.correct_bend, linear.wrong_bend) == (0.5, 0.0)
    wide = linear.widened(Regularity(3.0, 0.2, np.array([2.0, 0.5]), 0.2, 8), [True, False])
    assert wide.score_bound.tolist() == [3.0, 2.0] and wide.token_range.tolist() == [2.0, 1.0]
    assert wide.score_lipschitz.tolist() == [0.5, 0.5] and wide.max_length.tolist() == [8, 4]
    assert wide.linear_logits


def test_a_direction_of_any_length_and_none():
    along, moves = unit_or_zero(np.array([[3.0, 4.0], [3e-300, 4e-300], [3e250, 4e250], [0, 0]]))
    assert along == pytest.approx(np.array([[0.6, 0.8]] * 3 + [[0.0, 0.0]]))
    assert moves.tolist() == [True, True, True, False]
    assert unit_or_any(np.zeros((1, 2)))[0].tolist() == [[1.0, 0.0]]


def test_an_update_that_is_no_number_stops_the_run():
    bad = Prescribed(np.array([[1.0, 0.0], [np.nan, 1.0]]))
    with pytest.raises(ValueError, match="direction must give finite updates, got"):
        ascend(Hill(), np.ones(2), bad, Constant(0.1), 2)


def test_notes_come_through_what_stands_on_top():
    class Counted(Direction):
        def initial_state(self, theta):
            return 0

        def update(self, at, state):
            return at.gap, state + 1

        def notes(self, state):
            return {"count": np.asarray(state)}

    wrapped = RateSchedule(Adam(TrainedOn(Hill(), Counted())), np.ones(3))
    path = ascend(Hill(), np.ones(2), wrapped, Constant(0.1), 3)
    assert path.notes["count"].tolist() == [1, 2, 3]
    batch = WindowPrompts([16, 64], [3, 20], [7, 40], np.eye(2), 0.1)
    path = ascend(batch, np.zeros((5, 1, 2)), LargestGain(), Constant(0.1), 4)
    assert path.notes["chosen"].shape == (5, 4)
    assert ascend(Hill(), np.ones(2), PolicyGradient(), Constant(0.1), 2).notes == {}
