"""The command line: arguments in, tasks called, results out.

Results go to stdout, progress and warnings to stderr. Bad input ends with exit code 2 and one
sentence. Nothing heavy is imported before a command is chosen, so `--help` answers at once.
"""

import errno
import json
import math
import os
import re
import shlex
import sys
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import tyro

from stochloc.terminal import (
    ReaderGoneError,
    ResultLostError,
    can_show,
    guarded,
    is_first_process,
    say,
    tell,
)

if TYPE_CHECKING:
    from stochloc.tasks.cyclic import CyclicExperiment
    from stochloc.tasks.policies import PolicyChoice
    from stochloc.tasks.runs import Run
    from stochloc.viz.figures import Subject

PathName = Literal["masked", "diffusion", "autoregressive", "block", "rolling", "hybrid", "tuned"]
TransitionName = Literal["ancestral", "euler"]
TokenizerName = Literal["characters", "bytes", "text8"]
CheckpointName = Literal["best", "last"]
CorrectorName = Literal["exact", "together", "least-confident"]
FigureName = Literal["paths", "cyclic", "training", "error", "steps", "calibration", "walk", "all"]
Accelerator = Literal["auto", "cpu", "cuda", "mps"]


def _optional(metavar: str) -> object:
    """Return how help pages show what may be left out; by themselves they speak of {None}|INT."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


MaybeInt = Annotated[int | None, _optional("INT")]
MaybeFloat = Annotated[float | None, _optional("FLOAT")]
MaybeText = Annotated[str | None, _optional("STR")]
MaybePath = Annotated[Path | None, _optional("PATH")]
MaybePathName = Annotated[
    PathName | None,
    _optional("{masked,diffusion,autoregressive,block,rolling,hybrid,tuned}"),
]
MaybeTokenizer = Annotated[
    TokenizerName | None,
    _optional("{characters,bytes,text8}"),
]


@dataclass
class Quickstart:
    """Train a small model on the built-in corpus and show what it can do."""

    out: Path = Path("runs/quickstart")
    """Folder for the run; a run that is already there is shown again, not trained again."""
    seed: int = 0
    """Seed of everything random."""
    json: bool = False
    """Print one JSON object instead of text."""

    def run(self) -> None:
        """Train, bound, sample."""
        from stochloc.tasks.quickstart import quickstart

        results = quickstart(self.out, self.seed, say=tell if self.json else say)
        if self.json:
            _print_json(results)


@dataclass
class Train:
    """Train a localization model on a text."""

    out: Path
    """Folder for the run."""
    data: MaybeText = None
    """A text file (plain, .gz, .bz2, .xz or .zip), a pipe, - for standard input, or a corpus by
    name: text8, builtin; or texts of several classes, NAME=FILE,NAME=FILE, for a model that can be
    asked for one of them."""
    preset: MaybeText = None
    """tiny (the default), small, text8 or text8-paper."""
    steps: MaybeInt = None
    """Number of updates; with --resume it may be larger than it was, and the run goes on by the
    learning rates of one that long."""
    seed: MaybeInt = None
    """Seed of everything random."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint; --data says where its text is now, if it
    has moved."""
    dry_run: bool = False
    """Print the resolved configuration as JSON and stop."""
    tokenizer: MaybeTokenizer = None
    """How text becomes tokens; characters for files, text8 for the corpora known by name."""
    slots: bool = False
    """Lay text out in slots, for a model whose corrections may change the length of a text."""
    valid: MaybeText = None
    """A validation file of its own."""
    test: MaybeText = None
    """A test file of its own."""
    fractions: Annotated[
        tuple[float, float, float] | None,
        _optional("FLOAT FLOAT FLOAT"),
    ] = None
    """Shares of train, validation and test where they are cut from --data; 0.9 0.05 0.05."""
    length: MaybeInt = None
    """Tokens per window."""
    batch_size: MaybeInt = None
    """Windows per update, over all devices together."""
    learning_rate: MaybeFloat = None
    """Peak of the learning rate."""
    warmup_steps: MaybeInt = None
    """Updates of linear warm-up."""
    weight_decay: MaybeFloat = None
    """AdamW's weight decay."""
    ema_decay: MaybeFloat = None
    """Decay of the weights' running average."""
    width: MaybeInt = None
    """Width of the transformer."""
    depth: MaybeInt = None
    """Number of transformer blocks."""
    heads: MaybeInt = None
    """Attention heads per block."""
    eval_every: MaybeInt = None
    """Updates between two held-out bounds."""
    checkpoint_every: MaybeInt = None
    """Updates between two checkpoints."""
    accelerator: Annotated[Accelerator | None, _optional("{auto,cpu,cuda,mps}")] = None
    """Where to train; auto for a new run. A resumed run goes on where it was, as for the three
    below, unless told otherwise."""
    devices: MaybeInt = None
    """Number of devices, one process each; 1 for a new run."""
    strategy: Annotated[Literal["auto", "ddp", "fsdp"] | None, _optional("{auto,ddp,fsdp}")] = None
    """How several devices share the work; auto for a new run."""
    precision: Annotated[
        Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"] | None,
        _optional("{32-true,bf16-mixed,16-mixed,bf16-true}"),
    ] = None
    """Type of the transformer's products: mixed keeps the weights in float32, bf16-true keeps them
    in bfloat16 too; 32-true for a new run. Losses and held-out bounds are float32 in all of them.
    """

    def run(self) -> None:
        """Train, or print what would be trained."""
        from stochloc.tasks import train
        from stochloc.tasks.hardware import Hardware
        from stochloc.tasks.runs import DataChoice, note_on_weights
        from stochloc.training.checkpoint import Progress

        changes = {
            "num_steps": self.steps,
            **{name: getattr(self, name) for name in _RECIPE_FLAGS},
        }
        hardware = {name: getattr(self, name) for name in _HARDWARE_FLAGS}
        if self.resume:
            changes |= {name: getattr(self, name) for name in _RUN_FLAGS}
            changes["slots"] = self.slots or None
            if self.dry_run:
                recipe = train.resumed_description(self.out, changes)[0]
                if self.data or self.valid or self.test:
                    train.resumed_text(self.out, changes)
                _print_json(recipe.to_dict())
                return
            train.resume_run(self.out, changes, hardware, _warn)
        elif self.data is None:
            raise ValueError("Nothing to train on: name a text file or a corpus with --data.")
        else:
            shares = self.fractions or DataChoice.fractions
            choice = DataChoice(self.data, self.valid, self.test, shares)
            preset = "tiny" if self.preset is None else self.preset
            if self.dry_run:
                corpus = train.load_choice(choice, self.tokenizer, self.slots)
                size = corpus.tokenizer.vocabulary_size
                _print_json(train.resolve_recipe(preset, size, changes).to_dict())
                return
            given = {name: value for name, value in hardware.items() if value is not None}
            train.start_run(
                self.out, choice, self.tokenizer, preset, changes, Hardware(**given), self.slots
            )
        progress = Progress.read(self.out)
        note = None if progress is None else note_on_weights(progress, "best")
        if note is not None:
            _warn(note)
        tell(
            f"The model is in {self.out}. Try: {shlex.join(('stochloc', 'sample', str(self.out)))}"
        )


