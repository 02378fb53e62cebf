"""Execute the notebooks that are out of date and build the site: what ``make book`` and ``make refresh`` run.

Everything is written under ``_build/``; the checkout stays as it is (``--refresh`` alone writes to ``notebooks/``).

    _build/.books/PROFILE/notebooks/   executed notebooks, each with its key, parameters and run time
    _build/.books/PROFILE/source/      what Sphinx reads: book/, executed notebooks, configuration, provenance
    _build/.books/PROFILE/site/        what Sphinx wrote, before it is published
    _build/html, _build/PROFILE/html   the published site, with the PDF where `make pdf` made one of the same content
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import nbformat
import yaml

from rlvrlib import claims
from rlvrlib.execution import key_of, missing_packages, read_notebook, write_whole
from rlvrlib.parameters import cell_source, checked, read

HERE = Path(__file__).resolve().parent
SOURCES = ("_config.yml", "_toc.yml", "CITATION.cff", "CHANGELOG.md")  # beside book/ and the notebooks
PDF_NAME = "the-safe-step.pdf"
PACKAGES = ("rlvrlib", "numpy", "scipy", "matplotlib", "jupyter-book")

Parameters = dict[str, dict[str, object]]


class BookError(Exception):
    """What the user should read, in one line."""


# ---- parameters ---------------------------------------------------------------------------------------------------


def read_profile(root: Path, profile: str) -> Parameters:
    """Read ``params/PROFILE.yml`` and check every notebook and parameter that it names.

    Raises
    ------
    BookError : no such profile, not a mapping of mappings, or an unknown notebook or parameter.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", profile) or profile == "html":
        raise BookError(f"PROFILE must be lower-case letters, digits, '-' and '_', and not 'html'; got {profile!r}")
    path = root / "params" / f"{profile}.yml"
    if not path.exists():
        if profile == "default":
            return {}
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yml"))) or "none"
        raise BookError(f"no profile params/{profile}.yml (there are: {known})")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise BookError(f"params/{profile}.yml is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not all(isinstance(value, dict) for value in content.values()):
        raise BookError(f"params/{profile}.yml must have the form {{notebook: {{parameter: value}}}}")
    for stem, parameters in content.items():
        source = root / "notebooks" / f"{stem}.ipynb"
        if not source.is_file():
            raise BookError(f"params/{profile}.yml names the notebook {stem!r}; there is no notebooks/{stem}.ipynb")
        try:
            content[stem] = checked(parameters, read(cell_source(read_notebook(source))))
        except ValueError as error:
            raise BookError(f"params/{profile}.yml: {stem}: {error}") from None
    return content


# ---- execution ----------------------------------------------------------------------------------------------------


def execute_all(root: Path, executed: Path, profile: Parameters, jobs: int, requiring: str = "") -> bool:
    """Bring ``executed`` up to date, in parallel; only notebooks that require a package, where one is named. True where all ran."""
    executed.mkdir(parents=True, exist_ok=True)
    sources = sorted((root / "notebooks").glob("*.ipynb"))
    if requiring:
        sources = [path for path in sources if requiring in read_notebook(path).metadata.get("requires", [])]
    _remove_all(executed.glob(".part-*"))  # of a run that was killed
    _remove_all(path for path in executed.glob("*.ipynb") if not (root / "notebooks" / path.name).exists())
    workers: list[Worker] = []
    mine = threading.local()
    stopping = threading.Event()

    def worker() -> Worker:
        """That of this thread; a new one where the last has died."""
        if getattr(mine, "worker", None) is None or mine.worker.poll() is not None:
            mine.worker = Worker()
            workers.append(mine.worker)
            if stopping.is_set():  # too late for the others' end
                mine.worker.terminate()
        return mine.worker

    def bring_up_to_date(source: Path) -> bool:
        target, parameters = executed / source.name, profile.get(source.stem, {})
        notebook = read_notebook(source)
        if missing := missing_packages(notebook):
            shutil.copyfile(source, target)
            print(f"{source.stem}: committed outputs, because {', '.join(missing)} is not installed", flush=True)
            return True
        key = key_of(notebook, parameters, root / "rlvrlib", _inputs(root, notebook))
        if target.exists() and nbformat.read(target, as_version=4).metadata.get("book", {}).get("key") == key:
            print(f"{source.stem}: up to date", flush=True)
            return True
        if stopping.is_set():
            return False
        start = time.monotonic()
        reason = worker().execute({"source": source, "target": target, "key": key, "parameters": parameters})
        seconds = time.monotonic() - start
        if not reason:
            print(f"{source.stem}: executed in {seconds:.1f} s", flush=True)
        elif not stopping.is_set():
            print(f"{source.stem}: FAILED after {seconds:.1f} s in {reason}", file=sys.stderr, flush=True)
        return not reason

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(bring_up_to_date, source) for source in sources]
        try:
            return all([future.result() for future in futures])  # noqa: C419 (a list, so that every notebook is waited for)
        except BaseException:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            _stop(workers)


