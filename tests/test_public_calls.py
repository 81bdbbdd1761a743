"""What `import stochloc` offers: six calls, none of which costs anything before it is used."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import stochloc


def run(code):
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.split()


def test_importing_the_package_imports_no_other_package_and_no_room():
    loaded = "import sys, stochloc\nprint(*[m for m in sys.modules if m.split('.')[0] in {own!r}])"
    own = {"stochloc", "torch", "numpy", "jaxtyping", "tyro", "safetensors", "huggingface_hub"}
    assert set(run(loaded.format(own=own))) == {"stochloc", "stochloc.version"}


@pytest.mark.parametrize("name", stochloc.__all__)
def test_each_call_is_the_function_of_that_name_in_tasks(name):
    call = getattr(stochloc, name)
    assert inspect.isfunction(call)
    assert call.__name__ == name
    assert call.__module__.startswith("stochloc.tasks.")
    assert call is getattr(sys.modules[call.__module__], name)


def test_six_calls_are_offered_and_type_checkers_see_the_same_ones():
    tree = ast.parse(Path(stochloc.__file__).read_text(encoding="utf-8"))
    typed = [
        (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert len(typed) == len(stochloc.__all__) == 6
    for module, name in typed:
        assert getattr(stochloc, name).__module__ == module
    assert set(stochloc.__all__) <= set(dir(stochloc))


def test_what_is_not_offered_is_an_attribute_error_that_names_what_is():
    with pytest.raises(AttributeError, match=r"no attribute 'train_me': it offers .*core$"):
        stochloc.train_me  # noqa: B018
    assert not hasattr(stochloc, "bound")


@pytest.mark.parametrize(
    ("other", "name"), [("sample", "generate"), ("eval", "evaluate"), ("load", "open_run")]
)
def test_the_name_of_a_command_leads_to_the_call(other, name):
    with pytest.raises(AttributeError, match=rf"no attribute '{other}': use stochloc\.{name}$"):
        getattr(stochloc, other)