_RECIPE_FLAGS = (
    "seed", "length", "batch_size", "learning_rate", "warmup_steps", "weight_decay", "ema_decay",
    "width", "depth", "heads", "eval_every", "checkpoint_every",
)  # fmt: skip
_HARDWARE_FLAGS = ("accelerator", "devices", "strategy", "precision")
_RUN_FLAGS = ("data", "preset", "tokenizer", "valid", "test", "fractions")


@dataclass
class Eval:
    """Bound the probability of a text under a model."""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run, or a model's name on the Hugging Face hub."""
    data: MaybeText = None
    """A text file, a pipe, - for standard input, or a corpus by name; the run's own data when
    absent, and when its tokens are those of the run's own."""
    split: Annotated[
        Literal["train", "valid", "test", "all"] | None,
        _optional("{train,valid,test,all}"),
    ] = None
    """Which part of the data; the test part of the run's own data, all of any other file."""
    path: MaybePathName = None
    """The path to walk or to integrate along, masked when absent; tuned: see stochloc tune."""
    policy: str = "path"
    """Who hands out SNR: path, confidence, entropy, threshold, share, share-entropy, curvature,
    curvature-difference, tolerance, remdm-cap, remdm-rescale, remdm-conf or remdm-loop; a setting
    may follow, as in tolerance:0.1."""
    corrector_rounds: int = 0
    """Rounds after every step that take tokens back and up again."""
    corrector_share: float = 0.1
    """Share of the tokens a round takes back, the least certain first."""
    corrector_snr: float = 0.0
    """SNR to which a round takes them back; 0 masks them."""
    transition: TransitionName = "ancestral"
    """How the walk takes its steps."""
    steps: int = 64
    """Steps of the walk; with --continuous, denoiser calls per sequence."""
    continuous: bool = False
    """Take the line integral instead of the finite walk."""
    sequences: int = 128
    """Windows of text, evenly spaced; 0 for all."""
    seed: int = 0
    """Seed of all randomness."""
    checkpoint: CheckpointName = "best"
    """Which weights: those of the best held-out bound in training, or the last."""
    accelerator: Accelerator = "auto"
    """Where to compute."""
    json: bool = False
    """Print one JSON object instead of text."""

    def run(self) -> None:
        """Bound and report."""
        from stochloc.tasks.evaluate import Evaluation, evaluate, tokens_to_evaluate
        from stochloc.tasks.policies import PolicyChoice

        run = _open(self.run_folder, self.accelerator, self.checkpoint)
        tokens, source = tokens_to_evaluate(run, self.data, self.split)
        policy = PolicyChoice(
            self.policy, self.corrector_rounds, self.corrector_share, self.corrector_snr
        )
        evaluation = Evaluation(
            _path_name(self.path, policy), self.transition, self.steps, self.continuous,
            self.sequences, self.seed, policy,
        )  # fmt: skip
        result = {**evaluate(run, tokens, evaluation).to_dict(), "text": source}
        if result["is_empty"]:
            tell(
                f"stochloc: this bound says nothing of the model: guessing costs "
                f"{math.log2(run.tokenizer.vocabulary_size):.3f} bits per token. Evaluate with "
                "another policy, or with more steps."
            )
        if self.json:
            _print_json(result)
            return
        for unit in ("bits_per_token", "bits_per_character", "nats_per_sequence"):
            error = result["stderr" if unit == "bits_per_token" else f"{unit}_stderr"]
            spread = "" if error is None else f" ± {error:.4f}"
            print(f"{unit.replace('_', ' '):20s} {result[unit]:.4f}{spread}")
        route = f"{result['path']} path; " if result["path"] else ""
        print(
            f"{result['sequences']} windows of {result['length']} tokens, {source}; "
            f"counted: {result['counted']}; {route}{result['estimator']}; "
            f"{result['denoiser_calls']} denoiser calls"
        )


