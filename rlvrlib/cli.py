"""The command ``rlvr``: rerun a notebook, sweep over its parameters, evaluate a threshold, diagnose a log, plan a step size.

Every command is a function registered on ``app``. Bad input is a ``ValueError`` of the function that does the work;
``one_line`` turns it into one line on standard error and exit status 2.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from rlvrlib import calculator, claims

app = typer.Typer(
    name="rlvr",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Rerun the book with your own parameters; relate a training run to its step-size threshold.",
)
threshold = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
app.add_typer(threshold, name="threshold", help="The theorems as a calculator: the largest step each of them guarantees.")

DOES_NOT_HOLD, BAD_INPUT, INTERRUPTED = 1, 2, 130


def one_line(command: Callable[..., Any]) -> Callable[..., Any]:
    """Report a ``ValueError`` (bad input) or an ``OSError`` (full disk, no permission) of a command in one line."""

    @wraps(command)
    def reported(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except (ValueError, OSError) as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(BAD_INPUT) from None

    return reported


# ---- rerun and sweep --------------------------------------------------------------------------------------------------


class _Pairs(typer.core.TyperCommand):
    """``-p name value`` as papermill has it, beside ``-p name=value``; typer knows no repeated option of two values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined, rest = [], list(args)
        while rest:
            joined.append(rest.pop(0))
            if joined[-1] in ("-p", "--parameter") and rest and "=" not in rest[0] and len(rest) > 1:
                joined.append(f"{rest.pop(0)}={rest.pop(0)}")
        return super().parse_args(ctx, joined)


_Notebook = Annotated[Path, typer.Argument(help="A notebook with a cell tagged `parameters`.", show_default=False)]


@app.command(cls=_Pairs, no_args_is_help=True)
@one_line
def run(
    notebook: _Notebook,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME VALUE", help="A parameter that differs; may be repeated.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="YAML file `{name: value}`; -p goes before it.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the results. Default: `_build/run/NOTEBOOK`.", show_default=False)
    ] = None,
    names: Annotated[bool, typer.Option("--list", help="List the parameters, their defaults and ranges, and stop.")] = False,
) -> None:
    """Execute a notebook with other parameters.

    Checks names, types and ranges first. Writes the executed notebook and one self-contained HTML page, and prints the
    claims: what was predicted, what was measured, and the verdict.

    Exit status: 0 no claim fails, 1 a claim fails or the notebook did not run, 2 bad input. Claims outside their
    assumptions are counted apart: they neither hold nor fail.
    """
    from rlvrlib import execution, page, parameters

    source = execution.read_notebook(notebook)
    known = parameters.read(parameters.cell_source(source))
    if names:
        _list_parameters(known)
        return
    given = _from_file(file) | dict(_pair(text) for text in parameter or [])
    values = parameters.checked(given, known)
    _say_unchecked(values, known)
    folder = _folder(out, "run", notebook)
    start = time.monotonic()
    try:
        executed = execution.execute(source, values, notebook.resolve().parent, progress=True)
    except execution.NotebookFailed as error:
        typer.echo(f"{notebook.stem} did not run: {error}", err=True)
        raise typer.Exit(DOES_NOT_HOLD) from None
    facts = {
        "parameters given": ", ".join(f"{name} = {value}" for name, value in values.items()) or "none",
        "run time": f"{time.monotonic() - start:.1f} s",
        "versions": execution.installed_versions(),
    }
    rows = claims.rows_of(executed)
    execution.write_whole(folder / f"{notebook.stem}.ipynb", execution.nbformat.writes(executed) + "\n")
    execution.write_whole(folder / f"{notebook.stem}.html", page.notebook_page(executed, notebook.stem, facts))
    _print_claims(rows)
    typer.echo(folder / f"{notebook.stem}.html")
    if any(row["verdict"] == claims.FAILS for row in rows):
        raise typer.Exit(DOES_NOT_HOLD)


