"""Imports in ``echoproto/`` point down the floors of docs/architecture.rst, and files stay short.

What counts as an import: every ``import`` statement, those under ``TYPE_CHECKING`` and inside
functions included, and ``import_module`` with a literal name.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGE = "echoproto"

# A room is a module or a package. Each list is a wing, from the lowest floor to the highest;
# the rooms of one floor may not import each other.
SERVE = [
    ("base",),
    ("core",),
    ("net",),
    ("drain",),
    ("limits",),
    ("proxy_protocol",),
    ("service",),
    ("status",),
    ("workers",),
    ("command",),
]
PROBE = [("script",), ("wire",), ("search", "relay"), ("report",), ("cli", "pytest_plugin")]
FLOORS = {
    **{f"{PACKAGE}.{room}": floor for floor, rooms in enumerate(SERVE) for room in rooms},
    **{f"{PACKAGE}.probe.{room}": floor for floor, rooms in enumerate(PROBE) for room in rooms},
}
CLIENT = f"{PACKAGE}.client"
MAIN = f"{PACKAGE}.__main__"
# Packages whose ``__init__`` has the public names, imported when first used. Nothing below
# imports them.
PUBLIC = (PACKAGE, f"{PACKAGE}.probe")

# The relay is not a part of the probe: it needs from it how a target is written, and words.
RELAY = f"{PACKAGE}.probe.relay"
BELOW_THE_RELAY = {f"{PACKAGE}.probe.script.words", f"{PACKAGE}.probe.wire.target"}

MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 40
MOST_LINES_OF_CORE = 1200

# Files, as "echoproto/room/file.py", and functions, as "echoproto/room/file.py:Class.function",
# that may be longer, each with the reason.
EXEMPT: dict[str, str] = {}


def modules_of(root: Path) -> dict[str, Path]:
    """Return the modules of the package below a directory, by name."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str) -> str:
    """Return the room of a module: ``echoproto.net.tls`` is in ``echoproto.net``."""
    parts = module.split(".")
    return ".".join(parts[: 3 if parts[1:2] == ["probe"] else 2])