@dataclass
class Sample:
    """Draw texts from a model."""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run, or a model's name on the Hugging Face hub."""
    n: int = 4
    """Number of texts."""
    length: MaybeInt = None
    """Tokens per text; as many as in training when absent."""
    steps: int = 64
    """Steps of the walk."""
    path: MaybePathName = None
    """The path to follow, masked when absent; tuned: see stochloc tune."""
    policy: str = "path"
    """Who hands out SNR: path, confidence, entropy, threshold, share, share-entropy, curvature,
    curvature-difference, tolerance, remdm-cap, remdm-rescale, remdm-conf or remdm-loop; a setting
    may follow, as in tolerance:0.1."""
    corrector_rounds: int = 0
    """Rounds after every step that take tokens back and up again."""
    corrector_share: float = 0.1
    """Share of the tokens a round takes back."""
    corrector_snr: float = 0.0
    """SNR to which a round takes them back; 0 masks them."""
    corrector: CorrectorName = "exact"
    """Which tokens a round takes back, and how they come up: exact takes them at random and asks
    the model once for each, which keeps the law of the texts; together takes them at random and
    asks once for all; least-confident asks once for those believed least. The last two are cheaper
    and draw likelier, less varied texts."""
    transition: TransitionName = "ancestral"
    """How the walk takes its steps."""
    temperature: float = 1.0
    """Below 1 sharper, above 1 flatter than what was learned."""
    prompt: str = ""
    """Text that every sample begins with."""
    label: MaybeText = None
    """Class of the texts, for a model trained with --data NAME=FILE,NAME=FILE."""
    guidance: float = 1.0
    """How far to lean towards what prompt and label change; 1 follows them, more exaggerates."""
    seed: int = 0
    """The same seed gives the same texts."""
    trace: bool = False
    """Print every step as a line of JSON before the result."""
    checkpoint: CheckpointName = "best"
    """Which weights: those of the best held-out bound in training, or the last."""
    accelerator: Accelerator = "auto"
    """Where to compute."""
    json: bool = False
    """Print one JSON object instead of text."""

    def run(self) -> None:
        """Walk and print."""
        from stochloc.data.legible import legible
        from stochloc.tasks.generate import Generation, Walk, generate_batches
        from stochloc.tasks.policies import PolicyChoice
        from stochloc.tasks.walks import named_transition

        run = _open(self.run_folder, self.accelerator, self.checkpoint)
        policy = PolicyChoice(
            self.policy, self.corrector_rounds, self.corrector_share, self.corrector_snr,
            self.corrector,
        )  # fmt: skip
        name = _path_name(self.path, policy)
        path = policy.path_of(run, name, self.transition, self.steps)
        walk = Walk(
            path, named_transition(self.transition), self.steps, self.temperature, policy,
            self.guidance,
        )  # fmt: skip
        prompt = _typed(self.prompt)
        for note in legible(prompt, run.tokenizer).notes:
            tell(f"stochloc: {note}.")
        length = run.length if self.length is None else self.length
        if length > run.length:
            tell(
                f"stochloc: the model was trained on windows of {run.length} tokens; longer texts "
                "may be poor."
            )
        trace = (lambda step: print(_json(step), flush=True)) if self.trace else None
        label = None if self.label is None else _typed(self.label)
        batches = generate_batches(run, self.n, length, walk, prompt, self.seed, trace, label)
        if self.json or self.trace:
            print(_json(Generation.join(batches).__dict__))
            return
        for batch in batches:
            print("".join(f"{text}\n\n" for text in batch.samples), end="", flush=True)


