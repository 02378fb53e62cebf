"""Which rows of claims notice which wrong line of the theory?

    python measurements/planted_errors.py freeze     choose the errors, once: errors.csv
    python measurements/planted_errors.py run        plant them one at a time: results.jsonl
    python measurements/planted_errors.py table      what was noticed: noticed.csv

An error is one wrong statement in the body of a function of the theory (`rlvrlib/*.py`): a factor
of two, a sign, a dropped term, an exponent, arguments that changed places. It is known by its
function, the statement and its number among equal ones, so that it survives when lines move. The
choice was frozen before the rows were sorted into predictions and records, and holds statements
that at least one notebook executes with the quick profile. A process with the wrong line executes
the code of a notebook without its figures, and the rows that fail are written down; results are
kept by the content of the notebook and of the library, so that a run that was stopped goes on.
Notebooks that need an extra are left out.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import csv
import hashlib
import importlib.machinery
import importlib.util
import io
import itertools
import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

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


# ---- running a notebook with a wrong line


def notebook_code(stem: str, setting: dict[str, Any]) -> str:
    """The code of a notebook at a setting, without the cells that only draw."""
    sources = []
    for cell in read_notebook(NOTEBOOKS / f"{stem}.ipynb").cells:
        tags = cell.metadata.get("tags", [])
        draws = "figure" in cell.metadata.get("mystnb", {})
        if cell.cell_type == "code" and "remove-cell" not in tags and not draws:
            sources.append(cell.source)
        if "parameters" in tags:
            sources += [f"{name} = {value!r}" for name, value in setting.items()]
    return "\n".join(sources)


def quick_settings() -> dict[str, dict[str, Any]]:
    """The settings of the quick profile, by notebook."""
    return yaml.safe_load((ROOT / "params" / "quick.yml").read_text(encoding="utf-8"))


def stems() -> list[str]:
    """The notebooks that need no extra."""
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    return [path.stem for path in paths if not missing_packages(read_notebook(path))]


def planted_source(error: Error) -> str:
    """The source of the module with the wrong statement in it.

    Raises
    ------
    ValueError : the statement is not there any more.
    """
    tree = ast.parse((THEORY / f"{error.module}.py").read_text(encoding="utf-8"))
    for statement in statements(error.module, tree):
        known = (statement.function, statement.text, statement.number)
        if known == (error.function, error.before, error.number):
            new = ast.parse(error.after).body[0]
            if isinstance(statement.node, ast.expr):
                assert isinstance(new, ast.Expr)
                changed: ast.AST = _exchange(tree, statement.node, new.value)
            else:
                changed = _exchange(tree, statement.node, new)
            return ast.unparse(ast.fix_missing_locations(changed))
    raise ValueError(f"error {error.id} must name a statement of {error.module}, got one not there")


def _exchange(tree: ast.AST, old: ast.AST, new: ast.AST) -> ast.AST:
    return copy.deepcopy(tree, {id(old): new})


class _Wrong(importlib.machinery.SourceFileLoader):
    """Loads a module from another source than its file."""

    def __init__(self, name: str, path: str, source: str):
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> Any:
        return compile(self._source, self.path, "exec", dont_inherit=True)


class _Finder:
    """Finds one module with a wrong line."""

    def __init__(self, error: Error):
        self._name, self._source = f"rlvrlib.{error.module}", planted_source(error)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self._name:
            return None
        file = str(THEORY / f"{name.rpartition('.')[2]}.py")
        loader = _Wrong(name, file, self._source)
        return importlib.util.spec_from_file_location(name, file, loader=loader)


def _fresh_library(error: Error | None) -> Any:
    """Import the library anew, with the error in it; the module of claims."""
    for name in [name for name in sys.modules if name.split(".")[0] == "rlvrlib"]:
        del sys.modules[name]
    if error:
        sys.meta_path.insert(0, _Finder(error))
    return importlib.import_module("rlvrlib.evidence.claims")


def _rows(code: str, error: Error | None) -> list[dict[str, Any]]:
    """The rows of claims that a notebook's code shows with an error in the library."""
    shown: list[dict[str, Any]] = []
    claims = _fresh_library(error)
    claims.show = lambda *rows: shown.extend(claim.row() for claim in rows)
    os.chdir(NOTEBOOKS)  # where a kernel would run
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, "notebook", "exec"), {"__name__": "__main__"})
    return shown


