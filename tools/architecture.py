"""Hold the imports and sizes of nda_index against the rules in docs/architecture.md.

    python tools/architecture.py            # the rooms, their imports, and broken rules; exits 1 where there is one
    python tools/architecture.py --write    # also writes the list of modules in docs/architecture.md again

A room is a sub-package, or a module at the top. Which room may import which is read from the page, so that the page
and this check cannot drift apart. Imports count wherever they stand: at the top, in a function, under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import networkx

MODULE_LINES = 400  # of a file
TOP_LEVEL_MODULES = 12  # `__init__` among them
FUNCTION_LINES = 60  # without the docstring
POSITIONAL = 8  # parameters that can be given by position, without self and cls

LIBRARIES = {  # a library, and the rooms that may import it
    "faiss": {"coarse"},
    "cv2": {"pictures"},
    **dict.fromkeys(["lancedb", "lance"], {"store"}),
    "ray": {"cluster"},
    "fastapi": {"serve"},
    "starlette": {"serve"},
    "uvicorn": {"serve"},
}
HANDLES = {  # a name that hands out a library, and the rooms that may use it
    "load_faiss": {"coarse"},
}
ENGINE = {"coarse", "store.corpus", "store.manifest", "store.locks", "store.tombstones", "query", "indexing", "cluster"}
APART = {  # a module, and the rooms and modules that it must not reach, however many imports lie between
    "client": ENGINE,
    "question": ENGINE,
}
LONG_FUNCTIONS: dict[str, str] = {}  # functions that may be longer than FUNCTION_LINES, and why
MANY_PARAMETERS = {  # functions that may take more than POSITIONAL, and why
    **{f"exact.gpu_kernels.{k}": "a flat list for Triton" for k in ("sweep", "sweep_pieces", "_store", "sum_bytes")},
    **{f"coarse.gpu_kernels.{k}": "a flat list for Triton" for k in ("sum_visits", "add_votes", "add_evenly")},
    **{f"cli.indexes.{command}_command": "options of the command line" for command in ("build", "add")},
    **{f"cli.questions.{command}_command": "options of the command line" for command in ("query", "denoise")},
    "serve.commands.serve": "options of the command line",
}

MODULES_BEGIN, MODULES_END = "<!-- modules: begin -->", "<!-- modules: end -->"
KINDS = {"": "", "types": " (types)", "function": " (inside a function)"}


@dataclass(frozen=True)
class Import:
    """One import statement's target: a module of the package, or the first name of a library."""

    target: str
    line: int
    kind: str  # "", "types" (under TYPE_CHECKING) or "function"


@dataclass(frozen=True)
class Module:
    """One file of the package. Names are without the package's own: "" is the package, "exact.cpu" is exact/cpu.py."""

    name: str
    path: str  # below the package, as "exact/cpu.py"
    tree: ast.Module
    lines: int
    imports: tuple[Import, ...]
    libraries: tuple[Import, ...]

    @property
    def room(self) -> str:
        return room_of(self.name)

    @property
    def has_code(self) -> bool:
        """Whether there is more in it than a docstring and imports from `__future__`."""
        return any(
            not isinstance(node, ast.Expr) and not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
            for node in self.tree.body
        )


Package = Mapping[str, Module]
Order = Mapping[str, frozenset[str]]  # a room, and the rooms that it may import


def room_of(name: str) -> str:
    """Return the room of a module: the first part of its name."""
    return name.split(".")[0]


def read_package(root: Path) -> dict[str, Module]:
    """Parse every file below `root`, the folder of a package, and resolve its imports."""
    files = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    modules = {}
    for name, path in files.items():
        text = path.read_text()
        tree = ast.parse(text)
        inside, outside = [], []
        for node, kind in _import_statements(tree, ""):
            for target in _targets(node, root.name, path, root):
                first, _, own = target.partition(".")
                if first == root.name:
                    inside.append(Import(_longest_module(own, files), node.lineno, kind))
                else:
                    outside.append(Import(first, node.lineno, kind))
        below, lines = path.relative_to(root).as_posix(), len(text.splitlines())
        modules[name] = Module(name, below, tree, lines, tuple(inside), tuple(outside))
    return modules