@dataclass
class Infill:
    """Fill the blanks of a text, the most probable answers first."""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run, or a model's name on the Hugging Face hub."""
    template: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TEXT")]
    """The text: _ is a blank of one token, {3} of three, {2-5} of two to five; {{ is a brace."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 5
    """Most answers wanted."""
    draws: int = 32
    """Walks for every combination of lengths; equal results count once."""
    constraint: tuple[str, ...] = ()
    """Characters that blanks may hold: aeiou or a-e for all, 2:xyz for the second from the left."""
    blank: str = "_"
    """What marks a blank of one token."""
    steps: int = 64
    """Steps of the walk."""
    path: MaybePathName = None
    """The path to follow, masked when absent; tuned: see stochloc tune."""
    policy: str = "path"
    """Who hands out SNR, as in sample."""
    transition: TransitionName = "ancestral"
    """How the walk takes its steps."""
    temperature: float = 1.0
    """Below 1 the draws keep closer to the most probable, above 1 they vary more."""
    seed: int = 0
    """The same seed gives the same answers."""
    checkpoint: CheckpointName = "best"
    """Which weights: those of the best held-out bound in training, or the last."""
    accelerator: Accelerator = "auto"
    """Where to compute."""
    json: bool = False
    """Print one JSON object instead of text."""

    def run(self) -> None:
        """Draw, rank and print."""
        from dataclasses import asdict

        from stochloc.tasks.generate import Walk
        from stochloc.tasks.infill.fill import Infilling, infill
        from stochloc.tasks.policies import PolicyChoice
        from stochloc.tasks.walks import named_transition

        run = _open(self.run_folder, self.accelerator, self.checkpoint)
        policy = PolicyChoice(self.policy)
        name = _path_name(self.path, policy)
        path = policy.path_of(run, name, self.transition, self.steps)
        walk = Walk(path, named_transition(self.transition), self.steps, self.temperature, policy)
        infilling = Infilling(self.n, self.draws, walk, seed=self.seed)
        template, constraints = _typed(self.template), [_typed(one) for one in self.constraint]
        result = infill(run, template, infilling, constraints, _typed(self.blank), tell)
        if self.json:
            _print_json({"template": template, **asdict(result)})
            return
        for answer in result.answers:
            print(f"{answer.nats:9.3f} nats  {answer.text}")


@dataclass
class Correct:
    """Repair a garbled text: no need to say where the errors are."""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run, or a model's name on the Hugging Face hub."""
    text: Annotated[str | None, tyro.conf.Positional, _optional("TEXT")] = None
    """The text as read."""
    file: MaybeText = None
    """A file that holds the text, in place of TEXT: plain, .gz, .bz2, .xz or .zip, a pipe, or - for
    standard input."""
    out: MaybePath = None
    """A file for the corrected text; it is replaced only when the text is whole."""
    snr: MaybeFloat = None
    """SNR of the soft mask: log-odds of the character that was read against any other one; chosen
    on validation text when absent."""
    confidences: MaybeText = None
    """How probable it is that each character is right, 0.9,1,0.3 or a JSON list; 1 is certain."""
    threshold: MaybeFloat = None
    """A change is made if its probability exceeds this; chosen with the SNR when absent."""
    data: MaybeText = None
    """Where the run's own text is now, if it has moved; what is absent is chosen on its validation
    part."""
    one_pass: bool = False
    """Ask the model once: the default, which keeps more of what was right."""
    walk: bool = False
    """Walk: decide the surest characters first and ask again."""
    steps: int = 32
    """Most steps of the walk."""
    policy: str = "threshold:0.9"
    """Who decides the order of the walk, as in sample."""
    path: MaybePathName = None
    """The path of the walk, with --walk --policy path; masked when absent."""
    seed: int = 0
    """Seed of all randomness."""
    checkpoint: CheckpointName = "best"
    """Which weights: those of the best held-out bound in training, or the last."""
    accelerator: Accelerator = "auto"
    """Where to compute."""
    json: bool = False
    """Print one JSON object instead of text."""

    def run(self) -> None:
        """Repair and print."""
        from stochloc.data.reading import read_text
        from stochloc.tasks.correct.calibration import correction_defaults
        from stochloc.tasks.correct.correct import correct, parse_confidences
        from stochloc.tasks.correct.decoding import FullWalk, OnePass
        from stochloc.tasks.policies import PolicyChoice
        from stochloc.training.checkpoint import replacing

        if self.walk and self.one_pass:
            raise ValueError("Give either --walk or --one-pass.")
        if (self.text is None) == (self.file is None):
            raise ValueError("Give either a text to correct or a file with --file.")
        if self.out is not None:
            _check_target(self.out)
        confidences = None if self.confidences is None else parse_confidences(self.confidences)
        run = _open(self.run_folder, self.accelerator, self.checkpoint)
        typed = None if self.text is None else _typed(self.text)
        text = typed if self.file is None else read_text(self.file, run.tokenizer)
        assert text is not None
        threshold, snr = self.threshold, self.snr
        if threshold is None or snr is None:
            defaults = correction_defaults(run, self.data, tell)
            threshold = defaults.threshold if threshold is None else threshold
            snr = defaults.snr if snr is None else snr
        if self.path is not None and not self.walk:
            tell("stochloc: --path is not used without --walk.")
        policy = PolicyChoice(self.policy)
        name = _path_name(self.path if self.walk else None, policy)
        path = policy.path_of(run, name, "ancestral", self.steps)
        walk = FullWalk(threshold, path, policy, self.steps, seed=self.seed)
        repair = walk if self.walk else OnePass(threshold)
        result = correct(run, text, repair, snr, confidences)
        if run.tokenizer.slots is None:
            tell(
                "stochloc: this model keeps the length of a text; one trained with --slots also "
                "finds lost and added characters."
            )
        for note in result.notes:
            tell(f"stochloc: {note}.")
        if self.out is not None:
            with replacing(self.out) as file:
                file.write_bytes(result.content + b"\n")
        if self.json:
            _print_json(result.to_dict())
            return
        print(result.text)
        for change in result.changes:
            print(
                f"{change.position:6d}  {change.read!r:>4} -> {change.text!r:4}  "
                f"{change.probability:.3f}"
            )


