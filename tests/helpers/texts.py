"""The errors and warnings that the package's source contains, with `…` where values come in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import tap_fullstory

PACKAGE = Path(tap_fullstory.__file__).parent
SOURCES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
    if "sandbox" not in path.parts
}
# Raised and caught inside http/. Their text is part of that of the error which a user sees.
INTERNAL = {"TransientError", "ResponseLost"}
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def all_texts() -> set[str]:
    """Return every string of the package that is not a docstring."""
    texts = set()
    for tree in SOURCES.values():
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) not in docstrings:
                texts |= set(_literal(node))
    return texts


def errors() -> dict[str, str]:
    """Return the text of each error that can become a CRITICAL line, and the file it is in."""
    kinds = _error_classes() - INTERNAL
    found: dict[str, str] = {}
    for name, tree in SOURCES.items():
        for call, scope in _calls(tree):
            if _called(call) in kinds:
                found |= dict.fromkeys(_of_argument(call, scope, tree), name)
        for kind in ast.walk(tree):
            if isinstance(kind, ast.ClassDef) and kind.name in kinds:
                for call, scope in _calls(kind):
                    if ast.unparse(call.func) == "super().__init__":
                        found |= dict.fromkeys(_of_argument(call, scope, tree), name)
    return {text: name for text, name in found.items() if _is_a_sentence(text)}


def warnings() -> dict[str, str]:
    """Return the text of each WARNING, and the file it is in."""
    found: dict[str, str] = {}
    for name, tree in SOURCES.items():
        for call, scope in _calls(tree):
            if _is_warning(call):
                found |= dict.fromkeys(_warning_texts(call, scope, tree), name)
    return {text: name for text, name in found.items() if _is_a_sentence(text)}


def warning_codes() -> dict[str, list[str]]:
    """Return each code of a WARNING with the texts that have it; "" has those without one."""
    found: dict[str, list[str]] = {}
    for tree in SOURCES.values():
        for call, scope in _calls(tree):
            if _is_warning(call):
                texts = set(_warning_texts(call, scope, tree))
                for code in _codes(call, scope, tree):
                    found.setdefault(code, []).extend(texts)
    return found


def matches(pattern: str, text: str) -> bool:
    """Return whether `text` contains `pattern`, in which `…` is anything."""
    return re.search(".*".join(map(re.escape, pattern.split("…"))), text, re.DOTALL) is not None


def _is_warning(call: ast.Call) -> bool:
    return _called(call) in ("warning", "CodedWarning")


def _warning_texts(call: ast.Call, scope: ast.AST, module: ast.AST) -> Iterator[str]:
    """Yield the texts of LOGGER.warning(text, ..., extra={"code": code}) or CodedWarning(code,
    text).
    """
    at = 1 if _called(call) == "CodedWarning" else 0
    yield from _values(call.args[at], scope, module, frozenset())


def _codes(call: ast.Call, scope: ast.AST, module: ast.AST) -> list[str]:
    given: list[ast.expr] = call.args[:1] if _called(call) == "CodedWarning" else []
    for keyword in call.keywords:
        match keyword:
            case ast.keyword("extra", ast.Dict(keys=[ast.Constant("code"), *_], values=[code, *_])):
                given.append(code)
    if given == [] or ast.unparse(given[0]) == "warning.code":  # where CodedWarnings are logged
        return [""] if given == [] else []
    return [*_values(given[0], scope, module, frozenset())]


def _is_a_sentence(text: str) -> bool:
    return re.search(r"\w+ \w+", text) is not None  # "…" alone: made of texts found elsewhere


def _error_classes() -> set[str]:
    classes = [node for tree in SOURCES.values() for node in ast.walk(tree)]
    kinds = {"TapError"}
    for _ in range(4):  # levels of subclasses
        kinds |= {
            node.name
            for node in classes
            if isinstance(node, ast.ClassDef) and kinds & {ast.unparse(base) for base in node.bases}
        }
    return kinds


def _calls(tree: ast.AST, scope: ast.AST | None = None) -> Iterator[tuple[ast.Call, ast.AST]]:
    """Yield each call with the innermost function (or module) that it is in."""
    scope = tree if scope is None else scope
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call):
            yield node, scope
        yield from _calls(node, node if isinstance(node, FUNCTIONS) else scope)


def _called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(name) | ast.Attribute(attr=name):
            return name
    return ""


def _of_argument(call: ast.Call, scope: ast.AST, module: ast.AST) -> Iterator[str]:
    """Yield the texts that the first argument can be, following names, functions and tables."""
    if call.args:
        yield from _values(call.args[0], scope, module, frozenset())


def _values(node: ast.AST, scope: ast.AST, module: ast.AST, seen: frozenset[str]) -> Iterator[str]:
    match node:
        case ast.Constant() | ast.JoinedStr():
            yield from _literal(node)
        case ast.IfExp(body=body, orelse=other):
            yield from _values(body, scope, module, seen)
            yield from _values(other, scope, module, seen)
        case ast.BoolOp(values=values):
            for value in values:
                yield from _values(value, scope, module, seen)
        case ast.Name(name) if name not in seen:
            for where in (scope, module):
                for assigned in _assigned(name, where):
                    yield from _values(assigned, scope, module, seen | {name})
        case ast.Subscript(value=value) | ast.Attribute(value=value):
            yield from _values(value, scope, module, seen)
        case ast.Dict(values=entries):
            for entry in entries:
                yield from _values(entry, scope, module, seen)
        case ast.Call(func=ast.Attribute(value=value, attr="format" | "get")):
            yield from _values(value, scope, module, seen)
        case ast.Call(func=ast.Name(name)) if name not in seen:
            for function in ast.walk(module):
                if isinstance(function, FUNCTIONS) and function.name == name:
                    for inner in ast.walk(function):
                        if isinstance(inner, ast.Return) and inner.value is not None:
                            yield from _values(inner.value, function, module, seen | {name})


def _assigned(name: str, where: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(where):
        match node:
            case ast.Assign(targets=[ast.Name(target)], value=value) if target == name:
                yield value
            case ast.AnnAssign(target=ast.Name(target), value=ast.AST() as value) if target == name:
                yield value


def _literal(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.JoinedStr(values=parts):
            yield "".join(
                re.sub(r"\{\w*\}", "…", str(part.value)) if isinstance(part, ast.Constant) else "…"
                for part in parts
            )
        case ast.Constant(value=str(text)):
            yield re.sub(r"%(\.\d)?[a-z]|\{\w*\}", "…", text)