class Worker(subprocess.Popen[str]):
    """A process that executes one notebook after another: its imports take as long as a small notebook."""

    def __init__(self) -> None:
        self.noise = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the process)
        command = [sys.executable, str(HERE / "execute_notebook.py")]
        super().__init__(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.noise)

    def execute(self, job: dict[str, object]) -> str:
        """Why it failed; empty if it did not."""
        assert self.stdin and self.stdout
        try:
            self.stdin.write(json.dumps(job, default=str) + "\n")
            self.stdin.flush()
            answer = self.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            return str(json.loads(answer))
        self.noise.seek(0)
        return self.noise.read().strip()[-2000:] or f"exit status {self.wait()}"


def _inputs(root: Path, notebook: nbformat.NotebookNode) -> str:
    """What decides the numbers beside the library: locked versions, those of an extra, data files that the metadata names.

    Raises
    ------
    BookError : a data file is missing.
    """
    names = ["requirements.lock", *(["requirements-lm.txt"] if notebook.metadata.get("requires") else [])]
    names += [f"notebooks/{name}" for name in notebook.metadata.get("data", [])]
    try:
        return "".join(hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names)
    except OSError as error:
        raise BookError(f"a notebook needs a file that is missing: {error}") from None


def _stop(processes: Sequence[subprocess.Popen[str]], patience: float = 5) -> None:
    """Ask the processes to end, and end those that do not: a kernel that is just starting swallows the request."""
    for process in processes:
        process.terminate()
    end = time.monotonic() + patience
    for process in processes:
        try:
            process.wait(max(0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def _remove_all(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink()


def cleaned(path: Path) -> nbformat.NotebookNode:
    """An executed notebook without what differs from run to run: times, paths, the exact Python."""
    notebook = nbformat.v4.reads(path.read_text(encoding="utf-8"))  # not validated again: it takes a second for a book
    for name in ("papermill", "book"):
        notebook.metadata.pop(name, None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if not cell.metadata.get("tags", True):  # papermill adds an empty list
            del cell.metadata["tags"]
    return notebook


def refresh(root: Path, executed: Path) -> None:
    """Write the executed notebooks back to ``notebooks/``, where anything differs."""
    for path in sorted(executed.glob("*.ipynb")):
        target = root / "notebooks" / path.name
        text = nbformat.writes(cleaned(path)) + "\n"
        if target.read_text(encoding="utf-8") != text:
            write_whole(target, text)
            print(f"{path.stem}: written back")


# ---- site ---------------------------------------------------------------------------------------------------------


def provenance(root: Path, profile: str, executed: Path) -> dict[str, object]:
    """Where the pages come from. Without times of the build, so that an unchanged book stays unchanged."""
    runs = {path.stem: nbformat.read(path, as_version=4).metadata.get("book", {}) for path in executed.glob("*.ipynb")}
    return {
        "commit": _git(root, "rev-parse", "--short=12", "HEAD") or "unknown",
        "modified": bool(_git(root, "status", "--porcelain", "--", "book", "notebooks", "params", "rlvrlib")),
        "profile": profile,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"Python": sys.version.split()[0]} | {name: version(name) for name in PACKAGES},
        "notebooks": {stem: {k: v for k, v in run.items() if k != "key"} for stem, run in runs.items()},
    }


def _git(root: Path, *arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # a copy without git is a book too
        return ""


def site_key(root: Path, executed: Path, facts: dict[str, object]) -> str:
    """What the site depends on."""
    files = [*(root / name for name in SOURCES), root / "requirements.lock", *HERE.glob("*.py")]
    for folder in (root / "book", root / "benchmarks" / "results", root / "rlvrlib", executed):
        files += [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for path in sorted(files):
        digest.update(str(path).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def build_site(root: Path, work: Path, facts: dict[str, object]) -> None:
    """Stage the sources and run Jupyter Book; every warning is an error.

    Raises
    ------
    BookError : Sphinx warned or failed; its messages have been printed.
    """
    source, site = work / "source", work / "site"
    for folder in (source, site):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "book", source / "book", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copyfile(root / name, source / name)
    if (root / "benchmarks" / "results").is_dir():
        shutil.copytree(root / "benchmarks" / "results", source / "benchmarks" / "results")
    (source / "notebooks").mkdir()
    for path in (work / "notebooks").glob("*.ipynb"):
        nbformat.write(cleaned(path), source / "notebooks" / path.name)
    (source / "provenance.json").write_text(json.dumps(facts, indent=1, default=str), encoding="utf-8")
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(source), "--path-output", str(site)]
    result = subprocess.run(
        [*command, "-W", "-n", "--keep-going", "--all", "-q"],
        cwd=source, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if result.returncode != 0:
        raise BookError(f"the site has warnings or errors:\n{result.stdout}")


def pdf_path(root: Path, profile: str) -> Path:
    """Where ``make pdf`` leaves the whole book; beside it a file with the key of what it was made from."""
    return (root / "_build" if profile == "default" else root / "_build" / profile) / "pdf" / PDF_NAME


def current_pdf(root: Path, profile: str, content: str) -> Path | None:
    """The PDF, where it was made from the same content as the site."""
    path = pdf_path(root, profile)
    made_from = path.with_suffix(".key")
    return path if path.exists() and made_from.exists() and made_from.read_text() == content else None


def publish(root: Path, work: Path, site: Path, pdf: Path | None = None) -> None:
    """Put the built site in place by two renames, so that a reader never meets half of it."""
    fresh, old = work / "publish", work / "old"
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(work / "site" / "_build" / "html", fresh)
    if pdf:
        shutil.copyfile(pdf, fresh / pdf.name)
    site.parent.mkdir(parents=True, exist_ok=True)
    if site.exists():
        site.rename(old)
    fresh.rename(site)
    shutil.rmtree(old, ignore_errors=True)
    if site == root / "_build" / "html":
        # Without its memory a plain `jupyter-book build .` writes every page anew.
        shutil.rmtree(root / "_build" / ".doctrees", ignore_errors=True)


def claims_summary(executed: Path) -> tuple[str, int]:
    """The verdicts of all claims in words, and the number of those that fail."""
    rows = [(path.stem, row) for path in sorted(executed.glob("*.ipynb")) for row in claims.collect(path)]
    lines = [claims.summary(row for _, row in rows)]
    lines += [f"  {row['verdict']}: {stem}:{row['key']} {_reason(row)}" for stem, row in rows if row["verdict"] != claims.HOLDS]
    return "\n".join(lines), sum(row["verdict"] == claims.FAILS for _, row in rows)


def _reason(row: dict[str, object]) -> str:
    return f"(predicted {row['relation']} {row['predicted_text']}, measured {row['measured_text']}) {row['reason']}".rstrip()


# ---- command ------------------------------------------------------------------------------------------------------


def make_book(
    root: Path, profile: str = "default", jobs: int | None = None, write_back: bool = False, requiring: str = ""
) -> int:
    """Execute, build, publish; return the exit status. With ``requiring`` the notebooks that need this package are executed, no more."""
    parameters = read_profile(root, profile)
    work = root / "_build" / ".books" / profile
    with lock(root / "_build" / ".books"):
        if not execute_all(root, work / "notebooks", parameters, jobs or os.cpu_count() or 1, requiring):
            return 1
        if write_back:
            refresh(root, work / "notebooks")
            return 0
        index = "" if requiring else _bring_site_up_to_date(root, profile, work)
    summary, failed = claims_summary(work / "notebooks")
    print(summary)
    if index:
        print(index)
    # Another profile may leave what a statement needs (too few samples, say): there the table says so.
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
    parser.add_argument("--jobs", type=int, help="notebooks to execute side by side (default: number of cores)")
    parser.add_argument("--refresh", action="store_true", help="write executed notebooks back instead of building")
    parser.add_argument("--requiring", default="", metavar="PACKAGE", help="execute only notebooks that need this package; build no site")
    parser.add_argument("--root", type=Path, default=HERE.parent, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.refresh and options.profile != "default":
        parser.error("--refresh writes the default profile only")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` stops as cleanly as Ctrl-C
    return exit_status(lambda: make_book(options.root.resolve(), options.profile, options.jobs, options.refresh, options.requiring))


def exit_status(work: Callable[[], int]) -> int:
    """What ``work`` returns; where it fails or is interrupted, a line that says so, and 1 or 130."""
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
