"""Training a model on a text, into a run's folder."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from stochloc.data import Corpus
from stochloc.data.labels import first_given
from stochloc.data.sequence_corpora import SequenceCorpus
from stochloc.data.texts import is_read_once
from stochloc.nn import LocalizationModel
from stochloc.nn.places import ROTARY
from stochloc.nn.unfilled import unfilled
from stochloc.tasks.agreement import check_alike, check_shared
from stochloc.tasks.data_choice import DataChoice
from stochloc.tasks.free_folder import check_free
from stochloc.tasks.hardware import Hardware, resumed_hardware
from stochloc.tasks.parent import Parent
from stochloc.tasks.positions import read_positions
from stochloc.tasks.resuming import check_same_recipe, resumed_description, resumed_text
from stochloc.tasks.runs import (
    amend_description,
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
from stochloc.tasks.unseen import remark_on_unseen
from stochloc.terminal import tell, times
from stochloc.training.checkpoint import Checkpoint
from stochloc.training.choices import named_law
from stochloc.training.exclusive import exclusive
from stochloc.training.loggers import check_loggers, opened_loggers
from stochloc.training.loop import train
from stochloc.training.processes import Peers, together
from stochloc.training.recipes import Recipe, preset
from stochloc.training.trainer import Trainer
from stochloc.version import __version__


def resolve_recipe(name: str, corpus: Corpus | SequenceCorpus, changes: dict[str, Any]) -> Recipe:
    """Return a preset with the attributes a user named replaced.

    Args:
        name: Name of the preset.
        corpus: What to train on: its vocabulary, and the lengths of its sequences.
        changes: Attributes of the model or of the training; None leaves the preset's value. The
            architecture decides what a network is shown too (`Recipe.with_architecture`), unless
            a law is named (`training.choices.NAMED_LAWS`), and positions are as a user names them
            (`tasks.positions`).

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
    changed = recipe.with_architecture(architecture)
    if "law" in given:
        given["law"] = named_law(given["law"])
    if "code_dimension" in given:
        given["fixed_codes"] = False
    changed = changed.with_changes(**given)
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


def summary(recipe: Recipe, of_data: Mapping[str, Any]) -> str:
    """Return what a dry run says in one sentence: the size of the model and of its training.

    Args:
        recipe: What would be trained, and how.
        of_data: What `describe_data` returned; empty if the data were not looked at.

    Returns:
        A sentence.
    """
    with unfilled():
        parameters = LocalizationModel(recipe.model).num_parameters
    training, sequences = recipe.training, of_data.get("sequences")
    unit = "window" if sequences is None else "sequence"
    most = training.length if sequences is None else most_tokens(recipe)
    length = f"{'of' if sequences is None else 'of at most'} {times(most, 'token')}"
    found = "" if sequences is None else f" from {times(sequences['train'], 'training sequence')}"
    return (
        f"nothing is trained: the model has {parameters:,} parameters, and training would be "
        f"{training.num_steps:,} updates, each of {times(training.batch_size, unit)} {length}"
        f"{found}."
    )


