"""What the book's diagnosis says of the museum's logs.

    RLVR_LOGS=FOLDER python measurements/museum.py

Every entry of book/museum.yml with a log is read from the folder, if its SHA-256 is that of the
entry, and diagnosed; notebooks/data/museum/diagnosed.csv gets one line for each. The line of a log
that is not there stays as it is.
"""

from __future__ import annotations

import csv
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import yaml

from rlvrlib.practice.diagnosis import diagnose
from rlvrlib.practice.run_log import read_log

ROOT = Path(__file__).resolve().parent.parent
ENTRIES = ROOT / "book" / "museum.yml"
TABLE = ROOT / "notebooks" / "data" / "museum" / "diagnosed.csv"


def entries() -> list[dict[str, str]]:
    """The entries that have a log."""
    return [entry for entry in yaml.safe_load(ENTRIES.read_text("utf-8")) if "log" in entry]


def diagnosed(entry: dict[str, str], folder: Path) -> dict[str, Any]:
    """The line of one entry.

    Raises
    ------
    ValueError : another file than the one that the entry names.
    """
    path = folder / entry["log"]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != entry["sha256"]:
        raise ValueError(f"sha256 of {path} must be {entry['sha256']}, got {found}")
    record = diagnose(read_log(path)).record()
    kept = {name: record[name] for name in ("verdict", "rows", "warning", "halved")}
    notices = "; ".join(record["notices"])
    return {"name": entry["name"], "sha256": found, **kept, "notices": notices}


def known() -> dict[str, dict[str, str]]:
    """The lines that are there, by name."""
    if not TABLE.is_file():
        return {}
    lines = csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines())
    return {line["name"]: line for line in lines}


def main() -> int:
    folder, before = Path(os.environ.get("RLVR_LOGS", "")), known()
    lines: list[dict[str, Any]] = []
    for entry in entries():
        if (folder / entry["log"]).is_file():
            lines.append(diagnosed(entry, folder))
        elif entry["name"] in before:
            lines.append(before[entry["name"]])
        else:
            print(f"{entry['name']}: no log in RLVR_LOGS", file=sys.stderr)
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
