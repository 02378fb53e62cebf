"""Which rows of claims notice which wrong line of the theory?

    python measurements/planted_errors.py freeze     choose the errors, once: errors.csv
    python measurements/planted_errors.py add        the same for functions that are new since
    python measurements/planted_errors.py run        plant them one at a time, for hours
    python measurements/planted_errors.py sides      which of them make a guarantee too large
    python measurements/planted_errors.py table      what was noticed: noticed.csv

An error is one wrong statement in the body of a function of the theory (`rlvrlib/*.py`): a factor
of two, a sign, a dropped term, an exponent, arguments that changed places. It is known by its
function, the statement and its number among equal ones, so that it survives when lines move. The
choice was frozen before the rows were sorted into predictions and records, and holds statements
that at least one notebook executes with the quick profile. A process with the wrong line executes
the code of a notebook without its figures, and the rows that fail are written down. A result is
kept while the function with the error stays what it is, and with it the notebook or the row that
noticed the error: a run that was stopped goes on. Notebooks that need an extra are left out.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import csv
import hashlib
import importlib
import inspect
import io
import itertools
import json
import os
import resource
import subprocess
import sys
import time
import traceback
import types
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from guarantees_at_random import Places, guarantees, side, value

import rlvrlib
from rlvrlib.evidence import claims
from rlvrlib.running.execution import missing_packages, read_notebook

ROOT = Path(__file__).resolve().parent.parent
THEORY, NOTEBOOKS = ROOT / "rlvrlib", ROOT / "notebooks"
DATA = NOTEBOOKS / "data" / "planted_errors"
RESULTS = ROOT / "_build" / "planted_errors"
NOT_THEORY = {"__init__", "checks", "renamed"}

# ---- wrong lines

# Calls whose arguments are shapes, checks or messages, and keywords that name no quantity.
_NO_FORMULA = set(
    "inside finite positive non_negative whole one_of last_axis prompt_weights shown errstate "
    "zeros ones empty full eye zeros_like ones_like reshape broadcast_to broadcast_shapes "
    "broadcast_arrays moveaxis swapaxes expand_dims isinstance getattr hasattr len repr set "
    "ValueError finfo asarray method_named flatnonzero nditer".split()
)
_NO_QUANTITY = set(
    "axis keepdims dtype out tolerances shape size initial num strict method maxiter".split()
)
_EXCHANGED = {"minimum": "maximum", "min": "max", "argmin": "argmax", "any": "all", "floor": "ceil"}
_EXCHANGED |= {new: old for old, new in _EXCHANGED.items()} | {"sinh": "cosh", "cosh": "sinh"}
_SYMMETRIC = {"minimum", "maximum", "multiply", "add", "array_equal", "_product", "zip"}
_NO_NUMBERS = {"method", "self.method", "problem", "bandit", "prompts", "gain", "excess", "self"}
_ODD = {"expit", "log_expit", "exp", "expm1", "tanh", "ndtr", "log_ndtr", "sinh"}
_TURNED: dict[type, type[ast.cmpop]] = {
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
}


@dataclass(frozen=True)
class Statement:
    """A statement of a function: its text, and its number among those of the same text."""

    module: str
    function: str
    text: str
    number: int
    node: ast.AST
    value: ast.expr


@dataclass(frozen=True)
class Error:
    """A wrong statement in place of the right one."""

    id: str
    module: str
    function: str
    number: int
    kind: str
    before: str
    after: str


def statements(module: str, tree: ast.Module) -> Iterator[Statement]:
    """What is computed in the functions of a module, and in the rows of its tables."""
    count: Counter[tuple[str, str]] = Counter()

    def found(function: str, node: ast.AST, value: ast.expr | None) -> Iterator[Statement]:
        if value is None or isinstance(value, ast.Constant | ast.Name):
            return
        text = ast.unparse(node)
        yield Statement(module, function, text, count[function, text], node, value)
        count[function, text] += 1

    def inside_of(scope: str, node: ast.AST) -> Iterator[Statement]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                if child.name not in ("__post_init__", "__init__"):
                    yield from inside_of(f"{scope}.{child.name}".lstrip("."), child)
            elif isinstance(child, ast.Assign | ast.AnnAssign) and isinstance(node, ast.Module):
                if isinstance(child.value, ast.Dict):
                    target = ast.unparse(getattr(child, "target", None) or child.targets[0])
                    for key, value in zip(child.value.keys, child.value.values, strict=True):
                        if key is not None:
                            yield from found(f"{target}[{ast.unparse(key)}]", value, value)
            elif isinstance(child, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Return):
                if scope and not isinstance(node, ast.ClassDef):
                    yield from found(scope, child, child.value)
            elif isinstance(child, ast.Expr) and scope:
                if isinstance(child.value, ast.Call | ast.Yield):
                    yield from found(scope, child, child.value)
            elif isinstance(child, ast.stmt | ast.ExceptHandler) and not isinstance(
                child, ast.Raise | ast.Assert | ast.Import | ast.ImportFrom
            ):
                yield from inside_of(scope, child)

    yield from inside_of("", tree)


def wrong(statement: Statement) -> Iterator[tuple[str, str]]:
    """Kind and text of every wrong form of a statement."""
    told = set()
    for old, kind, new in _replacements(statement.value, None):
        text = ast.unparse(
            ast.fix_missing_locations(copy.deepcopy(statement.node, {id(old): new}))
        )
        if text != statement.text and text not in told:
            told.add(text)
            yield kind, text


def _replacements(
    node: ast.AST, above: ast.AST | None
) -> Iterator[tuple[ast.AST, str, ast.expr]]:
    """Each expression that may be wrong, the kind of error, and what stands in its place."""
    if isinstance(node, ast.expr):
        for kind, new in _wrong_forms(node, above):
            yield node, kind, new
    if isinstance(node, ast.JoinedStr) or _called(node) in _NO_FORMULA:
        return
    for name, child in ast.iter_fields(node):
        if isinstance(node, ast.Subscript) and name == "slice":
            continue
        if isinstance(node, ast.Lambda) and name == "args":
            continue
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and name == "right":
            continue
        for one in child if isinstance(child, list) else [child]:
            named = isinstance(one, ast.keyword) and one.arg in _NO_QUANTITY
            if isinstance(one, ast.AST) and not named:
                yield from _replacements(one, node)


def _wrong_forms(node: ast.expr, above: ast.AST | None) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.BinOp(left, ast.Add(), right):
            yield "sign", ast.BinOp(left, ast.Sub(), right)
            yield "dropped term", left
            yield "dropped term", right
        case ast.BinOp(left, ast.Sub(), right):
            yield "sign", ast.BinOp(left, ast.Add(), right)
            yield "dropped term", left
            yield "swapped", ast.BinOp(right, ast.Sub(), left)
        case ast.BinOp(left, ast.Mult(), right):
            yield "dropped factor", left
            yield "dropped factor", right
        case ast.BinOp(left, ast.Div(), _):
            yield "dropped factor", left
        case ast.BinOp(base, ast.Pow(), ast.Constant(power)):
            yield "exponent", base
            yield "exponent", ast.BinOp(base, ast.Pow(), ast.Constant(power + 1))
        case ast.BinOp(left, ast.BitAnd(), right):
            yield "comparison", ast.BinOp(left, ast.BitOr(), right)
        case ast.UnaryOp(ast.USub(), operand):
            yield "sign", operand
        case ast.Compare(left, [op], [right]) if type(op) in _TURNED:
            yield "comparison", ast.Compare(left, [_TURNED[type(op)]()], [right])
        case ast.Constant(int() | float() as value) if value and not isinstance(value, bool):
            added = isinstance(above, ast.BinOp) and isinstance(above.op, ast.Add | ast.Sub)
            if isinstance(value, int) and (added or _called(above) in ("arange", "range")):
                yield "off by one", ast.Constant(value + 1)
            else:
                yield "constant", ast.Constant(2 * value)
                yield "constant", ast.Constant(value / 2)
        case ast.Call(_, [ast.UnaryOp(ast.USub())], []):
            pass  # the sign that stands there is dropped
        case ast.Call(function, [argument], []) if _called(node) in _ODD:
            yield "sign", ast.Call(function, [ast.UnaryOp(ast.USub(), argument)], [])
        case ast.Call(function, [argument], []) if _called(node) == "sqrt":
            yield "exponent", argument
        case ast.Call(_, [condition, yes, no], []) if _called(node) == "where":
            yield "swapped", ast.Call(node.func, [condition, no, yes], [])
        case ast.Call(function, arguments, keywords) if _takes_quantities(node):
            for i, pair in enumerate(itertools.pairwise(arguments)):
                if all(isinstance(one, ast.Name | ast.Attribute) for one in pair):
                    order = [*arguments[:i], *reversed(pair), *arguments[i + 2 :]]
                    yield "swapped", ast.Call(function, order, keywords)
    name = _called(node)
    if isinstance(node, ast.Call) and name in _EXCHANGED:
        function = copy.copy(node.func)
        setattr(function, "attr" if isinstance(function, ast.Attribute) else "id", _EXCHANGED[name])
        yield "extremum", ast.Call(function, node.args, node.keywords)


def _takes_quantities(call: ast.expr) -> bool:
    """Whether exchanged arguments of this call are a wrong formula and not a wrong type."""
    assert isinstance(call, ast.Call)
    of_numpy = ast.unparse(call.func).startswith(("np.", "elementwise.", "rng.", "stats."))
    first = ast.unparse(call.args[0]) if call.args else ""
    known = _called(call) in _NO_FORMULA | _SYMMETRIC
    return not (of_numpy or known or first in _NO_NUMBERS)


def _called(node: ast.AST | None) -> str:
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "attr", getattr(function, "id", ""))


# ---- a notebook and a wrong line


def cells(stem: str, quick: bool = True) -> list[str]:
    """The code cells of a notebook at the quick setting or its own; not those that only draw."""
    profile = yaml.safe_load((ROOT / "params" / "quick.yml").read_text(encoding="utf-8"))
    setting = profile.get(stem, {}) if quick else {}
    found = []
    for cell in read_notebook(NOTEBOOKS / f"{stem}.ipynb").cells:
        tags = cell.metadata.get("tags", [])
        draws = "figure" in cell.metadata.get("mystnb", {})
        if cell.cell_type == "code" and "remove-cell" not in tags and not draws:
            found.append(cell.source)
        if "parameters" in tags:
            found += [f"{name} = {value!r}" for name, value in setting.items()]
    return found


def stems() -> list[str]:
    """The notebooks that need no extra."""
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    return [path.stem for path in paths if not missing_packages(read_notebook(path))]


def plant(error: Error) -> None:
    """Put the wrong statement into the library of this process.

    Raises
    ------
    ValueError : the statement is not there any more.
    """
    module = importlib.import_module(f"rlvrlib.{error.module}")
    if "[" in error.function:
        table, _, key = error.function.partition("[")
        _statement(error)
        vars(module)[table][ast.literal_eval(key[:-1])] = eval(error.after, vars(module))
        return
    found: Any = module
    for name in error.function.split("."):
        if inspect.isfunction(found):
            break  # what is defined in a function is compiled with it
        found = inspect.unwrap(vars(found)[name])
        found = getattr(found, "fget", getattr(found, "__func__", found))
    statement, tree = _statement(error)
    wrong_tree = copy.deepcopy(tree, {id(statement.node): ast.parse(error.after).body[0]})
    code = compile(ast.fix_missing_locations(wrong_tree), str(THEORY / error.module), "exec")
    found.__code__ = next(one for one in _codes(code) if one.co_qualname == found.__qualname__)


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse((THEORY / f"{module}.py").read_text(encoding="utf-8"))


def _statement(error: Error) -> tuple[Statement, ast.Module]:
    tree = _tree(error.module)
    for one in statements(error.module, tree):
        if (one.function, one.text, one.number) == (error.function, error.before, error.number):
            return one, tree
    raise ValueError(f"error {error.id} must name a statement of {error.module}, got one not there")


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            yield one
            yield from _codes(one)


class Execution:
    """A notebook that is executed cell by cell in this process, and the rows that it shows."""

    def __init__(self, stem: str):
        self.cells, self.rows, self._names = cells(stem), {}, {"__name__": "__main__"}
        importlib.import_module("matplotlib").use("agg")
        warnings.simplefilter("ignore")
        os.chdir(NOTEBOOKS)  # where a kernel would run
        claims.show = self._show

    def _show(self, *shown: claims.Claim) -> None:
        self.rows |= {claim.key: claim.row() for claim in shown}

    def go_on(self, first: int, last: int | None = None) -> None:
        """Execute some of the cells."""
        with contextlib.redirect_stdout(io.StringIO()):
            for source in self.cells[first:last]:
                exec(compile(source, "cell", "exec"), self._names)


def forked(work: Callable[[], Any], limit: float = 3600.0) -> Any:
    """What ``work`` gives in a process of its own; a text where it raises, or needs more than so
    many seconds of a processor.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 1))
        try:
            answer = work()
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            where = [f.name for f in frames if f.filename.startswith(str(THEORY))]
            line = str(error).strip().split("\n")[0][:80]
            answer = f"{type(error).__name__}{' in ' + where[-1] if where else ''}: {line}"
        with os.fdopen(write_end, "w") as out:
            json.dump(answer, out)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as source:
        text = source.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else "does not end"