def _forked(work: Callable[[], Any], limit: float) -> Any:
    """What ``work`` gives in a process of its own; a text where it raises or does not end."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        signal.alarm(int(limit) + 1)
        try:
            answer = work()
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            where = next((f for f in reversed(frames) if f.filename.startswith(str(THEORY))), None)
            line = str(error).strip().split("\n")[0][:100]
            place = f" in {Path(where.filename).stem}.{where.name}" if where else ""
            answer = f"{type(error).__name__}{place}: {line}"
        with os.fdopen(write_end, "w") as out:
            json.dump(answer, out)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as source:
        text = source.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else "does not end"


# ---- which statements a notebook executes


def reached(stem: str) -> list[tuple[str, str, str, int]]:
    """Module, function, text and number of the statements that a notebook executes; traced once
    for each state of the notebook.
    """
    code = notebook_code(stem, quick_settings().get(stem, {}))
    path = RESULTS / f"reach-{stem}-{hashlib.sha256(code.encode()).hexdigest()[:12]}.json"
    if not path.exists():
        RESULTS.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_traced(code)), encoding="utf-8")
    return [tuple(one) for one in json.loads(path.read_text(encoding="utf-8"))]


def _traced(code: str) -> list[tuple[str, str, str, int]]:
    lines: set[tuple[str, int]] = set()
    modules = {str(THEORY / f"{name}.py"): name for name in _theory()}

    def trace(frame: Any, event: str, _: Any) -> Any:
        name = modules.get(frame.f_code.co_filename)
        if name is None:
            return None
        if event == "line":
            lines.add((name, frame.f_lineno))
        return trace

    def work() -> Any:
        sys.settrace(trace)
        _rows(code, None)
        sys.settrace(None)
        return [
            (name, statement.function, statement.text, statement.number)
            for name in modules.values()
            for statement in _all_statements(name)
            if any((name, line) in lines for line in _lines(statement.node))
        ]

    found = _forked(work, 1200)
    assert not isinstance(found, str), found
    return found


def _theory() -> list[str]:
    return [path.stem for path in sorted(THEORY.glob("*.py")) if path.stem not in NOT_THEORY]


def _all_statements(module: str) -> list[Statement]:
    tree = ast.parse((THEORY / f"{module}.py").read_text(encoding="utf-8"))
    return list(statements(module, tree))


def _lines(node: ast.AST) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)  # type: ignore[attr-defined]


# ---- the frozen choice

# A guarantee may be wrong on the unsafe side: these functions and those of `thresholds` get twice
# as many errors.
_GUARANTEES = set("regularity local_regularity wrong_feature_range failure_law exact".split())
_GUARANTEES |= {"critical_step", "angle_curvature"}


def candidates(reach: dict[str, list[tuple[str, str, str, int]]]) -> Iterator[Error]:
    """Every wrong form of the statements that some notebook executes."""
    executed = {one for found in reach.values() for one in found}
    for module in _theory():
        for s in _all_statements(module):
            if (module, s.function, s.text, s.number) not in executed:
                continue
            for kind, after in wrong(s):
                said = "\n".join([module, s.function, str(s.number), s.text, after])
                name = hashlib.sha256(said.encode()).hexdigest()[:8]
                yield Error(name, module, s.function, s.number, kind, s.text, after)


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
    reach = {}
    for stem in stems():
        reach[stem] = reached(stem)
        print(f"{stem}: {len(reach[stem])} statements", flush=True)
    errors = list(candidates(reach))
    picked = chosen(errors)
    print(f"{len(picked)} of {len(errors)} wrong lines")
    DATA.mkdir(parents=True, exist_ok=True)
    _write_table(DATA / "errors.csv", [f.name for f in fields(Error)], map(astuple, picked))


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


def library_key() -> str:
    """A hash of what a run depends on beside its notebook and the error."""
    digest = hashlib.sha256()
    for path in [*sorted(ROOT.glob("rlvrlib/**/*.py")), ROOT / "params" / "quick.yml"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def planted(error: Error | None, stem: str, limit: float = 600.0) -> list[dict[str, Any]] | str:
    """The rows of a notebook with an error in the library, or with what words it stopped."""
    code = notebook_code(stem, quick_settings().get(stem, {}))
    return _forked(lambda: _rows(code, error), limit)


def key_of(stem: str) -> str:
    """What names the state of a notebook and of the library in the results."""
    code = notebook_code(stem, quick_settings().get(stem, {}))
    return hashlib.sha256((code + library_key()).encode()).hexdigest()[:12]


class Notebook:
    """A notebook as it is: its rows without an error, and the errors that it executes."""

    def __init__(self, stem: str, found: dict[str, Any]):
        self.stem, self.key, self.reach = stem, key_of(stem), set(reached(stem))
        self.rows = {str(row["key"]): row for row in found["rows"]}
        self.seconds = found["seconds"]

    @property
    def predictions(self) -> set[str]:
        """The rows that hold, and so can fail."""
        return {key for key, row in self.rows.items() if row.get("verdict") == "holds"}

    def executes(self, error: Error) -> bool:
        return (error.module, error.function, error.before, error.number) in self.reach

    def result(self, error: Error) -> dict[str, Any]:
        """What the notebook says with an error: the rows that fail, or how it stopped."""
        found = planted(error, self.stem, 10 + 6 * self.seconds)
        known = {"error": error.id, "notebook": self.stem, "key": self.key}
        if isinstance(found, str):
            return known | {"stopped": found, "failed": [], "changed": True}
        rows = {str(row["key"]): row for row in found}
        failed = [k for k in self.predictions if rows.get(k, {}).get("verdict") != "holds"]
        moved = rows.keys() != self.rows.keys() or any(
            _differ(rows[key], row) for key, row in self.rows.items()
        )
        return known | {"stopped": "", "failed": sorted(failed), "changed": moved}


def _differ(row: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the numbers of two rows differ by more than rounding does."""
    for name in other:
        old, new = other[name], row.get(name)
        if isinstance(old, float) and isinstance(new, float):
            if abs(new - old) > 1e-9 * max(abs(new), abs(old)) + 1e-12:
                return True
        elif old != new and not name.endswith("_text"):
            return True
    return False


