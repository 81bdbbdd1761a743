"""The command that bounds the probability of a text."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from stochloc.cli.checks import check_data, check_label
from stochloc.cli.options import (
    Json,
    MaybeCount,
    MaybeFromZero,
    MaybePathName,
    MaybeText,
    OfFile,
    OfPolicy,
    OfWeights,
    PolicyOptions,
    ReadingOptions,
    RunFolder,
    Seed,
    Transition,
    Weights,
    choices,
    optional,
    typed_label,
)
from stochloc.cli.output import print_json
from stochloc.cli.ranges import at_least
from stochloc.cli.unused import Unused
from stochloc.terminal import tell, times

if TYPE_CHECKING:
    from stochloc.tasks.runs import Run

Split = Literal["train", "valid", "test", "all"]


@dataclass
class Eval:
    """Bound the probability of a text under a model."""

    run_folder: RunFolder
    data: MaybeText = None
    """A file or folder of any format that train --data takes, a pipe, - for standard input, or a
    corpus by name; the run's own data when absent, and when its tokens are those of its own."""
    of_file: OfFile = field(default_factory=ReadingOptions)
    split: Annotated[Split | None, choices(Split)] = None
    """Which part of the data; the test part of the run's own data, all of any other file."""
    path: MaybePathName = None
    """The path to walk or to integrate along; when absent sweep for a two-sided model, spread for
    any other, or masked with a step for every token; masked with --continuous; tuned: see stochloc
    tune."""
    walk: OfPolicy = field(default_factory=PolicyOptions)
    transition: Transition = "ancestral"
    steps: MaybeCount = None
    """Steps of the walk; with --continuous, denoiser calls per sequence. 64 when absent; one for
    every token with --path autoregressive and a two-sided model, which answers them in one call."""
    continuous: bool = False
    """Take the line integral instead of the finite walk."""
    sequences: Annotated[int, at_least(0)] = 128
    """Windows of text, or whole sequences, evenly spaced; 0 for all."""
    orders: MaybeFromZero = None
    """Also measure how far the model's conditionals are from one joint distribution: the exact
    likelihood from left to right, from right to left and in this many random orders. Costs a
    denoiser call per token and order; a two-sided model takes one for either direction and 0.4 per
    token for a random order."""
    label: Annotated[str | None, optional("STR")] = None
    """Class of the text, for a model trained with --data NAME=FILE,NAME=FILE: of text in classes,
    as the run's own, only that of this class is taken; any other has an unknown class when absent.
    """
    seed: Seed = 0
    weights: OfWeights = field(default_factory=Weights)
    json: Json = False

    def unused(self) -> Unused:
        """Return the flags that have no effect with the present values."""
        of_walk = {"--transition": "with --continuous"} if self.continuous else {}
        return {**self.walk.unused(), **of_walk, **self.of_file.unused(self.data)}

    def run(self) -> None:
        """Bound and report."""
        from stochloc.tasks.evaluate import Evaluation, evaluate_part
        from stochloc.tasks.parts import part_to_evaluate
        from stochloc.tasks.walks import WalkSettings, default_path, default_steps

        found = self.weights.find(self.run_folder)
        check_data(self.data, self.of_file.reading())
        check_label(found.tokenizer, self.label)
        policy = self.walk.choice()
        policy.check()
        run = self.weights.open(found)
        steps = self.steps
        if steps is None:
            steps = default_steps(None if self.continuous else self.path, run, run.length)
        default = "masked" if self.continuous else default_path(steps, run, run.length)
        path = self.path or default
        walk = WalkSettings(path, self.transition, steps, policy)
        evaluation = Evaluation(
            walk, self.continuous, self.sequences, self.seed, self.orders, typed_label(self.label)
        )
        part = part_to_evaluate(run, self.data, self.split, self.of_file.reading())
        evaluated = evaluate_part(run, part, evaluation)
        of_class = "" if evaluation.label is None else f", class {evaluation.label}"
        source = part.described + of_class
        result = {**evaluated.to_dict(), "text": source}
        if result["is_empty"]:
            tell(
                f"stochloc: this bound says nothing about the model: guessing costs "
                f"{evaluated.uniform_bits:.3f} bits per token. Evaluate with "
                "another policy, or with more steps."
            )
        if self.json:
            print_json(result)
            return
        width = max(len(unit) for unit in _UNITS if unit in result) + 3
        for unit in _UNITS:
            if unit not in result:
                continue
            error = result["stderr" if unit == "bits_per_token" else f"{unit}_stderr"]
            spread = "" if error is None else f" ± {error:.4f}"
            print(f"{_named(unit, run):{width}s} {result[unit]:.4f}{spread}")
        route = f"{result['path']} path; " if result["path"] else ""
        is_cut = run.lengths is None
        num = times(result["sequences"], "window" if is_cut else "sequence")
        length = f"{'of' if is_cut else 'of at most'} {times(result['length'], 'token')}"
        print(
            f"{num} {length}, {source}; "
            f"counted: {result['counted']}; {route}{result['estimator']}; "
            f"{times(result['denoiser_calls'], 'denoiser call')}"
        )
        if result["chain_rule"]:
            print(_chain_rule_line(result["chain_rule"]))


_UNITS = (
    "bits_per_token",
    "bits_per_character",
    "bits_per_byte",
    "nats_per_sequence",
    "nats_per_sequence_with_length",
)


def _named(unit: str, run: "Run") -> str:
    """Return the name of a unit; a window of a text is called a window, as in the last line."""
    name = unit.replace("_", " ")
    return name if run.lengths is not None else name.replace("per sequence", "per window")


def _chain_rule_line(figures: dict[str, Any]) -> str:
    error = "" if figures["stderr"] is None else f" ± {figures['stderr']:.4f}"
    random = "".join(f", {bits:.4f}" for bits in figures["random_orders"])
    return (
        f"deviation from the chain rule {figures['deviation_bits_per_token']:.4f}{error} bits per "
        f"token between two orders; left to right {figures['left_to_right']:.4f}, right to left "
        f"{figures['right_to_left']:.4f}{random and ', in random orders' + random[1:]}; "
        f"{times(figures['denoiser_calls'], 'denoiser call')}"
    )
