"""Options that several commands share, each with its help.

An option is an annotated type, so that it is described once and each command decides its order.
Options that act together are a dataclass with a method; `tyro.conf.arg(name="")` keeps its flags
flat.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import tyro

from stochloc.cli.output import warn
from stochloc.cli.ranges import POSITIVE, SHARE, at_least
from stochloc.cli.unused import Unused, unused_path
from stochloc.names import (
    POLICIES,
    TOKENIZERS,
    CheckpointName,
    CorrectorName,
    PathName,
    TransitionName,
)

if TYPE_CHECKING:
    from stochloc.data.records import Reading
    from stochloc.tasks.policies import PolicyChoice
    from stochloc.tasks.runs import FoundRun, Run

Accelerator = Literal["auto", "cpu", "cuda", "mps"]


def optional(metavar: str, help: str | None = None) -> object:
    """Return how help pages show an optional value, in place of tyro's {None}|INT.

    Args:
        metavar: The placeholder for the value.
        help: What the option does; None where the command says so itself.

    Returns:
        An annotation for tyro.
    """
    return tyro.conf.arg(metavar=metavar, help=help, help_behavior_hint="")


def choices(names: object, help: str | None = None) -> object:
    """Return how help pages show an optional choice of names.

    Args:
        names: A `Literal`.
        help: What the option does; None where the command says so itself.

    Returns:
        An annotation for tyro.
    """
    return optional("{" + ",".join(get_args(names)) + "}", help)


MaybeInt = Annotated[int | None, optional("INT")]
MaybeFloat = Annotated[float | None, optional("FLOAT")]
Count = Annotated[int, at_least(1)]
MaybeCount = Annotated[MaybeInt, at_least(1)]
MaybeFromZero = Annotated[MaybeInt, at_least(0)]
Positive = Annotated[float, POSITIVE]
MaybeText = Annotated[str | None, optional("STR")]
MaybePath = Annotated[Path | None, optional("PATH")]
MaybePathName = Annotated[PathName | None, choices(PathName)]

RunFolder = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="RUN", help="Folder of the run, or a model's name on the Hugging Face hub."
    ),
]
OwnText = Annotated[
    str | None, optional("STR", "Where the run's own text is now, if it has moved.")
]
ValidText = Annotated[str | None, optional("STR", "A validation file of its own.")]
TestText = Annotated[str | None, optional("STR", "A test file of its own.")]
Fractions = Annotated[
    tuple[float, float, float] | None,
    optional(
        "FLOAT FLOAT FLOAT",
        "Shares of train, validation and test where they are cut from --data; 0.9 0.05 0.05.",
    ),
]
Tokenizer = Annotated[
    str | None,
    optional(
        "{" + ",".join(TOKENIZERS) + "}",
        "How text becomes tokens; characters for files, text8 for the corpora known by name. words "
        "are what white space separates, words:train those of the training part alone; bpe:8000 "
        "learns 8,000 subwords from the text; FILE.json and hub:NAME are tokenizers of the package "
        "tokenizers, or a run's tokenizer.json.",
    ),
]
Policy = Annotated[
    str,
    tyro.conf.arg(
        help=f"Policy that allocates SNR: {', '.join(POLICIES[:-1])} or {POLICIES[-1]}; a "
        "setting may follow, as in tolerance:0.1."
    ),
]
Transition = Annotated[TransitionName, tyro.conf.arg(help="How the walk takes its steps.")]
TopP = Annotated[
    float,
    SHARE,
    tyro.conf.arg(
        help="Draw every token from the fewest most likely ones that have this probability "
        "together; 1 draws from all."
    ),
]
Label = Annotated[
    str | None,
    optional(
        "STR",
        "Class of the text, for a model trained with --data NAME=FILE,NAME=FILE; unknown when "
        "absent.",
    ),
]
Seed = Annotated[int, tyro.conf.arg(help="Seed of all randomness.")]
Json = Annotated[bool, tyro.conf.arg(help="Print one JSON object instead of text.")]


@dataclass
class Weights:
    """Which weights of a run to use, and on which device."""

    checkpoint: Annotated[CheckpointName | None, choices(CheckpointName)] = None
    """Which weights: those of the best held-out bound in training, or the last. When absent the
    best if a later bound was no better, else the last."""
    accelerator: Accelerator = "auto"
    """Where to compute."""

    def find(self, folder: str) -> "FoundRun":
        """Find a run, to check what a user gave before its model is opened.

        Args:
            folder: Folder of the run, or a name on the hub.

        Returns:
            The run, its model not yet read.

        Raises:
            ValueError: It is not a run, or its description is damaged.
        """
        from stochloc.tasks.runs import describe_run

        return describe_run(folder)

    def open(self, run: "str | FoundRun") -> "Run":
        """Open a run, with a note on stderr if its weights are not those of its last step.

        Args:
            run: Folder of the run, or a name on the hub; or what `find` returned.

        Returns:
            The run.

        Raises:
            ValueError: It is not a run, or its model is damaged.
        """
        found = self.find(run) if isinstance(run, str) else run
        opened = found.open(device(self.accelerator), self.checkpoint)
        if opened.note is not None:
            warn(opened.note)
        return opened


@dataclass
class ReadingOptions:
    """How files with fields are read."""

    field: MaybeText = None
    """The field of the file that is the text, for .jsonl, .json, .csv, .tsv, .parquet and hf:NAME;
    a field within a field is named with a dot, a column of .csv or .tsv also by its number."""
    hf_split: MaybeText = None
    """The split of a Hugging Face data set; train, or the only one, when absent."""

    def unused(self, data: object, flag: str = "--data") -> Unused:
        """Return the flags that have no effect.

        Args:
            data: What the user gave as data; None for nothing.
            flag: The flag that gives it.
        """
        return {} if data else dict.fromkeys(("--field", "--hf-split"), f"without {flag}")

    def reading(self) -> "Reading":
        """Return how to read what the user names as data."""
        from stochloc.data.records import Reading

        return Reading(self.field, self.hf_split)


@dataclass
class PolicyOptions:
    """The policy of a walk, and rounds of a corrector after its steps."""

    policy: Policy = "path"
    corrector_rounds: Annotated[int, at_least(0)] = 0
    """Corrector rounds after every step, which rewind tokens and draw them again."""
    corrector_share: Annotated[float, SHARE] = 0.1
    """Share of the tokens that a round rewinds."""
    corrector_snr: Annotated[float, at_least(0)] = 0.0
    """SNR to which a round rewinds them; 0 masks them."""

    def unused(self) -> Unused:
        """Return the flags that have no effect with the present values."""
        if self.corrector_rounds:
            return unused_path(self.policy)
        of_rounds = ("--corrector", "--corrector-share", "--corrector-snr")
        return {
            **unused_path(self.policy),
            **dict.fromkeys(of_rounds, "without --corrector-rounds"),
        }

    def choice(self, corrector: CorrectorName = "exact") -> "PolicyChoice":
        """Return the choice.

        Args:
            corrector: Which tokens a round rewinds, and how they are raised again.

        Returns:
            The policy with its corrector, by name.
        """
        from stochloc.tasks.policies import PolicyChoice

        return PolicyChoice(
            self.policy, self.corrector_rounds, self.corrector_share, self.corrector_snr, corrector
        )


OfWeights = Annotated[Weights, tyro.conf.arg(name="")]
OfFile = Annotated[ReadingOptions, tyro.conf.arg(name="")]
OfPolicy = Annotated[PolicyOptions, tyro.conf.arg(name="")]


def device(accelerator: str) -> str:
    """Return the device that an accelerator means on this machine.

    Args:
        accelerator: One of `Accelerator`.

    Returns:
        The name of a device of torch.

    Raises:
        ValueError: There is no such device here.
    """
    from stochloc.tasks.hardware import own_device

    return own_device(accelerator)


def typed_label(label: str | None) -> str | None:
    """Return the name of a class as `typed` reads it; None where there is none."""
    return None if label is None else typed(label)


def typed(text: str) -> str:
    """Return an argument as UTF-8 where Python could not decode its bytes in the locale.

    Args:
        text: An argument of the command line.

    Returns:
        The text; with escaped bytes where they are not UTF-8.
    """
    if not re.search("[\udc80-\udcff]", text):
        return text
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        return text
