"""Metrics sent to Weights & Biases; the variables WANDB_MODE and WANDB_PROJECT have their say."""

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stochloc.training.checkpoint import replacing
from stochloc.training.loggers.base import Logger, numbers_in

PROJECT = "stochloc"
ID_FILE = "wandb-id.txt"


class WandbRun:
    """One run there; a run that is resumed here goes on there.

    Args:
        run: As `wandb.init` returned it.
    """

    def __init__(self, run: Any) -> None:  # noqa: ANN401
        self._run = run

    def log(self, record: dict[str, Any]) -> None:
        """Send the numbers and a sample; the step is one of them, since steps there never fall."""
        texts = {"sample": record["sample"]} if "sample" in record else {}
        self._run.log({**numbers_in(record), **texts, "updates": record["step"]})

    def close(self) -> None:
        """Send what has not been sent yet."""
        self._run.finish()


@dataclass(frozen=True)
class WeightsAndBiases:
    """A run of the project `stochloc`, or of the one that WANDB_PROJECT names."""

    package: str = "wandb"

    def open(self, folder: Path, description: dict[str, Any], step: int) -> Logger:
        """Return the run there: see `LoggerKind`."""
        import wandb  # pyright: ignore[reportMissingImports]

        try:
            run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                dir=str(folder),
                name=folder.resolve().name,
                id=_identity(folder),
                resume="allow",
                config=description,
            )
        except (wandb.Error, OSError) as error:
            raise ValueError(
                f"Weights & Biases cannot be used ({error}): log in with `wandb login`, or set "
                "WANDB_MODE=offline."
            ) from error
        run.define_metric("*", step_metric="updates")
        return WandbRun(run)


def _identity(folder: Path) -> str:
    path = folder / ID_FILE
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_text(uuid.uuid4().hex[:16])
    return path.read_text().strip()
