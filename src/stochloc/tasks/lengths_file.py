"""The file of a run that holds the distribution of its sequences' lengths."""

from pathlib import Path

from stochloc.data import Tokenizer
from stochloc.data.lengths import Lengths
from stochloc.tasks.json_files import read_json, write_json

LENGTHS = "lengths.json"


def write_lengths(folder: Path, lengths: Lengths) -> None:
    """Write the distribution of lengths of a run.

    Args:
        folder: The run's folder, which exists.
        lengths: The distribution.
    """
    write_json(folder / LENGTHS, lengths.to_dict())


def read_lengths(folder: Path, tokenizer: Tokenizer) -> Lengths | None:
    """Return the distribution of lengths of a run.

    Args:
        folder: The run's folder.
        tokenizer: The run's.

    Returns:
        The distribution; None for a model of texts without ends.

    Raises:
        ValueError: The file of a model of sequences is missing or damaged, or is of other classes.
    """
    if tokenizer.boundary is None:
        return None
    facts = read_json(folder / LENGTHS)
    try:
        lengths = Lengths.from_dict(facts)
    except ValueError as error:
        raise ValueError(f"{folder / LENGTHS} is damaged: {error}") from error
    if set(lengths.of_classes) != set(tokenizer.labels):
        raise ValueError(f"{folder / LENGTHS} is damaged: its classes are not those of the run.")
    return lengths
