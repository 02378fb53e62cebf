"""The wrong lines that were planted in the theory, and which rows of claims noticed each.

``{planted-summary}`` says how many were noticed, ``{planted-errors}`` lists them. Both read
``notebooks/data/planted_errors``, which ``measurements/planted_errors.py`` wrote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docutils import nodes
from sources import planted_errors
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from writing import table

SHOWN = 3  # rows that are named, of those that notice one error
OUTCOMES = ("A prediction fails", "A notebook stops", "Nothing notices", "Not tried everywhere")
SIDES = {
    "unsafe": "make a step too long or a bound too small",
    "safe": "make steps too short or bounds too large, which breaks no guarantee",
    "neither": "leave every guarantee as it is",
    "unknown": "may be on any side, which was not computed",
}


class PlantedSummary(SphinxDirective):
    """How many wrong lines there are on each side, and how many of them were noticed."""

    def run(self) -> list[nodes.Node]:
        errors = _read(self.env)
        judged = [error for error in errors if not error["note"]]
        rows = [["Wrong lines", "Planted", *OUTCOMES]]
        for side, what in SIDES.items():
            found = [error for error in judged if error["side"] == side]
            if found or side != "unknown":
                rows.append([f"that {what} ({side})", *_counts(found)])
        rows.append(["all", *_counts(judged)])
        notes = Counter(error["note"] for error in errors if error["note"])
        said = "; ".join(f"{count}: {note}" for note, count in notes.items())
        left_out = f"Not counted are {sum(notes.values())} of {len(errors)}. {said}."
        shown = [nodes.paragraph("", left_out)] * bool(notes)
        return [table(rows[0], rows[1:]), *shown]


class PlantedErrors(SphinxDirective):
    """Each wrong line: where, what it says in place of what, its side, and the rows that fail."""

    def run(self) -> list[nodes.Node]:
        columns = {"Where": 14, "Right": 26, "Wrong": 26, "Side": 6, "Noticed by": 28}
        body = [
            [
                f"{error['module']}.{error['function']}",
                *map(_code, _difference(error["before"], error["after"])),
                error["side"],
                _notice(error),
            ]
            for error in _read(self.env)
        ]
        return [table(columns, body, "planted-errors")]


def _read(env: BuildEnvironment) -> list[dict[str, str]]:
    source = Path(env.srcdir)
    for path in (source / "notebooks" / "data" / "planted_errors").glob("*.csv"):
        env.note_dependency(str(path))
    return planted_errors(source)


def _counts(errors: Iterable[dict[str, str]]) -> list[str]:
    found = list(errors)
    failed = sum(bool(error["failed"]) for error in found)
    stopped = sum(bool(error["stopped"]) and not error["failed"] for error in found)
    silent = [error for error in found if not error["failed"] + error["stopped"]]
    tried = sum(error["left"] == "0" for error in silent)
    return [str(n) for n in (len(found), failed, stopped, tried, len(silent) - tried)]


def _notice(error: dict[str, str]) -> str:
    """The first rows that fail and how many there are, or the notebooks that stop, or why none."""
    found = error["failed"].split()
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        return ", ".join(found[:SHOWN]) + more
    if error["stopped"]:
        return f"stops: {', '.join(error['stopped'].split()[:SHOWN])}"
    return error["note"] or ("nothing" if error["left"] == "0" else "nothing so far")


def _difference(before: str, after: str, around: int = 24) -> list[str]:
    """The two texts without what they share far from the difference."""
    start = next(
        (i for i, pair in enumerate(zip(before, after, strict=False)) if len({*pair}) > 1),
        min(len(before), len(after)),
    )
    room = min(len(before), len(after)) - start
    end = next((i for i in range(room) if before[-1 - i] != after[-1 - i]), room)
    first, last = max(start - around, 0), max(end - around, 0)
    return [
        ("…" if first else "") + text[first : len(text) - last] + ("…" if last else "")
        for text in (before, after)
    ]


def _code(text: str) -> list[nodes.Node]:
    return [nodes.literal("", text)]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("planted-summary", PlantedSummary)
    app.add_directive("planted-errors", PlantedErrors)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
