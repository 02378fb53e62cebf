"""A scan of drawdowns: what it sees, when, and that it knows only the past."""

import falls
import numpy as np
import pytest

from rlvrlib.practice import drawdown
from rlvrlib.practice.drawdown import FELL, WARNED, Drawdown


def fallen(rng, responses=8):
    rates = np.r_[np.full(150, 0.7), np.full(50, 0.02)]
    return rng.binomial(responses, rates) / responses


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_row_by_row_is_the_same_as_all_at_once(scale):
    values = scale * np.concatenate([fallen(np.random.default_rng(seed)) for seed in range(6)])
    whole, single = Drawdown().extend(values), Drawdown()
    for value in values:
        single.update(value)
    assert single.falls == whole.falls and whole.warning is not None
    np.testing.assert_array_equal(single.together, whole.together)
    begun = Drawdown().extend(values[: whole.warning.row + 1])
    assert begun.warning == whole.warning
    assert Drawdown().extend(values[: whole.warning.row]).warning is None


def test_runs_side_by_side_are_the_runs_one_by_one():
    rng = np.random.default_rng(1)
    runs = np.stack([fallen(rng), rng.normal(size=200), np.full(200, 3.0)], axis=1)
    together = Drawdown(3).extend(runs)
    for run, values in enumerate(runs.T):
        alone = Drawdown().extend(values)
        assert [falls[run] for falls in together.falls.values()] == [alone.warning, alone.fell]


def test_a_fall_is_described():
    values = fallen(np.random.default_rng(2))
    warning, fell = (Drawdown().extend(values).falls[level][0] for level in (WARNED, FELL))
    assert 150 <= warning.row <= fell.row <= 156 and abs(warning.start - 150) <= 1
    assert warning.statistic > warning.boundary
    earlier = values[warning.start - warning.earlier : warning.start]
    assert warning.before == pytest.approx(earlier.mean())
    assert warning.after == pytest.approx(values[warning.start : warning.row + 1].mean())


def test_units_do_not_matter():
    values = fallen(np.random.default_rng(3))
    row = Drawdown().extend(values).warning.row
    assert Drawdown().extend(1000 * (2 * values - 1) - 7).warning.row == row


def test_what_does_not_fall_and_what_cannot_be_told():
    assert Drawdown().extend(np.full(500, 1.0)).warning is None
    assert Drawdown().extend(np.linspace(0, 1, 500)).warning is None
    assert Drawdown().extend(np.r_[np.full(20, 0.7), 0.0]).warning is None
    values = np.random.default_rng(4).normal(size=300)
    values[200] = -1e6  # one wild row
    assert Drawdown().extend(values).warning is None
    with pytest.raises(ValueError, match="values must be finite, got nan"):
        Drawdown().update(float("nan"))


def test_correlation_time():
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(4000, 3))
    for row in range(1, 4000):
        noise[row, 1] += 0.8 * noise[row - 1, 1]
    noise[:, 2] = np.repeat(noise[:500, 0], 8)
    independent, ar, repeated = drawdown.correlation_time(noise)
    # The second is 1.8 / 0.2 = 9, the third 8. It is made to be rather too large than too small.
    assert independent < 1.2 and 9 < ar < 25 and repeated > 8


def test_corrections_lower_the_statistic():
    z = np.array([1.0, 3.0, 6.0])
    np.testing.assert_allclose(drawdown.without_skew(z, np.zeros(3)), z, rtol=1e-3)
    np.testing.assert_allclose(drawdown.few_rows(z, np.full(3, 1e9)), z, rtol=1e-6)
    assert np.all(drawdown.without_skew(z, np.ones(3)) < z)
    assert np.all(drawdown.few_rows(z, np.full(3, 5.0)) < z)


def test_the_boundary_is_summable():
    """Tails of a normal statistic at the boundary add up to a finite sum over all rows."""
    from scipy.stats import norm

    chances = [norm.sf(drawdown.boundary(10.0**k, FELL)) * 10**k for k in range(2, 9)]
    assert np.all(np.diff(chances) < 0)


BROKEN = {"AR(0.95), 8 responses"}  # as the chapter says


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, id=cell.name, marks=[pytest.mark.xfail] if cell.name in BROKEN else [])
        for cell in falls.STEADY
    ],
)
def test_a_sample_of_the_measured_cells(cell):
    """30 runs a cell: no more alarms than one run in a thousand samples has at the limit."""
    from scipy.stats import binom

    runs, rows = 30, cell.lengths[0]
    for count, limit in zip(
        falls.steady(cell, rows, runs, seed=2), (cell.warned, cell.fell), strict=True
    ):
        assert count <= binom.isf(1e-3, runs, limit)


@pytest.mark.parametrize("cell", falls.FALLING, ids=lambda cell: cell.name)
def test_a_sample_of_the_falls(cell):
    found = falls.delays(cell, 100, seed=2)
    in_time = found[found > 0] <= cell.limit
    assert np.mean(in_time) > 0.33  # half of the runs, less three standard errors


def test_a_quick_rise_does_not_hide_the_fall_after_it():
    """A learning curve is no noise that hangs together over tens of rows."""
    rise = 0.8 - 0.6 * np.exp(-np.arange(85) / 12)
    level = np.concatenate([rise, np.full(15, 0.3)])
    runs = level[:, None] + 0.02 * np.random.default_rng(11).normal(size=(100, 20))
    assert sum(fall is not None for fall in Drawdown(20).extend(runs).falls[FELL]) >= 18
