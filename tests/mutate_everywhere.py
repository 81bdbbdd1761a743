"""Flip constants, signs and comparisons one at a time and count what the tests notice.

`python tests/mutate_everywhere.py --sample 100` draws mutations of `core`, `nn` and `training` with
a seed. The default suite runs once under `coverage`, which says how long each test takes and what
lines it reaches; then, for each mutation in a copy of the repository, the tests that reach its line
run, then those of its room and all others, quickest first, until one fails. Modules that do not
change are imported once and inherited by a fork, so most mutations cost seconds.

What no test has noticed after `--longest` seconds of tests counts as a survivor, although a slower
test might have; a test that never ends is a failure too. Survivors are listed with their line, to
be judged: `docs/development/trust.md` gives the reason of each. `tests/mutate.py` has the
mutations that were chosen by hand.
"""

import argparse
import ast
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import coverage
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("src", "stochloc")
ROOMS = ("core", "nn", "training")
# A fork inherits these; torch has started no threads yet.
INHERITED = ("torch", "hypothesis", "jaxtyping", "beartype.claw", "lightning_fabric",
             "huggingface_hub", "scipy.stats")  # fmt: skip
HANGS_S = 900
# It reads the source as text, and would notice a mutation without any theorem being broken.
NOT_JUDGES = ("--ignore=tests/test_mutations.py",)
FIRST_TESTS = 20
OPERATORS: dict[type, str] = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Pow: "*",
    ast.BitAnd: "|", ast.BitOr: "&",
}  # fmt: skip
# The opposite and, where there is one, the same but for equality.
COMPARISONS: dict[type, tuple[str, ...]] = {
    ast.Lt: (">=", "<="), ast.LtE: (">", "<"), ast.Gt: ("<=", ">="), ast.GtE: ("<", ">"),
    ast.Eq: ("!=",), ast.NotEq: ("==",),
}  # fmt: skip


class Mutation(NamedTuple):
    """A text in a file and what takes its place."""

    file: str
    line: int
    begin: int
    end: int
    old: str
    new: str

    @property
    def name(self) -> str:
        """Say where it is and what it does."""
        return f"{self.file}:{self.line}: {self.old.strip()} -> {self.new.strip()}"

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

    def change(begin: int, end: int, new: str) -> Mutation:
        line = source.count("\n", 0, begin) + 1
        return Mutation(file, line, begin, end, source[begin:end], new)

    def swap(left: ast.expr, right: ast.expr, new: str) -> Mutation:
        begin, end = ends(left)[1], ends(right)[0]
        between = source[begin:end]
        # Parentheses stay where they are.
        core = between.strip().strip("()").strip()
        return change(begin, end, between.replace(core, new, 1))

    tree = ast.parse(source)
    ignored = set(_annotations(tree))
    for node in ast.walk(tree):
        if id(node) in ignored:
            continue
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            yield swap(node.left, node.right, OPERATORS[type(node.op)])
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
            for new in COMPARISONS[type(node.ops[0])]:
                yield swap(node.left, node.comparators[0], new)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Invert | ast.Not):
            # The number -1 becomes -2 below: as an axis, 1 would often be the same.
            if not isinstance(node.operand, ast.Constant):
                begin, end = ends(node)[0], ends(node.operand)[0]
                yield change(begin, end, source[begin:end].lstrip("-~not "))
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield change(*ends(node), repr(node.value + 1))
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield change(*ends(node), repr(not node.value))


def _annotations(tree: ast.AST) -> Iterator[int]:
    """Yield the nodes that compute nothing: types, decorators, messages, guards that never fire."""
    for node in ast.walk(tree):
        roots: list[ast.AST | None] = []
        if isinstance(node, ast.AnnAssign | ast.arg):
            roots = [node.annotation]
        elif isinstance(node, ast.FunctionDef):
            roots = [node.returns, *node.decorator_list]
        elif isinstance(node, ast.ClassDef):
            roots = [*node.decorator_list]
        elif isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert):
            roots = [node]
        elif isinstance(node, ast.keyword) and node.arg == "strict":
            roots = [node.value]
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            # A module's alias of a type.
            is_alias = isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.BitOr)
            roots = [node.value] if is_alias and node.col_offset == 0 else []
        for root in roots:
            if root is not None:
                yield from (id(inner) for inner in ast.walk(root))