@app.command(no_args_is_help=True)
@one_line
def sweep(
    notebook: _Notebook,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", "-g", metavar="NAME=V1,V2,...", help="Values of a parameter; may be repeated.", show_default=False),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Processes on this machine; -1: one for each core.")] = -1,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", metavar="ADDRESS", help="A running Dask scheduler, tcp://host:8786.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the results. Default: `_build/sweep/NOTEBOOK`.", show_default=False)
    ] = None,
) -> None:
    """Execute a notebook at every point of a grid of parameters.

    Writes `claims.csv` (all claims of all points), `seconds.csv` and `overview.html` (each claim against the first
    parameter that varies). A point that is finished is kept: after an interruption the same command goes on. It is
    computed anew when the notebook, the library or the versions have changed.

    Exit status: 0 no claim fails, 1 a claim fails or a point did not run, 2 bad input, 130 interrupted.
    """
    from rlvrlib import execution, overview, parameters
    from rlvrlib import sweep as sweeping

    source = execution.read_notebook(notebook)
    known = parameters.read(parameters.cell_source(source))
    if not grid:
        raise ValueError("-g name=v1,v2,... is needed at least once")
    if jobs == 0 or jobs < -1:
        raise ValueError(f"--jobs must be at least 1, or -1 for one on each core, got {jobs}")
    axes = sweeping.parse_grid(grid, known)
    points = sweeping.grid(source, axes)
    _say_unchecked(axes, known)
    folder = _folder(out, "sweep", notebook)
    outcomes: dict[int, Any] = {}
    try:
        with _progress() as progress:
            task = progress.add_task(notebook.stem, total=len(points))
            options = {"jobs": jobs, "cluster": cluster, "folder": notebook.resolve().parent}
            for point, outcome in sweeping.run(source, points, folder, **options):
                outcomes[point.index] = outcome
                progress.advance(task)
    except KeyboardInterrupt:
        typer.echo(f"interrupted: {len(outcomes)} of {len(points)} points are kept; the same command goes on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except OSError as error:
        raise OSError(f"{error}; the finished points are kept, and the same command goes on") from None
    execution.write_whole(folder / "claims.csv", sweeping.table(points, outcomes))
    execution.write_whole(folder / "seconds.csv", sweeping.times(points, outcomes))
    facts = {"grid": "; ".join(grid), "versions": execution.installed_versions()}
    execution.write_whole(folder / "overview.html", overview.overview(notebook.stem, points, outcomes, facts))
    rows = [row for outcome in outcomes.values() for row in outcome["rows"]]
    failures = [(point, outcomes[point.index]["error"]) for point in points if outcomes[point.index]["error"]]
    typer.echo(f"{len(points)} points. {claims.summary(rows)}. {len(failures)} points did not run.")
    for point, reason in failures[:10]:
        typer.echo(f"  did not run: {', '.join(f'{k} = {v}' for k, v in point.parameters.items())}: {reason}", err=True)
    typer.echo(folder / "overview.html")
    if failures or any(row["verdict"] == claims.FAILS for row in rows):
        raise typer.Exit(DOES_NOT_HOLD)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"-p must be followed by a name and a value, got {text!r}")
    return name, value


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{path} must have the form {{name: value}}")
    return content


def _folder(out: Path | None, kind: str, notebook: Path) -> Path:
    folder = out or Path("_build") / kind / notebook.stem
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / notebook.name).exists() and (folder / notebook.name).samefile(notebook):
        raise ValueError(f"--out {folder} is where the notebook itself stands: choose another folder")
    return folder


