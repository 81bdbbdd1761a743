"""What a run that is resumed is made of: what it was, and what a user may change of it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from stochloc.data import Corpus, Tokenizer
from stochloc.data.sequence_corpora import SequenceCorpus
from stochloc.tasks.data_choice import TEXTS, DataChoice, opened, places
from stochloc.tasks.own_text import OtherTextError, find_text
from stochloc.tasks.positions import read_positions
from stochloc.tasks.runs import read_description
from stochloc.training.choices import named_law
from stochloc.training.recipes import Recipe

# When training ends; what an update does is kept.
_MAY_CHANGE = ("num_steps", "patience")


def resumed_description(
    folder: Path, changes: dict[str, Any]
) -> tuple[Recipe, Tokenizer, DataChoice]:
    """Return what a run is made of, if it is what the user asks for.

    A run may be made longer: given more updates, it goes on by the schedule of that many. Its
    patience may be changed too.

    Args:
        folder: The run's folder.
        changes: What the user named: attributes of the recipe, `preset`, `tokenizer`, or parts of
            the data choice. None and what agrees with the run changes nothing.

    Returns:
        Recipe, tokenizer and data.

    Raises:
        ValueError: The folder holds no run, or a change contradicts it.
    """
    recipe, tokenizer, choice = read_description(folder)
    kept = {
        **asdict(recipe.model), **asdict(recipe.training), **asdict(choice),
        "preset": recipe.preset, "tokenizer": _name(tokenizer),
        "slots": tokenizer.slots is not None, "freeze": recipe.freeze,
        "law": recipe.training.law,
    }  # fmt: skip
    if changes.get("law") is not None:
        changes = {**changes, "law": named_law(changes["law"])}
    if changes.get("positions") is not None:
        positions = recipe.with_positions(read_positions(changes["positions"])).model.positions
        changes = {**changes, "positions": positions}
    differ = [
        name
        for name, value in changes.items()
        if value is not None
        and name not in _MAY_CHANGE
        and value != kept[name]
        # Texts may have moved; their tokens are compared where they are read.
        and not (name in TEXTS and kept[name] and _as_many(value, kept[name]))
    ]
    if differ:
        raise _contradicting(folder, differ)
    asked = changes.get("num_steps")
    steps = recipe.training.num_steps if asked is None else asked
    if steps < recipe.training.num_steps:
        raise ValueError(
            f"The run in {folder} has {recipe.training.num_steps} updates; it can be resumed with "
            f"more of them, not with {steps}."
        )
    patience = changes.get("patience")
    patience = recipe.patience if patience is None else patience
    return recipe.with_changes(num_steps=steps, patience=patience), tokenizer, choice


def resumed_text(folder: Path, changes: dict[str, Any]) -> Corpus | SequenceCorpus:
    """Return the text of a run that is to be continued, wherever it lies now.

    Args:
        folder: The run's folder.
        changes: What the user named; `data`, `more_data`, `valid` and `test` say where the texts
            are now.

    Returns:
        The text, whose tokens are those the run began with.

    Raises:
        ValueError: There is no such text, or a text that the user named is another one.
    """
    _, tokenizer, choice = read_description(folder)
    moved = places(*(changes.get(name) for name in TEXTS))
    texts = opened(moved)
    try:
        return find_text(folder, choice, tokenizer, texts)
    except OtherTextError:
        if not moved:
            raise
        raise _contradicting(folder, list(moved)) from None


def check_same_recipe(saved: Recipe, recipe: Recipe, folder: Path) -> None:
    """Refuse a checkpoint that is not of a recipe; that of a run since made longer is.

    Args:
        saved: The recipe in the checkpoint.
        recipe: The recipe in the run's description.
        folder: The run's folder, for the message.

    Raises:
        ValueError: They differ in what an update does.
    """
    steps = recipe.training.num_steps
    longer = saved.with_changes(num_steps=steps, patience=recipe.patience)
    if saved.training.num_steps > steps or longer != recipe:
        raise ValueError(f"The checkpoint in {folder} is not of the recipe beside it.")


def _as_many(value: str | tuple[str, ...], kept: str | tuple[str, ...]) -> bool:
    return isinstance(value, str) or len(value) == len(kept)


def _contradicting(folder: Path, names: list[str]) -> ValueError:
    return ValueError(
        f"A resumed run keeps its recipe, but {', '.join(names)} would differ from that in "
        f"{folder}: start a new run in another folder to change it."
    )


def _name(tokenizer: Tokenizer) -> str:
    """Return what --tokenizer calls the tokenizer of a run, without what is laid around it."""
    facts = tokenizer.to_dict()
    while "inner" in facts:
        facts = facts["inner"]
    return facts.get("name", facts["kind"])
