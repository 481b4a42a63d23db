"""Relax functions out of TVMScript text.

The text is hostile. It is bounded, parsed as Python by :mod:`ast`, never evaluated, and whatever is
not of the few shapes that TVM prints is refused. Names may be bound again: each binding has a
number of its own, and a use means the last binding before it.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from harness.accounting.interface import NotInterpretedError
from harness.text import printable

MOST_BYTES = 64 * 2**20
MOST_LINE = 200_000  # characters
MOST_DEPTH = 100  # brackets inside brackets, and blocks inside blocks
MOST_OPERATORS = 2_000  # on a line: each may be a level of the tree
MOST_BINDINGS = 100_000
SHOWN = 120

# A constant is named by what it holds: relax.expr.Constant up to 0.26, ir.GenericConst since.
REFERENCE = re.compile(
    r'(metadata\["[A-Za-z_.]{1,64}"\])\[(sha256:[0-9a-f]{64}:[a-z0-9_]{1,32}:[0-9x]{0,200})\]'
)
BRACKETS = re.compile(r"[\[\](){}]")
OPERATORS = re.compile(r"[-+*/%~|&^<>=@!.:]|\b(?:not|and|or|if|else|lambda|in|is)\b")


@dataclass(frozen=True)
class Reference:
    """A value by the number of its binding."""

    key: int
    name: str


@dataclass(frozen=True)
class Constant:
    """A tensor that the program holds, by the sha256 of its bytes."""

    digest: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Number:
    """A constant without dimensions, written out."""

    value: bool | int | float
    dtype: str


@dataclass(frozen=True)
class Literal:
    """A plain value: an attribute."""

    value: bool | int | float | str | None


@dataclass(frozen=True)
class Items:
    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Item:
    of: Expression
    index: int


@dataclass(frozen=True)
class Dims:
    """A shape as a value."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Type:
    """A tensor's type."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Global:
    """Another function of the module."""

    name: str


@dataclass(frozen=True)
class Call:
    operator: str  # as it is written: R.nn.conv2d
    arguments: tuple[Expression, ...]
    keywords: Mapping[str, Expression]


Expression = (
    Reference | Constant | Number | Literal | Items | Item | Dims | Type | Global | Call
)  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    key: int
    name: str
    type: Type


@dataclass(frozen=True)
class Binding:
    """``key`` is the number of what it binds, ``line`` where in the text, ``text`` printable."""

    key: int
    name: str
    type: Type | None
    value: Expression
    line: int
    text: str


@dataclass(frozen=True)
class Function:
    name: str
    parameters: tuple[Parameter, ...]
    bindings: tuple[Binding, ...]
    result: Expression
    attributes: Mapping[str, str] = field(default_factory=dict)  # as written


# Text → syntax tree. Shared with the reader of tensor IR.


def syntax(data: bytes, what: str) -> ast.Module:
    """The tree of a script. ``metadata[K][sha256:…]`` reads as ``metadata[K]["sha256:…"]``."""
    if len(data) > MOST_BYTES:
        raise NotInterpretedError(f"{what} has {len(data)} bytes, more than {MOST_BYTES}")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise NotInterpretedError(f"{what} is not plain ASCII (byte {error.start})") from error
    if odd := re.search(r"[^\n -~]", text):
        raise NotInterpretedError(f"{what} holds a control character (byte {odd.start()})")
    depth = 0
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > MOST_LINE:
            raise NotInterpretedError(f"{what}, line {number}: {len(line)} characters")
        if "\\" in line or ('"""' in line) or ("'''" in line):
            # Both could carry what looks like code over the limits below.
            raise NotInterpretedError(f"{what}, line {number}: a backslash or triple quotes")
        if (len(line) - len(line.lstrip(" "))) > 4 * MOST_DEPTH:
            raise NotInterpretedError(f"{what}, line {number}: nested too deeply")
        for bracket in BRACKETS.finditer(line):
            depth += 1 if bracket[0] in "[({" else -1
            if depth > MOST_DEPTH:
                raise NotInterpretedError(f"{what}, line {number}: nested too deeply")
        depth = max(depth, 0)
        if len(line) > MOST_OPERATORS:
            outside = REFERENCE.sub(r"\1", line)
            joined = len(OPERATORS.findall(re.sub(r'"[^"]*"', "", outside)))
            flat = outside.count(",") + outside.count("(") + outside.count("[")
            if joined - 3 * flat > MOST_OPERATORS:
                raise NotInterpretedError(f"{what}, line {number}: too long an expression")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what hostile text writes, to our own stderr
            return ast.parse(REFERENCE.sub(r'\1["\2"]', text))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = getattr(error, "lineno", None)
        at = f", line {place}" if place else ""
        raise NotInterpretedError(f"{what}{at}: no script that can be read") from error


