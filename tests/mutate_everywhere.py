"""Flip constants, signs and comparisons one at a time and count what the tests notice.

`python tests/mutate_everywhere.py --sample 100` draws mutations of `core`, `nn` and `training` with
a seed and runs, for each in a copy of the repository, the tests of its room until the first
failure; with `--elsewhere`, what survives there is tried on the other rooms, which takes minutes. A
test that never ends is a failure too.
Survivors are listed with their line, to be judged: `docs/trust.md` gives the reason of each.
`tests/mutate.py` has the mutations that were chosen by hand.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("core", "nn", "training")
ELSEWHERE = ("rivals", "tasks", "data", "trust")
LONGEST_S = 600
# Tests by many draws and by whole processes come last.
LONG = {
    "test_adaptive", "test_laws", "test_likelihood", "test_runs", "test_processes",
    "test_interruption", "test_checkpoints", "test_kills", "test_fuzz",
}  # fmt: skip
OPERATORS: dict[type, str] = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Pow: "*",
    ast.BitAnd: "|", ast.BitOr: "&",
}  # fmt: skip
COMPARISONS: dict[type, str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
}  # fmt: skip


class Mutation(NamedTuple):
    """A text in a file and what takes its place."""

    file: str
    line: int
    begin: int
    end: int
    new: str

    def apply(self, source: str) -> str:
        """Return the mutated source."""
        return source[: self.begin] + self.new + source[self.end :]


def mutations_of(file: str, source: str) -> Iterator[Mutation]:
    """Yield every mutation of a file."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def place(line: int, column: int) -> int:
        # Columns of the syntax tree count bytes.
        text = source[starts[line - 1] : starts[line]]
        return starts[line - 1] + len(text.encode()[:column].decode())

    def ends(node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)

    def swap(left: ast.expr, right: ast.expr, new: str) -> Mutation:
        begin, end = ends(left)[1], ends(right)[0]
        between = source[begin:end]
        # Parentheses stay where they are.
        core = between.strip().strip("()").strip()
        return Mutation(file, left.lineno, begin, end, between.replace(core, new, 1))

    tree = ast.parse(source)
    ignored = set(_annotations(tree))
    for node in ast.walk(tree):
        if id(node) in ignored:
            continue
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            yield swap(node.left, node.right, OPERATORS[type(node.op)])
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
            yield swap(node.left, node.comparators[0], COMPARISONS[type(node.ops[0])])
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Invert | ast.Not):
            begin, end = ends(node)[0], ends(node.operand)[0]
            yield Mutation(file, node.lineno, begin, end, source[begin:end].lstrip("-~not "))
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield Mutation(file, node.lineno, *ends(node), repr(node.value + 1))
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield Mutation(file, node.lineno, *ends(node), repr(not node.value))


def _annotations(tree: ast.AST) -> Iterator[int]:
    """Yield the nodes that are no arithmetic: types, decorators, and what error messages say."""
    for node in ast.walk(tree):
        roots: list[ast.AST | None] = []
        if isinstance(node, ast.AnnAssign | ast.arg):
            roots = [node.annotation]
        elif isinstance(node, ast.FunctionDef):
            roots = [node.returns, *node.decorator_list]
        elif isinstance(node, ast.ClassDef):
            roots = [*node.decorator_list]
        elif isinstance(node, ast.Raise | ast.JoinedStr):
            roots = [node]
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            # A module's alias of a type.
            is_alias = isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.BitOr)
            roots = [node.value] if is_alias and node.col_offset == 0 else []
        for root in roots:
            if root is not None:
                yield from (id(inner) for inner in ast.walk(root))


def every_mutation() -> list[Mutation]:
    """Return all mutations of the rooms, in order."""
    package = ROOT / "src" / "stochloc"
    return [
        mutation
        for room in ROOMS
        for path in sorted((package / room).glob("*.py"))
        for mutation in mutations_of(
            str(path.relative_to(package)), path.read_text(encoding="utf-8")
        )
    ]


def killer(copy: Path, rooms: tuple[str, ...]) -> str | None:
    """Return which test of some rooms fails in a copy of the repository, None if none does."""
    files = [path for room in rooms for path in (copy / "tests" / room).glob("test_*.py")]
    tests = map(str, sorted(files, key=lambda path: (path.stem in LONG, path)))
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-p", "no:cacheprovider", *tests]
    try:
        run = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return "a test that never ended"
    if run.returncode == 0:
        return None
    failed = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0][:110] if failed else "the suite could not be collected"


def main() -> None:
    """Draw mutations, try them and list the survivors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=100, help="how many; 0 for all there are")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--elsewhere", action="store_true", help="try survivors on all rooms")
    options = parser.parse_args()
    found = every_mutation()
    chosen = random.Random(options.seed).sample(found, options.sample or len(found))
    print(f"{len(found)} mutations, {len(chosen)} tried", flush=True)
    alive = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("src", "tests"):
            shutil.copytree(ROOT / part, copy / part)
        shutil.copy(ROOT / "pyproject.toml", copy)
        for number, mutation in enumerate(chosen, start=1):
            path = copy / "src" / "stochloc" / mutation.file
            source = path.read_text(encoding="utf-8")
            path.write_text(mutation.apply(source), encoding="utf-8")
            room = mutation.file.split("/")[0]
            killed = killer(copy, (room,))
            if not killed and options.elsewhere:
                killed = killer(copy, (*ROOMS, *ELSEWHERE))
            path.write_text(source, encoding="utf-8")
            old = source[mutation.begin : mutation.end].strip()
            name = f"{mutation.file}:{mutation.line}: {old} -> {mutation.new.strip()}"
            print(f"{number} {name}: {killed or 'SURVIVED'}", flush=True)
            alive += [] if killed else [name]
    print(f"{len(chosen) - len(alive)} of {len(chosen)} killed; survivors:", *alive, sep="\n  ")


if __name__ == "__main__":
    main()
