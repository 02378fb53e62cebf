"""Exponents of medians under censoring; and what the committed grid of the language model must hold
for its chapter.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvrlib.scaling import median_exponent

DATA = Path(__file__).parent.parent / "notebooks" / "data"
SIZES = np.array([4.0, 16, 64, 256])


def noisy(exponent: float, rows: int = 40, noise: float = 0.5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 3 * SIZES**exponent * np.exp(noise * rng.standard_normal((rows, len(SIZES))))


def fit(values: np.ndarray, sizes: np.ndarray = SIZES, **options: float):
    return median_exponent(sizes, values, rng=np.random.default_rng(1), **options)


@given(st.floats(-3, 3), st.floats(-5, 5))
def test_a_pure_power_law_is_found_exactly(exponent: float, scale: float) -> None:
    law = fit(np.tile(np.exp(scale) * SIZES**exponent, (5, 1)), num_resamples=20)
    assert law.exponent == pytest.approx(exponent, abs=1e-9) and law.constant == pytest.approx(
        np.exp(scale), rel=1e-8
    )
    assert law.low == pytest.approx(exponent, abs=1e-9) and law.high == pytest.approx(
        exponent, abs=1e-9
    )


def test_the_interval_holds_the_exponent_as_often_as_it_says() -> None:
    laws = [fit(noisy(-1.3, seed=seed), num_resamples=200, level=0.9) for seed in range(100)]
    assert 0.8 <= np.mean([law.low <= -1.3 <= law.high for law in laws]) <= 1
    assert np.mean([law.exponent for law in laws]) == pytest.approx(-1.3, abs=0.02)


def test_censoring_above_the_median_changes_nothing() -> None:
    values = noisy(-1)
    ends = np.quantile(values, 0.7, axis=0)
    cut, whole = fit(np.where(values > ends, np.inf, values)), fit(values)
    assert (cut.exponent, cut.constant) == (whole.exponent, whole.constant)
    np.testing.assert_array_equal(cut.medians, whole.medians)


def test_a_size_with_an_infinite_median_is_left_out() -> None:
    values = noisy(-1)
    values[: len(values) // 2 + 1, 0] = np.inf
    law = fit(values)
    np.testing.assert_array_equal(law.sizes, SIZES[1:])
    assert law.exponent == fit(values[:, 1:], SIZES[1:]).exponent


@pytest.mark.parametrize(
    ("sizes", "values", "message"),
    [
        (SIZES[:2], np.ones((3, 4)), "one column for each"),
        ([1.0, 1.0], np.ones((3, 2)), "different sizes"),
        ([0.0, 1.0], np.ones((3, 2)), "sizes must be positive"),
        (SIZES, np.zeros((3, 4)), "values must be positive"),
        (SIZES, np.full((3, 4), np.nan), "values must be positive"),
        ([1.0, 2.0], np.array([[1.0, np.inf]]), "finite medians at two"),
    ],
)
def test_bad_input_is_named(sizes, values, message) -> None:
    with pytest.raises(ValueError, match=message):
        fit(values, sizes)
    with pytest.raises(ValueError, match="level"):
        fit(noisy(-1), level=1.0)


# ---- the committed grid


def grid(part: str) -> list[dict[str, str]]:
    with open(DATA / "language_model.csv", encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["part"] == part]


def test_the_grid_holds_what_the_chapter_says() -> None:
    by_length = Counter(int(row["length"]) for row in grid("length"))
    assert {1, 4, 16, 64} <= set(by_length) and min(
        by_length[length] for length in (1, 4, 16, 64)
    ) >= 20
    assert len({row["prompt"] for row in grid("length")}) >= 20
    for row in grid("length"):
        assert (
            math.isfinite(float(row["log_odds"]))
            and float(row["alignment"]) > 0
            and float(row["critical_step"]) > 0
        )
        # The scores of one answer sum to the part of the gap that belongs to it: all of it where J
        # is small.
        assert float(row["score"]) == pytest.approx(float(row["alignment"]), rel=2e-3)
    assert {float(row["level"]) for row in grid("success")} >= {-30.0, 0.0, 6.0}
    assert all(abs(float(row["log_odds"]) - float(row["level"])) < 0.5 for row in grid("success"))


def test_shorter_answers_begin_the_longer_ones() -> None:
    texts: dict[str, list[str]] = {}
    for row in grid("length"):
        texts.setdefault(row["prompt"], []).append(row["answer"])
    for answers in texts.values():
        answers.sort(key=len)
        assert all(long.startswith(short) for short, long in pairwise(answers))


def test_the_curvature_of_the_grid_is_that_of_its_tokens() -> None:
    """With one accepted answer of tiny probability ``l`` is its log-probability, whose second
    derivatives are the tokens'.
    """
    ratios = [
        -float(row["bend"]) / float(row["curvature"])
        for row in grid("length")
        if int(row["length"]) >= 4
    ]
    assert np.median(ratios) == pytest.approx(1, abs=0.01)


def test_the_grid_says_how_it_was_made() -> None:
    facts = json.loads((DATA / "language_model.json").read_text(encoding="utf-8"))
    assert {
        "script",
        "model",
        "quantization",
        "versions",
        "hardware",
        "seeds",
        "search",
        "points",
        "columns",
    } <= set(facts)
    assert (DATA.parent.parent / facts["script"]).is_file()
    with open(DATA / "language_model.csv", encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
    assert {name for names in facts["columns"] for name in names.split(", ")} >= set(header) - {
        "family",
        "wording",
    }
    assert facts["points"] == {part: len(grid(part)) for part in ("length", "success")}