@dataclass
class Score:
    """Bound the probability of every line of a text."""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run, or a model's name on the Hugging Face hub."""
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A text file (plain, .gz, .bz2, .xz or .zip), a pipe, or - for standard input; a line with
    characters that the model has never seen gets no price."""
    tokens: bool = False
    """Show what every token costs."""
    path: PathName = "masked"
    """The path to walk or to integrate along."""
    transition: TransitionName = "ancestral"
    """How the walk takes its steps."""
    steps: int = 64
    """Steps of the walk; with --continuous, denoiser calls per line."""
    continuous: bool = False
    """Take the line integral instead of the finite walk."""
    draws: int = 4
    """Walks for every line, whose average is its price; at least two for a ± of each line."""
    seed: int = 0
    """Seed of all randomness."""
    checkpoint: CheckpointName = "best"
    """Which weights: those of the best held-out bound in training, or the last."""
    accelerator: Accelerator = "auto"
    """Where to compute."""
    json: bool = False
    """Print one JSON object instead of text."""

    def run(self) -> None:
        """Price and report."""
        from stochloc.data.reading import read_lines
        from stochloc.tasks.score import Scoring, describe, remarks, score

        run = _open(self.run_folder, self.accelerator, self.checkpoint)
        scoring = Scoring(
            self.path, self.transition, self.steps, self.continuous, self.seed, self.draws
        )
        result = score(run, read_lines(self.file, run.tokenizer), scoring)
        for remark in remarks(result):
            tell(f"stochloc: {remark}")
        if self.json:
            _print_json(result.to_dict(self.tokens))
        else:
            print(describe(result, self.tokens))


@dataclass
class Tune:
    """Find the best paths of few steps for a model, for use as --path tuned."""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run; the result is kept there."""
    transition: TransitionName = "ancestral"
    """How the walk will take its steps."""
    sequences: int = 48
    """Windows of training text to measure on."""
    data: MaybeText = None
    """Where the run's own text is now, if it has moved."""
    seed: int = 0
    """Seed of all randomness."""
    checkpoint: CheckpointName = "best"
    """Which weights: those of the best held-out bound in training, or the last."""
    accelerator: Accelerator = "auto"
    """Where to compute."""
    json: bool = False
    """Print one JSON object instead of text."""

    def run(self) -> None:
        """Measure, keep and report."""
        from stochloc.tasks.tune import tune

        run = _open(self.run_folder, self.accelerator, self.checkpoint)
        result = tune(run, self.transition, self.sequences, self.seed, tell, self.data)
        if self.json:
            _print_json(result)
            return
        print("steps  bits per token (on the text the path was tuned on)")
        for path in result["paths"]:
            print(f"{path['steps']:5d}  {path['bits_per_token']:.4f}")


