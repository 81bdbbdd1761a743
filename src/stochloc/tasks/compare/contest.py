"""A contest: the methods and settings of a comparison, from which its trials follow."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from stochloc.methods import METHODS, TABLE_1
from stochloc.nn import Backbone
from stochloc.tasks.compare.budget import Budget
from stochloc.tasks.compare.trial import Scoring, Trial
from stochloc.tasks.data_choice import DataChoice
from stochloc.training.recipes import TrainingConfig


@dataclass(frozen=True)
class Contest:
    """The methods and settings of a comparison.

    Attributes:
        choice: The text and its split.
        tokenizer: Name of the tokenizer; None for the corpus's default.
        methods: Names of `methods.METHODS`.
        budget: Training budget of each method.
        num_seeds: Number of full trials of each method, from seed 0 up.
        grid: Learning rates to choose from.
        short_share: Share of the budget that a trial of the grid gets, in (0, 1].
        backbone: The transformer of all methods.
        training: Length, batch and the other training settings of all methods.
        scoring: How all methods are measured.
        half_products: Whether updates multiply the transformer's matrices in bfloat16.
    """

    choice: DataChoice
    tokenizer: str | None
    methods: tuple[str, ...]
    budget: Budget
    num_seeds: int = 1
    grid: tuple[float, ...] = (1e-3, 2e-3, 4e-3)
    short_share: float = 1.0
    backbone: Backbone = field(default_factory=Backbone)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    scoring: Scoring = field(default_factory=Scoring)
    half_products: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.methods, str):
            raise ValueError(f"Methods are a tuple of names: parse_methods({self.methods!r}).")
        if self.num_seeds < 1:
            raise ValueError(f"A comparison needs at least one seed, not {self.num_seeds}.")
        if not 0 < self.short_share <= 1:
            raise ValueError(f"The share of short trials lies in (0, 1], not {self.short_share}.")
        if not self.grid or not all(0 < rate < math.inf for rate in self.grid):
            raise ValueError("A comparison needs learning rates, all of them positive.")
        if len(set(self.grid)) < len(self.grid):
            raise ValueError("A learning rate is given twice.")

    def grid_trials(self, method: str) -> list[Trial]:
        """Return the trials that choose a method's learning rate.

        Args:
            method: Name of the method.

        Returns:
            A short trial for each rate, or, if they get the whole budget, the full trials of the
            first seed. An empty list if the grid has a single rate.
        """
        if len(self.grid) == 1:
            return []
        trials = [self._trial(method, rate, 0) for rate in self.grid]
        if self.short_share == 1:
            return trials
        budget = replace(self.budget, amount=self.budget.amount * self.short_share)
        return [replace(trial, budget=budget, is_short=True) for trial in trials]

    def full_trials(self, method: str, rate: float) -> list[Trial]:
        """Return the full trials of a method.

        Args:
            method: Name of the method.
            rate: Its learning rate.

        Returns:
            A trial for each seed.
        """
        return [self._trial(method, rate, seed) for seed in range(self.num_seeds)]

    def settings(self) -> dict[str, Any]:
        """Return the settings shared by all trials, as JSON values."""
        shared = self._trial(self.methods[0], self.grid[0], 0).to_dict()
        own = ("method", "is_short", "method_revision")
        for name in ("learning_rate", "seed"):
            del shared["training"][name]
        return {
            "data": self.choice.data,
            "tokenizer": self.tokenizer,
            "grid": list(self.grid),
            **{key: value for key, value in shared.items() if key not in own},
        }

    def _trial(self, method: str, rate: float, seed: int) -> Trial:
        training = replace(self.training, learning_rate=rate, seed=seed)
        trial = Trial(method, self.backbone, training, self.budget, self.scoring)
        revision = METHODS[method].revision
        return replace(trial, half_products=self.half_products, method_revision=revision)


def parse_methods(text: str) -> tuple[str, ...]:
    """Return the methods in a list of names, in which `all` stands for Table 1.

    Args:
        text: Names separated by commas; "all" for the methods of Table 1.

    Returns:
        The names without repetitions.

    Raises:
        ValueError: There is no such method.
    """
    names: dict[str, None] = {}
    for name in (part.strip() for part in text.split(",")):
        names |= dict.fromkeys(TABLE_1 if name == "all" else (name,))
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise ValueError(
            f"There is no method {unknown[0]!r}; choose from all, {', '.join(METHODS)}."
        )
    return tuple(names)
