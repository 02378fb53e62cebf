"""The formats of trainers' logs: a file to records.

``FORMATS`` is the list: a new format is an entry here, or, where it is a form of lines, in
`text_formats`; the help of the command and the book take their lists from it. Nothing of a log is
evaluated. Lines and documents are bounded in size, so that no file can exhaust the memory.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from rlvrlib.practice import binary_formats as binary
from rlvrlib.practice import records, text_formats
from rlvrlib.practice.records import Notes, Record, Row, json_value
from rlvrlib.practice.text_formats import LINES, dictionary_row

_HEAD = 1 << 16
_SPACE = codecs.BOM_UTF8 + b" \t\r\n"
# Ends of lines that only Unicode knows.
_BETWEEN_ROWS = re.compile(r"(?<=\})[\x1e\x85\u2028\u2029](?=\{)")


@dataclass(frozen=True)
class Format:
    """A form of files: its name, who writes it, whether a file is one by its first bytes, and its
    records.
    """

    name: str
    trainers: tuple[str, ...]
    recognizes: Callable[[bytes], bool]
    records: Callable[[Path, Notes], Iterator[Record]]


def read_records(path: Path, notes: Notes) -> Iterator[Record]:
    """The records of a log of any known format. What is skipped goes into ``notes``.

    Raises
    ------
    ValueError : no such file, an empty one, one that is no log, or a JSON document above
        ``MAX_DOCUMENT`` bytes.
    """
    try:
        form = format_of(path)
        if form is None:
            raise ValueError("the log must not be empty: there is no line to read")
        yield from form.records(path, notes)
    except OSError as error:
        raise ValueError(
            f"path must name a readable file, got {str(path)!r}: {error.strerror}"
        ) from error


def format_of(path: Path) -> Format | None:
    """The format of a file by its first bytes; None while there are none."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return next(form for form in FORMATS if form.recognizes(head)) if head.strip(_SPACE) else None


# ---- text


def _lines(path: Path, notes: Notes, opened: Callable[..., Any] = open) -> Iterator[str]:
    """Lines of bounded length; longer ones are skipped without being held in memory. A carriage
    return ends a line too.
    """
    with opened(path, "rb") as file:
        wide = file.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        notes.add(int(wide), "the file is UTF-16 and was read as such", counted=False)
        encoding = "utf-16" if wide else "utf-8-sig"
        decoded = io.TextIOWrapper(file, encoding, "replace", newline=None)
        too_long = False
        while line := decoded.readline(records.MAX_LINE):
            whole = line.endswith("\n")
            if too_long or (len(line) >= records.MAX_LINE and not whole):
                notes.add(int(not too_long), f"lines longer than {records.MAX_LINE} bytes skipped")
                too_long = not whole
                continue
            if "\ufffd" in line:
                notes.add(line.count("\ufffd"), "characters that are not UTF-8 replaced")
            yield from _BETWEEN_ROWS.split(line)


def text(path: Path, notes: Notes, opened: Callable[..., Any] = open) -> Iterator[Record]:
    """The records of a text, line by line, as far as it has been written."""
    return text_formats.text_records(_lines(path, notes, opened), notes)


_MOST_UNPACKED = 1 << 32


def _packed(path: Path, notes: Notes) -> Iterator[Record]:
    """A log as gzip packs it; a cut one gives what is whole."""

    def lines() -> Iterator[str]:
        left = _MOST_UNPACKED
        try:
            for line in _lines(path, notes, gzip.open):
                if (left := left - len(line)) < 0:
                    raise ValueError(
                        f"a packed log must hold less than {_MOST_UNPACKED >> 30} GB, got more in "
                        f"{path.name!r}: unpack it, and keep its rows"
                    )
                yield line
        except (EOFError, gzip.BadGzipFile, zlib.error):
            notes.add(
                1,
                "the packed file is cut off or damaged: the lines before that were read",
                counted=False,
            )

    return text_formats.text_records(lines(), notes)


def _is_packed(head: bytes) -> bool:
    return head.startswith(b"\x1f\x8b\x08")


