"""A run's folder: what training writes and every other task opens."""

import shlex
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from stochloc.core import Denoiser, Padded
from stochloc.data import Corpus, Tokenizer, tokenizer_from_dict
from stochloc.data.frames import frame_of
from stochloc.data.labels import label_token
from stochloc.data.lengths import Lengths
from stochloc.data.sequence_corpora import SequenceCorpus
from stochloc.names import CheckpointName
from stochloc.nn import LocalizationModel, ModelConfig
from stochloc.tasks.chosen_weights import (
    load_last,
    note_on_weights,
    weights_to_use,
    weights_used,
)
from stochloc.tasks.data_choice import DataChoice
from stochloc.tasks.framed import framed
from stochloc.tasks.hardware import Hardware, hardware_from_dict
from stochloc.tasks.hub import find_run
from stochloc.tasks.json_files import read_json, write_json
from stochloc.tasks.lengths_file import read_lengths, write_lengths
from stochloc.training.checkpoint import FILE_NAME, Progress
from stochloc.training.recipes import Recipe

RECIPE = "recipe.json"
MODEL = "model.safetensors"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Run:
    """A trained model and what is needed to use it.

    Attributes:
        model: The denoiser, in evaluation mode.
        tokenizer: Turns text into its tokens and back.
        recipe: How it was trained.
        data: The text it was trained on.
        folder: Where it is on this machine.
        checkpoint: Which weights these are: those of the best held-out bound, or the last.
        progress: The progress of its training; None if it was not stored.
        lengths: The distribution of the lengths of sequences, in tokens of text; None for a model
            of texts without ends.
    """

    model: LocalizationModel
    tokenizer: Tokenizer
    recipe: Recipe
    data: DataChoice
    folder: Path
    checkpoint: CheckpointName = "best"
    progress: Progress | None = None
    lengths: Lengths | None = None

    @property
    def length(self) -> int:
        """Tokens per window in training."""
        return self.recipe.training.length

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return self.model.head.device

    @property
    def note(self) -> str | None:
        """A note about the weights for the user; None where the best are the last."""
        return None if self.progress is None else note_on_weights(self.progress, self.checkpoint)

    @property
    def weights_used(self) -> str | None:
        """Which weights these are, in words; None where the best are the last."""
        return None if self.progress is None else weights_used(self.progress, self.checkpoint)

    @property
    def weights(self) -> Path:
        """The file that holds the weights."""
        return self.folder / (MODEL if self.checkpoint == "best" else FILE_NAME)

    @property
    def text_length(self) -> int:
        """The most tokens of text in a window, without its label."""
        return self.length - len(frame_of(self.tokenizer))

    def lengths_given(self, label: str | None) -> Lengths | None:
        """Return the distribution of the lengths of sequences in a class.

        Args:
            label: Name of the class; None leaves it open.

        Returns:
            The distribution; None for a model of texts without ends.

        Raises:
            ValueError: There is no such class.
        """
        if label is not None:
            label_token(self.tokenizer, label)
        return None if self.lengths is None else self.lengths.given(label)

    def length_nats(self, length: int, label: str | None = None) -> float:
        """Return `-log P(n|y)` of the length of a sequence; 0 for a model of texts without ends."""
        lengths = self.lengths_given(label)
        return 0.0 if lengths is None else -float(lengths.log_prob(torch.tensor(length)))

    def denoiser(self, label: str | None = None) -> Denoiser:
        """Return the model as a denoiser of text alone, told what stands around it.

        Args:
            label: Name of the text's class; None leaves it open.

        Returns:
            A denoiser of texts of any length.

        Raises:
            ValueError: There is no such class.
        """
        return framed(self.model, self.tokenizer, label)

    def denoiser_for(self, length: int, label: str | None = None) -> Denoiser:
        """Return the model for texts of a length, placed in the middle of a window as in training.

        Args:
            length: Tokens of the text.
            label: Name of its class; None leaves it open.

        Returns:
            A denoiser; longer texts are not padded, and neither are sequences, which have ends.

        Raises:
            ValueError: There is no such class.
        """
        if self.lengths is not None:
            return self.denoiser(label)
        spare = max(0, self.text_length - length)
        return Padded(self.denoiser(label), spare // 2, spare - spare // 2)

    def beside(self, name: str) -> Path:
        """Return the path of a file with something measured for these weights.

        Args:
            name: Its name beside the best weights.

        Returns:
            A path in the run's folder, another one for the last weights.
        """
        path = self.folder / name
        return path if self.checkpoint == "best" else path.with_stem(f"{path.stem}_last")


def write_description(
    folder: Path,
    recipe: Recipe,
    corpus: Corpus | SequenceCorpus,
    data: DataChoice,
    version: str,
    hardware: Hardware,
    lengths: Lengths | None = None,
    source: Mapping[str, str | float] | None = None,
) -> None:
    """Write the resolved recipe and the tokenizer of a run.

    The recipe is written last: a folder with a recipe is a run.

    Args:
        folder: The run's folder, which exists.
        recipe: How the run is trained.
        corpus: What it is trained on; its fingerprint is stored.
        data: The user's name of it; its absolute path is stored too.
        version: Version of this package.
        hardware: Where the run trains.
        lengths: The distribution of the lengths of its sequences, if they are some.
        source: Where its first weights came from, if they were trained before.
    """
    description = {
        "stochloc": version, **recipe.to_dict(), "data": data.__dict__,
        "where": data.absolute().named(), "fingerprint": corpus.fingerprint(),
        "hardware": asdict(hardware), **({} if source is None else {"from": dict(source)}),
    }  # fmt: skip
    write_json(folder / TOKENIZER, corpus.tokenizer.to_dict())
    if lengths is not None:
        write_lengths(folder, lengths)
    write_json(folder / RECIPE, description)


def amend_description(folder: Path, recipe: Recipe, hardware: Hardware) -> None:
    """Write what may change when a run is resumed: its length and where it trains.

    Args:
        folder: The run's folder.
        recipe: How the run is trained from now on.
        hardware: Where it trains from now on.

    Raises:
        ValueError: The folder is not a run, or its description is damaged.
    """
    values = read_json(folder / RECIPE)
    amended = {**values, **recipe.to_dict(), "hardware": asdict(hardware)}
    if amended != values:
        write_json(folder / RECIPE, amended)


def read_hardware(folder: Path) -> Hardware | None:
    """Return where a run has trained.

    Args:
        folder: The run's folder.

    Returns:
        The hardware; None for a run of a version that did not store it.

    Raises:
        ValueError: The folder is not a run, or its description is damaged.
    """
    values = read_json(folder / RECIPE).get("hardware")
    return None if values is None else hardware_from_dict(values)


def read_description(folder: Path) -> tuple[Recipe, Tokenizer, DataChoice]:
    """Return what `write_description` wrote.

    Args:
        folder: The run's folder.

    Returns:
        Recipe, tokenizer and data.

    Raises:
        ValueError: The folder is not a run, or its description is damaged.
    """
    values = read_json(folder / RECIPE)
    tokenizer = tokenizer_from_dict(read_json(folder / TOKENIZER))
    try:
        choice = DataChoice.from_dict(values["data"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / RECIPE} is damaged: no data choice ({error}).") from error
    recipe = Recipe.from_dict(values)
    if tokenizer.labels and not recipe.model.given_tokens:
        raise ValueError(
            f"The run in {folder} was trained by an earlier version, with a label every 64 tokens; "
            "train it again, with one label in front of every window."
        )
    return recipe, tokenizer, choice


@dataclass(frozen=True)
class FoundRun:
    """A run whose description has been read, and whose model has not.

    Attributes:
        name: What the user called it, a folder or the name of a repository on the hub.
        folder: Where it is.
        recipe: How it was trained.
        tokenizer: Its tokenizer.
        data: What it was trained on.
    """

    name: str | Path
    folder: Path
    recipe: Recipe
    tokenizer: Tokenizer
    data: DataChoice

    def open(
        self, device: str | torch.device = "cpu", checkpoint: CheckpointName | None = None
    ) -> Run:
        """Return the run with its model; as `open_run`."""
        folder, tokenizer = self.folder, self.tokenizer
        if not all((folder / name).is_file() for name in ("config.json", MODEL)):
            again = shlex.join(("stochloc", "train", "--out", str(folder), "--resume"))
            raise ValueError(f"{self.name} has no model yet; continue it with: {again}")
        with _naming(folder / "config.json"):
            # The mixin would read a file of any size and ignore unknown names.
            ModelConfig(**read_json(folder / "config.json"))
        with _naming(folder / MODEL):
            model = LocalizationModel.from_pretrained(folder)
        with _naming(folder / FILE_NAME):
            progress = Progress.read(folder)
            checkpoint = weights_to_use(folder, progress) if checkpoint is None else checkpoint
            if checkpoint == "last":
                load_last(model, folder)
        if model.config.vocabulary_size != tokenizer.vocabulary_size:
            raise ValueError(
                f"The model in {self.name} knows {model.config.vocabulary_size} tokens, its "
                f"tokenizer {tokenizer.vocabulary_size}: they do not belong to the same run."
            )
        lengths = read_lengths(folder, tokenizer)
        model = model.to(device).eval()
        return Run(model, tokenizer, self.recipe, self.data, folder, checkpoint, progress, lengths)


def describe_run(run: str | Path) -> FoundRun:
    """Find a run and read its description, which tells what its model can be asked.

    Args:
        run: As `open_run`.

    Returns:
        The run, its model not yet read.

    Raises:
        ValueError: It is not a run, or its description is damaged.
    """
    folder = find_run(run, RECIPE)
    return FoundRun(run, folder, *read_description(folder))


def open_run(
    run: str | Path,
    device: str | torch.device = "cpu",
    checkpoint: CheckpointName | None = None,
) -> Run:
    """Open a run from its folder, or from the Hugging Face hub by name.

    Args:
        run: A folder that `stochloc train` wrote, or the name of a repository on the hub.
        device: Where to put the model.
        checkpoint: Which weights: those of the best held-out bound, or the last, which are in the
            checkpoint from which training continues. In runs of versions that kept only the last
            these count as the best. None takes the best if a later held-out bound was no better,
            and else the last.

    Returns:
        The run.

    Raises:
        ValueError: It is not a run, has no model yet, or its model is damaged or of another shape.
    """
    return describe_run(run).open(device, checkpoint)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn any error about a model's file into one sentence that names the file."""
    try:
        yield
    except (SafetensorError, RuntimeError, TypeError, AttributeError, OSError, ValueError) as error:
        reason = textwrap.shorten(str(error), 300)
        raise ValueError(f"{path} is damaged or of another kind: {reason}") from error
