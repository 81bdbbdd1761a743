"""Finding a run, or a tokenizer: on this machine, or on the Hugging Face hub.

A name that may be a mistyped folder is never looked up on the hub, and a request that is not
answered is abandoned after seconds.
"""

import re
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import tqdm

from stochloc.data.hub import ANSWER_S, hub_cache, silent_client, within
from stochloc.terminal import is_first_process, tell

MOST_NAMES = 5
FILES = ("*.json", "*.safetensors")
# What repositories call the tokenizer of the package `tokenizers`.
TOKENIZER = "tokenizer.json"


class _FirstProcessBar(tqdm):
    """The client's progress bar; of several processes only the first draws it."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:  # noqa: ANN401
        if not is_first_process():
            settings["disable"] = True
        super().__init__(*arguments, **settings)


def find_run(run: str | Path, mark: str) -> Path:
    """Return the folder of a run, downloaded if the name is that of a repository on the hub.

    Args:
        run: A folder, or the name of a repository on the hub, `owner/name`. A name whose first part
            is a file or a folder here is not looked up.
        mark: Name of the file by which the folder of a run is recognised.

    Returns:
        The folder on this machine; that of an earlier call if the hub does not answer now.

    Raises:
        ValueError: There is no such folder, and no such model that can be downloaded.
    """
    folder = _expanded(Path(run))
    if folder.is_dir():
        if not (folder / mark).exists() and (runs := _runs_in(folder, mark)):
            raise ValueError(
                f"{run} is not the folder of a run: {mark} is missing; {_listed(folder, runs)}."
            )
        return folder
    if folder.exists():
        raise ValueError(f"{run} is not the folder of a run: it is a file.")
    if not is_hub_name(str(run)):
        raise ValueError(_what_there_is(folder, mark))
    tell(f"There is no folder {run} here. Asking the Hugging Face hub for a model of this name.")
    return fetch(str(run))


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # There is no such user, or this one has no home.
        return path


def is_hub_name(name: str) -> bool:
    """Return whether a name can only be that of a repository on the hub.

    Args:
        name: What a user gave.

    Returns:
        Whether it is `owner/name`, and `owner` is neither a file nor a folder here.
    """
    return is_repository(name) and not Path(name.partition("/")[0]).exists()


def is_repository(name: str) -> bool:
    """Return whether a name has the form of a repository's on the hub, `owner/name`."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name, re.ASCII) is not None


def _what_there_is(folder: Path, mark: str) -> str:
    begin = f"There is no run in {folder}"
    if not folder.parent.is_dir():
        return f"{begin}: there is no folder {folder.parent}."
    runs = _runs_in(folder.parent, mark)
    if not runs:
        again = shlex.join(("stochloc", "train", "--data", "FILE", "--out", str(folder)))
        return f"{begin}; make one with: {again}"
    close = get_close_matches(folder.name, runs, MOST_NAMES)
    return f"{begin}; {_listed(folder.parent, close or runs)}."


def _runs_in(folder: Path, mark: str) -> list[str]:
    try:
        return sorted(path.parent.name for path in folder.glob(f"*/{mark}"))
    except OSError:
        return []


def _listed(folder: Path, runs: list[str]) -> str:
    more = f" and {len(runs) - MOST_NAMES} more" if len(runs) > MOST_NAMES else ""
    verb = "is" if len(runs) == 1 else "are"
    place = "this folder" if folder == Path() else folder
    return f"in {place} there {verb}: {', '.join(runs[:MOST_NAMES])}{more}"


def find_tokenizer(tokenizer: str) -> Path | None:
    """Return the file of a tokenizer that is named by its repository on the hub.

    Args:
        tokenizer: What a user gave: `hub:NAME`, or `owner/name` if `owner` is nothing here.

    Returns:
        The file on this machine; None if it is not the name of a repository.

    Raises:
        ValueError: There is no such repository, or no tokenizer in it.
    """
    name = tokenizer.removeprefix("hub:")
    if name == tokenizer and (name.endswith(".json") or not is_hub_name(name)):
        return None
    if not name:
        raise ValueError("A tokenizer of the hub is named by its repository, hub:NAME.")
    tell(f"Asking the Hugging Face hub for the tokenizer of {name}.")
    file = fetch(name, (TOKENIZER,), "not a repository") / TOKENIZER
    if not file.is_file():
        raise ValueError(f"The repository {name} on the hub has no {TOKENIZER}.")
    return file


def fetch(
    name: str, patterns: Sequence[str] = FILES, what: str = "neither a folder here nor a model"
) -> Path:
    """Return the folder of a repository of the hub, downloaded if it was not before.

    Args:
        name: The repository, `owner/name`.
        patterns: Which of its files; JSON and safetensors when absent.
        what: What the name is not if it cannot be fetched, for the message.

    Returns:
        The folder on this machine, with these files.

    Raises:
        ValueError: There is no such repository, or it cannot be downloaded.
    """
    with silent_client():
        return _fetched(name, patterns, what)


def _fetched(name: str, patterns: Sequence[str], what: str) -> Path:
    hub, kept = HfApi(), {"allow_patterns": list(patterns), "cache_dir": hub_cache()}
    try:
        within(ANSWER_S, lambda: hub.model_info(name, timeout=ANSWER_S))
        return Path(hub.snapshot_download(name, **kept, tqdm_class=_FirstProcessBar))
    except (RepositoryNotFoundError, GatedRepoError, HFValidationError) as error:
        raise ValueError(
            f"{name} is {what} that can be fetched from the hub: "
            "check its name, or log in with: hf auth login."
        ) from error
    except Exception as error:
        # The network's errors depend on the libraries that the hub's client uses.
        try:
            folder = hub.snapshot_download(name, **kept, local_files_only=True)
        except LocalEntryNotFoundError:
            reason = " ".join(str(error).split())[:200].rstrip(".")
            raise ValueError(
                f"{name} is {what} that can be fetched from the hub now ({reason}): check its "
                "name, or try again later."
            ) from error
        tell("The hub does not answer; what was last downloaded is used.")
        return Path(folder)
