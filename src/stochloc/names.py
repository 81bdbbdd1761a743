"""The names that commands offer, read from the tables that give them a meaning.

A name is written once, as a key of the table that says what it stands for. Those tables create
what they name, so their modules need torch or numpy, which help pages do without: the keys are read
from the source instead, as tyro reads the help texts of options. A table that moves, or gets a key
that is computed, fails here at once.
Imports nothing but the standard library, so that help pages and tasks can read the same names.
"""

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Literal


def keys(table: str, file: str) -> tuple[str, ...]:
    """Return the keys of a table of the package without importing its module.

    Args:
        table: Name of a dict displayed at the top of a module, its keys strings or constants of
            that module.
        file: The module's file, relative to the package.

    Returns:
        The keys in their order.
    """
    tree = ast.parse((Path(__file__).parent / file).read_text(encoding="utf-8"))
    values: dict[str, ast.expr | None] = {}
    for node in tree.body:
        match node:
            case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(ast.Name(name), _, value):
                values[name] = value
    display = values.get(table)
    assert isinstance(display, ast.Dict), f"{file} has no table {table}"
    found = []
    for key in display.keys:
        constant = values.get(key.id) if isinstance(key, ast.Name) else key
        assert isinstance(constant, ast.Constant), f"{table} of {file} has a computed key"
        found.append(str(constant.value))
    return tuple(found)


def policies_of(certainty: str) -> tuple[str, str, str, str]:
    """Return the names of the policies that use a measure of certainty.

    Args:
        certainty: One of `CERTAINTIES`.

    Returns:
        Names for deciding equal numbers of tokens, only tokens far apart, all above a threshold,
        and for sharing SNR. The last two name no measure where it is the first, their default.
    """
    suffix = "" if certainty == CERTAINTIES[0] else f"-{certainty}"
    return certainty, f"{certainty}-apart", f"threshold{suffix}", f"share{suffix}"


PATHS = keys("PATHS", "tasks/paths.py")
TRANSITIONS = keys("TRANSITIONS", "tasks/paths.py")
CERTAINTIES = keys("CERTAINTIES", "core/policies/certainties/__init__.py")
POLICIES = (
    "path",
    *(name for certainty in CERTAINTIES for name in policies_of(certainty)),
    *keys("OTHER_POLICIES", "tasks/policies.py"),
)
CORRECTORS = keys("CORRECTORS", "tasks/policies.py")
ARCHITECTURES = keys("ARCHITECTURES", "nn/backbones/__init__.py")
LAWS = keys("NAMED_LAWS", "training/choices.py")
OPTIMIZERS = keys("OPTIMIZERS", "training/optimizers/__init__.py")
LOGGERS = keys("LOGGERS", "training/loggers/__init__.py")
FIGURES = keys("FIGURES", "viz/figures.py")
# Tokenizers are also named by a number of tokens, a file, or a repository on the hub.
TOKENIZERS = (
    *keys("TOKENIZERS", "data/tokenizers/named.py"),
    *keys("LEARNED", "data/tokenizers/named.py"),
    "FILE.json",
    "hub:NAME",
)
CheckpointName = Literal["best", "last"]

# Types of options, from which tyro makes choices; a type checker cannot know the names.
if TYPE_CHECKING:
    PathName = str
    TransitionName = str
    CorrectorName = str
    ArchitectureName = str
    LawName = str
    OptimizerName = str
    LoggerName = str
    FigureName = str
else:
    PathName = Literal[*PATHS, "tuned"]
    TransitionName = Literal[TRANSITIONS]
    CorrectorName = Literal[CORRECTORS]
    ArchitectureName = Literal[ARCHITECTURES]
    LawName = Literal[LAWS]
    OptimizerName = Literal[OPTIMIZERS]
    LoggerName = Literal[LOGGERS]
    FigureName = Literal[*FIGURES, "all"]
