"""Data sets of the Hugging Face hub, or saved to disk, as records, by the package datasets.

`hf:NAME` is a data set of the hub, `hf:NAME:CONFIG` one of its configurations, and `hf:FOLDER` one
that `save_to_disk` wrote. A data set is known by its texts, so that it is the same one wherever it
is read from.
"""

import os
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from stochloc.data import hub
from stochloc.data.records.base import Record, RecordSource
from stochloc.data.records.columns import chosen_column
from stochloc.data.records.fields import field_record, listed
from stochloc.data.records.parquet import is_text, package
from stochloc.data.texts import UnreadableTextError
from stochloc.terminal import tell

PREFIX = "hf:"
DEFAULT_SPLIT = "train"

_ROWS_AT_ONCE = 1024


def hugging_face_records(data: str, field: str | None, split: str | None) -> RecordSource:
    """Return one column of a data set, a record an example.

    Args:
        data: `hf:NAME`, `hf:NAME:CONFIG` or `hf:FOLDER`.
        field: the column, or a field within it; None where only one column holds texts.
        split: which of its splits; None: "train", or the only one.

    Returns:
        The records; the data set is read once to be known by its texts.

    Raises:
        UnreadableTextError: there is no such data set, split or field, an example is no text, the
            hub does not answer, or the package datasets is not installed.
    """
    name = data.removeprefix(PREFIX)
    loaded = _from_disk(name) if os.path.isdir(name) else _from_hub(name)
    table, called = _split_of(loaded, split, data)
    arrow = package("pyarrow")
    kinds = {column.name: is_text(arrow, column.type) for column in table.features.arrow_schema}
    column, within = chosen_column(kinds, field, called)
    table = table.select_columns([column]).with_format(None)

    def records() -> Iterator[Record]:
        number = 0
        for rows in table.iter(_ROWS_AT_ONCE):
            for value in rows[column]:
                number += 1
                yield field_record({column: value}, within, f"example {number} of {called}")

    return RecordSource(called, {"records": _checksum(records())}, records)


def _checksum(records: Iterator[Record]) -> str:
    digest = sha256()
    for record in records:
        text = record.text.encode()
        digest.update(len(text).to_bytes(8, "big") + text)
    return digest.hexdigest()


def _from_disk(folder: str) -> Any:  # noqa: ANN401  (of datasets)
    datasets = package("datasets")
    try:
        return datasets.load_from_disk(folder)
    except Exception as error:  # Of any package that datasets calls.
        raise UnreadableTextError(
            f"{folder} is not a data set saved to disk ({_reason(error)}); give the folder that "
            "save_to_disk wrote, or a folder of files without hf:."
        ) from error


def _from_hub(name: str) -> Any:  # noqa: ANN401  (of datasets)
    datasets = package("datasets")
    repository, _, configuration = name.partition(":")
    tell(f"Asking the Hugging Face hub for the data set {repository}.")
    answers = _is_answered(repository)
    try:
        load = lambda: datasets.load_dataset(repository, configuration or None)  # noqa: E731
        # A download may take as long as it needs; looking for one made before may not.
        with hub.silent_client():
            return load() if answers else hub.within(hub.ANSWER_S, load)
    except Exception as error:  # Of any package that datasets calls.
        raise UnreadableTextError(
            f"The data set {name} cannot be loaded ({_reason(error)}): check its name and "
            "configuration, or try again later."
        ) from error


def _is_answered(repository: str) -> bool:
    """Return whether the hub answers and knows a data set; False if it does not answer."""
    import huggingface_hub as client  # Half a second, which texts need not wait for.

    unknown = (
        client.errors.RepositoryNotFoundError,
        client.errors.GatedRepoError,
        client.errors.HFValidationError,
    )
    limit_s = hub.ANSWER_S
    try:
        hub.within(limit_s, lambda: client.HfApi().dataset_info(repository, timeout=limit_s))
    except unknown as error:
        raise UnreadableTextError(
            f"{PREFIX}{repository} is neither a folder here nor a data set that can be fetched "
            "from the hub: check its name, or log in with: hf auth login."
        ) from error
    except Exception:  # The network's errors depend on the packages that the client uses.
        tell("The hub does not answer; the data set is used as last downloaded, if it was.")
        return False
    return True


def _split_of(loaded: Any, split: str | None, data: str) -> tuple[Any, str]:  # noqa: ANN401
    """Return the table of a split and its name in messages."""
    if not isinstance(loaded, dict):
        if split is not None:
            raise UnreadableTextError(f"{data} has no splits; leave out --hf-split.")
        return loaded, data
    only = next(iter(loaded)) if len(loaded) == 1 else DEFAULT_SPLIT
    chosen = only if split is None else split
    if chosen not in loaded:
        raise UnreadableTextError(
            f"{data} has no split {chosen!r}; there are {listed(loaded)}: name one with --hf-split."
        )
    return loaded[chosen], f"{data} ({chosen})"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