def notebooks() -> list[Notebook]:
    """All notebooks, without errors: kept from the last time where nothing changed."""
    for name in ("matplotlib.pyplot", "scipy.optimize", "scipy.interpolate", "scipy.stats"):
        importlib.import_module(name)  # once, before the processes part
    found = []
    for stem in stems():
        path = RESULTS / f"{stem}-{key_of(stem)}.json"
        if not path.exists():
            RESULTS.mkdir(parents=True, exist_ok=True)
            start = time.perf_counter()
            rows = planted(None, stem)
            assert not isinstance(rows, str), f"{stem} stops without an error: {rows}"
            seconds = time.perf_counter() - start
            path.write_text(json.dumps({"rows": rows, "seconds": seconds}), encoding="utf-8")
            print(f"{stem}: {len(rows)} rows in {seconds:.1f} s", flush=True)
        found.append(Notebook(stem, json.loads(path.read_text(encoding="utf-8"))))
    return found


def read_results(books: list[Notebook]) -> list[dict[str, Any]]:
    """The results of the notebooks as they are now."""
    keys = {(book.stem, book.key) for book in books}
    path = RESULTS / "results.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = map(json.loads, lines)
    return [one for one in found if (one["notebook"], one["key"]) in keys]


def run(minutes: float) -> None:
    """Plant what has not been planted. First each error in the notebooks that execute it, the
    fastest first, until one notices; then, for each row that noticed nothing, what its notebook
    has not seen; then the rest.
    """
    books, end = notebooks(), time.monotonic() + 60 * minutes
    errors = [error for error in read_errors() if _is_there(error)]
    done = {(one["error"], one["notebook"]): one for one in read_results(books)}
    share = {error.id: sum(book.executes(error) for book in books) for error in errors}

    def noticed(error: Error) -> bool:
        found = [done.get((error.id, book.stem)) for book in books]
        return any(one and (one["stopped"] or one["failed"]) for one in found)

    def silent(book: Notebook) -> set[str]:
        found = [one["failed"] for (_, stem), one in done.items() if stem == book.stem]
        return book.predictions.difference(*found)

    def plant(wanted: Callable[[Error, Notebook], bool], pairs: Any) -> None:
        for error, book in pairs:
            if (error.id, book.stem) in done or not book.executes(error):
                continue
            if not wanted(error, book):
                continue
            if time.monotonic() > end:
                raise SystemExit("out of time: run again to go on")
            one = done[error.id, book.stem] = book.result(error)
            with (RESULTS / "results.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(one) + "\n")

    fast = sorted(books, key=lambda book: book.seconds)
    rare = sorted(errors, key=lambda error: share[error.id])
    plant(lambda error, _: not noticed(error), ((e, b) for e in errors for b in fast))
    print(f"noticed: {sum(map(noticed, errors))} of {len(errors)}", flush=True)
    plant(lambda _, book: bool(silent(book)), ((e, b) for b in fast for e in rare))
    print(f"rows that notice nothing: {sum(len(silent(b)) for b in books)}", flush=True)
    plant(lambda *_: True, ((e, b) for e in errors for b in fast))


def _is_there(error: Error) -> bool:
    try:
        planted_source(error)
    except ValueError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["freeze", "run"])
    parser.add_argument("--minutes", type=float, default=60)
    options = parser.parse_args()
    if options.what == "freeze":
        freeze()
    else:
        run(options.minutes)


if __name__ == "__main__":
    main()
