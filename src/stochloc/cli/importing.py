"""The command that makes a run of someone else's checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from stochloc.cli.options import Fractions, Json, MaybeInt, TestText, Tokenizer, ValidText
from stochloc.cli.output import print_json
from stochloc.cli.unused import Unused, unused_shares


@dataclass
class Import:
    """Make a run of a checkpoint of another project, to evaluate, sample and train further."""

    kind: Annotated[str, tyro.conf.Positional]
    """The project whose layout it has: mdlm."""
    checkpoint: Annotated[str, tyro.conf.Positional]
    """A safetensors file, a file of torch.save with a state_dict, a folder with one, or a model on
    the Hugging Face hub, OWNER/NAME."""
    out: Path
    """Folder for the run, which must not exist."""
    data: str
    """The run's text, to evaluate and train on; if tokens are characters, the text that the
    checkpoint was trained on, since its characters are the alphabet."""
    tokenizer: Tokenizer = None
    valid: ValidText = None
    test: TestText = None
    fractions: Fractions = None
    heads: MaybeInt = None
    """Attention heads, where the checkpoint does not say."""
    length: MaybeInt = None
    """Tokens per window, where the checkpoint does not say."""
    json: Json = False

    def unused(self) -> Unused:
        """Return the flags that have no effect with the present values."""
        return unused_shares(self.valid, self.test)

    def run(self) -> None:
        """Import and report."""
        from stochloc.importers import Told
        from stochloc.importers.run import import_run
        from stochloc.tasks.data_choice import DataChoice

        shares = self.fractions or DataChoice.fractions
        choice = DataChoice(self.data, self.valid, self.test, shares)
        told = Told(self.heads, self.length)
        recipe = import_run(self.kind, self.checkpoint, self.out, choice, self.tokenizer, told)
        model = recipe.model
        if self.json:
            print_json({"run": str(self.out), **recipe.to_dict()})
            return
        print(
            f"{self.out}: {model.depth} blocks of width {model.width}, {model.vocabulary_size} "
            f"tokens, windows of {recipe.training.length}"
        )