def definitions(tree: ast.Module, what: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions of the module's one class, with what decorates each: ``R.function`` …"""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    if len(classes) != 1:
        raise NotInterpretedError(f"{what} holds {len(classes)} classes, not one module")
    if others := [
        node for node in tree.body if not isinstance(node, ast.ClassDef) and not symbol(node)
    ]:
        raise refused(what, others[0])
    seen: set[str] = set()
    for node in classes[0].body:
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Call)
            and (dotted(node.value.func) in {"I.module_attrs", "I.module_global_infos"})
        ):
            continue
        if not isinstance(node, ast.FunctionDef) or len(node.decorator_list) != 1:
            raise refused(what, node)
        decorator = node.decorator_list[0]
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if node.name in seen:
            raise NotInterpretedError(f"{what}: two functions are called {shown(node.name)}")
        seen.add(node.name)
        yield dotted(called), node


def symbol(node: ast.stmt) -> bool:
    """``NAME = TypeVar("NAME")``: a number that is known when the function is called."""
    match node:
        case ast.Assign(
            targets=[ast.Name(id=name)],
            value=ast.Call(
                func=ast.Name(id="TypeVar"), args=[ast.Constant(value=said)], keywords=[]
            ),
        ):
            return name == said
    return False


def functions(data: bytes, what: str) -> dict[str, Function]:
    """All Relax functions of a script, by name.

    what: how to call the file in an error, such as ``graph/module.py``.
    """
    return functions_of(syntax(data, what), what)


def functions_of(tree: ast.Module, what: str) -> dict[str, Function]:
    try:
        return {
            node.name: Reader(what, node).function()
            for decorator, node in definitions(tree, what)
            if decorator == "R.function"
        }
    except RecursionError as error:
        raise NotInterpretedError(f"{what}: nested too deeply") from error


# One function.


