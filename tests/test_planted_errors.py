"""The tool that plants wrong lines in the theory, and a sample of what it found: with a wrong line
in the library a prediction fails.
"""

from __future__ import annotations

import ast
import csv

import planted_errors
import pytest

from rlvrlib.evidence import claims

SOURCE = '''
def bound(slope, width, lengths):
    """Says 3 * slope."""
    if width < 0:
        raise ValueError(f"width must be {2 * 3}")
    total = slope - width
    total = slope - width
    return 8 * total / width**2


TABLE = {"one": lambda x: x + 2}
'''


def of_source() -> list[planted_errors.Statement]:
    return list(planted_errors.statements("module", ast.parse(SOURCE)))


def test_statements_are_known_by_function_text_and_number():
    known = [(one.function, one.text, one.number) for one in of_source()]
    assert known == [
        ("bound", "total = slope - width", 0),
        ("bound", "total = slope - width", 1),
        ("bound", "return 8 * total / width ** 2", 0),
        ("TABLE['one']", "lambda x: x + 2", 0),
    ]


def test_wrong_forms_of_a_statement():
    _, first, bound, _ = of_source()
    assert set(planted_errors.wrong(first)) == {
        ("sign", "total = slope + width"),
        ("dropped term", "total = slope"),
        ("swapped", "total = width - slope"),
    }
    assert set(planted_errors.wrong(bound)) == {
        ("constant", "return 16 * total / width ** 2"),
        ("constant", "return 4.0 * total / width ** 2"),
        ("dropped factor", "return 8 * total"),
        ("dropped factor", "return 8 / width ** 2"),
        ("dropped factor", "return total / width ** 2"),
        ("exponent", "return 8 * total / width"),
        ("exponent", "return 8 * total / width ** 3"),
    }


def test_the_choice_is_the_same_again_and_of_different_kinds():
    errors = list(planted_errors.candidates(of_source()))
    assert planted_errors.chosen(errors) == planted_errors.chosen(errors[::-1])
    of_bound = [e for e in planted_errors.chosen(errors) if e.function == "bound"]
    assert len({e.kind for e in of_bound}) == len(of_bound)


def frozen() -> dict[str, planted_errors.Error]:
    return {error.id: error for error in planted_errors.read_errors()}


def noticed() -> list[dict[str, str]]:
    path = planted_errors.DATA / "noticed.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_is_of_the_frozen_errors():
    assert [row["error"] for row in noticed()] == list(frozen())
    assert all(row["side"] in ("unsafe", "safe", "neither", "unknown") for row in noticed())


def rows_with(stem: str, error: planted_errors.Error | None) -> dict[str, dict] | str:
    def work() -> dict:
        if error:
            planted_errors.plant(error)
        execution = planted_errors.Execution(stem)
        execution.go_on(0)
        return execution.rows

    return planted_errors.forked(work, 120)


def sample(stem: str, size: int) -> list[planted_errors.Error]:
    """Errors that the table says are noticed by a row of a notebook."""
    errors, known = frozen(), [row["error"] for row in noticed() if f"{stem}:" in row["failed"]]
    there = [errors[name] for name in known if planted_errors.is_there(errors[name])]
    return there[:: max(len(there) // size, 1)][:size]


@pytest.mark.parametrize("stem", ["log_odds", "blind_spots", "overshoot"])
def test_a_planted_error_is_noticed(stem):
    right = rows_with(stem, None)
    assert not isinstance(right, str), right
    held = {key for key, row in right.items() if row["verdict"] == claims.HOLDS}
    errors = sample(stem, 3)
    assert held and errors
    for error in errors:
        wrong = rows_with(stem, error)
        assert isinstance(wrong, dict), f"{error}: {wrong}"
        assert any(wrong.get(key, {}).get("verdict") != claims.HOLDS for key in held), error
