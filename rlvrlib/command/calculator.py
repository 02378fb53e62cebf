"""The theorems as a calculator: a command for each function of `rlvrlib.thresholds` that takes
numbers.

Names, defaults and words come from the functions' signatures and docstrings.
"""

from __future__ import annotations

import inspect
import math
import re
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import typer

from rlvrlib import thresholds

_WIDTH = 80


def functions() -> dict[str, Callable[..., Any]]:
    """The functions, by the names of their commands: those whose arguments are all numbers."""
    public = {
        name: f
        for name, f in inspect.getmembers(thresholds, inspect.isfunction)
        if not name.startswith("_")
    }
    return {
        name.replace("_", "-"): function
        for name, function in public.items()
        if function.__module__ == thresholds.__name__
        and all(
            "ArrayLike" in str(p.annotation)
            for p in inspect.signature(function).parameters.values()
        )
    }


def summary(function: Callable[..., Any]) -> str:
    """The first paragraph of the function's docstring."""
    return _plain(_paragraphs(function)[0])


def meanings(function: Callable[..., Any]) -> dict[str, str]:
    """The argument's meaning for each argument, from the docstring or the one that it refers to."""
    text = inspect.getdoc(function) or ""
    found: dict[str, str] = {}
    for reference in re.findall(r"`(\w+)`", text):
        other = getattr(thresholds, reference, None)
        if callable(other) and other is not function:
            found |= meanings(other)
    for match in re.finditer(r"^(\w+(?:, \w+)*) : (.+(?:\n .+)*)", text, flags=re.MULTILINE):
        found |= dict.fromkeys(match[1].split(", "), _plain(match[2]))
    return {name: found.get(name, "") for name in inspect.signature(function).parameters}


def command(name: str, function: Callable[..., Any]) -> Callable[..., None]:
    """The command of a function: an option for each argument, and its number printed with what it
    means.
    """
    arguments = inspect.signature(function).parameters

    def evaluate(**texts: str | None) -> None:
        values, spoken = {}, {}
        for argument, text in _log_odds(texts, arguments).items():
            if text is not None:
                values[argument] = _numbers(argument, text)
                spoken[argument] = _spelled(values[argument])
            elif arguments[argument].default is inspect.Parameter.empty:
                raise ValueError(
                    f"--{argument.replace('_', '-')} is needed: {meanings(function)[argument]}"
                )
        result = function(**values)
        if texts.get("success") is not None:
            spoken["log_odds"] += f" (success rate {texts['success']})"
        typer.echo(_report(name, function, spoken, result))

    parameters = []
    for argument, meaning in meanings(function).items():
        option = "--" + argument.replace("_", "-")
        default = arguments[argument].default
        if default is inspect.Parameter.empty:
            meaning += " Required, or --success." if argument == "log_odds" else " Required."
        elif default is not None:
            meaning += f" Default: {default:g}."
        parameters.append(_option(argument, option, meaning))
        if argument == "log_odds":
            parameters.append(
                _option(
                    "success",
                    "--success",
                    "Instead of the log-odds: the success rate J, in (0, 1).",
                )
            )
    evaluate.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    evaluate.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return evaluate


def _option(name: str, option: str, meaning: str) -> inspect.Parameter:
    default = typer.Option(None, option, metavar="NUMBER[,...]", help=meaning, show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=str | None
    )


def _log_odds(texts: dict[str, str | None], arguments: Any) -> dict[str, str | None]:
    """The texts with the success rate, if given, as log-odds."""
    texts = dict(texts)
    success = texts.pop("success", None)
    if success is None:
        return texts
    if texts["log_odds"] is not None:
        raise ValueError("give --log-odds or --success, not both")
    rates = np.atleast_1d(_numbers("success", success))
    if not np.all((rates > 0) & (rates < 1)):
        raise ValueError(f"--success must be in (0, 1), got {success!r}")
    return texts | {
        "log_odds": ",".join(repr(math.log(rate) - math.log1p(-rate)) for rate in rates.tolist())
    }


def _numbers(name: str, text: str) -> float | list[float]:
    """One number, or the numbers of prompts."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--{name.replace('_', '-')} must be a number, or numbers with commas, got {text!r}"
        ) from None
    return numbers if len(numbers) > 1 else numbers[0]


def _report(name: str, function: Callable[..., Any], spoken: dict[str, str], result: Any) -> str:
    """Formula and theorem, the numbers that went in, what must hold, and the number that comes
    out.
    """
    width = max(map(len, spoken), default=0)
    lines = []
    for argument, meaning in meanings(function).items():
        if argument in spoken:
            lines.append(
                _wrapped(
                    f"{argument.replace('_', '-'):{width}}  {spoken[argument]}: {meaning}",
                    2,
                    width + 4,
                )
            )
    body, assumptions = _paragraphs(function), _plain(_paragraphs(thresholds)[1])
    return "\n".join(
        [
            *(_wrapped(_plain(paragraph)) for paragraph in body),
            "",
            *lines,
            "",
            _wrapped(f"Assumptions: {assumptions}"),
            "",
            f"{name}: {_spelled(result)}",
        ]
    )


def _spelled(numbers: Any) -> str:
    return ", ".join(f"{number:.6g}" for number in np.atleast_1d(numbers))


def _paragraphs(documented: Any) -> list[str]:
    """The docstring's paragraphs before its sections."""
    text = re.split(r"\n\w+\n---", inspect.getdoc(documented) or "")[0]
    return [paragraph for paragraph in text.strip().split("\n\n") if paragraph]


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "").replace("`", "").split())


def _wrapped(text: str, indent: int = 0, hanging: int = 0) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=" " * indent, subsequent_indent=" " * hanging)