class Reader:
    def __init__(self, what: str, node: ast.FunctionDef) -> None:
        self.what = what
        self.node = node
        self.names: dict[str, int] = {}
        self.modules: set[str] = set()
        self.keys = 0
        self.bindings: list[Binding] = []
        self.attributes: dict[str, str] = {}
        self.result: Expression | None = None

    def function(self) -> Function:
        node, taken = self.node, self.node.args
        if taken.vararg or taken.kwarg or taken.kwonlyargs or taken.defaults or taken.posonlyargs:
            raise refused(self.what, node)
        parameters = []
        for argument in taken.args:
            kind = self.expression(argument.annotation) if argument.annotation else None
            if not isinstance(kind, Type):
                raise refused(self.what, argument)
            parameters.append(Parameter(self.bound(argument.arg), argument.arg, kind))
        for statement in node.body:
            self.statement(statement)
        if self.result is None:
            raise NotInterpretedError(f"{self.what}: {shown(node.name)} returns nothing")
        return Function(
            node.name, tuple(parameters), tuple(self.bindings), self.result, self.attributes
        )

    def bound(self, name: str) -> int:
        self.names[name] = self.keys
        self.keys += 1
        if self.keys > MOST_BINDINGS:
            raise NotInterpretedError(f"{self.what}: more than {MOST_BINDINGS} bindings")
        return self.names[name]

    def statement(self, node: ast.stmt) -> None:
        if self.result is not None:  # after `return`
            raise refused(self.what, node)
        match node:
            case ast.With(items=[ast.withitem(context_expr=ast.Call() as call)], body=body):
                if dotted(call.func) != "R.dataflow" or call.args or call.keywords:
                    raise refused(self.what, node)
                for inner in body:
                    if isinstance(inner, ast.Return | ast.With):
                        raise refused(self.what, inner)
                    self.statement(inner)
            case ast.Return(value=ast.expr() as value):
                self.result = self.expression(value)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id="Module")):
                self.modules.add(name)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self.bind(node, name, None, value)
            case ast.AnnAssign(
                target=ast.Name(id=name), annotation=note, value=ast.expr() as value
            ):
                self.bind(node, name, self.annotation(note), value)
            case ast.Expr(value=ast.Call(func=function, args=args)):
                if dotted(function) == "R.func_attr":
                    self.attributes["func_attr"] = shown(ast.unparse(node))
                elif dotted(function) != "R.output" or any(
                    not isinstance(self.expression(name), Reference) for name in args
                ):
                    raise refused(self.what, node)
            case _:
                raise refused(self.what, node)

    def bind(self, node: ast.stmt, name: str, kind: Type | None, value: ast.expr) -> None:
        read = self.expression(value)
        text = shown(ast.unparse(value))
        self.modules.discard(name)
        self.bindings.append(Binding(self.bound(name), name, kind, read, node.lineno, text))

    def annotation(self, node: ast.expr) -> Type | None:
        """The type of one tensor; of tuples and shapes none is kept."""
        if isinstance(node, ast.Call) and dotted(node.func) == "R.Tensor" and node.args:
            kind = self.expression(node)
            return kind if isinstance(kind, Type) else None
        return None

    def expression(self, node: ast.expr) -> Expression:
        match node:
            case ast.Name(id=name):
                if name not in self.names:
                    raise refused(self.what, node)
                return Reference(self.names[name], name)
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return Literal(value)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return Literal(-value)
            case ast.Tuple(elts=items) | ast.List(elts=items):
                return Items(tuple(self.expression(item) for item in items))
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in self.modules:
                return Global(name)
            case ast.Subscript(
                value=ast.Subscript(value=ast.Name(id="metadata"), slice=ast.Constant()),
                slice=ast.Constant(value=str() as label),
            ):
                return self.constant(node, label)
            case ast.Subscript(value=of, slice=ast.Constant(value=int() as index)):
                return Item(self.expression(of), index)
            case ast.Attribute():
                return Literal(dotted(node))
            case ast.Call():
                return self.call(node)
        raise refused(self.what, node)

    def constant(self, node: ast.expr, label: str) -> Constant:
        parts = label.split(":")
        if len(parts) != 4 or parts[0] != "sha256":
            raise refused(self.what, node)
        sizes = [size for size in parts[3].split("x") if size]
        return Constant(parts[1], parts[2], tuple(int(size) for size in sizes))

    def call(self, node: ast.Call) -> Expression:
        operator = dotted(node.func)
        if any(key.arg is None for key in node.keywords):
            raise refused(self.what, node)
        arguments = tuple(self.expression(argument) for argument in node.args)
        keywords = {str(key.arg): self.expression(key.value) for key in node.keywords}
        match operator, arguments:
            case "R.const", (Literal(value=value), Literal(value=str() as dtype)) if not keywords:
                if isinstance(value, str):
                    if value not in {"inf", "-inf", "nan"}:
                        raise refused(self.what, node)
                    value = float(value)
                if value is not None:
                    return Number(value, dtype)
            case "R.shape", (Items(items=sizes),) if not keywords:
                return Dims(self.dims(node, sizes))
            case "R.Tensor", (Items(items=sizes),):
                kind = keywords.get("dtype")
                if set(keywords) <= {"dtype", "ndim"} and isinstance(kind, Literal):
                    return Type(self.dims(node, sizes), str(kind.value))
            case "R.prim_value" | "R.str" | "R.dtype", (Literal() as literal,) if not keywords:
                return literal
            case _, (Literal() as literal,) if re.fullmatch(r"T\.u?(int|float|bool)\d*", operator):
                return literal
            case _ if operator.startswith("R.") and operator != "R.Tensor":
                return Call(operator, arguments, keywords)
        raise refused(self.what, node)

    def dims(self, node: ast.expr, items: tuple[Expression, ...]) -> tuple[int, ...]:
        sizes = []
        for item in items:
            if not isinstance(item, Literal) or not isinstance(item.value, int):
                raise refused(self.what, node)
            sizes.append(int(item.value))
        return tuple(sizes)


def dotted(node: ast.expr) -> str:
    """``R.nn.conv2d`` of an attribute chain, or nothing."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""


def refused(what: str, node: ast.AST) -> NotInterpretedError:
    line = getattr(node, "lineno", 0)
    text = shown(ast.unparse(node)) if isinstance(node, ast.expr) else type(node).__name__
    return NotInterpretedError(f"{what}, line {line}: cannot read {text}")


def shown(text: str) -> str:
    return printable(text, SHOWN)