def imports_of(module: str, path: Path, modules: Mapping[str, Path]) -> Iterator[tuple[int, str]]:
    """Yield each module of the package that a module imports, with the line."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            # A name may be a module of the package, or something in its __init__.
            names = [f"{origin}.{each.name}" for each in node.names]
            names = [each if each in modules else origin for each in names]
        elif isinstance(node, ast.Call):
            names = _names_imported_by(node)
        else:
            continue
        for name in dict.fromkeys(names):
            if name.split(".")[0] == PACKAGE:
                yield node.lineno, name


def _names_imported_by(call: ast.Call) -> list[str]:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name not in ("import_module", "__import__") or not call.args:
        return []
    argument = call.args[0]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return [argument.value]
    return []


def fault_of(module: str, imported: str) -> str | None:
    """Tell what is wrong with an import, if anything is."""
    here, there = room_of(module), room_of(imported)
    if module in PUBLIC:
        # The probe's public names are the probe's.
        same_wing = imported.startswith(f"{PUBLIC[1]}.") or module == PACKAGE
        return None if same_wing else "the probe imports the serve wing"
    if module == MAIN:
        return None if there == f"{PACKAGE}.probe.cli" else "__main__ imports only probe.cli"
    if imported in PUBLIC:
        return "it imports the public names of the package above it"
    if module == CLIENT:
        return None if there == f"{PACKAGE}.core" else "the client imports only core"
    for room in (here, there):
        if room not in FLOORS:
            return f"{room} is on no floor"
    wings = [room.startswith(f"{PUBLIC[1]}.") for room in (here, there)]
    if wings[0] != wings[1]:
        return "one wing imports the other"
    if here == RELAY and there != RELAY and imported not in BELOW_THE_RELAY:
        return "the relay imports the probe"
    if here != there and FLOORS[there] >= FLOORS[here]:
        return "a step up" if FLOORS[there] > FLOORS[here] else "a step aside on one floor"
    return None


def steps_up(root: Path) -> list[str]:
    """Return the imports that do not point down, as one line each."""
    modules = modules_of(root)
    return [
        f"{path.relative_to(root)}:{line}: {module} imports {imported}: {fault}"
        for module, path in modules.items()
        for line, imported in imports_of(module, path, modules)
        if (fault := fault_of(module, imported))
    ]


def homeless(root: Path) -> list[str]:
    """Return the modules that belong to no room."""
    known = {*FLOORS, *PUBLIC, CLIENT, MAIN}
    return [
        f"{path.relative_to(root)}: {room_of(module)} is on no floor"
        for module, path in modules_of(root).items()
        if room_of(module) not in known
    ]


def circles(root: Path) -> list[str]:
    """Return each group of modules that import each other, directly or not, as one line."""
    modules = modules_of(root)
    edges = {
        module: {imported for _, imported in imports_of(module, path, modules)} - {module}
        for module, path in modules.items()
        if module not in PUBLIC
    }
    reached = {module: _reachable(module, edges) for module in edges}
    groups = {
        frozenset(other for other in reached[module] if module in reached.get(other, ()))
        for module in edges
    }
    return sorted(" <-> ".join(sorted(group)) for group in groups if group)


def _reachable(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for each in edges.get(waiting.pop(), set()) - seen:
            seen.add(each)
            waiting.append(each)
    return seen


def functions_of(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, int, int]]:
    """Yield the qualified name, the first line and the number of lines of each function.

    The docstring does not count, and neither do decorators.
    """
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from functions_of(node, prefix)
            continue
        name = f"{prefix}{node.name}"
        if not isinstance(node, ast.ClassDef):
            yield name, node.lineno, _lines(node) - _docstring_lines(node)
        yield from functions_of(node, f"{name}.")


def _lines(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return 0 if ast.get_docstring(node) is None else _lines(node.body[0])


def too_long(root: Path, exempt: Mapping[str, str]) -> list[str]:
    """Return the files and functions that are too long, and exemptions that nothing needs."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*")):
        if path.suffix not in (".py", ".js", ".css", ".html"):
            continue
        text, name = path.read_text(), str(path.relative_to(root))
        if (lines := len(text.splitlines())) > MOST_LINES:
            found[name] = f"{name}: {lines} lines; {MOST_LINES} are allowed"
        if path.suffix != ".py":
            continue
        for function, line, lines in functions_of(ast.parse(text)):
            if lines > MOST_LINES_OF_A_FUNCTION:
                found[f"{name}:{function}"] = (
                    f"{name}:{line}: {function} has {lines} lines without its docstring; "
                    f"{MOST_LINES_OF_A_FUNCTION} are allowed"
                )
    needless = [f"{name}: is exempt and need not be" for name in exempt if name not in found]
    return [line for name, line in found.items() if name not in exempt] + needless


def core_too_long(root: Path) -> list[str]:
    """Return a line if core/ is more than can be read in one sitting."""
    lines = sum(
        len(path.read_text().splitlines()) for path in (root / PACKAGE / "core").rglob("*.py")
    )
    if lines <= MOST_LINES_OF_CORE:
        return []
    return [f"{PACKAGE}/core has {lines} lines; {MOST_LINES_OF_CORE} are allowed"]


def test_imports_point_down() -> None:
    found = steps_up(PROJECT)
    assert not found, "\n" + "\n".join(found)


def test_every_module_is_in_a_room() -> None:
    found = homeless(PROJECT)
    assert not found, "\n" + "\n".join(found)


def test_no_modules_import_each_other() -> None:
    found = circles(PROJECT)
    assert not found, "\n" + "\n".join(found)


def test_core_is_read_in_one_sitting() -> None:
    assert core_too_long(PROJECT) == []


def test_files_and_functions_are_short() -> None:
    assert all(EXEMPT.values()), "an exemption needs a reason"
    found = too_long(PROJECT, EXEMPT)
    assert not found, "\n" + "\n".join(found)


# The check itself is checked below, with planted trees.


