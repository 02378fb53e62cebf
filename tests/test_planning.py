"""A plan against the pressure it is made of, the book's corollaries, and exact critical rates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvrlib import thresholds
from rlvrlib.practice.planning import BESIDE, OPTIMIZERS, Setting, plan
from rlvrlib.practice.pressure import success_factor
from rlvrlib.thresholds import longest_guarantee

methods = st.sampled_from(["reinforce", "rloo", "dr_grpo", "grpo", "gspo", "dapo"])
setting = st.builds(
    Setting,
    st.floats(1, 1e5),
    st.floats(0.001, 0.999),
    methods,
    st.none() | st.integers(2, 64),
    st.none() | st.sampled_from(["sum", "cap", "mean"]),
)


@given(setting, setting, setting)
def test_factors_multiply_and_plans_compose(one, two, three):
    for optimizer in OPTIMIZERS:
        pairs = (one, two), (two, three), (one, three)
        there, on, whole = (plan(*pair, optimizer=optimizer) for pair in pairs)
        assert there.total == pytest.approx(np.prod([factor.value for factor in there.factors]))
        assert there.total * on.total == pytest.approx(whole.total)
        assert plan(one, one, optimizer=optimizer).total == pytest.approx(1)
        rate = plan(one, two, 1e-6, optimizer).rate
        assert rate == pytest.approx(1e-6 * there.total)


def test_length_counts_as_the_loss_has_it():
    short, long = 512, 4096
    for method, aggregation, expected in (
        ("reinforce", None, 1 / 8),
        ("grpo", None, 1),
        ("dr_grpo", None, 1),
        ("dr_grpo", "sum", 1 / 8),
    ):
        found = plan(
            Setting(short, 0.3, method, 8, aggregation),
            Setting(long, 0.3, method, 8, aggregation),
            optimizer="sgd",
        )
        assert found.total == pytest.approx(expected)
    mean, total = Setting(512, 0.3), Setting(512, 0.3, aggregation="sum")
    assert plan(mean, total, optimizer="sgd").total == pytest.approx(1 / 512)
    assert plan(Setting(short, 0.3), Setting(long, 0.3)).total == pytest.approx(1 / 8)


def test_the_rate_of_reinforce_grows_as_failures_vanish():
    """The largest safe rate of REINFORCE is 2 / (sigma^2 Phi(F)), here with the sharper logarithm;
    near J = 1 it is the longest guarantee.
    """
    variance = 8 * 0.5**2 / 4
    for success in (0.995, 0.999):
        rates = [
            thresholds.sharper_failure_fall(1.0, np.log(j / (1 - j)), 8, 0.5) / (j * (1 - j))
            for j in (0.99, success)
        ]
        pair = Setting(8, 0.99, "reinforce"), Setting(8, success, "reinforce")
        assert plan(*pair, optimizer="sgd").total == pytest.approx(rates[1] / rates[0])
    assert rates[1] == pytest.approx(1 / (success_factor(0.999, "reinforce") * variance))


def test_adam_is_assumed_and_leaves_only_the_threshold():
    before, after = Setting(100, 0.5, "grpo", 4), Setting(100, 0.9, "reinforce", 16)
    found = plan(before, after)
    assert found == plan(before, after, optimizer="adamw") and found.optimizer == "adamw"
    assert [factor.value for factor in found.factors[:4]] == [1.0] * 4
    assert found.total == pytest.approx(float(longest_guarantee(0.9) / longest_guarantee(0.5)))


def test_a_plan_without_a_run_has_no_rate():
    assert plan(Setting(100, 0.5), Setting(200, 0.5)).rate is None


@pytest.mark.parametrize(
    ("before", "after", "optimizer", "warned"),
    [
        (Setting(512, 0.3), Setting(64, 0.3), "adamw", []),  # exactly 8
        (Setting(512, 0.3), Setting(63, 0.3), "adamw", ["length", "in all"]),
        (Setting(64, 0.3), Setting(513, 0.3), "adamw", ["length", "in all"]),
        (Setting(64, 0.3), Setting(640, 0.3), "sgd", ["length", "loss divisor"]),  # they cancel
        (Setting(512, 0.3, aggregation="sum"), Setting(512, 0.3), "adamw", []),
        (Setting(9, 0.3, aggregation="sum"), Setting(9, 0.3), "sgd", ["loss divisor", "in all"]),
    ],
)
def test_a_factor_above_eight_in_either_direction_carries_a_warning(
    before, after, optimizer, warned
):
    warnings = plan(before, after, optimizer=optimizer).warnings
    assert [warning.partition(":")[0] for warning in warnings] == warned


def test_what_has_no_factor_names_a_chapter_that_exists():
    root = Path(__file__).resolve().parent.parent / "book"
    texts = [page.read_text(encoding="utf-8") for page in root.glob("*.md")]
    for answer, place in BESIDE.values():
        title, _, section = place.partition(", ")
        (page,) = [text for text in texts if text.startswith(f"# {title}\n")]
        section = section.partition(", for ")[0]
        assert f"\n## {section}\n" in page or f"**{section}.**" in page
        assert answer and not answer.endswith(".")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Setting(0, 0.5), "length must be at least 1"),
        (lambda: Setting(100, 0.0), "success_rate must be in"),
        (lambda: Setting(100, 0.5, "ppo"), "method must be one of"),
        (lambda: Setting(100, 0.5, group_size=1), "group_size must be at least 2"),
        (lambda: Setting(100, 0.5, aggregation="median"), "aggregation must be one of"),
        (lambda: plan(Setting(100, 0.5), Setting(100, 0.5), rate=0.0), "rate must be positive"),
        (
            lambda: plan(Setting(100, 0.5), Setting(100, 0.5), optimizer="lion"),
            "optimizer must be one of",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_factors_have_names_and_reasons():
    factors = plan(Setting(100, 0.5), Setting(200, 0.8)).factors
    assert {"length", "success rate"} <= {factor.name for factor in factors}
    assert all(factor.reason and factor.unknown for factor in factors)
    assert [factor.name for factor in factors if factor.changed] == [
        "length",
        "loss divisor",
        "success rate",
    ]


def test_a_rate_above_one_is_no_success_rate():
    for rate in (1.0, 1.5, 0.0):
        with pytest.raises(ValueError, match="success_rate must be in "):
            longest_guarantee(rate)
