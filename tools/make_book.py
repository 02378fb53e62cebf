"""Execute the notebooks that are out of date and build the site: what ``make book`` and ``make
refresh`` run.

Everything is written under ``_build/``; the checkout stays as it is (``--refresh`` alone writes to
``notebooks/``).

    _build/.books/PROFILE/notebooks/   executed notebooks, with their keys, parameters and run times
    _build/.books/PROFILE/source/      what Sphinx reads: book/, notebooks, configuration, facts
    _build/.books/PROFILE/site/        what Sphinx wrote, before it is published
    _build/html, _build/PROFILE/html   the published site, with a PDF that has the same content
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import make_live
from book_execution import BookError, execute_all, read_profile, refresh
from book_site import build_site, current_pdf, provenance, publish, site_key

from rlvrlib.evidence import claims

ROOT = Path(__file__).resolve().parent.parent


def claims_summary(executed: Path) -> tuple[str, int]:
    """The verdicts of all claims in words, and the number of those that fail for no reason that
    their notebook names.
    """
    rows = [
        (path.stem, row)
        for path in sorted(executed.glob("*.ipynb"))
        for row in claims.collect(path)
    ]
    lines = [claims.summary(row for _, row in rows)]
    lines += [
        f"  {row['verdict']}: {stem}:{row['key']} {_reason(row)}"
        for stem, row in rows
        if row["verdict"] in (claims.FAILS, claims.OUTSIDE)
    ]
    return "\n".join(lines), len(claims.unexplained(row for _, row in rows))


def _reason(row: dict[str, object]) -> str:
    predicted = f"predicted {row['relation']} {row['predicted_text']}"
    return f"({predicted}, measured {row['measured_text']}) {row['reason']}".rstrip()


def make_book(
    root: Path,
    profile: str = "default",
    jobs: int | None = None,
    write_back: bool = False,
    requiring: str = "",
) -> int:
    """Execute, build, publish; return the exit status. With ``requiring`` the notebooks that need
    this package are executed, no more.
    """
    parameters = read_profile(root, profile)
    work = root / "_build" / ".books" / profile
    with lock(root / "_build" / ".books"):
        if not execute_all(
            root, work / "notebooks", parameters, jobs or os.cpu_count() or 1, requiring
        ):
            return 1
        if write_back:
            refresh(root, work / "notebooks")
            return 0
        index = "" if requiring else _bring_site_up_to_date(root, profile, work)
    summary, failed = claims_summary(work / "notebooks")
    print(summary)
    if index:
        print(index)
    # Another profile may leave what a statement needs (too few samples, say): there the table says
    # so.
    return 1 if failed and profile == "default" else 0


def _bring_site_up_to_date(root: Path, profile: str, work: Path) -> Path:
    """Build and publish the site where it is out of date; its first page."""
    site = root / "_build" / "html" if profile == "default" else root / "_build" / profile / "html"
    facts = provenance(root, profile, work / "notebooks")
    content, memory = site_key(root, work / "notebooks", facts), work / "site.key"
    (work / "content.key").write_text(content)
    pdf = current_pdf(root, profile, content)
    if pdf:
        facts["pdf"] = pdf.name  # the pages link to it
    key = f"{content} {facts.get('pdf', '')}"
    built = memory.exists() and memory.read_text() == key
    if not built:
        memory.unlink(missing_ok=True)
        start = time.monotonic()
        build_site(root, work, facts)
        print(f"site: built in {time.monotonic() - start:.1f} s")
    plain_build_since = profile == "default" and (root / "_build" / ".doctrees").exists()
    if not built or plain_build_since or not (site / "index.html").exists():
        publish(root, work, site, pdf)
        if make_live.complete(root / make_live.KEPT):
            make_live.add(root, site, root / make_live.KEPT)
        memory.write_text(key)  # last: a run that stops before this builds and publishes again
    return site / "index.html"


class lock:
    """Two builds at once would write the same files: the second waits."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = (folder / "lock").open("w")

    def __enter__(self) -> None:
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self.file.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="default", help="parameters from params/PROFILE.yml")
    parser.add_argument(
        "--jobs", type=int, help="notebooks to execute side by side (default: number of cores)"
    )
    parser.add_argument(
        "--refresh", action="store_true", help="write executed notebooks back instead of building"
    )
    parser.add_argument(
        "--requiring",
        default="",
        metavar="PACKAGE",
        help="execute only notebooks that need this package; build no site",
    )
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.refresh and options.profile != "default":
        parser.error("--refresh writes the default profile only")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` stops as cleanly as Ctrl-C
    return exit_status(
        lambda: make_book(
            options.root.resolve(),
            options.profile,
            options.jobs,
            options.refresh,
            options.requiring,
        )
    )


def exit_status(work: Callable[[], int]) -> int:
    """What ``work`` returns; where it fails or is interrupted, a line that says so and 1 or 130."""
    try:
        return work()
    except BookError as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was kept", file=sys.stderr)
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