def _say_unchecked(values: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    from rlvrlib.parameters import unchecked

    for name in unchecked(values, known):
        typer.echo(f"note: the range of {name} was not checked; its comment gives none that can be read", err=True)


def _console(stderr: bool = False) -> Console:
    # Where the width is not known (a pipe, a log) lines are not cut.
    width = None if os.environ.get("COLUMNS") or (not stderr and os.isatty(1)) else 100
    return Console(stderr=stderr, highlight=False, width=width)


def _table(*columns: str) -> Table:
    return Table(*(Column(name, overflow="fold") for name in columns), box=box.SIMPLE_HEAD)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def _list_parameters(known: Mapping[str, Any]) -> None:
    table = _table("name", "type", "default", "range", "meaning")
    for parameter in known.values():
        entries = (parameter.name, parameter.type, str(parameter.default), parameter.range or "not readable", parameter.meaning)
        table.add_row(*(Text(entry) for entry in entries))
    _console().print(table)


def _print_claims(rows: list[dict[str, Any]]) -> None:
    table = _table("claim", "predicted", "measured", "verdict")
    colours = {claims.HOLDS: "green", claims.FAILS: "red", claims.OUTSIDE: "yellow"}
    for row in rows:
        verdict = Text(str(row["verdict"]), style=colours[row["verdict"]])
        verdict.append(f": {row['reason']}" if row["reason"] else "", style="")
        predicted = f"{row['relation']} {row['predicted_text']} {row['tolerance_text']}".rstrip()
        table.add_row(Text(str(row["statement"])), Text(predicted), Text(str(row["measured_text"])), verdict)
    if rows:
        _console().print(table)
    typer.echo(claims.summary(rows))


# ---- thresholds -------------------------------------------------------------------------------------------------------

calculator.add_commands(threshold, one_line)


# ---- diagnose and plan ------------------------------------------------------------------------------------------------


_Method = Annotated[str | None, typer.Option(help="reinforce, rloo, dr_grpo, grpo, gspo or dapo. Assumed to be grpo, and said, where omitted.")]
_Aggregation = Annotated[str | None, typer.Option(help="What the loss divides the sum over tokens by: sum (nothing), cap, or mean (the length).")]


@app.command()
@one_line
def diagnose(
    logs: Annotated[list[Path], typer.Argument(help="Training logs: TRL, verl, W&B exports, JSON, CSV.")],
    lr: Annotated[float | None, typer.Option(help="Learning rate, where the log does not have it.")] = None,
    method: _Method = None,
    aggregation: _Aggregation = None,
    group_size: Annotated[int | None, typer.Option(help="Responses in a group.")] = None,
    success: Annotated[str | None, typer.Option(help="The part of the reward that is the success rate.")] = None,
    reward_range: Annotated[tuple[float, float] | None, typer.Option(help="Rewards of a wrong and of a correct response, if not 0 and 1.")] = None,
    reference: Annotated[tuple[float, float] | None, typer.Option(help="First and last step that the pressure is compared with.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="A column's meaning, as QUANTITY=NAME, for example reward=acc. Repeatable.")] = None,
    run: Annotated[str | None, typer.Option(help="The run to read from an export of several.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page here.")] = None,
) -> None:  # fmt: skip
    """Say what a training log shows: the verdict, the evidence for and against it, and what to change first.

    Reads TRL's trainer_state.json and console dictionaries, verl's JSON and console lines, W&B exports, JSON arrays and CSV. What it
    skips is listed. With several logs, one that cannot be read does not stop the others; the exit status is 2 then.
    """
    from rlvrlib.diagnosis import diagnose as judge
    from rlvrlib.report import report, summary
    from rlvrlib.run_log import read_log

    pairs = [item.partition("=") for item in column or []]
    if wrong := [name for name, equals, key in pairs if not (name and equals and key)]:
        raise ValueError(f"--column must be QUANTITY=NAME, got {wrong[0]!r}")
    columns = {name: key for name, _, key in pairs}
    found = []
    for path in logs:
        try:
            log = read_log(path, columns, run)
            found.append(judge(log, method=method, aggregation=aggregation, group_size=group_size, rate=lr, success=success, reward_range=reward_range, reference=reference))  # fmt: skip
        except ValueError as error:
            typer.echo(f"error: {path}: {' '.join(str(error).split())}", err=True)
        else:
            typer.echo(summary(found[-1]))
    if html is not None and found:
        html.write_text(report(found), encoding="utf-8")
        typer.echo(f"page: {html}")
    if len(found) < len(logs):
        raise typer.Exit(BAD_INPUT)


@app.command()
@one_line
def plan(
    from_length: Annotated[float, typer.Option(help="Cap on the response length of the run that is known, in tokens.")],
    success: Annotated[float, typer.Option(help="Its success rate, between 0 and 1.")],
    to_length: Annotated[float | None, typer.Option(help="The new cap.")] = None,
    to_success: Annotated[float | None, typer.Option(help="The new success rate.")] = None,
    method: Annotated[str, typer.Option(help="reinforce, rloo, dr_grpo, grpo, gspo or dapo.")] = "grpo",
    to_method: Annotated[str | None, typer.Option(help="The new method.")] = None,
    aggregation: _Aggregation = None,
    to_aggregation: Annotated[str | None, typer.Option(help="The new one; that of the new method where omitted.")] = None,
    group_size: Annotated[int | None, typer.Option(help="Responses in a group; many where omitted.")] = None,
    to_group_size: Annotated[int | None, typer.Option(help="The new number.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate at which the known run stayed stable.")] = None,
    optimizer: Annotated[str, typer.Option(help="gradient (moves in proportion to the gradient) or adam (moves of a fixed length).")] = "gradient",
) -> None:  # fmt: skip
    """Say how the safe learning rate moves when length, success rate, group size, method or loss aggregation changes.

    Every factor comes with its theorem and with what it leaves open. Without --lr, the rate of a run that was stable, there are only
    factors: constants that nobody knows cancel between two settings and do not vanish in one.
    """
    from rlvrlib.planning import Setting
    from rlvrlib.planning import plan as compare

    same_method = to_method is None or to_method == method
    before = Setting(from_length, success, method, group_size, aggregation)
    after = Setting(
        from_length if to_length is None else to_length, success if to_success is None else to_success, to_method or method,
        to_group_size or group_size, to_aggregation or (before.aggregation if same_method else None),
    )  # fmt: skip
    found = compare(before, after, lr, optimizer)
    typer.echo(f"from  {_setting(before)}\nto    {_setting(after)}\n\nThe safe learning rate is multiplied by")
    for factor in found.factors:
        typer.echo(f"  {factor.value:10.4g}  {factor.name}: {factor.reason}")
        typer.echo(f"              not known: {factor.unknown}")
    typer.echo(f"  {found.total:10.4g}  in all")
    if found.rate is None:
        typer.echo("\nNo rate is given without --lr, the rate of a run in the first setting that stayed stable.")
    else:
        typer.echo(f"\n{found.rate:.3g} is as far below its threshold as {lr:g} was before, if what is not known stays the same.")


def _setting(setting: Any) -> str:
    groups = f"groups of {setting.group_size}" if setting.group_size else "large groups"
    divisor = {"sum": "summed over tokens", "cap": "divided by the cap", "mean": "divided by the length"}[setting.aggregation]
    return f"{setting.method}, {divisor}, {setting.length:g} tokens, success rate {setting.success_rate:g}, {groups}"
