"""The localization model: codebook, converter, backbone and evidence, as one denoiser.

The network learns `f_θ(z)`, what the context adds to a token's logits; the evidence of the token's
own noisy code is exact and is added outside it (evidence skip),

    logits = z Eᵀ + log p_unigram + f_θ(z),

so an untrained model, whose output weights are 0, already is the exact posterior of independent
tokens. Tokens that are known enter as themselves and come out certain.

Where `f_θ` at a place never looks at `z` there (a two-sided backbone), `log p_unigram + f_θ` is by
itself the leave-one-out posterior `P(x_i|z_-i)`. Such a model is trained to predict it at every
token, and `between` returns it.
"""

import math
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_model
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.core import UNKNOWN, Between, Denoiser, Posterior, State, observe
from stochloc.core.denoisers.stretches import Stretch
from stochloc.core.streams import Randomness
from stochloc.nn.backbones import ARCHITECTURES, ReadingNetwork, StretchNetwork, Surroundings
from stochloc.nn.backbones.base import SidedNetwork
from stochloc.nn.config import ModelConfig
from stochloc.nn.place_embedding import PlaceEmbedding
from stochloc.nn.reading import ModelReader
from stochloc.nn.stretch import ModelStretch, is_worthwhile
from stochloc.nn.targets import Alone, TargetNats, and_again, hidden_of_both
from stochloc.nn.vocabulary import Readout, convert, smoothed_log_unigram
from stochloc.nn.weights import check_finite, check_shapes, read_shapes

