"""The result of a finished trial as stored in its file: JSON values that include the trial."""

import json
from pathlib import Path
from typing import Any

from stochloc.training.recipes import ADAMW

RESULT = "result.json"
# That of trials from before revisions were counted.
FIRST_REVISION = 1
Result = dict[str, Any]


def read_result(path: Path) -> dict[str, Any]:
    """Return the result of a finished trial.

    Args:
        path: A `result.json`.

    Returns:
        The result.

    Raises:
        ValueError: The file is damaged.
    """
    return parse_result(path.read_bytes(), str(path))


def parse_result(text: bytes, place: str) -> dict[str, Any]:
    """Return the result of a finished trial from its JSON.

    Args:
        text: The JSON, in UTF-8.
        place: Where the text comes from, for the error message.

    Returns:
        The result.

    Raises:
        ValueError: It is damaged.
    """
    try:
        result = json.loads(text.decode("utf-8"))
        training = result["trial"]["training"]
        _ = result["diverged"], result_name(result), training["seed"]
        # Trials from before there was a choice of optimizers do not name theirs.
        training.setdefault("optimizer", ADAMW)
        result["trial"].setdefault("method_revision", FIRST_REVISION)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{place} is damaged ({error}); delete it to run it again.") from error
    return result


def result_name(result: dict[str, Any]) -> str:
    """Return the name of the trial of a result."""
    trial = result["trial"]
    training = trial["training"]
    return trial_name(
        trial["method"], trial["is_short"], training["learning_rate"], training["seed"]
    )


def trial_name(method: str, is_short: bool, learning_rate: float, seed: int) -> str:
    """Return the name of a trial's folder."""
    kind = "short" if is_short else "full"
    return f"{method}-{kind}-lr{learning_rate:g}-seed{seed}"
