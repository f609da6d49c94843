#!/usr/bin/env python3
"""Writes the types of the PDK for plugins without Lua style, and for ``async def`` handlers, from kong_pdk.pdk.kong.

``scripts/pdk_types.py`` writes them; ``scripts/pdk_types.py --check`` only says whether they are up to date.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PDK = ROOT / "pdk/src/kong_pdk/pdk"
HEAD = '''"""See the module of this name. Written by scripts/pdk_types.py, from kong_pdk.pdk.kong: do not edit."""

'''
RESULTS = ("Result", "Fallible")  # (value, error): only the value is left
IMPORTED = (
    "collections.abc",
    "typing",
    "kong_pdk.pdk.kong",
    "kong_pdk.pdk.kong.namespace",
    "kong_pdk.pdk.kong.values",
)


class Face(ast.NodeTransformer):
    """Takes what only readers need out of the classes, and changes the results of the functions."""

    def __init__(self, is_plain: bool, is_async: bool) -> None:
        """:param is_plain: whether a result is the value alone, without the error.

        :param is_async: whether the functions are coroutine functions.
        """
        self._is_plain = is_plain
        self._is_async = is_async

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        if self._is_plain and isinstance(node.value, ast.Name) and node.value.id in RESULTS:
            return node.slice
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        """Give a part by its type alone."""
        if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "Part":
            kind = ast.parse(f"Part[{ast.unparse(node.value.args[0])}]", mode="eval").body
            return ast.AnnAssign(node.targets[0], kind, simple=1)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef | ast.AsyncFunctionDef:
        self.generic_visit(node)
        node.decorator_list = []
        node.body = [ast.Expr(ast.Constant(...))]
        return ast.AsyncFunctionDef(**dict(ast.iter_fields(node))) if self._is_async else node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        """Leave out what stands under ``if not TYPE_CHECKING``, too."""
        self.generic_visit(node)
        node.body = [each for each in node.body if not (_is_docstring(each) or isinstance(each, ast.If))]
        return node


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _modules() -> list[ast.Module]:
    """Give the modules that define parts of the PDK; the one that puts them together is the last."""
    parts = sorted(PDK.glob("kong/*.py"), key=lambda path: (path.name == "__init__.py", path.name))
    named = [path for path in parts if path.stem not in ("namespace", "unconnected", "values")]
    return [ast.parse(path.read_text("utf-8")) for path in named]


def _by_use(classes: dict[str, ast.ClassDef]) -> list[ast.ClassDef]:
    """Put a class behind those that it is made of."""
    ordered: dict[str, ast.ClassDef] = {}

    def add(name: str) -> None:
        for node in ast.walk(classes[name]):
            if isinstance(node, ast.Name) and node.id in classes and node.id not in ordered and node.id != name:
                add(node.id)
        ordered.setdefault(name, classes[name])

    for name in classes:
        add(name)
    return list(ordered.values())


def _imports(modules: list[ast.Module], body: list[ast.ClassDef]) -> list[ast.stmt]:
    """Give the imports of those names that the classes use."""
    used = {node.id for each in body for node in ast.walk(each) if isinstance(node, ast.Name)}
    found: dict[str, set[str]] = {module: set() for module in IMPORTED}
    for module in modules:
        for node in module.body:
            if isinstance(node, ast.ImportFrom) and node.module in found:
                found[node.module] |= {alias.name for alias in node.names} & used
    return [
        ast.ImportFrom(module, [ast.alias(name) for name in sorted(names)], 0)
        for module, names in sorted(found.items())
        if names
    ]


def _ruff(arguments: list[str], target: Path, text: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(target), "-"]
    return subprocess.run(command, input=text, text=True, stdout=subprocess.PIPE, check=True).stdout


def write(target: Path, face: Face) -> str:
    """Give the text of the types."""
    modules = _modules()
    classes = {node.name: node for module in modules for node in module.body if isinstance(node, ast.ClassDef)}
    body = _by_use({name: face.visit(node) for name, node in classes.items()})
    names = [node for node in modules[-1].body if isinstance(node, ast.Assign)]  # __all__
    tree = ast.Module([*_imports(modules, body), *names, *body], [])
    text = HEAD + ast.unparse(ast.fix_missing_locations(tree))
    for step in (["check", "--select", "I", "--fix", "--quiet"], ["format"]):
        text = _ruff([*step, "--no-cache", "--config", str(ROOT / "pdk/pyproject.toml")], target, text)
    return text


FACES = {
    PDK / "plain/__init__.pyi": Face(is_plain=True, is_async=False),
    PDK / "aio/__init__.pyi": Face(is_plain=False, is_async=True),
    PDK / "aio_plain/__init__.pyi": Face(is_plain=True, is_async=True),
}


def main(arguments: list[str]) -> int:
    """Write the types, or check them."""
    texts = {target: write(target, face) for target, face in FACES.items()}
    if arguments != ["--check"]:
        for target, text in texts.items():
            target.write_text(text, "utf-8")
        return 0
    old = [target for target, text in texts.items() if not target.exists() or target.read_text("utf-8") != text]
    for target in old:
        print(f"{target} is not up to date; run scripts/pdk_types.py", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