def plant(root: Path, files: Mapping[str, str]) -> Path:
    """Write a package of some files, with an ``__init__.py`` in each directory."""
    for name, text in files.items():
        path = root / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for folder in [root / PACKAGE, *(root / PACKAGE).rglob("*")]:
        if folder.is_dir() and not (folder / "__init__.py").exists():
            (folder / "__init__.py").touch()
    return root


SOUND = {
    "__init__.py": "def __getattr__(name):\n    from echoproto.command import tap\n",
    "__main__.py": "from echoproto.probe.cli import main\n",
    "client.py": "from echoproto.core.protocol import Echo\n",
    "service.py": "from .drain import drain\nfrom . import limits\n",
    "core/protocol.py": "import os\nfrom twisted.internet import reactor\n",
    "core/factory.py": "from echoproto.core import protocol\nfrom .protocol import Echo\n",
    "net/tls.py": "import echoproto.core.factory\n",
    "drain/drain.py": "from ..core.protocol import Echo\n",
    "limits/slots.py": "from echoproto.net import tls\n",
    "status/page.py": "from echoproto import service\n",
    "workers/parent.py": "from echoproto.status.page import Page\n",
    "command/tap.py": "from echoproto.workers.parent import Parent\n",
    "probe/__init__.py": "from echoproto.probe.report import html\n",
    "probe/script/describe.py": "",
    "probe/wire/target.py": "from echoproto.probe.script.describe import describe\n",
    "probe/report/html.py": "from echoproto.probe.wire.target import Target\n",
    "probe/relay/upstream.py": "from echoproto.probe.wire.target import Target\n",
    "probe/cli/main.py": "from echoproto.probe.report import html\nfrom . import other\n",
    "probe/cli/other.py": "",
    "probe/pytest_plugin.py": "from echoproto.probe.wire import target\n",
}


def test_a_sound_tree(tmp_path: Path) -> None:
    plant(tmp_path, SOUND)
    assert steps_up(tmp_path) + homeless(tmp_path) + circles(tmp_path) == []
    assert too_long(tmp_path, {}) + core_too_long(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("core/a.py", "from echoproto.net import tls", "a step up"),
        ("core/a.py", "import echoproto.service", "a step up"),
        ("core/a.py", "from .. import service", "a step up"),
        ("core/a.py", "from ..net.tls import x", "a step up"),
        ("core/__init__.py", "from ..net.tls import x", "a step up"),
        ("core/a.py", "if TYPE_CHECKING:\n    from echoproto.net.tls import x", "a step up"),
        ("core/a.py", "def f():\n    from echoproto.net.tls import x", "a step up"),
        ("core/a.py", "from importlib import *\nimport_module('echoproto.net.tls')", "a step up"),
        ("core/a.py", "import importlib\nimportlib.import_module('echoproto.net')", "a step up"),
        ("net/a.py", "import echoproto.drain.drain", "a step up"),
        ("drain/a.py", "import echoproto.limits.slots", "a step up"),
        ("limits/a.py", "import echoproto.proxy_protocol", "a step up"),
        ("proxy_protocol/a.py", "import echoproto.service", "a step up"),
        ("service.py", "import echoproto.status.page", "a step up"),
        ("status/a.py", "import echoproto.workers.parent", "a step up"),
        ("workers/a.py", "import echoproto.command.tap", "a step up"),
        ("probe/script/a.py", "import echoproto.probe.wire.target", "a step up"),
        ("probe/report/a.py", "import echoproto.probe.cli.main", "a step up"),
        ("probe/cli/a.py", "import echoproto.probe.pytest_plugin", "a step aside"),
        ("probe/relay/a.py", "import echoproto.probe.script.other", "the relay imports the probe"),
        ("probe/search/a.py", "import echoproto.probe.relay.upstream", "a step aside"),
        ("probe/relay/a.py", "import echoproto.core.protocol", "one wing imports the other"),
        ("core/a.py", "import echoproto.probe.wire.target", "one wing imports the other"),
        ("probe/wire/a.py", "import echoproto.core.protocol", "one wing imports the other"),
        ("probe/__init__.py", "from echoproto.core import protocol", "the probe imports"),
        ("client.py", "from echoproto.net import tls", "the client imports only core"),
        ("__main__.py", "from echoproto.command import tap", "__main__ imports only"),
        ("core/a.py", "from echoproto import Echo", "public names"),
        ("probe/wire/a.py", "from echoproto.probe import Target", "public names"),
        ("core/a.py", "import echoproto.attic", "is on no floor"),
    ],
)
def test_a_step_up_is_found(tmp_path: Path, name: str, text: str, fault: str) -> None:
    found = steps_up(plant(tmp_path, {**SOUND, name: f"{text}\n"}))
    assert len(found) == 1
    assert found[0].startswith(f"{PACKAGE}/{name}:")
    assert fault in found[0]


