"""The reference of Python has an entry for everything of the core that a page or example uses."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENTRIES = re.findall(
    r"^::: ([\w.]+)$",
    (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
# Everyday words for types and helpers, whose meaning an example shows or whose module explains it.
WITHOUT_ENTRY = {"Free", "Steps", "Randomness", "leave_one_out"}


def imported(code: str) -> set[str]:
    """Return the names that a piece of code imports from the core."""
    return {
        alias.name
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stochloc.core")
        for alias in node.names
    }


def used() -> dict[str, str]:
    """Return the names of the core that pages and examples import, each with one that does."""
    found = {}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            found |= dict.fromkeys(imported(block), page.name)
    for script in sorted((ROOT / "examples").glob("*.py")):
        found |= dict.fromkeys(imported(script.read_text(encoding="utf-8")), script.name)
    return found


USED = used()


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_of_the_reference_names_something_that_exists(entry):
    module, name = entry.rsplit(".", 1)
    assert hasattr(importlib.import_module(module), name)


def test_no_entry_of_the_reference_stands_twice():
    assert len(set(ENTRIES)) == len(ENTRIES) > 50


@pytest.mark.parametrize("name", sorted(USED))
def test_a_name_that_a_page_or_an_example_imports_from_the_core_has_an_entry(name):
    entries = {entry.rsplit(".", 1)[1] for entry in ENTRIES}
    assert name in entries | WITHOUT_ENTRY, f"{USED[name]} imports {name}"
