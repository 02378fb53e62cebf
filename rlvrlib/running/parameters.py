"""The parameters of a notebook: read from its cell, and checked before anything runs.

A line of the cell tagged ``parameters`` is ``name: type = value  # meaning, range``. Types are ``int``, ``float``, ``bool``,
``str`` and ``list[...]`` of one of them. The range is one or more of these clauses, each after a
comma:

==========================================  ======================================================
``in (0, 1]``                               an interval; an end may be ``inf``
``from 2 to 50`` or ``2 to 50``             both ends included
``at least 1``, ``at most 9``               with the end
``more than 0``, ``less than 1``            without the end
``even``, ``odd``, ``a power of 4``         of an integer
``any integer``, ``any number``             also ``non-negative`` or ``positive``
``one of grpo, dr_grpo or dapo``            one of these texts or numbers
``any text``                                no limit
==========================================  ======================================================

The end of a range may name another parameter (``at most num_contexts``). A note may follow in
parentheses or after a semicolon or colon. In a list the range holds for every entry. Nothing is
evaluated: values are read as YAML scalars.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

Values = Mapping[str, Any]

_LINE = re.compile(
    r"(?P<name>[A-Za-z_]\w*)\s*(?::\s*(?P<type>[^=#]+?))?\s*=\s*(?P<default>.+?)\s*(?:\s#\s*(?P<comment>.*))?"
)
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_END = rf"(?:{_NUMBER}|-?inf|[A-Za-z_]\w*)"
_CLAUSES = (
    rf"in [(\[]{_END}, {_END}[)\]]",
    rf"(?:a power of \d+ )?(?:from )?{_NUMBER} to {_NUMBER}",
    rf"(?:at least|at most|more than|less than) {_END}",
    r"even|odd|a power of \d+",
    r"any (?:non-negative |positive )?(?:integer|number)",
    r"any text",
    r"one of [^;:()]+",
)
_CLAUSE = "(?:each )?(?:" + "|".join(_CLAUSES) + ")"
_COMMENT = re.compile(
    rf"(?P<meaning>.*?)(?P<range>(?:, {_CLAUSE})+)(?P<note>(?: \(.*\))?(?:[;:] .*)?)"
)
_WORDS = set(
    "each in inf a power of from to at least most more less than any non negative positive integer number even odd".split()
)
_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell.

    Parameters
    ----------
    name, type : as written; without annotation, or for a bare ``list``, the type of the default.
    default : the value.
    meaning : the comment up to the range.
    clauses : the range, clause by clause; empty where none was found.
    """

    name: str
    type: str
    default: Any
    meaning: str
    clauses: tuple[str, ...]

    @property
    def range(self) -> str:
        """The range in words; empty where none was found."""
        return ", ".join(self.clauses)

    def convert(self, value: object) -> Any:
        """The value in the parameter's type; texts (from a command line, or YAML's ``1e-4``) are
        read as that type.

        Raises
        ------
        ValueError : it is not of that type, or not finite.
        """
        match = re.fullmatch(r"(?:list|List)\[(\w+)\]", self.type)
        if not match:
            return self._scalar(value, self.type)
        entries = _yaml(value, self.name) if isinstance(value, str) else value
        if not isinstance(entries, list):
            raise ValueError(f"{self.name} must be a list such as [1, 2], got {value!r}")
        return [self._scalar(entry, match[1]) for entry in entries]

    def _scalar(self, value: Any, kind: str) -> Any:
        if isinstance(value, str) and kind in ("int", "float", "bool"):
            value = _from_text(value, kind)
        kinds: dict[str, tuple[type, ...]] = {
            "int": (int,),
            "float": (int, float),
            "bool": (bool,),
            "str": (str,),
        }
        allowed = kinds.get(kind, (object,))
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind in ("int", "float")):
            raise ValueError(f"{self.name} must be {_NAMES[kind]} ({kind}), got {value!r}")
        if (
            isinstance(value, float | int)
            and not isinstance(value, bool)
            and kind in ("int", "float")
        ):
            try:
                finite = math.isfinite(value)
            except OverflowError:
                finite = False
            if not finite:
                raise ValueError(f"{self.name} must be finite, got {value!r}")
        return float(value) if kind == "float" else value

    def check(self, values: Values) -> None:
        """Compare the parameter's value with its range; other parameters' values are there because
        a range may name them.

        Raises
        ------
        ValueError : the value is out of range.
        """
        value = values[self.name]
        for entry in value if isinstance(value, list) else [value]:
            for clause in self.clauses:
                if not _TESTS[_kind(clause)](entry, clause.removeprefix("each "), values):
                    raise ValueError(
                        f"{self.name} must be {_spoken(clause, values)}, got {entry!r} ({self.meaning})"
                    )


def read(source: str) -> dict[str, Parameter]:
    """The parameters of a cell, in order. Lines of another form declare none.

    Raises
    ------
    ValueError : a default is not of the annotated type.
    """
    matches = [match for line in source.splitlines() if (match := _LINE.fullmatch(line.strip()))]
    names = {match["name"] for match in matches}
    return {match["name"]: _parameter(match, names) for match in matches}


def cell_source(notebook: Mapping[str, Any]) -> str:
    """The source of the notebook's cells tagged ``parameters``."""
    cells = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    return "\n".join("".join(cell["source"]) for cell in cells)


