"""Tensor-IR functions out of TVMScript text.

Only what TVM prints for unscheduled TE is read: buffers of fixed shape, loops, blocks, stores.
Everything else is refused, function by function. Both spellings are read: ``T.block`` and
``T.alloc_buffer`` up to 0.26, ``T.sblock`` and ``T.sblock_alloc_buffer`` since.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.accounting.interface import NotInterpretedError
from harness.accounting.relax_script import definitions, dotted, refused, shown

MOST_STATEMENTS = 20_000  # in one function
MOST_NODES = 20_000  # of one expression
MOST_ELEMENTS = 2**28  # of one buffer

BLOCKS = {"T.block", "T.sblock"}
ALLOCATIONS = {"T.alloc_buffer", "T.sblock_alloc_buffer"}
WITHOUT_MEANING = {
    "T.reads", "T.writes", "T.func_attr", "T.block_attr", "T.sblock_attr", "T.attr",
}  # fmt: skip
LOOPS = {"range", "T.serial", "T.parallel", "T.vectorized", "T.unroll", "T.grid"}
SCALARS = {
    "T.bool", "T.int8", "T.int16", "T.int32", "T.int64", "T.uint8", "T.uint16", "T.uint32",
    "T.uint64", "T.float16", "T.float32", "T.float64", "T.bfloat16",
}  # fmt: skip
OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.And: "and", ast.Or: "or", ast.Not: "not", ast.USub: "neg", ast.Invert: "~",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Number:
    value: bool | int | float
    dtype: str


@dataclass(frozen=True, slots=True)
class Variable:
    """A loop's, a block's axis, or what a ``let`` binds."""

    name: str


@dataclass(frozen=True, slots=True)
class Load:
    buffer: str
    indices: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Apply:
    """``operation``: an operator's sign, or what stands behind ``T.``; ``dtype``: for casts."""

    operation: str
    arguments: tuple[Expression, ...]
    dtype: str = ""
    text: ast.expr | None = field(default=None, compare=False, repr=False)

    def shown(self) -> str:
        return shown(ast.unparse(self.text)) if self.text is not None else self.operation


Expression = Number | Variable | Load | Apply


@dataclass(frozen=True, slots=True)
class Store:
    buffer: str
    indices: tuple[Expression, ...]
    value: Expression
    line: int


@dataclass(frozen=True, slots=True)
class Let:
    name: str
    value: Expression


