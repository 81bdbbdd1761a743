"""MDLM's checkpoints (Sahoo et al. 2024, Simple and effective masked diffusion language models).

Their public layout, that of `kuleshov-group/mdlm-owt`, every name behind `backbone.` or bare; V
tokens and, as the last row, the mask:

    vocab_embed.embedding                     (V + 1, W)    rows of the converter
    sigma_map.mlp.{0,2}.{weight,bias}         perceptron with SiLU on cos(σ f), sin(σ f)
    blocks.N.{norm1,norm2}.weight             (W,)          layer norms without bias, ε = 1e-5
    blocks.N.attn_qkv.weight                  (3 W, W)      queries, keys, values, each by heads
    blocks.N.attn_out.weight                  (W, W)
    blocks.N.mlp.{0,2}.{weight,bias}          (4 W, W), (W, 4 W), a GELU by tanh between them
    blocks.N.adaLN_modulation.{weight,bias}   shift, scale, gate of the attention, then of the MLP
    output_layer.{norm_final.weight, linear.{weight,bias}, adaLN_modulation.{weight,bias}}
    rotary_emb.inv_freq                       10000^(-2j/D), where it was stored

Without time conditioning σ is 0, so cosines are 1 and sines 0, and `c = silu(sigma_map(0))` and all
`adaLN_modulation(c)` are constants: the weights of our DiT. Their rotations pair coordinate j of a
head with j + D/2 and ours 2j with 2j + 1, so the rows of queries and keys change places, which
changes no product. MDLM sets the mask's logit to -∞: the last row of the output layer is not used.

The mask becomes the mask slot. Its score of `log V + 20` leaves the tokens `e^-20` of the weight at
zero SNR, less than float32 resolves, and gives way where the evidence exceeds it.
"""

import math
import re
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from stochloc.importers.base import Checkpoint, Imported, Told
from stochloc.nn import DIT, ModelConfig
from stochloc.nn.weights import Shapes

PREFIX = "backbone."
EMBEDDING = "vocab_embed.embedding"
SIGMA = "sigma_map.mlp"
ROTARY = "rotary_emb.inv_freq"
ROTARY_BASE = 10_000.0
# Nats by which the mask outweighs all tokens together at zero SNR.
MASK_LEAD = 20.0


@final
@dataclass(frozen=True)
class Mdlm:
    """Reads MDLM checkpoints that are not conditioned on the time."""

    def convert(self, checkpoint: Checkpoint, told: Told) -> Imported:
        """Return an MDLM as a localization model; on masked input its logits are the original's.

        Args:
            checkpoint: The tensors.
            told: Heads and length, if its `config.json` is missing.

        Returns:
            The model of the V tokens without the mask.

        Raises:
            ValueError: A tensor is missing, unknown or of another shape, the network is conditioned
                on the time, or the number of heads or the length is not known.
        """
        if checkpoint.facts.get("time_conditioning"):
            raise ValueError(
                f"{checkpoint.name} is conditioned on the time, which a localization model never "
                "sees; only checkpoints with time_conditioning false can be imported."
            )
        source = _Source(checkpoint, _prefix(checkpoint.shapes))
        layout = Layout.of(source.shapes, checkpoint.name)
        layout.check(source.shapes, checkpoint.name)
        length = told.length or checkpoint.number("model_length")
        if length is None:
            raise ValueError(
                f"{checkpoint.name} does not say how many tokens a window has; give --length."
            )
        config = ModelConfig(
            layout.rows - 1,
            layout.width,
            layout.depth,
            _heads(source, layout, told),
            unigram=False,
            mask_slot=True,
            beta=1.0,
            rotary_base=ROTARY_BASE,
            architecture=DIT,
            head_bias=True,
        )
        return Imported(config, _weights(source, config), length)


@dataclass(frozen=True)
class Layout:
    """The sizes that decide the shapes of all tensors.

    Attributes:
        rows: Tokens and the mask, V + 1.
        width: Width of the embeddings, W.
        depth: Number of blocks.
        condition: Width of the embedding of σ.
        waves: Number of cosines and sines of σ.
        rotary: Stored frequencies of the rotation, half the width of a head; None for none.
    """

    rows: int
    width: int
    depth: int
    condition: int
    waves: int
    rotary: int | None

    @classmethod
    def of(cls, shapes: Shapes, name: str) -> "Layout":
        """Return the sizes of a checkpoint.

        Args:
            shapes: Shapes by name, without a prefix.
            name: Of the checkpoint, for messages.

        Returns:
            The sizes.

        Raises:
            ValueError: It lacks the tensors by which they are told.
        """
        sizes = []
        for matrix in (EMBEDDING, f"{SIGMA}.0.weight"):
            shape = shapes.get(matrix, ())
            if len(shape) != 2 or min(shape) < 2:
                raise ValueError(
                    f"{name} is not of MDLM's layout: {matrix} is missing or no matrix."
                )
            sizes.append(shape)
        (rows, width), (condition, waves) = sizes
        blocks = {found[1] for one in shapes if (found := re.match(r"blocks\.(\d+)\.", one))}
        rotary = shapes.get(ROTARY)
        return cls(rows, width, len(blocks), condition, waves, rotary[0] if rotary else None)

    def check(self, found: Shapes, name: str) -> None:
        """Refuse tensors that are not those of this layout.

        Args:
            found: Shapes by name, without a prefix.
            name: Of the checkpoint, for messages.

        Raises:
            ValueError: A tensor is missing, unknown or of another shape.
        """
        wanted = self.shapes
        for one in sorted(found.keys() | wanted.keys()):
            if one not in found:
                raise ValueError(f"{name} is not of MDLM's layout: {one} is missing.")
            if one not in wanted:
                raise ValueError(f"{name} is not of MDLM's layout: {one[:80]} is unknown there.")
            if found[one] != wanted[one]:
                raise ValueError(
                    f"{name} is not of MDLM's layout: {one} has shape {found[one]} in place of "
                    f"{wanted[one]}."
                )

    @property
    def shapes(self) -> Shapes:
        """The shapes of all tensors by name."""
        width, condition = self.width, self.condition
        shapes: Shapes = {
            EMBEDDING: (self.rows, width),
            **_linear(f"{SIGMA}.0", condition, self.waves),
            **_linear(f"{SIGMA}.2", condition, condition),
            "output_layer.norm_final.weight": (width,),
            **_linear("output_layer.linear", self.rows, width),
            **_linear("output_layer.adaLN_modulation", 2 * width, condition),
        }
        if self.rotary is not None:
            shapes[ROTARY] = (self.rotary,)
        for n in range(self.depth):
            block = f"blocks.{n}"
            shapes |= {
                f"{block}.norm1.weight": (width,),
                f"{block}.attn_qkv.weight": (3 * width, width),
                f"{block}.attn_out.weight": (width, width),
                f"{block}.norm2.weight": (width,),
                **_linear(f"{block}.mlp.0", 4 * width, width),
                **_linear(f"{block}.mlp.2", width, 4 * width),
                **_linear(f"{block}.adaLN_modulation", 6 * width, condition),
            }
        return shapes


