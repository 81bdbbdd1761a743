"""The architecture: who may import whom, and what the lower rooms may not contain."""

import ast
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "stochloc"
FILES = sorted(SOURCE.rglob("*.py"))
MAY_IMPORT = {
    "core": {"core"},
    "names.py": set(),
    "data": {"data", "terminal"},
    "nn": {"core", "nn"},
    "training": {"core", "nn", "data", "training", "terminal"},
    "methods": {"core", "nn", "training", "methods"},
    "tasks": {"core", "nn", "data", "training", "methods", "tasks", "names", "terminal", "version"},
    "viz": {"core", "nn", "data", "training", "methods", "tasks", "terminal", "viz"},
    "app": {"core", "nn", "data", "training", "tasks", "terminal", "version", "app"},
    "importers": {"core", "nn", "data", "training", "tasks", "terminal", "version", "importers"},
    "adapters": {"core", "nn", "data", "training", "tasks", "terminal", "version", "adapters"},
    "cli": {
        "core", "nn", "data", "training", "tasks", "viz", "app", "importers", "names", "terminal",
        "version", "cli",
    },
    "terminal.py": set(),
    "version.py": set(),
    "__main__.py": {"cli"},
    "__init__.py": {"tasks", "version"},
}  # fmt: skip
# Rooms that are drawn in the plan and may come.
PLANNED: set[str] = set()
# Longer than this a file is split along its seams, a function into named steps, and parameters
# become a value.
MOST_LINES, MOST_BODY_LINES, MOST_PARAMETERS = 350, 60, 10
CORE_PACKAGES = {"torch", "jaxtyping", "stochloc"}


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def imports(tree: ast.AST) -> set[str]:
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
    return modules


def holds_text(node: ast.AST) -> bool:
    """Whether an expression is a string, or a display of some: `x in ("a", "b")`."""
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return any(holds_text(element) for element in node.elts)
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_are_absolute_so_that_the_other_tests_see_them(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not (isinstance(node, ast.ImportFrom) and node.level > 0)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_room_imports_only_the_rooms_below_it(path):
    room = path.relative_to(SOURCE).parts[0]
    assert room in MAY_IMPORT, f"say in MAY_IMPORT what {room} may import"
    for module in imports(ast.parse(path.read_text(encoding="utf-8"))):
        parts = module.split(".")
        # The package itself is the top of the house: it hands on what the tasks offer.
        assert module != "stochloc", f"{room} imports the package it is a part of"
        if parts[0] == "stochloc":
            assert parts[1] in MAY_IMPORT[room], f"{room} imports {module}"


@pytest.mark.parametrize("path", sorted((SOURCE / "core").rglob("*.py")), ids=name_of)
def test_the_core_knows_torch_and_no_other_package(path):
    import sys

    for module in imports(ast.parse(path.read_text(encoding="utf-8"))):
        package = module.split(".")[0]
        assert package in CORE_PACKAGES or package in sys.stdlib_module_names, module


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.relative_to(SOURCE).parts[0] in ("core", "nn")],
    ids=name_of,
)
def test_the_mathematics_compares_no_strings_but_the_kind_of_a_device(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            literal = any(holds_text(side) for side in sides)
            of_device = any(isinstance(s, ast.Attribute) and s.attr == "type" for s in sides)
            assert not literal or of_device, ast.unparse(node)
        if isinstance(node, ast.MatchValue):
            assert not holds_text(node.value), ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_stays_within_the_limit_of_lines(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, lines


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_function_stays_within_the_limits_of_lines_and_parameters(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            own = [one for one in parameters if one.arg not in ("self", "cls")]
            assert lines <= MOST_BODY_LINES, f"{node.name} has {lines} lines"
            assert len(own) <= MOST_PARAMETERS, f"{node.name} has {len(own)} parameters"


def test_every_room_that_is_named_stands_or_is_planned():
    assert [room for room in MAY_IMPORT if not (SOURCE / room).exists() | (room in PLANNED)] == []


def test_the_public_names_of_the_core_are_those_that_were_agreed_on():
    core = importlib.import_module("stochloc.core")
    listed = Path(__file__).with_name("core") / "public_names.txt"
    assert [name for name in core.__all__ if not hasattr(core, name)] == []
    # A name that comes or goes on purpose is written into the list.
    assert sorted(core.__all__) == listed.read_text(encoding="utf-8").split()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_module_and_every_public_name_is_documented(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "module"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            members = [m for m in node.body if isinstance(m, ast.FunctionDef)]
            for member in [node, *members]:
                if not member.name.startswith("_"):
                    assert ast.get_docstring(member), member.name
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


@pytest.mark.parametrize("path", sorted((SOURCE / "cli").rglob("*.py")), ids=name_of)
def test_the_command_line_imports_nothing_heavy_before_a_command_is_chosen(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_once = ast.Module(
        [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))], []
    )
    assert not imports(at_once) & {"torch", "numpy", "lightning_fabric", "huggingface_hub"}
    own = {module for module in imports(at_once) if module.startswith("stochloc")}
    assert all(
        module.startswith(("stochloc.cli", "stochloc.names", "stochloc.terminal")) for module in own
    ), own


def test_the_terminal_knows_the_standard_library_alone():
    import sys

    tree = ast.parse((SOURCE / "terminal.py").read_text(encoding="utf-8"))
    assert {module.split(".")[0] for module in imports(tree)} <= sys.stdlib_module_names
