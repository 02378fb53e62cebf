"""The commands ``rlvr run`` and ``rlvr sweep``: a notebook with other parameters, and over a grid
of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import nbformat
import typer
import yaml
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from rlvrlib.evidence import claims
from rlvrlib.running import execution, files, parameters

DOES_NOT_HOLD, INTERRUPTED = 1, 130
_WRITTEN = {"claims.csv": files.TABLE, "seconds.csv": files.TABLE, "overview.html": files.PAGE}


class Pairs(typer.core.TyperCommand):
    """``-p name value`` as papermill has it, beside ``-p name=value``; typer knows no repeated
    option of two values.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined, rest = [], list(args)
        while rest:
            joined.append(rest.pop(0))
            if (
                joined[-1] in ("-p", "--parameter")
                and rest
                and "=" not in rest[0]
                and len(rest) > 1
            ):
                joined.append(f"{rest.pop(0)}={rest.pop(0)}")
        return super().parse_args(ctx, joined)


_Notebook = Annotated[
    Path, typer.Argument(help="A notebook with a cell tagged `parameters`.", show_default=False)
]
_FILE = (
    "YAML file `{name: value}`, or a profile of the book, `{notebook: {name: value}}`; "
    "%s goes before it."
)


def run(
    notebook: _Notebook,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            "-p",
            metavar="NAME VALUE",
            help="A parameter that differs; may be repeated.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help=_FILE % "-p", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for the results. Default: `_build/run/NOTEBOOK`.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a link, or a file of somebody else's.")
    ] = False,
    names: Annotated[
        bool,
        typer.Option("--list", help="List the parameters, their defaults and ranges, and stop."),
    ] = False,
) -> None:
    """Execute a notebook with other parameters.

    Checks names, types and ranges first. Writes the executed notebook and one self-contained HTML
    page, and prints the claims: predictions with what was measured and the verdict, and records.

    Exit status: 0 no prediction fails, 1 one fails for a reason that the notebook does not name, or
    the notebook did not run, 2 bad input. Predictions outside their assumptions are counted apart:
    they neither hold nor fail.
    """
    from rlvrlib.running import notebook_page  # slow to import, as below

    source = execution.read_notebook(notebook)
    known = parameters.read(parameters.cell_source(source))
    if names:
        _list_parameters(known)
        return
    given = _from_file(file, notebook.stem) | dict(_pair(text) for text in parameter or [])
    values = parameters.checked(given, known)
    _say_unchecked(values, known)
    folder = _folder(out, "run", notebook)
    page = folder / f"{notebook.stem}.html"
    read = [notebook, *([file] if file else [])]
    for path, mark in ((page, files.PAGE), (page.with_suffix(".ipynb"), files.NOTEBOOK)):
        files.refuse_to_lose(path, mark, read, force=force)
    try:
        done = execution.execute(source, values, notebook.resolve().parent, progress=True)
    except execution.NotebookFailed as error:
        typer.echo(f"{notebook.stem} did not run: {error}", err=True)
        raise typer.Exit(DOES_NOT_HOLD) from None
    done.notebook.metadata["generator"] = "rlvr"
    files.write_whole(page.with_suffix(".ipynb"), nbformat.writes(done.notebook) + "\n")
    files.write_whole(page, notebook_page.notebook_page(notebook.stem, done))
    _print_claims(done.claims)
    typer.echo(page)
    if claims.unexplained(done.claims):
        raise typer.Exit(DOES_NOT_HOLD)


