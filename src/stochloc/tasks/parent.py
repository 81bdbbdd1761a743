"""Training that begins with a trained model: its weights, vocabulary and recipe, and other data.

The new run is one of its own, with the model's own codes or new ones (`nn.recoding`). Its folder
is begun with a checkpoint of step 0 that holds the trained weights, so that it resumes like any
other from the first moment on, and its description says where they came from. Its average begins at
the same weights, and the prior of the tokens stays the one that the weights were trained with.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from stochloc.data import Corpus
from stochloc.data.sequence_corpora import SequenceCorpus
from stochloc.nn.recoding import recoded
from stochloc.tasks.data_choice import DataChoice
from stochloc.tasks.runs import Run, open_run
from stochloc.terminal import tell
from stochloc.training.beginning import write_beginning
from stochloc.training.choices import named_law
from stochloc.training.recipes import Recipe
from stochloc.training.seeds import seeded_generator


@dataclass(frozen=True, eq=False)
class Parent:
    """A trained model with which another run begins.

    Attributes:
        name: What the user called it: a folder, or the name of a repository on the hub.
        run: The run, with the weights that commands use (`tasks.chosen_weights`).
        weights_sha256: Checksum of the file that holds them.
        mask_lead: Nats by which the mask slot outweighs all tokens at zero SNR when training
            begins (`nn.recoding`); None leaves it as it is.
    """

    name: str
    run: Run
    weights_sha256: str
    mask_lead: float | None = None

    @classmethod
    def open(cls, name: str, mask_lead: float | None = None) -> "Parent":
        """Open a run to begin with.

        Args:
            name: A folder, or the name of a repository on the hub.
            mask_lead: As the attribute.

        Returns:
            The parent.

        Raises:
            ValueError: It is not a run, or has no model, or no mask slot to set.
        """
        run = open_run(name)
        if run.weights_used is not None:
            tell(f"stochloc: {run.weights_used}.")
        if mask_lead is not None and run.model.slot is None:
            raise ValueError(
                f"The model in {name} has no mask slot, as imported models have: leave out "
                "--mask-lead."
            )
        with run.weights.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(name, run, checksum, mask_lead)

    def to_dict(self) -> dict[str, str | float]:
        """Return where the weights came from and what was changed, as JSON values."""
        changed = {} if self.mask_lead is None else {"mask_lead": self.mask_lead}
        return {"run": self.name, "weights_sha256": self.weights_sha256, **changed}

    def fitting(self, choice: DataChoice) -> DataChoice:
        """Return a choice of data read as the model needs it: as sequences, or as long texts.

        Args:
            choice: What a user gave.

        Returns:
            The choice.

        Raises:
            ValueError: Sequences are wanted of a model that knows no boundary.
        """
        is_of_sequences = self.run.lengths is not None
        if choice.sequences and not is_of_sequences:
            raise ValueError(
                f"The model in {self.name} has no boundary token, so it cannot be trained on "
                "sequences: leave out --sequences, or train a new model with it."
            )
        return replace(choice, sequences=is_of_sequences)

    def load(self, choice: DataChoice) -> Corpus | SequenceCorpus:
        """Return other data in the tokens of the model.

        Args:
            choice: What to train on, as `fitting` returns it.

        Returns:
            The data.

        Raises:
            ValueError: A file cannot be read, or has characters that the model has never seen, or
                the texts have no classes where the model knows some, or other ones.
        """
        corpus = choice.load(self.run.tokenizer)
        if corpus.tokenizer.to_dict() != self.run.tokenizer.to_dict():
            raise ValueError(
                f"The texts have other classes than the model in {self.name}, which knows "
                f"{', '.join(self.run.tokenizer.labels) or 'none'}."
            )
        return corpus

    def recipe(self, changes: dict[str, Any]) -> Recipe:
        """Return how training goes on: by the recipe of the model, with what a user named replaced.

        Args:
            changes: Attributes of the training, the name of a `law` among them, and of the recipe,
                and the `code_dimension` of new codes; None leaves what it was. Parts that the model
                was trained with frozen are free unless they are named again, and so it is with
                patience.

        Returns:
            The recipe, of the same model but for its codes.

        Raises:
            ValueError: A value is out of range.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        if "law" in given:
            given["law"] = named_law(given["law"])
        if "code_dimension" in given:
            given["fixed_codes"] = False
        return replace(self.run.recipe, freeze=(), patience=0).with_changes(**given)

    def begin(self, recipe: Recipe, folder: Path) -> None:
        """Write the model and the checkpoint of a run that begins with these weights.

        Args:
            recipe: How the run is trained.
            folder: Its folder, which exists.
        """
        drawn = seeded_generator(torch.device("cpu"), recipe.training.seed, 0, 0, 5)
        model = recoded(self.run.model, recipe.model, self.mask_lead, drawn)
        write_beginning(recipe, model, folder)