@pytest.mark.parametrize("name", ["attic.py", "attic/a.py", "probe/attic.py", "probe/attic/a.py"])
def test_a_room_on_no_floor_is_found(tmp_path: Path, name: str) -> None:
    assert homeless(plant(tmp_path, {**SOUND, name: ""}))


@pytest.mark.parametrize(
    "files",
    [
        {"net/a.py": "from . import b", "net/b.py": "from . import a"},
        {"net/a.py": "import echoproto.net.b", "net/b.py": "def f():\n    from .a import x"},
        {
            "net/a.py": "from .b import x",
            "net/b.py": "from .c import x",
            "net/c.py": "if TYPE_CHECKING:\n    from .a import x",
        },
        {"net/__init__.py": "from .a import x", "net/a.py": "from . import x"},
        {"probe/cli/main.py": "from . import other", "probe/cli/other.py": "from .main import x"},
    ],
)
def test_a_circle_is_found(tmp_path: Path, files: Mapping[str, str]) -> None:
    (found,) = circles(plant(tmp_path, {**SOUND, **files}))
    assert found.count(" <-> ") == len(files) - 1


def function(lines: int, docstring: int = 0) -> str:
    """Return the text of a method with so many lines, docstring lines besides."""
    words = '        """' + "x\n" * docstring + '"""\n' if docstring else ""
    return "class C:\n    def f(self):\n" + words + "        x = 1\n" * (lines - 1)


def test_what_is_too_long_is_found(tmp_path: Path) -> None:
    long, file = f"{PACKAGE}/net/a.py:C.f", f"{PACKAGE}/net/b.py"
    plant(tmp_path, {"net/a.py": function(41), "net/b.py": "x = 1\n" * 401})
    found = too_long(tmp_path, {})
    assert [line.split(" ", 1)[0] for line in found] == [f"{PACKAGE}/net/a.py:2:", f"{file}:"]
    assert "C.f has 41 lines" in found[0]
    assert too_long(tmp_path, {long: "a table", file: "a table"}) == []


def test_what_is_just_short_enough(tmp_path: Path) -> None:
    name = f"{PACKAGE}/net/a.py"
    plant(tmp_path, {"net/a.py": function(40, docstring=20), "net/b.py": "x = 1\n" * 400})
    assert too_long(tmp_path, {}) == []
    assert too_long(tmp_path, {name: "once"}) == [f"{name}: is exempt and need not be"]


def test_a_core_that_is_too_large_is_found(tmp_path: Path) -> None:
    plant(tmp_path, {f"core/{n}.py": "x = 1\n" * 400 for n in "abc"})
    assert core_too_long(tmp_path) == []
    plant(tmp_path, {"core/d.py": "x = 1\n"})
    assert core_too_long(tmp_path) == [f"{PACKAGE}/core has 1201 lines; 1200 are allowed"]


# Beside these only files whose names begin with a dot.
TOP_LEVEL = {
    *("pyproject.toml", "twisted", "echoproto", "tests", "README.rst"),
    *("LICENSE", "CHANGELOG.rst", "docs", "benchmarks"),
}


@pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="not a checkout")
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_top_level_has_nothing_else() -> None:
    command = ["git", "ls-files"]
    files = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    names = {file.partition("/")[0] for file in files.splitlines()}
    assert {name for name in names if not name.startswith(".")} == TOP_LEVEL
