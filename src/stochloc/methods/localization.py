"""DSL itself, in the frame of the other methods: the paper's recipe and ours.

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
    Diffusion,
    Estimate,
    Follow,
    Lomax,
    Masked,
    Path,
    line_integral,
    sample,
    start,
)
from stochloc.methods.method import Drawn, Frame, Method
from stochloc.nn import LocalizationModel, ModelConfig
from stochloc.training.objective import cross_entropy
from stochloc.training.snr import Endpoints, SentenceLogNormal, SnrLaw, TokenLogNormal


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
        return line_integral(self.model, tokens, Masked(), num_samples, generator)

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Walk along the path in N steps; N network calls, one a token at most where it reveals."""
        state = start(self.model.codebook, num_sequences, length)
        drawn = sample(self.model, state, Follow(self.path), Ancestral(), num_steps, generator)
        return Drawn(drawn.tokens, drawn.denoiser_calls)


@dataclass(frozen=True)
class Choices:
    """What a recipe of DSL decides; ablations take one choice back.

    Attributes:
        law: Which γ to show in training.
        path: The path of the sampler.
        code_dimension: Dimension of learned codes; 0 for the simplex.
        evidence: Whether the evidence is added to the logits.
        unigram: Whether token frequencies enter as a prior.
        beta: β of the converter at the start; 1 is exact for independent tokens of known
            frequencies, 0 stands for the paper's `1/√d`.
    """

    law: SnrLaw
    path: Path
    code_dimension: int = 0
    evidence: bool = True
    unigram: bool = True
    beta: float = 1.0

    def from_frame(self, frame: Frame) -> Localization:
        """Return the method at its start.

        Args:
            frame: What all methods share.

        Returns:
            The method, untrained.
        """
        backbone = frame.backbone
        config = ModelConfig(
            frame.vocabulary_size,
            backbone.width,
            backbone.depth,
            backbone.heads,
            self.code_dimension,
            self.evidence,
            self.unigram,
            beta=self.beta,
            rotary_base=backbone.rotary_base,
            neighbour_logit=backbone.neighbour_logit,
        )
        model = LocalizationModel(config)
        model.set_unigram(frame.counts)
        return Localization(model, self.law, self.path)


OURS = Choices(Endpoints(TokenLogNormal()), Masked())
PAPER = Choices(
    SentenceLogNormal(),
    Diffusion(Lomax()),
    code_dimension=16,
    evidence=False,
    unigram=False,
    beta=0.0,
)
