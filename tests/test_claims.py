"""Claims: the verdict of a prediction follows from the numbers, a record has none, the rows travel
with the notebook, and nothing reaches a page unescaped.
"""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvrlib.evidence import claims


def claim(relation, predicted, measured, tolerance=0.0, outside=""):
    return claims.Prediction(
        "a-key", "statement", "source", relation, predicted, measured, tolerance, outside
    )


@pytest.mark.parametrize(
    ("relation", "predicted", "measured", "tolerance", "verdict"),
    [
        ("=", 1.0, 1.05, 0.1, claims.HOLDS),
        ("=", 1.0, 1.2, 0.1, claims.FAILS),
        ("=", 1.0, 0.8, 0.1, claims.FAILS),
        ("=", math.inf, math.inf, 0.0, claims.HOLDS),
        ("=", math.inf, 3.0, 1.0, claims.FAILS),
        ("<=", 1.0, 1.0, 0.0, claims.HOLDS),
        ("<=", 1.0, 1.1, 0.0, claims.FAILS),
        (">=", 1.0, 1.0, 0.0, claims.HOLDS),
        (">=", 1.0, 0.9, 0.0, claims.FAILS),
        ("<", 0.0, 0.0, 0.0, claims.FAILS),
        ("<", 0.0, -1e-9, 0.0, claims.HOLDS),
        (">", 0.0, 0.0, 0.0, claims.FAILS),
        (">", 0.0, 1e-9, 0.0, claims.HOLDS),
        ("=", math.nan, math.nan, 1.0, claims.FAILS),
        ("<=", 1.0, math.nan, 0.0, claims.FAILS),
    ],
)
def test_verdicts(relation, predicted, measured, tolerance, verdict):
    assert claim(relation, predicted, measured, tolerance).verdict == verdict


def test_outside_the_assumptions_never_passes():
    assert claim("=", 1.0, 1.0, outside="delta is too large").verdict == claims.OUTSIDE


def test_a_known_failure_still_fails_and_stops_nothing():
    known = claims.equals("a", "s", "t", 1.0, 2.0, failure="the walk is short").row()
    unknown, held = (claims.equals("a", "s", "t", 1.0, m, failure="") for m in (2.0, 1.0))
    assert claims.cells(known).verdict == "✗ fails: the walk is short"
    assert claims.unexplained([known, unknown.row(), held.row()]) == [unknown.row()]
    assert claims.equals("a", "s", "t", 1.0, 1.0, failure="not so").row()["reason"] == ""


def test_a_record_has_no_verdict():
    row = claims.record("a", "share of runs", 0.123456, uncertainty=0.02).row()
    assert (row["kind"], row["verdict"], row["predicted"]) == ("record", claims.RECORDED, None)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    said = claims.cells(row)
    assert said[1:] == ("", "", "0.1235 ± 0.02", "", "recorded", "")
    assert claims.cells(claims.record("a", "s", 3).row()).measured == "3"
    rows = [row, claims.equals("b", "s", "t", 1, 1).row(), claims.equals("c", "s", "t", 1, 2).row()]
    assert claims.summary(rows) == (
        "2 predictions: 1 hold, 1 fail, 0 outside the assumptions; 1 records"
    )
    with pytest.raises(ValueError, match="uncertainty must be non-negative, got -1"):
        claims.record("a", "s", 1.0, uncertainty=-1)


def test_uncertainties_cover_the_truth_in_95_of_100_samples():
    draws = np.random.default_rng(1).random((4000, 60))
    for make, truth in (
        (claims.mean, 0.5),
        (claims.median, 0.5),
        (lambda key, said, values: claims.share(key, said, values < 0.3), 0.3),
    ):
        found = [make("a", "s", sample) for sample in draws]
        covered = np.mean([abs(row.measured - truth) <= row.uncertainty for row in found])
        assert 0.94 <= covered <= 0.98, (make, covered)
    assert claims.mean("a", "s", [1.0]).row()["tolerance_text"] == "± ∞"
    assert claims.share("a", "s", [True] * 500).uncertainty == pytest.approx(0.0076, rel=0.02)


def test_a_citation_is_shown_by_author_and_year():
    row = claims.equals("a", "s", "Rates; @feigenbaum1978quantitative", 1, 1).row()
    assert claims.cells(row).source == "Rates; Feigenbaum 1978"


def test_makers():
    assert claims.equals("a", "s", "t", 2.0, 2.01, relative=0.01).tolerance == pytest.approx(0.02)
    assert (
        claims.at_most("a", "s", "t", 1, 0).verdict
        == claims.at_least("a", "s", "t", 0, 1).verdict
        == claims.HOLDS
    )
    assert (
        claims.less_than("a", "s", "t", 0, 0).verdict
        == claims.more_than("a", "s", "t", 0, 0).verdict
        == claims.FAILS
    )


