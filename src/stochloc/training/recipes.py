"""Recipes: everything that decides a training run, as values, and the presets as functions.

A recipe is written as JSON beside the model it made and can be read back; resuming reads it, so a
run continues exactly as it began. `tiny`, `small` and `text8` are of our choices, `text8_paper` of
the paper's: see `training.choices`. Our rotations span the range of a window and heads begin by
looking at their neighbours, as `Backbone` has it; the paper's positions are the usual ones.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from stochloc.nn import Backbone, ModelConfig, leaves_out
from stochloc.nn.declared import check_types
from stochloc.nn.places import LEARNED, follows_the_text
from stochloc.training.choices import OURS, PAPER, SEEING, SHOWN, SIDED
from stochloc.training.snr import (
    IndependentSides,
    LeftToRight,
    Masks,
    SidedSnrLaw,
    SnrLaw,
    law_from_dict,
    law_to_dict,
)

# The optimizer of recipes and trials from before there was a choice.
ADAMW = "adamw"
MUON = "muon"


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        length: Tokens per training window, L.
        batch_size: Windows per update, over all processes together.
        num_steps: Number of updates.
        learning_rate: Peak of the learning rate.
        weight_decay: The optimizer's decay of weight matrices.
        warmup_steps: Updates of linear warm-up, before the cosine decay to 0.
        beta2: Decay of squared gradients, for optimizers that average them.
        clip_norm: Largest norm of the gradient.
        ema_decay: Decay of the average of the weights; the average is what is saved and used.
        law: Which γ to train on.
        seed: Seed of everything random in the run.
        eval_every: Updates between two held-out bounds.
        eval_sequences: Held-out windows per bound.
        checkpoint_every: Updates between two checkpoints.
        log_every: Updates between two lines of metrics.
        optimizer: Name of the kind of optimizer, one of `training.optimizers.OPTIMIZERS`.
    """

    length: int = 128
    batch_size: int = 32
    num_steps: int = 1500
    learning_rate: float = 2e-3
    weight_decay: float = 0.03
    warmup_steps: int = 100
    beta2: float = 0.98
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    law: SnrLaw | SidedSnrLaw = SHOWN
    seed: int = 0
    eval_every: int = 250
    eval_sequences: int = 64
    checkpoint_every: int = 250
    log_every: int = 10
    optimizer: str = ADAMW

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("length", "batch_size", "num_steps", "eval_every", "eval_sequences",
                     "checkpoint_every", "log_every"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"Training needs a positive {name}, not {getattr(self, name)}.")
        for name in ("weight_decay", "warmup_steps", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"Training needs a {name} of at least 0, not {getattr(self, name)}."
                )
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"The learning rate must be positive, not {self.learning_rate}.")
        if not self.clip_norm > 0:
            raise ValueError(
                f"The largest norm of the gradient must be positive: {self.clip_norm}."
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"The decay of the average must lie in [0, 1), not {self.ema_decay}.")
        if not 0 <= self.beta2 < 1:
            raise ValueError(f"The decay beta2 must lie in [0, 1), not {self.beta2}.")


