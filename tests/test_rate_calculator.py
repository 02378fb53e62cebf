"""The form in the page gives what `rlvr plan` gives, for every method and optimizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import rate_calculator

from rlvrlib.methods import SAMPLED_METHODS
from rlvrlib.practice.planning import OPTIMIZERS, Setting, plan

SCRIPT = Path(__file__).resolve().parent.parent / "book" / "_static" / "rate_calculator.js"
# Success rates, group sizes before and after, and what the first loss divides by.
CASES = [
    (0.3, 0.7, 8, 8, ""),
    (0.01, 0.99, 4, 64, "sum"),
    (0.5, 0.2, 2, 512, "mean"),
    (0.999, 0.001, 16, 16, "cap"),
]
ASK = """values => {
  const form = document.querySelector("form");
  for (const [name, value] of Object.entries(values)) form.elements[name].value = value;
  form.dispatchEvent(new Event("input"));
  return [document.querySelector(".rate-plan").dataset.total, form.querySelector("output").value];
}"""


@pytest.fixture
def form(tab: Any, tmp_path: Path) -> Any:
    data = json.dumps(rate_calculator.facts())
    (tmp_path / "form.html").write_text(
        f'<!doctype html><div class="rate-plan" hidden><script type="application/json">{data}'
        f"</script></div><script>{SCRIPT.read_text(encoding='utf-8')}</script>",
        encoding="utf-8",
    )
    tab.goto(f"file://{tmp_path}/form.html")
    return tab


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", SAMPLED_METHODS)
def test_the_form_computes_what_the_command_does(form: Any, method: str, optimizer: str) -> None:
    other = "dr_grpo" if method == "grpo" else "grpo"
    for success, later, group, larger, aggregation in CASES:
        total, _ = form.evaluate(
            ASK,
            {
                "before-length": 100, "after-length": 700, "optimizer": optimizer,
                "before-success": success, "after-success": later,
                "before-method": method, "after-method": other,
                "before-group": group, "after-group": larger, "before-aggregation": aggregation,
            },
        )
        before = Setting(100, success, method, group, aggregation or None)
        expected = plan(before, Setting(700, later, other, larger), optimizer=optimizer).total
        assert float(total) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("name", "value"),
    [("rate", "-1"), ("rate", "fast"), ("before-success", "1"), ("after-length", "0")],
)
def test_a_wrong_value_is_named_and_gives_no_rate(form: Any, name: str, value: str) -> None:
    total, said = form.evaluate(ASK, {name: value})
    assert total is None and ("rate" in said.lower() or "length" in said.lower())
    assert "Start with" not in said


def test_a_large_factor_carries_the_warning_of_the_command(form: Any) -> None:
    _, said = form.evaluate(ASK, {"after-length": 500 * 9})
    assert "which no run of this book has tested" in said
    assert "which no run" not in form.evaluate(ASK, {"after-length": 500 * 8})[1]