@dataclass
class Cyclic:
    """Run the paper's exact experiment on cyclic sequences (appendix C.1)."""

    size: int = 7
    """Number of symbols and length of the sequences, K."""
    sequences: int = 1000
    """Sequences per estimate."""
    snr: float = 0.5
    """SNR of the soft mask in the recovery experiment."""
    seed: int = 0
    """Seed of all randomness."""
    figures: MaybePath = None
    """Folder for figures of one generation and one recovery, still and moving."""
    json: bool = False
    """Print one JSON object instead of tables."""

    def run(self) -> None:
        """Run and report."""
        from stochloc.tasks.cyclic import CyclicExperiment, describe

        experiment = CyclicExperiment(self.size, self.sequences, self.snr, self.seed)
        if self.figures is not None:
            _draw_cyclic(experiment, self.figures)
        results = experiment.run()
        if self.json:
            _print_json(results)
        else:
            print(describe(results))


@dataclass
class Plot:
    """Draw a figure as PNG and SVG, with its data as CSV beside it."""

    figure: Annotated[FigureName, tyro.conf.Positional]
    """paths: four paths of two tokens; cyclic: generation and recovery of cyclic data; training:
    the γ of training and of the bound; error: the error over γ and its integral; steps: bounds over
    numbers of steps; calibration: of the posterior; walk: the SNR of every token of a text."""
    out: Path
    """Folder for the files."""
    run_folder: Annotated[str | None, tyro.conf.Positional, _optional("RUN")] = None
    """Folder of the run, or a model's name on the Hugging Face hub; paths and cyclic need none."""
    data: MaybeText = None
    """Held-out text: a file or a corpus by name; the test part of the run's own when absent."""
    sequences: int = 64
    """Windows of held-out text, evenly spaced."""
    paths: tuple[PathName, ...] = (
        "masked", "diffusion", "autoregressive", "block", "rolling", "hybrid",
    )  # fmt: skip
    """The paths of the figure of steps."""
    counts: tuple[int, ...] = (8, 16, 32, 64)
    """The numbers of steps of the figure of steps."""
    length: int = 64
    """Tokens of the walk's text."""
    steps: int = 64
    """Steps of the walk."""
    path: MaybePathName = None
    """The path of the walk, hybrid when absent; tuned: see stochloc tune."""
    policy: str = "path"
    """Who hands out SNR on the walk, as in sample."""
    transition: TransitionName = "ancestral"
    """How the walk takes its steps."""
    size: int = 7
    """Symbols of the cyclic data."""
    snr: float = 0.5
    """SNR of the soft mask in the recovery of cyclic data."""
    seed: int = 0
    """The same seed gives the same data."""
    checkpoint: CheckpointName = "best"
    """Which weights: those of the best held-out bound in training, or the last."""
    accelerator: Accelerator = "auto"
    """Where to compute."""

    def run(self) -> None:
        """Measure, draw and name the files."""
        _need_matplotlib()
        from stochloc.viz.figures import FIGURES, WITHOUT_RUN
        from stochloc.viz.files import check_folder, write

        names = tuple(FIGURES) if self.figure == "all" else (self.figure,)
        if self.run_folder is None and not set(names) <= set(WITHOUT_RUN):
            raise ValueError(
                f"The figure {self.figure} is about a model; name its folder: "
                f"stochloc plot {self.figure} RUN --out DIR."
            )
        check_folder(self.out)
        subject = self._subject()
        for name in names:
            tell(f"drawing {name}")
            for title, picture in FIGURES[name](subject).items():
                for file in write(picture, self.out, title):
                    say(str(file))

    def _subject(self) -> "Subject":
        from stochloc.tasks.cyclic import CyclicExperiment
        from stochloc.tasks.policies import PolicyChoice
        from stochloc.viz.figures import Subject, WalkChoice

        return Subject(
            None
            if self.run_folder is None
            else _open(self.run_folder, self.accelerator, self.checkpoint),
            self.data,
            self.sequences,
            self.counts,
            self.paths,
            WalkChoice(
                _path_name(self.path, PolicyChoice(self.policy), "hybrid"),
                self.policy,
                self.transition,
                self.steps,
                self.length,
            ),
            CyclicExperiment(self.size, recovery_snr=self.snr, seed=self.seed),
            self.seed,
        )


