#!/usr/bin/env python3
"""Writes the types of the PDK for plugins without Lua style (kong_pdk.pdk.plain), from those with it.

``scripts/plain_types.py`` writes them; ``scripts/plain_types.py --check`` only says whether they are up to date.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PDK = ROOT / "pdk/src/kong_pdk/pdk"
TARGET = PDK / "plain/__init__.pyi"
HEAD = '''"""See the module of this name. Written by scripts/plain_types.py, from kong_pdk.pdk.kong: do not edit."""

'''
RESULTS = ("Result", "Fallible")  # (value, error): only the value is left
IMPORTED = (
    "collections.abc",
    "typing",
    "kong_pdk.pdk.kong",
    "kong_pdk.pdk.kong.namespace",
    "kong_pdk.pdk.kong.values",
)


class Plain(ast.NodeTransformer):
    """Takes the errors out of the results, and what only readers need out of the classes."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id in RESULTS:
            return node.slice
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        """Give a part by its type alone."""
        if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "Part":
            kind = ast.parse(f"Part[{ast.unparse(node.value.args[0])}]", mode="eval").body
            return ast.AnnAssign(node.targets[0], kind, simple=1)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.decorator_list = []
        node.body = [ast.Expr(ast.Constant(...))]
        return node

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


def _ruff(arguments: list[str], text: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(command, input=text, text=True, stdout=subprocess.PIPE, check=True).stdout


def write() -> str:
    """Give the text of the types."""
    modules = _modules()
    classes = {node.name: node for module in modules for node in module.body if isinstance(node, ast.ClassDef)}
    body = _by_use({name: Plain().visit(node) for name, node in classes.items()})
    names = [node for node in modules[-1].body if isinstance(node, ast.Assign)]  # __all__
    tree = ast.Module([*_imports(modules, body), *names, *body], [])
    text = HEAD + ast.unparse(ast.fix_missing_locations(tree))
    for step in (["check", "--select", "I", "--fix", "--quiet"], ["format"]):
        text = _ruff([*step, "--no-cache", "--config", str(ROOT / "pdk/pyproject.toml")], text)
    return text


def main(arguments: list[str]) -> int:
    """Write the types, or check them."""
    text = write()
    if arguments != ["--check"]:
        TARGET.write_text(text, "utf-8")
        return 0
    if TARGET.read_text("utf-8") == text:
        return 0
    print(f"{TARGET} is not up to date; run scripts/plain_types.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
