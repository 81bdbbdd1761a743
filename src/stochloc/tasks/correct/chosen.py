"""Which decoder corrects a text, from what the user named."""

from collections.abc import Callable
from dataclasses import dataclass

from stochloc.tasks.correct.calibration import correction_defaults
from stochloc.tasks.correct.correct import EDIT_THRESHOLD, edit_snr, prefers_edits
from stochloc.tasks.correct.decoding import FullWalk, OnePass
from stochloc.tasks.correct.edits import LikelyEdits
from stochloc.tasks.correct.reading import Decoder
from stochloc.tasks.policies import PolicyChoice
from stochloc.tasks.runs import Run
from stochloc.tasks.walks import WalkSettings, default_path


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

    def __post_init__(self) -> None:
        if self.walk + self.one_pass + self.edits > 1:
            raise ValueError("Give either --walk, --one-pass or --edits.")

    def resolve(self, run: Run, say: Callable[[str], None]) -> tuple[Decoder, float]:
        """Return the decoder, and the SNR of the soft masks.

        Args:
            run: The model.
            say: Called with a line where the defaults have to be measured first.

        Returns:
            Both; by default edits where the model prefers them, else one pass.

        Raises:
            ValueError: A setting has no effect, or the run's text is not found.
        """
        threshold, snr = self.threshold, self.snr
        if self.edits or (prefers_edits(run) and not self.walk and not self.one_pass):
            if self.data is not None:
                raise ValueError(
                    "--data has no effect with edits, whose settings are the same for every model; "
                    "leave it out, or take --one-pass or --walk."
                )
            threshold = EDIT_THRESHOLD if threshold is None else threshold
            lengths = run.lengths_given(self.label)
            return LikelyEdits(threshold, lengths=lengths), edit_snr(run) if snr is None else snr
        if threshold is not None and snr is not None and self.data is not None:
            raise ValueError("--data has no effect with both --snr and --threshold.")
        if threshold is None or snr is None:
            defaults = correction_defaults(run, self.data, say)
            threshold = defaults.threshold if threshold is None else threshold
            snr = defaults.snr if snr is None else snr
        if not self.walk:
            return OnePass(threshold), snr
        name = self.path or default_path(self.steps, run.length)
        settings = WalkSettings(name, num_steps=self.steps, policy=PolicyChoice(self.policy))
        return FullWalk(threshold, settings.resolve(run), self.seed), snr
