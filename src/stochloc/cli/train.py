"""The command that trains a model, or prints what would be trained."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from stochloc.cli.options import (
    Accelerator,
    Fractions,
    MaybeCount,
    MaybeFloat,
    MaybeFromZero,
    MaybeInt,
    MaybeText,
    OfFile,
    ReadingOptions,
    TestText,
    Tokenizer,
    ValidText,
    choices,
    optional,
)
from stochloc.cli.output import print_json, warn
from stochloc.cli.ranges import POSITIVE, Range, at_least
from stochloc.cli.unused import Unused, unused_shares
from stochloc.names import ArchitectureName, LawName, LoggerName, OptimizerName
from stochloc.terminal import tell

if TYPE_CHECKING:
    from stochloc.tasks.data_choice import DataChoice
    from stochloc.tasks.hardware import Hardware
    from stochloc.training.recipes import Recipe

Strategy = Literal["auto", "ddp", "fsdp"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"]


@dataclass
class Train:
    """Train a localization model on a text."""

    out: Path
    """Folder for the run."""
    data: Annotated[tuple[str, ...], optional("STR ...")] = ()
    """A text file (plain, .gz, .bz2, .xz or .zip), a folder, a .jsonl, .json, .csv, .tsv, .parquet
    or FASTA file, a pipe, - for standard input, hf:NAME for a Hugging Face data set, or a corpus by
    name: text8, builtin. Several of these are a mixture. Or texts of several classes,
    NAME=FILE,NAME=FILE, for a model that can be asked for one of them."""
    of_file: OfFile = field(default_factory=ReadingOptions)
    weights: Annotated[tuple[float, ...], optional("FLOAT ...")] = ()
    """The share of each of several --data among training and held-out windows, in any unit; their
    sizes when absent."""
    preset: MaybeText = None
    """tiny (the default), puzzle, small, text8 or text8-paper."""
    architecture: Annotated[ArchitectureName | None, choices(ArchitectureName)] = None
    """The network; the preset's when absent. two-sided for text: each token is predicted from its
    left and its right and learned from in every window, and score, infill and correct get exact
    likelihoods in one call. mostly-left is the same with three of four blocks on the left: better
    from left to right, a little worse on other paths. encoder for puzzles such as Sudoku, where
    every place must look at all others many times over. dit for the transformer of the
    masked-diffusion literature, which sees all places too."""
    steps: MaybeCount = None
    """Number of updates; with --resume it may be larger than it was, and the run goes on with
    the learning rates of one that long."""
    seed: MaybeInt = None
    """Seed of all randomness."""
    from_run: Annotated[
        str | None, tyro.conf.arg(name="from", metavar="RUN", help_behavior_hint="")
    ] = None
    """A trained run to begin with, a folder or a name on the Hugging Face hub: its weights,
    tokens and recipe, on other data; flags replace what the recipe says of the training."""
    freeze: Annotated[str | None, optional("NAME,NAME")] = None
    """Parts of the model whose weights stay as they begin, by their names in its file: codebook,
    embeddings, head, or transformer and what is in it."""
    code_dimension: MaybeInt = None
    """Learn codes of so many dimensions; with --from they are new ones, of which a model that has
    only seen masks, such as an imported one, loses nothing. The preset's, or the run's own, when
    absent."""
    mask_lead: MaybeFloat = None
    """With --from, of a model with a mask slot: begin with a mask that outweighs all tokens at zero
    SNR by so many nats. An imported mask leads by 20, so that no noisy token below is seen; 3
    leaves it 95 % of the weight there."""
    law: Annotated[LawName | None, choices(LawName)] = None
    """Which SNRs training shows; the preset's, or those of the run in --from, when absent. sentence
    is the paper's, masked diffusion has masks."""
    patience: MaybeFromZero = None
    """End training when this many held-out bounds in turn were no better than the best one; 0, the
    default, for never. With --resume it may differ from what it was."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint; --data says where its text is now, if it
    has moved."""
    dry_run: bool = False
    """Print the resolved configuration as JSON and stop; the hardware is given as requested."""
    tokenizer: Tokenizer = None
    sequences: bool = False
    """Every line of the text is one sequence, with a beginning, an end and a length of its own: a
    name, a protein, a verse. The model learns whole sequences and the distribution of their
    lengths. Each is in training, validation or test part as a whole."""
    slots: bool = False
    """Lay text out in slots, for a model whose corrections may change the length of a text."""
    valid: ValidText = None
    test: TestText = None
    fractions: Fractions = None
    positions: MaybeText = None
    """What the places of a sequence mean, whatever stands there: rotary (the default) says only
    how far apart two tokens are; learned has a vector for every place, for records of one form;
    grid:9x9 knows the row and the column of a cell, and grid:9x9:3x3 its box as well; a file, CSV
    or JSON, gives whole numbers of your own for every place in turn, such as voice and beat."""
    length: MaybeCount = None
    """Tokens per window. With --sequences the most tokens of a sequence, its two boundaries
    included: longer ones are cut; when absent, what the longest takes, up to four windows of the
    preset."""
    batch_size: MaybeCount = None
    """Windows per update, over all devices together; with --sequences, an update has as
    many sequences of similar length as fill that many windows."""
    optimizer: Annotated[OptimizerName | None, choices(OptimizerName)] = None
    """The preset's, or that of the run in --from, when absent. muon, tiny's, makes the steps of
    linear layers' weights orthogonal and learns sooner; adamw has a step size for every weight, and
    is best at half of tiny's learning rate."""
    learning_rate: Annotated[MaybeFloat, POSITIVE] = None
    """Peak of the learning rate."""
    warmup_steps: MaybeFromZero = None
    """Updates of linear warm-up."""
    weight_decay: Annotated[MaybeFloat, at_least(0)] = None
    """Decay of weight matrices, whichever the optimizer."""
    ema_decay: Annotated[MaybeFloat, Range(0, 1, without_most=True)] = None
    """Decay of the weights' running average."""
    width: MaybeCount = None
    """Width of the transformer."""
    depth: MaybeCount = None
    """Number of transformer blocks."""
    heads: MaybeCount = None
    """Attention heads per block."""
    eval_every: MaybeCount = None
    """Updates between two held-out bounds."""
    checkpoint_every: MaybeCount = None
    """Updates between two checkpoints."""
    accelerator: Annotated[Accelerator | None, choices(Accelerator)] = None
    """Where to train; auto for a new run. A resumed run goes on where it was, as for the four
    below, unless told otherwise."""
    devices: MaybeCount = None
    """Number of devices of every machine, one process each; 1 for a new run. torchrun decides it,
    and the number of machines, itself."""
    num_nodes: MaybeCount = None
    """Number of machines, on each of which the command is started; 1 for a new run."""
    strategy: Annotated[Strategy | None, choices(Strategy)] = None
    """How several devices share the work: ddp, the default, holds the model in each of them, fsdp
    a part of it."""
    precision: Annotated[Precision | None, choices(Precision)] = None
    """Type of the transformer's products: mixed keeps the weights in float32, bf16-true keeps them
    in bfloat16 too; 32-true for a new run. Losses and held-out bounds are float32 in all of them.
    """
    accumulate: MaybeCount = None
    """Compute every update in so many parts, one after the other, in less memory: the same numbers
    to rounding; 1 for a new run."""
    checkpoint_activations: bool = False
    """Compute what blocks did once more for the gradient instead of keeping it: the same numbers in
    less memory and more time. A resumed run goes on with it, as with --compile."""
    compile: bool = False
    """Compile the blocks of the network: the same numbers to rounding, sooner after a minute or so;
    on CPUs it needs a C++ compiler."""
    logger: Annotated[tuple[LoggerName, ...], choices(LoggerName)] = ()
    """Show metrics elsewhere too, beside metrics.jsonl: in TensorBoard, by event files in the run's
    folder, or in Weights & Biases (WANDB_MODE=offline to send nothing). Several may be named; each
    needs the extra of its name."""

    def unused(self) -> Unused:
        """Return the flags that have no effect with the present values."""
        alone = {"--weights": "with one --data"} if len(self.data) == 1 else {}
        shown = {"--logger": "with --dry-run"} if self.dry_run else {}
        fixed = {} if self.from_run is None else dict.fromkeys(_OF_THE_MODEL, "with --from")
        begun = {"--from": "with --resume", "--mask-lead": "with --resume"} if self.resume else {}
        if self.from_run is None and not self.resume:
            begun = {"--mask-lead": "without --from"}
        return {**unused_shares(self.valid, self.test), **alone, **fixed, **begun, **shown}

    def run(self) -> None:
        """Train, or print what would be trained."""
        from stochloc.training.interruption import Stopped

        try:
            if self.resume:
                self._resume()
            else:
                self._start()
        except Stopped:
            self._tell_weights()
            raise
        if not self.dry_run:
            self._tell_end()

    def _start(self) -> None:
        """Train a new run."""
        from stochloc.tasks import train
        from stochloc.tasks.data_choice import DataChoice
        from stochloc.tasks.hardware import Hardware
        from stochloc.tasks.machines import as_started

        if not self.data:
            raise ValueError("Nothing to train on: name a text file or a corpus with --data.")
        shares = self.fractions or DataChoice.fractions
        choice = DataChoice(
            self.data[0], self.valid, self.test, shares, self.sequences,
            field=self.of_file.field, hf_split=self.of_file.hf_split,
            more_data=self.data[1:], weights=self.weights,
        )  # fmt: skip
        hardware = Hardware().changed(as_started(self._hardware()))
        changes = self._changes()
        if self.from_run is not None:
            self._start_from(choice, changes, hardware)
            return
        preset = "tiny" if self.preset is None else self.preset
        if not self.dry_run:
            train.start_run(
                self.out, choice, self.tokenizer, preset, changes, hardware, self.slots, self.logger
            )
            return
        corpus = choice.load(self.tokenizer, self.slots)
        recipe = train.resolve_recipe(preset, corpus, changes)
        _print_resolved(recipe, hardware, train.describe_data(corpus, recipe))

    def _start_from(
        self, choice: "DataChoice", changes: dict[str, Any], hardware: "Hardware"
    ) -> None:
        """Train a run that begins with a trained model."""
        from stochloc.tasks import train
        from stochloc.tasks.parent import Parent

        assert self.from_run is not None
        if not self.dry_run:
            train.start_from(
                self.from_run, self.out, choice, changes, hardware, self.logger, self.mask_lead
            )
            return
        parent = Parent.open(self.from_run, self.mask_lead)
        corpus, recipe = parent.load(parent.fitting(choice)), parent.recipe(changes)
        said = {**train.describe_data(corpus, recipe), "from": parent.to_dict()}
        _print_resolved(recipe, hardware, said)

    def _resume(self) -> None:
        """Train on."""
        from stochloc.tasks import resuming, train
        from stochloc.tasks.hardware import Hardware
        from stochloc.tasks.machines import as_started
        from stochloc.tasks.runs import read_hardware

        switches = self._switched_on(_SWITCHES)
        named = {**self._named(_RUN_FLAGS), **self._named_data()}
        changes = {**self._changes(), **named, **switches}
        hardware = as_started(self._hardware())
        if not self.dry_run:
            train.resume_run(self.out, changes, hardware, warn, self.logger)
            return
        recipe = resuming.resumed_description(self.out, changes)[0]
        if self.data or self.valid or self.test:
            resuming.resumed_text(self.out, changes)
        kept = read_hardware(self.out) or Hardware()
        _print_resolved(recipe, kept.changed(hardware))

    def _changes(self) -> dict[str, Any]:
        """Return what the user named of the recipe; None where nothing."""
        freeze = None if self.freeze is None else tuple(self.freeze.split(","))
        return {"num_steps": self.steps, "freeze": freeze, **self._named(_RECIPE_FLAGS)}

    def _hardware(self) -> dict[str, Any]:
        """Return what the user named of the hardware; None where nothing."""
        return {**self._named(_HARDWARE_FLAGS), **self._switched_on(_HARDWARE_SWITCHES)}

    def _switched_on(self, flags: Iterable[str]) -> dict[str, Any]:
        """Return the switches that are on: one that is left out says nothing of a run."""
        return {flag: value or None for flag, value in self._named(flags).items()}

    def _named(self, flags: Iterable[str]) -> dict[str, Any]:
        return {flag: getattr(self, flag) for flag in flags}

    def _named_data(self) -> dict[str, Any]:
        """Return what the user named of the data of a run; None where nothing."""
        data, *more = self.data or (None,)
        return {
            "data": data, "more_data": tuple(more) if self.data else None,
            "weights": self.weights or None,
            "field": self.of_file.field, "hf_split": self.of_file.hf_split,
        }  # fmt: skip

    def _tell_end(self) -> None:
        """Say which weights commands use, and how to go on."""
        self._tell_weights()
        tell(
            f"The model is in {self.out}. Try: {shlex.join(('stochloc', 'sample', str(self.out)))}"
        )

    def _tell_weights(self) -> None:
        """Say which weights commands use, if those of the best bound are not the last."""
        from stochloc.tasks.chosen_weights import note_on_weights, weights_to_use
        from stochloc.training.checkpoint import Progress

        if (progress := Progress.read(self.out)) is not None:
            note = note_on_weights(progress, weights_to_use(self.out, progress))
            if note is not None:
                warn(note)


def _print_resolved(
    recipe: "Recipe", hardware: "Hardware", of_data: Mapping[str, Any] | None = None
) -> None:
    from stochloc.tasks.train import summary

    print_json({**recipe.to_dict(), **(of_data or {}), "hardware": asdict(hardware)})
    warn(summary(recipe, of_data or {}))


_RECIPE_FLAGS = (
    "seed", "length", "batch_size", "optimizer", "learning_rate", "warmup_steps", "weight_decay",
    "ema_decay", "law", "patience", "architecture", "code_dimension", "positions", "width",
    "depth", "heads", "eval_every", "checkpoint_every",
)  # fmt: skip
_HARDWARE_FLAGS = (
    "accelerator", "devices", "num_nodes", "strategy", "precision", "accumulate",
)  # fmt: skip
_HARDWARE_SWITCHES = ("checkpoint_activations", "compile")
_RUN_FLAGS = ("preset", "tokenizer", "valid", "test", "fractions")
_SWITCHES = ("slots", "sequences")
# What the model in --from has decided.
_OF_THE_MODEL = (
    "--preset", "--tokenizer", "--architecture", "--positions", "--width", "--depth", "--heads",
    "--slots",
)  # fmt: skip
