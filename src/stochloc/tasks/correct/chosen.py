"""Which decoder corrects a text, from what the user named."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from stochloc.tasks.correct.calibration import correction_defaults
from stochloc.tasks.correct.confusions import Confusions
from stochloc.tasks.correct.correct import EDIT_THRESHOLD, edit_snr, prefers_edits
from stochloc.tasks.correct.decoding import FullWalk, OnePass
from stochloc.tasks.correct.edits import LikelyEdits
from stochloc.tasks.correct.examples import FIELDS, confusions_of
from stochloc.tasks.correct.reading import Decoder
from stochloc.tasks.policies import PolicyChoice
from stochloc.tasks.runs import Run
from stochloc.tasks.walks import WalkSettings, default_path


class ChosenCorrection(NamedTuple):
    """How to correct.

    Attributes:
        decoder: What decides.
        snr: SNR of the soft masks; None where errors are learned from examples.
        confusions: These errors; None where there are no examples.
    """

    decoder: Decoder
    snr: float | None
    confusions: Confusions | None


@dataclass(frozen=True)
class CorrectionChoice:
    """How to correct, by name; one way at most.

    Attributes:
        edits: Whether to replace, insert, leave out and swap characters.
        one_pass: Whether to call the model once and keep the length.
        walk: Whether to decide the most certain characters first, then call the model again.
        snr: SNR of the soft mask; None for the default of the way.
        threshold: A change is made above this probability; None for the default of the way.
        data: Where the run's own text is now, on which what is absent is chosen.
        steps: Most steps of the walk.
        policy: Name of the policy of the walk.
        path: Name of the path of the walk; None for the default.
        seed: Seed of the walk.
        label: Class of the text, by which edits weigh its length; None leaves it open.
        examples: A file of examples of errors; None for none.
        example_fields: Its fields of texts as read, and of the right ones.
    """

    edits: bool = False
    one_pass: bool = False
    walk: bool = False
    snr: float | None = None
    threshold: float | None = None
    data: str | None = None
    steps: int = 32
    policy: str = "threshold:0.9"
    path: str | None = None
    seed: int = 0
    label: str | None = None
    examples: str | None = None
    example_fields: tuple[str, str] = FIELDS

    def __post_init__(self) -> None:
        if self.walk + self.one_pass + self.edits > 1:
            raise ValueError("Give either --walk, --one-pass or --edits.")

    def resolve(self, run: Run, say: Callable[[str], None]) -> ChosenCorrection:
        """Return the decoder, and what is known of the errors.

        Args:
            run: The model.
            say: Called with a line where the defaults have to be measured first.

        Returns:
            All of it; by default edits where the model prefers them, else one pass.

        Raises:
            ValueError: A setting has no effect, the examples cannot be read, or the run's text is
                not found.
        """
        by_edits = self.edits or (prefers_edits(run) and not self.walk and not self.one_pass)
        if self.examples is not None:
            return self._learned(run, self.examples, by_edits)
        threshold, snr = self.threshold, self.snr
        if by_edits:
            if self.data is not None:
                raise ValueError(
                    "--data has no effect with edits, whose settings are the same for every model; "
                    "leave it out, or take --one-pass or --walk."
                )
            decoder = self._edits(run)
            return ChosenCorrection(decoder, edit_snr(run) if snr is None else snr, None)
        if threshold is not None and snr is not None and self.data is not None:
            raise ValueError("--data has no effect with both --snr and --threshold.")
        if threshold is None or snr is None:
            defaults = correction_defaults(run, self.data, say)
            threshold = defaults.threshold if threshold is None else threshold
            snr = defaults.snr if snr is None else snr
        return ChosenCorrection(self._in_place(run, threshold), snr, None)

    def _learned(self, run: Run, examples: str, by_edits: bool) -> ChosenCorrection:
        if self.data is not None or self.snr is not None:
            raise ValueError(
                "--examples say how far to trust a text, so --snr and --data have no effect; leave "
                "them out."
            )
        confusions = confusions_of(run, examples, self.example_fields)
        threshold = EDIT_THRESHOLD if self.threshold is None else self.threshold
        decoder = self._edits(run) if by_edits else self._in_place(run, threshold)
        return ChosenCorrection(decoder, None, confusions)

    def _edits(self, run: Run) -> Decoder:
        threshold = EDIT_THRESHOLD if self.threshold is None else self.threshold
        return LikelyEdits(threshold, lengths=run.lengths_given(self.label))

    def _in_place(self, run: Run, threshold: float) -> Decoder:
        """Return one pass, or a walk."""
        if not self.walk:
            return OnePass(threshold)
        name = self.path or default_path(self.steps, run, run.length)
        settings = WalkSettings(name, num_steps=self.steps, policy=PolicyChoice(self.policy))
        return FullWalk(threshold, settings.resolve(run), self.seed)
