"""A run on the Hugging Face hub: its folder is the repository, under one commit, with a card.

What is uploaded is what `open_run` reads, with the metrics of training and what was measured for
the weights since; the checkpoint only on request, for others to train on. Where the data lay on
this machine is left out: of absolute paths the file names remain.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from stochloc.data.hub import ANSWER_S, silent_client, within
from stochloc.tasks.hub import FILES, is_hub_name, is_repository
from stochloc.tasks.json_files import read_json
from stochloc.tasks.model_card import CARD, MARK, card, read_figures, without_folders
from stochloc.tasks.runs import RECIPE, Run, open_run
from stochloc.terminal import messages, tell
from stochloc.training.checkpoint import FILE_NAME, replacing
from stochloc.training.exclusive import exclusive
from stochloc.training.finite import FAILURE
from stochloc.training.metrics import METRICS

# Answers that say who may do what.
_UNKNOWN, _FORBIDDEN = 401, 403


@dataclass(frozen=True)
class Pushing:
    """How a run is uploaded.

    Attributes:
        name: The repository, `owner/name`; it is made where it is missing.
        is_private: Whether a new repository is for its owner alone.
        license_name: License, as the hub names it; None for none.
        with_checkpoint: Whether to upload the state of training too, with which it can be resumed.
        figures: Files with what `stochloc eval --json` printed, for the card.
        limit_s: How long the upload may take, in seconds.
    """

    name: str
    is_private: bool = False
    license_name: str | None = None
    with_checkpoint: bool = False
    figures: tuple[Path, ...] = field(default=())
    limit_s: float = 600.0

    def __post_init__(self) -> None:
        if not is_repository(self.name):
            raise ValueError(
                f"A model on the hub is named owner/name, in ASCII letters, digits, -, _ and ., "
                f"not {self.name[:80]!r}."
            )
        check_limit(self.limit_s)


@dataclass(frozen=True)
class Pushed:
    """What is uploaded, and where it is then.

    Attributes:
        name: The repository.
        files: Sizes in bytes, by name.
        url: Of the commit; None if nothing was uploaded.
    """

    name: str
    files: dict[str, int]
    url: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"name": self.name, "files": self.files, "url": self.url}


def check_limit(limit_s: float) -> None:
    """Refuse a time limit that is none.

    Args:
        limit_s: Seconds.

    Raises:
        ValueError: It is not positive.
    """
    if not limit_s > 0:
        raise ValueError(f"A time limit is a positive number of seconds, not {limit_s:g}.")


def open_own_run(folder: str) -> Run:
    """Open a run of this machine, to upload it, with the weights of its best held-out bound.

    Args:
        folder: Its folder.

    Returns:
        The run.

    Raises:
        ValueError: There is none, or its model is damaged.
    """
    if is_hub_name(folder) and not Path(folder).is_dir():
        raise ValueError(
            f"There is no folder {folder} here: a run to upload is one of this machine."
        )
    return open_run(folder, checkpoint="best")


def prepare(run: Run, pushing: Pushing) -> Pushed:
    """Write the card of a run into its folder and return what an upload would hold.

    A card that a user has made his own, by taking the mark out, stays.

    Args:
        run: The run.
        pushing: How it is uploaded.

    Returns:
        The files, and no address.

    Raises:
        ValueError: A file of figures is none.
    """
    figures = [read_figures(path) for path in pushing.figures]
    path = run.folder / CARD
    is_own = path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace")
    if not is_own:
        with replacing(path) as temporary:
            text = card(run, pushing.name, pushing.license_name, figures)
            temporary.write_text(text, encoding="utf-8")
    elif figures or pushing.license_name is not None:
        raise ValueError(
            f"{path} was not written by stochloc push, or was changed: write figures and license "
            "into it yourself, or delete it for a new one."
        )
    contents = _contents(run.folder, pushing.with_checkpoint)
    sizes = {
        name: len(content) if isinstance(content, bytes) else content.stat().st_size
        for name, content in contents.items()
    }
    return Pushed(pushing.name, sizes)


def push(run: Run, pushing: Pushing) -> Pushed:
    """Upload a run to the hub in one commit, and make the repository where it is missing.

    Files of a run that an earlier commit had and this one has not are deleted there; all others,
    such as a license, stay.

    Args:
        run: The run.
        pushing: How.

    Returns:
        What was uploaded, and the address of the commit.

    Raises:
        ValueError: Nobody is logged in, the repository is another's, or the hub does not answer in
            time; the hub then has all of the commit or nothing of it.
    """
    if get_token() is None:
        raise ValueError("Nobody is logged in to the hub: log in with hf auth login, then again.")
    ready = prepare(run, pushing)
    tell(
        f"Uploading {len(ready.files)} files, {sum(ready.files.values()) / 1e6:.1f} MB, to "
        f"{pushing.name}; within {pushing.limit_s:g} s."
    )
    # Nobody trains the run on meanwhile, so that its files are of one moment.
    with silent_client(), _bars_on_terminals(), exclusive(run.folder):
        try:
            return replace(ready, url=_uploaded(run.folder, pushing, ready.files))
        except Exception as error:
            # The network's errors depend on the libraries that the hub's client uses.
            raise ValueError(_sentence(pushing.name, error)) from error


@contextmanager
def _bars_on_terminals() -> Iterator[None]:
    """Keep the client's progress bars out of files and pipes."""
    if are_progress_bars_disabled() or messages().isatty():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _uploaded(folder: Path, pushing: Pushing, files: Collection[str]) -> str:
    """Upload files in one commit and return its address."""
    hub, name = HfApi(), pushing.name

    def make() -> Sequence[str]:
        hub.create_repo(name, private=pushing.is_private, exist_ok=True)
        return hub.list_repo_files(name)

    there = within(ANSWER_S, make)
    contents = _contents(folder, pushing.with_checkpoint)
    added = [CommitOperationAdd(path, content) for path, content in contents.items()]
    deleted = [CommitOperationDelete(path) for path in _left_over(there, files)]

    def commit() -> str:
        # One after the other: a pool of threads would keep the program from ending in time.
        for one in added:
            hub.preupload_lfs_files(name, [one], free_memory=False)
        made = hub.create_commit(name, [*added, *deleted], commit_message="Push a run of stochloc")
        return str(made.commit_url)

    return within(pushing.limit_s, commit)


