"""Training a model on a text, into a run's folder."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stochloc.data import Corpus, Tokenizer
from stochloc.data.labels import first_given
from stochloc.data.sequence_corpora import SequenceCorpus
from stochloc.data.texts import is_read_once
from stochloc.nn import LocalizationModel
from stochloc.nn.places import ROTARY
from stochloc.tasks.data_choice import TEXTS, DataChoice, opened, places
from stochloc.tasks.hardware import Hardware, resumed_hardware
from stochloc.tasks.lengths_file import LENGTHS
from stochloc.tasks.own_text import OtherTextError, find_text
from stochloc.tasks.positions import read_positions
from stochloc.tasks.runs import (
    RECIPE,
    TOKENIZER,
    amend_description,
    read_description,
    read_hardware,
    write_description,
)
from stochloc.tasks.sequence_training import (
    fitted,
    lengths_of,
    most_tokens,
    remarks,
)
from stochloc.tasks.training_data import training_data
from stochloc.terminal import tell
from stochloc.training.checkpoint import Checkpoint
from stochloc.training.exclusive import LOCK, exclusive
from stochloc.training.loop import train
from stochloc.training.recipes import Recipe, preset
from stochloc.training.trainer import Trainer
from stochloc.version import __version__


def resolve_recipe(name: str, corpus: Corpus | SequenceCorpus, changes: dict[str, Any]) -> Recipe:
    """Return a preset with the attributes a user named replaced.

    Args:
        name: Name of the preset.
        corpus: What to train on: its vocabulary, and the lengths of its sequences.
        changes: Attributes of the model or of the training; None leaves the preset's value. The
            architecture decides what a network is shown too (`Recipe.with_architecture`), and
            positions are as a user names them (`tasks.positions`).

    Returns:
        The recipe.

    Raises:
        ValueError: The preset does not exist, a value is out of range, or places of a text that is
            no sequence are to have coordinates.
    """
    size = corpus.tokenizer.vocabulary_size
    recipe = preset(name, size).with_changes(given_tokens=size - first_given(corpus.tokenizer))
    given = {key: value for key, value in changes.items() if value is not None}
    architecture = given.pop("architecture", recipe.model.architecture)
    positions = read_positions(given.pop("positions", recipe.model.positions))
    if isinstance(corpus, SequenceCorpus):
        given = {**fitted(recipe, corpus, given), **given}
    elif positions != ROTARY:
        raise ValueError(
            "A window begins anywhere in a text, so its places have no coordinates of their own: "
            "--positions is for --sequences."
        )
    changed = recipe.with_architecture(architecture).with_changes(**given)
    return changed.with_positions(positions)


def describe_data(corpus: Corpus | SequenceCorpus, recipe: Recipe) -> dict[str, Any]:
    """Return what a dry run says of sequences, beside the recipe; nothing of texts without ends.

    Args:
        corpus: What would be trained on.
        recipe: How.

    Returns:
        JSON values: the number of sequences of each part, the longest one, and how many are cut.
    """
    if not isinstance(corpus, SequenceCorpus):
        return {}
    most = most_tokens(recipe)
    parts = corpus.parts
    return {
        "sequences": {
            **{name: len(part) for name, part in parts.items()},
            "longest": max(part.longest for part in parts.values()),
            "cut": sum(part.num_longer(most) for part in parts.values()),
        }
    }


def start_run(
    folder: Path,
    choice: DataChoice,
    tokenizer: str | None,
    preset_name: str,
    changes: dict[str, Any],
    hardware: Hardware,
    slots: bool = False,
) -> LocalizationModel:
    """Train a new run.

    Args:
        folder: Where to; must not hold a run yet.
        choice: What to train on.
        tokenizer: Name of the tokenizer; None for the corpus's default.
        preset_name: Name of the preset.
        changes: Attributes that replace the preset's.
        hardware: Where to train.
        slots: Whether to lay texts out in slots (`data.tokenizers.slotted`), for a model whose
            corrections may change the length of a text.

    Returns:
        The trained model.

    Raises:
        ValueError: The folder holds a run, or the data or the recipe is unusable.
    """
    _check_free(folder)
    if hardware.devices > 1 and any(map(is_read_once, choice.named().values())):
        raise ValueError("Several processes cannot read one pipe; save the text in a file.")
    corpus = choice.load(tokenizer, slots)
    recipe = resolve_recipe(preset_name, corpus, changes)
    texts = training_data(corpus, recipe)
    fabric = hardware.launch()
    # Whether there is room for the model is seen before there is a run.
    trainer = Trainer(fabric, recipe, texts, folder)
    lengths = lengths_of(corpus, recipe) if isinstance(corpus, SequenceCorpus) else None
    if fabric.is_global_zero:
        if isinstance(corpus, SequenceCorpus):
            for remark in remarks(corpus, recipe):
                tell(f"stochloc: {remark}")
        folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder) if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            _check_free(folder)
            own = hardware.resolved()
            write_description(folder, recipe, corpus, choice, __version__, own, lengths)
        fabric.barrier()
        return train(trainer)


def resume_run(
    folder: Path,
    changes: dict[str, Any],
    hardware: dict[str, Any],
    say: Callable[[str], None],
) -> LocalizationModel:
    """Continue a run from its last checkpoint, or from the start if it has none.

    Args:
        folder: The run's folder.
        changes: What the user named; see `resumed_description`.
        hardware: Attributes of `Hardware` that the user named; None is what the run has kept.
        say: Warns a person, once, of what makes the run's numbers others than they would be.

    Returns:
        The trained model.

    Raises:
        ValueError: The folder holds no run, its checkpoint is damaged, or a change contradicts it.
    """
    recipe, _, _ = resumed_description(folder, changes)
    checkpoint = Checkpoint.read(folder)
    if checkpoint is not None:
        _check_same_recipe(Recipe.from_dict(checkpoint.description), recipe, folder)
    corpus = resumed_text(folder, changes)
    texts = training_data(corpus, recipe)
    continuation = resumed_hardware(read_hardware(folder), hardware)
    fabric = continuation.here.launch()
    with exclusive(folder) if fabric.is_global_zero else nullcontext():
        trainer = (
            Trainer(fabric, recipe, texts, folder)
            if checkpoint is None
            else Trainer.resumed(fabric, recipe, texts, folder, checkpoint)
        )
        if fabric.is_global_zero:
            if continuation.warning is not None:
                say(continuation.warning)
            amend_description(folder, recipe, continuation.kept)
        return train(trainer)


def resumed_description(
    folder: Path, changes: dict[str, Any]
) -> tuple[Recipe, Tokenizer, DataChoice]:
    """Return what a run is made of, if it is what the user asks for.

    A run may be made longer: given more updates, it goes on by the schedule of that many.

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
        "slots": tokenizer.slots is not None,
    }  # fmt: skip
    if changes.get("positions") is not None:
        positions = recipe.with_positions(read_positions(changes["positions"])).model.positions
        changes = {**changes, "positions": positions}
    differ = [
        name
        for name, value in changes.items()
        if value is not None
        and name != "num_steps"
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
    return recipe.with_changes(num_steps=steps), tokenizer, choice


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


def _as_many(value: str | tuple[str, ...], kept: str | tuple[str, ...]) -> bool:
    return isinstance(value, str) or len(value) == len(kept)


def _contradicting(folder: Path, names: list[str]) -> ValueError:
    return ValueError(
        f"A resumed run keeps its recipe, but {', '.join(names)} would differ from that in "
        f"{folder}: start a new run in another folder to change it."
    )


# What a start that was cut off may leave, with our lock among it.
_BEGINNINGS = {
    LOCK, TOKENIZER, LENGTHS,
    f".{TOKENIZER}.partial", f".{LENGTHS}.partial", f".{RECIPE}.partial",
}  # fmt: skip


def _check_free(folder: Path) -> None:
    """Refuse a folder that holds anything but what a start that was cut off left there."""
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {"a file"}
    if names and not (LOCK in names and names <= _BEGINNINGS):
        go_on = "continue its run with --resume, or " if RECIPE in names else ""
        raise ValueError(f"{folder} already exists and is not empty: {go_on}choose another --out.")


def _check_same_recipe(saved: Recipe, recipe: Recipe, folder: Path) -> None:
    """Refuse a checkpoint that is not of a recipe; that of a run since made longer is."""
    steps = recipe.training.num_steps
    if saved.training.num_steps > steps or saved.with_changes(num_steps=steps) != recipe:
        raise ValueError(f"The checkpoint in {folder} is not of the recipe beside it.")


def _name(tokenizer: Tokenizer) -> str:
    """Return what --tokenizer calls the tokenizer of a run, without what is laid around it."""
    facts = tokenizer.to_dict()
    while "inner" in facts:
        facts = facts["inner"]
    return facts.get("name", facts["kind"])
