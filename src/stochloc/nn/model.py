"""The localization model: codebook, converter, transformer and evidence, as one denoiser.

The network learns `f_θ(z)`, what the context says of a token; the evidence of the token's own noisy
code is exact and is added outside it (evidence skip),

    logits = z Eᵀ + log p_unigram + f_θ(z),

so an untrained model, whose output weights are 0, already is the exact posterior of independent
tokens. Tokens that are known enter as themselves and come out certain.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from jaxtyping import Float, Int
from safetensors.torch import load_model
from torch import Tensor, nn

from stochloc.core import Codebook, LearnedCodebook, Posterior, SimplexCodebook, State, observe
from stochloc.nn.backbones.base import Backbone
from stochloc.nn.declared import check_types
from stochloc.nn.vocabulary import Readout, convert
from stochloc.nn.weights import check_finite, check_shapes, read_shapes

# Beyond any model there is; what is larger comes from a damaged or a hostile file.
LARGEST = {"vocabulary_size": 10**8, "width": 10**6, "depth": 10**5, "code_dimension": 10**6}


@dataclass(frozen=True)
class ModelConfig:
    """What a localization model is made of.

    Attributes:
        vocabulary_size: Number of tokens, V.
        width: Width of the transformer.
        depth: Number of transformer blocks.
        heads: Attention heads per block.
        code_dimension: Dimension d of learned codes; 0 for the simplex's corners, where `d = V`.
        evidence: Whether the evidence `z Eᵀ` is added to the logits.
        unigram: Whether token frequencies enter the converter and the logits as a prior.
        mask_slot: Whether the converter has an extra slot for tokens with weak evidence.
        beta: Initial β of the converter; 0 for the paper's `1/√d`.
        rotary_base: Ratio of the slowest to the fastest rotation of the rotary positions.
        neighbour_logit: Attention logit with which heads begin to look at their neighbours; 0 for
            heads without biases.
    """

    vocabulary_size: int
    width: int = 128
    depth: int = 4
    heads: int = 4
    code_dimension: int = 0
    evidence: bool = True
    unigram: bool = True
    mask_slot: bool = False
    beta: float = 0.0
    rotary_base: float = 10_000.0
    neighbour_logit: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        if self.vocabulary_size < 1:
            raise ValueError(
                f"A model needs a positive vocabulary_size, not {self.vocabulary_size}."
            )
        _ = self.backbone  # Refuses sizes and positions that no backbone can have.
        for name, largest in LARGEST.items():
            if getattr(self, name) > largest:
                raise ValueError(f"A model has a {name} of at most {largest}.")
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"β starts at 0 or more, not at {self.beta}.")
        if self.code_dimension < 0:
            raise ValueError(f"Codes cannot have {self.code_dimension} dimensions.")

    @property
    def backbone(self) -> Backbone:
        """The size and the positions of the transformer, as one value."""
        return Backbone(self.width, self.depth, self.heads, self.rotary_base, self.neighbour_logit)


class LocalizationModel(
    nn.Module, PyTorchModelHubMixin, library_name="stochloc", tags=["stochastic-localization"]
):
    """A learned denoiser `state -> Posterior`; it sees neither the time nor the SNR.

    Args:
        config: What it is made of.

    `save_pretrained` and `from_pretrained` keep it as safetensors and JSON, in a folder or on the
    Hugging Face hub.
    """

    log_unigram: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        size, dimension = config.vocabulary_size, config.code_dimension
        self.codebook: Codebook = (
            LearnedCodebook(size, dimension) if dimension else SimplexCodebook(size)
        )
        beta = config.beta or 1 / math.sqrt(self.codebook.dimension)
        self.beta = nn.Parameter(torch.tensor(beta))
        self.slot = nn.Parameter(torch.zeros(1)) if config.mask_slot else None
        self.embeddings = nn.Parameter(torch.randn(size + config.mask_slot, config.width))
        self.transformer = config.backbone.transformer()
        self.head = nn.Parameter(torch.zeros(size, config.width))
        self.register_buffer("log_unigram", torch.zeros(size))
        # Whatever type the caller's program makes tensors in: runs are written in float32.
        self.float()

    def set_unigram(self, counts: Int[Tensor, " vocabulary"]) -> None:
        """Set the prior to smoothed token frequencies; without effect if the model uses none.

        It is kept in float32 at least, whatever type the weights were moved to.

        Args:
            counts: How often each token occurs in the training text.
        """
        if self.config.unigram:
            exact = torch.promote_types(self.log_unigram.dtype, torch.float32)
            self.log_unigram = smoothed_log_unigram(counts).to(self.log_unigram.device, exact)

    @property
    def num_parameters(self) -> int:
        """Number of learned values."""
        return sum(parameter.numel() for parameter in self.parameters())

    def readout(self, state: State) -> Readout:
        """Return what the model says of every token, as a value to be asked: one denoiser call.

        Args:
            state: Noisy codes, ignored where the token is known, and known tokens.

        Returns:
            The readout, of which posterior and cross-entropy are computed.
        """
        embedded = convert(
            state.z,
            state.known,
            self.codebook,
            self.embeddings,
            self.beta,
            self.log_unigram,
            self.slot,
        )
        return Readout(
            self.transformer(embedded),
            self.head,
            self.log_unigram,
            self.codebook,
            state.z,
            state.known,
            self.config.evidence,
        )

    def forward(self, state: State) -> Posterior:
        """Return the posterior of every token given the state: one denoiser call.

        Args:
            state: Noisy codes and known tokens.

        Returns:
            The factorised posterior.
        """
        return self.readout(state).posterior

    def token_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        snr: Float[Tensor, "batch length"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch length"]:
        """Return the training cross-entropy `-log Q(x_i|z)` at a drawn `z` (paper 3).

        Noise is added here, not by the caller, so that all use of learned codes happens inside the
        module, where wrappers that shard or replicate parameters see it.

        Args:
            tokens: The true tokens.
            snr: γ of every token, in `[0, ∞]`.
            generator: Source of the noise.

        Returns:
            Nats; 0 where the token is known.
        """
        state = observe(self.codebook, tokens, snr, generator)
        return self.readout(state).token_nats(tokens)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        config: ModelConfig,
        map_location: str = "cpu",
        strict: bool = True,
        **hub: Any,  # noqa: ANN401
    ) -> "LocalizationModel":
        # The mixin's own way would unpickle a file where there is no safetensors file, make room
        # for any configuration, load what fits and stay silent about the rest.
        if not strict:
            raise ValueError("Weights are loaded whole or not at all.")
        local = Path(model_id)
        path = Path(
            local / SAFETENSORS_SINGLE_FILE
            if local.is_dir()
            else hf_hub_download(model_id, SAFETENSORS_SINGLE_FILE, **hub)
        )
        check_shapes(read_shapes(path), lambda: cls(config), config.depth)
        model = cls(config)
        load_model(model, path)
        check_finite(model)
        return model.to(map_location)


def smoothed_log_unigram(counts: Int[Tensor, " vocabulary"]) -> Float[Tensor, " vocabulary"]:
    """Return logarithms of token frequencies, every token counted once more than it occurs.

    Args:
        counts: How often each token occurs.

    Returns:
        Log-probabilities, float64.
    """
    return (counts.double() + 1).log().log_softmax(0)