def every_mutation() -> list[Mutation]:
    """Return all mutations of the rooms, in order."""
    package = ROOT / PACKAGE
    return [
        mutation
        for room in ROOMS
        for path in sorted((package / room).rglob("*.py"))
        for mutation in mutations_of(
            str(path.relative_to(package)), path.read_text(encoding="utf-8")
        )
    ]


@dataclass(frozen=True)
class Reach:
    """How long tests take and what they reach.

    Attributes:
        seconds: Time of every test, by its name.
        lines: Tests that run a line, for every file and line that is run after the import.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[int, set[str]]]

    def tests(self, mutation: Mutation) -> list[str]:
        """Return the tests to try: those that reach the line, those of its room, then all others.

        What runs when a module is imported is reached by no test in particular: all are tried.
        """
        reaching = self.lines.get(mutation.file, {}).get(mutation.line, set())
        room = f"tests/{mutation.file.split('/')[0]}/"

        def place(name: str) -> tuple[bool, bool, float]:
            is_far = bool(reaching) and not name.startswith(room)
            return bool(reaching) and name not in reaching, is_far, self.seconds[name]

        return sorted(self.seconds, key=place)


def copy_repository(folder: Path) -> None:
    """Copy what the tests need."""
    for part in ("src", "tests", "benchmarks", "docs", ".ci"):
        shutil.copytree(ROOT / part, folder / part)
    for part in ROOT.glob("*.*"):
        if part.is_file():
            shutil.copy(part, folder)


def in_copy(folder: Path, arguments: Sequence[str], plugin: object) -> int:
    """Run pytest on a copy of the repository, in this process, which is a fork of its own."""
    os.chdir(folder)
    source = str(folder / "src")
    sys.path.insert(0, source)
    os.environ |= {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    inherited = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
    return pytest.main(["-p", "no:cacheprovider", "-W", inherited, *arguments], plugins=[plugin])


def forked(run: Callable[[], int], longest_s: int) -> int | None:
    """Return how a function ends in a fork of this process; None if it takes too long."""
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            os._exit(int(run()))
        except BaseException:
            os._exit(99)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
    signal.alarm(longest_s)
    _, status = os.waitpid(child, 0)
    is_late = signal.alarm(0) == 0
    return None if is_late else os.waitstatus_to_exitcode(status)


class Stopwatch:
    """A plugin that notes how long every test takes."""

    def __init__(self, path: Path) -> None:
        self.path, self.seconds = path, {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        self.path.write_text(json.dumps(self.seconds))


def measure(folder: Path) -> Reach:
    """Run the default suite once and return what its tests reach."""
    data, times = folder / ".coverage", folder / "seconds.json"
    arguments = ["--cov=stochloc", "--cov-context=test", "--cov-report=", *NOT_JUDGES]
    status = forked(lambda: in_copy(folder, arguments, Stopwatch(times)), 10 * HANGS_S)
    if status != 0:
        sys.exit(f"The suite fails without any mutation (pytest says {status}).")
    found = coverage.CoverageData(str(data))
    found.read()
    lines = {
        str(Path(file).relative_to(folder / PACKAGE)): {
            line: {name.rsplit("|", 1)[0] for name in names if name}
            for line, names in found.contexts_by_lineno(file).items()
        }
        for file in found.measured_files()
    }
    return Reach(json.loads(times.read_text()), lines)


class Chooser:
    """A plugin that runs chosen tests in a given order, for so long, and notes the first failure.

    Args:
        tests: Names of tests.
        longest_s: Seconds after which no further test begins.
        path: Where to note the failure.
    """

    def __init__(self, tests: Sequence[str], longest_s: float, path: Path) -> None:
        self.rank = {name: n for n, name in enumerate(tests)}
        self.left_s, self.path = longest_s, path

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self.rank]
        items[:] = sorted(chosen, key=lambda item: self.rank[item.nodeid])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.path.write_text(f"{report.nodeid} cannot be collected")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self) -> bool | None:
        return True if self.left_s < 0 else None  # taken care of: not run any more

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.left_s -= report.duration
        if report.failed:
            self.path.write_text(report.nodeid)


def first_failure(folder: Path, tests: Sequence[str], longest_s: float) -> str | None:
    """Return the first of the tests that fails in a copy of the repository, None if none does."""
    note = folder / "noticed"
    note.unlink(missing_ok=True)
    files = sorted({name.split("::")[0] for name in tests})
    chooser = Chooser(tests, longest_s, note)
    status = forked(lambda: in_copy(folder, ["-x", "-n", "0", *files], chooser), HANGS_S)
    if status is None:
        return "a test that never ended"
    if note.exists():
        return note.read_text()
    return None if status == 0 else f"pytest, which ended with {status}"


def killer(folder: Path, mutation: Mutation, tests: Sequence[str], longest_s: float) -> str | None:
    """Return which test notices a mutation in a copy of the repository, None if none does."""
    path = folder / PACKAGE / mutation.file
    source = path.read_text(encoding="utf-8")
    path.write_text(mutation.apply(source), encoding="utf-8")
    try:
        # A few tests stand in a few files; to collect them all takes longer than to run those.
        return first_failure(folder, tests[:FIRST_TESTS], longest_s) or first_failure(
            folder, tests[FIRST_TESTS:], longest_s
        )
    finally:
        path.write_text(source, encoding="utf-8")


class Worker:
    """Tries mutations in a copy of the repository of its own.

    Args:
        folder: Where to put the copy.
        reach: What the tests reach.
        longest_s: Seconds of tests for each mutation.
    """

    def __init__(self, folder: Path, reach: Reach, longest_s: float) -> None:
        self.folder, self.reach, self.longest_s = folder / str(os.getpid()), reach, longest_s
        self.folder.mkdir()
        copy_repository(self.folder)

    def __call__(self, mutation: Mutation) -> str | None:
        return killer(self.folder, mutation, self.reach.tests(mutation), self.longest_s)


def try_all(
    mutations: Sequence[Mutation], jobs: int, make_worker: Callable[[], Worker]
) -> Iterator[tuple[Mutation, str | None]]:
    """Yield every mutation with the test that noticed it."""
    with ProcessPoolExecutor(jobs, get_context("fork"), _begin, (make_worker,)) as pool:
        yield from zip(mutations, pool.map(_try, mutations), strict=True)


_workers: list[Worker] = []


def _begin(make_worker: Callable[[], Worker]) -> None:
    _workers.append(make_worker())


def _try(mutation: Mutation) -> str | None:
    return _workers[0](mutation)


def main() -> None:
    """Draw mutations, try them and list the survivors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=100, help="how many; 0 for all there are")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=60, help="seconds of tests for each")
    parser.add_argument("--jobs", type=int, default=2, help="mutations at a time")
    parser.add_argument("--only", default="", help="a part of the file and line, as listed")
    options = parser.parse_args()
    found = every_mutation()
    chosen = random.Random(options.seed).sample(found, options.sample or len(found))
    chosen = [mutation for mutation in chosen if options.only in mutation.name]
    alive = []
    for module in INHERITED:
        __import__(module)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        copy_repository(measured := folder / "measured")
        reach = measure(measured)
        print(f"{len(reach.seconds)} tests; {len(found)} mutations, {len(chosen)} tried")
        results = try_all(chosen, options.jobs, lambda: Worker(folder, reach, options.longest))
        for n, (mutation, noticed) in enumerate(results, start=1):
            print(f"{n} {mutation.name}: {noticed or 'SURVIVED'}", flush=True)
            alive += [] if noticed else [mutation.name]
    print(f"{len(chosen) - len(alive)} of {len(chosen)} noticed; survivors:", *alive, sep="\n  ")


if __name__ == "__main__":
    main()
