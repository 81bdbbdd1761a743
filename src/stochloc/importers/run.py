"""From a checkpoint to the folder of a run, which every task opens as its own."""

from pathlib import Path
from tempfile import TemporaryDirectory

from stochloc.importers import IMPORTERS, Told
from stochloc.importers.files import opened_checkpoint
from stochloc.nn import LocalizationModel
from stochloc.nn.weights import check_finite
from stochloc.tasks.data_choice import DataChoice
from stochloc.tasks.hardware import Hardware
from stochloc.tasks.runs import write_description
from stochloc.training.beginning import write_beginning
from stochloc.training.choices import SEEING
from stochloc.training.recipes import Recipe, TrainingConfig
from stochloc.version import __version__

# A tenth of that for new weights: these have been trained.
LEARNING_RATE = 2e-4


def import_run(
    kind: str,
    checkpoint: str,
    out: Path,
    choice: DataChoice,
    tokenizer: str | None = None,
    told: Told | None = None,
) -> Recipe:
    """Write a run whose model is that of a checkpoint.

    The folder appears whole or not at all. Its training, if it is resumed, is ours for networks
    that see all tokens, from the imported weights.

    Args:
        kind: Name of the importer, one of `IMPORTERS`.
        checkpoint: A file, a folder with one, or the name of a model on the hub.
        out: Folder of the run, which must not exist.
        choice: The text of the run: what it is evaluated on, and whose characters are the alphabet
            of a tokenizer that needs one.
        tokenizer: Name of the tokenizer; None for the text's default. Its tokens are the rows of
            the checkpoint, in order.
        told: What the checkpoint does not say itself; None for nothing.

    Returns:
        The recipe of the run.

    Raises:
        ValueError: The checkpoint is not one of that kind, its vocabulary is not the tokenizer's,
            or the folder exists.
    """
    if kind not in IMPORTERS:
        raise ValueError(
            f"There is no importer for {kind[:40]!r}; those there are: {', '.join(IMPORTERS)}."
        )
    if out.exists():
        raise ValueError(f"{out} already exists: choose another --out.")
    with opened_checkpoint(checkpoint) as opened:
        imported = IMPORTERS[kind].convert(opened, told or Told())
    training = TrainingConfig(length=imported.length, law=SEEING.law, learning_rate=LEARNING_RATE)
    recipe = Recipe(kind, imported.config, training)
    corpus = choice.load_text(tokenizer)
    size, own = recipe.model.vocabulary_size, corpus.tokenizer.vocabulary_size
    if size != own:
        raise ValueError(
            f"{checkpoint} has {size} tokens, the tokenizer has {own}: give the --tokenizer and, "
            "if its tokens are characters, the --data that the checkpoint was trained with."
        )
    model = LocalizationModel(recipe.model)
    model.load_state_dict(imported.weights)
    check_finite(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / out.name
        folder.mkdir()
        write_beginning(recipe, model, folder)
        write_description(folder, recipe, corpus, choice, __version__, Hardware().resolved())
        folder.rename(out)
    return recipe
