"""What every reader of a log gives: records, and notes of what was skipped; and the record of a
diagnosis for scripts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

Row = dict[str, Any]

MAX_LINE, MAX_DOCUMENT = 1 << 20, 1 << 28
RECORD_VERSION = 1  # of a diagnosis for scripts: grows when a key changes its meaning or goes


class Record(NamedTuple):
    """One row of a log.

    Attributes
    ----------
    form : the format that it was read in; rows of different formats are never mixed.
    row : from key to value.
    run : the run it belongs to, where a file holds several by name.
    stream : what is interleaved within a run, such as ranks, or rollout and step lines.
    """

    form: str
    row: Row
    run: str = ""
    stream: str = ""


class Notes:
    """Counts of what happened, in the order in which it first did."""

    def __init__(self, texts: Iterable[str] = ()):
        self.counts: dict[str, int | None] = dict.fromkeys(texts)

    def add(self, count: int, text: str, *, counted: bool = True) -> None:
        if count:
            self.counts[text] = (self.counts.get(text) or 0) + count if counted else None

    def copy(self) -> Notes:
        found = Notes()
        found.counts = dict(self.counts)
        return found

    def texts(self) -> list[str]:
        return [
            text if count is None else f"{text}: {count}" for text, count in self.counts.items()
        ]


def json_value(text: str) -> Any:
    """The value, or None where it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def printable(text: object, length: int = 200) -> str:
    """A text of a log in one line, cut, without control characters: none reaches a terminal."""
    line = " ".join(str(text)[:length].split())
    return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)


def some(names: Iterable[object], count: int = 12) -> str:
    """A few names, cut to a readable length, for a message."""
    shown = [repr(str(name)[:60]) for name in names]
    more = f" and {len(shown) - count} more" if len(shown) > count else ""
    return ", ".join(shown[:count]) + more


def failed_record(file: str, error: str) -> dict[str, Any]:
    """What `Diagnosis.record` is for a log that could not be read: the same keys, and the error."""
    nothing = ("format", "steps", "verdict", "headline", "warning", "halved", "pressure")
    lists = ("for", "against", "notices", "advice", "notes")
    return {
        "version": RECORD_VERSION,
        "file": file,
        "status": 2,
        "error": error,
        "rows": 0,
        "rows_with_reward": 0,
        **dict.fromkeys(nothing),
        **{key: [] for key in lists},
    }
