"""Logs that are no text: W&B's run files, TensorBoard's event files, trackio's database.

SQLite is in the standard library. The messages of the other two are read by the packages that
define them (extra ``binary``).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from rlvrlib.practice.records import MAX_LINE, Notes, Record, Row, json_value

_CUT = "the file is cut off or damaged: the rows before that place were read"


def _needs(module: str, what: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise ValueError(
            f"{what} need the package {package}: pip install 'rlvrlib[binary]', or export the run "
            "as CSV"
        ) from None


# ---- TensorBoard


def is_tensorboard(head: bytes) -> bool:
    """An event file: a length, its checksum, and an event that names its version."""
    return len(head) > 24 and b"brain.Event:" in head[12:64]


def tensorboard_records(path: Path, notes: Notes) -> Iterator[Record]:
    """A row for every scalar."""
    loaders = "tensorboard.backend.event_processing.event_file_loader"
    loader = _needs(loaders, "TensorBoard's event files").EventFileLoader(str(path))
    tensor_util = import_module("tensorboard.util.tensor_util")
    whole, events = _whole_events(path), 0
    try:
        for event in loader.Load():
            events += 1
            for value in event.summary.value if event.HasField("summary") else ():
                tensor = value.tensor if value.HasField("tensor") else None
                if tensor is not None and not tensor.tensor_shape.dim and tensor.dtype < 4:
                    number = float(tensor_util.make_ndarray(tensor))
                    yield Record("TensorBoard event file", {value.tag: number, "step": event.step})
    except Exception as error:  # of the reader: its kinds are its own
        notes.add(1, f"{_CUT} ({type(error).__name__})", counted=False)
    else:
        notes.add(int(events != whole), _CUT, counted=False)


def _whole_events(path: Path) -> float:
    """How many events the file holds by their lengths, half a one where the last is not whole: the
    reader says nothing of those that it leaves out.
    """
    size, place, count = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        while place + 12 <= size:
            file.seek(place)
            place, count = place + struct.unpack("<Q", file.read(8))[0] + 16, count + 1
    return count if place == size else count - 0.5


# ---- W&B


def is_wandb(head: bytes) -> bool:
    """The identifier of a W&B run file."""
    return head.startswith(b":W&B")


def wandb_records(path: Path, notes: Notes) -> Iterator[Record]:
    """A row for every step of the history."""
    messages = _needs("wandb.proto.wandb_internal_pb2", "W&B's run files")
    with path.open("rb") as file:
        for data in _blocks(file, notes):
            record = messages.Record()
            try:
                record.ParseFromString(data)
            except Exception as error:  # protobuf's kind depends on its version
                notes.add(1, f"{_CUT} ({type(error).__name__})", counted=False)
                return
            if record.HasField("history"):
                row: Row = {}
                for item in record.history.item:
                    key = "/".join(item.nested_key) or item.key
                    row[key] = json_value(item.value_json)
                yield Record("W&B run file", row)


def _blocks(file: BinaryIO, notes: Notes) -> Iterator[bytes]:
    """The records of a log of LevelDB's form: blocks of 32 KiB, pieces with a head of 7 bytes."""
    block, place, whole = 1 << 15, file.seek(7), b""
    while True:
        if (left := block - place % block) < 7:
            file.seek(left, 1)
            place += left
        head = file.read(7)
        if not head.strip(b"\0"):
            return
        if len(head) < 7:
            break
        checksum, length, kind = struct.unpack("<IHB", head)
        piece = file.read(length)
        place += 7 + length
        if len(piece) < length or checksum != zlib.crc32(piece, zlib.crc32(head[6:])):
            break
        whole = piece if kind in (1, 2) else whole + piece  # whole, first; middle, last
        if kind in (1, 4):
            yield whole
        if len(whole) > 64 * MAX_LINE:
            break
    notes.add(1, _CUT, counted=False)


# ---- trackio


def is_sqlite(head: bytes) -> bool:
    """The identifier of an SQLite database."""
    return head.startswith(b"SQLite format 3\0")


def trackio_records(path: Path, notes: Notes) -> Iterator[Record]:
    """A row for every logged one; the runs of the project by their names."""
    sqlite3 = import_module("sqlite3")  # a browser's Python does without it
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            query = "select run_name, step, metrics from metrics order by id"
            for run, step, metrics in database.execute(query):
                row = json_value(metrics)
                if isinstance(row, dict):
                    yield Record("trackio database", {"_step": step} | row, str(run))
                else:
                    notes.add(1, "values of the history that are no JSON skipped")
    except sqlite3.Error as error:
        raise ValueError(
            f"an SQLite file must be trackio's, with a table 'metrics', got {path.name!r}: {error}"
        ) from None
