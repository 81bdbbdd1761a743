"""The metrics of a training run, `metrics.jsonl`: a line of JSON for every record.

A line may be cut off where a run was killed as it wrote it; whoever reads skips such a line.
"""

import json
import math
from pathlib import Path
from typing import Any

from stochloc.training.checkpoint import Best, replacing
from stochloc.training.records import to_json

METRICS = "metrics.jsonl"


def append_metrics(folder: Path, record: dict[str, Any]) -> None:
    """Write a record behind a run's metrics.

    Args:
        folder: The run's folder, which exists.
        record: JSON values, the number of updates as `step` among them.
    """
    with (folder / METRICS).open("a", encoding="utf-8") as file:
        file.write(to_json(record) + "\n")


def keep_metrics_until(step: int, folder: Path) -> float:
    """Cut a run's metrics off behind an update.

    Args:
        step: The last update whose records stay.
        folder: The run's folder, which exists.

    Returns:
        The seconds that training had taken until then.
    """
    path = folder / METRICS
    kept = [line for line in _lines(path) if _number_in(line, "step", math.inf) <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    return max((_number_in(line, "elapsed_s", 0.0) for line in kept), default=0.0)


def best_without_record(folder: Path, step: int) -> Best | None:
    """Return the model of a checkpoint by a version that kept only the last.

    Args:
        folder: The run's folder.
        step: Updates done at the checkpoint.

    Returns:
        Its step and held-out bound; None if that was not measured there.
    """
    for line in _lines(folder / METRICS):
        try:
            record = json.loads(line)
            if record["step"] == step:
                return Best(step, record["valid_bits_per_token"])
        except (ValueError, KeyError, TypeError):
            continue
    return None


def newest_bound(folder: Path, step: int) -> int | None:
    """Return when the newest held-out bound of a run was measured.

    Args:
        folder: The run's folder.
        step: Updates done; later bounds are not counted.

    Returns:
        The number of updates before it; None if no bound is in the metrics.
    """
    newest = None
    for line in _lines(folder / METRICS):
        try:
            record = json.loads(line)
            if "valid_bits_per_token" in record and record["step"] <= step:
                newest = record["step"]
        except (ValueError, KeyError, TypeError):
            continue
    return newest


def _number_in(line: str, name: str, otherwise: float) -> float:
    try:
        return float(json.loads(line)[name])
    except (ValueError, KeyError, TypeError):  # cut off while it was written, or not in this line
        return otherwise


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