@dataclass(frozen=True)
class Recipe:
    """A model and its training.

    Attributes:
        preset: Name of the preset it came from.
        model: What the model is made of.
        training: How it is trained.
        freeze: Names of the model's parts whose weights stay as they begin, see `nn.frozen`.
        patience: Held-out bounds in turn without a better one after which training ends; 0 for
            training that goes on to its last update.
    """

    preset: str
    model: ModelConfig
    training: TrainingConfig
    freeze: tuple[str, ...] = ()
    patience: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        if self.patience < 0:
            raise ValueError(f"The patience is a number of held-out bounds, not {self.patience}.")
        if not all(isinstance(name, str) for name in self.freeze):
            raise ValueError("The parts to freeze are given by their names.")
        architecture, law = self.model.architecture, self.training.law
        if isinstance(law, SidedSnrLaw) and not leaves_out(architecture):
            raise ValueError(
                f"A network of the kind {architecture} looks at the token itself, so it cannot be "
                f"shown its two sides at SNRs of their own: {type(law).__name__} needs a "
                "two-sided network."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        training = {**asdict(self.training), "law": law_to_dict(self.training.law)}
        own = {"freeze": list(self.freeze), "patience": self.patience}
        return {"preset": self.preset, "model": asdict(self.model), "training": training, **own}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """Return the recipe that `to_dict` described.

        Args:
            values: The dictionary, as read from JSON.

        Returns:
            The recipe.

        Raises:
            ValueError: A part is missing or has a name this version does not know.
        """
        try:
            training = {**values["training"], "law": law_from_dict(values["training"]["law"])}
            model, training = ModelConfig(**values["model"]), TrainingConfig(**training)
            freeze, patience = tuple(values.get("freeze", ())), values.get("patience", 0)
            return cls(values["preset"], model, training, freeze, patience)
        except (KeyError, TypeError) as error:
            raise ValueError(f"This is no recipe of this version of stochloc: {error}.") from error

    def with_architecture(self, architecture: str) -> "Recipe":
        """Return the recipe for a network of another kind, shown what that kind can be shown.

        Args:
            architecture: One of `nn.backbones.ARCHITECTURES`.

        Returns:
            The recipe, in which a two-sided network is shown the shares of sequences of ours.

        Raises:
            ValueError: There is no such architecture, or it cannot be one of the recipe's.
        """
        model, law = replace(self.model, architecture=architecture), self.training.law
        if isinstance(law, LeftToRight | IndependentSides) and not leaves_out(architecture):
            law = law.inside
        elif isinstance(law, SnrLaw) and leaves_out(architecture):
            law = replace(SIDED, inside=law)
        return replace(self, model=model, training=replace(self.training, law=law))

    def with_positions(self, positions: str) -> "Recipe":
        """Return the recipe in which the places of a text have a meaning.

        Where tokens that adjoin in the text need not adjoin in a grid or a table, heads do not
        begin by looking at their neighbours.

        Args:
            positions: A line as in `nn.places`, or `learned` alone, for texts that fill a window.

        Returns:
            The recipe.

        Raises:
            ValueError: The line describes no positions.
        """
        model, length = self.model, self.training.length
        if positions == LEARNED:
            most = length - model.num_before - model.num_after
            positions = f"{LEARNED}:{max(1, most)}"
        logit = model.neighbour_logit if follows_the_text(positions) else 0.0
        model = replace(model, positions=positions, neighbour_logit=logit)
        return replace(self, model=model)

    def with_changes(self, **changes: Any) -> "Recipe":  # noqa: ANN401
        """Return the recipe with some attributes of its model or its training replaced.

        Args:
            changes: Attributes of `ModelConfig` or `TrainingConfig`, or `freeze` or `patience`, and
                their new values.

        Returns:
            A new recipe.

        Raises:
            ValueError: A value is out of range.
        """
        of_model = {f.name for f in fields(ModelConfig)}
        own = {name: changes.pop(name) for name in ("freeze", "patience") if name in changes}
        model = {name: value for name, value in changes.items() if name in of_model}
        training = {name: value for name, value in changes.items() if name not in of_model}
        return replace(
            self,
            **own,
            model=replace(self.model, **model),
            training=replace(self.training, **training),
        )


def tiny(vocabulary_size: int) -> Recipe:
    """Return the recipe of `quickstart`: a million parameters, minutes on a laptop.

    Args:
        vocabulary_size: Number of tokens of the corpus.

    Returns:
        The recipe.
    """
    model = OURS.model(vocabulary_size, Backbone(width=128, depth=4, heads=4))
    return Recipe("tiny", model, TrainingConfig(law=OURS.law, learning_rate=8e-3, optimizer=MUON))


def small(vocabulary_size: int) -> Recipe:
    """Return a recipe of 11 M parameters: an hour on one GPU, a night on a laptop.

    Args:
        vocabulary_size: Number of tokens of the corpus.

    Returns:
        The recipe.
    """
    model = OURS.model(vocabulary_size, Backbone(width=384, depth=6, heads=6))
    training = TrainingConfig(
        law=OURS.law,
        length=256, batch_size=64, num_steps=20_000, learning_rate=1e-3, warmup_steps=500,
        ema_decay=0.9995, eval_every=1000, checkpoint_every=500, log_every=50,
    )  # fmt: skip
    return Recipe("small", model, training)


def text8(vocabulary_size: int) -> Recipe:
    """Return our recipe at the size of the paper's text8 experiment.

    Args:
        vocabulary_size: Number of tokens of the corpus, 27 for text8.

    Returns:
        The recipe.
    """
    model = OURS.model(vocabulary_size, Backbone(width=768, depth=12, heads=12))
    training = TrainingConfig(
        law=OURS.law,
        length=256, batch_size=512, num_steps=1_000_000, learning_rate=3e-4, warmup_steps=2000,
        ema_decay=0.9999, eval_every=5000, eval_sequences=256, checkpoint_every=1000, log_every=100,
    )  # fmt: skip
    return Recipe("text8", model, training)


def text8_paper(vocabulary_size: int) -> Recipe:
    """Return the paper's recipe to the letter (sections 3, 4, B.1, C.2, C.3).

    Where the paper is silent its authors' public values are taken. Its width of 784 is no multiple
    of 12 heads, so the width is 768.

    Args:
        vocabulary_size: Number of tokens of the corpus, 27 for text8.

    Returns:
        The recipe.
    """
    backbone = Backbone(width=768, depth=12, heads=12, rotary_base=10_000.0, neighbour_logit=0.0)
    training = replace(text8(vocabulary_size).training, law=PAPER.law)
    return Recipe("text8-paper", PAPER.model(vocabulary_size, backbone), training)


def puzzle(vocabulary_size: int) -> Recipe:
    """Return a recipe for puzzles, such as Sudoku with `--positions`: 1.2 M parameters.

    Everything follows from rules that tie distant places, so the network is an encoder without
    neighbours, whose rotations hardly turn. It is shown what a puzzle shows: 15 to 75 % of the
    tokens.

    Args:
        vocabulary_size: Number of tokens of the corpus.

    Returns:
        The recipe.
    """
    backbone = Backbone(width=128, depth=6, heads=4, rotary_base=1e9, neighbour_logit=0.0)
    training = TrainingConfig(law=Masks(0.15, 0.75), batch_size=64, num_steps=3000)
    return Recipe("puzzle", SEEING.model(vocabulary_size, backbone), training)


PRESETS: dict[str, Callable[[int], Recipe]] = {
    "tiny": tiny,
    "puzzle": puzzle,
    "small": small,
    "text8": text8,
    "text8-paper": text8_paper,
}


def preset(name: str, vocabulary_size: int) -> Recipe:
    """Return the recipe of a preset.

    Args:
        name: One of `PRESETS`.
        vocabulary_size: Number of tokens of the corpus.

    Returns:
        The recipe.

    Raises:
        ValueError: There is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"There is no preset {name!r}; the presets are {', '.join(PRESETS)}.")
    return PRESETS[name](vocabulary_size)
