"""What commands print: JSON to standard output, warnings to standard error."""

import json
from typing import Any

from stochloc.terminal import can_show, tell


def warn(line: str) -> None:
    """Print a warning to standard error.

    Args:
        line: One sentence.
    """
    tell(f"stochloc: {line}")


def print_json(values: dict[str, Any]) -> None:
    """Print a JSON object on several lines.

    Args:
        values: What `to_json` can write.
    """
    print(as_json(values, indent=2))


def as_json(values: dict[str, Any], indent: int | None = None) -> str:
    """Return a JSON object; in ASCII if standard output cannot show its characters.

    Args:
        values: What `to_json` can write.
        indent: Spaces of indentation; None for one line.

    Returns:
        The text.
    """
    from stochloc.training.records import to_json

    text = to_json(values, indent)
    return text if can_show(text) else json.dumps(json.loads(text), indent=indent)