# Which places of a batch hold a token, the first ones of each sequence; None for all.
Present = Bool[Tensor, "batch length"] | None


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
        size = config.vocabulary_size
        self.codebook = config.codebook()
        beta = config.beta or 1 / math.sqrt(self.codebook.dimension)
        self.beta = nn.Parameter(torch.tensor(beta))
        self.slot = nn.Parameter(torch.zeros(1)) if config.mask_slot else None
        self.embeddings = nn.Parameter(torch.randn(size + config.mask_slot, config.width))
        self.transformer = ARCHITECTURES[config.architecture](config.backbone)
        self.head = nn.Parameter(torch.zeros(size, config.width))
        self.bias = nn.Parameter(torch.zeros(size)) if config.head_bias else None
        self.places = self._place_embedding()
        # A network that never sees the input at a place is given its coordinates separately.
        self.target_places = self._place_embedding() if self.transformer.leaves_out else None
        self.register_buffer("log_unigram", torch.zeros(size))
        # Whatever type the caller's program makes tensors in: runs are written in float32.
        self.float()

    def set_unigram(self, counts: Int[Tensor, " vocabulary"]) -> None:
        """Set the prior to smoothed token frequencies; without effect if the model uses none.

        It is kept in float32 at least, whatever type the weights were moved to.

        Args:
            counts: How often each token occurs in the training text; those of tokens that are only
                ever given are not read.
        """
        if self.config.unigram:
            exact = torch.promote_types(self.log_unigram.dtype, torch.float32)
            predicted = smoothed_log_unigram(counts[: self.config.num_predicted])
            # Finite, as all that is kept in files: `log_prior` rules the rest out.
            every = F.pad(predicted, (0, self.config.given_tokens))
            self.log_unigram = every.to(self.log_unigram.device, exact)

    @property
    def log_prior(self) -> Float[Tensor, " vocabulary"]:
        """Log-probabilities added in converter and logits: `-∞` for tokens only ever given."""
        given = self.config.given_tokens
        if not given:
            return self.log_unigram
        return F.pad(self.log_unigram[:-given], (0, given), value=-torch.inf)

    @property
    def num_parameters(self) -> int:
        """Number of learned values."""
        return sum(parameter.numel() for parameter in self.parameters())

    def readout(self, state: State, present: Present = None) -> Readout:
        """Return the model's prediction of every token, scores not yet computed: one denoiser call.

        Args:
            state: Noisy codes, ignored where the token is known, and known tokens.
            present: Which places hold a token; predictions elsewhere have no meaning. None: all.

        Returns:
            The readout, of which posterior and cross-entropy are computed.
        """
        around = self._around(state, present)
        return self._readout(self.transformer(self._embed(state, present), around=around), state)

    def context(self, left: State, right: State, present: Present = None) -> Readout:
        """Return the prediction of every token, known or not, from two sides: one denoiser call.

        Args:
            left: The state as the tokens to the right of a place see it.
            right: The state as the tokens to the left of a place see it.
            present: Which places hold a token; predictions elsewhere have no meaning. None: all.

        Returns:
            The readout of `Q(x_i | left_<i, right_>i)`; of a model whose backbone leaves a token's
            own place out.
        """
        assert self.transformer.leaves_out
        return self._readout(self._from_sides(left, right, present), left).without_evidence()

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
        network = self.transformer.read(embedded, self._around(state))
        places = None if self.places is None else self.places(state.known.shape[1])
        return ModelReader(network, self._readout, state, embedded, self.embeddings, places)

    def within(self, state: State, stretch: Stretch) -> Denoiser:
        """Return the model for states that are this one outside of a stretch.

        Args:
            state: What is given outside of the stretch.
            stretch: The places that may change.

        Returns:
            A denoiser that computes the stretch alone; the model itself where too little is saved.
        """
        if not isinstance(self.transformer, StretchNetwork) or not is_worthwhile(state, stretch):
            return self
        begin, end = stretch.begin, stretch.end
        network = self.transformer.within(self._embed(state), begin, end, self._around(state))
        length = state.known.shape[1]
        places = None if self.places is None else self.places(length)[:, begin:end]
        about = (self.codebook, places, stretch, length)
        return ModelStretch(network, self._convert, self._readout, *about)

    @property
    def target(self) -> str:
        """What the training cross-entropy is per, in words: see `token_nats`."""
        return "token given all others" if self.transformer.leaves_out else "noisy token"

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
        generator: Randomness,
        is_full: bool | None = None,
        alone: Alone | None = None,
    ) -> TargetNats:
        """Return the training cross-entropy of every token at a drawn `z`.

        Noise is added here, not by the caller, so that all use of learned codes happens inside the
        module, where wrappers that shard or replicate parameters see it.

        Args:
            tokens: The true tokens; `-1` at places without one, all behind a sequence's end.
            snr: γ of every token, in `[0, ∞]`, as those to its right see it.
            right_snr: The same as those to its left see it, with noise of its own; None for both
                sides alike.
            generator: Source of the noise.
            is_full: Whether every place has a token, if that is known; None to look, which waits
                for the device.
            alone: Which sequences are asked for once more, given the left of each token alone.

        Returns:
            `-log Q(x_i|z)` of tokens not known (paper 3), or, where the backbone leaves a token's
            own place out, `-log Q(x_i|z_-i)` of all tokens; never of those only ever given, nor of
            places without a token, which no token sees. Of sequences asked for once more, the
            weighted mean of both questions.
        """
        is_target, present = self.is_target(tokens, snr), tokens >= 0
        is_full = bool(present.all()) if is_full is None else is_full
        present = None if is_full else present
        tokens = tokens.clamp(min=0)
        left = observe(self.codebook, tokens, snr, generator)
        asked = tokens.masked_fill(~is_target, UNKNOWN)
        if not self.transformer.leaves_out:
            assert right_snr is None
            assert alone is None
            return TargetNats(self.readout(left, present).token_nats(asked), is_target)
        alike = right_snr is None
        right = left if alike else observe(self.codebook, tokens, right_snr, generator)
        if alone is None:
            return TargetNats(self.context(left, right, present).token_nats(asked), is_target)
        rows = alone.rows
        bare = alone.state(left, tokens, rows)
        readout = self._asked_twice(left, right, bare, rows, present)
        nats = readout.token_nats(torch.cat([asked, asked[rows]]))
        return TargetNats(alone.averaged(nats, rows), is_target)

    def is_target(
        self, tokens: Int[Tensor, "batch length"], snr: Float[Tensor, "batch length"]
    ) -> Bool[Tensor, "batch length"]:
        """Return which tokens are targets of the training cross-entropy: see `token_nats`.

        Args:
            tokens: The true tokens; `-1` at places without one.
            snr: γ of every token, as those to its right see it.

        Returns:
            The same as `token_nats`, without a denoiser call.
        """
        is_asked = (tokens >= 0) & (tokens < self.config.num_predicted)
        return is_asked if self.transformer.leaves_out else is_asked & ~snr.isinf()

    def _between(self, left: State, right: State) -> Posterior:
        # A side on which all sequences are alike, as where nothing is known, is read once.
        hidden = self._from_sides(left.one_if_alike(), right.one_if_alike())
        every = hidden.expand(len(left.known), -1, -1)
        return self._readout(every, left).without_evidence().posterior

    def _asked_twice(
        self,
        left: State,
        right: State,
        bare: State,
        rows: Int[Tensor, " rows"],
        present: Present,
    ) -> Readout:
        assert isinstance(self.transformer, SidedNetwork)
        sides = self._embed(left, present), self._embed(right, present)
        if present is None:
            own = self._embed(bare.one_if_alike())
        else:
            own = self._embed(bare, present[rows])
        around = self._around(left, present)
        hidden = hidden_of_both(self.transformer, *sides, own, rows, around)
        return self._readout(hidden, and_again(left, rows)).without_evidence()

    def _from_sides(
        self, left: State, right: State, present: Present = None
    ) -> Float[Tensor, "#batch length width"]:
        states = (left,) if left is right else (left, right)
        sides = [self._embed(side, present) for side in states]
        return self.transformer(*sides, around=self._around(left, present))

    def _embed(self, state: State, present: Present = None) -> Float[Tensor, "batch length width"]:
        embedded = self._convert(state)
        if self.places is None:
            return embedded
        return embedded + self.places(state.known.shape[1], present)

    def _convert(self, state: State) -> Float[Tensor, "batch length width"]:
        return convert(
            state.z,
            state.known,
            self.codebook,
            self.embeddings,
            self.beta,
            self.log_prior,
            self.slot,
        )

    def _around(self, state: State, present: Present = None) -> Surroundings:
        if self.target_places is None:
            return Surroundings(present)
        return Surroundings(present, self.target_places(state.known.shape[1], present))

    def _place_embedding(self) -> PlaceEmbedding | None:
        config = self.config
        if not config.places:
            return None
        return PlaceEmbedding(config.places, config.width, config.num_before, config.num_after)

    def _readout(self, hidden: Float[Tensor, "batch length width"], state: State) -> Readout:
        return Readout(
            hidden,
            self.head,
            self.log_prior if self.bias is None else self.log_prior + self.bias,
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
