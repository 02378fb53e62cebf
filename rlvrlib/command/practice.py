"""The commands ``rlvr diagnose``, ``rlvr watch`` and ``rlvr plan``: what a training log shows, once
it is finished and while it is written, and how the safe learning rate moves.
"""

from __future__ import annotations

import inspect
import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from rlvrlib import SAMPLED_METHODS
from rlvrlib.practice.formats import known_formats
from rlvrlib.practice.records import failed_record, printable
from rlvrlib.running.files import PAGE, refuse_to_lose, write_whole

BAD_INPUT = 2
DIAGNOSE = f"""Say what a training log shows: the verdict, the evidence for and against it, and what
to change first.

Reads {"; ".join(name for name, _ in known_formats())}. So it reads what is written by
{", ".join(dict.fromkeys(name for _, names in known_formats() for name in names))}.

What it skips is listed, and so are columns that it does not know. With several logs, one that
cannot be read does not stop the others.

The exit status is 2 where a log cannot be read, else 10 where one has a warning, a fall or broken
numbers, else 0. With ``--json`` it prints one JSON object a log and line, with the keys
{", ".join(failed_record("", ""))}."""

_Method = Annotated[
    str | None,
    typer.Option(
        help=f"One of {', '.join(SAMPLED_METHODS)}. Assumed to be grpo, and said, where omitted."
    ),
]
_Aggregation = Annotated[
    str | None,
    typer.Option(
        help="What the loss divides the sum over tokens by: "
        "sum (nothing), cap, or mean (the length)."
    ),
]


def diagnose(
    logs: Annotated[
        list[Path], typer.Argument(help="Training logs, of any format that is named above.")
    ],
    lr: Annotated[
        float | None, typer.Option(help="Learning rate, where the log does not have it.")
    ] = None,
    method: _Method = None,
    aggregation: _Aggregation = None,
    group_size: Annotated[int | None, typer.Option(help="Responses in a group.")] = None,
    success: Annotated[
        str | None, typer.Option(help="The part of the reward that is the success rate.")
    ] = None,
    reward_range: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Rewards of a wrong and of a correct response, if not 0 and 1."),
    ] = None,
    reference: Annotated[
        tuple[float, float] | None,
        typer.Option(help="First and last step that the pressure is compared with."),
    ] = None,
    cut_counts: Annotated[
        bool,
        typer.Option(
            "--cut-counts", help="The verifier means to accept responses that were cut at the cap."
        ),
    ] = False,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="A column's meaning, as QUANTITY=NAME, for example reward=acc. Repeatable."
        ),
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="The run to read from an export of several.")
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="adamw (moves of a fixed length at a given rate; assumed, and said, where "
            "omitted), or sgd."
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page here.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Let --html replace a link or another file.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a log, for scripts.")
    ] = False,
) -> None:
    """Say what a training log shows; ``DIAGNOSE`` is the help."""
    from rlvrlib.practice.diagnosis import diagnose as judge
    from rlvrlib.practice.run_log import read_log

    columns, found = _columns(column), []
    if html is not None:
        refuse_to_lose(html, PAGE, logs, force=force)
    for path in logs:
        try:
            one = judge(
                read_log(path, columns, run),
                method=method,
                aggregation=aggregation,
                group_size=group_size,
                rate=lr,
                success=success,
                reward_range=reward_range,
                reference=reference,
                cut_counts=cut_counts,
                optimizer=optimizer,
            )
        except ValueError as error:
            text = printable(f"{path}: {error}", 4000)
            typer.echo(f"error: {text}", err=True)
            record = failed_record(str(path), text)
        else:
            found.append(one)
            record = {**one.record(), "file": str(path)}
        if as_json:
            typer.echo(json.dumps(record, allow_nan=False))
        elif record["error"] is None:
            typer.echo(one.summary())
    if html is not None and found:
        # Matplotlib takes a second to load: only for the page.
        from rlvrlib.practice.report import report

        write_whole(html, report(found))
        typer.echo(f"page: {html}", err=as_json)
    if len(found) < len(logs):
        raise typer.Exit(BAD_INPUT)
    if status := max(one.status for one in found):
        raise typer.Exit(status)


def _columns(items: list[str] | None) -> dict[str, str]:
    pairs = [item.partition("=") for item in items or []]
    if wrong := [name for name, equals, key in pairs if not (name and equals and key)]:
        raise ValueError(f"--column must be QUANTITY=NAME, got {wrong[0]!r}")
    return {name: key for name, _, key in pairs}