def _import_statements(node: ast.AST, kind: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, kind
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for part in child.body:
                yield from _import_statements(ast.Module([part], []), "types")
            for part in child.orelse:
                yield from _import_statements(ast.Module([part], []), kind)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _import_statements(child, "function")
        else:
            yield from _import_statements(child, kind)


def _targets(node: ast.Import | ast.ImportFrom, package: str, path: Path, root: Path) -> list[str]:
    """Full names that a statement imports, the last part perhaps a name inside a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        folder = [package, *path.relative_to(root).parent.parts]
        base = ".".join([*folder[: len(folder) - node.level + 1], *([base] if base else [])])
    return [f"{base}.{alias.name}" for alias in node.names]


def _longest_module(name: str, files: Mapping[str, Path]) -> str:
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name


def read_order(page: str) -> dict[str, frozenset[str]]:
    """Read which room may import which from the page's block `order`.

    `a, b < c < d` says that c may import a and b, and d may import c and all that c may import. Each chain has a line
    of its own, or ends with a semicolon.

    Raises:
        ValueError: the page has no such block, or its order runs in a circle.
    """
    block = re.search(r"^```order\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    if block is None:
        raise ValueError("the page has no block that begins with ```order")
    direct: dict[str, set[str]] = {}
    for chain in re.split(r"[;\n]", block[1]):
        below: list[str] = []
        for group in filter(str.strip, chain.split("<")):
            rooms = [room.strip() for room in group.split(",")]
            for room in rooms:
                direct.setdefault(room, set()).update(below)
            below = rooms
    order: dict[str, frozenset[str]] = {}
    try:
        for room in TopologicalSorter(direct).static_order():
            order[room] = frozenset(direct[room]).union(*(order[other] for other in direct[room]))
    except CycleError as error:
        raise ValueError(f"the order runs in a circle: {', '.join(sorted(set(error.args[1])))}") from error
    return order


def check_rooms(modules: Package, order: Order) -> list[str]:
    """Name rooms that the order leaves out, and rooms of the order that there are not."""
    rooms = {module.room for module in modules.values() if module.name}
    return [f"{room}: is not in the order" for room in sorted(rooms - order.keys())] + [
        f"{room}: is in the order, but there is no such room" for room in sorted(order.keys() - rooms)
    ]


def check_direction(modules: Package, order: Order) -> list[str]:
    """Name imports of a room that is not below the importing one. Nothing may import the package itself."""
    broken = []
    for module in modules.values():
        for one in module.imports:
            if module.name and room_of(one.target) not in {module.room} | order.get(module.room, frozenset()):
                target = one.target or "the package"
                broken.append(f"{module.path}:{one.line}: imports {target} upwards{KINDS[one.kind]}")
    return broken


def check_circles(modules: Package) -> list[str]:
    """Name circles of modules that import one another, also those for types alone."""
    graph = networkx.DiGraph((name, one.target) for name, module in modules.items() for one in module.imports)
    circles = [sorted(part) for part in networkx.strongly_connected_components(graph) if len(part) > 1]
    return [f"circle: {', '.join(circle)}" for circle in sorted(circles)]


def check_apart(modules: Package, apart: Mapping[str, set[str]] = APART) -> list[str]:
    """Name modules of APART that reach a room which they must not. Importing a.b runs a's `__init__` too."""
    edges = {name: {one.target for one in module.imports} for name, module in modules.items()}
    for name in modules:
        edges[name] |= {target.rpartition(".")[0] for target in edges[name]} - {""}
        edges[name] -= {""}  # the package itself, which imports everything
    broken = []
    for name in sorted(apart.keys() & modules.keys()):
        reachable = networkx.descendants(networkx.DiGraph((a, b) for a in edges for b in {a} | edges[a]), name)
        reached = (reachable | {room_of(other) for other in reachable}) & apart[name]
        broken += [f"{modules[name].path}: reaches {room}" for room in sorted(reached)]
    return broken


def check_libraries(
    modules: Package,
    libraries: Mapping[str, set[str]] = LIBRARIES,
    handles: Mapping[str, set[str]] = HANDLES,
) -> list[str]:
    """Name imports of a library, and uses of a name that hands one out, outside of their rooms."""
    broken = []
    for module in modules.values():
        uses = [(one.target, one.line, libraries) for one in module.libraries]
        uses += [(name, line, handles) for name, line in _identifiers(module.tree)]
        for name, line, rooms in uses:
            if name in rooms and module.room not in rooms[name]:
                broken.append(f"{module.path}:{line}: uses {name}, which belongs to {', '.join(sorted(rooms[name]))}")
    return broken


def _identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.Name):
            yield node.id, node.lineno


def check_sizes(modules: Package) -> list[str]:
    """Name modules that are too long, and say if there are too many at the top."""
    broken = [f"{one.path}: has {one.lines} lines" for one in modules.values() if one.lines > MODULE_LINES]
    top = [module for module in modules.values() if "/" not in module.path]
    if len(top) > TOP_LEVEL_MODULES:
        broken.append(f"{len(top)} modules at the top; {TOP_LEVEL_MODULES} is the most")
    return broken