@dataclass
class Compare:
    """Train, score and sample rival methods on one text, with one backbone and one budget."""

    data: str
    """A text file or a corpus by name."""
    out: Path
    """Folder for trials and results; what is there already is used, not run again."""
    methods: str = "all"
    """Names separated by commas, or all: the methods of the paper's Table 1."""
    budget: str = "updates=1500"
    """Training of each method: updates=N, tokens=N or seconds=N."""
    seeds: int = 1
    """Full trials of each method."""
    grid: tuple[float, ...] = (1e-3, 2e-3, 4e-3)
    """Learning rates; each is tried, the best on validation text is taken."""
    short: float = 1.0
    """Share of the budget that a trial of the grid gets; short ones favour rates that are too high
    in the long run."""
    jobs: int = 1
    """Trials at a time, each in a process with its share of the cores."""
    tokenizer: MaybeTokenizer = None
    """How text becomes tokens; characters for files, text8 for the corpora known by name."""
    valid: MaybeText = None
    """A validation file of its own."""
    test: MaybeText = None
    """A test file of its own."""
    fractions: tuple[float, float, float] = (0.9, 0.05, 0.05)
    """Shares of train, validation and test where they are cut from --data."""
    length: int = 128
    """Tokens per window."""
    batch_size: int = 32
    """Windows per update."""
    width: int = 128
    """Width of the transformer."""
    depth: int = 4
    """Number of transformer blocks."""
    heads: int = 4
    """Attention heads per block."""
    windows: int = 192
    """Windows of test text that are scored."""
    samples: int = 32
    """Times drawn per window for bounds that are averages over times."""
    texts: int = 64
    """Sequences drawn at each number of steps."""
    steps: tuple[int, ...] = (8, 32, 128)
    """Numbers of sampling steps."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Precision of the transformer's matrix products in training; all else, bounds and samples
    keep float32."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; some methods need float64, which rules out mps."""
    json: bool = False
    """Print one JSON object instead of the table."""

    def run(self) -> None:
        """Run what is missing, print the table, draw the figures."""
        from stochloc.nn import Backbone
        from stochloc.tasks.compare.compare import Contest, compare, parse_methods
        from stochloc.tasks.compare.trial import Budget, Scoring
        from stochloc.tasks.runs import DataChoice
        from stochloc.training.recipes import TrainingConfig

        contest = Contest(
            DataChoice(self.data, self.valid, self.test, self.fractions),
            self.tokenizer,
            parse_methods(self.methods),
            Budget.parse(self.budget),
            self.seeds,
            self.grid,
            self.short,
            Backbone(self.width, self.depth, self.heads),
            TrainingConfig(self.length, self.batch_size, checkpoint_every=100),
            Scoring(self.windows, self.samples, texts=self.texts, steps=self.steps),
            half_products=self.precision == "bf16-mixed",
        )
        device = _device(self.accelerator)
        device = "cpu" if device == "mps" else device
        comparison = compare(contest, self.out, self.jobs, device, tell)
        # Figures are still to come, so whoever stops reading here does not end the work.
        say(_json(comparison.to_dict(), indent=2) if self.json else comparison.table())
        tell(f"table.md, table.csv and comparison.json are in {self.out}")
        if find_spec("matplotlib") is None:
            again = "pip install 'stochloc[plot]' and give the same command again"
            tell(f"stochloc: no figures: {again}.")
            return
        from stochloc.viz.comparison import pictures
        from stochloc.viz.files import write

        for name, picture in pictures(comparison).items():
            for file in write(picture, self.out, name):
                tell(str(file))


