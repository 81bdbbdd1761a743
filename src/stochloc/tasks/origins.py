"""How the text of a run is recognised: where it was, and what it held."""

from dataclasses import dataclass
from pathlib import Path

from stochloc.tasks.data_choice import DataChoice
from stochloc.tasks.json_files import read_json
from stochloc.tasks.runs import RECIPE, read_description


@dataclass(frozen=True)
class Origin:
    """How a run's text is recognised.

    Attributes:
        where: Absolute path of the text when the run began; None if it was not stored.
        fingerprint: SHA-256 of the tokens of each part; None in runs of older versions.
    """

    where: DataChoice | None
    fingerprint: dict[str, str] | None


def read_origin(folder: Path) -> Origin:
    """Return how the text of a run is recognised.

    Args:
        folder: The run's folder.

    Returns:
        Its path and the checksums of its tokens.

    Raises:
        ValueError: The folder is not a run, or its description is damaged.
    """
    values = read_json(folder / RECIPE)
    _, _, data = read_description(folder)
    where, fingerprint = values.get("where"), values.get("fingerprint")
    is_told = where is None or (
        isinstance(where, dict)
        and where.keys() <= data.named().keys()
        and all(isinstance(text, str) for text in where.values())
    )
    if not is_told or not (fingerprint is None or isinstance(fingerprint, dict)):
        raise ValueError(f"{folder / RECIPE} is damaged: it does not say where its text is.")
    return Origin(None if where is None else data.at(where), fingerprint)