def _is_binary(head: bytes) -> bool:
    """Bytes that no text has. A log may hold a few, where a machine went down."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return False
    odd = head.translate(None, bytes({*range(32, 256), 7, 8, 9, 10, 11, 12, 13, 27}))
    return head.startswith((b"\x1f\x8b", b"PK\x03\x04")) or 20 * len(odd) > len(head)


def _refuse(path: Path, notes: Notes) -> Iterator[Record]:
    raise ValueError(
        f"a log must be one of: {', '.join(form.name for form in FORMATS if form.trainers)}; "
        f"got {path.name!r}, which is a binary file of another kind (unpack it, if it is packed)"
    )


# ---- JSON documents

_DOCUMENT = "JSON document"
_OPENS = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\{|\[\s*(?:[{\[]|$))")


def _is_document(head: bytes) -> bool:
    """JSON that is not one dictionary a line."""
    if not _OPENS.match(head):
        return False
    first, newline, rest = head.lstrip(_SPACE).partition(b"\n")
    return not (newline and rest.strip() and dictionary_row(first.decode("utf-8", "replace")))


def _document(path: Path, notes: Notes) -> Iterator[Record]:
    """An array of rows, an object that holds one, or an object of columns. A cut one gives what is
    whole; what is no JSON is read line by line.
    """
    whole = _whole(path, notes)
    if whole is None:
        yield from text(path, notes)
        return
    start = whole.find("[", max(whole.find('"log_history"'), whole.find('"history"'), 0))
    if (value := json_value(whole)) is not None:
        lists = list(_lists_of_rows(value))
        rows = max(lists, key=len, default=[])
        others = sum(len(other) > 1 for other in lists if other is not rows)
        notes.add(others, "shorter lists of rows in the document left out")
    elif whole.startswith("[") or '"log_history"' in whole[: 1 << 20]:
        rows = list(_salvage(whole, start + 1))
        notes.add(
            1,
            "the JSON document is cut off or damaged: the rows before that place were read",
            counted=False,
        )
    else:
        yield from text(path, notes)
        return
    kept = [row for row in rows if isinstance(row, dict)]
    notes.add(len(rows) - len(kept), "entries of the array that are not rows skipped")
    for row in kept:
        yield Record(_DOCUMENT, row)


def _whole(path: Path, notes: Notes) -> str | None:
    """The text of a document; None for a longer file that may still be read by lines."""
    size = path.stat().st_size
    if size <= records.MAX_DOCUMENT:
        data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
        text = data.decode("utf-8", "replace")
        notes.add(text.count("\ufffd"), "characters that are not UTF-8 replaced")
        return text.strip()
    with path.open("rb") as file:
        if b"\n" in file.read(_HEAD):
            return None
    raise ValueError(
        f"a JSON document must be smaller than {records.MAX_DOCUMENT >> 20} MB, "
        f"got {size >> 20} MB: export one row per line"
    )


def _lists_of_rows(value: Any, depth: int = 0) -> Iterator[list[Any]]:
    """The lists of rows in a document: arrays of objects, columns of equal length, rows by number,
    TensorBoard's ``[time, step, value]``, or the object itself.
    """
    if isinstance(value, list):
        if value and all(isinstance(row, list) and len(row) == 3 for row in value):
            yield [{"Step": step, "Value": number} for _, step, number in value]
        elif any(isinstance(row, dict) for row in value):
            yield value
    elif isinstance(value, dict) and depth < 5:
        flat = {
            key: column
            for key, column in value.items()
            if isinstance(column, list) and not any(isinstance(e, dict | list) for e in column)
        }
        longest = max(map(len, flat.values()), default=0)
        if longest > 1:
            columns = {key: column for key, column in flat.items() if len(column) == longest}
            rows = zip(*columns.values(), strict=True)
            yield [dict(zip(columns, row, strict=True)) for row in rows]
        inner = [key for key, entry in value.items() if isinstance(entry, dict)]
        if len(inner) > 1 and all(map(str.isdigit, inner)):
            yield [{"step": key, **value[key]} for key in inner]
        else:
            for key, entry in value.items():
                if key not in flat:
                    yield from _lists_of_rows(entry, depth + 1)
        yield [value]


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


# ---- notebooks and pages


class _Tables(HTMLParser):
    """The tables of a page as lines of cells, and its other text as lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.cells = []
        elif tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data.strip()
        else:
            self.lines += data.splitlines()

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            self.lines.append("\t".join(cell.replace("\t", " ") for cell in self.cells))
            self.cells = []


def _page_lines(text: str) -> list[str]:
    tables = _Tables()
    tables.feed(text)
    return tables.lines


def _page(path: Path, notes: Notes) -> Iterator[Record]:
    return text_formats.text_records(_page_lines(_whole(path, notes) or ""), notes)


def _is_page(head: bytes) -> bool:
    return head.lstrip(_SPACE).lower().startswith((b"<!doctype html", b"<html", b"<table", b"<div"))


def _is_notebook(head: bytes) -> bool:
    return head.lstrip(_SPACE)[:1] == b"{" and (b'"cells"' in head or b'"nbformat"' in head)


def _notebook(path: Path, notes: Notes) -> Iterator[Record]:
    """What the cells of a notebook have printed: its tables and its text."""
    value = json_value(_whole(path, notes) or "")
    if not isinstance(value, dict) or not isinstance(value.get("cells"), list):
        raise ValueError(f"a notebook must be whole, got {path.name!r}: export the table as CSV")
    lines: list[str] = []
    for cell in value["cells"]:
        outputs = cell.get("outputs") if isinstance(cell, dict) else None
        for output in outputs if isinstance(outputs, list) else ():
            if isinstance(output, dict):
                data = output.get("data")
                data = data if isinstance(data, dict) else {}
                if "text/html" in data:
                    lines += ["", *_page_lines(_joined(data["text/html"]))]
                else:
                    text = data.get("text/plain", output.get("text", ""))
                    lines += _joined(text).replace("\r", "\n").splitlines()
    yield from text_formats.text_records(lines, notes)


def _joined(text: Any) -> str:
    return "".join(map(str, text)) if isinstance(text, list) else str(text)


# ---- all of them, in the order in which they are tried

FORMATS = (
    Format("W&B run file (.wandb)", ("W&B",), binary.is_wandb, binary.wandb_records),
    Format("trackio database", ("trackio", "TRL"), binary.is_sqlite, binary.trackio_records),
    Format(
        "TensorBoard event file",
        ("TensorBoard",),
        binary.is_tensorboard,
        binary.tensorboard_records,
    ),
    Format("packed text (.gz)", (), _is_packed, _packed),
    Format("other binary file", (), _is_binary, _refuse),
    Format("Jupyter notebook", ("TRL", "Unsloth"), _is_notebook, _notebook),
    Format("web page with tables", ("TRL", "Unsloth"), _is_page, _page),
    Format(_DOCUMENT, ("TRL", "W&B"), _is_document, _document),
    Format(
        "text",
        tuple(dict.fromkeys(t for form in LINES for t in form.trainers)),
        lambda _: True,
        text,
    ),
)


def known_formats() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Names of all formats and who writes them, the most common first."""
    files = [form for form in reversed(FORMATS) if form.trainers and form.name != "text"]
    lines = [(form.name, form.trainers) for form in LINES]
    return (*lines, *((form.name, form.trainers) for form in files))
