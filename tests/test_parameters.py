"""Parameters cells: every committed comment is understood, and what is out of its range, or not
what it says, is refused.
"""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvrlib.running.parameters import checked, read, unchecked

CELL = """
seed: int = 1  # seed of the draws, any non-negative integer
delta: float = 0.3  # alignment, in (0, 1): smaller is slower
rate: float = 1e-4  # learning rate, in (0, inf)
num_arms: int = 8  # arms, of all kinds, from 3 to 30 (more is slow)
length: int = 64  # tokens, even, from 4 to 1024
longest: int = 256  # tokens, one of 64, 256 or 1024
factor: float = 0.5  # a factor, one of 0.5 or 1
method: str = "grpo"  # the update, one of grpo, dr_grpo or dapo
sizes: list[int] = [2, 4]  # group sizes, from 2 to 64
title: str = "a"  # of the figure, any text
centred: bool = True  # centre the scores, or not
loose: float = 1.0  # a factor, about one
share: float = 0.5  # of the length, at most half of the whole
"""


@pytest.fixture
def cell():
    return read(CELL)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("seed", "0", 0),
        ("seed", "010", 10),
        ("delta", "1e-6", 1e-6),
        ("delta", ".5", 0.5),
        ("rate", "3", 3.0),
        ("num_arms", "30", 30),
        ("length", "4", 4),
        ("longest", "1024", 1024),
        ("factor", "1", 1.0),
        ("method", "dr_grpo", "dr_grpo"),
        ("sizes", "[2, 64]", [2, 64]),
        ("centred", "false", False),
        ("title", "null", "null"),
        ("title", "<b>$x$</b>", "<b>$x$</b>"),
        ("rate", 1, 1.0),
        ("rate", "1e-4", 1e-4),
        ("loose", "7", 7.0),
        ("share", "9", 9.0),
    ],
)
def test_good_values(cell, name, text, value):
    converted = checked({name: text}, cell)[name]
    assert converted == value and type(converted) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("seed", "-1", "non-negative"),
        ("seed", "1.5", "whole number"),
        ("seed", "true", "whole number"),
        ("seed", True, "whole number"),
        ("seed", 1.0, "whole number"),
        ("seed", "0x10", "whole number"),
        ("delta", "0", r"in \(0, 1\)"),
        ("delta", "1", r"in \(0, 1\)"),
        ("delta", "nan", "number"),
        ("rate", "inf", "finite"),
        ("rate", math.inf, "finite"),
        ("rate", math.nan, "finite"),
        ("rate", "1:30", "number"),
        ("rate", "__import__('os')", "number"),
        ("num_arms", "31", "from 3 to 30"),
        ("length", "5", "even"),
        ("length", "2", "4 to 1024"),
        ("longest", "128", "one of 64, 256 or 1024"),
        ("factor", "0.7", "one of 0.5 or 1"),
        ("method", "ppo", "one of"),
        ("sizes", "[2, 65]", "from 2 to 64"),
        ("sizes", "2", "list"),
        ("sizes", "[a]", "whole number"),
        ("sizes", "[", "cannot be read"),
        ("centred", "maybe", "true or false"),
        ("method", 3, "text"),
        ("dleta", "1", "did you mean delta"),
        ("zzz", "1", "it has: seed"),
        ("seed", "9" * 5000, "whole number"),
        ("rate", 10**400, "finite"),
    ],
)
def test_bad_values_are_named(cell, name, text, said):
    with pytest.raises(ValueError, match=said):
        checked({name: text}, cell)


@pytest.mark.parametrize(
    "words", ["from 1 to most", "at least 1", "one of a or b", "any text", "eVEN", "small"]
)
def test_words_that_are_no_range_of_the_type_are_a_meaning(words):
    cell = read(f"x: int = 2  # arms, {words}")
    assert unchecked(cell, cell) == ["x"] and cell["x"].meaning == f"arms, {words}"


def test_choices_have_the_type_of_the_parameter(cell):
    assert cell["longest"].choices == [64, 256, 1024] and cell["factor"].choices == [0.5, 1.0]
    assert cell["method"].choices == ["grpo", "dr_grpo", "dapo"] and cell["seed"].choices == []


def test_what_cannot_be_read_is_said(cell):
    assert unchecked(cell, cell) == ["loose", "share"]
    assert (
        cell["num_arms"].meaning == "arms, of all kinds"
        and cell["num_arms"].range == "from 3 to 30"
    )


def test_lines_without_annotation_take_the_default_for_the_type():
    cell = read(
        "alpha = 0.1\nsteps = 5 # how many\nname = 'x'\nsizes: list = [1, 2]\n"
        "derived(3)\n# a remark\n"
    )
    types = {name: parameter.type for name, parameter in cell.items()}
    assert types == {"alpha": "float", "steps": "int", "name": "str", "sizes": "list[int]"}
    with pytest.raises(ValueError, match="whole number"):
        checked({"steps": "0.5"}, cell)


def test_a_default_of_another_type_is_refused():
    with pytest.raises(ValueError, match="x must be a number"):
        read("x: float = 1 / 3  # a share, in (0, 1)")


@given(st.text(), st.sampled_from(list(read(CELL))))
def test_any_text_is_a_value_or_a_value_error(text, name):
    cell = read(CELL)
    try:
        value = checked({name: text}, cell)[name]
    except ValueError as error:
        assert name in str(error)
    else:
        assert type(value).__name__ == cell[name].type.split("[")[0]


@given(st.text())
def test_any_cell_is_read_or_refused(text):
    with suppress(ValueError):
        read(text)


@given(st.text())
def test_any_comment_is_read(text):
    cell = read(f"x: float = 0.5  # {text.replace(chr(10), ' ')}")
    for parameter in cell.values():
        with suppress(ValueError):
            parameter.check(0.5)
