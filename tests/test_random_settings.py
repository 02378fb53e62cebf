"""Random settings of the notebooks lie within their documented ranges, move every number, and are
the same for the same seed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from random_settings import lowest_setting, random_setting

from rlvrlib.running.execution import read_notebook
from rlvrlib.running.parameters import cell_source, checked, read

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_random_settings_are_within_the_ranges(path: Path) -> None:
    parameters = read(cell_source(read_notebook(path)))
    drawn = [random_setting(parameters, np.random.default_rng([3, number])) for number in range(20)]
    for setting in [*drawn, lowest_setting(parameters)]:
        checked(setting, parameters)
    numbers = [
        name
        for name, parameter in parameters.items()
        if parameter.type in ("int", "float") and parameter.default
    ]
    assert all(len({setting.get(name) for setting in drawn}) > 1 for name in numbers)
    assert drawn[0] == random_setting(parameters, np.random.default_rng([3, 0]))
