"""Pictures of an update map: what is drawn is what the map does."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from rlvrlib import TokenWindow, update_map
from rlvrlib.evidence import figures, orbits
from rlvrlib.update_map import LEFT, RIGHT, UpdateMap

# Speed y exp(-y), with its peak at 1.
HUMPS = UpdateMap(
    lambda x: -x * np.exp(-np.abs(x)),
    lambda x: (np.abs(x) - 1) * np.exp(-np.abs(x)),
    {RIGHT: 1.0, LEFT: 1.0},
    40.0,
)


@pytest.fixture(autouse=True)
def axes():
    figures.use_style()
    yield plt.subplots()[1]
    plt.close("all")


def test_the_orbit_diagram_shows_points_and_what_is_stable(axes):
    rates, points = np.linspace(0.5, 9, 35), np.zeros((2, 3, 35))
    orbits.orbit_diagram(axes, HUMPS, rates, points)
    dots, stable, unstable = axes.lines[:3]
    assert len(dots.get_xdata()) == 210
    assert np.array_equal(np.isnan(stable.get_ydata()), rates >= 2)  # |1 - rate| < 1
    assert np.array_equal(np.isnan(unstable.get_ydata()), rates < 2)
    main, _ = update_map.branches(HUMPS)
    drawn = axes.lines[3].get_ydata()
    assert np.array_equal(drawn[main.stable], main.left[main.stable])
    assert axes.get_legend_handles_labels()[1] == [
        "summit and two-cycles, stable",
        "the same, unstable",
    ]


def test_exponents_measured_and_predicted(axes):
    rates = np.linspace(0.5, 9, 35)
    values = np.linspace(0, 1, 105).reshape(3, 35)
    orbits.exponents(axes, HUMPS, rates, {"way up": values, "summit": -values})
    first, second, rest, calm, _ = axes.lines
    assert first.get_ydata().tolist() == values[1].tolist()
    assert second.get_ydata().tolist() == (-values[1]).tolist()
    assert rest.get_ydata() == pytest.approx(np.log(np.abs(1 - rest.get_xdata())))
    assert rest.get_xdata()[-1] == pytest.approx(2)  # where the summit loses its stability
    assert np.all(calm.get_ydata() <= 0) and len(axes.collections) == 1


def test_the_distances_of_both_points(axes):
    orbits.distances(axes, HUMPS, 1)
    main, _ = update_map.branches(HUMPS)
    solid, dotted = axes.lines[:2]
    assert solid.get_xdata().tolist() == main.rate.tolist()
    assert np.array_equal(solid.get_ydata()[main.stable], main.right[main.stable])
    assert np.array_equal(np.isnan(dotted.get_ydata()), main.stable)
    assert axes.lines[2].get_ydata()[main.stable] == pytest.approx(-main.left[main.stable])


def test_a_cobweb_goes_up_and_across(axes):
    x = np.linspace(-10, 12, 45)
    orbits.cobweb(axes, HUMPS, 3.0, -2.0, 2, x, 20)
    stairs = axes.lines[2].get_xydata()
    path = update_map.orbit(HUMPS, -2.0, 3.0, 2)
    assert stairs.tolist() == [
        [path[i], path[j]] for i, j in ((0, 0), (0, 1), (1, 1), (1, 2), (2, 2))
    ]
    assert axes.lines[3].get_xydata().tolist() == [[-2, -2]]
    right, left = axes.patches
    assert right.get_x() == pytest.approx(float(update_map.edge(HUMPS, 3.0, RIGHT, 20)))
    assert -left.get_x() == pytest.approx(float(update_map.edge(HUMPS, 3.0, LEFT, 20)))


def test_a_basin_has_a_shade_for_each_of_the_first_updates(axes):
    rates, starts = np.linspace(5, 60, 12), np.linspace(-9, 9, 13)
    when = update_map.lost_at(HUMPS, starts[:, None], rates, 20, 10)
    image = orbits.basin(axes, HUMPS, rates, starts, when, 20, 10)
    kinds = np.asarray(image.get_array()).reshape(when.shape)
    assert np.array_equal(kinds[when <= 3], when[when <= 3]) and np.all(kinds[np.isinf(when)] == 5)
    assert {0, 1, 5} <= set(kinds.ravel())
    orbits.basin_scale(axes.figure, image, axes, 10)
    labels = [text.get_text() for text in axes.figure.axes[-1].get_yticklabels()]
    assert labels == [
        "lost at the start",
        *(f"by update {k}" for k in (1, 2, 3, 10)),
        "not by then",
    ]


def test_the_explorer_shows_what_orbits_do():
    window = TokenWindow(64, 37, 52)
    both = [
        update_map.policy_map(window, name, float(window.summit), 1 / 8)
        for name in ("grpo", "reinforce")
    ]
    m = both[0]
    relative, starts = np.array([0.5, 1.5, 40.0]), np.array([[-4.0], [-3.5], [-3.0]])
    events = {"an event": {"grpo": 3.0, "reinforce": 1.0}}
    named, names = {m.method: m for m in both}, {"grpo": "GRPO", "reinforce": "REINFORCE"}
    play = orbits.explorer(named, names, relative, starts, 200, events)
    settled, swinging, lost = play.readout[0]
    assert settled.endswith("of 3 runs from the way up, 3 settled.")
    assert "3 oscillating" in swinging and "lost" in lost and settled.startswith("GRPO, c = ")
    where, line, chosen, course = play.curves
    at, ends = np.asarray(where.x)[0], np.asarray(where.y)[0]
    assert ends[at == 0.5] == pytest.approx([0]) and len(ends[at == 1.5]) == 2
    assert np.asarray(line.x)[0] == pytest.approx(-3 * m.slope(0.0) / 2)
    assert line.label == "an event"
    assert np.asarray(chosen.x)[:, 0].tolist() == relative.tolist()
    rate = 1.5 * -2 / m.slope(0.0)
    path = update_map.orbit(m, -3.5, rate, 24)
    assert np.asarray(course.y)[0, 1] == pytest.approx(m.success_rate(path))
