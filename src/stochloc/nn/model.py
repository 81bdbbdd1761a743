"""The localization model: codebook, converter, backbone and evidence, as one denoiser.

The network learns `f_θ(z)`, what the context says of a token; the evidence of the token's own noisy
code is exact and is added outside it (evidence skip),

    logits = z Eᵀ + log p_unigram + f_θ(z),

so an untrained model, whose output weights are 0, already is the exact posterior of independent
tokens. Tokens that are known enter as themselves and come out certain.

Where `f_θ` at a place never looks at `z` there (a two-sided backbone), `log p_unigram + f_θ` is by
itself the leave-one-out posterior `P(x_i|z_-i)`. It is what such a model is trained for, at every
token, and what `between` answers.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_model
from torch import Tensor, nn

from stochloc.core import (
    Between,
    Codebook,
    LearnedCodebook,
    Posterior,
    SimplexCodebook,
    State,
    observe,
)
from stochloc.nn.backbones import ARCHITECTURES, ENCODER, Backbone, ReadingNetwork, leaves_out
from stochloc.nn.declared import check_types
from stochloc.nn.reading import ModelReader
from stochloc.nn.vocabulary import Readout, convert
from stochloc.nn.weights import check_finite, check_shapes, read_shapes

# Beyond any model there is; what is larger comes from a damaged or a hostile file.
LARGEST = {"vocabulary_size": 10**8, "width": 10**6, "depth": 10**5, "code_dimension": 10**6}


class TargetNats(NamedTuple):
    """What a model is trained to make small.

    Attributes:
        nats: Cross-entropy of every token; 0 where it is no target.
        is_target: Which tokens the model is asked about.
    """

    nats: Float[Tensor, "batch length"]
    is_target: Bool[Tensor, "batch length"]


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
        architecture: Name of the backbone, one of `nn.backbones.ARCHITECTURES`.
        head_bias: Whether the logits have a learned bias for each token, which the converter does
            not see.
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
    architecture: str = ENCODER
    head_bias: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        if self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"There is no architecture {self.architecture[:40]!r}; "
                f"those there are: {', '.join(ARCHITECTURES)}."
            )
        if self.vocabulary_size < 1:
            raise ValueError(
                f"A model needs a positive vocabulary_size, not {self.vocabulary_size}."
            )
        if not self.evidence and leaves_out(self.architecture):
            raise ValueError(
                f"A {self.architecture} network never looks at a token's own evidence, so it must "
                "be added: evidence=False is for one that does, such as an encoder."
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
        """The size and the positions of the backbone, as one value."""
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
        self.transformer = ARCHITECTURES[config.architecture](config.backbone)
        self.head = nn.Parameter(torch.zeros(size, config.width))
        self.bias = nn.Parameter(torch.zeros(size)) if config.head_bias else None
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
        return self._readout(self.transformer(self._embed(state)), state)

    def context(self, left: State, right: State) -> Readout:
        """Return what its two sides say of every token, known or not: one denoiser call.

        Args:
            left: What the tokens to the right of a place know of it.
            right: What the tokens to the left of a place know of it.

        Returns:
            The readout of `Q(x_i | left_<i, right_>i)`; of a model whose backbone leaves a token's
            own place out.
        """
        assert self.transformer.leaves_out
        sides = [self._embed(side) for side in ((left,) if left is right else (left, right))]
        return self._readout(self.transformer(*sides), left).without_evidence()

    @property
    def between(self) -> Between | None:
        """How to ask for `Q(x_i | left_<i, right_>i)`; None where the backbone looks at z_i too."""
        return self._between if self.transformer.leaves_out else None

    def read(self, state: State) -> ModelReader | None:
        """Return a reader of a state, from left to right; None where the backbone cannot read.

        Args:
            state: What is known of the text before anything is decided.

        Returns:
            The reader, for one pass; the right side has been read.
        """
        if not isinstance(self.transformer, ReadingNetwork):
            return None
        embedded = self._embed(state)
        network = self.transformer.read(embedded)
        return ModelReader(network, self._readout, state, embedded, self.embeddings)

    @property
    def target(self) -> str:
        """What the training cross-entropy is per, in words: see `token_nats`."""
        return "token left out" if self.transformer.leaves_out else "noisy token"

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
        right_snr: Float[Tensor, "batch length"] | None,
        generator: torch.Generator,
    ) -> TargetNats:
        """Return the training cross-entropy of every token at a drawn `z`.

        Noise is added here, not by the caller, so that all use of learned codes happens inside the
        module, where wrappers that shard or replicate parameters see it.

        Args:
            tokens: The true tokens.
            snr: γ of every token, in `[0, ∞]`, as those to its right see it.
            right_snr: The same as those to its left see it, with noise of its own; None for both
                sides alike.
            generator: Source of the noise.

        Returns:
            `-log Q(x_i|z)` of tokens not known (paper 3), or, where the backbone leaves a token's
            own place out, `-log Q(x_i|z_-i)` of all tokens.
        """
        left = observe(self.codebook, tokens, snr, generator)
        if not self.transformer.leaves_out:
            assert right_snr is None
            return TargetNats(self.readout(left).token_nats(tokens), ~left.is_known)
        right = left if right_snr is None else observe(self.codebook, tokens, right_snr, generator)
        nats = self.context(left, right).token_nats(tokens)
        return TargetNats(nats, torch.ones_like(left.is_known))

    def _between(self, left: State, right: State) -> Posterior:
        return self.context(left, right).posterior

    def _embed(self, state: State) -> Float[Tensor, "batch length width"]:
        return convert(
            state.z,
            state.known,
            self.codebook,
            self.embeddings,
            self.beta,
            self.log_unigram,
            self.slot,
        )

    def _readout(self, hidden: Float[Tensor, "batch length width"], state: State) -> Readout:
        return Readout(
            hidden,
            self.head,
            self.log_unigram if self.bias is None else self.log_unigram + self.bias,
            self.codebook,
            state.z,
            state.known,
            self.config.evidence,
        )

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
