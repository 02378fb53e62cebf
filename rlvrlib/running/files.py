"""Files that appear whole or not at all, in place of nothing that is the reader's."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from pathlib import Path

# What a page, an executed notebook and a table of these commands begin with or hold.
PAGE = '<meta name="generator" content="rlvr">'
NOTEBOOK = '"generator": "rlvr"'
TABLE = "point,"


def refuse_to_lose(
    path: Path, mark: str, inputs: Iterable[Path] = (), *, force: bool = False
) -> None:
    """Check, before anything is computed, that a file may be written.

    Parameters
    ----------
    mark : a text that is in what these commands write here.
    inputs : files that the command reads.
    force : whether a link, or a file of somebody else's, may be replaced.

    Raises
    ------
    ValueError : the path is one of the inputs, or no file, such as a device or a folder; or,
        without ``force``, a link, or a file without the mark that is not empty.
    OSError : the file could not be read.
    """
    if not path.exists() and not path.is_symlink():
        return
    if any(one.exists() and path.exists() and path.samefile(one) for one in inputs):
        raise ValueError(f"{str(path)!r} is what the command reads: choose another name")
    if path.exists() and not path.is_file():
        raise ValueError(f"{str(path)!r} must be a file to write, and is a folder or a device")
    if force:
        return
    if path.is_symlink():
        raise ValueError(f"{str(path)!r} is a link: name its target, or replace it with --force")
    if path.stat().st_size and not _holds(path, mark.encode()):
        raise ValueError(
            f"{str(path)!r} is there and was not written by this command: choose another name, or "
            "replace it with --force"
        )


def _holds(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(mark) >= 0


def write_whole(path: Path, text: str) -> None:
    """Write a file under a temporary name and rename it, so that nobody meets half of it. The
    permissions of an older one stay.

    Raises
    ------
    OSError : it could not be written; then the old file, if any, is still there and nothing is left
        over.
    """
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            if path.is_file():
                part.chmod(path.stat().st_mode & 0o7777)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