def start_run(
    folder: Path,
    choice: DataChoice,
    tokenizer: str | None,
    preset_name: str,
    changes: dict[str, Any],
    hardware: Hardware,
    slots: bool = False,
    loggers: Sequence[str] = (),
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
        loggers: Where metrics are shown too, some of `training.loggers.LOGGERS`.

    Returns:
        The trained model.

    Raises:
        ValueError: The folder holds a run, or the data, the recipe or a logger is unusable.
    """
    check_loggers(loggers)
    with together() as peers:
        _check_start(folder, choice, hardware)
        corpus = choice.load(tokenizer, slots)
        recipe = resolve_recipe(preset_name, corpus, changes)
        return _train_new(folder, choice, corpus, recipe, hardware, peers, loggers=loggers)


def start_from(
    name: str,
    folder: Path,
    choice: DataChoice,
    changes: dict[str, Any],
    hardware: Hardware,
    loggers: Sequence[str] = (),
    mask_lead: float | None = None,
) -> LocalizationModel:
    """Train a new run that begins with the weights of a trained model.

    Args:
        name: The trained model: a folder, or the name of a repository on the hub.
        folder: Where to; must not hold a run yet.
        choice: What to train on.
        changes: Attributes that replace those of the model's own recipe.
        hardware: Where to train.
        loggers: Where metrics are shown too, some of `training.loggers.LOGGERS`.
        mask_lead: As that of `Parent`.

    Returns:
        The trained model.

    Raises:
        ValueError: The folder holds a run, there is no such model, or the data, the recipe or a
            logger is unusable.
    """
    check_loggers(loggers)
    with together() as peers:
        _check_start(folder, choice, hardware)
        # A download may take long, or fail on one machine alone: the others watch.
        parent = Parent.open(name, mask_lead)
        choice = parent.fitting(choice)
        corpus, recipe = parent.load(choice), parent.recipe(changes)
        return _train_new(folder, choice, corpus, recipe, hardware, peers, parent, loggers)


def _check_start(folder: Path, choice: DataChoice, hardware: Hardware) -> None:
    check_free(folder)
    if hardware.num_processes > 1 and any(map(is_read_once, choice.named().values())):
        raise ValueError("Several processes cannot read one pipe; save the text in a file.")


def _train_new(
    folder: Path,
    choice: DataChoice,
    corpus: Corpus | SequenceCorpus,
    recipe: Recipe,
    hardware: Hardware,
    peers: Peers,
    parent: Parent | None = None,
    loggers: Sequence[str] = (),
) -> LocalizationModel:
    texts = training_data(corpus, recipe)
    fabric = hardware.launch()
    peers.meet()
    _check_same_work(fabric, recipe, corpus, 0)
    # Whether there is room for the model is seen before there is a run.
    trainer = Trainer(fabric, recipe, texts, folder, hardware.execution)
    lengths = lengths_of(corpus, recipe) if isinstance(corpus, SequenceCorpus) else None
    if fabric.is_global_zero:
        if isinstance(corpus, SequenceCorpus):
            for remark in remarks(corpus, recipe):
                tell(f"stochloc: {remark}")
        if (unseen := remark_on_unseen(corpus)) is not None:
            tell(f"stochloc: {unseen}")
        folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder) if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            check_free(folder)
        check_shared(fabric, folder)
        if fabric.is_global_zero:
            if parent is not None:
                parent.begin(recipe, folder)
            own, source = hardware.resolved(), None if parent is None else parent.to_dict()
            write_description(folder, recipe, corpus, choice, __version__, own, lengths, source)
        fabric.barrier()
        if (beginning := Checkpoint.read(folder)) is not None:
            trainer.load(beginning)
        return _train(trainer, peers, loggers)


def _train(trainer: Trainer, peers: Peers, loggers: Sequence[str]) -> LocalizationModel:
    again = shlex.join(("stochloc", "train", "--out", str(trainer.folder), "--resume"))
    peers.advice = f"continue from the last checkpoint with: {again}"
    names = loggers if trainer.fabric.is_global_zero else ()
    facts = trainer.recipe.to_dict()
    with opened_loggers(names, trainer.folder, facts, trainer.step) as opened:
        model = train(trainer, opened)
    trainer.fabric.barrier()  # the first process, which ends the peers, waits for all others
    return model


def _check_same_work(
    fabric: Fabric, recipe: Recipe, corpus: Corpus | SequenceCorpus, step: int
) -> None:
    if fabric.world_size > 1:
        facts = {
            "version of stochloc": __version__, "recipe": json.dumps(recipe.to_dict()),
            "text": json.dumps(corpus.fingerprint()), "checkpoint": str(step),
        }  # fmt: skip
        check_alike(fabric, facts)


def resume_run(
    folder: Path,
    changes: dict[str, Any],
    hardware: dict[str, Any],
    say: Callable[[str], None],
    loggers: Sequence[str] = (),
) -> LocalizationModel:
    """Continue a run from its last checkpoint, or from the start if it has none.

    Args:
        folder: The run's folder.
        changes: What the user named; see `resuming.resumed_description`.
        hardware: Attributes of `Hardware` that the user named; None is what the run has kept.
        say: Warns a person, once, of what makes the run's numbers others than they would be.
        loggers: Where metrics are shown too, from here on; some of `training.loggers.LOGGERS`.

    Returns:
        The trained model.

    Raises:
        ValueError: The folder holds no run, its checkpoint is damaged, or a change contradicts it.
    """
    check_loggers(loggers)
    with together() as peers:
        recipe, _, _ = resumed_description(folder, changes)
        checkpoint = Checkpoint.read(folder)
        if checkpoint is not None:
            check_same_recipe(Recipe.from_dict(checkpoint.description), recipe, folder)
        corpus = resumed_text(folder, changes)
        texts = training_data(corpus, recipe)
        continuation = resumed_hardware(read_hardware(folder), hardware)
        fabric = continuation.here.launch()
        peers.meet()
        _check_same_work(fabric, recipe, corpus, 0 if checkpoint is None else checkpoint.step)
        with exclusive(folder) if fabric.is_global_zero else nullcontext():
            check_shared(fabric, folder)
            trainer = (
                Trainer(fabric, recipe, texts, folder, continuation.here.execution)
                if checkpoint is None
                else Trainer.resumed(
                    fabric, recipe, texts, folder, checkpoint, continuation.here.execution
                )
            )
            if fabric.is_global_zero:
                if continuation.warning is not None:
                    say(continuation.warning)
                amend_description(folder, recipe, continuation.kept)
            return _train(trainer, peers, loggers)
