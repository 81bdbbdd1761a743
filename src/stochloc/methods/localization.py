"""DSL itself, in the frame of the other methods: any choices of `training.choices`.

    loss: cross-entropy of tokens given noisy codes (paper 3), at γ drawn from the recipe's law
    -log P(x) <= the line integral along the masked path (paper eq. 4, 13)

On the masked path every step is a choice of one token given others, so the bound holds sequence by
sequence and is the bound of the masked methods. The paper's recipe, which never sees a known token
in training, is bounded along the same path but sampled along the diffusion it is trained for. Other
paths are a matter of `stochloc eval`.
"""

from dataclasses import dataclass

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
    line_integral,
    sample,
    start,
)
from stochloc.methods.method import Drawn, Frame, Method
from stochloc.nn import LocalizationModel
from stochloc.training.choices import Choices
from stochloc.training.objective import cross_entropy
from stochloc.training.snr import SnrLaw

MASKED = Masked()


class Localization(Method):
    """A localization model and the law of γ it is trained on.

    Args:
        model: The denoiser; one that can be trained, unless it is only asked.
        law: Which γ to show in training.
        path: The path of the sampler.
    """

    def __init__(self, model: Denoiser, law: SnrLaw, path: Path) -> None:
        super().__init__()
        self.model, self.law, self.path = model, law, path

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy of tokens that are not known; one call."""
        assert isinstance(self.model, LocalizationModel)
        return cross_entropy(self.model, tokens, self.law, generator)

    @torch.no_grad()
    def bound(
        self, tokens: Int[Tensor, "batch length"], num_samples: int, generator: torch.Generator
    ) -> Estimate:
        """Return an unbiased estimate of the bound along the masked path; `num_samples` calls."""
        return line_integral(self.model, tokens, MASKED, num_samples, generator)

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Walk along the path in N steps; N network calls, one a token at most where it reveals."""
        state = start(self.model.codebook, num_sequences, length)
        drawn = sample(self.model, state, Follow(self.path), Ancestral(), num_steps, generator)
        return Drawn(drawn.tokens, drawn.denoiser_calls)


@dataclass(frozen=True)
class Variant:
    """A variant of localization as a method: its choices and the path of its sampler.

    Attributes:
        choices: The model and the law of γ.
        path: The path of the sampler.
    """

    choices: Choices
    path: Path = MASKED

    def from_frame(self, frame: Frame) -> Localization:
        """Return the method at its start.

        Args:
            frame: What all methods share.

        Returns:
            The method, untrained.
        """
        model = LocalizationModel(self.choices.model(frame.vocabulary_size, frame.backbone))
        model.set_unigram(frame.counts)
        return Localization(model, self.choices.law, self.path)