def test_what_is_printed():
    row = claims.equals("a", "s", "t", 0.639326098514187, 0.639326098519999, tolerance=6e-10).row()
    assert (row["predicted_text"], row["measured_text"]) == ("0.63932609851", "0.63932609852")
    assert claim("<=", 1e-10, 3e-16).row()["measured_text"] == "< 1e−11"  # no rounding digits
    assert claim("=", 1e-300, 1e-300).row()["measured_text"] == "1e−300"  # meant, not rounding
    assert claim("=", 0.0, 1e-300).row()["predicted_text"] == "0"
    assert claim("<=", 0.0, np.int64(3)).row()["measured_text"] == "3"
    assert claim("=", math.inf, -math.inf).row()["predicted_text"] == "∞"
    assert claim(">", 0.0, math.nan).row()["measured_text"] == "undefined"
    assert claim("=", 1.0, -12345.678).row()["measured_text"] == "−1.235e+04"


def test_all_tables_of_claims_write_the_same_texts():
    row = claims.Prediction("a", "$x$ is < 1", "a bound", "<=", 1.0, 2.0, 0.5, "too $large$").row()
    said = claims.cells(row)
    assert said == (
        "$x$ is < 1",
        "a bound",
        "1",
        "2",
        "± 0.5",
        "– outside the assumptions: too $large$",
        "≤ ",
    )
    html = claims.to_html([row], lambda tex: f"[{tex}]")
    for text in ("[x] is &lt; 1", "≤ 1", "± 0.5", "outside the assumptions: too [large]"):
        assert text in html
    assert claims.cells(claim("=", 1.0, 1.0).row()).verdict == "✓ holds"
    assert claims.cells(claim("=", 1.0, 2.0).row()).verdict == "✗ fails"
    assert claims.text_and_math("a $b$ 1 $ c") == [("a ", False), ("b", True), (" 1 $ c", False)]


@given(st.floats(), st.floats(), st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_every_row_is_json(predicted, measured, tolerance):
    row = claim("=", predicted, measured, tolerance).row()
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_hostile_text_is_escaped():
    row = claims.Prediction(
        "a", "<script>alert(1)</script> $x<y$", "<b>", "=", 1, 1, 0.0, "<img src=x>"
    ).row()
    html = claims.to_html([row])
    assert "<script>" not in html and "<b>" not in html and "<img" not in html
    assert r"\(x&lt;y\)" in html


def test_rows_are_collected_from_a_notebook(tmp_path):
    row = claim("=", 1.0, 1.0).row()
    cells = [
        {"outputs": []},
        {},
        {"outputs": [{"metadata": {"claims": [row]}}, {"name": "stdout"}]},
    ]
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert claims.collect(path) == [row]


@pytest.mark.parametrize("text", ["", "[]", "{}", "not json"])
def test_what_is_not_a_notebook_is_named(tmp_path, text):
    path = tmp_path / "a.ipynb"
    path.write_text(text)
    with pytest.raises(ValueError, match="path must name a Jupyter notebook"):
        claims.collect(path)


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match="path must name a Jupyter notebook"):
        claims.collect(tmp_path / "absent.ipynb")
    for arguments, message in (
        (("A key", "s", "t", "=", 1, 1), "key must be"),
        (("a", "s", "t", "~", 1, 1), "relation must be"),
        (("a", "s", " ", "=", 1, 1), "source must name what implies a"),
        (("a", "s", "t", "=", 1, 1, -1.0), "tolerance must be"),
        (("a", "s", "t", "=", 1, 1, math.inf), "tolerance must be"),  # a check that could not fail
    ):
        with pytest.raises(ValueError, match=message):
            claims.Prediction(*arguments)
    with pytest.raises(ValueError, match="each with its own key"):
        claims.show(claim("=", 1, 1), claim("=", 2, 2))


def test_the_same_claim_for_each_case():
    found = claims.each(
        claims.equals,
        "rate",
        "largest rate",
        "a theorem",
        {"grpo": 2.0, "walk": 3.0},
        {"grpo": 2.1, "walk": 3.5},
        tolerance={"grpo": 0.2, "walk": 0.1},
        outside="",
        names={"grpo": "GRPO"},
    )
    assert [(c.key, c.statement, c.predicted, c.measured, c.verdict) for c in found] == [
        ("rate-grpo", "GRPO: largest rate", 2.0, 2.1, claims.HOLDS),
        ("rate-walk", "walk: largest rate", 3.0, 3.5, claims.FAILS),
    ]
    assert [c.tolerance for c in found] == [0.2, 0.1]
    assert [
        c.predicted for c in claims.each(claims.at_most, "a", "b", "c", 1, {"x": 0, "y": 2})
    ] == [1, 1]
