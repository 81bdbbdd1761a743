"""Help texts of options whose docstrings span several lines.

tyro finds the docstring of an attribute, but takes the line breaks of an indented one for its own,
so a help page of any other width was ragged. Here the lines are joined and handed to tyro as the
help of the option, when a help page is asked for.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args, get_origin

import tyro


def join_lines(command: type) -> None:
    """Give tyro the docstrings of a command's options without their line breaks.

    Args:
        command: A dataclass; the dataclasses of options among its attributes are treated too. Its
            annotations are replaced by such as say the same and carry the help.
    """
    texts = _docstrings(command)
    for name, kind in inspect.get_annotations(command).items():
        inner = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if is_dataclass(inner):
            assert isinstance(inner, type)
            join_lines(inner)
        elif "\n" in texts.get(name, ""):
            help_text = tyro.conf.arg(help=" ".join(texts[name].split()))
            annotated: Any = Annotated[kind, help_text]
            command.__annotations__[name] = annotated


def flags_of(command: type) -> Iterator[str]:
    """Yield the flags of a command, those of the dataclasses of options among its attributes too.

    Args:
        command: A dataclass.
    """
    for name, kind in inspect.get_annotations(command).items():
        inner, *rest = get_args(kind) if get_origin(kind) is Annotated else (kind,)
        if is_dataclass(inner):
            assert isinstance(inner, type)
            yield from flags_of(inner)
        elif tyro.conf.Positional not in rest:
            renamed = [given for said in rest if (given := getattr(said, "name", None))]
            yield f"--{[name, *renamed][-1].replace('_', '-')}"


def choices_of(command: type) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every flag of a command that takes one of some names, and these in their order.

    Args:
        command: A dataclass; those of options among its attributes are looked at too.
    """
    for name, kind in inspect.get_annotations(command).items():
        inner = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if is_dataclass(inner):
            assert isinstance(inner, type)
            yield from choices_of(inner)
        elif names := tuple(_names_in(kind)):
            yield f"--{name.replace('_', '-')}", names


def _names_in(kind: Any) -> Iterator[str]:  # noqa: ANN401
    """Yield the names of every `Literal` within an annotation."""
    if get_origin(kind) is Literal:
        yield from map(str, get_args(kind))
        return
    inner = get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind)
    for part in inner:
        yield from _names_in(part)


def _docstrings(command: type) -> dict[str, str]:
    """Return the docstring of every attribute that has one, as it stands in the source."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(command))).body
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for attribute, text in pairwise(definition.body):
        match attribute, text:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(value))):
                texts[name] = value
    return texts