def _with_options_of(command: Callable[..., Any], *without: str) -> Callable[..., Any]:
    """Gives a command the options of another one, in place of its ``**options``."""

    def given(function: Callable[..., Any]) -> Callable[..., Any]:
        own, other = (
            inspect.signature(one, eval_str=True).parameters for one in (function, command)
        )
        parameters = [one for one in own.values() if one.kind is not one.VAR_KEYWORD]
        parameters += [one for name, one in other.items() if name not in without]
        function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        function.__annotations__ = {one.name: one.annotation for one in parameters}
        return function

    return given


@_with_options_of(diagnose, "logs", "html", "force")
def watch(
    log: Annotated[Path, typer.Argument(help="The log; it need not be there yet.")],
    on_warning: Annotated[
        str | None,
        typer.Option(
            help="A command to run at the first warning, in words as a shell splits them, without "
            "a shell. RLVR_LOG, RLVR_STEP and RLVR_TEXT are in its environment."
        ),
    ] = None,
    interval: Annotated[float, typer.Option(help="Seconds between two looks at the file.")] = 1.0,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No line for rows that were read.")
    ] = False,
    **options: Any,
) -> None:
    """Follow a log while it is written: a line for each row, notice, warning and change of verdict.

    Reads what ``rlvr diagnose`` reads, and says the same numbers: the warning row by row, verdict
    and pressure whenever there are 1% more rows. Text is read as it comes. A file that is no text
    is read anew as a whole, for at most 1% of the time. A file that is cut, or replaced by another
    one, is read from its start; where its steps go on, as the same run.

    Ctrl-C, or a TERM signal, ends it with the diagnosis of what was read and the exit status of
    ``rlvr diagnose``. ``--on-warning`` runs once a run, also for a warning that is in the file
    already; the watch goes on beside it.
    """
    from rlvrlib.practice.watch import Change, Watch

    if not 0 < interval < float("inf"):
        raise ValueError(f"--interval must be positive and finite, got {interval!r}")
    hook = _Hook(on_warning) if on_warning is not None else None
    as_json = options.pop("as_json")
    options["columns"] = _columns(options.pop("column"))
    options["rate"] = options.pop("lr")

    def tell(change: Change) -> None:
        if not (quiet and change.kind == "row"):
            typer.echo(json.dumps(change._asdict()) if as_json else printable(change, 4000))
        if hook and change.kind == "warning":
            hook.start(log, change)

    watching = Watch(log, tell, interval=interval, between=hook.end if hook else None, **options)

    def stop(number: int, frame: Any) -> None:
        signal.signal(number, before[number])  # a second one ends it at once
        watching.stop()

    before: dict[int, Any] = {
        number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        found = watching.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if as_json:
        typer.echo(json.dumps({**found.record(), "file": str(log)}, allow_nan=False))
    else:
        typer.echo(found.summary())
    if found.status:
        raise typer.Exit(found.status)


class _Hook:
    """The command of ``--on-warning``: started beside the watch, and asked how it ended."""

    def __init__(self, command: str):
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise ValueError(f"--on-warning must be a command, got {command!r}: {error}") from None
        if not self.words or shutil.which(self.words[0]) is None:
            raise ValueError(f"--on-warning must begin with a program to run, got {command!r}")
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, log: Path, change: Any) -> None:
        told = {"RLVR_LOG": str(log), "RLVR_STEP": f"{change.step:g}", "RLVR_TEXT": change.text}
        try:
            process = subprocess.Popen(
                self.words, env=os.environ | told, stdin=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            typer.echo(f"error: --on-warning: {error.strerror}", err=True)
        else:
            self.running.append(process)

    def end(self) -> None:
        for process in [one for one in self.running if one.poll() is not None]:
            self.running.remove(process)
            if process.returncode:
                typer.echo(f"error: --on-warning ended with {process.returncode}", err=True)


def _beside(*names: str) -> Any:
    """An option for a setting without a factor, under the names that trainers give it."""
    return typer.Option(*names, help="Has no factor: answered with what is known.")


def plan(
    from_length: Annotated[
        float, typer.Option(help="Cap on the response length of the run that is known, in tokens.")
    ],
    success: Annotated[float, typer.Option(help="Its success rate, between 0 and 1.")],
    to_length: Annotated[float | None, typer.Option(help="The new cap.")] = None,
    to_success: Annotated[float | None, typer.Option(help="The new success rate.")] = None,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(SAMPLED_METHODS)}.")] = "grpo",
    to_method: Annotated[str | None, typer.Option(help="The new method.")] = None,
    aggregation: _Aggregation = None,
    to_aggregation: Annotated[
        str | None, typer.Option(help="The new one; that of the new method where omitted.")
    ] = None,
    group_size: Annotated[
        int | None, typer.Option(help="Responses in a group; many where omitted.")
    ] = None,
    to_group_size: Annotated[int | None, typer.Option(help="The new number.")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate at which the known run stayed stable.")
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="adamw or adam (moves of a fixed length), sgd or gradient (moves in proportion to "
            "the gradient). Assumed to be adamw, and said, where omitted."
        ),
    ] = None,
    mini_batches: Annotated[
        str | None, _beside("--mini-batches", "--steps-per-generation", "--ppo-mini-batch-size")
    ] = None,
    epochs: Annotated[str | None, _beside("--epochs", "--num-iterations", "--ppo-epochs")] = None,
    lora_rank: Annotated[str | None, _beside("--lora-rank", "--lora-r")] = None,
    beta: Annotated[str | None, _beside("--beta", "--kl-loss-coef", "--kl-coef")] = None,
    clip_range: Annotated[
        str | None, _beside("--clip-range", "--epsilon", "--epsilon-high", "--clip-ratio")
    ] = None,
    max_grad_norm: Annotated[str | None, _beside("--max-grad-norm", "--grad-clip")] = None,
    batch_size: Annotated[
        str | None, _beside("--batch-size", "--train-batch-size", "--num-prompts")
    ] = None,
) -> None:
    """Say how the safe learning rate moves when length, success rate, group size, method or loss
    aggregation changes.

    Every factor comes with its theorem and with what it leaves open, and beside it stands what was
    measured. Without ``--lr``, the rate of a run that was stable, there are only factors: constants
    that nobody knows cancel between two settings and do not vanish in one. Names of options may be
    written with underscores, as trainers do.
    """
    from rlvrlib.practice.measured import measured
    from rlvrlib.practice.planning import BESIDE, Setting
    from rlvrlib.practice.planning import plan as compare
    from rlvrlib.practice.pressure import OPTIMIZERS

    asked = {
        "mini_batches": mini_batches,
        "epochs": epochs,
        "lora_rank": lora_rank,
        "beta": beta,
        "clip_range": clip_range,
        "max_grad_norm": max_grad_norm,
        "batch_size": batch_size,
    }

    same_method = to_method is None or to_method == method
    before = Setting(from_length, success, method, group_size, aggregation)
    after = Setting(
        from_length if to_length is None else to_length,
        success if to_success is None else to_success,
        to_method or method,
        to_group_size or group_size,
        to_aggregation or (before.aggregation if same_method else None),
    )
    said, optimizer = "" if optimizer else ", assumed", optimizer or "adamw"
    found = compare(before, after, lr, optimizer)
    fixed = OPTIMIZERS[optimizer]
    kinds = "of a fixed length", "in proportion to the gradient"
    typer.echo(f"from  {_setting(before)}\nto    {_setting(after)}")
    typer.echo(f"with  {optimizer}{said}: moves {kinds[not fixed]}\n")
    typer.echo("What the theory moves: the safe learning rate is multiplied by")
    for factor in found.factors:
        reason = factor.reason if factor.changed else "not changed"
        typer.echo(f"  {factor.value:10.4g}  {factor.name}: {reason}")
        if factor.changed:
            typer.echo(f"              not known: {factor.unknown}")
    typer.echo(f"  {found.total:10.4g}  in all")
    other = "sgd" if fixed else "adamw"
    total = compare(before, after, lr, other).total
    if abs(total / found.total - 1) > 1e-9:
        typer.echo(f"  {total:10.4g}  in all with --optimizer {other}: moves {kinds[fixed]}")
    for title, sentences in (
        ("What was measured", measured(before, after, lr, optimizer)),
        ("Warning", found.warnings),
        (
            "Not in the factors",
            [
                f"--{name.replace('_', '-')} {value}: {{}} (see {{}})".format(*BESIDE[name])
                for name, value in asked.items()
                if value is not None
            ],
        ),
    ):
        if sentences:
            typer.echo("\n".join(["", title, *(f"  - {sentence}" for sentence in sentences)]))
    if found.rate is None:
        typer.echo(
            "\nNo rate is given without --lr, "
            "the rate of a run in the first setting that stayed stable."
        )
    else:
        typer.echo(
            f"\n{found.rate:.3g} with {optimizer}{said} has the same step over its longest "
            f"guaranteed one as {lr:g} had, if what is not known stays the same."
        )


def _setting(setting: Any) -> str:
    groups = f"groups of {setting.group_size}" if setting.group_size else "large groups"
    divisor = {
        "sum": "summed over tokens",
        "cap": "divided by the cap",
        "mean": "divided by the length",
    }[setting.aggregation]
    rate = f"success rate {setting.success_rate:g}"
    return f"{setting.method}, {divisor}, {setting.length:g} tokens, {rate}, {groups}"
