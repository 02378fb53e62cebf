"""The command ``rlvr``: rerun a notebook, sweep over its parameters, evaluate a threshold, diagnose a log, plan a step size.

Every command is a function registered on ``app``. Bad input is a ``ValueError`` of the function that does the work;
``one_line`` turns it into one line on standard error and exit status 2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import typer

app = typer.Typer(
    name="rlvr",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Rerun the book with your own parameters; relate a training run to its step-size threshold.",
)

BAD_INPUT = 2


@app.callback()
def _root() -> None:
    """Keep the names of the commands even while there is only one."""


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


# ---- thresholds -------------------------------------------------------------------------------------------------------


# ---- diagnose and plan ------------------------------------------------------------------------------------------------