@dataclass(frozen=True)
class _Source:
    """A checkpoint whose names have lost their prefix."""

    checkpoint: Checkpoint
    prefix: str

    @property
    def shapes(self) -> Shapes:
        """The shapes of its tensors by the names that are left."""
        named = self.checkpoint.shapes.items()
        return {name.removeprefix(self.prefix): shape for name, shape in named}

    def __getitem__(self, name: str) -> Tensor:
        return self.checkpoint.tensor(self.prefix + name)


def _prefix(shapes: Shapes) -> str:
    return PREFIX if all(name.startswith(PREFIX) for name in shapes) else ""


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _heads(source: _Source, layout: Layout, told: Told) -> int:
    name = source.checkpoint.name
    heads = told.heads or source.checkpoint.number("n_heads")
    if heads is None and layout.rotary:
        heads = max(1, layout.width // (2 * layout.rotary))
    if heads is None:
        raise ValueError(f"{name} does not say how many attention heads it has; give --heads.")
    if layout.rotary is not None:
        half = layout.width / (2 * heads)
        exponents = torch.arange(layout.rotary) / layout.rotary
        is_usual = torch.allclose(source[ROTARY], ROTARY_BASE**-exponents, rtol=1e-2)
        if half != layout.rotary or not is_usual:
            raise ValueError(f"{name} has rotations that are not those of MDLM with {heads} heads.")
    return heads


def _weights(source: _Source, config: ModelConfig) -> dict[str, Tensor]:
    condition = _condition(source)
    weights = {
        "beta": torch.tensor(config.beta),
        "slot": torch.tensor([math.log(config.vocabulary_size) + MASK_LEAD]),
        "log_unigram": torch.zeros(config.vocabulary_size),
        "embeddings": source[EMBEDDING],
        "transformer.norm.weight": source["output_layer.norm_final.weight"],
        "transformer.modulation": _modulation(source, "output_layer", condition),
        "head": source["output_layer.linear.weight"][:-1],
        "bias": source["output_layer.linear.bias"][:-1],
    }
    for n in range(config.depth):
        theirs, ours = f"blocks.{n}", f"transformer.blocks.{n}"
        weights |= {
            f"{ours}.attention_norm.weight": source[f"{theirs}.norm1.weight"],
            f"{ours}.qkv.weight": _paired(source[f"{theirs}.attn_qkv.weight"], config.heads),
            f"{ours}.attention_out.weight": source[f"{theirs}.attn_out.weight"],
            f"{ours}.mlp_norm.weight": source[f"{theirs}.norm2.weight"],
            f"{ours}.mlp_in.weight": source[f"{theirs}.mlp.0.weight"],
            f"{ours}.mlp_in.bias": source[f"{theirs}.mlp.0.bias"],
            f"{ours}.mlp_out.weight": source[f"{theirs}.mlp.2.weight"],
            f"{ours}.mlp_out.bias": source[f"{theirs}.mlp.2.bias"],
            f"{ours}.modulation": _modulation(source, theirs, condition),
        }
    return weights


def _condition(source: _Source) -> Tensor:
    """Return `silu(sigma_map(0))`, in float64."""
    inner, outer = (
        (source[f"{SIGMA}.{n}.weight"].double(), source[f"{SIGMA}.{n}.bias"].double())
        for n in (0, 2)
    )
    waves = torch.zeros(inner[0].shape[1], dtype=torch.float64)
    waves[: len(waves) // 2] = 1.0  # The cosines of 0; an odd last wave is padding.
    return F.silu(F.linear(F.silu(F.linear(waves, *inner)), *outer))


def _modulation(source: _Source, part: str, condition: Tensor) -> Tensor:
    weight, bias = (source[f"{part}.adaLN_modulation.{name}"] for name in ("weight", "bias"))
    return F.linear(condition, weight.double(), bias.double()).float()


def _paired(qkv: Tensor, heads: int) -> Tensor:
    """Return the rows of queries, keys and values with the pairs of a rotation side by side."""
    qk, v = qkv.unflatten(0, (3, -1)).split([2, 1])
    halves = qk.unflatten(1, (heads, 2, -1))
    return torch.cat([halves.transpose(2, 3).flatten(0, 3), v.flatten(0, 1)])
