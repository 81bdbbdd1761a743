"""JSON that every parser accepts: NaN and infinite numbers become null."""

import json
import math
from collections.abc import Mapping
from typing import Any


def to_json(values: Any, indent: int | None = None) -> str:  # noqa: ANN401
    """Return values as JSON.

    Args:
        values: JSON values, and tuples.
        indent: Spaces of indentation; None for a single line.

    Returns:
        The text; infinite numbers and NaN, which JSON lacks, are null.
    """
    return json.dumps(_finite(values), ensure_ascii=False, indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