def checked(given: Mapping[str, object], parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """The given values in their parameters' types, after every name, type and range has been
    checked.

    Raises
    ------
    ValueError : an unknown name, a wrong type, or a value out of range.
    """
    for name in given:
        if name not in parameters:
            near = difflib.get_close_matches(str(name), parameters, 1)
            known = (
                f"did you mean {near[0]}?" if near else f"it has: {', '.join(parameters) or 'none'}"
            )
            raise ValueError(f"the notebook has no parameter {name!r} ({known})")
    converted = {name: parameters[name].convert(value) for name, value in given.items()}
    values = {name: parameter.default for name, parameter in parameters.items()} | converted
    for name, parameter in parameters.items():
        # A default is checked too where its range names a parameter that was given.
        if name in given or any(
            other in clause.split() for clause in parameter.clauses for other in given
        ):
            parameter.check(values)
    return converted


def unchecked(names: Iterable[str], parameters: Mapping[str, Parameter]) -> list[str]:
    """Those of the names whose comment holds no range that could be read; true or false needs none."""
    return [
        name for name in names if not parameters[name].clauses and parameters[name].type != "bool"
    ]


def _parameter(match: re.Match[str], names: set[str]) -> Parameter:
    default = _yaml(match["default"], match["name"])
    kind = (match["type"] or "").strip()
    if not kind and isinstance(default, bool | int | float | str):
        kind = type(default).__name__
    if kind.lower() == "list" and isinstance(default, list) and default:
        kind = f"list[{'float' if any(isinstance(entry, float) for entry in default) else type(default[0]).__name__}]"
    comment = (match["comment"] or "").strip()
    parts = _COMMENT.fullmatch(comment)
    clauses = tuple(re.findall(f"(?<=, ){_CLAUSE}", parts["range"])) if parts else ()
    if not all(_understood(clause, kind, names) for clause in clauses):
        parts, clauses = None, ()  # "at most half of the length": words, not a range
    bare = Parameter(match["name"], kind, None, parts["meaning"] if parts else comment, clauses)
    return replace(bare, default=bare.convert(default))


def _understood(clause: str, kind: str, names: set[str]) -> bool:
    """Does the clause speak of such a type, and only of parameters that exist?"""
    if _kind(clause) in ("text", "one of"):
        return True
    words = set(re.findall(r"[A-Za-z_]\w*", clause)) - _WORDS
    numbers = kind in ("int", "float") or re.fullmatch(r"[Ll]ist\[(int|float)\]", kind) is not None
    return numbers and all(word in names for word in words if not re.fullmatch(r"e\d*", word))


def _yaml(text: str, name: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"{name} cannot be read: {text!r}") from None


def _from_text(text: str, kind: str) -> object:
    """A number or truth value where the text is one, else the text. YAML would read 010 as 8 and
    1e-4 as text.
    """
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    if re.fullmatch(r"[+-]?\d{1,300}", text):
        return int(text)
    if kind == "float" and re.fullmatch(_NUMBER, text):
        return float(text)
    return {"inf": math.inf, ".inf": math.inf, "-inf": -math.inf, "-.inf": -math.inf}.get(
        text, text
    )


# ---- clauses of a range


def _end(text: str, values: Values) -> float:
    return float(text) if re.fullmatch(rf"{_NUMBER}|-?inf", text) else values[text]


def _interval(value: Any, clause: str, values: Values) -> bool:
    low, high = (_end(text, values) for text in clause[4:-1].split(", "))
    above = value > low if clause[3] == "(" else value >= low
    return above and (value < high if clause[-1] == ")" else value <= high)


def _between(value: Any, clause: str, values: Values) -> bool:
    *first, low, high = re.findall(_NUMBER, clause)
    return float(low) <= value <= float(high) and all(_is_power(value, int(base)) for base in first)


def _compare(value: Any, clause: str, values: Values) -> bool:
    words, end = clause[:-1].rsplit(" ", 1)[0], _end(clause.rsplit(" ", 1)[1], values)
    return {
        "at least": value >= end,
        "at most": value <= end,
        "more than": value > end,
        "less than": value < end,
    }[words]


def _whole(value: Any, clause: str, values: Values) -> bool:
    if clause in ("even", "odd"):
        return value % 2 == (clause == "odd")
    return _is_power(value, int(clause.split()[-1]))


def _is_power(value: Any, base: int) -> bool:
    while value > 1 and value % base == 0:
        value //= base
    return value == 1


def _any(value: Any, clause: str, values: Values) -> bool:
    sign = {"non-negative": value >= 0, "positive": value > 0}.get(clause.split()[1], True)
    return sign and (clause.endswith("number") or value == int(value))


def _one_of(value: Any, clause: str, values: Values) -> bool:
    choices = re.split(r", (?:or )?| or ", clause.removeprefix("one of "))
    return str(value) in choices or (
        not isinstance(value, str) and any(_same(value, choice) for choice in choices)
    )


def _same(value: Any, text: str) -> bool:
    return bool(re.fullmatch(_NUMBER, text)) and float(text) == value


_TESTS: dict[str, Callable[[Any, str, Values], bool]] = {
    "interval": _interval,
    "between": _between,
    "compare": _compare,
    "whole": _whole,
    "any": _any,
    "text": lambda *_: True,
    "one of": _one_of,
}


def _kind(clause: str) -> str:
    kinds = zip(_TESTS, _CLAUSES, strict=True)
    return next(kind for kind, pattern in kinds if re.fullmatch(f"(?:each )?(?:{pattern})", clause))


def _spoken(clause: str, values: Values) -> str:
    """The clause with the values of the parameters that it names."""
    return re.sub(
        r"(?<!at )\b[A-Za-z_]\w*",
        lambda word: f"{word[0]} ({values[word[0]]})" if word[0] in values else word[0],
        clause,
    )
