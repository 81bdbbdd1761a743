"""The command that draws texts."""

from dataclasses import dataclass, field

from stochloc.cli.options import (
    Json,
    MaybeInt,
    MaybePathName,
    MaybeText,
    OfPolicy,
    OfWeights,
    PolicyOptions,
    RunFolder,
    TopP,
    Transition,
    Weights,
    typed,
)
from stochloc.cli.output import as_json
from stochloc.cli.unused import Unused
from stochloc.names import CorrectorName
from stochloc.terminal import tell


@dataclass
class Sample:
    """Draw texts from a model."""

    run_folder: RunFolder
    n: int = 4
    """Number of texts."""
    length: MaybeInt = None
    """Tokens per text; as many as in training when absent."""
    steps: MaybeInt = None
    """Steps of the walk; 64 when absent, and one for every token with --path autoregressive and a
    two-sided model, which then remembers what it has read."""
    path: MaybePathName = None
    """The path to follow; when absent spread, or masked with a step for every token; tuned: see
    stochloc tune."""
    speculate: bool = False
    """Draw from left to right with several tokens to a call of a two-sided model: each call
    verifies a draft of the rest, and the texts keep their distribution. Fewer calls than tokens,
    but each is about the whole text, where --path autoregressive remembers what it has read."""
    walk: OfPolicy = field(default_factory=PolicyOptions)
    corrector: CorrectorName = "exact"
    """Which tokens a round rewinds, and how they are drawn again: exact rewinds random ones and
    calls the model once for each, which preserves the distribution of the texts; together rewinds
    random ones with one call for all; least-confident rewinds those of least confidence with one
    call. The last two are cheaper and draw more probable, less varied texts."""
    transition: Transition = "ancestral"
    temperature: float = 1.0
    """Below 1 sharper, above 1 flatter than what was learned."""
    top_p: TopP = 1.0
    prompt: str = ""
    """Text that every sample begins with."""
    label: MaybeText = None
    """Class of the texts, for a model trained with --data NAME=FILE,NAME=FILE."""
    guidance: float = 1.0
    """Strength of guidance: 1 conditions on prompt and label as learned, more amplifies them."""
    seed: int = 0
    """The same seed gives the same texts."""
    trace: bool = False
    """Print every step as a line of JSON before the result."""
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
        from stochloc.tasks.generate import Generation, generate_batches
        from stochloc.tasks.walks import WalkSettings, default_path, default_steps

        run = self.weights.open(self.run_folder)
        policy = self.walk.choice(self.corrector)
        length = run.length if self.length is None else self.length
        named = self.path or ("autoregressive" if self.speculate else None)
        steps = default_steps(named, run, length) if self.steps is None else self.steps
        path = named or default_path(steps, length)
        walk = WalkSettings(
            path, self.transition, steps, policy, self.temperature,
            self.guidance, self.top_p, self.speculate,
        ).resolve(run)  # fmt: skip
        prompt = typed(self.prompt)
        for note in normalise(prompt, run.tokenizer).notes:
            tell(f"stochloc: {note}.")
        if length > run.length:
            tell(
                f"stochloc: the model was trained on windows of {run.length} tokens; longer texts "
                "may be poor."
            )
        trace = (lambda step: print(as_json(step), flush=True)) if self.trace else None
        label = None if self.label is None else typed(self.label)
        batches = generate_batches(run, self.n, length, walk, prompt, self.seed, trace, label)
        if self.json or self.trace:
            print(as_json(Generation.join(batches).__dict__))
            return
        for batch in batches:
            print("".join(f"{text}\n\n" for text in batch.samples), end="", flush=True)