class Watch:
    """Which of some statements are executed while this is entered.

    Attributes
    ----------
    now : what is noted beside a statement when it is executed for the first time.
    first : that, by the number of the statement.
    """

    def __init__(self, watched: list[Statement]):
        self._lines: dict[tuple[str, int], list[int]] = defaultdict(list)
        for number, one in enumerate(watched):
            for line in _lines(one.node):
                self._lines[str(THEORY / f"{one.module}.py"), line].append(number)
        self._left: dict[types.CodeType, set[int]] = {}
        self.now, self.first = 0, dict[int, int]()

    def __enter__(self) -> Watch:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: Any, event: str, _: Any) -> Any:
        code = frame.f_code
        if code not in self._left:
            lines = {line for *_, line in code.co_lines() if line}
            self._left[code] = {n for n in lines if (code.co_filename, n) in self._lines}
        if event == "line" and frame.f_lineno in self._left[code]:
            self._left[code].remove(frame.f_lineno)
            for number in self._lines[code.co_filename, frame.f_lineno]:
                self.first.setdefault(number, self.now)
        return self._trace if self._left[code] else None


def _lines(node: Any) -> range:
    return range(node.lineno, node.end_lineno + 1)


def scouted(stem: str, watched: list[Statement]) -> dict[str, Any]:
    """Which cell of a notebook is the first that executes each statement, -1 where none does; its
    rows; and the seconds of a processor that it needs.
    """

    def work() -> dict[str, Any]:
        execution, watch, start = Execution(stem), Watch(watched), time.process_time()
        with watch:
            for watch.now in range(len(execution.cells)):
                execution.go_on(watch.now, watch.now + 1)
        seconds = time.process_time() - start
        # the powers in a row of the table are read without a line that says so
        first = [
            watch.first.get(number, 0 if one.function.startswith("METHODS") else -1)
            for number, one in enumerate(watched)
        ]
        return {"first": first, "rows": execution.rows, "seconds": seconds}

    found = forked(work)
    if isinstance(found, str):
        raise SystemExit(f"{stem} stops without an error: {found}")
    return found