Command = (
    Annotated[Quickstart, tyro.conf.subcommand("quickstart")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Eval, tyro.conf.subcommand("eval")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Infill, tyro.conf.subcommand("infill")]
    | Annotated[Correct, tyro.conf.subcommand("correct")]
    | Annotated[Score, tyro.conf.subcommand("score")]
    | Annotated[Tune, tyro.conf.subcommand("tune")]
    | Annotated[Cyclic, tyro.conf.subcommand("cyclic")]
    | Annotated[Plot, tyro.conf.subcommand("plot")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
)


def main(arguments: list[str] | None = None) -> None:
    """Run one command.

    Args:
        arguments: The command line after the program's name; `sys.argv` when absent.

    Raises:
        SystemExit: With code 2 after bad input or if results cannot be written, 129 after SIGHUP,
            130 after an interruption, 143 after SIGTERM.
    """
    with guarded(), warnings.catch_warnings():
        if not is_first_process():
            warnings.simplefilter("ignore")
        _obey(arguments)


def _obey(arguments: list[str] | None) -> None:
    command = None
    try:
        command = _parse(arguments)
        _check_seed(getattr(command, "seed", None))
        command.run()
        sys.stdout.flush()
    except ReaderGoneError:
        pass  # The reader, `head` say, has seen enough.
    except ResultLostError as error:
        _tell_end(f"The results cannot be written to standard output: {error}.")
        raise SystemExit(2) from None
    except (ValueError, OSError) as error:
        _tell_end(_sentence(error))
        raise SystemExit(2) from None
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error))):
            _raise_once(error)
        _tell_end(
            "There is not enough memory; ask for fewer or shorter texts, a smaller batch or a "
            "smaller model."
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt as stopped:
        # A run in the midst of training says by which signal, and that it is saved.
        _tell_end(f"{stopped} {_to_continue(command)}" if str(stopped) else "interrupted.")
        raise SystemExit(getattr(stopped, "exit_code", 130)) from None
    except Exception as error:
        _raise_once(error)


def _parse(arguments: list[str] | None) -> Any:  # noqa: ANN401
    try:
        return tyro.cli(
            Command,  # pyright: ignore[reportArgumentType]
            prog="stochloc",
            description="Learn, score and generate discrete sequences by stochastic localization.",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
        )
    except SystemExit:
        sys.stdout.flush()  # a help page
        raise


def _tell_end(sentence: str) -> None:
    if _may_tell_end():
        print(f"stochloc: {sentence}", file=sys.stderr, flush=True)


def _raise_once(error: Exception) -> NoReturn:
    if _may_tell_end():
        raise error
    raise SystemExit(1) from None


def _may_tell_end() -> bool:
    if "torch" not in sys.modules:  # too early for several processes
        return True
    from stochloc.training.processes import may_tell_end

    return may_tell_end()


# torch says so in a RuntimeError, on the CPU and on CUDA in different words.
_OUT_OF_MEMORY = re.compile("can't allocate memory|out of memory")


def _check_seed(seed: int | None) -> None:
    if seed is not None and not 0 <= seed < 2**63:
        raise ValueError(f"A seed is a whole number from 0 to 2^63 - 1, not {seed}.")


def _to_continue(command: object) -> str:
    if isinstance(command, Train):
        again = ("stochloc", "train", "--out", str(command.out), "--resume")
        return f"Continue it with: {shlex.join(again)}"
    return "The same command continues it."


def _sentence(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f" ({error.filename})" if error.filename else ""
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some space or choose another folder" if is_full else "choose another place"
        return f"{error.strerror}{place}; {advice}, then try again."
    return " ".join(str(error).split())


def _check_target(path: Path) -> None:
    """Refuse a file that cannot be written before anything is computed for it."""
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{path} cannot be written: give a file in a folder that exists.")


def _need_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise ValueError("Figures need matplotlib: pip install 'stochloc[plot]'.") from None


def _draw_cyclic(experiment: "CyclicExperiment", folder: Path) -> None:
    _need_matplotlib()
    from stochloc.viz import cyclic
    from stochloc.viz.files import check_folder, write

    check_folder(folder)
    for name, picture in cyclic.measure(experiment).items():
        for file in write(picture, folder, f"cyclic-{name}"):
            tell(str(file))


def _open(folder: str, accelerator: str, checkpoint: CheckpointName) -> "Run":
    from stochloc.tasks.runs import open_run

    run = open_run(folder, _device(accelerator), checkpoint)
    if run.note is not None:
        _warn(run.note)
    return run


def _device(accelerator: str) -> str:
    from stochloc.tasks.hardware import available_accelerator

    return available_accelerator(accelerator)


def _warn(line: str) -> None:
    tell(f"stochloc: {line}")


def _path_name(named: str | None, policy: "PolicyChoice", default: str = "masked") -> str:
    """Return the path to walk; a user who names one that the policy does not follow is told."""
    if named is not None and not policy.follows_path:
        tell(
            f"stochloc: --path {named} is not used: the policy {policy.name} follows no path "
            "(--policy path does)."
        )
    return named or default


def _typed(text: str) -> str:
    """Return a text as it was typed, in UTF-8, where Python took its bytes for no text at all."""
    if not re.search("[\udc80-\udcff]", text):
        return text
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        return text


def _print_json(values: dict[str, Any]) -> None:
    print(_json(values, indent=2))


def _json(values: dict[str, Any], indent: int | None = None) -> str:
    from stochloc.training.records import to_json

    text = to_json(values, indent)
    return text if can_show(text) else json.dumps(json.loads(text), indent=indent)
