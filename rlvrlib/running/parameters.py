"""The parameters of a notebook: read from its cell, and checked before anything runs.

A line of the cell tagged ``parameters`` is ``name: type = value  # meaning, range``. Types are
``int``, ``float``, ``bool``, ``str`` and ``list[...]`` of one of them. The range is one or more of
these clauses, each after a comma:

================================  ==============================================
``from 2 to 50``                  both ends included
``in (0, 1]``                     an interval; an end may be ``inf``
``even``
``any non-negative integer``
``one of grpo, dr_grpo or dapo``  one of these texts or numbers
``any text``                      no limit
================================  ==============================================

A note may follow in parentheses or after a semicolon or colon. In a list the range holds for every
entry. Nothing is evaluated: values are read as YAML scalars.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from rlvrlib.checks import shown

LINE = re.compile(
    r"(?P<name>[A-Za-z_]\w*)\s*(?::\s*(?P<type>[^=#]+?))?\s*=\s*(?P<value>.+?)"
    r"\s*(?:\s#\s*(?P<comment>.*))?"
)
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_END = rf"(?:{_NUMBER}|-?inf)"
_CLAUSE = (
    rf"(?:from {_NUMBER} to {_NUMBER}|in [(\[]{_END}, {_END}[)\]]|even|any non-negative integer"
    r"|one of [^;:()]+|any text)"
)
_COMMENT = re.compile(rf"(?P<meaning>.*?)(?P<range>(?:, {_CLAUSE})+)(?: \(.*\))?(?:[;:] .*)?")
_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
_TYPES: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str}


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

    @property
    def choices(self) -> list[Any]:
        """The values of a range ``one of ...``; empty for another."""
        texts = [text[len("one of ") :] for text in self.clauses if text.startswith("one of ")]
        split = re.compile(", (?:or )?| or ").split
        return [self._scalar(choice) for text in texts for choice in split(text)]

    def convert(self, value: object) -> Any:
        """The value in the parameter's type; texts (from a command line, or YAML's ``1e-4``) are
        read as that type.

        Raises
        ------
        ValueError : it is not of that type, or not finite.
        """
        if self.type == self._entry_type:
            return self._scalar(value)
        entries = _yaml(value, self.name) if isinstance(value, str) else value
        if not isinstance(entries, list):
            raise ValueError(f"{self.name} must be a list such as [1, 2], got {shown(value)}")
        return [self._scalar(entry) for entry in entries]

    def check(self, value: Any) -> None:
        """Compare a value of the parameter's type with the range.

        Raises
        ------
        ValueError : the value is out of range.
        """
        for entry in value if isinstance(value, list) else [value]:
            for clause in self.clauses:
                if not self._allows(clause, entry):
                    raise ValueError(
                        f"{self.name} must be {clause}, got {shown(entry)} ({self.meaning})"
                    )

    @property
    def _entry_type(self) -> str:
        return re.sub(r"[Ll]ist\[(\w+)\]", r"\1", self.type)

    def _scalar(self, value: Any) -> Any:
        kind = self._entry_type
        if isinstance(value, str) and kind in ("int", "float", "bool"):
            value = _from_text(value, kind)
        number = kind in ("int", "float")
        if kind in _TYPES and (
            not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and number)
        ):
            raise ValueError(f"{self.name} must be {_WORDS[kind]} ({kind}), got {shown(value)}")
        try:
            if number and not math.isfinite(value):
                raise OverflowError
        except OverflowError:  # of an integer that is no float, too
            raise ValueError(f"{self.name} must be finite, got {shown(value)}") from None
        return float(value) if kind == "float" else value

    def _allows(self, clause: str, value: Any) -> bool:
        if clause.startswith("one of"):
            return value in self.choices
        if clause == "any text":
            return True
        if clause == "even":
            return value % 2 == 0
        if clause == "any non-negative integer":
            return value >= 0
        low, high = map(float, re.findall(_END, clause))
        above = value > low if "(" in clause else value >= low
        return above and (value < high if ")" in clause else value <= high)

    def _understands(self, clause: str) -> bool:
        """Does the clause speak of values of this type?"""
        if clause.startswith("one of"):
            try:
                return bool(replace(self, clauses=(clause,)).choices)
            except ValueError:
                return False
        return self._entry_type in (("str",) if clause == "any text" else ("int", "float"))


def read(source: str) -> dict[str, Parameter]:
    """The parameters of a cell, in order. Lines of another form declare none.

    Raises
    ------
    ValueError : a default is not of the annotated type.
    """
    matches = [match for line in source.splitlines() if (match := LINE.fullmatch(line.strip()))]
    return {match["name"]: _parameter(match) for match in matches}


def cell_source(notebook: Mapping[str, Any], tag: str = "parameters") -> str:
    """The source of the notebook's cells with this tag."""
    cells = [cell for cell in notebook["cells"] if tag in cell["metadata"].get("tags", [])]
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
    values = {name: parameters[name].convert(value) for name, value in given.items()}
    for name, value in values.items():
        parameters[name].check(value)
    return values


def unchecked(names: Iterable[str], parameters: Mapping[str, Parameter]) -> list[str]:
    """Those of the names whose comment has no range that is read; true or false needs none."""
    return [
        name for name in names if not parameters[name].clauses and parameters[name].type != "bool"
    ]


def _parameter(match: re.Match[str]) -> Parameter:
    default = _yaml(match["value"], match["name"])
    kind = match["type"] or ""
    if not kind and isinstance(default, bool | int | float | str):
        kind = type(default).__name__
    if kind.lower() == "list" and isinstance(default, list) and default:
        floats = any(isinstance(entry, float) for entry in default)
        kind = f"list[{'float' if floats else type(default[0]).__name__}]"
    comment = (match["comment"] or "").strip()
    bare = Parameter(match["name"], kind, None, comment, ())
    bare = replace(bare, default=bare.convert(default))
    if parts := _COMMENT.fullmatch(comment):
        clauses = re.findall(f"(?<=, ){_CLAUSE}", parts["range"])
        if all(bare._understands(clause) for clause in clauses):
            return replace(bare, meaning=parts["meaning"], clauses=tuple(clauses))
    return bare


def _yaml(text: str, name: str) -> object:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        raise ValueError(f"{name} cannot be read: {shown(text)}") from None


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
