"""A run of the Hugging Face hub as a folder of one's own: to train on, to change, to keep.

Files are downloaded into the cache of the hub's client and copied from there, so that a download
that was cut off goes on where it stopped. The folder appears whole or not at all.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi, ModelInfo
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from stochloc.data.hub import ANSWER_S, hub_cache, silent_client, within
from stochloc.tasks.hub import FILES, is_repository
from stochloc.tasks.model_card import CARD
from stochloc.tasks.push import check_limit
from stochloc.tasks.runs import RECIPE, open_run
from stochloc.terminal import tell
from stochloc.training.metrics import METRICS

PATTERNS = (*FILES, METRICS, CARD)


@dataclass(frozen=True)
class Pulled:
    """What was downloaded.

    Attributes:
        folder: Where it is now.
        name: The repository.
        revision: The commit.
        files: Sizes in bytes, by name.
    """

    folder: Path
    name: str
    revision: str
    files: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        own = {"name": self.name, "revision": self.revision, "files": self.files}
        return {"out": str(self.folder), **own}


def pull(name: str, out: Path, limit_s: float = 600.0, revision: str | None = None) -> Pulled:
    """Download a run of the hub into a folder of its own.

    Args:
        name: The repository, `owner/name`.
        out: The folder, which must not exist.
        limit_s: How long the download may take, in seconds.
        revision: A branch, a tag or a commit; None for the newest commit.

    Returns:
        What was downloaded; `open_run` opens the folder.

    Raises:
        ValueError: There is no such repository or revision, it holds no run, the folder exists, or
            the hub does not answer or deliver in time.
    """
    if not is_repository(name):
        raise ValueError(f"A model on the hub is named owner/name, not {name[:80]!r}.")
    if out.exists():
        raise ValueError(f"{out} already exists: choose another --out.")
    check_limit(limit_s)
    tell(f"Asking the Hugging Face hub for {name}.")
    with silent_client():
        try:
            kept, found, files = _downloaded(name, limit_s, revision)
        except (GatedRepoError, RepositoryNotFoundError, HFValidationError) as error:
            raise ValueError(
                f"There is no model {name} on the hub that this account may read: check its name, "
                "or log in with: hf auth login."
            ) from error
        except RevisionNotFoundError as error:
            raise ValueError(
                f"{name} has no revision {revision!r}: give a branch, a tag or a commit of it."
            ) from error
        except ValueError:
            raise
        except Exception as error:
            # The network's errors depend on the libraries that the hub's client uses.
            reason = " ".join(str(error).split())[:200].rstrip(".")
            raise ValueError(
                f"{name} was not downloaded ({reason}): the same command goes on where it stopped; "
                "--timeout gives it more time."
            ) from error
    _copy(kept, files, out)
    return Pulled(out, name, found, files)


def _downloaded(
    name: str, limit_s: float, revision: str | None
) -> tuple[Path, str, dict[str, int]]:
    """Return a folder with the files of a run, its commit, and their sizes."""
    hub = HfApi()

    def ask() -> ModelInfo:
        return hub.model_info(name, revision=revision, timeout=ANSWER_S, files_metadata=True)

    info = within(ANSWER_S, ask)
    found = str(info.sha)
    wanted = [
        file
        for file in info.siblings or ()
        if "/" not in file.rfilename and any(map(Path(file.rfilename).match, PATTERNS))
    ]
    files = {file.rfilename: file.size or 0 for file in wanted}
    if RECIPE not in files:
        raise ValueError(f"{name} on the hub is not a run of stochloc: {RECIPE} is missing there.")
    tell(
        f"Downloading {len(files)} files, {sum(files.values()) / 1e6:.1f} MB; within {limit_s:g} s."
    )

    def fetch() -> Path:
        # One after the other: a pool of threads would keep the program from ending in time.
        kept = [hub.hf_hub_download(name, f, revision=found, cache_dir=hub_cache()) for f in files]
        return Path(kept[0]).parent

    return within(limit_s, fetch), found, files


def _copy(source: Path, files: dict[str, int], out: Path) -> None:
    """Copy files into a new folder, which is there once it is known to be a run."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / out.name
        folder.mkdir()
        for name in files:
            shutil.copyfile(source / name, folder / name)
        open_run(folder)
        folder.rename(out)