# ---- the frozen choice

# A guarantee may be wrong on the unsafe side: these functions and those of `thresholds` get twice
# as many errors.
_GUARANTEES = set("regularity local_regularity wrong_feature_range failure_law exact".split())
_GUARANTEES |= {"critical_step", "angle_curvature"}


def candidates(executed: list[Statement]) -> Iterator[Error]:
    """Every wrong form of these statements."""
    for s in executed:
        for kind, after in wrong(s):
            said = "\n".join([s.module, s.function, str(s.number), s.text, after])
            name = hashlib.sha256(said.encode()).hexdigest()[:8]
            yield Error(name, s.module, s.function, s.number, kind, s.text, after)


def chosen(errors: list[Error]) -> list[Error]:
    """A few errors of each function, of different kinds and in different statements, in the order
    of their hashes.
    """
    by_function: dict[tuple[str, str], list[Error]] = defaultdict(list)
    for error in sorted(errors, key=lambda error: error.id):
        by_function[error.module, error.function].append(error)
    found = []
    for (module, function), offered in by_function.items():
        guarantee = module == "thresholds" or function.split(".")[-1] in _GUARANTEES
        quota = (1 + (len(offered) > 12)) * (1 + guarantee)
        taken: list[Error] = []
        for _ in range(min(quota, len(offered))):
            seen = Counter(error.kind for error in taken) + Counter(error.before for error in taken)
            left = [error for error in offered if error not in taken]
            taken.append(min(left, key=lambda error: seen[error.kind] + seen[error.before]))
        found += taken
    return sorted(found, key=lambda error: (error.module, error.function, error.id))


