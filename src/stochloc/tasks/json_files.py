"""The JSON files of a run: read up to a size, named in every error, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from stochloc.training.checkpoint import replacing

# An alphabet of all Unicode characters takes less, and so does the largest tokenizer that is read,
# written with its indentation.
MOST_JSON_BYTES = 128_000_000


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON object, replacing the file in one step.

    Args:
        path: The file; its folder exists.
        values: JSON values.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of a run.

    Args:
        path: The file.

    Returns:
        Its values.

    Raises:
        ValueError: It is missing, far too large, or no JSON object.
    """
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise ValueError(f"{path} is larger than any description of a run.")
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"{path.parent} is not the folder of a run: {path.name} is missing."
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it is not a JSON object.")
    return values