def sweep(
    notebook: _Notebook,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            "-g",
            metavar="NAME=V1,V2,...",
            help="Values of a parameter; may be repeated.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help=_FILE % "-g", show_default=False)
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", help="Processes on this machine; -1: one for each core.")
    ] = -1,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDRESS",
            help="A running Dask scheduler, tcp://host:8786.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for the results. Default: `_build/sweep/NOTEBOOK`.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a link, or a file of somebody else's.")
    ] = False,
) -> None:
    """Execute a notebook at every point of a grid of parameters.

    Writes `claims.csv` (all claims of all points), `seconds.csv` and `overview.html` (each claim
    against the first parameter that varies). A point that is finished is kept: after an
    interruption the same command goes on. It is computed anew when the notebook, the library or the
    versions, or a data file that the notebook names, have changed.

    Exit status: 0 no claim fails, 1 a claim fails or a point did not run, 2 bad input, 130
    interrupted.
    """
    from rlvrlib.running import overview
    from rlvrlib.running import sweep as sweeping

    source = execution.read_notebook(notebook)
    known = parameters.read(parameters.cell_source(source))
    if not grid:
        raise ValueError("-g name=v1,v2,... is needed at least once")
    if jobs == 0 or jobs < -1:
        raise ValueError(f"--jobs must be at least 1, or -1 for one on each core, got {jobs}")
    fixed = parameters.checked(_from_file(file, notebook.stem), known)
    axes = {name: [value] for name, value in fixed.items()} | sweeping.parse_grid(grid, known)
    points = sweeping.grid(source, axes, notebook.resolve().parent)
    _say_unchecked(axes, known)
    folder = _folder(out, "sweep", notebook)
    read = [notebook, *([file] if file else [])]
    for name, mark in _WRITTEN.items():
        files.refuse_to_lose(folder / name, mark, read, force=force)
    outcomes: dict[int, Any] = {}
    try:
        with _progress() as progress:
            task = progress.add_task(notebook.stem, total=len(points))
            there = notebook.resolve().parent
            for point, outcome in sweeping.run(
                source, points, folder, jobs=jobs, cluster=cluster, folder=there
            ):
                outcomes[point.index] = outcome
                progress.advance(task)
    except KeyboardInterrupt:
        kept = f"{len(outcomes)} of {len(points)} points are kept"
        typer.echo(f"interrupted: {kept}; the same command goes on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except OSError as error:
        raise OSError(
            f"{error}; the finished points are kept, and the same command goes on"
        ) from None
    files.write_whole(folder / "claims.csv", sweeping.table(points, outcomes))
    files.write_whole(folder / "seconds.csv", sweeping.times(points, outcomes))
    facts = {"grid": "; ".join(grid), "versions": execution.installed_versions()}
    files.write_whole(
        folder / "overview.html", overview.overview(notebook.stem, points, outcomes, facts)
    )
    rows = [row for outcome in outcomes.values() for row in outcome["rows"]]
    failures = [
        (point, outcomes[point.index]["error"])
        for point in points
        if outcomes[point.index]["error"]
    ]
    typer.echo(f"{len(points)} points. {claims.summary(rows)}. {len(failures)} points did not run.")
    for point, reason in failures[:10]:
        values = ", ".join(f"{name} = {value}" for name, value in point.parameters.items())
        typer.echo(f"  did not run: {values}: {reason}", err=True)
    typer.echo(folder / "overview.html")
    if failures or claims.unexplained(rows):
        raise typer.Exit(DOES_NOT_HOLD)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"-p must be followed by a name and a value, got {text!r}")
    return name, value


def _from_file(path: Path | None, stem: str) -> dict[str, Any]:
    """The parameters in a file; of a profile, those of the notebook named ``stem``."""
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    if content is None:
        return {}
    if (
        content
        and isinstance(content, dict)
        and all(isinstance(value, dict) for value in content.values())
    ):
        if stem not in content:
            names = [str(name) for name in content]
            hint = next((execution.renamed(name) for name in names if name.endswith(stem)), "")
            raise ValueError(
                f"{path} has no parameters of {stem}; it has those of {', '.join(names)}{hint}"
            )
        content = content[stem]
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{path} must have the form {{name: value}}")
    return content


def _folder(out: Path | None, kind: str, notebook: Path) -> Path:
    folder = out or Path("_build") / kind / notebook.stem
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / notebook.name).exists() and (folder / notebook.name).samefile(notebook):
        raise ValueError(
            f"--out {folder} is where the notebook itself stands: choose another folder"
        )
    return folder


def _say_unchecked(values: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in parameters.unchecked(values, known):
        typer.echo(
            f"note: the range of {name} was not checked; its comment gives none that can be read",
            err=True,
        )


def _console(stderr: bool = False) -> Console:
    # Where the width is not known (a pipe, a log) lines are not cut.
    width = None if os.environ.get("COLUMNS") or (not stderr and os.isatty(1)) else 100
    return Console(stderr=stderr, highlight=False, width=width)


def _table(*columns: str) -> Table:
    return Table(*(Column(name, overflow="fold") for name in columns), box=box.SIMPLE_HEAD)


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


def _list_parameters(known: Mapping[str, Any]) -> None:
    table = _table("name", "type", "default", "range", "meaning")
    for parameter in known.values():
        entries = (
            parameter.name,
            parameter.type,
            str(parameter.default),
            parameter.range or "not readable",
            parameter.meaning,
        )
        table.add_row(*(Text(entry) for entry in entries))
    _console().print(table)


def _print_claims(rows: list[dict[str, Any]]) -> None:
    table = _table("claim", "predicted", "measured", "verdict")
    colours = {claims.HOLDS: "green", claims.FAILS: "red", claims.OUTSIDE: "yellow"}
    for row in rows:
        said, style = claims.cells(row), colours.get(row["verdict"], "")
        predicted = f"{said.sign}{said.predicted} {said.tolerance}".rstrip()
        entries = (said.statement, predicted, said.measured)
        table.add_row(*map(Text, entries), Text(said.verdict, style=style))
    if rows:
        _console().print(table)
    typer.echo(claims.summary(rows))
