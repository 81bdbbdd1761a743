"""A trial of a comparison: a method, a learning rate, a seed, and how it is measured.

A trial is a value. By its name and its settings as JSON a folder is recognised that already holds
its result; `trial_run` trains and measures it.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stochloc.nn import Backbone
from stochloc.tasks.compare.budget import Budget
from stochloc.tasks.compare.result import FIRST_REVISION, RESULT, read_result, trial_name
from stochloc.training.recipes import TrainingConfig


@dataclass(frozen=True)
class Scoring:
    """How a trained method is measured.

    Attributes:
        windows: Number of windows of test text.
        num_samples: Times drawn per window for a bound that is an average over times.
        valid_windows: Number of windows of validation text, for learning rates and curves.
        valid_samples: Times drawn per window of validation text.
        texts: Number of samples drawn at each number of steps.
        steps: Numbers of sampling steps.
    """

    windows: int = 192
    num_samples: int = 32
    valid_windows: int = 64
    valid_samples: int = 8
    texts: int = 64
    steps: tuple[int, ...] = (8, 32, 128)

    def __post_init__(self) -> None:
        # Two windows at least, or there are no standard errors.
        for name, least in (
            ("windows", 2), ("num_samples", 1), ("valid_windows", 2), ("valid_samples", 1),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(
                    f"Scoring needs {name} of at least {least}, not {getattr(self, name)}."
                )
        if self.texts < 2:
            raise ValueError(f"A judge needs at least two texts, not {self.texts}.")
        if not self.steps or min(self.steps) < 1:
            raise ValueError("Sampling needs steps: numbers of at least one.")


@dataclass(frozen=True)
class Trial:
    """A method to train and measure, with all settings.

    Attributes:
        method: A name of `methods.METHODS`.
        backbone: The transformer.
        training: Length, batch, learning rate, seed and so on; its distribution of γ is unused.
        budget: Training budget.
        scoring: How the method is measured.
        is_short: Whether the trial only serves to choose a learning rate.
        half_products: Whether updates round the factors of the transformer's matrix products to
            bfloat16; all else, bounds and samples are computed in float32 and float64.
        method_revision: Which revision of the method's code, as in `methods.METHODS`.
    """

    method: str
    backbone: Backbone
    training: TrainingConfig
    budget: Budget
    scoring: Scoring = field(default_factory=Scoring)
    is_short: bool = False
    half_products: bool = False
    method_revision: int = FIRST_REVISION

    @property
    def name(self) -> str:
        """Name of its folder."""
        training = self.training
        return trial_name(self.method, self.is_short, training.learning_rate, training.seed)

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as JSON values."""
        training = asdict(self.training)
        del training["law"]
        values = {**asdict(self), "training": training}
        return json.loads(json.dumps(values))

    def is_of_another_revision(self, described: dict[str, Any]) -> bool:
        """Return whether a trial differs from this one in the revision of its method alone.

        Args:
            described: A trial as JSON values.

        Returns:
            Whether it does; such a trial is run again.
        """
        own = self.to_dict()
        return described != own and {**described, "method_revision": self.method_revision} == own

    def result(self, folder: Path) -> dict[str, Any] | None:
        """Return the result of a finished trial.

        Args:
            folder: The trial's folder.

        Returns:
            The result; None if there is none yet of this revision of the method.

        Raises:
            ValueError: The folder holds the result of another trial, or a damaged one.
        """
        path = folder / RESULT
        if not path.exists():
            return None
        result = read_result(path)
        if self.is_of_another_revision(result["trial"]):
            return None
        if result["trial"] != self.to_dict():
            raise ValueError(
                f"{path} is of a comparison with other settings: choose another --out."
            )
        return result
