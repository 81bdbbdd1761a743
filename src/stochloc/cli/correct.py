"""The command that corrects a text."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from stochloc.cli.by_record import ShareOption, share_of, work_on_file
from stochloc.cli.checks import check_data, check_label
from stochloc.cli.options import (
    Count,
    Json,
    Label,
    MaybeFloat,
    MaybePath,
    MaybePathName,
    MaybeText,
    OfFile,
    OfWeights,
    ReadingOptions,
    RunFolder,
    Seed,
    Weights,
    optional,
    typed,
    typed_label,
)
from stochloc.cli.output import print_json
from stochloc.cli.ranges import PROBABILITY, at_least
from stochloc.cli.unused import Unused, unused_path
from stochloc.terminal import tell

if TYPE_CHECKING:
    from stochloc.tasks.correct.chosen import CorrectionChoice
    from stochloc.tasks.correct.reading import Decoder
    from stochloc.tasks.runs import FoundRun, Run

# Names of files for a JSON object a line.
JSON_LINES = (".jsonl", ".ndjson")


@dataclass
class Correct:
    """Correct a corrupted text; the positions of its errors need not be known."""

    run_folder: RunFolder
    text: Annotated[str | None, tyro.conf.Positional, optional("TEXT")] = None
    """The text as read."""
    file: MaybeText = None
    """A file that holds the text, in place of TEXT: plain, .gz, .bz2, .xz or .zip, a pipe, - for
    standard input, or another format that train --data takes, whose records are joined by line
    breaks."""
    of_file: OfFile = field(default_factory=ReadingOptions)
    out: MaybePath = None
    """A file for the corrected text; it is replaced only once all of the text is written. With
    the name NAME.jsonl, every record of --file is corrected by itself and its JSON object written
    as soon as it is known, so that texts larger than memory are corrected, and the same command
    goes on after a kill."""
    shard: ShareOption = None
    snr: Annotated[MaybeFloat, at_least(0)] = None
    """SNR of the soft mask: log-odds of the character that was read against any other one, which
    is what replacing it costs; when absent that of one error of each kind in 200 characters for
    edits, else chosen on validation text."""
    confidences: MaybeText = None
    """How probable it is that each character is right, 0.9,1,0.3 or a JSON list; 1 is certain."""
    examples: MaybeText = None
    """Examples of errors: a table, or JSON Lines, of texts as they were read and of the right ones,
    such as pages of the same scanner that somebody corrected. Errors that are frequent there, one
    character in place of another or several at once, then cost less than others."""
    example_fields: tuple[str, str] = ("read", "right")
    """With --examples, the fields of the texts as they were read, and of the right ones."""
    threshold: Annotated[MaybeFloat, PROBABILITY] = None
    """A change is made if its probability exceeds this; 0.5 or chosen with the SNR when absent."""
    data: MaybeText = None
    """Where the run's own text is now, if it has moved; settings that are absent are chosen on its
    validation part."""
    edits: bool = False
    """Replace, insert, delete and swap characters where that raises the exact likelihood of the
    text by more than the edit costs: the default of two-sided models."""
    one_pass: bool = False
    """Call the model once and keep the length: the default of other models, and of those with
    slots."""
    walk: bool = False
    """Walk: decide the most certain characters first, then call the model again."""
    steps: Count = 32
    """Most steps of the walk."""
    policy: str = "threshold:0.9"
    """The policy that decides the order of the walk, as in sample."""
    path: MaybePathName = None
    """The path of the walk, with --walk --policy path; as in eval when absent."""
    label: Label = None
    seed: Seed = 0
    weights: OfWeights = field(default_factory=Weights)
    json: Json = False

    def unused(self) -> Unused:
        """Return the flags that have no effect with the present values."""
        of_walk = ("--path", "--policy", "--steps", "--seed")
        by_record = {"--confidences": "with --out NAME.jsonl"}
        return {
            **(by_record if self._is_by_record else {"--shard": "without --out NAME.jsonl"}),
            **({} if self.confidences is None else {"--snr": "with --confidences"}),
            **self._unused_examples(),
            **self.of_file.unused(self.file, "--file"),
            **(unused_path(self.policy) if self.walk else dict.fromkeys(of_walk, "without --walk")),
        }

    def _unused_examples(self) -> Unused:
        if self.examples is None:
            return {"--example-fields": "without --examples"}
        return dict.fromkeys(("--snr", "--confidences", "--data"), "with --examples")

    def run(self) -> None:
        """Correct and print."""
        from stochloc.tasks.correct.chosen import CorrectionChoice
        from stochloc.tasks.correct.correct import correct, parse_confidences
        from stochloc.training.checkpoint import replacing

        choice = CorrectionChoice(
            self.edits, self.one_pass, self.walk, self.snr, self.threshold, self.data, self.steps,
            self.policy, self.path, self.seed, typed_label(self.label), self.examples,
            self.example_fields,
        )  # fmt: skip
        if (self.text is None) == (self.file is None):
            raise ValueError("Give either a text to correct or a file with --file.")
        found = self._checked()
        if self._is_by_record:
            self._correct_records(found, choice)
            return
        if self.out is not None:
            _check_target(self.out)
        confidences = None if self.confidences is None else parse_confidences(self.confidences)
        run = self.weights.open(found)
        text = self._read(run) if self.text is None else typed(self.text)
        decoder, snr, confusions = choice.resolve(run, tell)
        result = correct(run, text, decoder, snr, confidences, typed_label(self.label), confusions)
        _hint(run, decoder)
        for note in result.notes:
            tell(f"stochloc: {note}.")
        if not result.changes:
            tell("stochloc: nothing was probable enough to be changed.")
        if self.out is not None:
            with replacing(self.out) as file:
                file.write_bytes(result.content + b"\n")
        if self.json:
            print_json(result.to_dict())
            return
        print(result.text)
        for change in result.changes:
            print(
                f"{change.position + 1:6d}  {change.read!r:>4} -> {change.text!r:4}  "
                f"{change.probability:.3f}"
            )

    def _checked(self) -> "FoundRun":
        """Return the run, its model not yet read; refuse what can be refused without it."""
        from stochloc.tasks.policies import PolicyChoice

        found = self.weights.find(self.run_folder)
        check_label(found.tokenizer, self.label)
        PolicyChoice(self.policy).check()
        check_data(self.data, ReadingOptions().reading())
        if self.file is not None:
            self.of_file.reading().check(self.file)
        elif not self.text:
            raise ValueError("There is no text to correct.")
        return found

    @property
    def _is_by_record(self) -> bool:
        return self.out is not None and self.out.suffix in JSON_LINES

    def _correct_records(self, found: "FoundRun", choice: "CorrectionChoice") -> None:
        from stochloc.tasks.by_record.correcting import CorrectRecords

        if self.file is None:
            raise ValueError(
                f"{self.out} is for the records of a file: give one with --file, or another --out."
            )
        share_of(self)
        run = self.weights.open(found)
        decoder, snr, confusions = choice.resolve(run, tell)
        examples = None if confusions is None else confusions.fingerprint
        resolved = {"snr": snr, "threshold": decoder.threshold, "examples": examples}
        work = CorrectRecords(run, decoder, snr, typed_label(self.label), confusions)
        work_on_file(self, self.file, run, work, resolved)
        _hint(run, decoder)

    def _read(self, run: "Run") -> str:
        from stochloc.data.reading import read_text

        return read_text(str(self.file), run.tokenizer, self.of_file.reading())


def _hint(run: "Run", decoder: "Decoder") -> None:
    if decoder.keeps_places and run.tokenizer.slots is None:
        tell(
            "stochloc: this way keeps the length of a text; --edits, or a model trained with "
            "--slots, also finds lost and added characters."
        )


def _check_target(path: Path) -> None:
    """Refuse a file that cannot be written before anything is computed for it."""
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{path} cannot be written: give a file in a folder that exists.")
