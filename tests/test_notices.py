"""What else moved in a log: seen where it is known, in both directions, rarely by chance."""

import numpy as np
import pytest

from rlvrlib.practice.notices import FACTORS, Notice, falling, notices


def steady(rng, rows):
    columns = {name: rng.lognormal(0, 0.3, rows) for name in FACTORS}
    return {**columns, "reward": rng.binomial(8, 0.5, rows) / 8}


def test_a_quantity_that_shrinks_or_grows_is_noticed_once():
    length = np.r_[np.full(8, 1000.0), 900, 400, 350, 300, np.full(20, 5000.0)]
    rows = [(one.row, one.factor) for one in notices({"length": length})]
    assert rows == [(10, pytest.approx(np.sqrt(400 * 350) / 1000)), (13, pytest.approx(5.0))]


def test_only_the_rows_so_far_count():
    columns = steady(np.random.default_rng(0), 200)
    columns["length"][150:] *= 8
    found = notices(columns)
    assert [one.quantity for one in found] == ["length"] and 151 <= found[0].row <= 153
    begun = {name: column[: found[0].row + 1] for name, column in columns.items()}
    assert notices(begun) == found


def test_a_reward_that_falls_from_the_first_row_on():
    found = notices({"reward": np.array([-0.68, -0.72, -0.84, -0.91, -0.92, -0.94, -0.97])})
    assert found == [Notice(6, "reward", -0.84, pytest.approx(-0.955))]
    assert not falling([1.0] * 19) and not falling(list(range(19)))


def test_absent_numbers_say_nothing():
    columns = {"length": np.array([5.0, np.nan, 5, 5, np.inf, 0, 5, 5, 50, 60])}
    assert [one.row for one in notices(columns)] == [9]
    assert notices({}) == []


def test_steady_logs_are_rarely_noticed():
    """At most 8% of logs of 100 rows: 2 to 3% are measured, and 200 logs can tell that apart."""
    rng = np.random.default_rng(1)
    assert np.mean([bool(notices(steady(rng, 100))) for _ in range(200)]) < 0.08
