"""The command that downloads a run of the Hugging Face hub into a folder of its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from stochloc.cli.options import Json, MaybeText, Positive
from stochloc.cli.output import print_json


@dataclass
class Pull:
    """Download a run of the Hugging Face hub into a folder of its own.

    Commands that only read a run take its name on the hub as it is; a folder is for changing it,
    or for machines without a network.
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """Name of the repository, OWNER/NAME."""
    out: Path
    """Folder for the run, which must not exist."""
    revision: MaybeText = None
    """A branch, tag or commit; the newest commit when absent."""
    timeout: Positive = 600.0
    """Seconds that the download may take; the same command goes on where it stopped."""
    json: Json = False

    def run(self) -> None:
        """Download and report."""
        from stochloc.tasks.pull import pull

        pulled = pull(self.name, self.out, self.timeout, self.revision)
        if self.json:
            print_json(pulled.to_dict())
            return
        print(f"{self.out}: {len(pulled.files)} files of {pulled.name} at {pulled.revision}")
