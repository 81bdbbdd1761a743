"""DSL in the frame of the other methods, with any choices of `training.choices`.

    loss: cross-entropy of tokens given noisy codes (paper 3, `training.objective`)
    -log P(x) <= the line integral along the masked path (paper eq. 4, 13)

On the masked path every step decides one token given others, so the bound holds for each sequence
and is that of the masked methods. The paper's recipe, which never sees a known token in training,
is bounded along the same path but sampled along the diffusion path, for which it is trained.
`stochloc eval` evaluates other paths.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core import (
    Ancestral,
    Denoiser,
    Estimate,
    Follow,
    Masked,
    Path,
    between,
    left_to_right,
    line_integral,
    sample,
    start,
)
from stochloc.methods.left_to_right import LeftToRightNats
from stochloc.methods.method import Drawn, Frame, Method
from stochloc.nn import LocalizationModel
from stochloc.training.choices import Choices
from stochloc.training.objective import cross_entropy
from stochloc.training.snr import SidedSnrLaw, SnrLaw

MASKED = Masked()


class Localization(Method):
    """A localization model and the distribution of γ it is trained on.

    Args:
        model: The denoiser; a `LocalizationModel` if it is to be trained.
        law: Distribution of γ in training.
        path: The path of the sampler.
    """

    held = 0.0

    def __init__(self, model: Denoiser, law: SnrLaw | SidedSnrLaw, path: Path) -> None:
        super().__init__()
        self.model, self.law, self.path = model, law, path

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy of the model's targets; one call."""
        assert isinstance(self.model, LocalizationModel)
        return cross_entropy(self.model, tokens, self.law, generator)

    @torch.no_grad()
    def bound(
        self, tokens: Int[Tensor, "batch length"], num_samples: int, generator: torch.Generator
    ) -> Estimate:
        """Return an unbiased estimate of the bound along the masked path; `num_samples` calls."""
        return line_integral(self.model, tokens, MASKED, num_samples, generator)

    @property
    def left_to_right(self) -> LeftToRightNats | None:
        """Returns `-log Q(x_i | x_<i)` of every token, exact; None where one call cannot tell."""
        can = between(self.model) is not None
        return partial(left_to_right, self.model) if can else None

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Walk along the path in N steps; N network calls, at most L on the masked path."""
        state = start(self.model.codebook, num_sequences, length)
        drawn = sample(self.model, state, Follow(self.path), Ancestral(), num_steps, generator)
        return Drawn(drawn.tokens, drawn.denoiser_calls)


@dataclass(frozen=True)
class Variant:
    """A variant of localization as a method: its choices and the path of its sampler.

    Attributes:
        choices: The model and the distribution of γ.
        path: The path of the sampler.
    """

    choices: Choices
    path: Path = MASKED

    def from_frame(self, frame: Frame) -> Localization:
        """Return the untrained method with the unigram prior of the frame's counts."""
        model = LocalizationModel(self.choices.model(frame.vocabulary_size, frame.backbone))
        model.set_unigram(frame.counts)
        return Localization(model, self.choices.law, self.path)
