"""Filling the blanks of the records of a file, each by itself."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from stochloc.data.records import Record
from stochloc.tasks.by_record.work import Result, one_by_one
from stochloc.tasks.infill.fill import Infilling, infill
from stochloc.tasks.runs import Run


@dataclass(frozen=True)
class FillRecords:
    """The answers to every record, a text with blanks: see `tasks.infill`.

    Attributes:
        run: The model and its tokenizer.
        infilling: How to fill.
        constraints: Characters that blanks may hold.
        marker: What stands for a blank of one token.
    """

    run: Run
    infilling: Infilling
    constraints: tuple[str, ...] = ()
    marker: str = "_"

    name = "infill"
    most_records = 1
    most_characters = 1

    def results(self, records: Sequence[Record]) -> list[Result]:
        """Return the answers to records.

        Args:
            records: At least one.

        Returns:
            The template, its answers with their costs, and what was scored.
        """
        return one_by_one(records, self._result)

    def _result(self, record: Record) -> Result:
        filled = infill(self.run, record.text, self.infilling, self.constraints, self.marker)
        answers = [asdict(answer) for answer in filled.answers]
        return {"template": record.text, "answers": answers, "scored": filled.scored}
