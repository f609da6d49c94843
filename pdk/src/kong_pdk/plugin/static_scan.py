"""Reads a plugin's source without running it: whether it binds ``Plugin``, and the lines of its definitions."""

from __future__ import annotations

import ast
import difflib
import errno
import itertools
import stat
import warnings
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from functools import cached_property
from pathlib import Path

from kong_pdk.plugin.problem import PluginError, Problem
from kong_pdk.protocol import PHASES

# A larger source, a mistake or an attack, takes many seconds and hundreds of megabytes to parse.
_MAX_BYTES = 1024 * 1024

_START_FUNCTION = "start_dedicated_server"

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Binding(Enum):
    """Whether a module has a certain name after its import, as far as its source shows."""

    NO = "no"
    MAYBE = "maybe"
    YES = "yes"


def read_source(file: Path, plugin: str | None = None) -> bytes:
    """The bytes of a source file. Raises :class:`PluginError` if it is not a regular file, too large or unreadable."""
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _read_error(file, "is not a regular file", "remove it or replace it by a file", plugin)
        if status.st_size > _MAX_BYTES:
            size = f"has {status.st_size} bytes; a plugin's source may have {_MAX_BYTES}"
            raise _read_error(file, size, "move data out of the source", plugin)
        return file.read_bytes()
    except OSError as error:
        raise _read_error(file, f"cannot be read ({error.strerror})", _read_hint(error), plugin) from None


def _read_error(file: Path, message: str, hint: str, plugin: str | None) -> PluginError:
    return PluginError([Problem(file, None, message, hint, plugin)])


def _read_hint(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return "let the user that runs the server read it (chmod a+r)"
    if error.errno in (errno.ENOENT, errno.ELOOP):
        return "fix or remove the link"
    return "fix or remove the file"


class StaticScan:
    """The syntax tree of one source file, and questions about it."""

    def __init__(self, file: Path, source: bytes, tree: ast.Module) -> None:
        self.file = file
        self.source = source
        self.tree = tree

    @classmethod
    def parse(cls, file: Path, plugin: str | None = None) -> StaticScan:
        """Read and parse ``file``; raises :class:`PluginError` with the line of a syntax error."""
        source = read_source(file, plugin)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source, str(file))
        except SyntaxError as error:
            raise PluginError([syntax_problem(file, error, plugin)]) from None
        except ValueError:
            line = source.count(b"\n", 0, source.find(b"\0")) + 1
            message = "syntax error: the source has a null byte"
            raise PluginError([Problem(file, line, message, "save the file as UTF-8 text", plugin)]) from None
        except (RecursionError, MemoryError):
            message = "syntax error: the source is nested too deeply to be parsed"
            raise PluginError([Problem(file, None, message, "nest it less deeply", plugin)]) from None
        return cls(file, source, tree)

    def binds(self, name: str) -> Binding:
        """Whether the module has ``name`` after its import: MAYBE if it is bound in an ``if`` or by an ``import *``."""
        binding = Binding.NO
        for node, conditional in _module_level_nodes(self.tree.body):
            if name in _bound_names(node):
                if not conditional:
                    return Binding.YES
                binding = Binding.MAYBE
            elif isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                binding = Binding.MAYBE
        return binding

    def misnamed_plugin(self) -> ast.ClassDef | None:
        """A class that has a method for a phase and a name similar to ``Plugin``."""
        names = [node.name for node in self.tree.body if isinstance(node, ast.ClassDef)]
        alike = (name for name in names if difflib.get_close_matches(name.lower(), ["plugin"], cutoff=0.8))
        return next(filter(None, map(self.class_with_phases, alike)), None)

    def class_with_phases(self, name: str) -> ast.ClassDef | None:
        """The class of this name, if it has a method for a phase."""
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
                if methods.intersection(PHASES):
                    return node
        return None

    def has_tests(self) -> bool:
        """Whether the module has tests that pytest or unittest finds, or imports either of them."""
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name.startswith(
                ("test", "Test")
            ):
                return True
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
                if any(module.partition(".")[0] in ("pytest", "unittest") for module in modules):
                    return True
        return False

    def line_of(self, name: str, within: str | None = None) -> int | None:
        """The line of the last binding of ``name`` in the module, or in its class ``within``."""
        body: Sequence[ast.AST] = self.tree.body
        if within is not None:
            classes = [node for node in self.tree.body if isinstance(node, ast.ClassDef) and node.name == within]
            body = classes[-1].body if classes else ()
        lines = [getattr(node, "lineno", 0) for node, _ in _module_level_nodes(body) if name in _bound_names(node)]
        return lines[-1] if lines else None

    def main_block(self) -> tuple[dict[str, ast.expr], StartCall | None]:
        """The values bound in ``if __name__ == "__main__"`` blocks, and the call of ``start_dedicated_server``."""
        blocks = [
            node
            for node, _ in _module_level_nodes(self.tree.body)
            if isinstance(node, ast.If) and _is_main_condition(node.test)
        ]
        bound = _assignments(statement for block in blocks for statement in block.body)
        names = self._start_function_names()
        calls = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call) and _last_name(node.func) in names]
        inside = {id(node) for block in blocks for node in ast.walk(block)}
        return bound, StartCall(calls[0], id(calls[0]) in inside) if calls else None

    def _start_function_names(self) -> set[str]:
        """The names of ``start_dedicated_server`` in this file, also by ``import ... as`` and by assignment."""
        names = {_START_FUNCTION}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                names.update(alias.asname for alias in node.names if alias.asname and alias.name == _START_FUNCTION)
            elif isinstance(node, ast.Assign) and _last_name(node.value) == _START_FUNCTION:
                names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        return names

    def line_of_part(self, name: str, path: Sequence[int | str]) -> int | None:
        """The line of a part of the literal that ``name`` is bound to.

        Names of other module-level literals are followed. If the source does not show the part itself, the line is
        that of the nearest enclosing part.

        :param path: indexes and keys from the outside in, such as ``(0, "message", "type")``.
        """
        node: ast.expr | None = self._assigned.get(name)
        line = self.line_of(name)
        for step in path:
            part = self._part(node, step)
            if part is None:
                break
            line, node = part
        return line

    @cached_property
    def _assigned(self) -> dict[str, ast.expr]:
        return _assignments(self.tree.body)

    def assigns(self, name: str) -> bool:
        """Whether the module binds ``name`` by an assignment, not by an import or a definition."""
        return name in self._assigned

    def _part(self, node: ast.expr | None, step: int | str) -> tuple[int, ast.expr] | None:
        seen: set[str] = set()
        while isinstance(node, ast.Name) and node.id not in seen:
            seen.add(node.id)
            node = self._assigned.get(node.id)
        if isinstance(node, ast.List | ast.Tuple) and isinstance(step, int):
            if step < len(node.elts) and not any(isinstance(elt, ast.Starred) for elt in node.elts[: step + 1]):
                return node.elts[step].lineno, node.elts[step]
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == step:
                    return key.lineno, value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
            for keyword in node.keywords:
                if keyword.arg == step:
                    return keyword.lineno, keyword.value
        return None


