"""The command that uploads a run to the Hugging Face hub, with a model card."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from stochloc.cli.options import Json, MaybeText, Positive, optional
from stochloc.cli.output import print_json, warn
from stochloc.cli.unused import Unused


@dataclass
class Push:
    """Upload a run to the Hugging Face hub, with a model card, in one commit.

    The repository then is a run: open_run, sample, score and train --from take its name. Of this
    machine's folders only the names of files are uploaded. hf auth login logs in.
    """

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run, with the weights of its best held-out bound."""
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """Name of the repository, OWNER/NAME; it is made where it is missing."""
    private: bool = False
    """Make a new repository for its owner alone."""
    license: MaybeText = None
    """License of the weights, as the hub names it: mit, apache-2.0."""
    figures: Annotated[tuple[Path, ...], optional("PATH ...")] = ()
    """Files with what stochloc eval --json printed, for the model card; the held-out bound of
    training is in it without any."""
    with_checkpoint: bool = False
    """Upload the state of training too, for others to resume it; about four times the weights."""
    timeout: Positive = 600.0
    """Seconds that the upload may take."""
    dry_run: bool = False
    """Write the card into the run's folder, list what would be uploaded, and ask no hub."""
    json: Json = False

    def unused(self) -> Unused:
        """Return the flags that have no effect with the present values."""
        asked = ("--private", "--timeout")
        return dict.fromkeys(asked, "with --dry-run") if self.dry_run else {}

    def run(self) -> None:
        """Upload and report."""
        from stochloc.tasks.push import Pushing, open_own_run, prepare, push

        pushing = Pushing(
            self.name, self.private, self.license, self.with_checkpoint, self.figures, self.timeout
        )
        run = open_own_run(self.run_folder)
        if (used := run.weights_used) is not None:
            warn(f"{used}; only these are uploaded, not those of the last step.")
        pushed = prepare(run, pushing) if self.dry_run else push(run, pushing)
        if self.json:
            print_json(pushed.to_dict())
            return
        for file, size in pushed.files.items():
            print(f"{size:>13,}  {file}")
        print(f"Uploaded: {pushed.url}" if pushed.url else "Nothing was uploaded.")
