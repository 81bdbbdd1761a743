"""What cannot be parsed, in one sentence.

tyro draws a box around an error, with the help of the option and hints from other commands. The
first part of the box says what is wrong, often in the words of Python or of the parser. Here it is
read, and said as the rest of the program says what is wrong. A box of a form that is not known here
loses its frame and its hints only.
"""

import ast
import difflib
import re
from collections.abc import Mapping, Sequence

_COLOR = re.compile(r"\x1b\[[\d;]*m")
_TYPES = {
    r"invalid literal for int\(\) with base 10: (.+)": "a whole number",
    r"could not convert string to float: (.+)": "a number",
}


def sentence_of(
    box: str,
    command: str | None,
    flags: Sequence[str],
    commands: Sequence[str],
    choices: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return what a box of tyro says is wrong.

    Args:
        box: What tyro printed.
        command: The command that was named; None if there is none.
        flags: The flags of that command.
        commands: The names of all commands.
        choices: The names that a flag takes, in the order of the help page, by flag.

    Returns:
        One sentence; the box as it is if it has no first part.
    """
    rows = _first_part(box)
    words = " ".join(" ".join(rows).split())
    if not words:
        return box.strip()
    name, help_page = command or "stochloc", f"see stochloc {f'{command} ' * bool(command)}--help"
    if found := re.match(r"Error parsing (.+?):", words):
        return _of_type(found[1].rpartition("/")[2], words)
    if found := re.match(r"invalid choice (.+?) for argument '(.+?)'.*?\((.+)\)", words):
        return _of_choice(found[2], found[1], found[3], (choices or {}).get(found[2], ()))
    if found := re.match(r"Missing value for argument '(.+?)'. Expected (\d+) ", words):
        many = "a value" if found[2] == "1" else f"{found[2]} values"
        return f"{found[1].rpartition('/')[2]} needs {many}."
    if words.startswith("Missing from"):
        names = [row.strip() for row in rows[1:] if re.match(r" {4}\S", row)]
        return f"{name} needs {' and '.join(names)}; {help_page}."
    if words.startswith("Unrecognized options: "):
        first = words.removeprefix("Unrecognized options: ").partition(", ")[0]
        return f"{_of_unknown(first, command, flags, commands)}; {help_page}."
    # What the parser says of a flag that another command has.
    if found := re.match(r"Unrecognized or misplaced options: (.+?) \(applied to ", words):
        return f"{_of_unknown(found[1], command, flags, commands)}; {help_page}."
    return words if words.endswith(".") else f"{words}."


def _first_part(box: str) -> list[str]:
    """Return the rows of the box before its first rule, with their indentation."""
    lines = _COLOR.sub("", box).splitlines()
    if any(line.startswith("│") for line in lines):
        inner = [line.removeprefix("│ ").rstrip("│ ") for line in lines if line.startswith("│")]
    else:  # for terminals of other encodings there is a title, a rule, and indented rows
        inner = [line.removeprefix("  ").rstrip() for line in lines[2:]]
    rules = [number for number, row in enumerate(inner) if row and not row.strip("─- ")]
    return inner[: rules[0] if rules else len(inner)]


def _of_type(name: str, words: str) -> str:
    for pattern, kind in _TYPES.items():
        if found := re.search(pattern, words):
            return f"{name} must be {kind}, not {found[1]}."
    if found := re.search(r"Could not find valid parse for arguments: (\[.*\])", words):
        return f"{name} does not take {' '.join(ast.literal_eval(found[1]))}."
    return f"{name}: {words.partition(': ')[2].rstrip('.')}."


def _of_choice(name: str, chosen: str, choices: str, ordered: Sequence[str]) -> str:
    # The parser lists a set, so its order differs between calls.
    found = sorted(choice for choice in ast.literal_eval(f"({choices},)") if choice != "None")
    named = ordered if sorted(ordered) == found else found
    return f"{name} must be one of {', '.join(named)}, not {chosen}."


def _of_unknown(
    word: str, command: str | None, flags: Sequence[str], commands: Sequence[str]
) -> str:
    if word.startswith("-"):
        of_command = f"{command} has" if command else "There is"
        return f"{of_command} no flag {word}{_nearest(word.partition('=')[0], flags)}"
    if command is None:
        return f"There is no command {word!r}{_nearest(word, commands)}"
    return f"{command} takes no argument {word!r}"


def _nearest(word: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, names, 1)
    return f", perhaps you mean {near[0]}" if near else ""