def _contents(folder: Path, with_checkpoint: bool) -> dict[str, bytes | Path]:
    """Return the files of a run that others get, the recipe without this machine's folders."""
    # A failure holds a piece of the training text.
    kept = {FAILURE} if with_checkpoint else {FAILURE, FILE_NAME}
    paths = [path for pattern in FILES for path in sorted(folder.glob(pattern))]
    paths += [folder / name for name in (METRICS, CARD) if (folder / name).is_file()]
    contents: dict[str, bytes | Path] = {
        path.name: path for path in paths if not path.name.startswith(".") and path.name not in kept
    }
    recipe = json.dumps(_public(read_json(folder / RECIPE)), indent=2, ensure_ascii=False)
    return {**contents, RECIPE: recipe.encode()}


def _public(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a description without the places of its data and of its parent on this machine."""
    kept = {name: value for name, value in recipe.items() if name != "where"}
    return {**kept, **{name: _shortened(kept[name]) for name in ("data", "from") if name in kept}}


def _shortened(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {name: _shortened(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    return without_folders(value) if isinstance(value, str) else value


def _left_over(there: Sequence[str], pushed: Collection[str]) -> list[str]:
    """Return the files in a repository that an earlier push left and that are no longer true."""
    ours = [name for name in there if "/" not in name and any(map(Path(name).match, FILES))]
    return [name for name in ours if name not in pushed]


def _sentence(name: str, error: Exception) -> str:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status in (_UNKNOWN, _FORBIDDEN):
        return (
            f"The hub does not let this account write to {name}: check the name, or log in with a "
            "token that may write: hf auth login."
        )
    # The client says which file, and behind that what happened to it.
    why = f"{error} {error.__cause__ or ''}"
    reason = " ".join(why.split())[:200].rstrip(".")
    return f"{name} was not uploaded ({reason}): try again later, or give more time with --timeout."
