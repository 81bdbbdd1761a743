"""The command that writes a model for use without this package."""

from dataclasses import dataclass, field
from pathlib import Path

from stochloc.cli.options import Json, OfWeights, RunFolder, Weights
from stochloc.cli.output import print_json


@dataclass
class Export:
    """Write a run's model as plain safetensors and JSON, to use without stochloc.

    The documentation, "Use a model without stochloc", has the lines of torch that compute its
    logits.
    """

    run_folder: RunFolder
    out: Path
    """Folder for model.safetensors, config.json and tokenizer.json, which must not exist."""
    weights: OfWeights = field(default_factory=Weights)
    json: Json = False

    def run(self) -> None:
        """Export and report."""
        from stochloc.tasks.plain_export import export_plain

        exported = export_plain(self.weights.open(self.run_folder), self.out)
        if self.json:
            print_json(exported.to_dict())
            return
        facts = exported.facts
        print(
            f"{self.out}: {exported.parameters:,} values in float32, {facts['vocabulary_size']} "
            f"tokens, windows of {facts['length']}"
        )
