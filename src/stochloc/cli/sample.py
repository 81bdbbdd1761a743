"""The command that draws texts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated

from stochloc.cli.checks import check_label
from stochloc.cli.options import (
    Count,
    Json,
    Label,
    MaybeCount,
    MaybePathName,
    OfPolicy,
    OfWeights,
    PolicyOptions,
    Positive,
    RunFolder,
    TopP,
    Transition,
    Weights,
    optional,
    typed,
    typed_label,
)
from stochloc.cli.output import as_json
from stochloc.cli.unused import Unused
from stochloc.names import CorrectorName
from stochloc.terminal import tell

if TYPE_CHECKING:
    from stochloc.data.lengths import Lengths
    from stochloc.tasks.generate import Trace
    from stochloc.tasks.generation import Generation
    from stochloc.tasks.runs import Run
    from stochloc.tasks.walks import Walk


# Between texts of several lines; in ASCII it is one of hyphens.
BORDER = "─" * 40


@dataclass
class Sample:
    """Draw texts from a model."""

    run_folder: RunFolder
    n: Count = 4
    """Number of texts."""
    length: Annotated[str | None, optional("INT|INT-INT")] = None
    """Tokens per text; as many as in training when absent. Of a model of sequences (train
    --sequences) a number or a range such as 5-12: when absent, lengths as in training."""
    steps: MaybeCount = None
    """Steps of the walk; 64 when absent, and one for every token with --path autoregressive and a
    two-sided model, which then remembers what it has read."""
    path: MaybePathName = None
    """The path to follow; when absent sweep for a two-sided model, spread for any other, or masked
    with a step for every token; tuned: see stochloc tune."""
    speculate: bool = False
    """Draw from left to right with several tokens to a call of a two-sided model: each call
    verifies a draft of the rest, and the texts keep their distribution. Fewer calls than tokens,
    but each reads the whole text, where --path autoregressive remembers what it has read."""
    walk: OfPolicy = field(default_factory=PolicyOptions)
    corrector: CorrectorName = "exact"
    """Which tokens a round rewinds, and how they are drawn again: exact rewinds random ones and
    calls the model once for each, which preserves the distribution of the texts; together rewinds
    random ones with one call for all; least-confident rewinds those of least confidence with one
    call. The last two are cheaper and draw more probable, less varied texts."""
    transition: Transition = "ancestral"
    temperature: Positive = 1.0
    """Below 1 sharper, above 1 flatter than the learned distribution."""
    top_p: TopP = 1.0
    prompt: str = ""
    """Text that every sample begins with."""
    label: Label = None
    guidance: float = 1.0
    """Strength of guidance: 1 conditions on prompt and label as learned, more amplifies them."""
    seed: int = 0
    """The same seed gives the same texts."""
    trace: bool = False
    """Print every step as a line of JSON before the result, and with this the SNR that each token
    received before it was decided."""
    weights: OfWeights = field(default_factory=Weights)
    json: Json = False

    def unused(self) -> Unused:
        """Return the flags that have no effect with the present values."""
        if not self.speculate:
            return self.walk.unused()
        others = (
            "--steps", "--transition", "--trace", "--policy", "--corrector-rounds",
            "--corrector-share", "--corrector-snr", "--corrector",
        )  # fmt: skip
        return dict.fromkeys(others, "with --speculate")

    def run(self) -> None:
        """Walk and print."""
        from stochloc.data.normalisation import normalise
        from stochloc.tasks.generate_sequences import parse_lengths
        from stochloc.tasks.generation import Generation

        if self.length is not None:
            parse_lengths(self.length)
        found = self.weights.find(self.run_folder)
        prompt = normalise(typed(self.prompt), found.tokenizer)
        prompt.known_only()
        check_label(found.tokenizer, self.label)
        self.walk.choice(self.corrector).check()
        run = self.weights.open(found)
        for note in prompt.notes:
            tell(f"stochloc: {note}.")
        lengths = run.lengths_given(typed_label(self.label))
        batches = self._texts(run) if lengths is None else self._sequences(run, lengths)
        if self.json or self.trace:
            print(as_json(Generation.join(batches).to_dict(self.trace)))
            return
        end = "\n\n" if run.lengths is None else "\n"
        is_bordered, is_first = False, True
        for batch in batches:
            # From the first text of several lines on, a border shows where each of them ends.
            is_bordered = is_bordered or any("\n" in text for text in batch.samples)
            border = f"{BORDER}{end}" if is_bordered else ""
            shown = "".join(f"{border}{text}{end}" for text in batch.samples)
            print(shown.removeprefix(border) if is_first else shown, end="", flush=True)
            is_first = False

    def _texts(self, run: "Run") -> "Iterator[Generation]":
        from stochloc.tasks.generate import generate_batches
        from stochloc.tasks.generate_sequences import parse_lengths

        length = run.text_length
        if self.length is not None:
            length, longest = parse_lengths(self.length)
            if length != longest:
                raise ValueError(
                    "A range of lengths is for models of sequences, train --sequences; give one "
                    f"number of tokens, not {self.length}."
                )
        if length > run.text_length:
            tell(
                f"stochloc: the model was trained on windows of {run.text_length} tokens; longer "
                "texts may be poor."
            )
        return generate_batches(run, self.n, length, self._walk(run, length), *self._asked())

    def _sequences(self, run: "Run", lengths: "Lengths") -> "Iterator[Generation]":
        from stochloc.tasks.generate_sequences import generate_sequences, parse_lengths

        if self.length is not None:
            lengths = lengths.within(*parse_lengths(self.length))
        walk_for = partial(self._walk, run)
        return generate_sequences(run, self.n, lengths, walk_for, *self._asked())

    def _walk(self, run: "Run", length: int) -> "Walk":
        """Return how to walk texts of a length."""
        from stochloc.tasks.walks import WalkSettings, path_and_steps

        policy = self.walk.choice(self.corrector)
        named = self.path or ("autoregressive" if self.speculate else None)
        path, steps = path_and_steps(named, self.steps, run, length)
        return WalkSettings(
            path, self.transition, steps, policy, self.temperature, self.guidance, self.top_p,
            self.speculate,
        ).resolve(run)  # fmt: skip

    def _asked(self) -> tuple[str, int, "Trace | None", str | None]:
        trace = (lambda step: print(as_json(step), flush=True)) if self.trace else None
        return typed(self.prompt), self.seed, trace, typed_label(self.label)
