"""Writing a run's model for use without this package: safetensors and JSON (`nn.plain`)."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file

from stochloc.nn.plain import plain
from stochloc.tasks.runs import MODEL, TOKENIZER, Run

CONFIG = "config.json"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: Where.
        facts: The values of its `config.json`.
        parameters: Number of values in its tensors.
    """

    folder: Path
    facts: dict[str, Any]
    parameters: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"out": str(self.folder), "parameters": self.parameters, **self.facts}


def export_plain(run: Run, out: Path) -> Exported:
    """Write a run's model as plain tensors, with what describes them and its tokenizer.

    The folder appears whole or not at all.

    Args:
        run: The run; its weights are those that are written.
        out: The folder, which must not exist.

    Returns:
        What was written.

    Raises:
        ValueError: The folder exists, or the model has no plain form.
    """
    if out.exists():
        raise ValueError(f"{out} already exists: choose another --out.")
    written = plain(run.model)
    facts = {**written.facts, "length": run.length}
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / out.name
        folder.mkdir()
        save_file(written.tensors, folder / MODEL)
        (folder / CONFIG).write_text(json.dumps(facts, indent=2), encoding="utf-8")
        shutil.copyfile(run.folder / TOKENIZER, folder / TOKENIZER)
        folder.rename(out)
    return Exported(out, facts, sum(tensor.numel() for tensor in written.tensors.values()))
