"""Correcting the records of a file, each by itself."""

from collections.abc import Sequence
from dataclasses import dataclass

from stochloc.data.records import Record
from stochloc.tasks.by_record.work import Result, one_by_one
from stochloc.tasks.correct.confusions import Confusions
from stochloc.tasks.correct.correct import correct
from stochloc.tasks.correct.reading import Decoder
from stochloc.tasks.runs import Run

_KEPT = ("text", "read", "changes", "notes")


@dataclass(frozen=True)
class CorrectRecords:
    """Every record without its errors: see `tasks.correct`.

    Attributes:
        run: The model and its tokenizer.
        decoder: How to decide.
        snr: SNR of the soft mask; None with errors learned from examples.
        label: Class of the records, for a model with classes; None leaves it open.
        confusions: Errors learned from examples; None for none.
    """

    run: Run
    decoder: Decoder
    snr: float | None
    label: str | None = None
    confusions: Confusions | None = None

    name = "correct"
    most_records = 16
    most_characters = 16_384

    def results(self, records: Sequence[Record]) -> list[Result]:
        """Return corrected records.

        Args:
            records: At least one.

        Returns:
            The text, what was read, the changes and the notes; an empty record stays empty.
        """
        return one_by_one(records, self._result)

    def _result(self, record: Record) -> Result:
        if not record.text:
            return {"text": "", "read": "", "changes": [], "notes": []}
        corrected = correct(
            self.run, record.text, self.decoder, self.snr, None, self.label, self.confusions
        )
        values = corrected.to_dict()
        return {name: values[name] for name in _KEPT}