class StartCall:
    """The call of ``start_dedicated_server`` in a file, and its arguments."""

    _PARAMETERS = ("name", "plugin", "version", "priority", "Schema")

    def __init__(self, call: ast.Call, in_main: bool) -> None:
        """:param in_main: whether the call is inside ``if __name__ == "__main__"``, not in a function, for example."""
        self.in_main = in_main
        self.line = call.lineno
        self.unpacked = [ast.unparse(each) for each in call.args if isinstance(each, ast.Starred)]
        self.unpacked += [f"**{ast.unparse(keyword.value)}" for keyword in call.keywords if keyword.arg is None]
        positional = itertools.takewhile(lambda each: not isinstance(each, ast.Starred), call.args)
        self.arguments: dict[str, ast.expr] = dict(zip(self._PARAMETERS, positional, strict=False))
        named = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        self.arguments.update({"Schema" if name == "schema" else name: value for name, value in named.items()})


def _is_main_condition(test: ast.expr) -> bool:
    """Whether a condition is ``__name__ == "__main__"``, also combined with others by ``and``."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return any(map(_is_main_condition, test.values))
    if not isinstance(test, ast.Compare) or len(test.ops) != 1 or not isinstance(test.ops[0], ast.Eq):
        return False
    sides = [test.left, test.comparators[0]]
    name = any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)
    return name and any(isinstance(side, ast.Constant) and side.value == "__main__" for side in sides)


def _last_name(node: ast.expr) -> str | None:
    """The last name of a dotted expression: ``c`` of ``a.b.c``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _assignments(body: Iterable[ast.stmt]) -> dict[str, ast.expr]:
    """Names and the expressions that are assigned to them."""
    assigned: dict[str, ast.expr] = {}
    for node, _ in _module_level_nodes(list(body)):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            assigned[node.target.id] = node.value
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                assigned.update(_unpacked(target, node.value))
    return assigned


def _unpacked(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for element, element_value in zip(target.elts, value.elts, strict=True):
            yield from _unpacked(element, element_value)


def syntax_problem(file: Path, error: SyntaxError, plugin: str | None) -> Problem:
    """A syntax error as a problem, with the file and the line that Python reports."""
    text = error.text.strip()[:80] if error.text else ""
    message = f"syntax error: {error.msg}" + (f" in `{text}`" if text else "")
    hint = "fix this line, or the one before it"
    if "codec can't decode" in error.msg or "unknown encoding" in error.msg or "encoding" in error.msg:
        hint = "save the file as UTF-8, or name its encoding in its first line: # -*- coding: latin-1 -*-"
    location = Path(error.filename) if error.filename and not error.filename.startswith("<") else file
    return Problem(location, error.lineno or None, message, hint, plugin)


def _module_level_nodes(body: Sequence[ast.AST]) -> Iterator[tuple[ast.AST, bool]]:
    """Every node that runs in the module's own scope at import, and whether it is inside an ``if``."""
    pending = [(node, False) for node in reversed(body)]
    while pending:
        node, conditional = pending.pop()
        yield node, conditional
        if isinstance(node, _SCOPES + _COMPREHENSIONS):
            continue
        conditional = conditional or isinstance(node, ast.If)
        pending.extend((child, conditional) for child in reversed(list(ast.iter_child_nodes(node))))


def _bound_names(node: ast.AST) -> set[str]:
    """The names that this node binds, without its children."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return {node.id}
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
        return {node.name}
    return set()
