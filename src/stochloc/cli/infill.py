"""The command that fills the blanks of a text."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from stochloc.cli.options import (
    Json,
    MaybeInt,
    MaybePathName,
    OfWeights,
    RunFolder,
    TopP,
    Transition,
    Weights,
    typed,
)
from stochloc.cli.output import print_json
from stochloc.cli.unused import Unused, unused_path
from stochloc.terminal import tell


@dataclass
class Infill:
    """Fill the blanks of a text, the most probable answers first."""

    run_folder: RunFolder
    template: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TEXT")]
    """The text: _ is a blank of one token, {3} of three, {2-5} of two to five; {{ is a brace. A
    token is a character for most models, a word or a piece of one for others."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 5
    """Largest number of answers."""
    draws: int = 32
    """Walks for every combination of lengths; equal results count once."""
    constraint: tuple[str, ...] = ()
    """Characters that blanks may hold: aeiou or a-e for all, 2:xyz for the second from the left. A
    token is allowed if all of its characters are."""
    blank: str = "_"
    """What marks a blank of one token."""
    steps: MaybeInt = None
    """Steps of the walk; 64 when absent, and one for every token with --path autoregressive and a
    two-sided model, which then remembers what it has read."""
    path: MaybePathName = None
    """The path to follow; when absent spread, or masked with a step for every token of a window;
    tuned: see stochloc tune."""
    policy: str = "path"
    """The policy that allocates SNR, as in sample."""
    all_different: bool = False
    """Tokens that share a coordinate (train --positions) must differ, as in the rows, columns and
    boxes of a Sudoku: the surest are decided first, and what breaks the rule is taken back, for up
    to 500 steps unless --steps says otherwise."""
    transition: Transition = "ancestral"
    temperature: float = 1.0
    """Below 1 the draws keep closer to the most probable, above 1 they vary more."""
    top_p: TopP = 1.0
    seed: int = 0
    """The same seed gives the same answers."""
    weights: OfWeights = field(default_factory=Weights)
    json: Json = False

    def unused(self) -> Unused:
        """Return the flags that have no effect with the present values."""
        if self.all_different:
            return dict.fromkeys(("--path", "--policy"), "with --all-different")
        return unused_path(self.policy)

    def run(self) -> None:
        """Draw, rank and print."""
        from dataclasses import asdict

        from stochloc.tasks.infill.chosen import chosen_walk
        from stochloc.tasks.infill.fill import Infilling, infill

        run = self.weights.open(self.run_folder)
        walk = chosen_walk(
            run, self.path, self.steps, self.policy, self.transition, self.temperature, self.top_p,
            self.all_different,
        )  # fmt: skip
        infilling = Infilling(self.n, self.draws, walk, seed=self.seed)
        template, constraints = typed(self.template), [typed(one) for one in self.constraint]
        result = infill(run, template, infilling, constraints, typed(self.blank), tell)
        if self.json:
            print_json({"template": template, **asdict(result)})
            return
        for answer in result.answers:
            print(f"{answer.nats:9.3f} nats  {answer.text}")
        tell(f"stochloc: nats are those of the {result.scored}: {result.ranking}.")
