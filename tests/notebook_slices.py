"""The part of a notebook that some of its claims need: a program slice.

From the claims backwards a statement is kept if it binds a name that a later one still reads, or
changes an object that one reads. What changes an object is guessed from the text: an assignment to
a part of it, a container that is handed to a call or whose method is called, any use of a random
generator.
"""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterable
from dataclasses import dataclass, field

_CONTAINERS = (ast.List, ast.Dict, ast.Set)
_STATEFUL = {"default_rng", "iter"}  # what they return changes with every use


def program(cells: Iterable[str], keys: set[str] | None = None) -> ast.Module:
    """The program of a notebook, or the part of it that makes these claims and no others.

    Parameters
    ----------
    cells : the sources of the code cells, in order.
    keys : of the claims; one whose key is computed stays where it may be one of these.
    """
    statements = [statement for cell in cells for statement in ast.parse(cell).body]
    if keys is None:
        return ast.Module(statements, [])
    for statement in statements:
        if call := _shows_claims(statement):
            call.args = [one for one in call.args if _may_be(one, keys)]
    uses = [_Use.of(statement) for statement in statements]
    containers, streams = _objects_with_state(statements)
    inside: dict[
        str, _Use
    ] = {}  # what a function of the notebook reads and changes when it is called
    for statement, use in zip(statements, uses, strict=True):
        use.changed |= _handed_on(statement, containers).union(
            *(streams[name] for name in use.reads & streams.keys())
        )
        for called in [inside[name] for name in sorted(use.reads) if name in inside]:
            use.reads, use.changed = use.reads | called.reads, use.changed | called.changed
        if _defines_a_function(statement):
            inside |= dict.fromkeys(use.bound, _Use(use.reads, set(), use.changed))
    needed: set[str] = set()
    kept = []
    for statement, use in zip(reversed(statements), reversed(uses), strict=True):
        if (use.bound | use.changed) & needed or _shows_claims(statement):
            kept.append(statement)
            needed = (needed - use.surely) | use.reads
    return ast.Module(kept[::-1], [])


@dataclass
class _Use:
    """Names that a piece of a program reads before it binds them, may bind, binds in any case, and
    whose objects it changes.
    """

    reads: set[str] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    surely: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, piece: ast.stmt) -> _Use:
        match piece:
            case ast.For():
                return cls._leaf(piece.iter).then(
                    cls._branches(cls._target(piece.target).then(cls._block(piece.body)), cls())
                )
            case ast.If():
                return cls._leaf(piece.test).then(
                    cls._branches(cls._block(piece.body), cls._block(piece.orelse))
                )
            case ast.With():
                whole = cls()
                for item in piece.items:
                    whole = whole.then(cls._leaf(item.context_expr))
                    whole = (
                        whole.then(cls._target(item.optional_vars)) if item.optional_vars else whole
                    )
                return whole.then(cls._block(piece.body))
            case _:
                return cls._leaf(piece)

    def then(self, later: _Use) -> _Use:
        return _Use(
            self.reads | (later.reads - self.surely),
            self.bound | later.bound,
            self.changed | later.changed,
            self.surely | later.surely,
        )

    @classmethod
    def _block(cls, body: Iterable[ast.stmt]) -> _Use:
        whole = cls()
        for statement in body:
            whole = whole.then(cls.of(statement))
        return whole

    @classmethod
    def _branches(cls, one: _Use, other: _Use) -> _Use:
        return cls(
            one.reads | other.reads,
            one.bound | other.bound,
            one.changed | other.changed,
            one.surely & other.surely,
        )

    @classmethod
    def _target(cls, piece: ast.expr) -> _Use:
        """Of a loop or a context."""
        bound = {
            one.id
            for one in ast.walk(piece)
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
        }
        return cls(set(), bound, set(), bound)

    @classmethod
    def _leaf(cls, piece: ast.AST) -> _Use:
        """A simple statement, a definition or an expression. Python itself says which names are
        whose.
        """
        table = symtable.symtable(ast.unparse(piece), "notebook", "exec")
        own = table.get_symbols()
        bound = {one.get_name() for one in own if one.is_assigned() or one.is_imported()}
        reads = {one.get_name() for one in own if one.is_referenced()} | set(_globals_inside(table))
        parts = {
            name.id
            for node in ast.walk(piece)
            if isinstance(node, ast.Subscript | ast.Attribute)
            and not isinstance(node.ctx, ast.Load)
            for name in ast.walk(node.value)
            if isinstance(name, ast.Name)
        }
        if isinstance(piece, ast.AugAssign):
            reads |= bound
        return cls(reads, bound, parts, bound)


def _globals_inside(table: symtable.SymbolTable) -> Iterable[str]:
    for child in table.get_children():
        yield from (
            one.get_name() for one in child.get_symbols() if one.is_global() and one.is_referenced()
        )
        yield from _globals_inside(child)


def _shows_claims(statement: ast.stmt) -> ast.Call | None:
    match statement:
        case ast.Expr(ast.Call(ast.Attribute(ast.Name("claims"), "show")) as call):
            return call
    return None


def _may_be(argument: ast.expr, keys: set[str]) -> bool:
    """Whether an argument of ``claims.show`` makes one of these claims, as far as its text tells."""
    for call in (node for node in ast.walk(argument) if isinstance(node, ast.Call) and node.args):
        match call:
            case ast.Call(ast.Attribute(ast.Name("claims")), [ast.Constant(str(key)), *_]):
                return key in keys
            case ast.Call(
                ast.Attribute(ast.Name("claims")),
                [ast.JoinedStr([ast.Constant(str(start)), *_]), *_],
            ):
                return any(key.startswith(start) for key in keys)
    return True


def _defines_a_function(statement: ast.stmt) -> bool:
    return any(
        isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)
        for node in ast.walk(statement)
    )


def _objects_with_state(statements: Iterable[ast.stmt]) -> tuple[set[str], dict[str, set[str]]]:
    """Names of containers. Names of random generators, of iterators and of instances that hold one,
    each with all that its use changes.
    """
    containers: set[str] = set()
    streams: dict[str, set[str]] = {}
    for node in (
        node
        for statement in statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Assign)
    ):
        names = {
            one.id
            for target in node.targets
            for one in ast.walk(target)
            if isinstance(one, ast.Name)
        }
        parts = list(ast.walk(node.value))
        called = {
            getattr(part.func, "attr", getattr(part.func, "id", ""))
            for part in parts
            if isinstance(part, ast.Call)
        }
        held = {part.id for part in parts if isinstance(part, ast.Name)} & streams.keys()
        if called & _STATEFUL or (held and any(name[:1].isupper() for name in called)):
            for name in names:
                streams[name] = names.union(
                    streams.get(name, set()), *(streams[one] for one in held)
                )
        elif any(isinstance(part, _CONTAINERS) for part in parts):
            containers |= names
    return containers, streams


def _handed_on(statement: ast.stmt, containers: set[str]) -> set[str]:
    """Containers that a call may fill: its arguments, and those whose methods are called."""
    found = set()
    for call in (node for node in ast.walk(statement) if isinstance(node, ast.Call)):
        parts = [*call.args, *(keyword.value for keyword in call.keywords)]
        if isinstance(call.func, ast.Attribute):
            parts.append(call.func.value)
        for part in parts:
            while isinstance(part, ast.Subscript):
                part = part.value
            if isinstance(part, ast.Name):
                found.add(part.id)
    return found & containers