def check_functions(
    modules: Package,
    long: Mapping[str, str] = LONG_FUNCTIONS,
    wide: Mapping[str, str] = MANY_PARAMETERS,
) -> list[str]:
    """Name functions that are too long or take too many parameters, and exceptions that nothing needs."""
    broken = []
    needed = set()
    for module in modules.values():
        for name, node in _functions(module.tree, module.name):
            where = f"{module.path}:{node.lineno}: {name.rpartition('.')[2]}"
            lines, parameters = _lines_of(node), _parameters_of(node)
            if lines > FUNCTION_LINES:
                needed.add(("long", name))
                broken += [] if name in long else [f"{where} has {lines} lines without its docstring"]
            if parameters > POSITIONAL:
                needed.add(("wide", name))
                broken += [] if name in wide else [f"{where} takes {parameters} parameters by position"]
    exceptions = {("long", name) for name in long} | {("wide", name) for name in wide}
    return broken + [f"{name}: is an exception that nothing needs" for _, name in sorted(exceptions - needed)]


def _functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}.{child.name}", child
            yield from _functions(child, f"{prefix}.{child.name}")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}.{child.name}")
        else:
            yield from _functions(child, prefix)


def _lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
    return lines


def _parameters_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
    return len(names[1:] if names[:1] in (["self"], ["cls"]) else names)


def module_lines(modules: Package) -> str:
    """Return the page's list of modules: one line each, from the first line of the module's docstring."""
    rooms: dict[str, list[Module]] = {}
    for module in modules.values():
        if module.has_code or module.path.count("/") == 0:
            rooms.setdefault(module.room if "/" in module.path else "", []).append(module)
    blocks = []
    for room in sorted(rooms):
        own = sorted(rooms[room], key=lambda one: one.path)
        blocks.append(f"### {room}/\n\n{_summary(modules[room])}\n" if room else "### At the top\n")
        blocks.append("".join(f"- `{one.path}`: {_summary(one)}\n" for one in own))
    return "\n".join(blocks)


def _summary(module: Module) -> str:
    return (ast.get_docstring(module.tree) or "").partition("\n")[0]


def write_modules(page: str, modules: Package) -> str:
    """Return the page with its list of modules written again.

    Raises:
        ValueError: the page lacks the two marks between which the list stands.
    """
    before, begin, rest = page.partition(MODULES_BEGIN)
    _, end, after = rest.partition(MODULES_END)
    if not begin or not end:
        raise ValueError(f"the page lacks {MODULES_BEGIN} or {MODULES_END}")
    return f"{before}{begin}\n{module_lines(modules)}{end}{after}"


def check_page(page: str, modules: Package) -> list[str]:
    """Name modules without a docstring, and files on the page that there are not; say if its list of modules is old."""
    broken = [f"{one.path}: has no docstring" for one in modules.values() if not ast.get_docstring(one.tree)]
    paths = {one.path for one in modules.values()}
    by_hand = write_modules(page, {"": modules[""]})
    broken += [
        f"docs/architecture.md: names {path}, which there is not"
        for path in sorted(set(re.findall(r"`([\w/]+\.py)`", by_hand)) - paths)
    ]
    if write_modules(page, modules) != page:
        broken.append("docs/architecture.md: its list of modules is old; run python tools/architecture.py --write")
    return broken


def check_all(modules: Package, page: str) -> dict[str, list[str]]:
    """Return what breaks each rule, by the rule's name."""
    order = read_order(page)
    return {
        "every room is in the order": check_rooms(modules, order),
        "imports point down": check_direction(modules, order),
        "no circles": check_circles(modules),
        "libraries stay in their rooms": check_libraries(modules),
        "the client and the question stay light": check_apart(modules),
        "modules are short and few at the top": check_sizes(modules),
        "functions are short and narrow": check_functions(modules),
        "the page lists every module": check_page(page, modules),
    }


def describe_rooms(modules: Package, order: Order) -> str:
    """Return a line for each room, lowest first: its modules, its lines, and the rooms that it imports."""
    rooms = {module.room for module in modules.values() if module.name}
    lines = []
    for room in sorted(rooms, key=lambda one: (len(order.get(one, ())), one)):
        own = [module for module in modules.values() if module.room == room]
        kinds: dict[str, set[str]] = {}
        for module in own:
            for one in module.imports:
                kinds.setdefault(room_of(one.target), set()).add(one.kind)
        others = sorted(kinds.keys() - {room})
        imports = [f"{other}{'' if '' in kinds[other] else KINDS[max(kinds[other])]}" for other in others]
        size = sum(module.lines for module in own)
        lines.append(f"{room:<10}{len(own):>3} files{size:>6} lines   imports {', '.join(imports) or 'nothing'}")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Print the rooms and the broken rules; the exit code is 1 where a rule is broken."""
    root = Path(__file__).parents[1]
    path = root / "docs" / "architecture.md"
    page, modules = path.read_text(), read_package(root / "nda_index")
    if arguments == ["--write"]:
        page = write_modules(page, modules)
        path.write_text(page)
    elif arguments:
        print(__doc__, file=sys.stderr)
        return 2
    print(describe_rooms(modules, read_order(page)))
    results = check_all(modules, page)
    print()
    for rule, broken in results.items():
        print(f"{'BROKEN' if broken else 'holds '}  {rule}")
        for line in broken:
            print(f"          {line}")
    return int(any(results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
