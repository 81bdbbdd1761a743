"""Scoring the records of a file, many at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from stochloc.core import between
from stochloc.data.records import Record
from stochloc.tasks.batches import MOST_TOKENS
from stochloc.tasks.by_record.work import ERROR, Result, capital
from stochloc.tasks.runs import Run
from stochloc.tasks.score import score_named
from stochloc.tasks.scored import ScoredLine, Scoring

# Of a line that takes one call, so that lines of many lengths fill their batches.
_FULL_CALLS = 16


@dataclass(frozen=True)
class ScoreRecords:
    """The cost of every record: see `tasks.score`.

    Attributes:
        run: The model and its tokenizer.
        scoring: How to score.
        tokens: Whether to give the cost of every token too.
    """

    run: Run
    scoring: Scoring
    tokens: bool = False

    name = "score"
    most_records = 8192

    @property
    def most_characters(self) -> int:
        """Fewer where a line takes many calls, so that a kill does not cost hours."""
        one_call = between(self.run.model) is not None and not self.scoring.continuous
        one_call = one_call and self.scoring.walk.path == "autoregressive"
        return MOST_TOKENS * (_FULL_CALLS if one_call else 1)

    def results(self, records: Sequence[Record]) -> list[Result]:
        """Return the costs of records.

        Args:
            records: At least one.

        Returns:
            What `ScoredLine.to_dict` gives; an error of records that are refused.
        """
        lines = [(capital(record.name), record.text) for record in records]
        return [self._result(line) for line in score_named(self.run, lines, self.scoring).lines]

    def _result(self, line: ScoredLine) -> Result:
        if line.refused is not None:
            return {ERROR: line.refused}
        values = line.to_dict(self.tokens)
        del values["refused"]
        return values