@dataclass(frozen=True, slots=True)
class If:
    condition: Expression
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class While:
    condition: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class For:
    """``ranges``: (variable, first, how many), the outermost first."""

    ranges: tuple[tuple[str, Expression, Expression], ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """``kind``: S(patial), R(eduction), or O(paque)."""

    name: str
    kind: str
    extent: int
    value: Expression


@dataclass(frozen=True, slots=True)
class Block:
    name: str
    axes: tuple[Axis, ...]
    init: tuple[Statement, ...]
    body: tuple[Statement, ...]
    line: int


Statement = Store | Let | If | While | For | Block


@dataclass(frozen=True)
class Buffer:
    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Function:
    name: str
    parameters: tuple[str, ...]
    buffers: dict[str, Buffer]  # parameters and what it allocates
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Functions:
    """``unread``: why a function cannot be read, by name."""

    read: dict[str, Function]
    unread: dict[str, str]


def functions_of(tree: ast.Module, what: str) -> Functions:
    """What :func:`harness.accounting.relax_script.syntax` made of the text."""
    out = Functions({}, {})
    for decorator, node in definitions(tree, what):
        if decorator == "T.prim_func":
            try:
                out.read[node.name] = Reader(what, node).function()
            except NotInterpretedError as error:
                out.unread[node.name] = str(error)
            except RecursionError:
                out.unread[node.name] = f"{what}: {shown(node.name)} is nested too deeply"
    return out


class Reader:
    def __init__(self, what: str, node: ast.FunctionDef) -> None:
        self.what = what
        self.node = node
        self.buffers: dict[str, Buffer] = {}
        self.handles: dict[str, str] = {}  # parameter → buffer that it was matched with
        self.statements = 0

    def function(self) -> Function:
        node, taken = self.node, self.node.args
        if taken.vararg or taken.kwarg or taken.kwonlyargs or taken.defaults or taken.posonlyargs:
            raise refused(self.what, node)
        names = []
        for argument in taken.args:
            names.append(argument.arg)
            note = argument.annotation
            if isinstance(note, ast.Call) and dotted(note.func) == "T.Buffer":
                self.declare(argument.arg, note)
            elif note is None or dotted(note) != "T.handle":
                raise refused(self.what, argument)
        body = tuple(self.body(node.body, frozenset(), function=True))
        parameters = tuple(self.handles.get(name, name) for name in names)
        if any(name not in self.buffers for name in parameters):
            raise NotInterpretedError(f"{self.what}: {shown(node.name)} takes what is no buffer")
        return Function(node.name, parameters, self.buffers, body)

    def declare(self, name: str, node: ast.Call, skip: int = 0) -> None:
        """A buffer's shape and type; anything beyond (strides, scopes) is refused, but that it may
        begin anywhere in its memory.
        """
        values = [*node.args[skip:]]
        given = {str(key.arg): key.value for key in node.keywords}
        if isinstance(given.get("elem_offset"), ast.Name):
            del given["elem_offset"]
        factor = given.get("offset_factor")
        if isinstance(factor, ast.Constant) and factor.value == 1:
            del given["offset_factor"]
        shape_node = values[0] if values else given.pop("shape", None)
        dtype_node = values[1] if len(values) > 1 else given.pop("dtype", None)
        if shape_node is None or len(values) > 2 or given or name in self.buffers:
            raise refused(self.what, node)
        items = shape_node.elts if isinstance(shape_node, ast.Tuple | ast.List) else [shape_node]
        shape = []
        for item in items:
            size = self.expression(item, frozenset())
            if not isinstance(size, Number) or not isinstance(size.value, int) or size.value < 0:
                raise refused(self.what, node)
            shape.append(int(size.value))
        dtype = "float32"
        if dtype_node is not None:
            dtype = self.type_name(node, dtype_node)
        elements = 1
        for size_of in shape:
            elements *= size_of
        if elements > MOST_ELEMENTS:
            raise NotInterpretedError(f"{self.what}, line {node.lineno}: {elements} elements")
        self.buffers[name] = Buffer(name, tuple(shape), dtype)

    def type_name(self, node: ast.expr, given: ast.expr) -> str:
        name = given.value if isinstance(given, ast.Constant) else None
        if isinstance(name, str) and f"T.{name}" in SCALARS:
            return name
        raise refused(self.what, node)

    # Statements. ``known``: the variables in scope.

    def body(
        self, nodes: list[ast.stmt], known: frozenset[str], *, function: bool = False
    ) -> Iterator[Statement]:
        for node in nodes:
            self.statements += 1
            if self.statements > MOST_STATEMENTS:
                raise NotInterpretedError(f"{self.what}: {shown(self.node.name)} is too long")
            match node:
                case ast.Pass():
                    continue
                case ast.Expr(value=ast.Call(func=called)) if dotted(called) in WITHOUT_MEANING:
                    continue
                case ast.Expr(value=ast.Call(func=called, args=[ast.Constant(value=int())])) if (
                    dotted(called) == "T.evaluate"
                ):
                    continue
                case ast.Assign(
                    targets=[ast.Name(id=name)], value=ast.Call(func=called) as call
                ) if dotted(called) in ALLOCATIONS and name not in known:
                    self.declare(name, call)
                case ast.Assign(
                    targets=[ast.Name(id=name)], value=ast.Call(func=called) as call
                ) if dotted(called) == "T.match_buffer" and function and name not in known:
                    handle = call.args[0] if call.args else None
                    if not isinstance(handle, ast.Name) or handle.id in self.handles:
                        raise refused(self.what, node)
                    self.declare(name, call, skip=1)
                    self.handles[handle.id] = name
                case ast.With(items=[ast.withitem(context_expr=ast.Call() as call)], body=inner):
                    name = dotted(call.func)
                    if name in BLOCKS:
                        yield self.block(node, call, known)
                    elif name == "T.attr":
                        yield from self.body(inner, known)
                    else:
                        raise refused(self.what, call)
                case ast.For():
                    yield self.loop(node, known)
                case ast.If(test=test, body=then, orelse=otherwise):
                    yield If(
                        self.expression(test, known),
                        tuple(self.body(then, known)),
                        tuple(self.body(otherwise, known)),
                    )
                case ast.While(test=test, body=inner, orelse=[]):
                    yield While(self.expression(test, known), tuple(self.body(inner, known)))
                case ast.Assign(targets=[ast.Subscript() as target], value=value):
                    buffer, indices = self.place(target, known)
                    yield Store(buffer, indices, self.expression(value, known), node.lineno)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if (
                    name not in self.buffers
                ):
                    yield Let(name, self.expression(value, known))
                    known |= {name}
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if (
                    name not in self.buffers
                ):
                    yield Let(name, self.expression(value, known))
                    known |= {name}
                case ast.Expr(value=value):
                    raise refused(self.what, value)
                case _:
                    raise refused(self.what, node)

    def loop(self, node: ast.For, known: frozenset[str]) -> For:
        call = node.iter
        if not isinstance(call, ast.Call) or node.orelse or dotted(call.func) not in LOOPS:
            raise refused(self.what, node)
        targets = node.target.elts if isinstance(node.target, ast.Tuple) else [node.target]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if any(key.arg != "annotations" for key in call.keywords):
            raise refused(self.what, call)
        bounds = [self.expression(bound, known) for bound in call.args]
        zero: Expression = Number(0, "int64")
        ranges: list[tuple[Expression, Expression]]
        if dotted(call.func) == "T.grid":
            ranges = [(zero, bound) for bound in bounds]
        elif len(bounds) == 1:
            ranges = [(zero, bounds[0])]
        elif len(bounds) == 2:
            ranges = [(bounds[0], Apply("-", (bounds[1], bounds[0])))]
        else:
            raise refused(self.what, call)
        if len(names) != len(targets) or len(names) != len(ranges) or len(set(names)) < len(names):
            raise refused(self.what, node)
        if any(name in self.buffers for name in names):
            raise refused(self.what, node)
        body = tuple(self.body(node.body, known | set(names)))
        return For(tuple((name, *bound) for name, bound in zip(names, ranges, strict=True)), body)

    def block(self, node: ast.With, call: ast.Call, known: frozenset[str]) -> Block:
        if len(call.args) > 1 or any(key.arg != "no_realize" for key in call.keywords):
            raise refused(self.what, call)
        name = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else ""
        axes: list[Axis] = []
        rest: list[ast.stmt] = []
        init: tuple[Statement, ...] = ()
        outer = known
        for inner in node.body:
            match inner:
                case ast.Assign(targets=[target], value=ast.Call(func=called) as made) if dotted(
                    called
                ).startswith("T.axis."):
                    for axis in self.axes(target, made, outer):
                        axes.append(axis)
                        known |= {axis.name}
                case ast.With(items=[ast.withitem(context_expr=ast.Call(func=called))]) if (
                    dotted(called) == "T.init"
                ):
                    if init:
                        raise refused(self.what, inner)
                    init = tuple(self.body(inner.body, known))
                case ast.Expr(value=ast.Call(func=called)) if dotted(called) == "T.where":
                    raise refused(self.what, inner)
                case _:
                    rest.append(inner)
        return Block(str(name), tuple(axes), init, tuple(self.body(rest, known)), node.lineno)

    def axes(self, target: ast.expr, call: ast.Call, known: frozenset[str]) -> Iterator[Axis]:
        targets = target.elts if isinstance(target, ast.Tuple) else [target]
        names = [item.id for item in targets if isinstance(item, ast.Name)]
        if len(names) != len(targets) or any(name in self.buffers for name in names):
            raise refused(self.what, call)
        kinds = {"T.axis.spatial": "S", "T.axis.S": "S", "T.axis.reduce": "R", "T.axis.R": "R",
                 "T.axis.opaque": "O", "T.axis.scan": "O"}  # fmt: skip
        made = dotted(call.func)
        match call.args:
            case [ast.Constant(value=str() as letters), ast.List(elts=values)] if (
                made == "T.axis.remap" and len(letters) == len(values) == len(names)
            ):
                for name, kind, value in zip(names, letters, values, strict=True):
                    if kind not in "SR" or not isinstance(value, ast.Name):
                        raise refused(self.what, call)
                    yield Axis(name, kind, -1, self.expression(value, known))
            case [domain, value] if made in kinds and len(names) == 1:
                extent = self.expression(domain, known)
                if not isinstance(extent, Number) or not isinstance(extent.value, int):
                    raise refused(self.what, call)
                yield Axis(names[0], kinds[made], extent.value, self.expression(value, known))
            case _:
                raise refused(self.what, call)

    # Expressions.

    def place(
        self, node: ast.Subscript, known: frozenset[str]
    ) -> tuple[str, tuple[Expression, ...]]:
        if not isinstance(node.value, ast.Name) or node.value.id not in self.buffers:
            raise refused(self.what, node)
        inside = node.slice
        items = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        indices = tuple(self.expression(item, known) for item in items)
        if len(indices) != len(self.buffers[node.value.id].shape):
            raise refused(self.what, node)
        return node.value.id, indices

    def expression(self, node: ast.expr, known: frozenset[str]) -> Expression:
        match node:
            case ast.Name(id=name) if name in known and name not in self.buffers:
                return Variable(name)
            case ast.Constant(value=bool() as value):
                return Number(value, "bool")
            case ast.Constant(value=int() as value):
                return Number(value, "int32")
            case ast.Constant(value=float() as value):
                return Number(value, "float32")
            case ast.Subscript():
                return Load(*self.place(node, known))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
                inner = self.expression(operand, known)
                if isinstance(inner, Number) and isinstance(op, ast.USub):
                    return Number(-inner.value, inner.dtype)
                return Apply(OPERATORS[type(op)], (inner,), text=node)
            case ast.BinOp(op=op, left=left, right=right) if type(op) in OPERATORS:
                two = self.expression(left, known), self.expression(right, known)
                return Apply(OPERATORS[type(op)], two, text=node)
            case ast.BoolOp(op=op, values=values):
                items = tuple(self.expression(value, known) for value in values)
                return Apply(OPERATORS[type(op)], items, text=node)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in OPERATORS:
                two = self.expression(left, known), self.expression(right, known)
                return Apply(OPERATORS[type(op)], two, text=node)
            case ast.Call():
                return self.call(node, known)
        raise refused(self.what, node)

    def call(self, node: ast.Call, known: frozenset[str]) -> Expression:
        name = dotted(node.func)
        if node.keywords or not name.startswith("T."):
            raise refused(self.what, node)
        if name in SCALARS and len(node.args) == 1:
            return self.scalar(node, name[2:], known)
        match name, node.args:
            case (("T.Cast" | "T.cast" | "T.reinterpret"), [first, second]):
                if name == "T.cast":
                    first, second = second, first
                wanted = self.type_name(node, first)
                operation = "reinterpret" if name == "T.reinterpret" else "cast"
                inner = self.expression(second, known)
                return Apply(operation, (inner,), wanted, node)
            case (
                ("T.min_value" | "T.max_value" | "T.infinity"),
                [ast.Constant(value=str() as dtype)],
            ) if f"T.{dtype}" in SCALARS:
                return Apply(name[2:], (), dtype, node)
            case "T.likely", [only]:
                return self.expression(only, known)
        arguments = tuple(self.expression(argument, known) for argument in node.args)
        return Apply(name[2:], arguments, text=node)

    def scalar(self, node: ast.Call, dtype: str, known: frozenset[str]) -> Expression:
        only = node.args[0]
        if isinstance(only, ast.Constant) and only.value in ("inf", "-inf", "nan"):
            return Number(float(only.value), dtype)
        inner = self.expression(only, known)
        if isinstance(inner, Number):
            return Number(inner.value, dtype)
        return Apply("cast", (inner,), dtype, node)


def walk(expression: Expression) -> Iterator[Expression]:
    """The expression and all below it."""
    stack: list[Expression] = [expression]
    for _ in range(MOST_NODES):
        if not stack:
            return
        one = stack.pop()
        yield one
        if isinstance(one, Load):
            stack.extend(one.indices)
        elif isinstance(one, Apply):
            stack.extend(one.arguments)
    raise NotInterpretedError("an expression of too many parts")


def statements(body: tuple[Statement, ...]) -> Iterator[Statement]:
    """All statements, those inside others included."""
    for one in body:
        yield one
        match one:
            case If():
                yield from statements(one.then)
                yield from statements(one.otherwise)
            case While() | For():
                yield from statements(one.body)
            case Block():
                yield from statements(one.init)
                yield from statements(one.body)


def expressions(body: tuple[Statement, ...]) -> Iterator[Expression]:
    """The expressions of all statements, whole."""
    for one in statements(body):
        match one:
            case Store():
                yield from one.indices
                yield one.value
            case Let():
                yield one.value
            case If() | While():
                yield one.condition
            case For():
                for _, first, many in one.ranges:
                    yield first
                    yield many
            case Block():
                yield from (axis.value for axis in one.axes)