def freeze() -> None:
    """Choose the errors and write them down; not again once they are committed."""
    if (DATA / "errors.csv").exists():
        raise SystemExit(f"{DATA / 'errors.csv'} is there: the choice is frozen")
    known = [one for path in sorted(THEORY.glob("*.py")) for one in _of_module(path)]
    executed: set[int] = set()
    for stem in stems():
        first = scouted(stem, known)["first"]
        executed |= {number for number, cell in enumerate(first) if cell >= 0}
        print(f"{stem}: {len(executed)} of {len(known)} statements", flush=True)
    errors = list(candidates([known[number] for number in sorted(executed)]))
    picked = chosen(errors)
    print(f"{len(picked)} of {len(errors)} wrong lines")
    DATA.mkdir(parents=True, exist_ok=True)
    _write_table(DATA / "errors.csv", [f.name for f in fields(Error)], map(astuple, picked))


def add(since: str) -> None:
    """Choose by the same rule in functions that are new since a commit, or were rewritten so that
    none of their errors can be planted any more; whether a notebook executes them is not asked.
    """
    errors = read_errors()
    there = {(error.module, error.function) for error in errors if is_there(error)}
    lost = {(error.module, error.function) for error in errors} - there
    known = []
    for path in sorted(THEORY.glob("*.py")):
        shown = ["git", "show", f"{since}:rlvrlib/{path.name}"]
        old = subprocess.run(shown, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        before = {one.function for one in statements(path.stem, ast.parse(old))}
        known += [
            one
            for one in _of_module(path)
            if one.function not in before or (one.module, one.function) in lost
        ]
    new = [error for error in chosen(list(candidates(known))) if error not in errors]
    print(f"{len(new)} more wrong lines")
    _write_table(DATA / "errors.csv", [f.name for f in fields(Error)], map(astuple, errors + new))


def _of_module(path: Path) -> Iterator[Statement]:
    if path.stem not in NOT_THEORY:
        yield from statements(path.stem, ast.parse(path.read_text(encoding="utf-8")))


def read_errors() -> list[Error]:
    """The frozen errors."""
    with (DATA / "errors.csv").open(encoding="utf-8", newline="") as file:
        return [Error(**row | {"number": int(row["number"])}) for row in csv.DictReader(file)]


def _write_table(path: Path, names: list[str], rows: Any) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(names)
        table.writerows(rows)


# ---- planting


class Notebook:
    """A notebook as it is: its rows without an error, and which cell first executes which error."""

    def __init__(self, stem: str, errors: list[Error]):
        self._code = "\n".join(cells(stem))
        path = RESULTS / f"{stem}-{_hash(self._code)}.json"
        if not path.exists():
            there = {error.id: _statement(error)[0] for error in errors}
            found = scouted(stem, list(there.values()))
            first = dict(zip(there, found.pop("first"), strict=True))
            path.write_text(json.dumps(found | {"first": first}), encoding="utf-8")
        found = json.loads(path.read_text(encoding="utf-8"))
        self.stem, self.rows, self.seconds = stem, found["rows"], found["seconds"]
        self.first = {name: cell for name, cell in found["first"].items() if cell >= 0}

    def failed(self, result: dict[str, Any]) -> set[str]:
        """The rows that fail with an error, of those that without it are still what they were."""
        return {
            key
            for key, numbers in result["failed"].items()
            if key in self.predictions and not _differ(self.rows[key], numbers)
        }

    def stands(self, result: dict[str, Any]) -> bool:
        """Whether a result is still one of this notebook: it has not changed, or what noticed the
        error has not.
        """
        of_this = result["notebook"] == self.stem
        return of_this and (
            result["code"] == _hash(self._code)
            or bool(result["stopped"])
            or bool(self.failed(result))
        )

    @property
    def predictions(self) -> set[str]:
        """The rows that hold, and so can fail."""
        return {key for key, row in self.rows.items() if row["verdict"] == claims.HOLDS}

    def results(
        self, errors: list[Error], wanted: Callable[[Error], bool]
    ) -> Iterator[dict[str, Any]]:
        """What the notebook says with each error: the rows that fail, or how it stopped. Up to the
        first cell that executes the wrong line it is executed once for all.
        """
        execution = Execution(self.stem)
        for cell in range(len(execution.cells)):
            for error in errors:
                if self.first.get(error.id) == cell and wanted(error):
                    yield self._result(execution, error, cell)
            execution.go_on(cell, cell + 1)

    def _result(self, execution: Execution, error: Error, cell: int) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            plant(error)
            execution.go_on(cell)
            return execution.rows

        found = forked(work, 10 + 5 * self.seconds)
        known = {"error": error.id, "function": _function_around(error), "notebook": self.stem}
        known |= {"code": _hash(self._code), "stopped": "", "failed": {}, "changed": True}
        if isinstance(found, str):
            return known | {"stopped": found}
        held = {key for key, row in found.items() if row["verdict"] == claims.HOLDS}
        moved = any(_differ(found.get(key, {}), row) for key, row in self.rows.items())
        failed = {key: _numbers(self.rows[key]) for key in sorted(self.predictions - held)}
        return known | {"failed": failed, "changed": moved}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def _function_around(error: Error) -> str:
    """A hash of the function of the library that holds an error, or of the row of a table."""
    statement, tree = _statement(error)
    return next(
        _hash(ast.unparse(one))
        for one in [*_outermost_functions(tree), statement.node]
        if any(node is statement.node for node in ast.walk(one))
    )


def _outermost_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for one in ast.iter_child_nodes(tree):
        if isinstance(one, ast.FunctionDef):
            yield one
        elif isinstance(one, ast.ClassDef):
            yield from _outermost_functions(one)


_NUMBERS = ("predicted", "measured", "value", "verdict")


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _NUMBERS if name in row}


