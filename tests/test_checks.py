"""One wording for all that is wrong with an argument: its name, its value, what is allowed."""

import numpy as np
import pytest

from rlvrlib import checks


def test_what_is_allowed_comes_back_as_floats():
    assert checks.positive(eta=1).dtype == float and checks.finite(x=[1, -2]).tolist() == [1, -2]
    assert checks.non_negative(x=[0, np.inf]).tolist() == [0, np.inf]
    assert checks.inside("[0, 1)", x=[0, 0.5]).tolist() == [0, 0.5]
    assert checks.whole(1, x=[1, 3.0]).tolist() == [1, 3]
    assert checks.last_axis(2, x=np.zeros((3, 2))).shape == (3, 2)
    assert checks.one_of(["a", "b"], x="a") is None
    assert checks.prompt_weights(None, 4).tolist() == [0.25] * 4
    assert checks.prompt_weights([1, 3], 2).tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: checks.finite(x=np.nan), "x must be finite, got nan"),
        (lambda: checks.positive(x=0), "x must be positive and finite, got 0"),
        (lambda: checks.positive(x=[1, np.inf]), "x must be positive and finite, got [1, inf]"),
        (lambda: checks.non_negative(x=-1e-9), "x must be non-negative, got -1e-09"),
        (lambda: checks.non_negative(x=np.nan), "x must be non-negative, got nan"),
        (lambda: checks.inside("(0, 1)", x=1), "x must be in (0, 1), got 1"),
        (lambda: checks.inside("(0, 1)", x=0), "x must be in (0, 1), got 0"),
        (lambda: checks.inside("[0, 1)", x=1.0), "x must be in [0, 1), got 1.0"),
        (lambda: checks.inside("(0, inf]", x=0.0), "x must be positive, got 0.0"),
        (lambda: checks.inside("[1, inf]", x=0.5), "x must be at least 1, got 0.5"),
        (lambda: checks.whole(2, x=1), "x must be at least 2 and whole, got 1"),
        (lambda: checks.whole(2, x=2.5), "x must be at least 2 and whole, got 2.5"),
        (lambda: checks.whole(2, x=np.inf), "x must be at least 2 and whole, got inf"),
        (lambda: checks.whole(-np.inf, x=0.5), "x must be whole, got 0.5"),
        (lambda: checks.one_of(["a", "b"], x="c"), "x must be one of a, b, got 'c'"),
        (lambda: checks.last_axis(2, x=np.zeros(3)), "x must have last axis 2, got shape (3,)"),
        (lambda: checks.finite(x="three"), "x must hold real numbers, got 'three'"),
        (lambda: checks.finite(x=[[1], [2, 3]]), "x must hold real numbers, got [[1], [2, 3]]"),
        (lambda: checks.finite(x=1j), "x must hold real numbers, got 1j"),
        (
            lambda: checks.prompt_weights([1, -1], 2),
            "weights must be non-negative, finite and not all zero, got [1, -1]",
        ),
        (lambda: checks.prompt_weights([1, 2, 3], 2), "weights must have last axis 2"),
    ],
)
def test_the_message(call, message):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value).startswith(message)


def test_a_message_has_one_short_line_whatever_the_value():
    with pytest.raises(ValueError) as caught:
        checks.positive(x=np.zeros((50, 50)))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
