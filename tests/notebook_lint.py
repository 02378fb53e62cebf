"""What a committed notebook must be, as a function: a list of what is wrong, empty where nothing
is.
"""

from __future__ import annotations

import ast
import builtins
import json
import re
import socket
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from rlvrlib.evidence import claims
from rlvrlib.running import parameters

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "book" / "_ext"))
from sources import results  # noqa: E402

RESULTS = results(ROOT)
CITED = re.findall(
    r"(?m)^@\w+\{([^,]+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
)
RELATIONS = {"equals", "at_most", "at_least", "less_than", "more_than"}
LEANS = re.compile(
    r"(?i)(^|: )(the same|and|although|but|while|it|its|they|their|these|this|that|those|there)\b"
)
ROW_KEYS = {
    "kind",
    "key",
    "statement",
    "source",
    "relation",
    "predicted",
    "measured",
    "tolerance",
    "predicted_text",
    "measured_text",
    "tolerance_text",
    "verdict",
    "reason",
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")
PATH = re.compile(
    r"(?<![\w.:/])/(?:home|root|tmp|usr|opt|work|private|Users|var|mnt)/|site-packages|[A-Z]:\\\\"
)
MAX_BYTES = 500_000
# What reads like a lecture.
MAX_COLUMNS, MAX_CELL, MAX_DEFINITIONS, MAX_HIDDEN = 100, 30, 12, 0.15


def lint(notebook: NotebookNode) -> list[str]:
    """Everything that is wrong with one notebook."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    if not code:
        return ["no code cell"]
    return [
        *_execution(code),
        *_install_cell(code[0]),
        *_parameters([cell for cell in code if "parameters" in tags(cell)]),
        *(problem for cell in code for problem in _figures(cell)),
        *_claims(code[-1]),
        *_form(code[1:]),
        *_traces(notebook),
    ]


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _execution(code: list[NotebookNode]) -> list[str]:
    problems = []
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        problems.append(f"execution counts are {counts}: execute the notebook from top to bottom")
    for cell in code:
        for output in cell.outputs:
            if output.output_type == "error" or output.get("name") == "stderr":
                problems.append(f"In [{cell.execution_count}] holds an error or standard error")
    return problems


def _install_cell(cell: NotebookNode) -> list[str]:
    if "remove-cell" in tags(cell) and "rlvrlib" in cell.source and not cell.outputs:
        return []
    return [
        "the first code cell must install rlvrlib where it is missing, silently, tagged remove-cell"
    ]


def _parameters(cells: list[NotebookNode]) -> list[str]:
    if len(cells) != 1:
        return [f"{len(cells)} cells are tagged parameters, not one"]
    problems = []
    for line in filter(None, map(str.strip, cells[0].source.splitlines())):
        match = parameters.LINE.fullmatch(line)
        # papermill drops the help of a parameter with '|' in its type or '=' in its comment.
        if not (match and match["type"] and match["comment"]) or (
            "|" in match["type"] or "=" in match["comment"]
        ):
            problems.append(
                f"parameter line is not `name: type = default  # meaning, range`: {line}"
            )
            continue
        try:
            ast.literal_eval(match["value"])
        except (ValueError, SyntaxError):
            problems.append(
                f"parameter {match['name']} is derived; papermill could not override it: {line}"
            )
    return problems or _ranges(cells[0].source)


def _ranges(source: str) -> list[str]:
    """Ranges that are not understood, and defaults outside theirs."""
    try:
        known = parameters.read(source)
        parameters.checked({name: parameter.default for name, parameter in known.items()}, known)
    except ValueError as error:
        return [str(error)]
    return [
        f"the range of {name} is not understood (see rlvrlib.running.parameters): "
        f"{known[name].meaning}"
        for name in parameters.unchecked(known, known)
        if known[name].type != "str"  # any text may be meant
    ]


def _figures(cell: NotebookNode) -> list[str]:
    images = [
        mime
        for output in cell.outputs
        for mime in output.get("data", {})
        if mime.startswith("image/")
    ]
    if not images:
        return []
    problems, metadata = [], cell.metadata.get("mystnb", {})
    for group, field in (("figure", "name"), ("figure", "caption"), ("image", "alt")):
        if not str(metadata.get(group, {}).get(field, "")).strip():
            problems.append(f"the figure of In [{cell.execution_count}] has no {field}")
    if len(cell.outputs) != 1:
        problems.append(
            f"In [{cell.execution_count}] has outputs beside its figure: end it with plt.show()"
        )
    return problems


def _claims(cell: NotebookNode) -> list[str]:
    if "claims" not in tags(cell):
        return ["the last code cell must show the claims and be tagged claims"]
    rows: list[dict[str, Any]] = [
        row for output in cell.outputs for row in output.metadata.get("claims", [])
    ]
    if not rows or any(ROW_KEYS - set(row) for row in rows):
        return ["the claims cell holds no rows in its output's metadata, or incomplete ones"]
    return []


def lint_rows(notebook: NotebookNode) -> list[str]:
    """What is wrong with the predictions and records of a notebook."""
    rows = claims.rows_of(notebook)
    problems = [
        f"{row['key']}: neither a prediction nor a record"
        for row in rows
        if row.get("kind") not in ("prediction", "record")
    ]
    for row in rows:
        if LEANS.search(row["statement"]):
            problems.append(f"{row['key']}: does not stand alone: {row['statement']}")
        if row.get("kind") != "record":
            unknown = [p for p in row["source"].split("; ") if not _resolves(p)]
            problems += [f"{row['key']}: no such result or citation: {p!r}" for p in unknown]
    said = Counter(row["statement"] for row in rows)
    problems += [f"two rows say: {text}" for text, times in said.items() if times > 1]
    return problems + _echoes(notebook)


def _resolves(source: str) -> bool:
    return (
        source.lower() in RESULTS
        or source.removeprefix("@") in CITED
        or bool(re.fullmatch(r"approximation: \S.*", source))
    )


def _echoes(notebook: NotebookNode) -> list[str]:
    """Predictions whose predicted value is computed from what their measured value reads. The
    parameters, imports and functions of the notebook may feed both.
    """
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    cells = [cell for cell in code if "remove-cell" not in tags(cell)]
    trees = [ast.parse(cell.source) for cell in cells]
    known, made = set[str](), dict[str, ast.expr]()
    for cell, tree in zip(cells, trees, strict=True):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                known |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            elif isinstance(node, ast.FunctionDef):
                known.add(node.name)
            elif isinstance(node, ast.AnnAssign) and "parameters" in tags(cell):
                known.add(ast.unparse(node.target))
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                made[node.targets[0].id] = node.value
    problems = []
    for call in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if (sides := _sides(call)) is None:
            continue
        predicted, measured = (_reads(side, known) for side in sides)
        behind = set[str]()
        while new := predicted - behind:
            behind |= new
            predicted |= {p for name in new & made.keys() for p in _reads(made[name], known)}
        if both := sorted(m for m in measured for p in behind if _overlap(m, p)):
            problems.append(f"{ast.unparse(call.args[0])}: {both[0]} feeds predicted and measured")
    return problems


def _sides(call: ast.Call) -> tuple[ast.expr, ast.expr] | None:
    """The predicted and the measured argument of a call that makes predictions."""
    name = ast.unparse(call.func).split(".")[-1]
    if name not in RELATIONS | {"each"} or not call.args:
        return None
    if stars := [argument for argument in call.args if isinstance(argument, ast.Starred)]:
        return stars[0].value, stars[0].value  # one name holds both
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    first = 4 if name == "each" else 3
    sides = dict(zip(("predicted", "measured"), call.args[first:], strict=False)) | given
    return sides.get("bound", sides.get("predicted", ast.Constant(0))), sides["measured"]


def _reads(expression: ast.expr, known: Iterable[str]) -> set[str]:
    """What an expression reads: ``found['a']`` is not ``found['b']``; an index is not read."""

    def paths(node: ast.AST) -> Iterator[str]:
        root = node
        while isinstance(root, ast.Subscript | ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name):
            yield ast.unparse(node)
            return
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            parts: list[ast.AST] = [node.func.value, *node.args, *node.keywords]
        elif isinstance(node, ast.DictComp):  # its keys name the cases
            parts = [node.value, *node.generators]
        else:
            parts = list(ast.iter_child_nodes(node))
        for part in parts:
            yield from paths(part)

    inner = {n.id for n in ast.walk(expression) if isinstance(n, ast.Name)} & {
        n.id
        for c in ast.walk(expression)
        if isinstance(c, ast.comprehension)
        for n in ast.walk(c.target)
        if isinstance(n, ast.Name)
    }
    roots = set(known) | inner | set(dir(builtins))
    return {path for path in paths(expression) if re.split(r"[.\[]", path)[0] not in roots}


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith((f"{other}[", f"{other}.")) or other.startswith(
        (f"{one}[", f"{one}.")
    )


def _form(code: list[NotebookNode]) -> list[str]:
    """A lecture has short cells and lines, few definitions, no class, and hides little."""
    problems = []
    lengths = [sum(map(bool, map(str.strip, cell.source.splitlines()))) for cell in code]
    hidden = sum(n for n, cell in zip(lengths, code, strict=True) if "hide-input" in tags(cell))
    if hidden > MAX_HIDDEN * sum(lengths):
        problems.append(f"{hidden} of {sum(lengths)} lines are hidden, more than {MAX_HIDDEN:.0%}")
    statements = [node for cell in code for node in ast.parse(cell.source).body]
    if any(isinstance(node, ast.ClassDef) for node in statements):
        problems.append("defines a class: what is not an experiment belongs into the library")
    definitions = sum(isinstance(node, ast.FunctionDef) for node in statements)
    if definitions > MAX_DEFINITIONS:
        problems.append(f"has {definitions} definitions, more than {MAX_DEFINITIONS}")
    for length, cell in zip(lengths, code, strict=True):
        where = f"In [{cell.execution_count}]"
        if length > MAX_CELL:
            problems.append(f"{where} has {length} lines, more than {MAX_CELL}")
        if wide := [line for line in cell.source.splitlines() if len(line) > MAX_COLUMNS]:
            problems.append(f"{where} has a line of {len(wide[0])} columns: {wide[0][:60]}...")
    return problems + _drawn_names(code)


def _drawn_names(code: list[NotebookNode]) -> list[str]:
    """A cell with a figure only draws: what it binds no other cell reads."""
    problems, drawn = [], dict[str, int]()
    for cell in code:
        nodes = list(ast.walk(ast.parse(cell.source)))
        names = [node for node in nodes if isinstance(node, ast.Name)]
        bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        arguments = {node.arg for node in nodes if isinstance(node, ast.arg)}
        read = {node.id for node in names if isinstance(node.ctx, ast.Load)} - bound - arguments
        if "figure" in cell.metadata.get("mystnb", {}):
            drawn |= dict.fromkeys(bound, cell.execution_count)
            continue
        problems += [
            f"In [{cell.execution_count}] reads {name}, bound by the figure of In [{drawn[name]}]"
            for name in sorted(read & drawn.keys())
        ]
        for name in bound:
            drawn.pop(name, None)
    return problems


def _traces(notebook: NotebookNode) -> list[str]:
    """What a run leaves behind: papermill's metadata, times, paths, the machine's name."""
    problems = []
    for name, metadata in [
        ("the notebook", notebook.metadata),
        *((f"cell {c.id}", c.metadata) for c in notebook.cells),
    ]:
        if left := {"papermill", "execution", "book"} & set(metadata):
            problems.append(f"{name} holds metadata of a run: {', '.join(sorted(left))}")
    text = json.dumps(_without_pictures(notebook))
    for meaning, pattern in (("a time", TIME), ("a path of a machine", PATH)):
        if match := pattern.search(text):
            start = max(match.start() - 30, 0)
            problems.append(f"holds {meaning}: ...{text[start : match.end() + 30]}...")
    host = socket.gethostname()
    for printed in _printed(notebook):
        if "://" in printed or (len(host) > 3 and host in printed):
            problems.append(f"prints the name of a host: {printed[:80]!r}")
    if len(json.dumps(notebook).encode()) > MAX_BYTES:
        problems.append(f"is larger than {MAX_BYTES} bytes")
    return problems


def _without_pictures(node: Any) -> Any:
    """The notebook without base64 data, in which any pattern may occur by chance."""
    if isinstance(node, dict):
        return {
            key: _without_pictures(value)
            for key, value in node.items()
            if key not in ("image/png", "image/jpeg")
        }
    return [_without_pictures(value) for value in node] if isinstance(node, list) else node


def _printed(notebook: NotebookNode) -> list[str]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [
        str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
        for output in outputs
    ]
