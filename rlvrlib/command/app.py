"""The command ``rlvr``: its parts from `rlvrlib.command.notebooks`, `rlvrlib.command.practice` and
`rlvrlib.command.calculator`.

Bad input is a ``ValueError`` of the function that does the work; ``one_line`` turns it into one
line on standard error and exit status 2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import typer

from rlvrlib.command import calculator, notebooks, practice
from rlvrlib.practice.records import printable

app = typer.Typer(
    name="rlvr",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Rerun the book with your own parameters; "
    "relate a training run to its step-size threshold.",
)
threshold = typer.Typer(
    name="threshold",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="The theorems as a calculator: the largest step each of them guarantees.",
)
app.add_typer(threshold)


def one_line(command: Callable[..., Any]) -> Callable[..., Any]:
    """Report a ``ValueError`` (bad input) or an ``OSError`` (full disk, no permission) of a command
    in one line.
    """

    @wraps(command)
    def reported(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
            raise
        except (ValueError, OSError) as error:
            typer.echo(f"error: {printable(error, 4000)}", err=True)
            raise typer.Exit(practice.BAD_INPUT) from None

    return reported


app.command(cls=notebooks.Pairs, no_args_is_help=True)(one_line(notebooks.run))
app.command(no_args_is_help=True)(one_line(notebooks.sweep))
app.command(help=practice.DIAGNOSE)(one_line(practice.diagnose))
app.command(no_args_is_help=True)(one_line(practice.watch))
app.command(context_settings={"token_normalize_func": lambda name: name.replace("_", "-")})(
    one_line(practice.plan)
)
for _name, _function in calculator.functions().items():
    threshold.command(_name, help=calculator.summary(_function), no_args_is_help=True)(
        one_line(calculator.command(_name, _function))
    )