def _differ(row: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the numbers of two rows differ by more than rounding does."""
    for name in _NUMBERS:
        old, new = other.get(name), row.get(name)
        if isinstance(old, float) and isinstance(new, float):
            if abs(new - old) > 1e-9 * max(abs(new), abs(old)) + 1e-12:
                return True
        elif old != new:
            return True
    return False


def read_results(books: list[Notebook], errors: list[Error]) -> list[dict[str, Any]]:
    """The results that stand: the function with the error is what it was, and the notebook too or
    the rows that noticed it.
    """
    functions, by_stem = {e.id: _function_around(e) for e in errors}, {b.stem: b for b in books}
    path = RESULTS / "results.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [
        one
        for one in map(json.loads, lines)
        if functions.get(one["error"]) == one["function"]
        and one["notebook"] in by_stem
        and by_stem[one["notebook"]].stands(one)
    ]


def run(minutes: float, names: list[str], of_side: str | None) -> None:
    """Plant what has not been planted: first each error in the notebooks that execute it, in their
    order, until one notices; then in those with rows that noticed nothing; then the rest.
    """
    end = time.monotonic() + 60 * minutes
    errors = [error for error in read_errors() if is_there(error)]
    books = [Notebook(stem, errors) for stem in names]
    if of_side:
        sides = json.loads((RESULTS / "sides.json").read_text(encoding="utf-8"))
        errors = [error for error in errors if sides.get(error.id) == of_side]
    done = {(one["error"], one["notebook"]): one for one in read_results(books, errors)}
    print(f"{len(errors)} errors, {sum(len(book.predictions) for book in books)} rows that hold")

    def noticed(error: Error) -> bool:
        found = [done.get((error.id, book.stem)) for book in books]
        return any(one and (one["stopped"] or one["failed"]) for one in found)

    def silent(book: Notebook) -> set[str]:
        found = [book.failed(one) for (_, stem), one in done.items() if stem == book.stem]
        return book.predictions.difference(*found)

    rules: list[Callable[[Error, Notebook], bool]] = [
        lambda error, _: not noticed(error),
        lambda _, book: bool(silent(book)),
        lambda *_: True,
    ]
    for rule, book in itertools.product(rules, books):
        left = [error for error in errors if (error.id, book.stem) not in done]
        if not any(error.id in book.first and rule(error, book) for error in left):
            continue
        for one in book.results(left, lambda error, r=rule, b=book: r(error, b)):
            done[one["error"], one["notebook"]] = one
            with (RESULTS / "results.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(one) + "\n")
            if time.monotonic() > end:
                raise SystemExit("out of time: run again to go on")
        rest, rows = len(silent(book)), len(book.predictions)
        known = f"{sum(map(noticed, errors))} of {len(errors)} errors noticed"
        print(f"{known}; {book.stem}: {rest} of {rows} rows noticed nothing", flush=True)


def is_there(error: Error) -> bool:
    """Whether the statement of an error still stands in the library."""
    try:
        _statement(error)
    except ValueError:
        return False
    return True


# ---- the unsafe side, and the table


def find_sides() -> None:
    """On which side of the guarantees each error is, by those that execute its line."""
    errors = [error for error in read_errors() if is_there(error)]
    there, places = [_statement(error)[0] for error in errors], Places()
    guarantees(places)

    building = Watch(there)
    with building:
        calls = guarantees(places)
    right = {name: value(call) for name, call in calls.items()}
    calls = {name: call for name, call in calls.items() if not np.isnan(right[name]).all()}

    def executed() -> dict[str, list[int]]:
        """Of each guarantee the numbers of the errors whose lines it executes."""
        found = {}
        for name, call in calls.items():
            watch = Watch(there)
            with watch:
                value(call)
            found[name] = list(watch.first)
        return found

    by_guarantee = forked(executed)
    path = RESULTS / "sides.json"
    sides = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for number, error in enumerate(errors):
        of_building = number in building.first
        names = [name for name in calls if of_building or number in by_guarantee[name]]

        def work(error: Error = error, names: list[str] = names, anew: bool = of_building) -> str:
            plant(error)
            planted = guarantees(places) if anew else calls
            return side(right, {name: value(planted[name]) for name in names})

        if error.id not in sides:
            sides[error.id] = forked(work, 10) if names else "none"
            path.write_text(json.dumps(sides, indent=1), encoding="utf-8")
    print(Counter(sides.values()))


def write_table() -> None:
    """What was noticed: of each error its side, in how many notebooks it was not tried, the rows
    that fail, the notebooks that stop, and why nothing can notice it where that was found out by
    hand (``equivalent.csv``).
    """
    errors = read_errors()
    there = [error for error in errors if is_there(error)]
    books = [Notebook(stem, there) for stem in stems()]
    results, by_stem = read_results(books, there), {book.stem: book for book in books}
    sides = json.loads((RESULTS / "sides.json").read_text(encoding="utf-8"))
    with (DATA / "equivalent.csv").open(encoding="utf-8", newline="") as file:
        reasons = {row["error"]: row["reason"] for row in csv.DictReader(file)}
    rows = []
    for error in errors:
        found = sorted((one for one in results if one["error"] == error.id), key=_by_notebook)
        failed = [
            f"{one['notebook']}:{key}"
            for one in found
            for key in sorted(by_stem[one["notebook"]].failed(one))
        ]
        stopped = [one["notebook"] for one in found if one["stopped"]]
        executing = {book.stem for book in books if error.id in book.first}
        left = executing - {one["notebook"] for one in found}
        note = "" if failed + stopped else reasons.get(error.id, "")
        if not is_there(error):
            note = "the statement has changed since"
        elif not executing:
            note = "no notebook executes the statement"
        told = sides.get(error.id, "unknown")
        on = told if told in ("unsafe", "safe", "unknown") else "neither"
        rows.append([error.id, on, len(left), " ".join(failed), " ".join(stopped), note])
    names = ["error", "side", "left", "failed", "stopped", "note"]
    _write_table(DATA / "noticed.csv", names, rows)
    quiet = [
        f"{book.stem}:{key}"
        for book in books
        for key in sorted(
            book.predictions.difference(
                *(book.failed(one) for one in results if one["notebook"] == book.stem)
            )
        )
    ]
    print(f"{len(quiet)} predictions noticed nothing: {' '.join(quiet)}")


def _by_notebook(result: dict[str, Any]) -> str:
    return result["notebook"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["freeze", "add", "run", "sides", "table"])
    parser.add_argument("notebooks", nargs="*", help="stems for run; all where omitted")
    parser.add_argument("--side", choices=["unsafe", "safe", "none"], help="for run: only these")
    parser.add_argument("--since", help="for add: the commit of the last choice")
    parser.add_argument("--minutes", type=float, default=60)
    options = parser.parse_args()
    if Path(rlvrlib.__file__).parent != THEORY:
        raise SystemExit(f"rlvrlib must be that of {THEORY}, got {rlvrlib.__file__}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    if options.what == "freeze":
        freeze()
    elif options.what == "add":
        add(options.since)
    elif options.what == "run":
        run(options.minutes, options.notebooks or stems(), options.side)
    elif options.what == "sides":
        find_sides()
    else:
        write_table()


if __name__ == "__main__":
    main()
