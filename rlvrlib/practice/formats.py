"""The formats of trainers' logs: bytes to rows, a row being a dictionary from key to value.

Nothing of a log is evaluated. Lines and documents are bounded in size, so that no file can exhaust
the memory.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

MAX_LINE, MAX_DOCUMENT = 1 << 20, 1 << 28
_PAIR = re.compile(
    r"""(?P<quote>['"])(?P<key>[^'"]{1,200})(?P=quote)\s*:\s*"""
    r"""(?P<value>'[^']*'|"[^"]*"|[^,{}\[\]]+)"""
)
_VERL = re.compile(r"(?:^|\s)step:\d+ - \S")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

Row = dict[str, Any]


class Notes:
    """Counts of what happened, in the order in which it first did."""

    def __init__(self, texts: Iterable[str] = ()):
        self.counts: dict[str, int | None] = dict.fromkeys(texts)

    def add(self, count: int, text: str, *, counted: bool = True) -> None:
        if count:
            self.counts[text] = (self.counts.get(text) or 0) + count if counted else None

    def texts(self) -> list[str]:
        return [
            text if count is None else f"{text}: {count}" for text, count in self.counts.items()
        ]


def read_rows(path: Path, notes: Notes) -> tuple[str, list[Row]]:
    """The format of a file and its rows. What is skipped goes into ``notes``.

    Raises
    ------
    ValueError : no such file, an empty one, or a JSON document above ``MAX_DOCUMENT`` bytes.
    """
    try:
        with path.open("rb") as file:
            head, size = file.read(1 << 16), path.stat().st_size
            file.seek(0)
            if (
                head.lstrip(codecs.BOM_UTF8 + b" \t\r\n")[:1] in (b"[", b"{")
                and size <= MAX_DOCUMENT
            ):
                lines: Iterator[str] = io.StringIO(
                    _text(file.read(), notes)
                )  # a document may stand in one line
            else:
                lines = _lines(file, head, notes)
            form, rows = _rows(lines, size, notes)
            return form, list(rows)
    except OSError as error:
        raise ValueError(
            f"path must name a readable file, got {str(path)!r}: {error.strerror}"
        ) from error


def _lines(file: Any, head: bytes, notes: Notes) -> Iterator[str]:
    """Lines of bounded length as text. Longer ones are skipped without being held in memory."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        notes.add(1, "the file is UTF-16 and was read as such", counted=False)
        file = codecs.getreader("utf-16")(file, "replace")
    too_long = False
    while chunk := file.readline(MAX_LINE):
        text = _text(chunk, notes) if isinstance(chunk, bytes) else chunk
        whole = text.endswith("\n")
        if too_long or (len(chunk) >= MAX_LINE and not whole):
            notes.add(int(not too_long), f"lines longer than {MAX_LINE} bytes skipped")
            too_long = not whole
            continue
        yield text


def _text(data: bytes, notes: Notes) -> str:
    text = data.decode("utf-8", errors="replace")
    if "\ufffd" in text:
        notes.add(text.count("\ufffd"), "characters that are not UTF-8 replaced")
    return text.removeprefix("\ufeff")


def _rows(lines: Iterator[str], size: int, notes: Notes) -> tuple[str, Iterable[Row]]:
    """The format, by its first lines, and the rows."""
    first = next((line for line in lines if line.strip()), "")
    start = first.lstrip()[:1]
    if not first:
        raise ValueError(
            "the log must not be empty: there is no line to read "
            f"{'; '.join(notes.texts())}".strip()
        )
    whole = _object(first) if start in ("[", "{") else None
    if (start in ("[", "{") and whole is None and not _PAIR.search(first)) or first.strip() in (
        "[",
        "{",
    ):
        return _document(first, lines, size, notes)
    if isinstance(whole, dict) and "log_history" in whole:
        return "TRL trainer state", _dictionaries(whole["log_history"], notes)
    if isinstance(whole, list):
        return "JSON array", _dictionaries(whole, notes)
    delimiter = max(",\t;", key=first.count)
    if start != "{" and delimiter in first and not _VERL.search(first) and not _PAIR.search(first):
        return "CSV", _csv(first, lines, delimiter, notes)
    return "lines", _line_rows([first], lines, notes)


def _document(
    first: str, lines: Iterator[str], size: int, notes: Notes
) -> tuple[str, Iterable[Row]]:
    """A JSON document over several lines: an array of rows, or an object with ``log_history``. A
    cut one gives what is whole.
    """
    if size > MAX_DOCUMENT:
        raise ValueError(
            f"a JSON document must be smaller than {MAX_DOCUMENT >> 20} MB, "
            f"got {size >> 20} MB: export one row per line"
        )
    text = first + "".join(lines)
    whole = _object(text)
    if isinstance(whole, dict):
        if "log_history" in whole:
            return "TRL trainer state", _dictionaries(whole["log_history"], notes)
        return "JSON object", [whole]
    if isinstance(whole, list):
        return "JSON array", _dictionaries(whole, notes)
    history = text.find('"log_history"')
    if text.lstrip().startswith("{") and history < 0:
        return "lines", _line_rows(text.splitlines(), iter(()), notes)
    notes.add(
        1,
        "the JSON document is cut off or damaged: the rows before that place were read",
        counted=False,
    )
    return "JSON, damaged", _salvage(text, text.find("[", max(history, 0)) + 1)


def _salvage(text: str, place: int) -> Iterator[Row]:
    decoder = json.JSONDecoder()
    while True:
        place = next((i for i in range(place, len(text)) if text[i] not in ", \t\r\n"), len(text))
        try:
            row, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return
        if isinstance(row, dict):
            yield row


def _dictionaries(rows: Any, notes: Notes) -> list[Row]:
    rows = rows if isinstance(rows, list) else []
    kept = [row for row in rows if isinstance(row, dict)]
    notes.add(len(rows) - len(kept), "entries of the array that are not rows skipped")
    return kept


def _line_rows(ahead: Iterable[str], lines: Iterator[str], notes: Notes) -> Iterator[Row]:
    """JSON lines, TRL's console dictionaries and verl's console lines, also mixed with other
    output.
    """
    for source in (ahead, lines):
        for line in source:
            row = _line_row(line)
            if row:
                yield row
            elif line.strip():
                notes.add(1, "lines skipped that are no row of a log")


def _line_row(line: str) -> Row | None:
    line = _ANSI.sub("", line).strip()
    whole = _object(line) if line.startswith("{") else None
    if isinstance(whole, dict):
        return whole
    if "step:" in line and (verl := _VERL.search(line)):
        pairs = (part.rpartition(":") for part in line[verl.start() :].strip().split(" - "))
        return {key.strip(): value for key, _, value in pairs if key}
    opening, closing = line.find("{"), line.rfind("}")
    if 0 <= opening < closing:
        plain = line[opening : closing + 1]
        if (
            '"' not in plain
            and "\\" not in plain
            and isinstance(quick := _object(plain.replace("'", '"')), dict)
        ):
            return quick
        return {
            pair["key"]: pair["value"].strip().strip("'\"")
            for pair in _PAIR.finditer(line, opening, closing)
        }
    return None


def _csv(first: str, lines: Iterator[str], delimiter: str, notes: Notes) -> Iterator[Row]:
    header = [name.strip() for name in _cells(first.strip(), delimiter)]
    # One line at a time: an open quote must not swallow the rest of the file.
    for line in lines:
        cells = line.rstrip("\r\n").split(delimiter) if '"' not in line else _cells(line, delimiter)
        if len(cells) == len(header):
            yield {
                name: cell
                for name, cell in zip(header, cells, strict=True)
                if cell and cell.strip()
            }
        elif line.strip():
            notes.add(1, f"lines skipped that do not have the header's {len(header)} cells")


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration):
        return []


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
