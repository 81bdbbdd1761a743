"""The command that fills the blanks of a text."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import tyro

from stochloc.cli.by_record import ShareOption, share_of, work_on_file
from stochloc.cli.checks import check_label
from stochloc.cli.options import (
    Count,
    Json,
    Label,
    MaybeCount,
    MaybePath,
    MaybePathName,
    MaybeText,
    OfFile,
    OfWeights,
    Positive,
    ReadingOptions,
    RunFolder,
    TopP,
    Transition,
    Weights,
    optional,
    typed,
    typed_label,
)
from stochloc.cli.output import print_json
from stochloc.cli.unused import Unused, unused_path
from stochloc.terminal import tell

if TYPE_CHECKING:
    from stochloc.tasks.runs import FoundRun


@dataclass
class Infill:
    """Fill the blanks of a text, the most probable answers first."""

    run_folder: RunFolder
    template: Annotated[str | None, tyro.conf.Positional, optional("TEXT")] = None
    """The text: _ is a blank of one token, {3} of three, {2-5} of two to five; {{ is a brace. A
    token is a character for most models, a word or a piece of one for others."""
    file: MaybeText = None
    """A file of such texts, one a line, in place of TEXT: plain, .gz, .bz2, .xz or .zip, a pipe, -
    for standard input, or the records of another format that train --data takes."""
    of_file: OfFile = field(default_factory=ReadingOptions)
    out: MaybePath = None
    """With --file, a file NAME.jsonl for a JSON object a line: every one is written as soon as it
    is known, and the same command goes on after a kill."""
    shard: ShareOption = None
    n: Annotated[Count, tyro.conf.arg(aliases=["-n"])] = 5
    """Largest number of answers."""
    draws: Count = 32
    """Walks for every combination of lengths; equal results count once."""
    constraint: tuple[str, ...] = ()
    """Characters that blanks may hold: aeiou or a-e for all, 2:xyz for the second from the left. A
    token is allowed if all of its characters are."""
    blank: str = "_"
    """What marks a blank of one token."""
    steps: MaybeCount = None
    """Steps of the walk; 64 when absent, and one for every token with --path autoregressive and a
    two-sided model, which then remembers what it has read."""
    path: MaybePathName = None
    """The path to follow; when absent sweep for a two-sided model, spread for any other, or masked
    with a step for every token of a window; tuned: see stochloc tune."""
    policy: str = "path"
    """The policy that allocates SNR, as in sample."""
    all_different: bool = False
    """Tokens that share a coordinate (train --positions) must differ, as in the rows, columns and
    boxes of a Sudoku: the surest are decided first, and what breaks the rule is taken back, for up
    to 500 steps unless --steps says otherwise."""
    transition: Transition = "ancestral"
    temperature: Positive = 1.0
    """Below 1 the draws keep closer to the most probable, above 1 they vary more."""
    top_p: TopP = 1.0
    label: Label = None
    seed: int = 0
    """The same seed gives the same answers."""
    weights: OfWeights = field(default_factory=Weights)
    json: Json = False

    def unused(self) -> Unused:
        """Return the flags that have no effect with the present values."""
        of_file = ("--out", "--shard") if self.file is None else ()
        return {
            **dict.fromkeys(of_file, "without --file"),
            **self.of_file.unused(self.file, "--file"),
            **(
                dict.fromkeys(("--path", "--policy"), "with --all-different")
                if self.all_different
                else unused_path(self.policy)
            ),
        }

    def run(self) -> None:
        """Draw, rank and print."""
        from dataclasses import asdict

        from stochloc.tasks.by_record.filling import FillRecords
        from stochloc.tasks.infill.chosen import chosen_walk
        from stochloc.tasks.infill.fill import Infilling, infill

        if (self.template is None) == (self.file is None):
            raise ValueError("Give either a text with blanks, or a file of them with --file.")
        if self.file is not None:
            if self.out is None:
                raise ValueError("The answers to --file need a file of their own; give --out.")
            share_of(self)
        constraints, blank = tuple(map(typed, self.constraint)), typed(self.blank)
        run = self.weights.open(self._checked(constraints, blank))
        walk = chosen_walk(
            run, self.path, self.steps, self.policy, self.transition, self.temperature, self.top_p,
            self.all_different,
        )  # fmt: skip
        infilling = Infilling(
            self.n, self.draws, walk, seed=self.seed, label=typed_label(self.label)
        )
        if self.file is not None:
            work_on_file(self, self.file, run, FillRecords(run, infilling, constraints, blank))
            return
        template = typed(str(self.template))
        result = infill(run, template, infilling, constraints, blank, tell)
        if self.json:
            print_json({"template": template, **asdict(result)})
            return
        for answer in result.answers:
            # The lines of one answer stand below each other.
            text = answer.text.replace("\n", f"\n{'':16s}")
            print(f"{answer.nats:9.3f} nats  {text}")
        tell(f"stochloc: nats are those of the {result.scored}: {result.ranking}.")

    def _checked(self, constraints: tuple[str, ...], blank: str) -> "FoundRun":
        """Return the run, its model not yet read; refuse what can be refused without it."""
        from stochloc.tasks.infill.templates import check_template
        from stochloc.tasks.policies import PolicyChoice

        found = self.weights.find(self.run_folder)
        check_label(found.tokenizer, self.label)
        PolicyChoice(self.policy).check()
        if self.file is not None:
            self.of_file.reading().check(self.file)
        else:
            check_template(typed(str(self.template)), found.tokenizer, constraints, blank)
        return found
