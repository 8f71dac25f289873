"""What the agent finds out about Python source.

Pure functions of what a file holds. The one rule that must not be broken: whatever the bytes are,
the answer is an `Outline`, the same one every time; a file that is no Python has a problem in its
outline.
"""

import ast
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

HIGH_COMPLEXITY: Final = 10
"""A function whose complexity is larger than this has more paths than most people keep in mind."""

RELATIVE: Final = "."
"""Stands for the file's own package among the imported modules."""

_NOT_PARSED: Final = (
    SyntaxError,
    ValueError,  # NUL bytes, in the oldest of the interpreters that we run on
    RecursionError,
    MemoryError,  # how the parser says that it has no more room on its own stack
    SystemError,  # how some interpreters count the depth of a tree that they gave up
)
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_BRANCHES: Final = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.Assert,
)


@dataclass(frozen=True, slots=True)
class Function:
    """One function or method; `name` says where it is, as in `Reader.read.<locals>.step`."""

    name: str
    line: int
    complexity: int
    has_docstring: bool


@dataclass(frozen=True, slots=True)
class Outline:
    """What a file holds, as far as the agent cares.

    Attributes:
        bytes: its size.
        functions: all of them, in the order of the file.
        imports: the module that each import names, in the order of the file; a relative one begins
            with a dot.
        problem: why there is no more to say; None where there is none.
    """

    bytes: int = 0
    lines: int = 0
    functions: tuple[Function, ...] = ()
    imports: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """The functions that want a second look."""

    undocumented: tuple[Function, ...]
    complex: tuple[Function, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """How often something was met: a module among the imports, say."""

    name: str
    count: int


def outline(source: bytes) -> Outline:
    """Return what the source holds, or what is wrong with it."""
    lines = source.count(b"\n") + (not source.endswith(b"\n") and source != b"")
    try:
        tree = _parse(source)
    except _NOT_PARSED as error:
        return Outline(len(source), lines, problem=_complaint(error))
    functions = sorted(_functions(tree), key=lambda found: (found.line, found.name))
    return Outline(len(source), lines, tuple(functions), tuple(_imports(tree)))


def review(outline: Outline) -> Review:
    """Pick the functions without a docstring, and the complex ones, the most complex first."""
    complex_ones = [found for found in outline.functions if found.complexity > HIGH_COMPLEXITY]
    return Review(
        undocumented=tuple(found for found in outline.functions if not found.has_docstring),
        complex=tuple(sorted(complex_ones, key=lambda found: -found.complexity)),
    )


def rank_imports(outline: Outline) -> tuple[Tally, ...]:
    """Count the imports of each top-level module; the most frequent first, then by name."""
    return rank(Tally(_top_level(module), 1) for module in outline.imports)


def rank(tallies: Iterable[Tally]) -> tuple[Tally, ...]:
    """Add up the tallies of each name; the most frequent first, then by name."""
    counts: Counter[str] = Counter()
    for tally in tallies:
        counts[tally.name] += tally.count
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Tally(name, count) for name, count in ordered)


def _parse(source: bytes) -> ast.Module:
    with warnings.catch_warnings():
        # A warning about the file is no warning about us, and must not become an error.
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _complaint(error: BaseException) -> str:
    """Say in one line what is wrong, in words that hold no surrogates."""
    if isinstance(error, RecursionError):
        text = "nested too deep to parse"
    elif isinstance(error, MemoryError):
        text = "too complex to parse"
    elif isinstance(error, SyntaxError):
        where = f"line {error.lineno}: " if error.lineno else ""
        text = f"{where}{error.msg}"
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def _functions(tree: ast.Module) -> Iterator[Function]:
    """Give every function in the tree; with a stack of our own, because trees may be deep."""
    scopes: list[tuple[ast.AST, str]] = [(tree, "")]
    while scopes:
        scope, name = scopes.pop()
        inside = _prefix(scope, name)
        decisions = 0
        nodes = list(ast.iter_child_nodes(scope))
        while nodes:
            node = nodes.pop()
            if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
                scopes.append((node, inside + node.name))  # its decisions are its own
            else:
                decisions += _decisions(node)
                nodes.extend(ast.iter_child_nodes(node))
        if isinstance(scope, _FUNCTIONS):
            documented = ast.get_docstring(scope, clean=False) is not None
            yield Function(name, scope.lineno, 1 + decisions, documented)


def _prefix(scope: ast.AST, name: str) -> str:
    """Return what stands before the names of what is defined in the scope, as in `__qualname__`."""
    if isinstance(scope, _FUNCTIONS):
        return f"{name}.<locals>."
    return f"{name}." if name else ""


def _decisions(node: ast.AST) -> int:
    """Return how many more paths there are because of this node, by itself: McCabe's count."""
    match node:
        case ast.BoolOp(values=values):
            return len(values) - 1
        case ast.comprehension(ifs=ifs):
            return 1 + len(ifs)
        case ast.match_case(pattern=ast.MatchAs(pattern=None), guard=None):
            return 0
        case ast.match_case():
            return 1
        case _:
            return int(isinstance(node, _BRANCHES))


def _imports(tree: ast.Module) -> Iterator[str]:
    found: list[ast.Import | ast.ImportFrom] = []
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.append(node)
        nodes.extend(ast.iter_child_nodes(node))
    for node in sorted(found, key=lambda node: (node.lineno, node.col_offset)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            yield "." * node.level + (node.module or "")


def _top_level(module: str) -> str:
    return RELATIVE if module.startswith(".") else module.partition(".")[0]
